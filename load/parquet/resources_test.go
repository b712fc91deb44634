package parquet_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/gcs/gcstest"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/load/parquet"
	"github.com/sluice-etl/sluice/load/views"
	"github.com/sluice-etl/sluice/schemas"
)

// second has the loader keep another table.
func second(o *parquet.Options) { o.Table = "leads" }

// editViews changes the statement of a view in a views.sql.
func editViews(t *testing.T, text, view string, edit func(views.Statement) []views.Statement) string {
	t.Helper()
	head, list := views.Split(text)
	var out []views.Statement
	for _, s := range list {
		if s.Name == view {
			out = append(out, edit(s)...)
		} else {
			out = append(out, s)
		}
	}
	if head = views.Join(head, out); head == text {
		t.Fatalf("there is no view %s", view)
	}
	return head
}

func dropped(views.Statement) []views.Statement { return nil }

func changed(s views.Statement) []views.Statement {
	s.Text = strings.Replace(s.Text, "SELECT", "SELECT DISTINCT", 1)
	return []views.Statement{s}
}

// countRows asks a view that a views.sql makes.
func countRows(t *testing.T, sql, view string) int64 {
	t.Helper()
	db := duck(t)
	if _, err := db.Exec(sql); err != nil {
		t.Fatal(err)
	}
	ask := `"` + view + `"`
	switch {
	case strings.HasSuffix(view, "_as_of"):
		ask += "(now())"
	case view == "active" || view == "reengagement":
		ask += "(7)"
	}
	n, ok := query(t, db, "SELECT count(*) AS n FROM "+ask)[0]["n"].(int64)
	if !ok {
		t.Fatal("count(*) is no number")
	}
	return n
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func readText(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func writeText(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// theirs are files of others in the folder of a table.
func theirs() []string {
	return []string{"README.md", "current/notes.parquet", "current/created_month=2026-01/other.parquet", "history/x.parquet", "_ids/mine.txt", "_manifests/copy.json.bak", "_sluice_runs/notes.txt"}
}

func TestLoaderConverges(t *testing.T) {
	loadtest.RunResources(t, func(t *testing.T) loadtest.Place {
		t.Helper()
		root := filepath.Join(t.TempDir(), "lake")
		dir := filepath.Join(root, "contacts")
		sql := filepath.Join(dir, "views.sql")
		edit := func(how func(views.Statement) []views.Statement) func(t *testing.T, view string) {
			return func(t *testing.T, view string) {
				t.Helper()
				writeText(t, sql, editViews(t, readText(t, sql), view, how))
			}
		}
		return loadtest.Place{
			Harness: localHarness(root),
			Second:  func(t *testing.T) load.Loader { t.Helper(); return open(t, root, on(unsynced{}), staged, second) },
			Account: func(t *testing.T, table string, u load.Union) load.Loader {
				t.Helper()
				return open(t, root, on(unsynced{}), func(o *parquet.Options) { o.Table, o.Union = table, u })
			},
			Neighbour: func(t *testing.T) func(t *testing.T) {
				t.Helper()
				for _, rel := range theirs() {
					writeText(t, filepath.Join(dir, rel), rel)
				}
				return func(t *testing.T) {
					t.Helper()
					var left []string
					for path, sum := range snapshot(t, dir) {
						if sum != "dir" {
							left = append(left, path)
						}
					}
					if len(left) != len(theirs()) {
						t.Errorf("the folder has %q, want %q", left, theirs())
					}
					for _, rel := range theirs() {
						if readText(t, filepath.Join(dir, rel)) != rel {
							t.Errorf("%s was changed", rel)
						}
					}
				}
			},
			Left: func(t *testing.T) (left []string) {
				t.Helper()
				err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
					if err == nil && path != root {
						left = append(left, path)
					}
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
				return left
			},
			DropView: edit(dropped), ChangeView: edit(changed),
			Count: func(t *testing.T, view string) int64 {
				t.Helper()
				if union := filepath.Join(root, view+".sql"); exists(union) {
					return countRows(t, readText(t, union), view)
				}
				return countRows(t, readText(t, sql), view)
			},
		}
	})
}

func TestGSLoaderConverges(t *testing.T) {
	loadtest.RunResources(t, func(t *testing.T) loadtest.Place {
		t.Helper()
		s := gcstest.Start(t, gsBucket)
		c := gsClient(t, s, nil)
		sql := func(t *testing.T) string { t.Helper(); return string(s.Objects(t, gsBucket, gsTable)["views.sql"]) }
		edit := func(how func(views.Statement) []views.Statement) func(t *testing.T, view string) {
			return func(t *testing.T, view string) {
				t.Helper()
				s.Put(gsBucket, gsTable+"views.sql", []byte(editViews(t, sql(t), view, how)))
			}
		}
		return loadtest.Place{
			Harness: gsHarness(s, c),
			Second: func(t *testing.T) load.Loader {
				t.Helper()
				return openGS(t, c, func(o *parquet.GSOptions) { staged(&o.Options); second(&o.Options) })
			},
			Neighbour: func(t *testing.T) func(t *testing.T) {
				t.Helper()
				for _, rel := range theirs() {
					s.Put(gsBucket, gsTable+rel, []byte(rel))
				}
				return func(t *testing.T) {
					t.Helper()
					left := s.Objects(t, gsBucket, gsTable)
					if len(left) != len(theirs()) {
						t.Errorf("the bucket has %d objects of the table, want %q", len(left), theirs())
					}
					for _, rel := range theirs() {
						if string(left[rel]) != rel {
							t.Errorf("%s was changed", rel)
						}
					}
				}
			},
			Account: func(t *testing.T, table string, u load.Union) load.Loader {
				t.Helper()
				return openGS(t, c, func(o *parquet.GSOptions) { o.Table, o.Union = table, u })
			},
			Left:     func(t *testing.T) []string { t.Helper(); return s.Names(t, gsBucket) },
			DropView: edit(dropped), ChangeView: edit(changed),
			Count: func(t *testing.T, view string) int64 {
				t.Helper()
				root := t.TempDir()
				for name, data := range s.Objects(t, gsBucket, "") {
					writeText(t, filepath.Join(root, filepath.FromSlash(name)), string(data))
				}
				text := sql(t)
				if union := filepath.Join(root, "exports", "crm", view+".sql"); exists(union) {
					text = readText(t, union)
				}
				return countRows(t, strings.ReplaceAll(text, "gs://"+gsBucket, root), view)
			},
		}
	})
}

func unlike(t *testing.T, l load.Surveyor, table schemas.Table) []string {
	t.Helper()
	list, err := l.Survey(t.Context(), "lineage-a", table)
	if err != nil {
		t.Fatal(err)
	}
	return loadtest.Unlike(list)
}

func wantUnlike(t *testing.T, l load.Surveyor, want ...string) {
	t.Helper()
	if d := cmp.Diff(append([]string{}, want...), unlike(t, l, loadtest.Table())); d != "" {
		t.Errorf("not as wanted (-want +got):\n%s", d)
	}
}

func converge(t *testing.T, l load.Converger) error {
	t.Helper()
	return l.Converge(t.Context(), load.Convergence{Lineage: "lineage-a", Table: loadtest.Table()})
}

func TestWhatSomebodyChangedInTheFolderIsSeen(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	l := open(t, root, on(unsynced{}))
	commit(t, l, loadtest.Build(t, loadtest.Spec{Serial: 1, Rows: []loadtest.Row{contact("a", 1, 1)}}))
	wantUnlike(t, l)
	sql := filepath.Join(l.Dir(), "views.sql")
	text := readText(t, sql)
	writeText(t, sql, text+"\nCREATE OR REPLACE VIEW \"old_report\" AS\nSELECT 1;\n")
	wantUnlike(t, l, "view old_report is not wanted")
	if err := converge(t, l); err != nil {
		t.Fatal(err)
	}
	if readText(t, sql) != text {
		t.Error("views.sql is not as it was")
	}
	if err := os.Remove(sql); err != nil {
		t.Fatal(err)
	}
	missing := unlike(t, l, loadtest.Table())
	if len(missing) < 10 || !slices.Contains(missing, "view contacts is missing") {
		t.Errorf("without views.sql there is not as wanted: %q", missing)
	}
	if err := converge(t, l); err != nil {
		t.Fatal(err)
	}
	wantUnlike(t, l)
	if err := os.Remove(filepath.Join(l.Dir(), "current", "created_month=2026-01", "contacts.parquet")); err != nil {
		t.Fatal(err)
	}
	wantUnlike(t, l, "table contacts has files 1 missing, not complete")
	var hinted interface{ Hint() string }
	if err := converge(t, l); !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "sluice verify") {
		t.Errorf("converging a table that has lost a file gives %v", err)
	}
	if err := os.RemoveAll(l.Dir()); err != nil {
		t.Fatal(err)
	}
	if got := unlike(t, l, loadtest.Table()); !slices.Contains(got, "table contacts is missing") {
		t.Errorf("without its folder there is not as wanted: %q", got)
	}
}

func TestOtherSettingsAreSeenAndTakenOver(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	lima, err := time.LoadLocation("America/Lima")
	if err != nil {
		t.Fatal(err)
	}
	commit(t, open(t, root, on(unsynced{})), loadtest.Build(t, loadtest.Spec{Serial: 1, Rows: []loadtest.Row{contact("a", 1, 1)}}))
	before := snapshot(t, filepath.Join(root, "contacts", "current"))
	l := open(t, root, on(unsynced{}), plain, func(o *parquet.Options) { o.Timezone = lima })
	got := unlike(t, l, loadtest.Table())
	for _, want := range []string{"table contacts has compatibility standard, not plain", "table contacts has timezone UTC, not America/Lima"} {
		if !slices.Contains(got, want) {
			t.Errorf("%q is not among %q", want, got)
		}
	}
	if err := converge(t, l); err != nil {
		t.Fatal(err)
	}
	wantUnlike(t, l)
	if d := cmp.Diff(before, snapshot(t, filepath.Join(root, "contacts", "current"))); d != "" {
		t.Errorf("files were written anew (-want +got):\n%s", d)
	}
	// Manifests of before did not tell: nothing is known to differ.
	latest := filepath.Join(l.Dir(), "_manifests", "latest.json")
	text := readText(t, latest)
	for _, line := range []string{" \"compatibility\": \"plain\",\n", " \"timezone\": \"America/Lima\",\n"} {
		if !strings.Contains(text, line) {
			t.Fatalf("the manifest has no %s", line)
		}
		text = strings.Replace(text, line, "", 1)
	}
	writeText(t, latest, text)
	wantUnlike(t, open(t, root, on(unsynced{}), func(o *parquet.Options) { o.Timezone = lima }))
}

func TestEffectsOfANewColumnAreTold(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	l := open(t, root, on(unsynced{}))
	commit(t, l, loadtest.Build(t, loadtest.Spec{Serial: 1, Rows: []loadtest.Row{contact("a", 1, 1), contact("b", 2, 1)}}))
	list, err := l.Survey(t.Context(), "lineage-a", loadtest.Table(loadtest.Extra("cf_ticket_y", schemas.Int64)))
	if err != nil {
		t.Fatal(err)
	}
	if e := list[0].Effects; len(e) != 1 || !strings.HasPrefix(e[0], "Every file of current is written anew") || !strings.Contains(e[0], ": 2 files, ") {
		t.Errorf("effects are %q", e)
	}
	if h := list[0].Holds; h.Contacts != 2 || h.Versions != 2 || h.Files != 3 || h.Bytes == 0 {
		t.Errorf("it holds %+v", h)
	}
}
