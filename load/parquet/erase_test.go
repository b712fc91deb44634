package parquet_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/atomicfile/faultfs"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/load/parquet"
)

// person is planted in a table and then to be gone. Plain files keep short
// texts readable in their bytes.
const person = "5d1c7a3e-1111-4222-8333-444455556666"

var traces = []string{person, "Petronila", "+56955501234", "petronila@example.com"}

func plainFiles(o *parquet.Options) { o.Plain = true }

// withPerson is a table with the person in several versions, one of them alone
// in its month and one alone in its file of history; moved is among the results.
func withPerson(t *testing.T, root string) (l *parquet.Loader, others []string) {
	t.Helper()
	l = open(t, root, on(unsynced{}), plainFiles)
	planted := func(month, updated int, email string) loadtest.Row {
		return contact(person, month, updated, "name", traces[1], "phone", traces[2], "email", email)
	}
	commit(t, l, build(t, 1, contact("ana", 1, -9, "name", "Ana"), planted(1, -9, traces[3]), contact("bo", 2, -9, "name", "Bo")))
	commit(t, l, loadtest.Build(t, loadtest.Spec{Serial: 2, Extracted: loadtest.Epoch.AddDate(0, 0, 2), Rows: []loadtest.Row{planted(1, -8, "")}}))
	if r := commit(t, l, build(t, 3, planted(5, -7, traces[3]), contact("cy", 2, -9))); r.Moved != 1 {
		t.Fatalf("result is %+v", r)
	}
	return l, []string{"ana", "bo", "cy"}
}

