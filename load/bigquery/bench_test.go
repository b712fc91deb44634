//go:build cgo && (linux || darwin) && (amd64 || arm64)

package bigquery

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/bigquery/bqtest"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/schemas"
)

// benchChild has the test binary serve benchmarks: the stand-in's CPU and
// memory are then not the loader's.
const benchChild = "SLUICE_BENCH_SERVER"

// benchRows is the size of the benchmarked package; SLUICE_BENCH_ROWS changes
// it.
func benchRows(tb testing.TB) int {
	tb.Helper()
	n, err := strconv.Atoi(cmp.Or(os.Getenv("SLUICE_BENCH_ROWS"), "20000"))
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

// benchPackage makes a package of contacts of three years, 37 columns and 1.26 kB
// of JSON a row.
func benchPackage(tb testing.TB, n int) load.Package {
	tb.Helper()
	extra := []schemas.Column{
		loadtest.Extra("cf_customer_visits", schemas.Int64), loadtest.Extra("cf_customer_score", schemas.Float64),
		loadtest.Extra("cf_customer_vip", schemas.Bool), loadtest.Extra("cf_customer_prefs", schemas.JSON),
	}
	for i := range 13 {
		extra = append(extra, loadtest.Extra(fmt.Sprintf("cf_ticket_field_%02d", i), schemas.String))
	}
	rows := make([]loadtest.Row, n)
	for i := range rows {
		r := rand.New(rand.NewPCG(uint64(i), 7)) //nolint:gosec // numbers from 0
		uuid := func() string {
			return fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", r.Uint32(), i&0xffff, r.IntN(4096), r.IntN(4096), i)
		}
		created := loadtest.Epoch.Add(-time.Duration(i) * 3 * 365 * 24 * time.Hour / time.Duration(n)).Truncate(time.Millisecond)
		row := loadtest.Contact(uuid(), created, loadtest.Epoch.Add(time.Duration(i)*time.Millisecond),
			"name", fmt.Sprintf("Name %d", r.IntN(1e8)), "phone", fmt.Sprintf("+569%08d", r.IntN(1e8)), "email", fmt.Sprintf("n%d@example.com", r.IntN(1e8)),
			"platform", []string{"whatsapp", "instagram", "web"}[r.IntN(3)], "last_message_at", created.Add(time.Hour), "chat_status", "open",
			"client_id", "client-1", "ai_customer_id", uuid(), "default_stage_id", uuid(), "blocked", r.IntN(20) == 0, "is_chat_read", true,
			"active_ticket_v2_id", uuid(), "active_ticket_v2_current_stage_id", uuid(),
			"cf_customer_visits", int64(r.IntN(1000)), "cf_customer_score", r.Float64(), "cf_customer_vip", r.IntN(2) == 0,
			"cf_customer_prefs", fmt.Sprintf(`{"lang":"es","tags":[%d,%d]}`, r.IntN(100), r.IntN(100)))
		for k := range 13 {
			if r.IntN(3) > 0 {
				row[fmt.Sprintf("cf_ticket_field_%02d", k)] = "value " + strconv.Itoa(r.IntN(500))
			}
		}
		rows[i] = row
	}
	return loadtest.Build(tb, loadtest.Spec{Serial: 1, Lineage: testLineage, Rows: rows, Extra: extra, PartRows: 131072})
}

// served is what the server's process tells.
type served struct {
	URL, Addr, Project string
	Package            load.Package
}

// TestServesBenchmarks is the server's process: it ends with its input.
func TestServesBenchmarks(t *testing.T) {
	if os.Getenv(benchChild) == "" {
		t.Skip("for benchmarks")
	}
	s := standIn(t, bqtest.Options{Dir: t.TempDir()})
	out := served{URL: s.URL(), Addr: s.Addr(), Project: s.Project(), Package: benchPackage(t, benchRows(t))}
	if err := json.NewEncoder(os.Stdout).Encode(out); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		t.Error(err)
	}
}

// serve starts the server's process.
func serve(b *testing.B) served {
	b.Helper()
	c := exec.CommandContext(b.Context(), os.Args[0], "-test.run=^TestServesBenchmarks$") //nolint:gosec // this binary
	c.Env = append(os.Environ(), benchChild+"=1")
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := c.Start(); err != nil {
		b.Fatal(err)
	}
	r := bufio.NewReader(out)
	b.Cleanup(func() {
		_ = in.Close()
		_, _ = io.Copy(io.Discard, r)
		_ = c.Wait() // ended by the end of its input, or with the test's context
	})
	var s served
	line, err := r.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &s)
	}
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// cpu is what this process has used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// peak is the most memory that this process has had, in MiB.
func peak(b *testing.B) float64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	if runtime.GOOS == "darwin" {
		return float64(u.Maxrss) / (1 << 20)
	}
	return float64(u.Maxrss) / (1 << 10)
}

