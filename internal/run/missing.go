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
	"github.com/sluice-etl/sluice/transform"
)

// stored is a row of the table as far as looking for what is missing goes.
type stored struct {
	id        string // valid during the call that has it
	created   time.Time
	extracted time.Time
	deleted   bool
	// wrote is its last_message_at; zero where it has none, or the contract no
	// such column.
	wrote time.Time
}

// colLastMessage is the contract's column of the last message's time.
const colLastMessage = "last_message_at"

// knowsMessages reports whether the table has colLastMessage.
func (r *syncRun) knowsMessages() bool {
	return slices.ContainsFunc(r.job.Contract.Columns, func(c schemas.ContractColumn) bool { return c.Name == colLastMessage })
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
	columns := []string{schemas.ColID, schemas.ColCreatedAt, schemas.ColExtractedAt, schemas.ColDeletedAt}
	if r.knowsMessages() {
		columns = append(columns, colLastMessage)
	}
	return l.List(ctx, load.Listing{Lineage: r.st.Lineage, Columns: columns}, func(rec arrow.Record) error {
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

// readStored gives access to the rows of a record of the table.
func readStored(rec arrow.Record) (func(row int) stored, error) {
	ids, err1 := named[*array.String](rec, schemas.ColID)
	created, err2 := named[*array.Timestamp](rec, schemas.ColCreatedAt)
	extracted, err3 := named[*array.Timestamp](rec, schemas.ColExtractedAt)
	deleted, err4 := named[*array.Timestamp](rec, schemas.ColDeletedAt)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, fmt.Errorf("list table: %w", err)
	}
	wrote, err := named[*array.Timestamp](rec, colLastMessage)
	known := err == nil
	at := func(col *array.Timestamp, i int) time.Time { return time.UnixMicro(int64(col.Value(i))).UTC() }
	return func(i int) stored {
		s := stored{id: ids.Value(i), created: at(created, i), extracted: at(extracted, i), deleted: deleted.IsValid(i)}
		if known && wrote.IsValid(i) {
			s.wrote = at(wrote, i)
		}
		return s
	}, nil
}

// named returns the column called name as the type that it has to have.
func named[T arrow.Array](rec arrow.Record, name string) (col T, err error) {
	i := rec.Schema().FieldIndices(name)
	if len(i) != 1 {
		return col, fmt.Errorf("column %s is missing", name)
	}
	return column[T](rec, i[0])
}

// markMissing marks the contacts of the table that a run which reads all of
// them did not meet: they have left what the run asks for, or are deleted. A
// row read since the run began, by a backfill beside it, stays, and so does one
// that may not have been visible yet. Where the reading rests on repetition,
// those alone are marked that the table itself says are out of the window.
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
	visible := began.Add(-r.job.Lookback) // what was created before it was to be seen
	edge := r.began.AddDate(0, 0, -r.job.Days)
	unproven := r.session.phases[phaseRecent].Outcome.statistical()
	missing := func(s stored) (time.Time, bool) {
		is := !s.deleted && s.extracted.Before(began) && s.created.Before(visible) &&
			!read.has(md5.Sum([]byte(s.id))) //nolint:gosec // a checksum
		return began, is && (!unproven || s.wrote.Before(edge))
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
	window := r.job.Sync == SyncRecent
	if r.job.Full || r.st.Cursor == nil || r.st.Filters != r.job.selection() || window && !r.knowsMessages() {
		return nil
	}
	edge := r.began.AddDate(0, 0, -r.job.Days)
	found := &LeftShareError{Pipeline: r.job.Pipeline}
	err := r.list(ctx, lister, func(s stored) {
		if s.deleted {
			return
		}
		found.Live++
		if _, is := missing(s); is && (!window || s.wrote.After(edge)) {
			found.Left++
		}
	})
	if err != nil {
		return fmt.Errorf("look at the table's contacts: %w", err)
	}
	if found.Left > leftLeast && float64(found.Left) > leftShare*float64(found.Live) {
		return found
	}
	return nil
}

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
	b := &burial{st: st, gone: gone, at: r.Clock.Now(), table: st.registry.StagedTable(), policies: columnPolicies(st.registry)}
	b.schema = b.table.Arrow()
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
	at          time.Time     // when they were found to be missing
	table       schemas.Table // of a staged part
	schema      *arrow.Schema // of table
	from, until time.Time     // of created_at
	rows        int64
	policies    map[string]schemas.Policy // of columns whose values are not kept
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
		tombstone, err := b.tombstone(rec.NewSlice(int64(i), int64(i+1)), since)
		if err != nil {
			return err
		}
		err = w.Write(tombstone)
		tombstone.Release()
		if err != nil {
			return err
		}
		b.rows++
	}
	return nil
}

// tombstone gives a record of one row the columns of a staged part, and
// releases it. Where plain text has to go, the hash is that of what stays: the
// old one would tell whoever guesses the value that the guess is right.
func (b *burial) tombstone(row arrow.Record, since time.Time) (arrow.Record, error) {
	defer row.Release()
	stripped := false
	cols := make([]arrow.Array, b.schema.NumFields())
	for i, f := range b.schema.Fields() {
		found := row.Schema().FieldIndices(f.Name)
		switch {
		case b.table.Columns[i].Constant != "": // the row may have been written without it
			cols[i] = text(b.table.Columns[i].Constant)
		case f.Name == schemas.ColExtractedAt:
			cols[i] = moment(since)
		case f.Name == schemas.ColDeletedAt:
			cols[i] = moment(b.at)
		case f.Name == schemas.ColRow:
			cols[i] = number(b.st.numberRows(1))
		case len(found) == 1 && mayStay(b.policies[f.Name], row.Column(found[0])):
			cols[i] = row.Column(found[0])
			cols[i].Retain()
		default: // the table does not have it yet, or as plain text that is to go
			stripped = stripped || len(found) == 1 && row.Column(found[0]).IsValid(0)
			cols[i] = array.MakeArrayOfNull(memory.DefaultAllocator, f.Type, 1)
		}
	}
	rec := array.NewRecord(b.schema, cols, 1)
	for _, c := range cols {
		c.Release()
	}
	if !stripped {
		return rec, nil
	}
	defer rec.Release()
	hash, err := transform.RowHash(rec, 0)
	if err != nil {
		return nil, err
	}
	replaced := number(hash)
	defer replaced.Release()
	return rec.SetColumn(rec.Schema().FieldIndices(schemas.ColHash)[0], replaced)
}

func moment(t time.Time) arrow.Array {
	b := array.NewTimestampBuilder(memory.DefaultAllocator, &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"})
	defer b.Release()
	b.Append(arrow.Timestamp(t.UnixMicro()))
	return b.NewArray()
}

func text(v string) arrow.Array {
	b := array.NewStringBuilder(memory.DefaultAllocator)
	defer b.Release()
	b.Append(v)
	return b.NewArray()
}

func number(n int64) arrow.Array {
	b := array.NewInt64Builder(memory.DefaultAllocator)
	defer b.Release()
	b.Append(n)
	return b.NewArray()
}
