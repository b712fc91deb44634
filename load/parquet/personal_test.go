package parquet_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/parquetfile"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/loadtest"
)

// hashed is a package whose hashes are of the key called id.
func hashed(t *testing.T, id string, serial int64, rows ...loadtest.Row) load.Package {
	t.Helper()
	p := build(t, serial, rows...)
	p.HashKey = id
	return p
}

func TestEveryFileTellsWhichKeysItsHashesAreOf(t *testing.T) {
	l := open(t, t.TempDir())
	want := func(when string, want map[string]string) {
		t.Helper()
		m := manifest(t, l.Dir())
		got := map[string]string{}
		for _, f := range append(m.Current, m.History...) {
			ids := strings.Join(f.HashKeys, ",")
			got[strings.Split(f.Path, "/")[0]+"/"+filepath.Base(filepath.Dir(f.Path))] += ids + ";"
			r, err := parquetfile.Open(filepath.Join(l.Dir(), f.Path))
			if err != nil {
				t.Fatal(err)
			}
			if inFile, ok := r.Metadata(load.HashKeyName); inFile != ids || ok != (ids != "") {
				t.Errorf("%s: %s has %q in its metadata, %q in the manifest", when, f.Path, inFile, ids)
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
		}
		for path, ids := range got {
			if strings.HasPrefix(path, "history/") {
				delete(got, path)
				got["history"] += ids
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", when, d)
		}
	}
	commit(t, l, build(t, 1, contact("a", 1, 1), contact("b", 2, 1), contact("c", 2, 1)))
	want("without a key", map[string]string{"current/created_month=2026-01": ";", "current/created_month=2026-02": ";", "history": ";"})
	commit(t, l, hashed(t, "one", 2, contact("a", 1, 2, "name", "h1"), contact("b", 2, 2, "name", "h1")))
	want("with a key", map[string]string{"current/created_month=2026-01": "one;", "current/created_month=2026-02": "one;", "history": ";one;"})
	commit(t, l, hashed(t, "two", 3, contact("a", 1, 3, "name", "h2"), contact("b", 2, 3, "name", "h2")))
	want("with another key", map[string]string{"current/created_month=2026-01": "two;", "current/created_month=2026-02": "one,two;", "history": ";one;two;"})
}
