package parquet

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/internal/gcs"
	"github.com/sluice-etl/sluice/load"
)

// mostOfUnion is the size in bytes from which on an object is no view over
// accounts, and is not read to find out.
const mostOfUnion = 32 << 20

// secretRemark says in files of SQL how DuckDB gets at a bucket.
const secretRemark = "-- DuckDB reads gs:// by its extension httpfs, with a key of the bucket's:\n" +
	"--   CREATE SECRET (TYPE gcs, KEY_ID '...', SECRET '...');\n"

// parent is the prefix that the tables of the destination share, with a slash at
// the end; empty for the bucket itself.
func (l *GSLoader) parent() string { return strings.TrimSuffix(l.prefix, l.o.Table+"/") }

// unions looks at the objects with views over accounts. Of the tables it reads
// this one alone: each account sees to its own part, so that what a commit asks
// for does not grow with the number of accounts.
func (l *GSLoader) unions(ctx context.Context) (u unions, err error) {
	u.files = map[string]unionFile{}
	parent := l.parent()
	var found []gcs.Object
	err = l.o.Client.EachIn(ctx, l.bucket, parent, func(o gcs.Object) error {
		if path.Ext(o.Name) == unionSuffix {
			found = append(found, o)
		}
		return nil
	})
	if err != nil {
		return u, err
	}
	for _, o := range found {
		f := unionFile{generation: gcs.If(o.Generation)}
		if o.Size < mostOfUnion {
			data, now, err := l.o.Client.Get(ctx, l.bucket, o.Name)
			if errors.Is(err, gcs.ErrNotExist) {
				continue
			}
			if err != nil {
				return u, err
			}
			f = unionFile{text: string(data), tables: unionTables(string(data)), generation: gcs.If(now.Generation)}
		}
		u.files[strings.TrimSuffix(strings.TrimPrefix(o.Name, parent), unionSuffix)] = f
	}
	f, ok := u.files[l.o.Union.Name]
	if !ok || f.tables == nil {
		return u, nil
	}
	own, _, err := l.get(ctx, viewsName)
	if err != nil {
		return u, err
	}
	f.stale = l.staleUnion(f, string(own))
	u.files[l.o.Union.Name] = f
	return u, nil
}

// staleUnion reports whether the view does not read this table as its views.sql,
// sql, has it, or reads one that is none of the siblings.
func (l *GSLoader) staleUnion(f unionFile, sql string) bool {
	list := mainViews(sql, l.o.Table)
	if (len(list) > 0) != slices.Contains(f.tables, l.o.Table) {
		return true
	}
	for _, s := range list {
		if !strings.Contains(f.text, "\n"+s.Text) {
			return true
		}
	}
	return slices.ContainsFunc(f.tables, func(table string) bool { return !slices.Contains(l.o.Union.Tables, table) })
}

// siblings are the tables that exist. Of each views.sql is read before the
// manifest: the columns are never older than the views, and where they are newer
// the account that made them so finds its new views missing, and corrects it.
func (l *GSLoader) siblings(ctx context.Context) ([]sibling, error) {
	tables := l.o.Union.Sorted()
	found := make([]sibling, len(tables))
	at := make([]int, len(tables))
	for i := range at {
		at[i] = i
	}
	err := atOnce(ctx, l.o.Transfers, at, func(ctx context.Context, i int) error {
		other := *l
		other.prefix = l.parent() + tables[i] + "/"
		sql, _, err := other.get(ctx, viewsName)
		if err != nil || sql == nil {
			return err
		}
		t, err := other.glance(ctx)
		var broken *Error
		switch {
		case errors.As(err, &broken): // its own account says so
			return nil
		case err != nil:
			return err
		case t.head != nil && t.head.Going:
			return nil
		case t.head != nil:
			found[i] = sibling{tables[i], &t.head.Manifest, string(sql)}
		case t.latest != nil:
			found[i] = sibling{tables[i], t.latest, string(sql)}
		}
		return nil
	})
	return slices.DeleteFunc(found, func(s sibling) bool { return s.manifest == nil }), err
}

// writeUnion is the function of that name, for a bucket: each write is on
// condition of what was there before the tables were read, so that of several
// writers the last one has seen what the others have.
func (l *GSLoader) writeUnion(ctx context.Context, whole bool) error {
	for range mostRestarts {
		u, err := l.unions(ctx)
		if err == nil {
			err = l.dropUnions(ctx, u)
		}
		if err == nil {
			err = l.putUnion(ctx, u, whole)
		}
		if !errors.Is(err, gcs.ErrChanged) {
			return err
		}
	}
	return &Error{
		Message: "another program keeps changing the view over accounts", Path: l.local.unionPlace(l.o.Union.Name), Err: gcs.ErrChanged,
		hint: "Let fewer runs write to this destination at once, and run again.",
	}
}

// dropUnions removes what reads this table, and is not wanted.
func (l *GSLoader) dropUnions(ctx context.Context, u unions) error {
	for name, f := range u.files {
		if name == l.o.Union.Name || !slices.Contains(f.tables, l.o.Table) {
			continue
		}
		if err := l.o.Client.Delete(ctx, l.bucket, l.parent()+name+unionSuffix, f.generation); err != nil {
			return err
		}
	}
	return nil
}

// putUnion writes the view, or removes it where no table is left. One that has
// this table as it is stays, unless it is to be compared as a whole.
func (l *GSLoader) putUnion(ctx context.Context, u unions, whole bool) error {
	f, stands := u.files[l.o.Union.Name]
	if l.o.Union.Name == "" || stands && (f.tables == nil || !whole && !f.stale) {
		return nil
	}
	siblings, err := l.siblings(ctx)
	if err != nil {
		return err
	}
	object := l.parent() + l.o.Union.Name + unionSuffix
	text, _ := unionText(l.o.Union.Name, secretRemark, siblings)
	switch text {
	case f.text:
		return nil
	case "":
		return l.o.Client.Delete(ctx, l.bucket, object, f.generation)
	}
	_, err = l.o.Client.Put(ctx, l.bucket, object, []byte(text), f.generation, nil)
	return err
}

// convergeUnion makes the view over accounts as far as c looks after it, and
// always where it has this table as it was before.
func (l *GSLoader) convergeUnion(ctx context.Context, c load.Convergence) error {
	u, err := l.unions(ctx)
	if err != nil {
		return err
	}
	differs, err := l.local.unionDiffers(u, c)
	if err != nil || !differs && !u.files[l.o.Union.Name].stale {
		return err
	}
	return l.writeUnion(ctx, true)
}
