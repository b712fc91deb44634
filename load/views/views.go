// Package views writes the SQL views that every destination which DuckDB reads
// has over its tables. Where the rows stand is the caller's to say.
package views

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-etl/sluice/schemas"
)

// Options describe the table that views are written for.
type Options struct {
	// Table is the name of the main view (contacts) and the prefix of
	// <table>_all, <table>_history and <table>_as_of(t). Default: contacts.
	Table string
	// Schema is the DuckDB schema to create everything in; it is created if
	// need be. Default: the current one, and unqualified names.
	Schema string
	// Columns are the table's columns. Views find those that they reckon with by
	// the field that each is filled from, whatever its name; a view that needs one
	// which the table lacks is left out (Notes).
	Columns schemas.Table
	// Timezone gives the calendar of *_date columns. Default, also for
	// time.Local: UTC.
	Timezone *time.Location
	// Current and History are relations, as they stand after FROM, with all of
	// Columns: the current rows, tombstones included, and the stored versions.
	// Runs is a query for the coverage records: run_id and coverage. Empty:
	// there are none.
	Current, History, Runs string
	// Stages is a relation with the columns of load.StageTable, by which the main
	// view and the reports name the stage of the active ticket. Empty: there is
	// none.
	Stages string
	// StagesView is the name of a view over Stages, where it is no table by
	// itself. Empty: none.
	StagesView string
	// Taken are names, in lower case, that something else has in the schema. A
	// report (customers, active, ...) of such a name gets the table's name in
	// front, and is left out where that is taken too.
	Taken []string
}

// View is one view or macro of the SQL.
type View struct {
	Name    string // as called: contacts, contacts_as_of(t)
	Comment string
	Macro   bool
	Bare    string // Name without parameters
	params  string
	body    string
}

// SQL returns the statements that create the table's views and macros in
// DuckDB, comments included, to be run as a whole, again after columns were
// added. It is empty where the table has no columns yet.
func SQL(o Options) string {
	w := newWriter(o)
	list := w.views()
	if len(list) == 0 {
		return ""
	}
	var b strings.Builder
	if o.Schema != "" {
		fmt.Fprintf(&b, "CREATE SCHEMA IF NOT EXISTS %s;\n", QuoteName(o.Schema))
	}
	for _, view := range list {
		b.WriteString("\n")
		if view.Macro {
			fmt.Fprintf(&b, "CREATE OR REPLACE MACRO %s(%s) AS TABLE\n%s;\n", w.ref(view.Bare), view.params, view.body)
			fmt.Fprintf(&b, "COMMENT ON MACRO TABLE %s IS %s;\n", w.ref(view.Bare), QuoteText(view.Comment))
			continue
		}
		fmt.Fprintf(&b, "CREATE OR REPLACE VIEW %s AS\n%s;\n", w.ref(view.Bare), view.body)
		fmt.Fprintf(&b, "COMMENT ON VIEW %s IS %s;\n", w.ref(view.Bare), QuoteText(view.Comment))
	}
	return b.String()
}

// List returns what SQL creates, in order.
func List(o Options) []View { return newWriter(o).views() }

// Notes says which views are left out, or show less or more than they would,
// because the contract leaves a field out, stores it under a policy that views
// cannot reckon with, or gives it another type; one sentence each. There are
// none for a table without columns.
func Notes(o Options) []string {
	w := newWriter(o)
	if len(w.views()) == 0 {
		return nil
	}
	if why := Lacks(w.o.Columns, Stage); why != "" && w.o.Stages != "" {
		w.left = append(w.left, w.o.Table+" names no stages: "+why)
	}
	return w.left
}

// Zone is the name of the timezone of *_date columns. "Local" is a name only
// Go knows; SQL needs one of the IANA's.
func Zone(tz *time.Location) string {
	if tz == nil || tz == time.Local {
		return "UTC"
	}
	return tz.String()
}

// Nothing is a query for no rows with the given columns.
func Nothing(columns schemas.Table) string {
	var cols []string
	for _, c := range columns.Columns {
		cols = append(cols, fmt.Sprintf("CAST(NULL AS %s) AS %s", DuckType(c.Type), QuoteName(c.Name)))
	}
	return "SELECT " + strings.Join(cols, ", ") + " WHERE false"
}

