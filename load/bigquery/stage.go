package bigquery

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/sluice-etl/sluice/internal/parquetfile"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

const (
	// stagedTrust is for how long an earlier attempt's rows are gone on with:
	// shorter than they are kept.
	stagedTrust = 5 * day
	// mostAttempts bounds the attempts at staging that one commit starts.
	mostAttempts = 5
)

// staged says which rows of the staging table are the package's: those of the
// package with this attempt and this time.
type staged struct {
	Attempt  int64
	StagedAt time.Time
	Rows     int64
	// Months are the first instants of the months of created_at (UTC), ascending.
	Months                     []time.Time
	ExtractedFrom, ExtractedTo time.Time
}

// memo is the note on a package whose rows are being staged.
type memo struct {
	Method   Method    `json:"method"`
	Attempt  int64     `json:"attempt"`
	StagedAt time.Time `json:"staged_at"`
	Streams  []string  `json:"streams,omitempty"` // of method stream, finalized
	Rows     int64     `json:"rows"`
}

// stage brings every row of the package into the staging table, once under the
// attempt and time that it returns. It goes on with what an earlier commit of
// the package has noted, unless it is to begin anew.
func (r *remote) stage(ctx context.Context, p load.Package, table schemas.Table, anew bool) (staged, error) {
	s, err := survey(ctx, p, table)
	if err != nil {
		return s, err
	}
	method := r.o.Method
	if method == CDC { // which compares in the same way, and differs in what it does then
		method = Stream
	}
	var m memo
	if len(p.Memo) > 0 {
		if err := json.Unmarshal(p.Memo, &m); err != nil {
			return s, fmt.Errorf("read note on package %d: %w", p.Serial, err)
		}
	}
	now := r.o.Clock.Now().Truncate(time.Microsecond)
	usable := !anew && m.Method == method && m.Rows == s.Rows && m.Attempt > 0 && now.Sub(m.StagedAt) < stagedTrust
	if method == Load {
		m, err = r.stageByLoad(ctx, p, table, m, usable)
	} else {
		m, err = r.stageByStream(ctx, p, table, s.Rows, m, usable)
	}
	if err != nil {
		return s, explain("stage rows", r.o.place(r.o.staging()), err)
	}
	s.Attempt, s.StagedAt = m.Attempt, m.StagedAt
	return s, nil
}

// begin returns the note on the next attempt after m.
func (r *remote) begin(ctx context.Context, p load.Package, method Method, rows int64, m memo) (memo, error) {
	next := memo{Method: method, Attempt: m.Attempt + 1, StagedAt: r.o.Clock.Now().Truncate(time.Microsecond), Rows: rows}
	if p.Remember == nil { // nobody knows of earlier attempts but the table
		q, _, err := r.query(ctx, "SELECT COALESCE(MAX(`"+colAttempt+"`), 0) FROM "+r.o.quoted(r.o.staging())+" WHERE `"+schemas.ColPackage+"` = @package",
			intParam("package", p.Serial))
		if err != nil {
			return memo{}, err
		}
		row, err := q.one(ctx)
		if err != nil {
			return memo{}, err
		}
		last, _ := row[0].(int64)
		next.Attempt = max(next.Attempt, last+1)
	}
	return next, nil
}

// remember notes m with the package.
func remember(ctx context.Context, p load.Package, m memo) error {
	if p.Remember == nil {
		return nil
	}
	note, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("note attempt: %w", err)
	}
	if err := p.Remember(ctx, note); err != nil {
		return fmt.Errorf("note attempt: %w", err)
	}
	return nil
}

// arrived counts the rows of an attempt in the staging table.
func (r *remote) arrived(ctx context.Context, p load.Package, m memo) (int64, error) {
	q, _, err := r.query(ctx, "SELECT COUNT(*) FROM "+r.o.quoted(r.o.staging())+" WHERE `"+colStagedAt+"` = @at AND `"+schemas.ColPackage+"` = @package AND `"+colAttempt+"` = @attempt",
		timeParam("at", m.StagedAt), intParam("package", p.Serial), intParam("attempt", m.Attempt))
	if err != nil {
		return 0, err
	}
	row, err := q.one(ctx)
	if err != nil {
		return 0, err
	}
	n, _ := row[0].(int64)
	return n, nil
}

