package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// inDatabase is a world whose pipeline writes to a DuckDB file alone.
func inDatabase(t *testing.T) (w *world, path string) {
	t.Helper()
	needsDuckDB(t)
	w = newWorld(t, strings.NewReplacer("lake: {type: parquet, path: out}", "lake: {type: duckdb, path: out/crm.duckdb}").Replace(small))
	w.sluice(t, "run").mustBe(t, 0)
	return w, filepath.Join(w.dir, "out", "crm.duckdb")
}

func TestVerifyChecksADatabase(t *testing.T) {
	t.Parallel()
	w, path := inDatabase(t)
	r := w.sluice(t, "verify").mustBe(t, 0)
	golden(t, "verify/database.txt", withoutSizes(r.out))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// Blocks of rows lie after the headers; most of this file is such.
	for at := len(data) / 4; at < len(data); at += len(data) / 16 {
		data[at] ^= 1
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	r = w.sluice(t, "verify").mustBe(t, 1)
	if !strings.Contains(r.out+r.err, "checksum") || !strings.Contains(r.err, "backup") {
		t.Errorf("it says\n%s%s", r.out, r.err)
	}
}

func TestEraseRemovesAContactFromADatabase(t *testing.T) {
	t.Parallel()
	w, path := inDatabase(t)
	id := aContact(t, w)
	holds := func() bool {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Contains(data, []byte(id))
	}
	if !holds() {
		t.Fatal("the id is not to be seen in the file: nothing can be said of its absence")
	}
	r := w.sluice(t, "erase", "--id", id, "--yes").mustBe(t, 0)
	if !strings.Contains(r.out, "lake, current          1 row") || !strings.Contains(r.out, "removed of contact") {
		t.Errorf("it says\n%s", r.out)
	}
	if holds() {
		t.Error("the id is still in the file")
	}
	w.sluice(t, "verify").mustBe(t, 0)
	if r := w.sluice(t, "query", "SELECT count(*) AS n FROM contacts_history WHERE id = '"+id+"'").mustBe(t, 0); r.out != "n\n0\n" {
		t.Errorf("history: %s", r.out)
	}
	w.sluice(t, "run").mustBe(t, 0)
	w.sluice(t, "verify").mustBe(t, 0)
}