// DuckType is the type that a bare read of a Parquet file gives for t: JSON
// is text there.
func DuckType(t schemas.Type) string {
	switch t {
	case schemas.Int64:
		return "BIGINT"
	case schemas.Float64:
		return "DOUBLE"
	case schemas.Bool:
		return "BOOLEAN"
	case schemas.Timestamp:
		return "TIMESTAMP WITH TIME ZONE"
	case schemas.Date:
		return "DATE"
	case schemas.String, schemas.JSON:
		return "VARCHAR"
	default:
		return "VARCHAR"
	}
}

// EscapeGlob makes a path match itself where DuckDB takes a glob.
func EscapeGlob(path string) string {
	return strings.NewReplacer("[", "[[]", "*", "[*]", "?", "[?]").Replace(path)
}

// QuoteName quotes an SQL identifier.
func QuoteName(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// QuoteText quotes an SQL string.
func QuoteText(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// writer spells the views of one table.
type writer struct {
	o    Options
	zone string
	// left are the sentences of Notes.
	left []string
}

func newWriter(o Options) *writer {
	if o.Table == "" {
		o.Table = "contacts"
	}
	return &writer{o: o, zone: Zone(o.Timezone)}
}

// ref returns the name of a view, qualified if a schema is given.
func (w *writer) ref(name string) string {
	if w.o.Schema != "" {
		return QuoteName(w.o.Schema) + "." + QuoteName(name)
	}
	return QuoteName(name)
}

// main returns the name of the table's own view with a suffix.
func (w *writer) main(suffix string) string { return w.ref(w.o.Table + suffix) }

func (w *writer) has(columns ...string) bool {
	return !slices.ContainsFunc(columns, func(c string) bool { return w.o.Columns.Index(c) < 0 })
}

// dates returns the *_date columns: name and the timestamp they come from.
func (w *writer) dates() [][2]string {
	var out [][2]string
	for _, c := range w.o.Columns.Columns {
		date := DateName(c)
		again := func(d [2]string) bool { return d[0] == date }
		if date != "" && !w.has(date) && !slices.ContainsFunc(out, again) {
			out = append(out, [2]string{date, c.Name})
		}
	}
	return out
}

// dateBase is what the name of a column's day begins with.
func dateBase(column string) string {
	base, ok := strings.CutSuffix(column, "_at")
	if !ok {
		return ""
	}
	return base
}

// day is the local day of a timestamp column.
func (w *writer) day(column string) string { return w.dayOf(QuoteName(column)) }

// dayOf is day of a column whose name is quoted.
func (w *writer) dayOf(column string) string {
	return fmt.Sprintf("CAST(timezone(%s, %s) AS DATE)", QuoteText(w.zone), column)
}

// col is the quoted name of the column of a field, by the name of the field
// where there is none.
func (w *writer) col(f Field) string { return QuoteName(ColumnName(w.o.Columns, f)) }

// suits reports whether views can reckon with the fields, and notes what is so
// where they cannot, and why.
func (w *writer) suits(otherwise string, fields ...Field) bool {
	why := Lacks(w.o.Columns, fields...)
	if why != "" {
		w.left = append(w.left, otherwise+": "+why)
	}
	return why == ""
}

// columns is the select list: exported columns, their dates, system columns.
func (w *writer) columns() string {
	var exported, system []string
	for _, c := range w.o.Columns.Columns {
		switch {
		case c.Constant != "": // of which a query that asks for another value reads nothing
			system = append(system, QuoteText(c.Constant)+" AS "+QuoteName(c.Name))
		case c.Origin == schemas.SystemDefined:
			system = append(system, QuoteName(c.Name))
		default:
			exported = append(exported, QuoteName(c.Name))
		}
	}
	for _, d := range w.dates() {
		exported = append(exported, w.day(d[1])+" AS "+QuoteName(d[0]))
	}
	return strings.Join(append(exported, system...), ",\n  ")
}

// currentRows and historyRows are the stored rows, as they are.
func (w *writer) currentRows() string { return w.rows(w.o.Current) }

func (w *writer) historyRows() string { return w.rows(w.o.History) }

func (w *writer) rows(relation string) string {
	if relation == "" {
		return "(" + Nothing(w.o.Columns) + ")"
	}
	return relation
}
