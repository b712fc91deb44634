//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package duck

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func openFile(t *testing.T, path string, o FileOptions) *File {
	t.Helper()
	f, err := OpenFile(t.Context(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestADatabaseFileIsOpenOnceInAProcess(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "o'dd [base]* % ü.duckdb")
	path = strings.ReplaceAll(path, "%", "")
	f := openFile(t, path, FileOptions{MemoryLimit: "64MB", Threads: 1})
	for _, readOnly := range []bool{false, true} {
		for range 2 {
			var used *InUseError
			if _, err := OpenFile(t.Context(), path, FileOptions{ReadOnly: readOnly}); !errors.As(err, &used) || used.Path != path {
				t.Errorf("read-only %v: %v", readOnly, err)
			}
		}
	}
	if _, err := f.Conn().ExecContext(t.Context(), "CREATE TABLE t AS SELECT 1 AS a"); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	var limit, zone string
	var threads, rows int
	f = openFile(t, path, FileOptions{ReadOnly: true, MemoryLimit: "64MB", Threads: 1})
	err := f.Conn().QueryRowContext(t.Context(), "SELECT current_setting('memory_limit'), current_setting('threads'), current_setting('TimeZone'), (SELECT count(*) FROM t)").Scan(&limit, &threads, &zone, &rows)
	if err != nil || limit != "61.0 MiB" || threads != 1 || zone != "UTC" || rows != 1 {
		t.Errorf("%s, %d threads, %s, %d rows, %v", limit, threads, zone, rows, err)
	}
	if _, err := f.Conn().ExecContext(t.Context(), "DROP TABLE t"); err == nil {
		t.Error("a database opened for reading was changed")
	}
}

func TestWhatIsNoDatabaseIsLeftAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"junk": "nothing of the kind", "empty": "", "zeroes": string(make([]byte, 20000)),
		"sqlite": "SQLite format 3\x00" + string(make([]byte, 5000)),
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, readOnly := range []bool{true, false} {
			if name == "empty" && !readOnly {
				continue
			}
			if _, err := OpenFile(t.Context(), path, FileOptions{ReadOnly: readOnly}); !errors.Is(err, ErrNotADatabase) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if data, err := os.ReadFile(path); err != nil || string(data) != content {
			t.Errorf("%s was changed", name)
		}
	}
}

func TestAPathThatTheDriverMisreadsIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"a?b", "a#b", "a%zz"} {
		if _, err := OpenFile(t.Context(), filepath.Join(dir, name), FileOptions{}); err == nil || !strings.Contains(err.Error(), "driver cannot open") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestTheHolderIsNamed(t *testing.T) {
	t.Parallel()
	const text = `IO Error: Could not set lock on file "/x/a.duckdb": Conflicting lock is held in /usr/bin/duckdb (PID 7437). See also https://duckdb.org/docs/stable/connect/concurrency`
	err := fileError("/x/a.duckdb", errors.New(text))
	if want := "database is in use (/x/a.duckdb): /usr/bin/duckdb (process 7437) holds it"; err.Error() != want {
		t.Errorf("got %q", err)
	}
}
