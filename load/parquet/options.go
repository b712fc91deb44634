package parquet

import (
	"time"

	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/load"
)

// Options say where a table lives and how its files are written.
type Options struct {
	// Path is the destination's directory; relative paths are taken from the
	// process's working directory at New. Required.
	Path string
	// Table names the table and its folder below Path. Required.
	Table string
	// Stages names the folder below Path that holds the table of stages, which
	// several tables may share. Default: there is none, and views name no stages.
	Stages string
	// Union is the view over the tables of all accounts, this one's included: a
	// file, or an object, below Path that is named as it. Default: there is none.
	Union load.Union
	// Timezone gives the calendar of the views' *_date columns. Default: UTC.
	// Partitions are UTC whatever it says.
	Timezone *time.Location
	// Plain writes files for old readers: snappy, no DELTA encodings.
	Plain bool
	// FS is what files are published through. Default: atomicfile.OS.
	FS atomicfile.FS
	// Clock dates manifests and the lock. Default: clock.System.
	Clock clock.Clock
	// Workers is how many goroutines encode and verify. Default: 2.
	Workers int
	// LockWait is how long a commit waits for another one on the same table
	// before it fails with *LockedError. Default: 1 minute. Negative: no wait.
	LockWait time.Duration
	// HistoryFileRows is the most rows one history file takes. Default: 1048576.
	HistoryFileRows int64
	// CompactRows and CompactBytes are the size that small files of history are
	// merged to once their day is over; CompactRows is also the most rows that
	// one commit merges. Default: 2,000,000 and 128 MiB. Negative CompactRows:
	// nothing is merged.
	CompactRows, CompactBytes int64
	// ArchiveRuns is how many coverage records of runs older than those of the
	// last 50 packages stand as files of their own before they are packed into
	// one. Default: 1024.
	ArchiveRuns int

	sortLimit int // of verification, in tests
}
