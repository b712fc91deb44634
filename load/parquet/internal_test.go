package parquet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/sluice-etl/sluice/internal/atomicfile/faultfs"
	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/schemas"
)

func TestCommitsReleaseTheirMemory(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	root := t.TempDir()
	commitWith := func(ctx context.Context, fault faultfs.Fault, s loadtest.Spec) error {
		l, err := New(Options{Path: root, Table: "contacts", Clock: clock.Fixed(loadtest.Epoch), FS: faultfs.New(nil, fault)})
		if err != nil {
			t.Fatal(err)
		}
		l.mem = mem
		_, err = l.Commit(ctx, loadtest.Build(t, s))
		return err
	}
	rows := func(n, step int, pairs ...any) []loadtest.Row {
		var out []loadtest.Row
		for i := 0; i < n; i += step {
			out = append(out, loadtest.Contact(fmt.Sprint(i), loadtest.Epoch.AddDate(0, i%3, 0), loadtest.Epoch.Add(time.Duration(step)), pairs...))
		}
		return out
	}
	extra := []schemas.Column{loadtest.Extra("cf_ticket_x", schemas.Float64)}
	if err := commitWith(t.Context(), faultfs.Fault{}, loadtest.Spec{Serial: 1, Rows: rows(100, 1), PartRows: 40}); err != nil {
		t.Fatal(err)
	}
	if err := commitWith(t.Context(), faultfs.Fault{}, loadtest.Spec{Serial: 2, Rows: rows(100, 3, "name", "x", "cf_ticket_x", 1.5), Extra: extra}); err != nil {
		t.Fatal(err)
	}
	for op := 5; op < 100; op += 10 {
		spec := loadtest.Spec{Serial: 3, Rows: rows(100, 7, "name", "y"), Extra: extra, Verify: load.VerifyOff}
		if err := commitWith(t.Context(), faultfs.Fault{Op: op, Err: faultfs.ErrIO}, spec); err == nil {
			break // committed: every operation failed once
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := commitWith(cancelled, faultfs.Fault{}, loadtest.Spec{Serial: 9, Rows: rows(100, 2, "name", "z"), Extra: extra}); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

func TestPickTakesRowsOfEveryType(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	table := loadtest.Table(
		loadtest.Extra("b", schemas.Bool), loadtest.Extra("d", schemas.Date), loadtest.Extra("f", schemas.Float64),
		loadtest.Extra("i", schemas.Int64), loadtest.Extra("j", schemas.JSON), loadtest.Extra("t", schemas.Timestamp))
	schema := table.Arrow()
	var rows []loadtest.Row
	for i := range 300 {
		r := loadtest.Contact(fmt.Sprint(i), loadtest.Epoch, loadtest.Epoch, schemas.ColRunID, "r", schemas.ColExtractedAt, loadtest.Epoch,
			schemas.ColPackage, 1, schemas.ColRow, i, schemas.ColChange, "insert", schemas.ColHash, i)
		for name, v := range map[string]any{"b": i%2 == 0, "d": loadtest.Epoch.AddDate(0, 0, i), "f": float64(i) / 3, "i": int64(i), "j": fmt.Sprintf("[%d]", i), "t": loadtest.Epoch.Add(time.Duration(i))} {
			if rnd.IntN(4) > 0 {
				r[name] = v
			}
		}
		rows = append(rows, r)
	}
	whole := loadtest.Record(t, schema, rows)
	defer whole.Release()
	for range 50 {
		from := rnd.IntN(200) // a slice: values do not begin at the buffers' begin
		rec := whole.NewSlice(int64(from), 300)
		var idx []int32
		for i := range int32(rec.NumRows()) {
			if rnd.IntN(3) == 0 {
				idx = append(idx, i)
			}
		}
		got, err := pick(mem, rec, idx)
		if err != nil {
			t.Fatal(err)
		}
		var chosen []loadtest.Row
		for _, i := range idx {
			chosen = append(chosen, rows[from+int(i)])
		}
		want := loadtest.Record(t, schema, chosen)
		if !array.RecordEqual(want, got) {
			t.Fatalf("rows %v past %d:\n%v\nwant\n%v", idx, from, got, want)
		}
		want.Release()
		got.Release()
		rec.Release()
	}
}

func TestResultsOfManyFilesDoNotPileUp(t *testing.T) {
	for _, c := range []struct{ packages, files, want int }{
		{3, 400, 2}, {3, 10, 3}, {80, 2, 50}, {80, 0, 50}, {3, 5000, 1}, {1, 5000, 1}, {10, 100, 10},
	} {
		var results []Committed
		for n := range c.packages {
			results = lastResults(append(results, Committed{Package: int64(n), Result: load.Result{Files: make([]load.File, c.files)}}))
		}
		if len(results) != c.want || results[len(results)-1].Package != int64(c.packages-1) {
			t.Errorf("of %d packages with %d files each %d results stay, want the last %d", c.packages, c.files, len(results), c.want)
		}
	}
}

func TestMonthsAndDaysAreUTC(t *testing.T) {
	for text, want := range map[string]string{
		"2026-01-31T23:59:59.999999Z": "2026-01 2026-01-31", "2026-02-01T00:00:00Z": "2026-02 2026-02-01",
		"1969-12-31T23:59:59.999999Z": "1969-12 1969-12-31", "0001-01-01T00:00:00Z": "0001-01 0001-01-01",
		"9999-12-31T23:59:59.999999Z": "9999-12 9999-12-31", "2025-12-31T23:00:00-05:00": "2026-01 2026-01-01",
	} {
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			t.Fatal(err)
		}
		us := at.UnixMicro()
		mo := monthOf(us)
		if got := fmt.Sprint(mo, " ", dayOf(us)); got != want {
			t.Errorf("%s is %s, want %s", text, got, want)
		}
		if from, to := mo.bounds(); us < from || us >= to {
			t.Errorf("%s is outside of its month", text)
		}
		if back, err := monthOfPath(currentPath(mo)); err != nil || back != mo {
			t.Errorf("%s reads back as %s, %v", currentPath(mo), back, err)
		}
	}
}
