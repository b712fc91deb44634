//go:build unix

package cli

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/internal/duck"
)

func TestADatabaseThatAnotherProcessHoldsIsWaitedForAndNamed(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	w := newWorld(t, database)
	w.env["SLUICE_FILE"] = w.file()
	w.sluice(t, "run", "nightly").mustBe(t, 0)
	// DuckDB's lock is the process's: only another process meets it.
	f, err := duck.OpenFile(t.Context(), filepath.Join(w.dir, "out", "crm.duckdb"), duck.FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	asking := w.start(t, "query", "SELECT count(*) AS n FROM contacts_all")
	select {
	case line := <-asking.lines:
		t.Errorf("it does not wait: %s", line)
	case <-time.After(2 * time.Second):
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	asking.wait(t, "40")
}
