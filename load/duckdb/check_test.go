//go:build cgo

package duckdb_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/loadtest"
)

func TestVerificationFindsEveryKindOfFault(t *testing.T) {
	t.Parallel()
	base := filepath.Join(t.TempDir(), "base.duckdb")
	l := open(t, base)
	commit(t, l, one(t, 1, "a", "b", "c", "d", "e", "f", "g"))
	commit(t, l, loadtest.Build(t, loadtest.Spec{Serial: 2, Rows: []loadtest.Row{
		loadtest.Contact("a", loadtest.Epoch, loadtest.Epoch.AddDate(0, 0, 1), "name", "anew"),
	}}))
	wantSound(t, l)
	const current, history = "_sluice.contacts__current", "_sluice.contacts__history"
	for name, c := range map[string]struct {
		spoil string
		want  []string
	}{
		"a row of current is gone": {"DELETE FROM " + current + " WHERE id = 'b'", []string{
			"wrong_record " + current + " it has 6 rows, the notes say 7", "missing_contact " + current + " contacts that history alone has: b",
		}},
		"rows of current stand twice": {"INSERT INTO " + current + " SELECT * FROM " + current + " WHERE id IN ('b', 'c')", []string{
			"wrong_record " + current + " it has 9 rows, the notes say 7", "duplicate_id " + current + " contacts that stand more than once: b, c",
		}},
		"history lacks versions": {"DELETE FROM " + history + " WHERE id <> 'g'", []string{
			"wrong_record " + history + " it has 1 rows, the notes say 8", "incomplete_history " + history + " history lacks the current version of a, b, c, d, e and 1 more",
		}},
		"history has a version twice": {"INSERT INTO " + history + " SELECT * FROM " + history + " WHERE id = 'c'", []string{
			"wrong_record " + history + " it has 9 rows, the notes say 8", "duplicate_version " + history + " contacts with a row that stands more than once: c",
		}},
		"an old row has come back": {"DELETE FROM " + current + " WHERE id = 'a'; INSERT INTO " + current + " SELECT * FROM " + history + " WHERE id = 'a' AND _sluice_package = 1", []string{
			"outdated_current " + current + " history has a later version of a",
		}},
		"a hash is another": {"UPDATE " + current + " SET _sluice_hash = 1 WHERE id = 'd'", []string{
			"incomplete_history " + history + " history lacks the current version of d", "different_row " + current + " rows with other values than in history: d",
		}},
		"a value is another": {"UPDATE " + current + " SET name = 'x' WHERE id = 'e'", []string{
			"different_row " + current + " rows with other values than in history: e",
		}},
		"a value was swapped with a null": {"UPDATE " + current + " SET phone = name, name = NULL WHERE id = 'e'", []string{
			"different_row " + current + " rows with other values than in history: e",
		}},
		"rows of a package that was never committed": {"UPDATE " + current + " SET _sluice_package = 9 WHERE id = 'f'; UPDATE " + history + " SET _sluice_package = 9 WHERE id = 'f'", []string{
			"wrong_record " + current + " rows of packages that were never committed: f", "wrong_record " + history + " rows of packages that were never committed: f",
		}},
		"the notes lack a package": {"DELETE FROM _sluice.packages WHERE package = 2", []string{
			"wrong_record  the table is at package 2, the last one noted is 1",
			"wrong_record " + current + " rows of packages that were never committed: a", "wrong_record " + history + " rows of packages that were never committed: a",
		}},
		"a column is missing": {"DROP VIEW contacts; ALTER TABLE " + current + " DROP COLUMN phone", []string{
			"wrong_schema " + current + " column phone is missing", "outdated_views main.contacts it is missing; the next package makes the views again",
		}},
		"a column has another type": {"ALTER TABLE " + history + " ALTER COLUMN blocked TYPE VARCHAR", []string{
			"wrong_schema " + history + " column blocked is VARCHAR, the notes say BOOLEAN",
		}},
		"a column that nobody named": {"ALTER TABLE " + current + " ADD COLUMN mine INTEGER DEFAULT 7", []string{
			"wrong_schema " + current + " column mine has values and is not in the notes",
		}},
		"a column that a killed commit has added": {"ALTER TABLE " + current + " ADD COLUMN later INTEGER", []string{}},
		"a table is missing": {"DROP TABLE " + history, []string{
			"wrong_schema " + history + " the table is missing",
		}},
		"views are gone": {"DROP VIEW customers; DROP MACRO TABLE contacts_as_of", []string{
			"outdated_views main.customers it is missing; the next package makes the views again", "outdated_views main.contacts_as_of it is missing; the next package makes the views again",
		}},
		"a contact is renamed": {"UPDATE " + current + " SET id = 'z' WHERE id = 'g'", []string{
			"incomplete_history " + history + " history lacks the current version of z", "missing_contact " + current + " contacts that history alone has: g",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "spoiled.duckdb")
			duplicate(t, base, path)
			run(t, path, c.spoil)
			before := snapshot(t, filepath.Dir(path))
			if d := cmp.Diff(c.want, faults(t, path)); d != "" {
				t.Errorf("faults (-want +got):\n%s", d)
			}
			if d := cmp.Diff(before, snapshot(t, filepath.Dir(path))); d != "" {
				t.Errorf("the verification mends something:\n%s", d)
			}
		})
	}
}

