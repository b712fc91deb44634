package parquet_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/atomicfile/faultfs"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/load/parquet"
	"github.com/sluice-etl/sluice/schemas"
)

// scenario is a commit that is disturbed: p over what base left.
type scenario struct {
	name string
	base []load.Package
	p    load.Package
}

func scenarios(t *testing.T) []scenario {
	t.Helper()
	row := func(id string, m, minute int, pairs ...any) loadtest.Row {
		return loadtest.Contact(id, loadtest.Epoch.AddDate(0, m-9, 14), loadtest.Epoch.AddDate(0, 0, minute), pairs...)
	}
	one := loadtest.Build(t, loadtest.Spec{Serial: 1, Verify: load.VerifyOff, Coverage: []byte(`{"n":1}`), Rows: []loadtest.Row{
		row("a", 1, 1, "name", "Ana"), row("b", 1, 1, "name", "Bo"), row("c", 1, 1, "name", "Cy"), row("d", 3, 1, "name", "Di"),
	}})
	changes := []loadtest.Row{
		row("b", 1, 2, "name", "Bob"), row("c", 1, 2, "name", "Cy", schemas.ColDeletedAt, loadtest.Epoch), row("d", 3, 1, "name", "Di"),
		row("a", 1, 2, "name", "x"), row("a", 1, 2, "name", "Ana"), row("f", 5, 2, "name", "Flo"),
	}
	two := loadtest.Build(t, loadtest.Spec{Serial: 2, PartRows: 4, Verify: load.VerifySample, Coverage: []byte(`{"n":2}`), Rows: changes})
	changes[0] = changes[0].With("cf_ticket_x", 7)
	wide := loadtest.Build(t, loadtest.Spec{
		Serial: 2, Verify: load.VerifyOff, Extra: []schemas.Column{loadtest.Extra("cf_ticket_x", schemas.Int64)}, Rows: changes,
	})
	return []scenario{
		{"the first package", nil, one},
		{"changes, a tombstone, a new month and a new column", []load.Package{one}, wide},
		{"nothing new", []load.Package{one, two}, loadtest.Build(t, loadtest.Spec{Serial: 3, Verify: load.VerifyOff, Rows: changes[1:2]})},
		{"changes without a new column", []load.Package{one}, two},
		{"contacts move to other months, one of which ends empty", []load.Package{one}, loadtest.Build(t, loadtest.Spec{
			Serial: 2, Verify: load.VerifyOff, Rows: []loadtest.Row{row("d", 1, 2, "name", "Di"), row("b", 4, 2, "name", "Bo")},
		})},
	}
}

// slow leaves out a sweep of faults, one after the other, where time is short, as
// under the race detector: the goroutines of what it stops are those of any
// commit.
func slow(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs one after the other; without -short")
	}
}

// copyTree copies a directory, if there is one.
func copyTree(tb testing.TB, from, to string) {
	tb.Helper()
	if _, err := os.Stat(from); errors.Is(err, os.ErrNotExist) {
		return
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		tb.Fatal(err)
	}
}

// trial is one scenario, undisturbed, to compare with.
type trial struct {
	scenario
	root   string // always the same: views.sql names it
	base   string // a copy of root before the commit
	before map[string]string
	after  map[string]string
	result load.Result
	ops    []string
	bytes  int64
}

func newTrial(t *testing.T, s scenario) *trial {
	t.Helper()
	scratch := t.TempDir()
	tr := &trial{scenario: s, root: filepath.Join(scratch, "lake"), base: filepath.Join(scratch, "base")}
	for _, p := range s.base {
		commit(t, open(t, tr.root, on(unsynced{})), p)
	}
	copyTree(t, tr.root, tr.base)
	tr.before = snapshot(t, filepath.Join(tr.base, "contacts"))
	root := tr.fresh(t)
	count := faultfs.New(unsynced{}, faultfs.Fault{})
	tr.result = commit(t, open(t, root, on(count)), s.p)
	tr.after, tr.ops, tr.bytes = snapshot(t, filepath.Join(root, "contacts")), count.Trace(), count.Bytes()
	for path := range tr.after {
		if strings.Contains(path, "_staging") || strings.Contains(path, ".tmp-") {
			t.Errorf("an undisturbed commit leaves %s", path)
		}
	}
	return tr
}

// unsynced is the operating system without its flushes, which are most of a
// small commit's time; faults are still injected where they are asked for.
type unsynced struct{ atomicfile.OS }

func (u unsynced) OpenTemp(path string, perm fs.FileMode) (atomicfile.Temp, error) {
	f, err := u.OS.OpenTemp(path, perm)
	return unsyncedTemp{f}, err
}

func (unsynced) SyncDir(string) error { return nil }

type unsyncedTemp struct{ atomicfile.Temp }

func (unsyncedTemp) Sync() error { return nil }

func on(fsys atomicfile.FS) func(*parquet.Options) {
	return func(o *parquet.Options) { o.FS = fsys }
}

func (tr *trial) fresh(t *testing.T) string {
	t.Helper()
	if err := os.RemoveAll(tr.root); err != nil {
		t.Fatal(err)
	}
	copyTree(t, tr.base, tr.root)
	return tr.root
}