// survey reads the columns that say where the package's rows belong.
func survey(ctx context.Context, p load.Package, table schemas.Table) (staged, error) {
	var s staged
	months := map[time.Time]bool{}
	for _, part := range p.Parts {
		err := eachRecord(ctx, part, table, []string{schemas.ColCreatedAt, schemas.ColExtractedAt}, func(rec arrow.Record) error {
			for i, c := range rec.Columns() {
				a, ok := c.(*array.Timestamp)
				if !ok || a.NullN() > 0 {
					return damaged(fmt.Errorf("%s: column %s is null, or no timestamp", part.Path, rec.ColumnName(i)))
				}
				for _, v := range a.TimestampValues() {
					s.note(i == 0, time.UnixMicro(int64(v)).UTC(), months)
				}
			}
			s.Rows += rec.NumRows()
			return nil
		})
		if err != nil {
			return s, err
		}
	}
	s.Months = slices.SortedFunc(maps.Keys(months), time.Time.Compare)
	return s, nil
}

func (s *staged) note(created bool, at time.Time, months map[time.Time]bool) {
	if created {
		months[time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC)] = true
		return
	}
	if s.ExtractedFrom.IsZero() || at.Before(s.ExtractedFrom) {
		s.ExtractedFrom = at
	}
	if at.After(s.ExtractedTo) {
		s.ExtractedTo = at
	}
}

// openPart opens a part that has the rows it should have, and no column that
// the table does not have in the same type.
func openPart(part load.Part, table schemas.Table) (*parquetfile.Reader, error) {
	r, err := parquetfile.Open(part.Path)
	if err != nil {
		return nil, damaged(err)
	}
	if err := checkPart(r, part, table); err != nil {
		return nil, errors.Join(damaged(fmt.Errorf("%s: %w", part.Path, err)), r.Close())
	}
	return r, nil
}

func checkPart(r *parquetfile.Reader, part load.Part, table schemas.Table) error {
	if r.Rows() != part.Rows {
		return fmt.Errorf("it holds %d rows, recorded were %d", r.Rows(), part.Rows)
	}
	for _, f := range r.Schema().Fields() {
		i := table.Index(f.Name)
		switch {
		case i < 0 || constant(f.Name):
			return fmt.Errorf("column %s is not in the package's table", f.Name)
		case !arrow.TypeEqual(f.Type, table.Columns[i].Type.Arrow()):
			return fmt.Errorf("column %s is %s, want %s", f.Name, f.Type, table.Columns[i].Type.Arrow())
		}
	}
	for name := range needed() {
		if !constant(name) && len(r.Schema().FieldIndices(name)) == 0 {
			return fmt.Errorf("required column %s is missing", name)
		}
	}
	return nil
}

// eachRecord gives the rows of a part in order; nil columns are all. A record
// is valid during the call.
func eachRecord(ctx context.Context, part load.Part, table schemas.Table, columns []string, f func(arrow.Record) error) (err error) {
	r, err := openPart(part, table)
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, r.Close()) }()
	recs, err := r.Read(parquetfile.ReadOptions{Columns: columns})
	if err != nil {
		return damaged(err)
	}
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		rec, err := recs.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return damaged(err)
		}
		err = f(rec)
		rec.Release()
		if err != nil {
			return err
		}
	}
}

// parallel calls f with 0 to n-1, at most width at a time, until one fails.
func parallel(ctx context.Context, n, width int, f func(ctx context.Context, i int) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	var once sync.Once
	var first error
	for range min(n, width) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := f(ctx, i); err != nil {
					once.Do(func() { first = err })
					stop(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return first
}
