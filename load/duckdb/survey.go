package duckdb

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/views"
	"github.com/sluice-etl/sluice/schemas"
)

var _ load.Surveyor = (*Loader)(nil)

// The attributes of a table besides its columns.
const (
	attrPlace      = "place"
	attrTimezone   = "timezone"
	attrDefinition = "definition"
	// historyPrefix stands before a column in which history differs.
	historyPrefix = "history."
)

// catalogColumn is a column as the catalog has it.
type catalogColumn struct {
	name, typ string
	nullable  bool
}

// standing is what the database has of a table, without its rows.
type standing struct {
	t                stored
	current, history []catalogColumn // nil where the stored table is missing
	holds            load.Holdings
	names            map[string]string // what stands in schema main: kind by lower-case name
	texts            map[string]string // digests of the views that stand there, by lower-case name
	stages           []catalogColumn   // nil where there is none
	unions           unions            // views over accounts
	union            views.Union       // the one over the accounts that exist
}

// gone reports whether somebody dropped the rows, current and history, and left
// the notes.
func (s standing) gone() bool { return s.t.found && s.current == nil && s.history == nil }

// exists reports whether there is a table.
func (s standing) exists() bool { return s.t.found && !s.gone() }

// Survey implements load.Surveyor. It opens the database for reading only, and
// reads nothing but the catalog and the notes.
func (l *Loader) Survey(ctx context.Context, lineage string, table schemas.Table) ([]load.Resource, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	st, err := l.stand(ctx, lineage)
	if err != nil {
		return nil, err
	}
	return l.resources(st, table)
}

// stand looks at what stands there without changing anything.
func (l *Loader) stand(ctx context.Context, lineage string) (standing, error) {
	st := standing{t: stored{name: l.o.Table}}
	err := l.reading(ctx, func(s *session) (err error) {
		st, err = s.stand(ctx, l.o, lineage)
		return err
	})
	return st, err
}

func (s *session) stand(ctx context.Context, o Options, lineage string) (st standing, err error) {
	if st.t, err = s.inspect(ctx, o.Table); err != nil {
		return st, err
	}
	if st.t.found {
		if err := st.t.ours(o.Path, lineage); err != nil {
			return st, err
		}
		if err := s.standTable(ctx, &st); err != nil {
			return st, err
		}
	}
	if o.Stages != "" {
		there, err := s.stagesStand(ctx, o.Stages)
		if err != nil {
			return st, err
		}
		if there {
			if st.stages, err = s.catalogColumns(ctx, "main", o.Stages); err != nil {
				return st, err
			}
		}
	}
	if st.names, err = s.names(ctx); err != nil {
		return st, err
	}
	if st.texts, err = s.viewTexts(ctx); err != nil {
		return st, err
	}
	if st.unions, err = s.unions(ctx, o); err != nil || o.Union.Name == "" {
		return st, err
	}
	st.union, err = s.unionView(ctx, o, st.unions.there)
	return st, err
}

func (s *session) standTable(ctx context.Context, st *standing) (err error) {
	if st.current, err = s.catalogColumns(ctx, schemaName, st.t.name+currentSuffix); err != nil {
		return err
	}
	if st.history, err = s.catalogColumns(ctx, schemaName, st.t.name+historySuffix); err != nil {
		return err
	}
	if st.gone() {
		st.t.columns = schemas.Table{}
	}
	// DuckDB's estimate, where there are no notes yet.
	const rows = `SELECT coalesce(max(estimated_size) FILTER (table_name = ?), 0), coalesce(max(estimated_size) FILTER (table_name = ?), 0)
FROM duckdb_tables() WHERE database_name = current_database() AND schema_name = '_sluice'`
	if err := s.get(ctx, []any{&st.holds.Contacts, &st.holds.Versions}, rows, st.t.name+currentSuffix, st.t.name+historySuffix); err != nil {
		return err
	}
	has, err := s.hasCounts(ctx)
	if err != nil || !has {
		return err
	}
	return s.each(ctx, []any{&st.holds.Contacts, &st.holds.Versions}, func() error { return nil },
		"SELECT current_rows, history_rows FROM _sluice.counts WHERE table_name = ? AND package = ?", st.t.name, st.t.position)
}

// catalogColumns lists the columns of a table, nil where there is none.
func (s *session) catalogColumns(ctx context.Context, schema, table string) (out []catalogColumn, err error) {
	var c catalogColumn
	err = s.each(ctx, []any{&c.name, &c.typ, &c.nullable}, func() error { out = append(out, c); return nil }, `
SELECT column_name, data_type, is_nullable FROM duckdb_columns()
WHERE database_name = current_database() AND schema_name = ? AND lower(table_name) = lower(?) ORDER BY column_index`, schema, table)
	return out, err
}

