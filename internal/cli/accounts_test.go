package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/quarantine"
)

// agency exports three accounts; one of them cannot be reached.
const agency = `version: 1
state: {path: .sluice}
defaults:
  sources: {type: contacts_api, requests_per_second: 1000, retry_for: 1s}
sources:
  crm:
    url: ${each.value.url}
    api_key: ${each.value.key:-sandbox}
    for_each: &accounts
      acme: {url: "sandbox://?contacts=30&seed=1"}
      broken: {url: "http://127.0.0.1:1", key: "${KEY}"}
      globex-eu: {url: "sandbox://?contacts=20&seed=2"}
destinations:
  lake: {type: parquet, path: out}
pipelines:
  nightly: {source: crm, destinations: lake, for_each: *accounts}
  weekly: {source: 'crm["acme"]', destinations: lake, table: weekly, stages: off}
`

func newAgency(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, agency)
	w.env["KEY"] = "a-real-key-0001"
	return w
}

func TestAnAccountThatFailsStopsNoOther(t *testing.T) {
	t.Parallel()
	w := newAgency(t)
	r := w.sluice(t, "run", "nightly").mustBe(t, exitPartial)
	for _, want := range []string{`nightly["acme"]: done`, `nightly["globex-eu"]: done`} {
		if !strings.Contains(r.out, want) {
			t.Errorf("%q is not in\n%s", want, r.out)
		}
	}
	if !strings.Contains(r.err, `pipeline nightly["broken"]: `) || strings.Contains(r.out, "weekly") {
		t.Errorf("stderr:\n%s\nstdout:\n%s", r.err, r.out)
	}
	for table, there := range map[string]bool{"contacts_acme": true, "contacts_globex_eu": true, "contacts_broken": false, "weekly": false} {
		if _, err := os.Stat(filepath.Join(w.dir, "out", table, "current")); (err == nil) != there {
			t.Errorf("table %s: %v", table, err)
		}
	}
	// All that was asked for failed: that is an error, not a part.
	w.sluice(t, "run", "nightly.broken").mustBe(t, exitError)
}

func TestOneAccountIsRunVerifiedAndListedByItself(t *testing.T) {
	t.Parallel()
	w := newAgency(t)
	for _, name := range []string{`nightly["acme"]`, "nightly.acme", "nightly[acme]"} {
		if r := w.sluice(t, "run", name).mustBe(t, 0); !strings.Contains(r.out, `nightly["acme"]: done`) || strings.Contains(r.out, "globex") {
			t.Errorf("%s:\n%s", name, r.out)
		}
	}
	if r := w.sluice(t, "runs", "nightly.acme").mustBe(t, 0); strings.Count(r.out, `nightly["acme"]`) != 3 {
		t.Errorf("got\n%s", r.out)
	}
	if r := w.sluice(t, "verify", "nightly.acme").mustBe(t, 0); !strings.Contains(r.out, "sound") {
		t.Errorf("got\n%s", r.out)
	}
	if r := w.sluice(t, "plan", "nightly").mustBe(t, 0); r.out == "" {
		t.Error("nothing is planned")
	}
}

func TestACommandForOnePipelineListsTheAccounts(t *testing.T) {
	t.Parallel()
	w := newAgency(t)
	for _, line := range []string{"reconcile nightly", "preview nightly", "schema nightly", "backfill nightly --by created_at --from 2026-01-01"} {
		r := w.sluice(t, strings.Fields(line)...).mustBe(t, 1)
		if !strings.Contains(r.err, "one for each of 3 accounts") || !strings.Contains(r.err, "nightly.acme, nightly.broken, nightly.globex-eu") {
			t.Errorf("%s:\n%s", line, r.err)
		}
	}
	if r := w.sluice(t, "run", "nightly.acne").mustBe(t, 1); !strings.Contains(r.err, `did you mean "nightly.acme"`) {
		t.Errorf("got\n%s", r.err)
	}
}

func TestTheExampleOfManyAccountsRunsAsItStands(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "## Many accounts")
	_, section, _ = strings.Cut(section, "```yaml\n")
	example, _, ok := strings.Cut(section, "```")
	if !ok {
		t.Fatal("the page has no example")
	}
	w := newWorld(t, example)
	w.sluice(t, "fmt", "--check").mustBe(t, 0)
	r := w.sluice(t, "run", "nightly").mustBe(t, 0)
	for _, account := range []string{"acme", "globex"} {
		if _, err := os.Stat(filepath.Join(w.dir, "out", "contacts_"+account, "current")); err != nil || !strings.Contains(r.out, `nightly["`+account+`"]: done`) {
			t.Errorf("%v\n%s", err, r.out)
		}
	}
}

func TestCompletionOffersAccounts(t *testing.T) {
	t.Parallel()
	w := newAgency(t)
	if got := w.sluice(t, "__complete", "run", "").mustBe(t, 0).out; !strings.HasPrefix(got, "nightly\nnightly.acme\nnightly.broken\nnightly.globex-eu\nweekly\n") {
		t.Errorf("got %q", got)
	}
}

// File systems that refuse quotes take the names of accounts too.
func TestNothingInStateIsNamedWithQuotesOrBrackets(t *testing.T) {
	t.Parallel()
	w := newAgency(t)
	w.sluice(t, "run", "nightly.acme", "--json").mustBe(t, 0)
	if dir := quarantine.In(w.dir, `nightly["acme"]`, nil).Dir(); strings.ContainsAny(dir, `"[]`) {
		t.Errorf("records are set aside in %s", dir)
	}
	found := false
	err := filepath.WalkDir(w.dir, func(path string, _ os.DirEntry, err error) error {
		rel, relErr := filepath.Rel(w.dir, path)
		if strings.ContainsAny(rel, `"[]`) {
			t.Errorf("%s has quotes or brackets", rel)
		}
		found = found || strings.Contains(rel, "nightly%5b%22acme%22%5d")
		if err != nil {
			return err
		}
		return relErr
	})
	if err != nil || !found {
		t.Errorf("no file is the account's: %v", err)
	}
}

func TestAllSourcesOfAProcessShareTheLimitsOfAHost(t *testing.T) {
	t.Parallel()
	w := newAgency(t)
	cfg, list := config.Load(w.file(), func(string) (string, bool) { return "a-real-key-0001", true })
	if cfg == nil {
		t.Fatal(list)
	}
	s := (&app{}).newSources()
	first, _, err := s.open(t.Context(), cfg, cfg.Sources[1])
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := s.open(t.Context(), cfg, cfg.Sources[1])
	if err != nil || first.Hosts == nil || first.Hosts != second.Hosts {
		t.Errorf("each source has limits of its own (%v)", err)
	}
}
