package parquet_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/parquetfile"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/load/parquet"
	"github.com/sluice-etl/sluice/schemas"
)

// places returns "id=name in month" of every row of current, as readers see it.
func places(t *testing.T, l *parquet.Loader) []string {
	t.Helper()
	out := []string{}
	for _, r := range query(t, duck(t), bareGlob(l.Dir())+" ORDER BY id, created_month") {
		deleted := ""
		if r[schemas.ColDeletedAt] != nil {
			deleted = "!"
		}
		created, _ := r[schemas.ColCreatedAt].(time.Time)
		out = append(out, fmt.Sprintf("%s=%v%s %v", r.ID(), r["name"], deleted, r["created_month"]))
		if created.Format("2006-01") != r["created_month"] {
			t.Errorf("%s was created at %s and stands in %s", r.ID(), created, r["created_month"])
		}
	}
	return out
}

func wantPlaces(t *testing.T, l *parquet.Loader, want ...string) {
	t.Helper()
	if d := cmp.Diff(want, places(t, l)); d != "" {
		t.Errorf("current (-want +got):\n%s", d)
	}
}

func TestAContactWhoseCreatedAtChangesStandsOnce(t *testing.T) {
	l := open(t, t.TempDir(), on(unsynced{}))
	commit(t, l, build(t, 1, contact("ana", 1, 1, "name", "Ana"), contact("bo", 2, 1, "name", "Bo"), contact("cy", 2, 1, "name", "Cy")))
	r := commit(t, l, build(t, 2, contact("bo", 4, 2, "name", "Bo"), contact("di", 4, 2, "name", "Di")))
	r.Files = nil
	if d := cmp.Diff(load.Result{New: 1, Changed: 1, Versions: 2, Moved: 1, MovedIDs: []string{"bo"}}, r); d != "" {
		t.Errorf("result (-want +got):\n%s", d)
	}
	wantPlaces(t, l, "ana=Ana 2026-01", "bo=Bo 2026-04", "cy=Cy 2026-02", "di=Di 2026-04")
	var versions []string
	for _, h := range history(t, l.Dir()) {
		if h.ID() == "bo" {
			created, _ := h[schemas.ColCreatedAt].(time.Time)
			versions = append(versions, fmt.Sprint(created.Format("2006-01 "), h[schemas.ColChange]))
		}
	}
	slices.Sort(versions)
	if d := cmp.Diff([]string{"2026-02 insert", "2026-04 update"}, versions); d != "" {
		t.Errorf("history (-want +got):\n%s", d)
	}
	m := manifest(t, l.Dir())
	if strings.Contains(fmt.Sprint(m.Removed), "current") {
		t.Errorf("the commit removes %v", m.Removed)
	}
}

func TestAMonthThatItsLastContactLeavesIsGone(t *testing.T) {
	l := open(t, t.TempDir(), on(unsynced{}))
	commit(t, l, build(t, 1, contact("ana", 1, 1), contact("bo", 2, 1)))
	commit(t, l, build(t, 2, contact("bo", 1, 2)))
	wantPlaces(t, l, "ana=<nil> 2026-01", "bo=<nil> 2026-01")
	for _, rel := range []string{"current/created_month=2026-02", "_ids/created_month=2026-02.ids"} {
		if _, err := os.Stat(filepath.Join(l.Dir(), rel)); !os.IsNotExist(err) {
			t.Errorf("%s: %v", rel, err)
		}
	}
	if m := manifest(t, l.Dir()); len(m.Current) != 1 || m.Rows() != 2 {
		t.Errorf("manifest names %v", m.Current)
	}
}