// viewTexts are digests of what the catalog has as the text of views and macros,
// by lower-case name. Quotes are left out: until the database is opened again
// DuckDB prints types with them.
func (s *session) viewTexts(ctx context.Context) (map[string]string, error) {
	out := map[string]string{}
	var name, text string
	err := s.each(ctx, []any{&name, &text}, func() error { out[strings.ToLower(name)] = views.Digest(strings.ReplaceAll(text, `"`, "")); return nil }, `
SELECT view_name, sql FROM duckdb_views() WHERE database_name = current_database() AND schema_name = 'main' AND NOT internal
UNION ALL SELECT function_name, parameters::VARCHAR || macro_definition FROM duckdb_functions()
WHERE database_name = current_database() AND schema_name = 'main' AND NOT internal AND macro_definition IS NOT NULL`)
	return out, err
}

// resources are the table's, that of the stages and the views.
func (l *Loader) resources(st standing, table schemas.Table) ([]load.Resource, error) {
	tables := []load.Resource{l.tableResource(st, table)}
	if l.o.Stages != "" {
		tables = append(tables, l.stagesResource(st))
	}
	byName := func(a, b load.Resource) int { return cmp.Compare(a.Name, b.Name) }
	slices.SortFunc(tables, byName)
	list, err := l.viewResources(st, table)
	list = append(list, l.unionResources(st)...)
	slices.SortFunc(list, byName)
	return append(tables, list...), err
}

func (l *Loader) tableResource(st standing, table schemas.Table) load.Resource {
	place := load.Attribute{Name: attrPlace, Value: l.o.Path}
	timezone := load.Attribute{Name: attrTimezone, Value: views.Zone(l.o.Timezone)}
	r := load.Resource{Kind: load.KindTable, Name: l.o.Table, Want: []load.Attribute{place, timezone}}
	r.Want = append(r.Want, load.ColumnAttributes(asStored(table))...)
	if st.gone() {
		r.Effects = []string{"The stored tables were dropped by hand: the table is made without rows, and begins anew with the next `sluice run --full`."}
	}
	if !st.exists() {
		return r
	}
	r.Holds = st.holds
	timezone.Value = cmp.Or(st.t.views.Timezone, timezone.Value) // older databases do not tell
	r.Have = append([]load.Attribute{place, timezone}, haveColumns(st.current, st.t.columns, table)...)
	// History has the same columns; where not, that is said by itself.
	history := haveColumns(st.history, st.t.columns, table)
	for _, a := range load.ColumnAttributes(asStored(table)) {
		i := slices.IndexFunc(history, func(h load.Attribute) bool { return h.Name == a.Name })
		if i >= 0 && typeOf(history[i]) == typeOf(a) {
			continue
		}
		want := load.Attribute{Name: historyPrefix + a.Name, Value: typeOf(a), Usual: i >= 0}
		r.Want = append(r.Want, want)
		if i >= 0 {
			r.Have = append(r.Have, load.Attribute{Name: want.Name, Value: typeOf(history[i])})
		}
	}
	for _, h := range history {
		if !slices.ContainsFunc(r.Have, func(a load.Attribute) bool { return a.Name == h.Name || a.Name == historyPrefix+h.Name }) {
			r.Have = append(r.Have, load.Attribute{Name: historyPrefix + h.Name, Value: h.Value})
		}
	}
	l.block(&r, st)
	return r
}

const retypeHint = "Column types never change in place. Give the column its type back, or `sluice destroy` the table, which the next run fills again; or give the changed field another column name in the contract, or the pipeline another table name."

// typeOf is the type alone.
func typeOf(a load.Attribute) string { return strings.TrimSuffix(a.Value, " required") }

// asStored are the columns as the database has them: only what the merge relies
// on is NOT NULL there.
func asStored(t schemas.Table) schemas.Table {
	t.Columns = slices.Clone(t.Columns)
	for i := range t.Columns {
		_, need := needed()[t.Columns[i].Name]
		t.Columns[i].Required = need && t.Columns[i].Name != schemas.ColDeletedAt
	}
	return t
}

// haveColumns are the attributes of a stored table's columns. DuckDB has one type
// for several of ours: of those it is the noted one, or the wanted.
func haveColumns(there []catalogColumn, noted, wanted schemas.Table) []load.Attribute {
	var out []load.Attribute
	for _, c := range there {
		value := strings.ToLower(c.typ)
		for _, t := range []schemas.Table{wanted, noted} {
			if i := t.Index(c.name); i >= 0 && views.DuckType(t.Columns[i].Type) == c.typ {
				value = string(t.Columns[i].Type)
			}
		}
		if !c.nullable {
			value += " required"
		}
		out = append(out, load.Attribute{Name: load.ColumnAttribute(c.name), Value: value})
	}
	return out
}

