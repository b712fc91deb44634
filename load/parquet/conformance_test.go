package parquet_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/load/parquet"
)

func open(tb testing.TB, root string, change ...func(*parquet.Options)) *parquet.Loader {
	tb.Helper()
	o := parquet.Options{Path: root, Table: "contacts", Clock: clock.Fixed(loadtest.Epoch), LockWait: -1}
	for _, f := range change {
		f(&o)
	}
	l, err := parquet.New(o)
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// staged has the loader keep the table of stages.
func staged(o *parquet.Options) { o.Stages = loadtest.StagesTable }

const askStages = "SELECT pipeline_id, pipeline_name, stage_id, stage_name, position FROM read_parquet(%s) ORDER BY pipeline_id, position"

func commit(tb testing.TB, l *parquet.Loader, p load.Package) load.Result {
	tb.Helper()
	r, err := l.Commit(tb.Context(), p)
	if err != nil {
		tb.Fatalf("commit package %d: %v", p.Serial, err)
	}
	return r
}

// current reads the table by a bare glob, as an analyst would.
func current(tb testing.TB, dir string) []loadtest.Row {
	tb.Helper()
	m, err := parquet.OpenManifest(dir)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && len(m.Current) == 0) {
		return []loadtest.Row{}
	}
	if err != nil {
		tb.Fatal(err)
	}
	rows := query(tb, duck(tb), bareGlob(dir))
	for _, r := range rows {
		delete(r, "created_month")
	}
	return rows
}

func history(tb testing.TB, dir string) []loadtest.Row {
	tb.Helper()
	if m, err := parquet.OpenManifest(dir); err != nil || len(m.History) == 0 {
		return []loadtest.Row{}
	}
	return query(tb, duck(tb), historyGlob(dir))
}

// snapshot returns the checksum of every file below dir, by relative path,
// without the lock.
func snapshot(tb testing.TB, dir string) map[string]string {
	tb.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() == ".lock" {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil || d.IsDir() {
			out[rel] = "dir"
			return err
		}
		data, err := os.ReadFile(path)
		sum := sha256.Sum256(data)
		out[rel] = hex.EncodeToString(sum[:])
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		tb.Fatal(err)
	}
	return out
}

func TestLoaderConforms(t *testing.T) {
	loadtest.Run(t, func(t *testing.T) loadtest.Harness {
		t.Helper()
		return localHarness(filepath.Join(t.TempDir(), "lake"))
	})
}

// hashKeys are the ids of keys in the metadata of the files of current, and in
// those of history.
func hashKeys(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	for _, part := range []string{"current", "history"} {
		from := filepath.Join(dir, part, "**", "*.parquet")
		rows := query(t, duck(t), "SELECT coalesce(string_agg(CAST(value AS VARCHAR)), '') AS ids FROM parquet_kv_metadata('"+from+"') WHERE CAST(key AS VARCHAR) = '"+load.HashKeyName+"'")
		out = append(out, fmt.Sprint(rows[0]["ids"]))
	}
	return out
}

// localHarness is a destination on this disk.
func localHarness(root string) loadtest.Harness {
	dir := filepath.Join(root, "contacts")
	return loadtest.Harness{
		New:     func(t *testing.T) load.Loader { t.Helper(); return open(t, root, on(unsynced{}), staged) },
		Read:    func(t *testing.T) []loadtest.Row { t.Helper(); return current(t, dir) },
		History: func(t *testing.T) []loadtest.Row { t.Helper(); return history(t, dir) },
		Spoil: func(t *testing.T) {
			t.Helper()
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "part-0.parquet"), []byte("PAR1"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		HashKey: func(t *testing.T) []string { t.Helper(); return hashKeys(t, dir) },
		Stages: func(t *testing.T) []load.Stage {
			t.Helper()
			return loadtest.ReadStages(t, duck(t), fmt.Sprintf(askStages, "'"+filepath.Join(root, "crm_stages", "*.parquet")+"'"))
		},
		SpoilStages: func(t *testing.T) {
			t.Helper()
			if err := os.MkdirAll(filepath.Join(root, "crm_stages"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(root, "crm_stages", "stages.parquet"), []byte("PAR1"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		Fingerprint: func(t *testing.T) string {
			t.Helper()
			var b strings.Builder
			for _, line := range lines(snapshot(t, root)) {
				b.WriteString(line + "\n")
			}
			return b.String()
		},
	}
}
