package parquet_test

import (
	"database/sql"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/atomicfile/faultfs"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/load/parquet"
)

// emptyRun is the package of a run that brought nothing but its coverage.
func emptyRun(tb testing.TB, serial int64) load.Package {
	tb.Helper()
	return loadtest.Build(tb, loadtest.Spec{Serial: serial, Coverage: fmt.Appendf(nil, `{"run": %d, "note": "<&>"}`, serial)})
}

func archiving(n int) func(*parquet.Options) {
	return func(o *parquet.Options) { o.ArchiveRuns = n }
}

// runFiles returns the names of the files with coverage records.
func runFiles(tb testing.TB, dir string) (loose, archives []string) {
	tb.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "_sluice_runs"))
	if err != nil {
		tb.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "archive-") {
			archives = append(archives, e.Name())
		} else {
			loose = append(loose, e.Name())
		}
	}
	return loose, archives
}

// wantRuns checks that the view of runs has those from 1 to last, each once.
func wantRuns(tb testing.TB, db *sql.DB, last int) {
	tb.Helper()
	var lines []string
	for n := range last {
		lines = append(lines, fmt.Sprintf("run-%03d %d <&>", n+1, n+1))
	}
	want(tb, db, "SELECT run_id, coverage->>'run' AS run, coverage->>'note' AS note FROM runs ORDER BY 1", strings.Join(lines, "\n"), "run_id", "run", "note")
}

func TestARunThatBroughtNothingTouchesNoFileOfRows(t *testing.T) {
	l := open(t, t.TempDir(), on(unsynced{}))
	commit(t, l, build(t, 1, contact("a", 1, 1), contact("b", 2, 1)))
	for _, f := range []string{manifest(t, l.Dir()).Current[0].Path, manifest(t, l.Dir()).History[0].Path} {
		if err := os.Remove(filepath.Join(l.Dir(), f)); err != nil { // it would fail if it looked
			t.Fatal(err)
		}
	}
	before := snapshot(t, l.Dir())
	if r := commit(t, l, emptyRun(t, 2)); len(r.Files) != 0 {
		t.Errorf("the result is %+v", r)
	}
	var changed []string
	for path, sum := range snapshot(t, l.Dir()) {
		if before[path] != sum {
			changed = append(changed, path)
		}
	}
	for _, path := range changed {
		if !strings.HasPrefix(path, "_manifests/") && !strings.HasPrefix(path, "_sluice_runs") && path != "views.sql" {
			t.Errorf("%s changed", path)
		}
	}
}

func TestManyEmptyRunsLeaveFewFiles(t *testing.T) {
	const runs, each = 190, 32
	l := open(t, t.TempDir(), on(unsynced{}), archiving(each))
	commit(t, l, loadtest.Build(t, loadtest.Spec{Serial: 1, Coverage: []byte(`{"run": 1, "note": "<&>"}`), Rows: []loadtest.Row{contact("a", 1, 1)}}))
	var size int64
	for n := int64(2); n <= runs; n++ {
		commit(t, l, emptyRun(t, n))
		info, err := os.Stat(filepath.Join(l.Dir(), "_manifests", "latest.json"))
		if err != nil {
			t.Fatal(err)
		}
		if n == 100 {
			size = info.Size()
		}
		if n == runs && info.Size() > size+100 {
			t.Errorf("the manifest grew from %d bytes to %d", size, info.Size())
		}
	}
	loose, archives := runFiles(t, l.Dir())
	if len(loose) >= 50+each || len(archives) != (runs-50)/each || len(loose)+each*len(archives) != runs {
		t.Errorf("%d records stand by themselves, beside the archives %v", len(loose), archives)
	}
	db := duck(t)
	runViews(t, db, l.Dir())
	wantRuns(t, db, runs)
}