// retypes reports whether a column is there with another type than it is to have.
func retypes(want, have load.Attribute) bool {
	return strings.Contains(want.Name, load.ColumnAttribute("")) && duckType(want) != duckType(have)
}

// block says of a resource that is not as it is wanted why nobody makes it so, if
// that is the case.
func (l *Loader) block(r *load.Resource, st standing) {
	var e *Error
	if r.Blocked = differs(r.Want, r.Have) && errors.As(l.mayChange(st, *r), &e); r.Blocked {
		r.Effects = append(r.Effects, e.sentence())
	}
}

// duckType is the type of a column in DuckDB.
func duckType(a load.Attribute) string {
	if t := schemas.Type(typeOf(a)); t.Valid() {
		return views.DuckType(t)
	}
	return typeOf(a)
}

func (l *Loader) stagesResource(st standing) load.Resource {
	place := load.Attribute{Name: attrPlace, Value: l.o.Path}
	r := load.Resource{Kind: load.KindTable, Name: l.o.Stages, Want: append([]load.Attribute{place}, load.ColumnAttributes(load.StageTable())...)}
	if st.stages != nil {
		r.Have = append([]load.Attribute{place}, haveColumns(st.stages, schemas.Table{}, load.StageTable())...)
		l.block(&r, standing{})
	}
	return r
}

// viewOptions describe the views over columns, with the table of stages or
// without.
func (st standing) viewOptions(o Options, columns schemas.Table, stages bool) views.Options {
	vo := viewOptions(o, st.t, columns)
	if stages && o.Stages != "" {
		vo.Stages = stagesRelation(o.Stages)
	}
	return vo
}

// viewResources are the views that are wanted, and those that are there from us.
func (l *Loader) viewResources(st standing, table schemas.Table) (out []load.Resource, err error) {
	columns := table
	if c, err := change(st.t.columns, table); err == nil { // else the table's resource says so
		columns = c.table
	}
	vo := st.viewOptions(l.o, columns, true)
	vo.Taken, err = takenFor(l.o.Path, vo, st.names, st.t.views)
	if err != nil {
		return nil, err
	}
	_, wanted := views.Split(views.SQL(vo))
	for _, v := range wanted {
		out = append(out, load.Resource{Kind: load.KindView, Name: v.Name, Want: definedBy(v.Digest())})
	}
	there := st.viewsThere(l.o)
	for _, name := range slices.Sorted(maps.Keys(there)) {
		i := slices.IndexFunc(out, func(r load.Resource) bool { return strings.EqualFold(r.Name, name) })
		if i < 0 {
			i = len(out)
			out = append(out, load.Resource{Kind: load.KindView, Name: name})
		}
		out[i].Have = definedBy(there[name])
	}
	return out, nil
}

func definedBy(digest string) []load.Attribute {
	return []load.Attribute{{Name: attrDefinition, Value: digest}}
}

// viewsThere are the digests of the views that the database has from us, by
// name: of the statement that made one, if it is what that made.
func (st standing) viewsThere(o Options) map[string]string {
	out := map[string]string{}
	r := st.t.views
	old := st.recordedBefore(o)
	for _, own := range []struct {
		kind  string
		names []string
	}{{"view", r.Names}, {"macro", r.Macros}} {
		for _, name := range own.names {
			low := strings.ToLower(name)
			if st.names[low] != own.kind {
				continue
			}
			out[name] = st.texts[low]
			if made, ok := r.Made[name]; ok && made.Text == st.texts[low] {
				out[name] = made.By
			} else if !ok && old[name] != "" {
				out[name] = old[name]
			}
		}
	}
	return out
}

// recordedBefore are the digests of the views that an earlier version made, which
// noted that of all of them together alone: what they are now, it cannot tell.
func (st standing) recordedBefore(o Options) map[string]string {
	out := map[string]string{}
	if len(st.t.views.Made) > 0 || !st.t.found {
		return out
	}
	for _, stages := range []bool{true, false} {
		vo := st.viewOptions(o, st.t.columns, stages)
		vo.Taken = st.t.views.Taken
		text := views.SQL(vo)
		if checksum(text) != st.t.views.SHA256 {
			continue
		}
		_, list := views.Split(text)
		for _, v := range list {
			out[v.Name] = v.Digest()
		}
	}
	return out
}
