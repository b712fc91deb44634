package parquet_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/atomicfile/faultfs"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/load/parquet"
	"github.com/sluice-etl/sluice/schemas"
)

// list returns the rows of a listing in order of id.
func list(tb testing.TB, l *parquet.Loader, q load.Listing) ([]loadtest.Row, error) {
	tb.Helper()
	q.Lineage = "lineage-a"
	rows := []loadtest.Row{}
	err := l.List(tb.Context(), q, func(rec arrow.Record) error {
		rows = append(rows, loadtest.Rows(tb, rec)...)
		return nil
	})
	loadtest.Sort(rows)
	return rows, err
}

// A commit that was stopped is either listed as if it never began, or whole:
// what the numbered manifest records is put in place first.
func TestAListingIsNeverOfHalfACommit(t *testing.T) {
	slow(t)
	tr := newTrial(t, scenarios(t)[1])
	listing := func(root string) []loadtest.Row {
		rows, err := list(t, open(t, root), load.Listing{})
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
	before := listing(tr.fresh(t))
	commit(t, open(t, tr.root, on(unsynced{})), tr.p)
	after := listing(tr.root)
	seen := map[string]int{}
	for i, op := range tr.ops {
		if (strings.HasPrefix(op, "write") && i%40 != 0) || (seen["completed"] == 0 && i%3 != 0) {
			continue
		}
		root := tr.fresh(t)
		_, err := open(t, root, on(faultfs.New(unsynced{}, faultfs.Fault{Op: i + 1, Err: faultfs.ErrKilled, Sticky: true}))).Commit(t.Context(), tr.p)
		want, what := before, "old"
		if _, recorded := os.Stat(filepath.Join(root, "contacts", "_manifests", "00000002.json")); recorded == nil {
			want, what = after, "completed"
			if err == nil {
				what = "new"
			}
		}
		seen[what]++
		if d := cmp.Diff(want, listing(root)); d != "" {
			t.Fatalf("killed at operation %d (%s): listing (-%s +got):\n%s", i+1, op, what, d)
		}
		if r := commit(t, open(t, root, on(unsynced{})), tr.p); !cmp.Equal(tr.result, r) {
			t.Errorf("killed at operation %d: the commit after the listing gives %+v, want %+v", i+1, r, tr.result)
		}
		if d := cmp.Diff(tr.after, snapshot(t, filepath.Join(root, "contacts"))); d != "" {
			t.Errorf("killed at operation %d: the table after listing and commit (-want +got):\n%s", i+1, d)
		}
	}
	t.Log(seen)
	if seen["old"] == 0 || seen["completed"] == 0 {
		t.Errorf("not every case came up: %v", seen)
	}
}

func TestAListingThatCannotCompleteACommitGivesNothing(t *testing.T) {
	root := t.TempDir()
	commit(t, open(t, root), build(t, 1, contact("a", 1, 1), contact("b", 2, 1)))
	l := open(t, root, on(failing{at: "contacts.parquet"}))
	if _, err := l.Commit(t.Context(), build(t, 2, contact("a", 1, 2), contact("b", 2, 2))); err == nil {
		t.Fatal("the commit is complete")
	}
	rows, err := list(t, l, load.Listing{})
	if !errors.Is(err, faultfs.ErrIO) || len(rows) > 0 {
		t.Errorf("listing gives %v, %v", rows, err)
	}
}

// failing cannot move files of one name into place.
type failing struct {
	unsynced
	at string
}

func (f failing) Rename(from, to string) error {
	if filepath.Base(to) == f.at {
		return &fs.PathError{Op: "rename", Path: to, Err: faultfs.ErrIO}
	}
	return f.unsynced.Rename(from, to)
}

func TestAListingLeavesMonthsOutsideItsBoundsUnread(t *testing.T) {
	l := open(t, t.TempDir(), on(unsynced{}))
	commit(t, l, build(t, 1, contact("a", 1, 1), contact("b", 2, 1), contact("c", 3, 1), contact("d", 4, 1)))
	for _, month := range []string{"2026-01", "2026-04"} {
		if err := os.Remove(filepath.Join(l.Dir(), "current", "created_month="+month, "contacts.parquet")); err != nil {
			t.Fatal(err)
		}
	}
	first := func(month int) load.Listing {
		from := loadtest.Epoch.AddDate(0, month-9, 0)
		return load.Listing{Columns: []string{schemas.ColID}, From: from, Until: loadtest.Epoch.AddDate(0, month-7, 0)}
	}
	rows, err := list(t, l, first(2)) // February and March, to the microsecond
	if d := cmp.Diff([]loadtest.Row{{"id": "b"}, {"id": "c"}}, rows); d != "" || err != nil {
		t.Errorf("listing (-want +got), %v:\n%s", err, d)
	}
	for _, month := range []int{1, 3} {
		if _, err := list(t, l, first(month)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a month within the bounds is gone, and the listing gives %v", err)
		}
	}
}

func TestAListingComesInBatches(t *testing.T) {
	const n = 17_000
	l := open(t, t.TempDir(), on(unsynced{}))
	var rows []loadtest.Row
	for i := range n {
		rows = append(rows, contact(fmt.Sprintf("%05d", i), 1, 1))
	}
	commit(t, l, loadtest.Build(t, loadtest.Spec{Serial: 1, Rows: rows, Verify: load.VerifyOff}))
	seen := map[string]bool{}
	err := l.List(t.Context(), load.Listing{Lineage: "lineage-a", Columns: []string{schemas.ColID}}, func(rec arrow.Record) error {
		if rec.NumRows() > 16384 {
			t.Errorf("a batch has %d rows", rec.NumRows())
		}
		for _, r := range loadtest.Rows(t, rec) {
			seen[r.ID()] = true
		}
		return nil
	})
	if err != nil || len(seen) != n {
		t.Errorf("%d contacts are listed, %v", len(seen), err)
	}
}

func TestAListingReportsDamage(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, path string) error{
		"a file is gone":      func(_ *testing.T, path string) error { return os.Remove(path) },
		"a file is cut short": func(_ *testing.T, path string) error { return os.Truncate(path, 200) },
		"a file has other rows": func(t *testing.T, path string) error {
			t.Helper()
			data, err := os.ReadFile(build(t, 1, contact("x", 1, 1), contact("y", 1, 1)).Parts[0].Path)
			return errors.Join(err, os.WriteFile(path, data, 0o600))
		},
		"a file has other columns": func(t *testing.T, path string) error {
			t.Helper()
			data, err := os.ReadFile(build(t, 1, contact("x", 1, 1)).Parts[0].Path)
			return errors.Join(err, os.WriteFile(path, data, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := open(t, t.TempDir(), on(unsynced{}))
			commit(t, l, build(t, 1, contact("a", 1, 1)))
			if err := spoil(t, filepath.Join(l.Dir(), manifest(t, l.Dir()).Current[0].Path)); err != nil {
				t.Fatal(err)
			}
			_, err := list(t, l, load.Listing{})
			wantError(t, err, "created_month=2026-01")
		})
	}
}

func TestAListingKeepsCommitsOut(t *testing.T) {
	root := t.TempDir()
	commit(t, open(t, root, on(unsynced{})), build(t, 1, contact("a", 1, 1)))
	err := open(t, root).List(t.Context(), load.Listing{Lineage: "lineage-a"}, func(arrow.Record) error {
		_, err := open(t, root).Commit(t.Context(), build(t, 2, contact("a", 1, 2)))
		var locked *parquet.LockedError
		if !errors.As(err, &locked) || locked.Holder.PID != os.Getpid() || locked.Holder.RunID != "" {
			t.Errorf("a commit beside it gives %v", err)
		}
		wantError(t, err, fmt.Sprint(os.Getpid()), "reads it", "2026-09-01T00:00:00Z")
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	commit(t, open(t, root, on(unsynced{})), build(t, 2, contact("a", 1, 2)))
}

func TestAListingWaitsForACommit(t *testing.T) {
	root := t.TempDir()
	commit(t, open(t, root, on(unsynced{})), build(t, 1, contact("a", 1, 1, "name", "old")))
	entered, leave := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	slow := &gate{FS: atomicfile.OS{}, at: "00000002.json", entered: entered, leave: leave}
	next := build(t, 2, contact("a", 1, 2, "name", "new"))
	go func() {
		_, err := open(t, root, on(slow)).Commit(context.Background(), next)
		done <- err
	}()
	<-entered
	_, err := list(t, open(t, root), load.Listing{})
	wantError(t, err, "run-002")
	close(leave)
	rows, err := list(t, open(t, root, func(o *parquet.Options) { o.LockWait = 0 }), load.Listing{Columns: []string{"name"}})
	if !slices.ContainsFunc(rows, func(r loadtest.Row) bool { return r["name"] == "new" }) || err != nil {
		t.Errorf("after the commit it lists %v, %v", rows, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
