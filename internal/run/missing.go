package run

import (
	"context"
	"crypto/md5" //nolint:gosec // the digest's sums, see ids.go
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/sluice-etl/sluice/internal/parquetfile"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

// stored is a row of the table as far as looking for what is missing goes.
type stored struct {
	id        string // valid during the call that has it
	created   time.Time
	extracted time.Time
	deleted   bool
}

// storedColumns are those that stored is made of.
func storedColumns() []string {
	return []string{schemas.ColID, schemas.ColCreatedAt, schemas.ColExtractedAt, schemas.ColDeletedAt}
}

// table returns a destination that has every package sealed so far and can be
// listed. The commit lock is held from then on.
func (r *syncRun) table(ctx context.Context) (load.Lister, error) {
	if err := r.lockCommits(ctx); err != nil {
		return nil, err
	}
	if err := r.drainReady(ctx); err != nil {
		return nil, err
	}
	for _, d := range r.job.Destinations {
		if l, ok := d.Loader.(load.Lister); ok && slices.Contains(r.ready, d.Name) && len(r.queue(d.Name)) == 0 {
			return l, nil
		}
	}
	return nil, errors.Join(&NoListingError{Pipeline: r.job.Pipeline}, (&DestinationsError{Failed: r.failed}).orNil())
}

// list calls each for every row of the table.
func (r *syncRun) list(ctx context.Context, l load.Lister, each func(stored)) error {
	return l.List(ctx, load.Listing{Lineage: r.st.Lineage, Columns: storedColumns()}, func(rec arrow.Record) error {
		rows, err := readStored(rec)
		if err != nil {
			return err
		}
		for i := range int(rec.NumRows()) {
			each(rows(i))
		}
		return nil
	})
}

// readStored gives access to the rows of a record that has storedColumns.
func readStored(rec arrow.Record) (func(row int) stored, error) {
	at := func(name string) int {
		i := rec.Schema().FieldIndices(name)
		if len(i) != 1 {
			return -1
		}
		return i[0]
	}
	var where [4]int
	for i, name := range storedColumns() {
		if where[i] = at(name); where[i] < 0 {
			return nil, fmt.Errorf("list table: column %s is missing", name)
		}
	}
	ids, err1 := column[*array.String](rec, where[0])
	created, err2 := column[*array.Timestamp](rec, where[1])
	extracted, err3 := column[*array.Timestamp](rec, where[2])
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, fmt.Errorf("list table: %w", err)
	}
	deleted := rec.Column(where[3])
	return func(i int) stored {
		return stored{
			id: ids.Value(i), created: time.UnixMicro(int64(created.Value(i))).UTC(),
			extracted: time.UnixMicro(int64(extracted.Value(i))).UTC(), deleted: deleted.IsValid(i),
		}
	}, nil
}

// markMissing marks the contacts of the table that a run which reads all of
// them did not meet: they have left what the run asks for, or are deleted. A
// row read since the run began, by a backfill beside it, stays.
func (r *syncRun) markMissing(ctx context.Context, st *staging) error {
	st.begins(phaseMissing)
	r.session.parts = st.parts
	read, err := r.session.readIDs(ctx)
	if err != nil {
		return err
	}
	lister, err := r.table(ctx)
	if err != nil {
		return fmt.Errorf("look for contacts that were not read: %w", err)
	}
	began := r.session.start.StartedAt
	missing := func(s stored) (time.Time, bool) {
		return began, !s.deleted && s.extracted.Before(began) && !read.has(md5.Sum([]byte(s.id))) //nolint:gosec // a checksum
	}
	if err := r.checkLeft(ctx, lister, missing); err != nil {
		return err
	}
	marked, err := r.bury(ctx, st, lister, missing)
	if err != nil {
		return fmt.Errorf("mark contacts that were not read: %w", err)
	}
	return r.session.endPhase(phaseRecord{Phase: phaseMissing, Outcome: markedOutcome(marked), Counts: st.totals()})
}

// The bounds of what may leave a table in one run without being asked for: more
// is likelier a fault of the source.
const (
	leftShare = 0.5
	leftLeast = 20
)

