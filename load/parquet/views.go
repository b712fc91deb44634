package parquet

import (
	"time"

	"github.com/sluice-etl/sluice/schemas"
)

// ViewsOptions describe the table that Views writes SQL for.
type ViewsOptions struct {
	// Root is the table's directory, absolute.
	Root string
	// Table is the name of the main view (contacts) and the prefix of
	// <table>_all, <table>_history and <table>_as_of(t).
	Table string
	// Columns are the table's columns, as in Manifest.Schema. Views that need
	// a column the table lacks are left out.
	Columns schemas.Table
	// Timezone gives the calendar of *_date columns. Default: UTC.
	Timezone *time.Location
	// HasCurrent, HasHistory and HasRuns say whether there are files: DuckDB
	// refuses a glob without a match, so an empty table is spelt differently.
	HasCurrent, HasHistory, HasRuns bool
}

// Views returns the SQL that creates the table's views and macros in DuckDB's
// current schema: one statement each, comments included, to be run as a whole.
func Views(o ViewsOptions) string { return "" }

// ViewsFor returns the options of Views for the table in dir.
func ViewsFor(dir string, m *Manifest) ViewsOptions { return ViewsOptions{} }
