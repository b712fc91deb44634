package duckdb

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/views"
)

// unions is what the database has of views over accounts.
type unions struct {
	marks map[string]unionMark // those that sluice made, by name
	taken bool                 // something else has the name of the one that is wanted
	there []string             // the siblings' tables that exist, sorted
}

// unionMark is what the comment of a view over accounts says.
type unionMark struct {
	tables []string
	digest string
}

// own reports whether the view was made over a table.
func (m unionMark) own(table string) bool { return slices.Contains(m.tables, table) }

// unions looks for views over accounts, and for the tables that one would read.
func (s *session) unions(ctx context.Context, o Options) (u unions, err error) {
	u.marks = map[string]unionMark{}
	var name, comment string
	err = s.each(ctx, []any{&name, &comment}, func() error {
		tables, digest, ok := views.ReadUnion(comment)
		if ok {
			u.marks[name] = unionMark{tables, digest}
		}
		return nil
	}, "SELECT view_name, coalesce(comment, '') FROM duckdb_views() WHERE database_name = current_database() AND schema_name = 'main' AND NOT internal")
	if err != nil || o.Union.Name == "" {
		return u, err
	}
	standing, err := s.names(ctx)
	if err != nil {
		return u, err
	}
	_, ours := u.marks[o.Union.Name]
	u.taken = standing[strings.ToLower(o.Union.Name)] != "" && !ours
	noted, err := s.hasNotes(ctx, "tables")
	if err != nil || !noted {
		return u, err
	}
	err = s.each(ctx, []any{&name}, func() error {
		if slices.Contains(o.Union.Tables, name) && standing[strings.ToLower(name)] == "view" {
			u.there = append(u.there, name)
		}
		return nil
	}, "SELECT name FROM _sluice.tables ORDER BY name")
	return u, err
}

// unionView is the view over the accounts that exist.
func (s *session) unionView(ctx context.Context, o Options, there []string) (views.Union, error) {
	v := views.Union{Schema: "main", Name: o.Union.Name}
	at := map[string]int{}
	for i, table := range there {
		at[table] = i
		v.Parts = append(v.Parts, views.UnionPart{Table: table, From: "main." + views.QuoteName(table)})
	}
	var table, name, kind string
	err := s.each(ctx, []any{&table, &name, &kind}, func() error {
		if i, ok := at[table]; ok {
			v.Parts[i].Columns = append(v.Parts[i].Columns, views.UnionColumn{Name: name, Type: kind})
		}
		return nil
	}, "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE database_name = current_database() AND schema_name = 'main' ORDER BY table_name, column_index")
	return v, err
}

// writeUnion makes the view over accounts where it is missing or does not say
// what it should, and removes one over this table that nothing wants. changed
// says that the table's own views have been made anew. A name that something else
// has is left to it: what a survey says of that is no reason to take no data.
func (s *session) writeUnion(ctx context.Context, o Options, changed bool) error {
	u, err := s.unions(ctx, o)
	if err != nil {
		return err
	}
	for name, mark := range u.marks {
		if name != o.Union.Name && mark.own(o.Table) {
			if err := s.dropUnion(ctx, name); err != nil {
				return err
			}
		}
	}
	mark, stands := u.marks[o.Union.Name]
	switch {
	case o.Union.Name == "", u.taken, stands && !changed && slices.Equal(mark.tables, u.there):
		return nil
	case len(u.there) == 0 && stands:
		return s.dropUnion(ctx, o.Union.Name)
	case len(u.there) == 0:
		return nil
	}
	v, err := s.unionView(ctx, o, u.there)
	if err != nil || stands && mark.digest == v.Digest() && slices.Equal(mark.tables, u.there) {
		return err
	}
	if _, err := s.exec(ctx, v.SQL()); err != nil {
		return fmt.Errorf("create the view over all accounts: %w", err)
	}
	return nil
}

func (s *session) dropUnion(ctx context.Context, name string) error {
	_, err := s.exec(ctx, "DROP VIEW main."+views.QuoteName(name))
	return err
}

// unionResources are the view over accounts that is wanted, and those over this
// table that are not any more.
func (l *Loader) unionResources(st standing) (out []load.Resource) {
	if l.o.Union.Name != "" {
		r := load.Resource{Kind: load.KindView, Name: l.o.Union.Name, Want: l.o.Union.Attributes()}
		if mark, ok := st.unions.marks[l.o.Union.Name]; ok {
			fresh := !slices.Equal(mark.tables, st.unions.there) || mark.digest == st.union.Digest()
			r.Have = load.UnionAttributes(mark.tables, fresh)
		} else if st.unions.taken {
			r.Blocked, r.Effects = true, []string{l.foreignUnion().sentence()}
		}
		out = append(out, r)
	}
	for name, mark := range st.unions.marks {
		if name != l.o.Union.Name && mark.own(l.o.Table) {
			out = append(out, load.Resource{Kind: load.KindView, Name: name, Have: load.UnionAttributes(mark.tables, true)})
		}
	}
	return out
}

// foreignUnion refuses to replace what somebody else made.
func (l *Loader) foreignUnion() *Error {
	return &Error{
		Message: fmt.Sprintf("the database holds main.%s, which is no view over accounts", l.o.Union.Name), Path: l.o.Path, Err: load.ErrForeign,
		hint: "Give the pipeline another union_view, or union_view: off, or rename what is there.",
	}
}

// unionName reports whether a view is one over accounts, for what makes and
// removes a table's own views.
func (l *Loader) unionName(st standing, name string) bool {
	_, ok := st.unions.marks[name]
	return ok || name != "" && name == l.o.Union.Name
}