// disturb commits with each fault in turn, checking what a reader sees after
// each, and then without one.
func (tr *trial) disturb(t *testing.T, faults ...faultfs.Fault) {
	t.Helper()
	root := tr.fresh(t)
	dir := filepath.Join(root, "contacts")
	for _, f := range faults {
		fsys := faultfs.New(unsynced{}, f)
		r, err := open(t, root, on(fsys)).Commit(t.Context(), tr.p)
		if err == nil {
			if d := cmp.Diff(tr.result, r); d != "" {
				t.Errorf("%+v: the commit succeeds with another result (-want +got):\n%s", f, d)
			}
		} else if !fsys.Failed() {
			t.Errorf("%+v: fails without a fault: %v", f, err)
		}
		tr.oldOrNew(t, fmt.Sprintf("%+v", f), snapshot(t, dir), err == nil)
	}
	r, err := open(t, root, on(unsynced{})).Commit(t.Context(), tr.p)
	if err != nil {
		t.Fatalf("%+v: the next commit fails: %v", faults, err)
	}
	if d := cmp.Diff(tr.result, r); d != "" {
		t.Errorf("%+v: the next commit has another result (-want +got):\n%s", faults, d)
	}
	if d := cmp.Diff(tr.after, snapshot(t, dir)); d != "" {
		t.Fatalf("%+v: the next commit ends in another table (-want +got):\n%s", faults, d)
	}
}

// oldOrNew checks that every file a reader looks at is the one before or the
// one after, none is missing, and no other is there.
func (tr *trial) oldOrNew(t *testing.T, what string, now map[string]string, done bool) {
	t.Helper()
	seen := func(path string) bool {
		return strings.HasSuffix(path, ".parquet") && (strings.HasPrefix(path, "current/") || strings.HasPrefix(path, "history/"))
	}
	for path, sum := range now {
		if seen(path) && sum != tr.before[path] && sum != tr.after[path] {
			t.Errorf("%s: %s is neither the old file nor the new one", what, path)
		}
		if seen(path) && done && sum != tr.after[path] {
			t.Errorf("%s: the commit succeeds and %s is still the old one", what, path)
		}
	}
	for path := range tr.before {
		_, still := now[path]
		if _, stays := tr.after[path]; seen(path) && !still && stays {
			t.Errorf("%s: %s is gone", what, path)
		}
	}
	for path := range tr.after {
		if _, there := now[path]; seen(path) && done && !there {
			t.Errorf("%s: the commit succeeds without %s", what, path)
		}
	}
}

func TestCommitConvergesWhereverItIsStopped(t *testing.T) {
	slow(t)
	all := scenarios(t)
	for _, s := range append(all[:3:3], all[4]) {
		t.Run(strings.ReplaceAll(s.name, ",", ""), func(t *testing.T) {
			t.Parallel()
			tr := newTrial(t, s)
			t.Logf("%d operations, %d bytes", len(tr.ops), tr.bytes)
			for i, op := range tr.ops {
				// Writes to one file are all alike: internal/parquetfile sweeps them.
				if strings.HasPrefix(op, "write") && i%16 != 0 {
					continue
				}
				tr.disturb(t, faultfs.Fault{Op: i + 1, Err: faultfs.ErrKilled, Sticky: true})
				if i%5 == 0 {
					tr.disturb(t, faultfs.Fault{Op: i + 1, Err: faultfs.ErrIO, Short: true})
				}
			}
		})
	}
}

func TestCommitConvergesAfterFaultUponFault(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	tr := newTrial(t, scenarios(t)[3])
	for range 12 {
		var faults []faultfs.Fault
		for range 1 + rnd.IntN(4) {
			faults = append(faults, faultfs.Fault{Op: 1 + rnd.IntN(len(tr.ops)), Err: faultfs.ErrIO, Sticky: rnd.IntN(2) == 0})
		}
		tr.disturb(t, faults...)
	}
}

func TestCommitConvergesAfterAFullDisk(t *testing.T) {
	slow(t)
	tr := newTrial(t, scenarios(t)[3])
	for n := int64(0); n < tr.bytes; n += tr.bytes/12 + 1 {
		tr.disturb(t, faultfs.Fault{LimitBytes: true, Byte: n, Sticky: true})
	}
}

// A fault before the numbered manifest leaves no trace at all.
func TestFailedCommitLeavesTheTableAsItWas(t *testing.T) {
	tr := newTrial(t, scenarios(t)[1])
	root := tr.fresh(t)
	_, err := open(t, root, on(faultfs.New(unsynced{}, faultfs.Fault{LimitBytes: true, Byte: tr.bytes / 2}))).Commit(t.Context(), tr.p)
	var hinted interface{ Hint() string }
	if !errors.Is(err, faultfs.ErrNoSpace) || !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "disk is full") {
		t.Errorf("error is %v, want one that says that the disk is full and what to do", err)
	}
	if d := cmp.Diff(tr.before, snapshot(t, filepath.Join(root, "contacts"))); d != "" {
		t.Errorf("the table changed (-want +got):\n%s", d)
	}
}
