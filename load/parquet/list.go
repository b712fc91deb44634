package parquet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/sluice-etl/sluice/internal/parquetfile"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

// List implements load.Lister. It holds the table's lock until it returns, so
// that no file is replaced meanwhile, and begins as Commit does: a commit that
// was recorded and not wholly put in place is completed. What it lists is the
// table after one package, never between two. Months outside of the listing's
// bounds are not read; of the others it holds one batch at a time.
func (l *Loader) List(ctx context.Context, q load.Listing, each func(arrow.Record) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	// As for Commit, what is not ours stays as it is, and so does an empty folder.
	t, found, err := inspect(l.dir)
	if err != nil || !found {
		return err
	}
	if _, err := t.ours(l.dir, q.Lineage); err != nil {
		return err
	}
	release, err := acquire(ctx, l.dir, "", l.o.LockWait, l.o.Clock)
	if err != nil {
		return err
	}
	return errors.Join(l.listLocked(ctx, q, each), release())
}

func (l *Loader) listLocked(ctx context.Context, q load.Listing, each func(arrow.Record) error) error {
	t, found, err := inspect(l.dir) // it may have changed before the lock was ours
	if err != nil || !found {
		return err
	}
	m, err := l.complete(t, q.Lineage)
	if err != nil {
		return err
	}
	return l.listTable(ctx, m, q, each)
}

// listTable gives the rows of the table that m describes to each.
func (l *Loader) listTable(ctx context.Context, m *Manifest, q load.Listing, each func(arrow.Record) error) error {
	if len(m.Schema.Columns) == 0 {
		return nil // no package has come yet
	}
	table, err := project(m.Schema, q.Columns)
	if err != nil {
		return &Error{Message: "cannot list the table", Path: l.root, Err: err, hint: "Ask for columns that the table has, each once."}
	}
	schema := table.Arrow()
	files, err := filesFor(m, q)
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := l.listFile(ctx, f, table, schema, each); err != nil {
			return err
		}
	}
	return nil
}

// filesFor returns the files of current that may hold rows within the listing's
// bounds.
func filesFor(m *Manifest, q load.Listing) ([]File, error) {
	var files []File
	for _, f := range m.Current {
		mo, err := monthOfPath(f.Path)
		if err != nil {
			return nil, err
		}
		if mo.meets(q.From, q.Until) {
			files = append(files, f)
		}
	}
	return files, nil
}

// project returns the columns of t that names says, in that order; all for
// none.
func project(t schemas.Table, names []string) (schemas.Table, error) {
	if len(names) == 0 {
		return t, nil
	}
	var out schemas.Table
	for i, name := range names {
		k := t.Index(name)
		if k < 0 {
			return out, fmt.Errorf("it has no column %q", name)
		}
		if slices.Contains(names[:i], name) {
			return out, fmt.Errorf("column %q is asked for twice", name)
		}
		out.Columns = append(out.Columns, t.Columns[k])
	}
	return out, nil
}

// meets reports whether a time of m may lie in [from, until); a zero bound is
// none.
func (m month) meets(from, until time.Time) bool {
	first, next := m.bounds()
	return (until.IsZero() || time.UnixMicro(first).Before(until)) && (from.IsZero() || time.UnixMicro(next).After(from))
}

// listFile gives the rows of one file of current to each.
func (l *Loader) listFile(ctx context.Context, f File, table schemas.Table, schema *arrow.Schema, each func(arrow.Record) error) (err error) {
	c := &cursor{path: at(l.dir, f.Path), want: f.Rows}
	for _, col := range table.Columns {
		c.columns = append(c.columns, col.Name)
	}
	defer func() { err = errors.Join(err, c.close()) }()
	stored, err := c.schema()
	if err != nil {
		return err
	}
	for i, col := range table.Columns {
		if got := stored.Field(i).Type; got.ID() != col.Type.Arrow().ID() {
			return unreadable(fmt.Errorf("%w: %s has column %s as %s, recorded was %s", parquetfile.ErrDamaged, c.path, col.Name, got, col.Type))
		}
	}
	return c.take(ctx, f.Rows, func(rec arrow.Record) error {
		out := array.NewRecord(schema, rec.Columns(), rec.NumRows())
		defer out.Release()
		return each(out)
	})
}
