//go:build cgo

package duckdb_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/sluice-etl/sluice/internal/parquetfile"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/duckdb"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/schemas"
)

// benchRows is the size of the benchmarked table; SLUICE_BENCH_ROWS changes it.
func benchRows(b *testing.B) int {
	b.Helper()
	n, err := strconv.Atoi(cmp.Or(os.Getenv("SLUICE_BENCH_ROWS"), "100000"))
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// benchPackage makes a package of the contacts first to last, step apart, of
// about 800 bytes of JSON each. version changes every row.
func benchPackage(tb testing.TB, serial int64, first, last, step, version int) load.Package {
	tb.Helper()
	var extra []schemas.Column
	for i := range 17 {
		extra = append(extra, loadtest.Extra(fmt.Sprintf("cf_customer_field_%02d", i), schemas.String))
	}
	table := loadtest.Table(extra...)
	p := load.Package{Serial: serial, Lineage: "bench", Pipeline: "bench", RunID: fmt.Sprintf("run-%d", serial), Table: table}
	columns := slices.DeleteFunc(slices.Clone(table.Columns), func(c schemas.Column) bool {
		return c.Name == schemas.ColRunID || c.Name == schemas.ColPackage || c.Name == schemas.ColChange
	})
	schema := schemas.Table{Columns: columns}.Arrow()
	dir := tb.TempDir()
	row := int64(0)
	for n := first; n < last; {
		path := filepath.Join(dir, fmt.Sprintf("part-%04d.parquet", len(p.Parts)))
		w, err := parquetfile.Create(path, parquetfile.Options{Schema: schema})
		if err != nil {
			tb.Fatal(err)
		}
		for k := 0; k < 8 && n < last; k++ {
			rec := benchRecord(schema, &row, &n, last, step, version)
			if err := w.Write(rec); err != nil {
				tb.Fatal(err)
			}
			rec.Release()
		}
		stats, err := w.Finish()
		if err != nil {
			tb.Fatal(err)
		}
		if err := w.Publish(); err != nil {
			tb.Fatal(err)
		}
		p.Parts = append(p.Parts, load.Part{Path: path, Rows: stats.Rows, Bytes: stats.Bytes})
	}
	return p
}

// benchRecord makes 16384 contacts at most; a contact is a function of its
// number and version.
func benchRecord(schema *arrow.Schema, row *int64, n *int, last, step, version int) arrow.Record {
	rb := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer rb.Release()
	created := time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC)
	for k := 0; k < 16384 && *n < last; k++ {
		id := *n
		rnd := rand.New(rand.NewPCG(uint64(id), 7)) //nolint:gosec // numbers from 0
		for i, f := range schema.Fields() {
			switch b := rb.Field(i).(type) {
			case *array.BooleanBuilder:
				b.Append(rnd.IntN(20) == 0)
			case *array.Int64Builder:
				if f.Name == schemas.ColHash {
					b.Append(int64(id)*1_000_003 + int64(version))
				} else {
					b.Append(*row)
				}
			case *array.TimestampBuilder:
				switch f.Name {
				case schemas.ColDeletedAt:
					b.AppendNull()
				case schemas.ColCreatedAt: // 1.3 contacts a minute
					b.Append(arrow.Timestamp(created.Add(time.Duration(id) * 77 * time.Second).UnixMicro()))
				case schemas.ColUpdatedAt, schemas.ColExtractedAt:
					b.Append(arrow.Timestamp(loadtest.Epoch.Add(time.Duration(version) * time.Hour).UnixMicro()))
				default:
					b.Append(arrow.Timestamp(loadtest.Epoch.UnixMicro() + int64(rnd.IntN(1e9))))
				}
			case *array.StringBuilder:
				switch f.Name {
				case schemas.ColID, "ai_customer_id", "active_ticket_v2_id":
					b.Append(fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", rnd.Uint32(), id&0xffff, rnd.IntN(4096), rnd.IntN(4096), id))
				case "name", "phone", "email":
					b.Append(fmt.Sprintf("%s %d", f.Name, rnd.IntN(1e8)))
				default:
					if rnd.IntN(3) == 0 {
						b.AppendNull()
					} else {
						b.Append("value " + strconv.Itoa(rnd.IntN(500)))
					}
				}
			}
		}
		*row++
		*n += step
	}
	return rb.NewRecord()
}

// BenchmarkCommit measures a first load, and what a night with one percent of
// changes costs against it.
func BenchmarkCommit(b *testing.B) {
	n := benchRows(b)
	full := benchPackage(b, 1, 0, n, 1, 0)
	spread := benchPackage(b, 2, 0, n, 100, 1)
	recent := benchPackage(b, 2, n-n/10, n, 10, 1)
	same := full
	same.Serial, same.RunID = 2, "again"
	for _, c := range []struct {
		name   string
		p      load.Package
		base   *load.Package
		verify load.Verify
	}{
		{"first/verify=full", full, nil, load.VerifyFull},
		{"first/verify=off", full, nil, load.VerifyOff},
		{"onepercent/spread", spread, &full, load.VerifyFull},
		{"onepercent/recent", recent, &full, load.VerifyFull},
		{"unchanged", same, &full, load.VerifyFull},
	} {
		b.Run(c.name, func(b *testing.B) {
			base := filepath.Join(b.TempDir(), "base.duckdb")
			if c.base != nil {
				p := *c.base
				p.Verify = load.VerifyOff
				commit(b, open(b, base), p)
			}
			for b.Loop() {
				b.StopTimer()
				path := filepath.Join(b.TempDir(), "contacts.duckdb")
				if c.base != nil {
					data, err := os.ReadFile(base)
					if err != nil {
						b.Fatal(err)
					}
					if err := os.WriteFile(path, data, 0o600); err != nil {
						b.Fatal(err)
					}
				}
				l := open(b, path, func(o *duckdb.Options) { o.MemoryLimit = os.Getenv("SLUICE_BENCH_MEMORY") })
				p := c.p
				p.Verify = c.verify
				b.StartTimer()
				r := commit(b, l, p)
				if r.New+r.Changed+r.Unchanged == 0 {
					b.Fatalf("result is %+v", r)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