// BenchmarkCommit commits a first package by each method. rows/s is with the
// stand-in, whose time is most of it; the CPU and the memory are the loader's
// alone, the latter right only for a method that is run by itself.
func BenchmarkCommit(b *testing.B) {
	for _, method := range []Method{Stream, Load, CDC} {
		b.Run(string(method), func(b *testing.B) {
			s := serve(b)
			rows := 0
			var used time.Duration
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				l, err := New(b.Context(), Options{
					Project: s.Project, Dataset: "crm", Table: fmt.Sprintf("bench_%d", i), CreateDataset: true, Method: method, Endpoint: s.URL, GRPCEndpoint: s.Addr,
				})
				if err != nil {
					b.Fatal(err)
				}
				before := cpu(b)
				b.StartTimer()
				if _, err := l.Commit(b.Context(), s.Package); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				used += cpu(b) - before
				for _, p := range s.Package.Parts {
					rows += int(p.Rows)
				}
				if err := l.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
			b.ReportMetric(float64(used.Nanoseconds())/float64(rows), "cpu-ns/row")
			b.ReportMetric(peak(b), "peak-MiB")
		})
	}
}

// BenchmarkStage is the way to the staging table alone: reading the parts,
// encoding, and sending.
func BenchmarkStage(b *testing.B) {
	for _, method := range []Method{Stream, Load} {
		b.Run(string(method), func(b *testing.B) {
			s := serve(b)
			r, err := newRemote(b.Context(), Options{
				Project: s.Project, Dataset: "crm", Table: "bench", CreateDataset: true, Method: method, Endpoint: s.URL, GRPCEndpoint: s.Addr,
			})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = r.Close() })
			table, err := ensureFor(b.Context(), r, s.Package.Table)
			if err != nil {
				b.Fatal(err)
			}
			rows, before := int64(0), cpu(b)
			for b.Loop() {
				st, err := r.stage(b.Context(), s.Package, table, false)
				if err != nil {
					b.Fatal(err)
				}
				rows += st.Rows
			}
			b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
			b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/float64(rows), "cpu-ns/row")
			b.ReportMetric(peak(b), "peak-MiB")
		})
	}
}

// BenchmarkEncode is the encoding of records alone, in each of the formats, by
// CPU time: other processes then do not count.
func BenchmarkEncode(b *testing.B) {
	p := benchPackage(b, 8192)
	var records []arrow.Record
	err := eachRecord(b.Context(), p.Parts[0], p.Table, nil, func(rec arrow.Record) error {
		rec.Retain()
		records = append(records, rec)
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	arrows, err := newArrowWriter(stagedColumns(p.Table, func(string) bool { return true }), 1, memo{Attempt: 1})
	if err != nil {
		b.Fatal(err)
	}
	protos, lines := newProtoWriter(p.Table, p.RunID, 1), newJSONWriter(1, memo{Attempt: 1})
	for _, c := range []struct {
		name   string
		encode func(rec arrow.Record) (int64, error)
	}{
		{"arrow", func(rec arrow.Record) (n int64, err error) {
			return n, arrows.batches(rec, func(b *batch) error { n += int64(len(b.arrow)); return nil })
		}},
		{"proto", func(rec arrow.Record) (n int64, err error) {
			enc, err := protos.record(rec, 1)
			for i := 0; err == nil && i < int(rec.NumRows()); i++ {
				n += int64(len(enc.message(i, "insert")))
			}
			return n, err
		}},
		{"json", func(rec arrow.Record) (int64, error) {
			var n byteCount
			err := lines.lines(&n, rec, p.Table)
			return int64(n), err
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			var rows, cells, size int64
			before := cpu(b)
			for b.Loop() {
				for _, rec := range records {
					n, err := c.encode(rec)
					if err != nil {
						b.Fatal(err)
					}
					rows, cells, size = rows+rec.NumRows(), cells+rec.NumRows()*rec.NumCols(), size+n
				}
			}
			used := float64((cpu(b) - before).Nanoseconds())
			b.ReportMetric(used/float64(rows), "cpu-ns/row")
			b.ReportMetric(used/float64(cells), "cpu-ns/cell")
			b.ReportMetric(float64(size)/float64(rows), "B/row")
		})
	}
}

// byteCount counts what is written to it.
type byteCount int64

func (c *byteCount) Write(p []byte) (int, error) {
	*c += byteCount(len(p))
	return len(p), nil
}