// found lists which files below dir hold one of the traces.
func found(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if slices.ContainsFunc(traces, func(s string) bool { return bytes.Contains(data, []byte(s)) || strings.Contains(path, s) }) {
			rel, _ := filepath.Rel(dir, path)
			out = append(out, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func ids(rows []loadtest.Row) []string {
	out := []string{}
	for _, r := range rows {
		out = append(out, r.ID())
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func TestErasingLeavesNothingOfAContact(t *testing.T) {
	root := t.TempDir()
	l, others := withPerson(t, root)
	if got := found(t, root); len(got) < 6 {
		t.Fatalf("the person is planted in %v only", got)
	}
	e := load.Erasure{Lineage: "lineage-a", ID: person, DryRun: true}
	before := snapshot(t, root)
	want := load.Erased{Current: 1, History: 3, Names: 1, Files: 4}
	if r, err := l.Erase(t.Context(), e); err != nil || r != want {
		t.Errorf("a dry run finds %+v, %v, want %+v", r, err, want)
	}
	if d := cmp.Diff(before, snapshot(t, root)); d != "" {
		t.Errorf("a dry run changes the table:\n%s", d)
	}
	e.DryRun = false
	if r, err := l.Erase(t.Context(), e); err != nil || r != want {
		t.Errorf("it removes %+v, %v, want %+v", r, err, want)
	}
	if got := found(t, root); len(got) > 0 {
		t.Errorf("traces are left in %v", got)
	}
	wantSound(t, l)
	for _, rows := range [][]loadtest.Row{current(t, l.Dir()), history(t, l.Dir())} {
		if d := cmp.Diff(others, ids(rows)); d != "" {
			t.Errorf("contacts (-want +got):\n%s", d)
		}
	}
	if _, err := os.Stat(filepath.Join(l.Dir(), "current", "created_month=2026-05")); !os.IsNotExist(err) {
		t.Errorf("the person's month: %v", err)
	}
	before = snapshot(t, root)
	if r, err := l.Erase(t.Context(), e); err != nil || r.Any() {
		t.Errorf("again: %+v, %v", r, err)
	}
	if d := cmp.Diff(before, snapshot(t, root)); d != "" {
		t.Errorf("erasing again changes the table:\n%s", d)
	}
	// The table goes on, and the source may bring the person back.
	if r := commit(t, l, build(t, 4, contact(person, 1, 1), contact("ana", 1, 1, "name", "Anna"))); r.New != 1 || r.Changed != 1 {
		t.Errorf("result is %+v", r)
	}
	if r := commit(t, l, build(t, 4, contact(person, 1, 1))); r.New != 1 {
		t.Errorf("committed again: %+v", r)
	}
	wantSound(t, l)
}

func TestErasingTheOnlyContactLeavesATableThatWorks(t *testing.T) {
	l := open(t, t.TempDir(), on(unsynced{}))
	commit(t, l, build(t, 1, contact(person, 1, 1)))
	if _, err := l.Erase(t.Context(), load.Erasure{Lineage: "lineage-a", ID: person}); err != nil {
		t.Fatal(err)
	}
	wantSound(t, l)
	db := duck(t)
	runViews(t, db, l.Dir())
	if rows := query(t, db, "SELECT count(*) AS n FROM contacts_history"); rows[0]["n"] != int64(0) {
		t.Errorf("history has %v", rows)
	}
	commit(t, l, build(t, 2, contact("ana", 1, 1)))
	wantSound(t, l)
}

func TestErasingKeepsToItsTable(t *testing.T) {
	root := t.TempDir()
	l := open(t, root)
	if r, err := l.Erase(t.Context(), load.Erasure{Lineage: "lineage-a", ID: person}); err != nil || r.Any() {
		t.Errorf("a table that is not there: %+v, %v", r, err)
	}
	if entries, err := os.ReadDir(root); err != nil || len(entries) > 0 {
		t.Errorf("it left %v, %v", entries, err)
	}
	l, _ = withPerson(t, root)
	before := snapshot(t, root)
	if _, err := l.Erase(t.Context(), load.Erasure{Lineage: "another", ID: person}); !errors.Is(err, load.ErrForeign) {
		t.Errorf("another state's table: %v", err)
	}
	if _, err := l.Erase(t.Context(), load.Erasure{Lineage: "lineage-a"}); err == nil {
		t.Error("no id was given")
	}
	if r, err := l.Erase(t.Context(), load.Erasure{Lineage: "lineage-a", ID: "nobody"}); err != nil || r.Any() {
		t.Errorf("nobody: %+v, %v", r, err)
	}
	if d := cmp.Diff(before, snapshot(t, root)); d != "" {
		t.Errorf("the table changes:\n%s", d)
	}
}

// Stopped anywhere, a contact is erased wholly, once the next call has completed
// what was recorded, or not at all.
func TestErasingHappensWhollyOrNotAtAll(t *testing.T) {
	slow(t)
	scratch := t.TempDir()
	base, root := filepath.Join(scratch, "base"), filepath.Join(scratch, "lake")
	withPerson(t, root) // views.sql names it
	copyTree(t, root, base)
	fresh := func() {
		if err := os.RemoveAll(root); err != nil {
			t.Fatal(err)
		}
		copyTree(t, base, root)
	}
	e := load.Erasure{Lineage: "lineage-a", ID: person}
	fresh()
	count := faultfs.New(unsynced{}, faultfs.Fault{})
	if _, err := open(t, root, on(count), plainFiles).Erase(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	ops := count.Trace()
	t.Logf("%d operations", len(ops))
	happened := 0
	db := duck(t)
	for i, op := range ops {
		if strings.HasPrefix(op, "write") && i%8 != 0 || i%2 != 0 && i < len(ops)/2 {
			continue
		}
		fresh()
		_, err := open(t, root, on(faultfs.New(unsynced{}, faultfs.Fault{Op: i + 1, Err: faultfs.ErrKilled, Sticky: true})), plainFiles).Erase(t.Context(), e)
		l := open(t, root, on(unsynced{}), plainFiles)
		wantSound(t, l) // completes what was recorded
		left := found(t, root)
		switch rows := len(query(t, db, historyGlob(l.Dir()))); {
		case len(left) == 0 && rows == 3:
			happened++
		case err == nil:
			t.Errorf("stopped at %d (%s): it succeeds, and %v are left", i+1, op, left)
		case rows != 6 || !slices.Equal(ids(query(t, db, bareGlob(l.Dir()))), []string{person, "ana", "bo", "cy"}):
			t.Errorf("stopped at %d (%s): %d versions and %v are left", i+1, op, rows, left)
		}
		if _, err := l.Erase(t.Context(), e); err != nil || len(found(t, root)) > 0 {
			t.Errorf("stopped at %d (%s): afterwards %v are left, %v", i+1, op, found(t, root), err)
		}
	}
	if happened == 0 {
		t.Error("it was never stopped after it was recorded")
	}
}

func TestErasingRefusesAFileThatIsNotWhatWasWritten(t *testing.T) {
	l, _ := withPerson(t, t.TempDir())
	m := manifest(t, l.Dir())
	m.History[0].SHA256 = strings.Repeat("0", 64)
	setManifest(t, l, m)
	_, err := l.Erase(t.Context(), load.Erasure{Lineage: "lineage-a", ID: person})
	wantError(t, err, "checksum")
}
