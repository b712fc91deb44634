package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAnswersThatLackTheFileOfAMonthSaySo(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	w := newWorld(t, small)
	w.sluice(t, "run").mustBe(t, 0)
	const ask = "SELECT count(*) FROM contacts_all"
	whole := w.sluice(t, "query", ask).mustBe(t, 0)
	if whole.err != "" {
		t.Errorf("a table that is whole is warned of: %s", whole.err)
	}
	months, err := filepath.Glob(filepath.Join(w.dir, "out", "contacts", "current", "*", "*.parquet"))
	if err != nil || len(months) < 2 {
		t.Fatal(months, err)
	}
	if err := os.Remove(months[0]); err != nil {
		t.Fatal(err)
	}
	less := w.sluice(t, "query", ask).mustBe(t, 0)
	if less.out == whole.out {
		t.Errorf("the answer is %s without one of the months as well", less.out)
	}
	if !strings.HasPrefix(less.err, "warning: files of the table contacts are missing, such as DIR/out/contacts/current/") ||
		!strings.Contains(less.err, "the answer is without them") || !strings.Contains(less.err, "`sluice verify`") {
		t.Errorf("it says %q", less.err)
	}
}

// State of a backup may queue a package that was committed after the backup was
// made, and whose files are gone.
func TestARestoredQueueWhosePackageIsGoneSaysTheWayOutAndThatWorks(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	w := newWorld(t, strings.NewReplacer("destinations:\n", "destinations:\n  local: {type: duckdb, path: db/contacts.duckdb}\n",
		"destinations: [lake]", "destinations: [lake, local]").Replace(small))
	document := ".sluice/state/pipeline.nightly.json"
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(filepath.Join(w.dir, from), filepath.Join(w.dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	w.sluice(t, "run").mustBe(t, 0)
	move("db", "away")
	w.write(t, "db", "in the way")
	w.sluice(t, "run", "--full").mustBe(t, 1)
	backup, err := os.ReadFile(filepath.Join(w.dir, document))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(w.dir, "db")); err != nil {
		t.Fatal(err)
	}
	move("away", "db")
	w.sluice(t, "run").mustBe(t, 0)

	w.write(t, document, string(backup))
	refused := w.sluice(t, "run").mustBe(t, 1)
	const wayOut = "sluice state rm 'pipeline.nightly.destination.local' --force"
	if said := strings.Join(strings.Fields(refused.err), " "); !strings.Contains(said, "check staged part") || !strings.Contains(said, "`"+wayOut+"`") {
		t.Fatalf("it says %s", refused.err)
	}
	w.sluice(t, "state", "rm", "pipeline.nightly.destination.local", "--force").mustBe(t, 0)
	w.sluice(t, "run").mustBe(t, 0)
	if r := w.sluice(t, "verify", "--parity", "nightly").mustBe(t, 0); !strings.Contains(r.out, "local: the same") {
		t.Error(r.out)
	}
}

func TestAnOlderStateThatIsRestoredGoesOnAboveWhatTheTableHas(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small)
	document := ".sluice/state/pipeline.nightly.json"
	w.sluice(t, "run").mustBe(t, 0)
	backup, err := os.ReadFile(filepath.Join(w.dir, document))
	if err != nil {
		t.Fatal(err)
	}
	w.sluice(t, "run", "--full").mustBe(t, 0)
	w.sluice(t, "run", "--full").mustBe(t, 0)

	w.write(t, document, string(backup))
	if r := w.sluice(t, "run", "--full").mustBe(t, 0); !strings.Contains(r.out, "0 new, 0 changed, 40 unchanged") {
		t.Error(r.out)
	}
	w.sluice(t, "verify").mustBe(t, 0)
	if r := w.sluice(t, "state", "show", "pipeline.nightly").mustBe(t, 0); !strings.Contains(r.out, "position       package 4") {
		t.Error(r.out)
	}
}
