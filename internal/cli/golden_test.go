package cli

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/duck"
)

// small is a pipelines file over a small sandbox, unhurried by a rate limit.
const small = `version: 1
state: {path: .sluice}
sources:
  crm: {type: contacts_api, url: "sandbox://?contacts=40&seed=1", requests_per_second: 1000}
destinations:
  lake: {type: parquet, path: out}
pipelines:
  nightly: {source: crm, table: contacts, destinations: [lake], schedule: "0 3 * * *", timezone: America/Santiago}
`

func TestHelpReadsAsItShould(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	for _, name := range []string{"", "run", "plan", "apply", "destroy", "backfill", "reconcile", "verify", "erase", "quarantine", "quarantine list", "quarantine show", "quarantine retry", "quarantine drop", "schedule", "query", "preview", "schema", "runs", "init", "validate", "fmt", "config-schema", "sandbox", "version", "state", "state list", "state show", "state pull", "state push", "state rm", "state mv"} {
		args := strings.Fields(name + " --help")
		r := w.sluice(t, args...).mustBe(t, 0)
		if r.err != "" {
			t.Errorf("%q writes to stderr: %s", name, r.err)
		}
		if name == "" {
			name = "sluice"
		}
		golden(t, "help/"+strings.ReplaceAll(name, " ", "_")+".txt", r.out)
		for line := range strings.Lines(r.out) {
			if name != "sandbox" && displayWidth(strings.TrimRight(line, "\n")) > 110 {
				t.Errorf("help of %s has a line of %d columns: %s", name, displayWidth(line), line)
			}
		}
	}
}

func TestAWrongCommandLineSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	w := newWorld(t, small)
	var b strings.Builder
	for _, line := range []string{
		"rnu", "run --fll", "run nightyl", "run nightly nightly", "validate now", "schema a b", "preview a b",
		"runs --limit -1", "preview nightly --rows 2000", "--log-format xml validate",
		"query a b", "query x --format xls", "query x -o report.xls", "query x -o r.csv --format table", "query x --rows -1",
		"sandbox --contcats 3", "schedule --grace soon",
	} {
		r := w.sluice(t, strings.Fields(line)...).mustBe(t, 1)
		if r.out != "" {
			t.Errorf("%s writes to stdout: %s", line, r.out)
		}
		b.WriteString("$ sluice " + line + "\n" + r.err + "\n")
	}
	golden(t, "usage.txt", b.String())
}

func TestInitWritesAFileThatRunsAndNeverOverwritesOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	r := w.sluice(t, "init").mustBe(t, 0)
	if duck.Available {
		golden(t, "init.txt", r.out)
	} else if strings.Contains(r.out, "query") || !strings.Contains(r.out, "sluice run") {
		t.Errorf("a build without DuckDB suggests\n%s", r.out)
	}
	got, err := os.ReadFile(w.file())
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("../../pipelines.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(example), string(got)); diff != "" {
		t.Errorf("init does not write the repository's pipelines.yaml: copy it to internal/cli (-want +got):\n%s", diff)
	}
	w.sluice(t, "validate").mustBe(t, 0)

	w.write(t, "pipelines.yaml", "mine")
	r = w.sluice(t, "init").mustBe(t, 1)
	golden(t, "init_again.txt", r.err)
	if got, err := os.ReadFile(w.file()); err != nil || !bytes.Equal(got, []byte("mine")) {
		t.Errorf("the file holds %q, %v", got, err)
	}
}

func TestValidateReportsEveryFaultAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, strings.ReplaceAll(strings.Replace(small, "seed=1", "seed=1&contatcs=3", 1), "table: contacts", "table: contacts, schema: crm.yaml"))
	w.write(t, "crm.yaml", "version: 1\ncolumns:\n  - {name: id, path: id, type: strnig}\n")
	r := w.sluice(t, "validate").mustBe(t, 1)
	golden(t, "validate_faults.txt", r.err)
	w = newWorld(t, small)
	if got, want := w.sluice(t, "validate").mustBe(t, 0).out, "DIR/pipelines.yaml is valid: 1 source, 1 destination, 1 pipeline\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestVersionNamesTheBuild(t *testing.T) {
	t.Parallel()
	got := newWorld(t, "").sluice(t, "version").mustBe(t, 0).out
	if ok, err := regexp.MatchString(`\Asluice \S+\n(commit .*\n)?go\S+ \S+/\S+\nDuckDB .+\n\z`, got); err != nil || !ok {
		t.Errorf("got %q", got)
	}
}

func TestCompletionKnowsThePipelines(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small)
	if got := w.sluice(t, "__complete", "run", "").mustBe(t, 0).out; !strings.HasPrefix(got, "nightly\n") {
		t.Errorf("got %q", got)
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if got := w.sluice(t, "completion", shell).mustBe(t, 0).out; !strings.Contains(got, "sluice") {
			t.Errorf("completion for %s: %q", shell, got)
		}
	}
}

func TestABuildWithoutDuckDBDoesEverythingElse(t *testing.T) {
	t.Parallel()
	if duck.Available {
		t.Skip("this build has DuckDB")
	}
	w := newWorld(t, small)
	if r := w.sluice(t, "run").mustBe(t, 0); !strings.Contains(r.out, "Next: read DIR/out/contacts/current/**/*.parquet with any tool") {
		t.Errorf("got\n%s", r.out)
	}
	if r := w.sluice(t, "query", "SELECT 1").mustBe(t, 1); !strings.Contains(r.err, "built without DuckDB") || !strings.Contains(r.err, "CGO_ENABLED=1") {
		t.Errorf("got\n%s", r.err)
	}
}
