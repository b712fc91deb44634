package duckdb

import (
	"time"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/load"
)

// Options say which database file a table lives in, and what a commit may use.
type Options struct {
	// Path is the database file; a relative path is taken from the process's
	// working directory at New. Its folder is made by the first commit. Paths
	// with ? or # in them cannot be opened. Required.
	Path string
	// Table names the table and its views. Required.
	Table string
	// Stages names the table of stages, which several tables of contacts may
	// share. Default: there is none, and views name no stages.
	Stages string
	// Union is the view over the tables of all accounts, this one's included.
	// Default: there is none.
	Union load.Union
	// Timezone gives the calendar of the views' *_date columns. Default: UTC.
	Timezone *time.Location
	// MemoryLimit is what DuckDB may hold in memory during a commit, as it
	// spells sizes: "512MB", "2GB". Beyond it, it spills to <path>.tmp. What
	// DuckDB does not count, and Go's own reading of parts, come on top.
	// Default: 256 MB and 1 MB for each column of the package, because every
	// thread holds a block of each column it writes.
	MemoryLimit string
	// Threads is how many threads DuckDB uses; each needs memory of its own.
	// Default: 2.
	Threads int
	// Wait is how long a call waits for a database that another process has
	// open before it fails with *duck.InUseError. Default: 1 minute. Negative:
	// no wait.
	Wait time.Duration
	// Clock dates what is stored. Default: clock.System.
	Clock clock.Clock
}
