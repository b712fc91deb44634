package parquet_test

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/atomicfile/faultfs"
	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/load/parquet"
	"github.com/sluice-etl/sluice/schemas"
)

// onDay dates commits on the n-th day after Epoch.
func onDay(n int) func(*parquet.Options) {
	return func(o *parquet.Options) { o.Clock = clock.Fixed(loadtest.Epoch.AddDate(0, 0, n).Add(time.Hour)) }
}

// often commits packages that each change a few contacts, several a day, and
// returns the packages. The last day has a new column.
func often(t *testing.T, days, each int) []load.Package {
	t.Helper()
	var out []load.Package
	for day := range days {
		for n := range each {
			serial := int64(len(out) + 1)
			s := loadtest.Spec{Serial: serial, Verify: load.VerifyOff, Extracted: loadtest.Epoch.AddDate(0, 0, day).Add(time.Duration(n) * time.Minute)}
			for i := range 5 {
				s.Rows = append(s.Rows, contact(fmt.Sprint("c", (n*3+i)%9), 1+(n*3+i)%9%3, int(serial)-1000, "name", fmt.Sprint(serial)))
			}
			if day == days-1 && n == 0 {
				s.Extra = []schemas.Column{loadtest.Extra("cf_ticket_x", schemas.Int64)}
				s.Rows[0] = s.Rows[0].With("cf_ticket_x", 7)
			}
			out = append(out, loadtest.Build(t, s))
		}
	}
	return out
}

// historyRows are the versions that history holds, however often.
func historyRows(t *testing.T, dir string) []string {
	t.Helper()
	return historyRowsOf(t, duck(t), dir)
}

func historyRowsOf(t *testing.T, db *sql.DB, dir string) []string {
	t.Helper()
	out := []string{}
	for _, r := range query(t, db, historyGlob(dir)) {
		out = append(out, fmt.Sprint(r.ID(), " ", r["name"], " ", r[schemas.ColPackage], " ", r[schemas.ColRow], " ", r["cf_ticket_x"]))
	}
	slices.Sort(out)
	return out
}

// historyFiles lists the files of history, without the day's prefix.
func historyFiles(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "history", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range files {
		files[i] = strings.TrimPrefix(f, filepath.Join(dir, "history", "extracted_date="))
	}
	return files
}

func TestHistoryOfDaysThatAreOverIsMerged(t *testing.T) {
	packages := often(t, 3, 4)
	plain := open(t, t.TempDir(), on(unsynced{}), func(o *parquet.Options) { o.CompactRows = -1 })
	root := t.TempDir()
	var l *parquet.Loader
	for i, p := range packages {
		commit(t, plain, p)
		l = open(t, root, on(unsynced{}), onDay(i/4))
		commit(t, l, p)
	}
	want := []string{
		"2026-09-01/merged-00000006-0001.parquet", "2026-09-02/merged-00000011-0001.parquet",
		"2026-09-03/00000009-0001.parquet", "2026-09-03/00000010-0001.parquet", "2026-09-03/00000011-0001.parquet", "2026-09-03/00000012-0001.parquet",
	}
	if d := cmp.Diff(want, historyFiles(t, l.Dir())); d != "" {
		t.Errorf("files of history (-want +got):\n%s", d)
	}
	if d := cmp.Diff(historyRows(t, plain.Dir()), historyRows(t, l.Dir())); d != "" {
		t.Errorf("history (-want +got):\n%s", d)
	}
	wantSound(t, l)
	// The last day, and the file of before the new column gets it.
	l = open(t, root, on(unsynced{}), onDay(9))
	commit(t, l, loadtest.Build(t, loadtest.Spec{Serial: 13}))
	if d := cmp.Diff(append(want[:2:2], "2026-09-03/merged-00000016-0001.parquet"), historyFiles(t, l.Dir())); d != "" {
		t.Errorf("files of history (-want +got):\n%s", d)
	}
	if d := cmp.Diff(historyRows(t, plain.Dir()), historyRows(t, l.Dir())); d != "" {
		t.Errorf("history (-want +got):\n%s", d)
	}
	wantSound(t, l)
	before := snapshot(t, l.Dir())
	commit(t, l, loadtest.Build(t, loadtest.Spec{Serial: 14}))
	for path, sum := range snapshot(t, l.Dir()) {
		if strings.HasPrefix(path, "history/") && before[path] != sum {
			t.Errorf("%s is merged again", path)
		}
	}
	if r := commit(t, l, packages[len(packages)-1]); len(r.Files) == 0 || r.Files[0].Path != "history/extracted_date=2026-09-03/00000012-0001.parquet" {
		t.Errorf("a package committed again has another result: %+v", r)
	}
}

func TestMergingIsBoundedAndEndsAllTheSame(t *testing.T) {
	packages := often(t, 4, 5) // 25 rows a day in five files
	root := t.TempDir()
	for _, p := range packages {
		commit(t, open(t, root, on(unsynced{}), func(o *parquet.Options) { o.CompactRows = -1 }), p)
	}
	var counts []int
	for n := range 6 {
		l := open(t, root, on(unsynced{}), onDay(9), func(o *parquet.Options) { o.CompactRows = 25 })
		commit(t, l, loadtest.Build(t, loadtest.Spec{Serial: int64(100 + n)}))
		counts = append(counts, len(historyFiles(t, l.Dir())))
		wantSound(t, l)
	}
	if d := cmp.Diff([]int{16, 12, 8, 4, 4, 4}, counts); d != "" {
		t.Errorf("files after each commit (-want +got):\n%s", d)
	}
}

