//go:build cgo && !windows

package duckdb_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/load"
)

func TestACommitOnAFullDiskFailsWithAHintAndLeavesTheTable(t *testing.T) {
	if testing.Short() {
		t.Skip("its processes say nothing to the race detector; the plain tests have it")
	}
	t.Parallel()
	base := filepath.Join(t.TempDir(), "base.duckdb")
	commit(t, open(t, base), one(t, 1, "a"))
	p := benchPackage(t, 2, 0, 3000, 1, 0)
	p.Lineage = "lineage-a"
	full := filepath.Join(t.TempDir(), "whole.duckdb")
	copyFile(t, base, full)
	commit(t, open(t, full), p)
	info, err := os.Stat(full)
	if err != nil {
		t.Fatal(err)
	}
	shares := []int64{20, 45}
	if text := os.Getenv("SLUICE_DUCKDB_SHARES"); text != "" { // all of them
		shares = nil
		for share := range int64(100) {
			shares = append(shares, share)
		}
	}
	before, after := fingerprint(t, base), fingerprint(t, full)
	failed := 0
	for _, share := range shares {
		path := filepath.Join(t.TempDir(), "full.duckdb")
		copyFile(t, base, path)
		cmd := command(t, childJob{Path: path, Packages: []load.Package{p}, FileSize: uint64(info.Size() * share / 100)})
		out, err := cmd.CombinedOutput()
		switch {
		case err != nil && !strings.Contains(string(out), "HINT The disk is full"):
			t.Errorf("at %d%% of the size: %v, %s", share, err, out)
		case err != nil:
			failed++
		}
		at, checkErr := open(t, path).Check(t.Context(), "lineage-a")
		if checkErr != nil || at < 1 || at > 2 || (err == nil && at != 2) {
			t.Errorf("at %d%% of the size, after %v: %d, %v", share, err, at, checkErr)
		} else if d := cmp.Diff(map[int64][]string{1: before, 2: after}[at], fingerprint(t, path)); d != "" {
			t.Errorf("at package %d the database differs:\n%s", at, d)
		}
		commit(t, open(t, path), p)
		if d := cmp.Diff(after, fingerprint(t, path)); d != "" {
			t.Errorf("the package committed again gives another table:\n%s", d)
		}
	}
	if failed == 0 {
		t.Error("no commit failed")
	}
}

// fingerprint stands for the rows of both tables, and the notes.
func fingerprint(tb testing.TB, path string) []string {
	tb.Helper()
	return lines(tb, path,
		"SELECT count(*) AS n, sum(hash(t)) AS h FROM _sluice.contacts__current t", "SELECT count(*) AS n, sum(hash(t)) AS h FROM _sluice.contacts__history t",
		"SELECT position, columns, views FROM _sluice.tables", "SELECT * EXCLUDE committed_at FROM _sluice.packages ORDER BY ALL")
}

func copyFile(tb testing.TB, from, to string) {
	tb.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o600); err != nil {
		tb.Fatal(err)
	}
}
