package parquet

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sluice-etl/sluice/schemas"
)

// ViewsOptions describe the table that Views writes SQL for.
type ViewsOptions struct {
	// Root is the table's directory, absolute.
	Root string
	// Table is the name of the main view (contacts) and the prefix of
	// <table>_all, <table>_history and <table>_as_of(t). Default: contacts.
	Table string
	// Schema is the DuckDB schema to create everything in; it is created if
	// need be. Default: the current one, and unqualified names.
	Schema string
	// Columns are the table's columns, as in Manifest.Schema. Views that need
	// a column the table lacks are left out.
	Columns schemas.Table
	// Timezone gives the calendar of *_date columns. Default, also for
	// time.Local: UTC.
	Timezone *time.Location
	// HasCurrent, HasHistory and HasRuns say whether there are files: DuckDB
	// refuses a glob without a match, so an empty table is spelt differently.
	HasCurrent, HasHistory, HasRuns bool
}

// ViewsFor returns the options of Views for the table in dir (absolute), as m
// describes it. Timezone and Schema are the caller's.
func ViewsFor(dir string, m *Manifest) ViewsOptions {
	return ViewsOptions{
		Root: dir, Table: m.Table, Columns: m.Schema,
		HasCurrent: len(m.Current) > 0, HasHistory: len(m.History) > 0, HasRuns: hasRuns(dir),
	}
}

// View is one view or macro of the SQL that Views writes.
type View struct {
	Name    string // as called: contacts, contacts_as_of(t)
	Comment string
	macro   bool
	params  string
	name    string
	body    string
}

// Views returns the SQL that creates the table's views and macros in DuckDB,
// comments included, to be run as a whole, again after columns were added. It
// is empty but for a remark where the table has no columns yet.
func Views(o ViewsOptions) string {
	var b strings.Builder
	v := newViewWriter(o)
	fmt.Fprintf(&b, "-- Views over %s, for DuckDB.\n", oneLine(v.o.Root))
	b.WriteString("-- Written by sluice, and again when columns are added. Your own views belong in another file.\n")
	fmt.Fprintf(&b, "-- *_date columns are days in %s. Text without an offset, as in %s_as_of('2026-09-01'), is a time in the session's TimeZone.\n", v.zone, v.o.Table)
	views := v.views()
	if len(views) == 0 {
		b.WriteString("-- Nothing has been exported yet.\n")
		return b.String()
	}
	if o.Schema != "" {
		fmt.Fprintf(&b, "CREATE SCHEMA IF NOT EXISTS %s;\n", quoteName(o.Schema))
	}
	for _, view := range views {
		b.WriteString("\n")
		if view.macro {
			fmt.Fprintf(&b, "CREATE OR REPLACE MACRO %s(%s) AS TABLE\n%s;\n", v.ref(view.name), view.params, view.body)
			fmt.Fprintf(&b, "COMMENT ON MACRO TABLE %s IS %s;\n", v.ref(view.name), quoteText(view.Comment))
			continue
		}
		fmt.Fprintf(&b, "CREATE OR REPLACE VIEW %s AS\n%s;\n", v.ref(view.name), view.body)
		fmt.Fprintf(&b, "COMMENT ON VIEW %s IS %s;\n", v.ref(view.name), quoteText(view.Comment))
	}
	return b.String()
}

// ListViews returns what Views creates, in order.
func ListViews(o ViewsOptions) []View { return newViewWriter(o).views() }

// viewWriter spells the views of one table.
type viewWriter struct {
	o    ViewsOptions
	zone string
}

func newViewWriter(o ViewsOptions) *viewWriter {
	if o.Table == "" {
		o.Table = "contacts"
	}
	w := &viewWriter{o: o, zone: "UTC"}
	// "Local" is a name only Go knows; SQL needs one of the IANA's.
	if o.Timezone != nil && o.Timezone != time.Local {
		w.zone = o.Timezone.String()
	}
	return w
}

// ref returns the name of a view, qualified if a schema is given.
func (w *viewWriter) ref(name string) string {
	if w.o.Schema != "" {
		return quoteName(w.o.Schema) + "." + quoteName(name)
	}
	return quoteName(name)
}

// main returns the name of the table's own view with a suffix.
func (w *viewWriter) main(suffix string) string { return w.ref(w.o.Table + suffix) }

func (w *viewWriter) has(columns ...string) bool {
	return !slices.ContainsFunc(columns, func(c string) bool { return w.o.Columns.Index(c) < 0 })
}

// dates returns the *_date columns: name and the timestamp they come from.
func (w *viewWriter) dates() [][2]string {
	var out [][2]string
	for _, c := range w.o.Columns.Columns {
		base, ok := strings.CutSuffix(c.Name, "_at")
		if ok && c.Type == schemas.Timestamp && c.Origin != schemas.SystemDefined && !w.has(base+"_date") {
			out = append(out, [2]string{base + "_date", c.Name})
		}
	}
	return out
}

// day is the local day of a timestamp column.
func (w *viewWriter) day(column string) string {
	return fmt.Sprintf("CAST(timezone(%s, %s) AS DATE)", quoteText(w.zone), quoteName(column))
}

// columns is the select list: exported columns, their dates, system columns.
func (w *viewWriter) columns() string {
	var exported, system []string
	for _, c := range w.o.Columns.Columns {
		if c.Origin == schemas.SystemDefined {
			system = append(system, quoteName(c.Name))
		} else {
			exported = append(exported, quoteName(c.Name))
		}
	}
	for _, d := range w.dates() {
		exported = append(exported, w.day(d[1])+" AS "+quoteName(d[0]))
	}
	return strings.Join(append(exported, system...), ",\n  ")
}

// nothing is an empty relation with the table's columns.
func (w *viewWriter) nothing() string {
	var cols []string
	for _, c := range w.o.Columns.Columns {
		cols = append(cols, fmt.Sprintf("CAST(NULL AS %s) AS %s", duckType(c.Type), quoteName(c.Name)))
	}
	return "SELECT " + strings.Join(cols, ", ") + " WHERE false"
}

// currentRows and historyRows are the stored rows, as they are.
func (w *viewWriter) currentRows() string {
	if !w.o.HasCurrent {
		return "(" + w.nothing() + ")"
	}
	return fmt.Sprintf("read_parquet(%s, hive_partitioning = false)", w.glob(currentDir, "**", "*.parquet"))
}

func (w *viewWriter) historyRows() string {
	if !w.o.HasHistory {
		return "(" + w.nothing() + ")"
	}
	// The empty side names every column: one that is new may stand in no
	// history file yet.
	return fmt.Sprintf("(FROM read_parquet(%s, union_by_name = true, hive_partitioning = false)\n  UNION ALL BY NAME %s)", w.glob(historyDir, "**", "*.parquet"), w.nothing())
}

func (w *viewWriter) glob(parts ...string) string {
	return quoteText(escapeGlob(filepath.ToSlash(w.o.Root)) + "/" + strings.Join(parts, "/"))
}

// escapeGlob makes a path match itself.
func escapeGlob(path string) string {
	return strings.NewReplacer("[", "[[]", "*", "[*]", "?", "[?]").Replace(path)
}

func quoteName(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

func quoteText(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

func oneLine(s string) string { return strings.NewReplacer("\n", " ", "\r", " ").Replace(s) }

func duckType(t schemas.Type) string {
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