func TestMergedFilesStayBelowTheirSize(t *testing.T) {
	packages := often(t, 1, 9)
	root := t.TempDir()
	commitAll := func(o func(*parquet.Options), packages ...load.Package) *parquet.Loader {
		l := open(t, root, on(unsynced{}), o)
		for _, p := range packages {
			commit(t, l, p)
		}
		return l
	}
	l := commitAll(func(o *parquet.Options) { o.CompactRows = -1 }, packages...)
	size := manifest(t, l.Dir()).History[0].Bytes
	l = commitAll(func(o *parquet.Options) { onDay(3)(o); o.CompactBytes = size*7/2 + 100 }, loadtest.Build(t, loadtest.Spec{Serial: 100}))
	if got := len(historyFiles(t, l.Dir())); got != 3 {
		t.Errorf("nine files of which three fit into one become %d", got)
	}
	wantSound(t, l)
}

// A file that is not what was written is not merged: it would be right then.
func TestDamagedFilesAreNotMerged(t *testing.T) {
	packages := often(t, 1, 3)
	root := t.TempDir()
	for _, p := range packages {
		commit(t, open(t, root, on(unsynced{})), p)
	}
	l := open(t, root, on(unsynced{}), onDay(3))
	path := filepath.Join(l.Dir(), manifest(t, l.Dir()).History[1].Path)
	data, err := os.ReadFile(path)
	data[60] ^= 1
	if err := orElse(err, os.WriteFile(path, data, 0o600)); err != nil {
		t.Fatal(err)
	}
	commit(t, l, loadtest.Build(t, loadtest.Spec{Serial: 100}))
	if got := len(historyFiles(t, l.Dir())); got != 3 {
		t.Errorf("history has %d files", got)
	}
	if found, _ := verified(t, l); len(found) == 0 || !strings.HasPrefix(found[0], "changed_file ") {
		t.Errorf("verification finds %v", found)
	}
}

// Killed at any operation, no version is missing from history at any time, and
// the next commit ends where an undisturbed one does.
func TestMergingConvergesWhereverItIsStopped(t *testing.T) {
	slow(t)
	packages := often(t, 2, 3)
	scratch := t.TempDir()
	base, root := filepath.Join(scratch, "base"), filepath.Join(scratch, "lake")
	for _, p := range packages {
		commit(t, open(t, base, on(unsynced{})), p)
	}
	want := historyRows(t, filepath.Join(base, "contacts"))
	fresh := func() {
		if err := os.RemoveAll(root); err != nil {
			t.Fatal(err)
		}
		copyTree(t, base, root)
	}
	empty := loadtest.Build(t, loadtest.Spec{Serial: 100, Coverage: []byte(`{"n":1}`)})
	last := loadtest.Build(t, loadtest.Spec{Serial: 101})
	fresh()
	count := faultfs.New(unsynced{}, faultfs.Fault{})
	dir := open(t, root, onDay(5), on(count)).Dir()
	commit(t, open(t, root, onDay(5), on(count)), empty)
	ops := count.Trace()
	if n := len(historyFiles(t, dir)); n != 2 {
		t.Fatalf("undisturbed, history ends in %d files", n)
	}
	t.Logf("%d operations", len(ops))
	own := slices.IndexFunc(ops, func(op string) bool { return strings.Contains(op, "merged-") })
	if own < 0 {
		t.Fatalf("no operation is of a merged file: %v", ops)
	}
	db := duck(t)
	for i, op := range ops {
		if i < own || strings.HasPrefix(op, "write") && i%16 != 0 { // before it is the commit of the package
			continue
		}
		faults := []faultfs.Fault{{Op: i + 1, Err: faultfs.ErrKilled, Sticky: true}, {Op: i + 1, Err: faultfs.ErrIO}}
		for _, f := range faults[:1+i%2] {
			fresh()
			r, err := open(t, root, onDay(5), on(faultfs.New(unsynced{}, f))).Commit(t.Context(), empty)
			if err == nil && r.New+r.Changed+r.Versions != 0 {
				t.Errorf("%+v: result is %+v", f, r)
			}
			if got := slices.Compact(historyRowsOf(t, db, dir)); !slices.Equal(got, want) {
				t.Errorf("%+v (%s): history lacks or has more:\n%s", f, op, cmp.Diff(want, got))
			}
			l := open(t, root, onDay(5), on(unsynced{}))
			commit(t, l, empty)
			commit(t, l, last)
			if got := historyRowsOf(t, db, dir); !slices.Equal(got, want) || len(historyFiles(t, dir)) != 2 {
				t.Errorf("%+v (%s): the next commit ends with %v:\n%s", f, op, historyFiles(t, dir), cmp.Diff(want, got))
			}
			if i%5 == 0 {
				wantSound(t, l)
			}
			if _, err := os.Stat(filepath.Join(dir, "_staging")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%+v (%s): _staging is left", f, op)
			}
		}
	}
}
