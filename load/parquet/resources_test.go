package parquet_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-etl/sluice/internal/gcs/gcstest"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/load/parquet"
	"github.com/sluice-etl/sluice/load/views"
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
			Count: func(t *testing.T, view string) int64 { t.Helper(); return countRows(t, readText(t, sql), view) },
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
			Left:     func(t *testing.T) []string { t.Helper(); return s.Names(t, gsBucket) },
			DropView: edit(dropped), ChangeView: edit(changed),
			Count: func(t *testing.T, view string) int64 {
				t.Helper()
				root := t.TempDir()
				for name, data := range s.Objects(t, gsBucket, "") {
					writeText(t, filepath.Join(root, filepath.FromSlash(name)), string(data))
				}
				return countRows(t, strings.ReplaceAll(sql(t), "gs://"+gsBucket, root), view)
			},
		}
	})
}