// checkLeft refuses to mark more than half of the table's live contacts, unless
// the run was asked to read everything, or reads something else than the one
// before. Of a window of days those count alone that should still be in it.
func (r *syncRun) checkLeft(ctx context.Context, lister load.Lister, missing func(stored) (time.Time, bool)) error {
	if r.job.Full || r.st.Cursor == nil || r.st.Filters != r.job.selection() {
		return nil
	}
	edge := r.began.AddDate(0, 0, -r.job.Days) // of a snapshot: everything missing counts
	found := &LeftShareError{Pipeline: r.job.Pipeline}
	columns := storedColumns()
	if r.job.Sync == SyncRecent {
		if !slices.ContainsFunc(r.job.Contract.Columns, func(c schemas.ContractColumn) bool { return c.Name == colLastMessage }) {
			return nil
		}
		columns = append(columns, colLastMessage)
	}
	err := lister.List(ctx, load.Listing{Lineage: r.st.Lineage, Columns: columns}, func(rec arrow.Record) error {
		rows, err := readStored(rec)
		if err != nil {
			return err
		}
		var last *array.Timestamp
		if len(columns) > len(storedColumns()) {
			if last, err = column[*array.Timestamp](rec, len(columns)-1); err != nil {
				return err
			}
		}
		for i := range int(rec.NumRows()) {
			s := rows(i)
			if s.deleted {
				continue
			}
			found.Live++
			_, is := missing(s)
			if is && (last == nil || last.IsValid(i) && time.UnixMicro(int64(last.Value(i))).After(edge)) {
				found.Left++
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("look at the table's contacts: %w", err)
	}
	if found.Left > leftLeast && float64(found.Left) > leftShare*float64(found.Live) {
		return found
	}
	return nil
}

// colLastMessage is the contract's column of the last message's time.
const colLastMessage = "last_message_at"

// bury stages tombstones of the table's rows that gone names, with the moment
// from which on they were not to be seen: what was read later wins over them.
// It returns how many there are.
func (r *syncRun) bury(ctx context.Context, st *staging, lister load.Lister, gone func(stored) (time.Time, bool)) (int64, error) {
	months := map[time.Time]bool{}
	var marked int64
	err := r.list(ctx, lister, func(s stored) {
		if _, is := gone(s); is {
			months[time.Date(s.created.Year(), s.created.Month(), 1, 0, 0, 0, 0, time.UTC)] = true
			marked++
		}
	})
	if err != nil || marked == 0 {
		return 0, err
	}
	// A part's rows stand in order of month.
	var order []time.Time
	for m := range months {
		order = append(order, m)
	}
	slices.SortFunc(order, time.Time.Compare)
	b := &burial{st: st, gone: gone, at: r.Clock.Now(), schema: st.registry.StagedTable().Arrow()}
	err = st.addWritten(ctx, b.schema, func(w *parquetfile.Writer) error {
		for _, month := range order {
			b.from, b.until = month, month.AddDate(0, 1, 0)
			err := lister.List(ctx, load.Listing{Lineage: r.st.Lineage, From: b.from, Until: b.until}, func(rec arrow.Record) error { return b.take(w, rec) })
			if err != nil {
				return err
			}
		}
		return nil
	})
	return b.rows, err
}

// burial turns rows of the table into tombstones.
type burial struct {
	st          *staging
	gone        func(stored) (time.Time, bool)
	at          time.Time // when they were found to be missing
	schema      *arrow.Schema
	from, until time.Time // of created_at
	rows        int64
}

// take writes tombstones of the rows of rec that are gone.
func (b *burial) take(w *parquetfile.Writer, rec arrow.Record) error {
	rows, err := readStored(rec)
	if err != nil {
		return err
	}
	for i := range int(rec.NumRows()) {
		s := rows(i)
		if s.created.Before(b.from) || !s.created.Before(b.until) {
			continue
		}
		since, is := b.gone(s)
		if !is {
			continue
		}
		tombstone := b.tombstone(rec.NewSlice(int64(i), int64(i+1)), since)
		err := w.Write(tombstone)
		tombstone.Release()
		if err != nil {
			return err
		}
		b.rows++
	}
	return nil
}

// tombstone gives a record of one row the columns of a staged part, and
// releases it.
func (b *burial) tombstone(row arrow.Record, since time.Time) arrow.Record {
	defer row.Release()
	cols := make([]arrow.Array, b.schema.NumFields())
	for i, f := range b.schema.Fields() {
		found := row.Schema().FieldIndices(f.Name)
		switch {
		case f.Name == schemas.ColExtractedAt:
			cols[i] = moment(since)
		case f.Name == schemas.ColDeletedAt:
			cols[i] = moment(b.at)
		case f.Name == schemas.ColRow:
			cols[i] = number(b.st.numberRows(1))
		case len(found) == 1:
			cols[i] = row.Column(found[0])
			cols[i].Retain()
		default: // a column that the table does not have yet
			cols[i] = array.MakeArrayOfNull(memory.DefaultAllocator, f.Type, 1)
		}
	}
	rec := array.NewRecord(b.schema, cols, 1)
	for _, c := range cols {
		c.Release()
	}
	return rec
}

func moment(t time.Time) arrow.Array {
	b := array.NewTimestampBuilder(memory.DefaultAllocator, &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"})
	defer b.Release()
	b.Append(arrow.Timestamp(t.UnixMicro()))
	return b.NewArray()
}

func number(n int64) arrow.Array {
	b := array.NewInt64Builder(memory.DefaultAllocator)
	defer b.Release()
	b.Append(n)
	return b.NewArray()
}
