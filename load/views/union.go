package views

import (
	"regexp"
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/schemas"
)

// UnionPart is a main view that a view over accounts reads.
type UnionPart struct {
	Table   string // as the mark names it
	From    string // what stands after FROM
	Columns []UnionColumn
}

// UnionColumn is a column of a view, with its type in the destination's SQL.
type UnionColumn struct{ Name, Type string }

// UnionColumns are the columns of a view over parts: each once, those of Sluice
// last, else in the order in which parts have them. common says what holds the
// values of two types.
func UnionColumns(parts []UnionPart, common func(a, b string) string) []UnionColumn {
	var own, system []UnionColumn
	at := map[string]*UnionColumn{}
	for _, p := range parts {
		for _, c := range p.Columns {
			if known := at[c.Name]; known != nil {
				known.Type = common(known.Type, c.Type)
				continue
			}
			at[c.Name] = &c
			if strings.HasPrefix(c.Name, "_sluice_") {
				system = append(system, c)
			} else {
				own = append(own, c)
			}
		}
	}
	out := slices.Concat(own, system)
	for i := range out {
		out[i].Type = at[out[i].Name].Type
	}
	return out
}

// Union is a view over the main views of several tables.
type Union struct {
	Schema string // DuckDB schema that it stands in; empty: the current one
	Name   string
	Parts  []UnionPart
}

// SQL returns the statements that make the view in DuckDB. Every column is
// named, so that it stays whole while a table gets another one.
func (u Union) SQL() string {
	name := QuoteName(u.Name)
	if u.Schema != "" {
		name = QuoteName(u.Schema) + "." + name
	}
	body := u.body()
	return "CREATE OR REPLACE VIEW " + name + " AS\n" + body + ";\nCOMMENT ON VIEW " + name + " IS " + QuoteText(u.mark(body)) + ";\n"
}

// Digest stands for what the view reads: where it differs the view has to be
// made anew.
func (u Union) Digest() string { return Digest(u.body()) }

// body begins with the columns and their types: the accounts' come by name.
func (u Union) body() string {
	columns := UnionColumns(u.Parts, duckCommon)
	var head []string
	types := map[string]string{}
	for _, c := range columns {
		types[c.Name] = c.Type
		head = append(head, "CAST(NULL AS "+c.Type+") AS "+QuoteName(c.Name))
	}
	out := "SELECT " + strings.Join(head, ", ") + " WHERE false"
	for _, p := range u.Parts {
		var list []string
		for _, c := range p.Columns {
			name := QuoteName(c.Name)
			if types[c.Name] != c.Type {
				name = "CAST(" + name + " AS " + types[c.Name] + ") AS " + name
			}
			list = append(list, name)
		}
		out += "\nUNION ALL BY NAME SELECT " + strings.Join(list, ", ") + "\nFROM " + p.From
	}
	return out
}

// duckCommon holds numbers as numbers and everything else as text.
func duckCommon(a, b string) string {
	number := func(t string) bool { return t == "BIGINT" || t == "DOUBLE" }
	switch {
	case a == b:
		return a
	case number(a) && number(b):
		return "DOUBLE"
	default:
		return "VARCHAR"
	}
}

// unionMark is how the comment of a view over accounts ends, by which it is told
// apart from what somebody else made.
var unionMark = regexp.MustCompile(`Made by sluice over (\S+(?:, \S+)*) \(([0-9a-f]{12})\)\.$`)

// mark is the comment of the view.
func (u Union) mark(body string) string {
	var tables []string
	for _, p := range u.Parts {
		tables = append(tables, p.Table)
	}
	return "The contacts of all accounts, as the view of each has them. Made by sluice over " + strings.Join(tables, ", ") + " (" + Digest(body) + ")."
}

// ReadUnion reads the comment of a view: the tables that it was made over and its
// Digest. ok is false for a view that is not ours.
func ReadUnion(comment string) (tables []string, digest string, ok bool) {
	m := unionMark.FindStringSubmatch(comment)
	if m == nil {
		return nil, "", false
	}
	return strings.Split(m[1], ", "), m[2], true
}

// MainColumns are the columns of the main view over a table, in order, none
// where it has no views.
func MainColumns(o Options) []UnionColumn {
	w := newWriter(o)
	if len(w.views()) == 0 {
		return nil
	}
	var out, system []UnionColumn
	for _, c := range w.o.Columns.Columns {
		col := UnionColumn{c.Name, DuckType(c.Type)}
		if c.Origin == schemas.SystemDefined {
			system = append(system, col)
		} else {
			out = append(out, col)
		}
	}
	for _, d := range w.dates() {
		out = append(out, UnionColumn{d[0], DuckType(schemas.Date)})
	}
	out = append(out, system...)
	if w.joins() {
		for _, n := range named() {
			t := DuckType(schemas.String)
			if n[0] == "position" {
				t = DuckType(schemas.Int64)
			}
			out = append(out, UnionColumn{w.o.Free(n[1]), t})
		}
	}
	return out
}
