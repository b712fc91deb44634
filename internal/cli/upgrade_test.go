package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/internal/clock"
)

// testdata/upgrade has what the first build that could run left behind, against
// sandbox://?contacts=N&seed=1 (N: 300, 12 and 1): state with a run that was
// killed while it read, state with a package that a destination has not taken
// yet, and state with a table.

// nextDay is the day after the fixtures were made.
var nextDay = clock.Fixed(time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC))

const upgraded = `version: 1
state: {path: state}
sources:
  crm: {type: contacts_api, url: "sandbox://?contacts=N&seed=1", requests_per_second: 1000}
destinations:
  lake: {type: parquet, path: out}
  second: {type: parquet, path: second}
pipelines:
  nightly: {source: crm, table: contacts, destinations: [lake]}
`

// left is a world in which an older build was at work.
func left(t *testing.T, what, contacts string) *world {
	t.Helper()
	w := newWorld(t, strings.Replace(upgraded, "N&", contacts+"&", 1))
	w.clock = nextDay
	if err := os.CopyFS(w.dir, os.DirFS(filepath.Join("testdata", "upgrade", what))); err != nil {
		t.Fatal(err)
	}
	return w
}

// asFresh fails unless a destination has what a fresh export has.
func (w *world) asFresh(t *testing.T, contacts, destination string) {
	t.Helper()
	fresh := newWorld(t, strings.Replace(upgraded, "N&", contacts+"&", 1))
	fresh.clock = nextDay
	fresh.sluice(t, "run").mustBe(t, 0)
	const everything = "SELECT * EXCLUDE (_sluice_run_id, _sluice_extracted_at, _sluice_package, _sluice_row, _sluice_hash, _sluice_change) FROM contacts_all ORDER BY id"
	want := fresh.sluice(t, "query", "--destination", "lake", "--rows", "0", everything).mustBe(t, 0).out
	got := w.sluice(t, "query", "--destination", destination, "--rows", "0", everything).mustBe(t, 0).out
	if got != want {
		t.Errorf("%d and %d bytes: the tables differ\n%.3000s\nwant\n%.3000s", len(got), len(want), got, want)
	}
}

func TestARunThatAnOlderBuildWasKilledInIsReadToItsEnd(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	w := left(t, "killed", "300")
	if r := w.sluice(t, "run").mustBe(t, 0); !strings.Contains(r.err, "300 new") {
		t.Errorf("got\n%s\n%s", r.out, r.err)
	}
	w.asFresh(t, "300", "lake")
	if dirs, err := os.ReadDir(filepath.Join(w.dir, "state", "runs")); err != nil || len(dirs) > 0 {
		t.Errorf("left are %v, %v", dirs, err)
	}
}

func TestAPackageThatAnOlderBuildSealedIsCommitted(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	w := left(t, "queued", "12")
	w.write(t, "pipelines.yaml", strings.NewReplacer("N&", "12&", "[lake]", "[second]").Replace(upgraded))
	if r := w.sluice(t, "run").mustBe(t, 0); !strings.Contains(r.err, "second committed: 12 new") {
		t.Errorf("got\n%s\n%s", r.out, r.err)
	}
	w.asFresh(t, "12", "second")
	w.sluice(t, "verify", "nightly").mustBe(t, 0)
}

func TestATableThatAnOlderBuildWroteIsGoneOnWith(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	w := left(t, "table", "1")
	w.sluice(t, "run").mustBe(t, 0)
	w.asFresh(t, "1", "lake")
	w.sluice(t, "run", "--full").mustBe(t, 0)
	w.asFresh(t, "1", "lake")
	w.sluice(t, "verify", "nightly").mustBe(t, 0)
}

func TestWhatANewerBuildWroteIsRefusedAndLeftAsItIs(t *testing.T) {
	t.Parallel()
	for file, says := range map[string]string{
		"state/state/pipeline.nightly.json":   "format 2, written by sluice devel; this version reads formats up to 1",
		"out/contacts/_manifests/latest.json": "format 2, this version of sluice knows up to 1",
	} {
		w := left(t, "table", "1")
		path := filepath.Join(w.dir, filepath.FromSlash(file))
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		newer := strings.Replace(string(data), `"format_version": 1`, `"format_version": 2`, 1)
		if newer == string(data) {
			newer = strings.Replace(newer, `"format_version":1`, `"format_version":2`, 1)
		}
		w.write(t, file, newer)
		before := w.tree(t, "out")
		if r := w.sluice(t, "run").mustBe(t, 1); !strings.Contains(r.err, says) {
			t.Errorf("%s: got\n%s", file, r.err)
		}
		after := w.tree(t, "out")
		for name, was := range before {
			if after[name] != was {
				t.Errorf("%s: %s was changed", file, name)
			}
		}
	}
}
