package parquet

import (
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// The names in a table's directory. They are a stored format.
const (
	currentDir   = "current"
	historyDir   = "history"
	manifestsDir = "_manifests"
	runsDir      = "_sluice_runs"
	idsDir       = "_ids"
	stagingDir   = "_staging"
	latestName   = "latest.json"
	viewsName    = "views.sql"
	lockName     = ".lock"
	goingName    = "_destroying.json" // see Loader.Destroy
	currentFile  = "contacts.parquet"

	monthKey = "created_month"
	dateKey  = "extracted_date"
)

// Contacts are personal data: the owner writes, the owner's group may read.
// The umask narrows it further.
const (
	fileMode fs.FileMode = 0o640
	dirMode  fs.FileMode = 0o750
)

// keepManifests is how many numbered manifests stay; keepResults how many
// results of past packages each one carries, unless they name more than
// keepResultFiles files. The engine repeats only what it has queued and not
// recorded as committed, which is the last package.
const (
	keepManifests   = 50
	keepResults     = 50
	keepResultFiles = 1000
)

// stagedName is the flat name a file has under _staging before it moves to
// rel. Nothing may be written beside a published file instead: DuckDB's globs
// match names that begin with a dot, so a temporary file below current would
// be read as part of the table.
func stagedName(rel string) string { return strings.ReplaceAll(rel, "/", "@") }

// currentPath is the file of one month, relative to the table.
func currentPath(m month) string {
	return path.Join(currentDir, monthKey+"="+m.String(), currentFile)
}

// historyPath is the n-th history file of a package for one day.
func historyPath(d day, pkg int64, n int) string {
	return path.Join(historyDir, dateKey+"="+d.String(), fmt.Sprintf("%08d-%04d.parquet", pkg, n))
}

func manifestName(n int64) string { return fmt.Sprintf("%08d.json", n) }

// manifestNumber is the inverse of manifestName.
func manifestNumber(name string) (int64, bool) {
	digits, ok := strings.CutSuffix(name, ".json")
	if !ok || len(digits) < 8 || strings.Trim(digits, "0123456789") != "" {
		return 0, false
	}
	var n int64
	if _, err := fmt.Sscanf(digits, "%d", &n); err != nil {
		return 0, false
	}
	return n, manifestName(n) == name
}

// month counts months since January of year 0, UTC.
type month int32

func monthOf(us int64) month {
	t := time.UnixMicro(us).UTC()
	return month(t.Year()*12 + int(t.Month()) - 1)
}

// bounds returns the first microsecond of m and of the month after it.
func (m month) bounds() (from, to int64) {
	first := time.Date(int(m)/12, time.Month(int(m)%12+1), 1, 0, 0, 0, 0, time.UTC)
	return first.UnixMicro(), first.AddDate(0, 1, 0).UnixMicro()
}

// String prints m as a partition value, YYYY-MM.
func (m month) String() string { return fmt.Sprintf("%04d-%02d", int(m)/12, int(m)%12+1) }

// day counts days since 1970-01-01, UTC.
type day int32

const dayMicros = 24 * 60 * 60 * 1_000_000

func dayOf(us int64) day {
	d := us / dayMicros
	if us%dayMicros < 0 {
		d--
	}
	return day(d)
}

// String prints d as a partition value, YYYY-MM-DD.
func (d day) String() string {
	return time.Unix(int64(d)*24*60*60, 0).UTC().Format(time.DateOnly)
}

// at turns a path relative to the table into one of the system's.
func at(dir, rel string) string { return filepath.Join(dir, filepath.FromSlash(rel)) }
