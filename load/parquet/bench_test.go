package parquet_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/sluice-etl/sluice/internal/parquetfile"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/load/parquet"
	"github.com/sluice-etl/sluice/schemas"
)

// benchRows is the size of the benchmarked table; SLUICE_BENCH_ROWS changes it.
func benchRows(b *testing.B) int {
	b.Helper()
	n, err := strconv.Atoi(os.Getenv("SLUICE_BENCH_ROWS"))
	if err != nil {
		return 200_000
	}
	return n
}

// benchPackage makes a package of contacts first..last (step apart), about 800
// bytes of JSON each, in parts of 131072 rows. version changes every row.
func benchPackage(b *testing.B, serial int64, first, last, step, version int) load.Package {
	b.Helper()
	var extra []schemas.Column
	for i := range 17 {
		extra = append(extra, loadtest.Extra(fmt.Sprintf("cf_customer_field_%02d", i), schemas.String))
	}
	table := loadtest.Table(extra...)
	p := load.Package{Serial: serial, Lineage: "bench", Pipeline: "bench", RunID: fmt.Sprintf("run-%d", serial), Table: table, Verify: load.VerifyFull}
	cols := append(loadtest.BaseColumns(), extra...)
	cols = append(cols, schemas.StagedColumns()...)
	schema := schemas.Table{Columns: cols}.Arrow()
	dir := b.TempDir()
	row := 0
	for n := 0; first < last; n++ {
		path := filepath.Join(dir, fmt.Sprintf("part-%04d.parquet", n))
		w, err := parquetfile.Create(path, parquetfile.Options{Schema: schema})
		if err != nil {
			b.Fatal(err)
		}
		for k := 0; k < 8 && first < last; k++ {
			rec := benchRecord(schema, &row, &first, last, step, version)
			if err := w.Write(rec); err != nil {
				b.Fatal(err)
			}
			rec.Release()
		}
		stats, err := w.Finish()
		if err != nil {
			b.Fatal(err)
		}
		if err := w.Publish(); err != nil {
			b.Fatal(err)
		}
		p.Parts = append(p.Parts, load.Part{Path: path, Rows: stats.Rows, Bytes: stats.Bytes})
	}
	return p
}

func benchRecord(schema *arrow.Schema, row, first *int, last, step, version int) arrow.Record {
	rb := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer rb.Release()
	created := time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC)
	for k := 0; k < 16384 && *first < last; k++ {
		id := *first
		*first += step
		rnd := rand.New(rand.NewPCG(uint64(id), 7)) //nolint:gosec // a contact is a function of its number
		for i, f := range schema.Fields() {
			switch fb := rb.Field(i).(type) {
			case *array.BooleanBuilder:
				fb.Append(rnd.IntN(20) == 0)
			case *array.Int64Builder:
				switch f.Name {
				case schemas.ColHash:
					fb.Append(int64(id)*1_000_003 + int64(version))
				default:
					fb.Append(int64(*row))
				}
			case *array.TimestampBuilder:
				switch f.Name {
				case schemas.ColDeletedAt:
					fb.AppendNull()
				case schemas.ColCreatedAt: // 1.3 contacts a minute
					fb.Append(arrow.Timestamp(created.Add(time.Duration(id) * 77 * time.Second).UnixMicro()))
				case schemas.ColUpdatedAt:
					fb.Append(arrow.Timestamp(loadtest.Epoch.Add(time.Duration(version) * time.Hour).UnixMicro()))
				default:
					fb.Append(arrow.Timestamp(loadtest.Epoch.UnixMicro() + int64(rnd.IntN(1e9))))
				}
			case *array.StringBuilder:
				switch f.Name {
				case schemas.ColID, "ai_customer_id", "active_ticket_v2_id":
					fb.Append(fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", rnd.Uint32(), id&0xffff, rnd.IntN(4096), rnd.IntN(4096), id))
				case "name", "phone", "email":
					fb.Append(fmt.Sprintf("%s %d", f.Name, rnd.IntN(1e8)))
				default:
					if rnd.IntN(3) == 0 {
						fb.AppendNull()
					} else {
						fb.Append("value " + strconv.Itoa(rnd.IntN(500)))
					}
				}
			}
		}
		*row++
	}
	return rb.NewRecord()
}

// BenchmarkCommit measures a first load, and what a night with one percent of
// changes in the latest months costs against it.
func BenchmarkCommit(b *testing.B) {
	n := benchRows(b)
	full := benchPackage(b, 1, 0, n, 1, 0)
	night := benchPackage(b, 2, n-n/10, n, 10, 1)
	column := benchPackage(b, 2, n-1, n, 1, 1)
	column.Table = loadtest.Table(append(full.Table.Columns[16:33:33], loadtest.Extra("cf_customer_zz", schemas.String))...)
	same := full
	same.Serial, same.RunID = 2, "again"
	for _, c := range []struct {
		name  string
		p     load.Package
		base  *load.Package
		check load.Verify
	}{
		{"full/verify=full", full, nil, load.VerifyFull},
		{"full/verify=off", full, nil, load.VerifyOff},
		{"night", night, &full, load.VerifyFull},
		{"newcolumn", column, &full, load.VerifyFull},
		{"unchanged", same, &full, load.VerifyFull},
	} {
		b.Run(c.name, func(b *testing.B) {
			base := ""
			if c.base != nil {
				base = b.TempDir()
				p := *c.base
				p.Verify = load.VerifyOff
				commit(b, open(b, base), p)
			}
			for b.Loop() {
				b.StopTimer()
				root := filepath.Join(b.TempDir(), "lake")
				if base != "" {
					copyTree(b, base, root)
				}
				l := open(b, root, func(o *parquet.Options) { o.LockWait = time.Minute })
				p := c.p
				p.Verify = c.check
				b.StartTimer()
				r := commit(b, l, p)
				b.StopTimer()
				if r.New+r.Changed+r.Unchanged == 0 {
					b.Fatalf("result is %+v", r)
				}
				if err := os.RemoveAll(root); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