// Wherever packing stops, no record is lost and none is shown twice.
func TestPackingRunsConvergesWhereverItIsStopped(t *testing.T) {
	const runs, each = 57, 6 // run 57 is the first that packs
	scratch := t.TempDir()
	root, base := filepath.Join(scratch, "lake"), filepath.Join(scratch, "base")
	dir := filepath.Join(root, "contacts")
	for n := range int64(runs - 2) {
		commit(t, open(t, root, on(unsynced{}), archiving(each)), emptyRun(t, n+1))
	}
	copyTree(t, root, base)
	fresh := func() {
		if err := os.RemoveAll(root); err != nil {
			t.Fatal(err)
		}
		copyTree(t, base, root)
	}
	p, next, after := emptyRun(t, runs-1), emptyRun(t, runs), emptyRun(t, runs+1)
	count := faultfs.New(unsynced{}, faultfs.Fault{})
	commit(t, open(t, root, on(count), archiving(each)), p)
	if _, archives := runFiles(t, dir); len(archives) != 1 {
		t.Fatalf("the commit makes the archives %v", archives)
	}
	db := duck(t)
	runViews(t, db, dir) // once: packing needs no other views
	stopped := 0
	for op, what := range count.Trace() {
		fresh()
		fsys := faultfs.New(unsynced{}, faultfs.Fault{Op: op + 1, Err: faultfs.ErrKilled, Sticky: true})
		if _, err := open(t, root, on(fsys), archiving(each)).Commit(t.Context(), p); err != nil {
			continue // before the commit was complete: not of interest here
		}
		stopped++
		wantRuns(t, db, runs-1)
		commit(t, open(t, root, on(unsynced{}), archiving(each)), next)
		commit(t, open(t, root, on(unsynced{}), archiving(each)), after)
		wantRuns(t, db, runs+1)
		loose, archives := runFiles(t, dir)
		if len(archives) != 1 || len(loose) >= 50+each {
			t.Errorf("stopped at %d (%s): in the end %d records stand by themselves, beside the archives %v", op, what, len(loose), archives)
		}
		if t.Failed() {
			t.Fatalf("stopped at %d: %s", op, what)
		}
	}
	t.Logf("%d of %d operations", stopped, len(count.Trace()))
	if stopped < each {
		t.Errorf("packing was stopped %d times", stopped)
	}
}

func TestAnArchiveThatDoesNotReadBackIsNotPublished(t *testing.T) {
	root := t.TempDir()
	l := open(t, root, on(flippingArchives{}), archiving(3))
	for n := range int64(56) {
		commit(t, l, emptyRun(t, n+1))
	}
	if loose, archives := runFiles(t, l.Dir()); len(loose) != 56 || len(archives) > 0 {
		t.Errorf("%d records stand by themselves, beside the archives %v", len(loose), archives)
	}
	commit(t, open(t, root, on(unsynced{}), archiving(3)), emptyRun(t, 57))
	if loose, archives := runFiles(t, l.Dir()); len(loose) != 54 || len(archives) != 1 {
		t.Errorf("on a good disk, %d records stand by themselves, beside the archives %v", len(loose), archives)
	}
}

// flippingArchives is a disk that turns a bit of every archive.
type flippingArchives struct{ unsynced }

func (f flippingArchives) OpenTemp(path string, perm fs.FileMode) (atomicfile.Temp, error) {
	t, err := f.unsynced.OpenTemp(path, perm)
	if strings.Contains(path, "archive-") {
		return flippingTemp{t}, err
	}
	return t, err
}

func TestAFileThatIsNoRecordStays(t *testing.T) {
	l := open(t, t.TempDir(), on(unsynced{}), archiving(3))
	commit(t, l, emptyRun(t, 1))
	notes := filepath.Join(l.Dir(), "_sluice_runs", "a-note.json")
	if err := os.WriteFile(notes, []byte("no JSON"), 0o600); err != nil {
		t.Fatal(err)
	}
	for n := int64(2); n < 60; n++ {
		commit(t, l, emptyRun(t, n))
	}
	if data, err := os.ReadFile(notes); err != nil || string(data) != "no JSON" {
		t.Errorf("the file holds %q, %v", data, err)
	}
	if _, archives := runFiles(t, l.Dir()); len(archives) == 0 {
		t.Error("it keeps the others from being packed")
	}
}
