//go:build unix

package parquetfile_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/internal/parquetfile"
)

// cpuTime is what the process has used, all threads.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkWriteBesideDuckDB writes the same rows with Writer and with DuckDB's
// COPY from a table in memory, two threads each, in turns, and reports DuckDB's
// median CPU time over ours (above 1: ours is cheaper) and the file sizes.
func BenchmarkWriteBesideDuckDB(b *testing.B) {
	path, _ := benchWrite(b, parquetfile.Options{})
	db := duck(b)
	for _, q := range []string{"SET threads=2", "CREATE TABLE t AS SELECT * FROM read_parquet('" + path + "')"} {
		if _, err := db.ExecContext(b.Context(), q); err != nil {
			b.Fatal(err)
		}
	}
	out := filepath.Join(b.TempDir(), "duck.parquet")
	var ours, theirs []time.Duration
	var size int64
	for b.Loop() {
		start := cpuTime(b)
		_, st := benchWrite(b, parquetfile.Options{})
		ours = append(ours, cpuTime(b)-start)
		size = st.Bytes
		start = cpuTime(b)
		if _, err := db.ExecContext(b.Context(), fmt.Sprintf("COPY t TO '%s' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 131072)", out)); err != nil {
			b.Fatal(err)
		}
		theirs = append(theirs, cpuTime(b)-start)
	}
	info, err := os.Stat(out)
	if err != nil {
		b.Fatal(err)
	}
	slices.Sort(ours)
	slices.Sort(theirs)
	a, d := ours[len(ours)/2], theirs[len(theirs)/2]
	b.ReportMetric(a.Seconds(), "cpu-s")
	b.ReportMetric(d.Seconds(), "duckdb-cpu-s")
	b.ReportMetric(d.Seconds()/a.Seconds(), "cpu-ratio")
	b.ReportMetric(float64(size)/float64(info.Size()), "size-ratio")
}
