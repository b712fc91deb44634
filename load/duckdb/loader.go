package duckdb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/duck"
	"github.com/sluice-etl/sluice/load"
)

// Loader commits packages to one table of a database file. It holds nothing
// between calls.
type Loader struct {
	o   Options
	mem memory.Allocator
}

var (
	_ load.Loader   = (*Loader)(nil)
	_ load.Lister   = (*Loader)(nil)
	_ load.Verifier = (*Loader)(nil)
	_ load.Eraser   = (*Loader)(nil)
)

// New returns a Loader. It touches nothing on disk. In a binary without DuckDB
// it fails with duck.ErrUnavailable.
func New(o Options) (*Loader, error) {
	if !duck.Available {
		return nil, fmt.Errorf("open duckdb destination: %w", duck.ErrUnavailable)
	}
	if o.Path == "" || o.Table == "" {
		return nil, errors.New("open duckdb destination: it needs a path and a table")
	}
	path, err := filepath.Abs(o.Path)
	if err != nil {
		return nil, fmt.Errorf("open duckdb destination: %w", err)
	}
	if err := duck.CheckPath(path); err != nil {
		return nil, &Error{Message: "open duckdb destination", Err: err, hint: "Give the database a path without such characters."}
	}
	o.Path = path
	if o.Timezone == nil {
		o.Timezone = time.UTC
	}
	if o.Threads <= 0 {
		o.Threads = 2
	}
	if o.Wait == 0 {
		o.Wait = time.Minute
	}
	if o.Clock == nil {
		o.Clock = clock.System{}
	}
	return &Loader{o: o, mem: memory.DefaultAllocator}, nil
}

// Path returns the database file's path, absolute.
func (l *Loader) Path() string { return l.o.Path }

// Close implements load.Loader. There is nothing to release.
func (l *Loader) Close() error { return nil }

// Check implements load.Loader. It opens the database for reading only.
func (l *Loader) Check(ctx context.Context, lineage string) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := l.mustBeWritable(); err != nil {
		return 0, err
	}
	var position int64
	err := l.reading(ctx, func(s *session) error {
		t, err := s.inspect(ctx, l.o.Table)
		if err != nil || !t.found {
			return err
		}
		position = t.position
		return t.ours(l.o.Path, lineage)
	})
	if err != nil {
		return 0, err
	}
	return position, nil
}

// mustBeWritable checks the database, or the nearest folder on the way to it,
// by asking the system: a trial file would change what is only being looked at.
func (l *Loader) mustBeWritable() error {
	for p, first := l.o.Path, true; ; p, first = filepath.Dir(p), false {
		info, err := os.Stat(p)
		switch {
		case err == nil && first && info.IsDir():
			return &Error{Message: "the database's path leads to a folder", Path: p, hint: otherPlace}
		case err == nil && first:
			if err := explain("write to database", p, accessWritable(p, false)); err != nil {
				return err
			}
		case err == nil && !info.IsDir():
			return &Error{Message: "a file stands where the database's folder is to be", Path: p, hint: otherPlace}
		case err == nil:
			return explain("write to folder", p, accessWritable(p, true))
		case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errNotDir), p == filepath.Dir(p):
			return explain("read", p, err)
		}
	}
}

// Commit implements load.Loader.
func (l *Loader) Commit(ctx context.Context, p load.Package) (load.Result, error) {
	if err := checkPackage(p); err != nil {
		return load.Result{}, err
	}
	// Look before anything is written, the file included: what is foreign, and
	// a table that has the package, stay as they are to the byte.
	var done *load.Result
	err := l.reading(ctx, func(s *session) error {
		var err error
		_, _, done, err = s.admit(ctx, l.o, p)
		return err
	})
	switch {
	case err != nil:
		return load.Result{}, err
	case done != nil:
		return *done, nil
	}
	if err := l.create(ctx); err != nil {
		return load.Result{}, err
	}
	s, err := l.open(ctx, false, len(p.Table.Columns))
	if err != nil {
		return load.Result{}, err
	}
	result, err := s.commit(ctx, l.o, p)
	if closeErr := s.close(); err == nil && closeErr != nil {
		// The package is durable; what failed is only giving the file free.
		err = explain("close database", l.o.Path, closeErr)
	}
	if err != nil {
		return load.Result{}, explain(fmt.Sprintf("commit package %d", p.Serial), l.o.Path, err)
	}
	return result, nil
}

// admit says what is to become of a package: refused with an error, committed
// before with that result, or to be merged into t, whose columns will be
// columns.
func (s *session) admit(ctx context.Context, o Options, p load.Package) (t stored, columns tableChange, done *load.Result, err error) {
	if t, err = s.inspect(ctx, o.Table); err != nil {
		return t, columns, nil, err
	}
	if t.found {
		if err := t.ours(o.Path, p.Lineage); err != nil {
			return t, columns, nil, err
		}
		if p.Serial <= t.position {
			done, err = s.recorded(ctx, t, p)
			return t, columns, done, err
		}
	}
	columns, err = change(t.columns, p.Table)
	return t, columns, nil, err
}

// commit merges p in one transaction.
func (s *session) commit(ctx context.Context, o Options, p load.Package) (result load.Result, err error) {
	s.sweep()
	// The database is this session's alone: what is true now stays true.
	t, columns, done, err := s.admit(ctx, o, p)
	if err != nil {
		return result, err
	}
	if done != nil { // by another process, since we looked
		return *done, nil
	}
	if err := s.widen(ctx, t, columns.added, addedBudget); err != nil {
		return result, err
	}
	if _, err := s.exec(ctx, "BEGIN TRANSACTION"); err != nil {
		return result, err
	}
	committed := false
	defer func() {
		if !committed {
			// Closing the session rolls back too; an error here says nothing new.
			_, _ = s.exec(context.WithoutCancel(ctx), "ROLLBACK")
		}
	}()
	if err := s.prepare(ctx, o, p, t, columns); err != nil {
		return result, err
	}
	m := &merge{session: s, table: t, columns: columns.table, pkg: p}
	if result, err = m.run(ctx); err != nil {
		return load.Result{}, err
	}
	if err := m.verify(ctx); err != nil {
		return load.Result{}, err
	}
	if err := s.record(ctx, o, p, t, columns.table, result); err != nil {
		return load.Result{}, err
	}
	if err := s.count(ctx, t, tally{p.Serial, m.winners - m.gone, result.Versions}); err != nil {
		return load.Result{}, err
	}
	if _, err := s.exec(ctx, "COMMIT"); err != nil {
		return load.Result{}, err
	}
	committed = true
	return result, nil
}

func checkPackage(p load.Package) error {
	if p.Serial <= 0 || p.Lineage == "" || p.RunID == "" {
		return fmt.Errorf("check package: it needs a serial above 0, a lineage and a run id (serial %d, lineage %q, run %q)", p.Serial, p.Lineage, p.RunID)
	}
	switch p.Verify {
	case load.VerifyFull, load.VerifySample, load.VerifyOff, "":
	default:
		return fmt.Errorf("check package: unknown verification level %q", p.Verify)
	}
	return checkTable(p.Table)
}
