package cli

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sluice-etl/sluice/internal/gcs/gcstest"
)

// shares is a file of two pipelines with the same destinations.
const shares = `version: 1
state: {path: .sluice}
sources:
  crm: {type: contacts_api, url: "sandbox://?contacts=40&seed=1"}
destinations:
  lake: {type: parquet, path: out, prevent_destroy: false}
  local: {type: duckdb, path: crm.duckdb, prevent_destroy: false}
pipelines:
  a: {source: crm, destinations: [lake, local], table: aa, stages: crm_stages}
  b: {source: crm, destinations: [lake, local], table: bb, stages: crm_stages}
`

// says fails the test unless a text has all of these.
func says(t *testing.T, text string, want ...string) {
	t.Helper()
	text = strings.Join(strings.Fields(text), " ")
	for _, s := range want {
		if !strings.Contains(text, s) {
			t.Errorf("no %q in\n%s", s, text)
		}
	}
}

func TestTablesOfTwoPipelinesAreMadeAsThePlanSays(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	for _, yaml := range []string{shares, strings.ReplaceAll(shares, ", stages: crm_stages", "")} {
		w := newWorld(t, yaml)
		plan := w.sluice(t, "plan", "--no-data").mustBe(t, 0).out
		says(t, plan, "+ destination.local.view.active ", "+ destination.local.view.bb_active ")
		w.sluice(t, "apply", "--no-data", "--auto-approve").mustBe(t, 0)
		w.sluice(t, "plan", "--detailed-exitcode").mustBe(t, 0)
		w.sluice(t, "plan", "--detailed-exitcode", "--refresh=false").mustBe(t, 0)
	}
}

func TestAPartOfATableIsNotRemovedAlone(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	w := newWorld(t, strings.ReplaceAll(shares, ", stages: crm_stages", ""))
	w.sluice(t, "run").mustBe(t, 0)
	for _, part := range []string{"table.aa_stages", "view.aa"} {
		r := w.sluice(t, "destroy", "--target", "destination.local."+part, "--auto-approve").mustBe(t, 1)
		says(t, r.err, "destination.local."+part+" cannot be removed without destination.local.table.aa", "nothing was removed", "--target destination.local.table.aa")
	}
	w.sluice(t, "verify").mustBe(t, 0)
	w.sluice(t, "plan", "--detailed-exitcode").mustBe(t, 0)

	// A table goes with all that is over it, and comes again by a full read.
	lake := w.tree(t, "out")
	r := w.sluice(t, "destroy", "--target", "destination.local.table.bb", "--auto-approve").mustBe(t, 0)
	says(t, r.out, "destination.local.table.bb: removed, with 13 views", "destination.local.table.bb_stages: removed")
	if strings.Contains(r.out, "table.aa") || strings.Contains(r.out, "lake") {
		t.Errorf("more was removed:\n%s", r.out)
	}
	again := w.sluice(t, "run").mustBe(t, 0)
	says(t, again.err, `b: reading everything (destination "local" is new)`, "b: local committed: 40 new", "b: lake committed: 0 new, 0 changed, 40 unchanged")
	for name, was := range w.tree(t, "out") {
		if strings.HasSuffix(name, ".parquet") && !strings.Contains(name, "stages") && lake[name] != was {
			t.Errorf("%s of the other destination was written", name)
		}
	}
	w.sluice(t, "plan", "--detailed-exitcode").mustBe(t, 0)
}

func TestStagesThatAnotherPipelineUsesStay(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	w := newWorld(t, shares)
	w.sluice(t, "run").mustBe(t, 0)
	if r := w.sluice(t, "destroy", "a", "--auto-approve").mustBe(t, 0); strings.Contains(r.out, "table.crm_stages") {
		t.Errorf("the other pipeline's stages go:\n%s", r.out)
	}
	w.sluice(t, "plan", "b", "--detailed-exitcode").mustBe(t, 0)
	r := w.sluice(t, "destroy", "--auto-approve").mustBe(t, 0)
	says(t, r.out, "destination.lake.table.crm_stages: removed", "destination.local.table.crm_stages: removed")
	if left := w.tree(t, "out"); len(left) != 0 {
		t.Errorf("left are %v", left)
	}
	w.sluice(t, "run").mustBe(t, 0)
}