func TestRowsOfSeveralMonthsAreDecidedTogether(t *testing.T) {
	gone := func(r loadtest.Row) loadtest.Row {
		return r.With(schemas.ColHash, loadtest.Hash(r), schemas.ColDeletedAt, loadtest.Epoch)
	}
	base := []loadtest.Row{contact("a", 2, 5, "name", "base"), contact("z", 2, 5, "name", "z")}
	for _, c := range []struct {
		name   string
		rows   []loadtest.Row
		want   []string
		result load.Result
	}{
		{
			"an older row loses to the one in another month",
			[]loadtest.Row{contact("a", 1, 4, "name", "old")},
			[]string{"a=base 2026-02"},
			load.Result{Unchanged: 1, Versions: 1},
		},
		{
			"the last of the package's rows stands, wherever it is",
			[]loadtest.Row{contact("a", 3, 7, "name", "last"), contact("a", 1, 6, "name", "before"), contact("a", 2, 4, "name", "old")},
			[]string{"a=last 2026-03"},
			load.Result{Changed: 1, Versions: 3, Moved: 1, MovedIDs: []string{"a"}},
		},
		{
			"a row that comes back to its month is no move",
			[]loadtest.Row{contact("a", 3, 6, "name", "away"), contact("a", 2, 7, "name", "back")},
			[]string{"a=back 2026-02"},
			load.Result{Changed: 1, Versions: 2},
		},
		{
			"a tombstone in another month buries the row",
			[]loadtest.Row{gone(contact("a", 1, 6, "name", "base"))},
			[]string{"a=base! 2026-01"},
			load.Result{Deleted: 1, Versions: 1, Moved: 1, MovedIDs: []string{"a"}},
		},
		{
			"an older tombstone in another month does not",
			[]loadtest.Row{gone(contact("a", 1, 4, "name", "base"))},
			[]string{"a=base 2026-02"},
			load.Result{Unchanged: 1, Versions: 1},
		},
		{
			"a new contact that came in two months stands in the later one",
			[]loadtest.Row{contact("b", 4, 6, "name", "one"), contact("b", 3, 7, "name", "two")},
			[]string{"a=base 2026-02", "b=two 2026-03"},
			load.Result{New: 1, Versions: 2, Moved: 1, MovedIDs: []string{"b"}},
		},
		{
			"tombstones of an unknown contact leave no trace in any month",
			[]loadtest.Row{gone(contact("b", 4, 6)), gone(contact("b", 3, 7))},
			[]string{"a=base 2026-02"},
			load.Result{},
		},
	} {
		t.Run(strings.ReplaceAll(c.name, ",", ""), func(t *testing.T) {
			l := open(t, t.TempDir(), on(unsynced{}))
			later := func(serial int64, rows []loadtest.Row) load.Package { // read after all updates
				return loadtest.Build(t, loadtest.Spec{Serial: serial, Rows: rows, Extracted: loadtest.Epoch.AddDate(0, 0, int(serial))})
			}
			commit(t, l, later(1, base))
			r := commit(t, l, later(2, c.rows))
			r.Files = nil
			if d := cmp.Diff(c.result, r); d != "" {
				t.Errorf("result (-want +got):\n%s", d)
			}
			wantPlaces(t, l, append(c.want, "z=z 2026-02")...)
			if n := len(history(t, l.Dir())); int64(n) != 2+c.result.Versions {
				t.Errorf("history holds %d versions", n)
			}
		})
	}
}

func TestMovedContactsAreNamedUpToAFew(t *testing.T) {
	l := open(t, t.TempDir(), on(unsynced{}))
	var before, after []loadtest.Row
	for i := range 9 {
		before, after = append(before, contact(fmt.Sprint("c", i), 1+i%2, 1)), append(after, contact(fmt.Sprint("c", i), 2+i%2, 2))
	}
	commit(t, l, build(t, 1, before...))
	r := commit(t, l, build(t, 2, after...))
	if r.Moved != 9 || r.Changed != 9 || len(r.MovedIDs) != 5 || r.MovedIDs[0] != "c0" {
		t.Errorf("result is %+v", r)
	}
	if n := len(places(t, l)); n != 9 {
		t.Errorf("current holds %d rows", n)
	}
}

