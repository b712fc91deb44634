package parquet

import (
	"cmp"
	"fmt"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/sluice-etl/sluice/internal/gcs"
	"github.com/sluice-etl/sluice/load/views"
	"github.com/sluice-etl/sluice/schemas"
)

// ViewsOptions describe the table that Views writes SQL for.
type ViewsOptions struct {
	// Root is the table's directory, absolute, or its URL (gs://).
	Root string
	// Table is the name of the main view (contacts) and the prefix of
	// <table>_all, <table>_history and <table>_as_of(t). Default: contacts.
	Table string
	// Schema is the DuckDB schema to create everything in; it is created if
	// need be. Default: the current one, and unqualified names.
	Schema string
	// Columns are the table's columns, as in Manifest.Schema. Views that need
	// a field which the table lacks are left out.
	Columns schemas.Table
	// Timezone gives the calendar of *_date columns. Default, also for
	// time.Local: UTC.
	Timezone *time.Location
	// HasCurrent, HasHistory and HasRuns say whether there are files: DuckDB
	// refuses a glob without a match, so an empty table is spelt differently.
	HasCurrent, HasHistory, HasRuns bool
	// Stages is the path or URL of the file of the table of stages, as StagesFile
	// gives it. Empty: there is none.
	Stages string
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
type View = views.View

// Views returns the SQL that creates the table's views and macros in DuckDB,
// comments included, to be run as a whole, again after columns were added. It
// is empty but for a remark where the table has no columns yet.
func Views(o ViewsOptions) string {
	var b strings.Builder
	vo := o.shared()
	fmt.Fprintf(&b, "-- Views over %s, for DuckDB.\n", oneLine(o.Root))
	b.WriteString("-- Written by sluice, and again when columns are added. Your own views belong in another file.\n")
	fmt.Fprintf(&b, "-- *_date columns are days in %s. Text without an offset, as in %s_as_of('2026-09-01'), is a time in the session's TimeZone.\n", views.Zone(o.Timezone), vo.Table)
	for _, note := range views.Notes(vo) {
		fmt.Fprintf(&b, "-- %s.\n", oneLine(note))
	}
	if strings.HasPrefix(o.Root, gcs.Scheme) {
		b.WriteString(secretRemark)
	}
	text := views.SQL(vo)
	switch {
	case text == "":
		text = "-- Nothing has been exported yet.\n"
	case !o.HasCurrent && !o.HasHistory:
		// DuckDB refuses a glob without a match: these views read no files.
		b.WriteString("-- There are no rows yet, and these views read none: run this again after the first run.\n")
	}
	b.WriteString(text)
	return b.String()
}

// ListViews returns what Views creates, in order.
func ListViews(o ViewsOptions) []View { return views.List(o.shared()) }

// MainColumns are the columns of the table's main view, in order.
func MainColumns(o ViewsOptions) []views.UnionColumn { return views.MainColumns(o.shared()) }

// shared says where the rows stand: in files below Root.
func (o ViewsOptions) shared() views.Options {
	vo := views.Options{Table: cmp.Or(o.Table, "contacts"), Schema: o.Schema, Columns: o.Columns, Timezone: o.Timezone}
	if o.Stages != "" {
		vo.Stages = "read_parquet(" + views.QuoteText(views.EscapeGlob(filepath.ToSlash(o.Stages))) + ", hive_partitioning = false)"
		vo.StagesView = path.Base(path.Dir(filepath.ToSlash(o.Stages)))
	}
	if o.HasCurrent {
		vo.Current = fmt.Sprintf("read_parquet(%s, hive_partitioning = false)", o.glob(currentDir, "**", "*.parquet"))
	}
	if o.HasHistory {
		// The empty side names every column: one that is new may stand in no
		// history file yet.
		vo.History = fmt.Sprintf("(FROM read_parquet(%s, union_by_name = true, hive_partitioning = false)\n  UNION ALL BY NAME %s)",
			o.glob(historyDir, "**", "*.parquet"), views.Nothing(o.Columns))
	}
	if o.HasRuns {
		// One glob for both kinds of file: there may be no archive yet, and DuckDB
		// refuses a glob without a match.
		vo.Runs = `SELECT if(packed, json->>'$.run_id', parse_filename(filename, true)) AS run_id,
  if(packed, json->'$.coverage', json) AS coverage
FROM (SELECT *, ends_with(filename, '` + archiveSuffix + `') AS packed FROM read_json_objects(` + o.glob(runsDir, "*.json*") + `, filename = true))
QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY packed) = 1`
	}
	return vo
}

func (o ViewsOptions) glob(parts ...string) string {
	return views.QuoteText(views.EscapeGlob(filepath.ToSlash(o.Root)) + "/" + strings.Join(parts, "/"))
}

func oneLine(s string) string { return strings.NewReplacer("\n", " ", "\r", " ").Replace(s) }