func TestTablesThatSomebodyRemovedAreToldAndFilledAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, strings.Replace(plans, "[lake]", "[lake, spare]", 1))
	w.sluice(t, "run").mustBe(t, 0)
	remove := func(names ...string) {
		t.Helper()
		for _, name := range names {
			if err := os.RemoveAll(w.at(name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove("spare")
	stops := "destination.spare takes nothing: the table is not there, and packages up to 1 were committed to it; `sluice run nightly --full` fills it again"
	says(t, w.sluice(t, "plan").mustBe(t, 0).out, "destination.spare.table.contacts is gone", "begins anew with the next `sluice run --full`", stops)
	w.sluice(t, "apply", "--no-data", "--auto-approve").mustBe(t, 0)
	says(t, w.sluice(t, "plan", "--detailed-exitcode").mustBe(t, 0).out, stops)
	w.sluice(t, "run").mustBe(t, 1)
	w.sluice(t, "run", "nightly", "--full").mustBe(t, 0)
	if r := w.sluice(t, "plan").mustBe(t, 0); strings.Contains(r.out, "takes nothing") {
		t.Errorf("a full read did not help:\n%s", r.out)
	}
	// What is to be destroyed and is gone is forgotten, with the cursor.
	remove("out", "spare")
	w.sluice(t, "destroy", "--auto-approve").mustBe(t, 0)
	if r := w.sluice(t, "run").mustBe(t, 0); !strings.Contains(r.out, "40 new") {
		t.Errorf("afterwards:\n%s", r.out)
	}
}

func TestADestinationThatIsDownIsNamedAndTheOthersGoOn(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	w := newWorld(t, strings.Replace(shares, "  b: {source: crm, destinations: [lake, local], table: bb, stages: crm_stages}\n", "", 1))
	w.sluice(t, "run").mustBe(t, 0)
	for _, err := range []error{os.Rename(w.at("crm.duckdb"), w.at("away")), os.Mkdir(w.at("crm.duckdb"), 0o700), os.Remove(w.at(filepath.Join("out", "aa", "views.sql")))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	says(t, w.sluice(t, "plan").mustBe(t, 1).err, `look at destination "local"`, "name others with --target", "plan --refresh=false")
	says(t, w.sluice(t, "plan", "--target", "destination.lake").mustBe(t, 0).out, "+ destination.lake.view.aa ")
	w.sluice(t, "plan", "--refresh=false", "--detailed-exitcode").mustBe(t, 0)
	says(t, w.sluice(t, "plan", "--target", "destination.lak").mustBe(t, 1).err, "destination")
	w.sluice(t, "apply", "--target", "destination.lake", "--auto-approve").mustBe(t, 0)
	w.sluice(t, "plan", "--target", "destination.lake", "--detailed-exitcode").mustBe(t, 0)
	w.sluice(t, "apply", "--auto-approve").mustBe(t, 1)
}

func TestARenamedDestinationIsSuggestedAndThenNoChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t, plans)
	w.sluice(t, "run").mustBe(t, 0)
	w.write(t, "pipelines.yaml", strings.NewReplacer("lake: {", "archive: {", "[lake]", "[archive]").Replace(plans))
	says(t, w.sluice(t, "plan", "--no-data").mustBe(t, 0).out, "`sluice state mv destination.lake destination.archive`", `destination "archive" is new`)
	w.sluice(t, "state", "mv", "destination.lake", "destination.archive").mustBe(t, 0)
	w.sluice(t, "plan", "--detailed-exitcode").mustBe(t, 0)
	w.sluice(t, "plan", "--detailed-exitcode", "--refresh=false").mustBe(t, 0)
	says(t, w.sluice(t, "run").mustBe(t, 0).err, "reading what changed")
}

// The command that is printed puts state in place, and the next apply goes on.
func TestStateThatCannotBeSavedIsPushedByTheCommandThatIsPrinted(t *testing.T) {
	t.Parallel()
	g := gcstest.Start(t, "lake", "sluice")
	w := remoteWorld(t, changing(t, 20, ""), g, "")
	g.SetFault(func(_ int, r *http.Request) gcstest.Fault {
		if r.Method != http.MethodGet && strings.Contains(r.URL.String(), "resources") {
			return gcstest.Forbid
		}
		return gcstest.None
	})
	r := w.sluice(t, "apply", "--auto-approve").mustBe(t, 1)
	g.SetFault(nil)
	if n := strings.Count(r.err, "sluice-state-"); strings.Contains(r.out, "nightly: done") || strings.Contains(r.out, "lake.table.contacts: created") {
		t.Errorf("it went on (%d):\n%s%s", n, r.out, r.err)
	}
	file := regexp.MustCompile(`state push\s+(\S+\.json)`).FindStringSubmatch(r.err)
	if file == nil {
		t.Fatalf("no command in\n%s", r.err)
	}
	t.Cleanup(func() { _ = os.Remove(file[1]) })
	w.sluice(t, "state", "push", file[1]).mustBe(t, 0)
	rest := w.sluice(t, "apply", "--auto-approve").mustBe(t, 0)
	if strings.Contains(rest.out, "destination.bucket.table.contacts: created") {
		t.Errorf("what was made is not remembered:\n%s", rest.out)
	}
	says(t, rest.out, "destination.lake.table.contacts: created", "20 new")
	w.sluice(t, "plan", "--detailed-exitcode").mustBe(t, 0)
}

func TestASourceThatIsDownIsNoFaultOfAPlan(t *testing.T) {
	t.Parallel()
	w := newWorld(t, strings.Replace(plans, "pipelines:\n", `  off: {type: parquet, path: off}
pipelines:
  asked: {source: down, table: x, destinations: [off]}
  filtered: {source: down, table: y, destinations: [off], filters: {pipeline_id: ["7b1f5e0a-1111-4222-8333-123456789abc"]}}
`, 1))
	text, err := os.ReadFile(w.file())
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, "pipelines.yaml", strings.Replace(string(text), "destinations:\n", `  down: {type: contacts_api, url: "http://127.0.0.1:1", api_key: "${KEY}", allow_insecure: true, retry_for: 1s}
destinations:
`, 1))
	w.env["KEY"] = "nobodys"
	r := w.sluice(t, "plan").mustBe(t, 0)
	if strings.Count(r.out, "how much that is could not be counted") != 2 || !strings.Contains(r.out, "40 contacts") {
		t.Errorf("got\n%s", r.out)
	}
}

func TestALimitIsToldAndStopsOneRunAlone(t *testing.T) {
	t.Parallel()
	limited := strings.Replace(plans, "stages: off}\n", "stages: off}\n  small: {source: big, table: small, destinations: [spare], stages: off, LIMIT}\n", 1)
	limited = strings.Replace(limited, "destinations:\n", "  big: {type: contacts_api, url: \"sandbox://?contacts=3000&seed=1\", page_size: 100}\ndestinations:\n", 1)
	for limit, want := range map[string][2]string{
		"max_requests: 12": {"max_requests stops the run after 12 requests", "max_requests: the limit of 12 requests"}, "max_bytes: 1MB": {"max_bytes stops the run before 1.0 MB", "max_bytes: another answer could exceed the limit of 1000000 bytes"},
	} {
		w := newWorld(t, strings.Replace(limited, "LIMIT", limit, 1))
		says(t, w.sluice(t, "plan").mustBe(t, 0).out, want[0], "what it has read by then is kept, and the next run goes on")
		r := w.sluice(t, "apply", "--auto-approve").mustBe(t, 4)
		says(t, r.out, "nightly: done")
		says(t, r.err, want[1], "what a run or a backfill has read is kept")
		w.write(t, "pipelines.yaml", strings.Replace(limited, ", LIMIT", "", 1))
		says(t, w.sluice(t, "run", "small").mustBe(t, 0).err, "going on from")
	}
}

func TestAPlanOfThreeAccountsReadsAsItShould(t *testing.T) {
	t.Parallel()
	w := newWorld(t, strings.NewReplacer(`"http://127.0.0.1:1", key: "${KEY}"`, `"sandbox://?contacts=10&seed=3"`, "broken", "initech",
		"for_each: *accounts}", "for_each: *accounts, stages: off}").Replace(agency))
	w.planGolden(t, "three_accounts", "nightly")
	w.sluice(t, "apply", "nightly", "--auto-approve").mustBe(t, 0)
	w.planGolden(t, "three_accounts_done", "nightly")
	w.sluice(t, "plan", "--detailed-exitcode", "--no-data").mustBe(t, 2) // of weekly
	one := w.sluice(t, "plan", "--target", `pipeline.nightly["acme"]`).mustBe(t, 0)
	if strings.Contains(one.out, "initech") || !strings.Contains(one.out, `sync pipeline.nightly["acme"]`) {
		t.Errorf("one account's plan is\n%s", one.out)
	}
}

// Where only rows came, or a run added no column, a saved plan is done; where a
// contract or a variable moved, it is refused.
func TestASavedPlanOutlivesRowsAndNotItsContractOrVariables(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.write(t, "contract.yaml", contractWith(t, "  - {name: nickname, path: nickname, type: string, description: What friends say}\n"))
	yaml := strings.NewReplacer("stages: off}", `stages: off, schema: contract.yaml, filters: {platform: ["${ONE}"]}}`).Replace(plans)
	w.write(t, "pipelines.yaml", yaml)
	w.env["ONE"] = "whatsapp"
	w.sluice(t, "run").mustBe(t, 0)
	if err := os.Remove(w.at("out/contacts/views.sql")); err != nil {
		t.Fatal(err)
	}
	w.sluice(t, "plan", "--no-data", "--out", w.at("p")).mustBe(t, 0)
	for name, change := range map[string]func(){
		"a contract file": func() { w.write(t, "contract.yaml", contractWith(t, "")) },
		"a variable":      func() { w.env["ONE"] = "web" },
	} {
		was, one := w.tree(t, "contract.yaml"), w.env["ONE"]
		text, err := os.ReadFile(w.at("contract.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		change()
		if r := w.sluice(t, "apply", w.at("p")); r.code != 1 || !strings.Contains(r.err, "is stale") && !strings.Contains(r.err, "nickname") {
			t.Errorf("with %s changed (%d files): exit %d, %s", name, len(was), r.code, r.err)
		}
		w.write(t, "contract.yaml", string(text))
		w.env["ONE"] = one
	}
	w.sluice(t, "apply", w.at("p")).mustBe(t, 0)
	w.sluice(t, "plan", "--detailed-exitcode").mustBe(t, 0)
}