// Files of ids are a help: without them, or with wrong ones, everything is as
// it would be with them.
func TestFilesOfIDsAreMadeAgain(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"missing": os.Remove,
		"torn":    func(path string) error { return os.Truncate(path, 60) },
		"damaged": func(path string) error {
			data, err := os.ReadFile(path)
			data[len(data)-12]++
			return orElse(err, os.WriteFile(path, data, 0o600))
		},
		"of another file": func(path string) error {
			data, err := os.ReadFile(strings.Replace(path, "2026-02", "2026-03", 1))
			return orElse(err, os.WriteFile(path, data, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := open(t, t.TempDir(), on(unsynced{}))
			commit(t, l, build(t, 1, contact("ana", 1, 1), contact("bo", 2, 1), contact("cy", 2, 1), contact("di", 3, 1), contact("ed", 3, 1)))
			path := filepath.Join(l.Dir(), "_ids", "created_month=2026-02.ids")
			good, err := os.ReadFile(path)
			if err := orElse(err, spoil(path)); err != nil {
				t.Fatal(err)
			}
			// A new contact has every month looked through; bo moves later.
			commit(t, l, build(t, 2, contact("fe", 1, 2)))
			if again, err := os.ReadFile(path); err != nil || !cmp.Equal(again, good) {
				t.Errorf("it was not made again: %v", err)
			}
			if err := spoil(path); err != nil {
				t.Fatal(err)
			}
			if r := commit(t, l, build(t, 3, contact("bo", 1, 3))); r.Moved != 1 {
				t.Errorf("result is %+v", r)
			}
			wantPlaces(t, l, "ana=<nil> 2026-01", "bo=<nil> 2026-01", "cy=<nil> 2026-02", "di=<nil> 2026-03", "ed=<nil> 2026-03", "fe=<nil> 2026-01")
		})
	}
}

func orElse(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// A night of changes to known contacts looks at its own months alone, and one
// with new contacts at files of ids alone: nothing else can be read here.
func TestLookingForMovedContactsReadsNoOtherMonths(t *testing.T) {
	l := open(t, t.TempDir(), on(unsynced{}))
	commit(t, l, build(t, 1, contact("ana", 1, 1), contact("bo", 2, 1), contact("cy", 3, 1)))
	other := filepath.Join(l.Dir(), "current", "created_month=2026-02", "contacts.parquet")
	if err := os.WriteFile(other, []byte("PAR1"), 0o600); err != nil {
		t.Fatal(err)
	}
	commit(t, l, build(t, 2, contact("ana", 1, 2, "name", "new"), contact("di", 3, 2)))
	if err := os.Remove(filepath.Join(l.Dir(), "_ids", "created_month=2026-02.ids")); err != nil {
		t.Fatal(err)
	}
	commit(t, l, build(t, 3, contact("ana", 1, 3, "name", "newer"), contact("cy", 3, 3, "name", "new")))
	if _, err := l.Commit(t.Context(), build(t, 4, contact("new", 3, 3))); err == nil {
		t.Error("a new contact was not looked for in a month without a file of ids")
	}
}

// A table of before there were files of ids takes packages as any other.
func TestATableWithoutFilesOfIDsGetsThem(t *testing.T) {
	l := open(t, t.TempDir(), on(unsynced{}))
	commit(t, l, build(t, 1, contact("ana", 1, 1), contact("bo", 2, 1)))
	if err := os.RemoveAll(filepath.Join(l.Dir(), "_ids")); err != nil {
		t.Fatal(err)
	}
	if r := commit(t, l, build(t, 2, contact("bo", 3, 2))); r.Moved != 1 {
		t.Errorf("result is %+v", r)
	}
	commit(t, l, build(t, 3, contact("ana", 4, 3)))
	wantPlaces(t, l, "ana=<nil> 2026-04", "bo=<nil> 2026-03")
}

// A month that its last contact leaves keeps a file without rows in a bucket,
// and readers take it.
func TestAFileWithoutRowsIsReadable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "empty.parquet")
	w, err := parquetfile.Create(path, parquetfile.Options{Schema: loadtest.Table().Arrow()})
	if err != nil {
		t.Fatal(err)
	}
	stats, err := w.Finish()
	if err == nil {
		err = parquetfile.Verify(t.Context(), w.TempPath(), stats, parquetfile.VerifyFull)
	}
	if err := orElse(err, w.Publish()); err != nil {
		t.Fatal(err)
	}
	if rows := query(t, duck(t), fmt.Sprintf("SELECT count(*) AS n FROM '%s'", path)); rows[0]["n"] != int64(0) {
		t.Errorf("it holds %v", rows)
	}
}
