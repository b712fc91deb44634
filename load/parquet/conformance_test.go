package parquet_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
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

func open(t testing.TB, root string, change ...func(*parquet.Options)) *parquet.Loader {
	t.Helper()
	o := parquet.Options{Path: root, Table: "contacts", Clock: clock.Fixed(loadtest.Epoch), LockWait: -1}
	for _, f := range change {
		f(&o)
	}
	l, err := parquet.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func commit(t testing.TB, l *parquet.Loader, p load.Package) load.Result {
	t.Helper()
	r, err := l.Commit(t.Context(), p)
	if err != nil {
		t.Fatalf("commit package %d: %v", p.Serial, err)
	}
	return r
}

// current reads the table by a bare glob, as an analyst would.
func current(t testing.TB, dir string) []loadtest.Row {
	t.Helper()
	m, err := parquet.OpenManifest(dir)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && len(m.Current) == 0) {
		return []loadtest.Row{}
	}
	if err != nil {
		t.Fatal(err)
	}
	rows := query(t, duck(t), bareGlob(dir))
	for _, r := range rows {
		delete(r, "created_month")
	}
	return rows
}

func history(t testing.TB, dir string) []loadtest.Row {
	t.Helper()
	if m, err := parquet.OpenManifest(dir); err != nil || len(m.History) == 0 {
		return []loadtest.Row{}
	}
	return query(t, duck(t), historyGlob(dir))
}

// snapshot returns the checksum of every file below dir, by relative path,
// without the lock.
func snapshot(t testing.TB, dir string) map[string]string {
	t.Helper()
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
		t.Fatal(err)
	}
	return out
}

func TestLoaderConforms(t *testing.T) {
	loadtest.Run(t, func(t *testing.T) loadtest.Harness {
		root := filepath.Join(t.TempDir(), "lake")
		dir := filepath.Join(root, "contacts")
		return loadtest.Harness{
			New:     func(t *testing.T) load.Loader { return open(t, root) },
			Read:    func(t *testing.T) []loadtest.Row { return current(t, dir) },
			History: func(t *testing.T) []loadtest.Row { return history(t, dir) },
			Spoil: func(t *testing.T) {
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, "part-0.parquet"), []byte("PAR1"), 0o600); err != nil {
					t.Fatal(err)
				}
			},
			Fingerprint: func(t *testing.T) string {
				var b strings.Builder
				for _, line := range lines(snapshot(t, root)) {
					b.WriteString(line + "\n")
				}
				return b.String()
			},
		}
	})
}