// faults lists what verification finds, each as kind, path and detail.
func faults(t *testing.T, path string) []string {
	t.Helper()
	out := []string{}
	_, err := open(t, path).Verify(t.Context(), "lineage-a", func(f load.Fault) {
		out = append(out, fmt.Sprintf("%s %s %s", f.Kind, f.Path, f.Detail))
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func duplicate(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	write(t, to, string(data))
}

// Bytes are flipped all over a database: each is found, or the file cannot be
// opened any more, or it was in a block that nothing uses.
func TestVerificationFindsFlippedBytes(t *testing.T) {
	t.Parallel()
	base := filepath.Join(t.TempDir(), "base.duckdb")
	var rows []loadtest.Row
	for i := range 3000 {
		rows = append(rows, loadtest.Contact(fmt.Sprintf("contact-%06d", i), loadtest.Epoch, loadtest.Epoch, "name", strings.Repeat(fmt.Sprint(i*7919%10007), 5)))
	}
	commit(t, open(t, base), loadtest.Build(t, loadtest.Spec{Serial: 1, Rows: rows}))
	whole := fmt.Sprint(lines(t, base, "SELECT sum(hash(t)) AS h FROM _sluice.contacts__current t", "SELECT sum(hash(t)) AS h FROM _sluice.contacts__history t"))
	data, err := os.ReadFile(base)
	if err != nil {
		t.Fatal(err)
	}
	rnd := seeded(t)
	found, refused := 0, 0
	const flips = 24
	for n := range flips {
		at := len(data)*n/flips + rnd.IntN(len(data)/flips)
		path := filepath.Join(t.TempDir(), "flipped.duckdb")
		changed := append([]byte{}, data...)
		changed[at] ^= 1 << rnd.IntN(8)
		write(t, path, string(changed))
		kinds := map[string]int{}
		_, err := open(t, path).Verify(t.Context(), "lineage-a", func(f load.Fault) { kinds[f.Kind]++ })
		switch {
		case err != nil:
			refused++
		case len(kinds) > 0:
			found++
		default:
			same := fmt.Sprint(lines(t, path, "SELECT sum(hash(t)) AS h FROM _sluice.contacts__current t", "SELECT sum(hash(t)) AS h FROM _sluice.contacts__history t"))
			if same != whole {
				t.Errorf("byte %d is flipped, the rows are others, and nothing is found", at)
			}
		}
	}
	t.Logf("of %d flips %d were found as faults, %d kept the file from being read", flips, found, refused)
	if found+refused == 0 {
		t.Error("none was found")
	}
}
