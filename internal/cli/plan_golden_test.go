package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// plans is a pipelines file to plan with.
const plans = `version: 1
state: {path: .sluice}
sources:
  crm: {type: contacts_api, url: "sandbox://?contacts=40&seed=1", requests_per_second: 1000}
destinations:
  lake: {type: parquet, path: out}
  spare: {type: parquet, path: spare}
pipelines:
  nightly: {source: crm, destinations: [lake], stages: off}
`

// settled takes what depends on the day and the machine out of a plan.
func settled(s string) string {
	s = regexp.MustCompile(`[0-9.]+ (s|min|kB|MB)\b`).ReplaceAllString(s, "N $1")
	s = regexp.MustCompile(`counted in \d+ requests`).ReplaceAllString(s, "counted in N requests")
	return regexp.MustCompile(`"[0-9a-f]{12}"`).ReplaceAllString(s, `"DIGEST"`)
}

// at is the path of a file of the world.
func (w *world) at(name string) string { return filepath.Join(w.dir, name) }

func (w *world) planGolden(t *testing.T, name string, args ...string) string {
	t.Helper()
	r := w.sluice(t, append([]string{"plan"}, args...)...).mustBe(t, 0)
	golden(t, "plan/"+name+".txt", settled(r.out))
	if r.err != "" {
		t.Errorf("%s: stderr has %s", name, r.err)
	}
	return r.out
}

func TestPlansReadAsTheyShould(t *testing.T) {
	t.Parallel()
	w := newWorld(t, plans)
	w.planGolden(t, "first")
	w.sluice(t, "apply", "--no-data", "--auto-approve").mustBe(t, 0)
	w.planGolden(t, "tables_without_rows")
	w.sluice(t, "run").mustBe(t, 0)
	w.planGolden(t, "nothing_to_do")
	w.sluice(t, "plan", "--detailed-exitcode").mustBe(t, 0)

	// A column of the contract that the tables do not have yet.
	w.write(t, "contract.yaml", contractWith(t, "  - {name: nickname, path: nickname, type: string, description: What friends say}\n"))
	w.write(t, "pipelines.yaml", strings.Replace(plans, "stages: off", "stages: off, schema: contract.yaml", 1))
	w.planGolden(t, "additive")
	w.sluice(t, "plan", "--detailed-exitcode").mustBe(t, 2)
	w.sluice(t, "apply", "--auto-approve").mustBe(t, 0)
	w.sluice(t, "plan", "--detailed-exitcode").mustBe(t, 0)

	// Something else has been at the destination.
	views := filepath.Join("out", "contacts", "views.sql")
	if err := os.Remove(filepath.Join(w.dir, views)); err != nil {
		t.Fatal(err)
	}
	w.planGolden(t, "drift", "--no-data")
	if r := w.sluice(t, "plan", "--no-data", "--refresh=false").mustBe(t, 0); !strings.HasPrefix(r.out, "No changes") {
		t.Errorf("without looking, the plan is\n%s", r.out)
	}
	w.sluice(t, "apply", "--no-data", "--auto-approve").mustBe(t, 0)
	if _, err := os.Stat(filepath.Join(w.dir, views)); err != nil {
		t.Error(err)
	}

	both := strings.Replace(plans, "destinations: [lake], stages: off", "destinations: [lake, spare], stages: off, schema: contract.yaml", 1)
	w.write(t, "pipelines.yaml", both)
	w.planGolden(t, "new_destination")
	golden(t, "plan/apply_new_destination.txt", settled(w.sluice(t, "apply", "--auto-approve").mustBe(t, 0).out))

	w.write(t, "pipelines.yaml", strings.Replace(both, "[lake, spare]", "[lake]", 1))
	w.planGolden(t, "removed_destination", "--no-data")
	w.sluice(t, "apply", "--no-data", "--auto-approve").mustBe(t, 0)
	if _, err := os.Stat(filepath.Join(w.dir, "spare", "contacts", "current")); err != nil {
		t.Errorf("what was forgotten is gone: %v", err)
	}
	w.sluice(t, "plan", "--no-data", "--detailed-exitcode").mustBe(t, 0)
}

// contractWith is the built-in contract with a line more among its columns.
func contractWith(t *testing.T, line string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "schemas", "contacts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	i := strings.Index(text, "\ncolumns:\n") + len("\ncolumns:\n")
	return text[:i] + line + text[i:]
}

func TestASavedPlanIsDoneAsItWasShownOrRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, plans)
	shown := w.sluice(t, "plan", "--out", w.at("first.plan")).mustBe(t, 0).out
	if info, err := os.Stat(w.at("first.plan")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the plan is %v, %v", info.Mode(), err)
	}
	w.write(t, "pipelines.yaml", strings.Replace(plans, "path: out}", "path: other}", 1))
	golden(t, "plan/refused_config.txt", strings.ReplaceAll(w.sluice(t, "apply", w.at("first.plan")).mustBe(t, 1).err, w.dir, "DIR"))
	w.write(t, "pipelines.yaml", "# a comment\n"+plans)
	done := w.sluice(t, "apply", w.at("first.plan")).mustBe(t, 0) // a saved plan has been approved
	text, _, _ := strings.Cut(shown, "sync pipeline")
	if !strings.HasPrefix(done.out, text) || !strings.Contains(done.out, "nightly: done") {
		t.Errorf("shown was\n%s\nand done\n%s", shown, done.out)
	}
	golden(t, "plan/refused_state.txt", strings.ReplaceAll(w.sluice(t, "apply", w.at("first.plan")).mustBe(t, 1).err, w.dir, "DIR"))

	// A nightly run does not make a plan stale; a destination that moved does.
	w.write(t, "pipelines.yaml", strings.Replace(plans, "[lake]", "[lake, spare]", 1))
	w.sluice(t, "plan", "--out", w.at("second.plan")).mustBe(t, 0)
	w.write(t, "pipelines.yaml", plans)
	w.sluice(t, "run", "--full").mustBe(t, 0)
	w.write(t, "pipelines.yaml", strings.Replace(plans, "[lake]", "[lake, spare]", 1))
	views := filepath.Join(w.dir, "out", "contacts", "views.sql")
	was, err := os.ReadFile(views)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(views); err != nil {
		t.Fatal(err)
	}
	golden(t, "plan/refused_destination.txt", strings.ReplaceAll(w.sluice(t, "apply", w.at("second.plan")).mustBe(t, 1).err, w.dir, "DIR"))
	if err := os.WriteFile(views, was, 0o600); err != nil {
		t.Fatal(err)
	}
	w.sluice(t, "apply", w.at("second.plan")).mustBe(t, 0)
}

func TestASavedPlanWithoutDataRunsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, plans)
	w.sluice(t, "plan", "--no-data", "--out", w.at("tables.plan")).mustBe(t, 0)
	if r := w.sluice(t, "apply", w.at("tables.plan")).mustBe(t, 0); strings.Contains(r.out, "nightly: done") || !strings.Contains(r.out, "Apply complete: 15 added") {
		t.Errorf("got\n%s", r.out)
	}
}

func TestAPlanFileThatIsNoneIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, plans)
	w.write(t, "future.plan", `{"format_version": 99, "type": "plan", "sluice_version": "9.0"}`)
	w.write(t, "torn.plan", `{"format_version": 1, "type": "pl`)
	w.write(t, "other.plan", `{"format_version": 1, "type": "state"}`)
	for file, want := range map[string]string{
		"future.plan": "its format is 99, written by sluice 9.0; this build reads 1", "torn.plan": "it is not JSON", "other.plan": "its type is not plan",
		"missing.plan": "no such file",
	} {
		if r := w.sluice(t, "apply", w.at(file)).mustBe(t, 1); !strings.Contains(r.err, want) || !strings.Contains(r.err, "sluice plan --out") {
			t.Errorf("%s: %s", file, r.err)
		}
	}
}

func TestAPlanAsJSONSaysWhatTheTextSays(t *testing.T) {
	t.Parallel()
	w := newWorld(t, plans)
	var doc planDocument
	if err := json.Unmarshal([]byte(w.sluice(t, "plan", "--json").mustBe(t, 0).out), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.FormatVersion != 1 || doc.Type != "plan" || doc.Summary["create"] != len(doc.Changes) || len(doc.Syncs) != 1 || doc.Syncs[0].Contacts != 40 || !doc.Refreshed || doc.Bound.Configuration == "" {
		t.Errorf("got %+v", doc)
	}
	if c := doc.Changes[0]; c.Address != "destination.lake.table.contacts" || c.Action != "create" || c.Attributes[0].Name != "place" || *c.Attributes[0].To != "out/contacts" || c.Attributes[0].From != nil {
		t.Errorf("the first change is %+v", c)
	}
}

func TestAPlanIsLimitedToATarget(t *testing.T) {
	t.Parallel()
	w := newWorld(t, strings.Replace(plans, "[lake]", "[lake, spare]", 1))
	r := w.sluice(t, "apply", "--target", "destination.spare", "--auto-approve").mustBe(t, 0)
	if strings.Contains(r.out, "lake") || strings.Contains(r.out, "nightly: done") {
		t.Errorf("got\n%s", r.out)
	}
	if _, err := os.Stat(filepath.Join(w.dir, "out")); err == nil {
		t.Error("another destination was touched")
	}
	no := w.sluice(t, "plan", "--target", "destination.spar").mustBe(t, 1)
	if !strings.Contains(no.err, `target "destination.spar" names nothing`) || !strings.Contains(no.err, "destination.spare.table.contacts") {
		t.Errorf("got %s", no.err)
	}
}

func TestDestroyRemovesWhatIsNotProtectedOnceApproved(t *testing.T) {
	t.Parallel()
	open := strings.Replace(plans, "path: out}", "path: out, prevent_destroy: false}", 1)
	w := newWorld(t, plans)
	w.sluice(t, "run").mustBe(t, 0)
	before := w.tree(t, "out")
	golden(t, "plan/destroy_protected.txt", settled(w.sluice(t, "destroy", "--auto-approve").mustBe(t, 1).err))
	w.write(t, "pipelines.yaml", open)
	golden(t, "plan/destroy_unapproved.txt", settled(w.sluice(t, "destroy").mustBe(t, 3).out))
	for name, was := range before {
		if w.tree(t, "out")[name] != was {
			t.Errorf("%s was touched", name)
		}
	}
	golden(t, "plan/destroy.txt", settled(w.sluice(t, "destroy", "--auto-approve").mustBe(t, 0).out))
	if left := w.tree(t, "out"); len(left) != 0 {
		t.Errorf("left are %v", left)
	}
	if r := w.sluice(t, "destroy", "--auto-approve").mustBe(t, 0); !strings.Contains(r.out, "nothing to destroy") {
		t.Errorf("a second time: %s", r.out)
	}
	if r := w.sluice(t, "run").mustBe(t, 0); !strings.Contains(r.out, "40 new") {
		t.Errorf("afterwards: %s", r.out)
	}
}

func TestAFrozenRunChangesNoTable(t *testing.T) {
	t.Parallel()
	w := newWorld(t, plans)
	golden(t, "plan/frozen.txt", settled(w.sluice(t, "run", "--frozen").mustBe(t, 3).err))
	if _, err := os.Stat(filepath.Join(w.dir, "out")); err == nil {
		t.Error("a frozen run has made a table")
	}
	w.sluice(t, "run").mustBe(t, 0)
	w.sluice(t, "run", "--frozen").mustBe(t, 0)
}

func TestAPlanThatDoesNotLookTakesSharedThingsForWhatTheyWere(t *testing.T) {
	t.Parallel()
	shared := strings.Replace(plans, "stages: off}", "stages: crm_stages}\n  other: {source: crm, table: others, destinations: [lake], stages: crm_stages}", 1)
	w := newWorld(t, shared)
	w.sluice(t, "run").mustBe(t, 0)
	if r := w.sluice(t, "plan", "--no-data", "--refresh=false").mustBe(t, 0); !strings.HasPrefix(r.out, "No changes") {
		t.Errorf("of both pipelines the plan is\n%s", r.out)
	}
	w.write(t, "pipelines.yaml", strings.ReplaceAll(shared, "stages: crm_stages", "stages: off"))
	r := w.sluice(t, "plan", "--no-data", "--refresh=false").mustBe(t, 0)
	if !strings.Contains(r.out, ". destination.lake.table.crm_stages will be forgotten") {
		t.Errorf("a table of stages that nobody asks for is not forgotten:\n%s", r.out)
	}
}

func TestAPlanHidesTheValueOfAFilterWhereTheContractProtectsValues(t *testing.T) {
	t.Parallel()
	filtered := strings.Replace(plans, "stages: off", `stages: off, schema: contract.yaml, filters: {custom_field_key: city, custom_field_value: Valparaiso}`, 1)
	for line, hides := range map[string]bool{
		"  - {name: nickname, path: nickname, type: string}\n":               false,
		"  - {name: nickname, path: nickname, type: string, policy: mask}\n": true,
	} {
		w := newWorld(t, filtered)
		w.write(t, "contract.yaml", contractWith(t, line))
		text := w.sluice(t, "plan", "--no-data").mustBe(t, 0).out
		w.sluice(t, "apply", "--no-data", "--auto-approve").mustBe(t, 0)
		for what, got := range map[string]string{"the plan": text, "state": w.sluice(t, "state", "pull").mustBe(t, 0).out} {
			if strings.Contains(got, "Valparaiso") == hides || strings.Contains(got, "(hidden)") != hides {
				t.Errorf("with %q %s says\n%s", line, what, got)
			}
		}
	}
}

func TestAPlanIsColouredOnATerminalThatWantsIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, plans)
	plain := w.sluice(t, "plan", "--no-data").mustBe(t, 0).out
	shown := w.onTerminal(t, "plan", "--no-data").mustBe(t, 0).out
	if !strings.Contains(shown, "\x1b[32m  +\x1b[0m destination.lake.table.contacts\n") || strings.NewReplacer("\x1b[32m", "", "\x1b[0m", "").Replace(shown) != plain {
		t.Errorf("on a terminal it is\n%q", shown)
	}
	w.env["NO_COLOR"] = "1"
	if got := w.onTerminal(t, "plan", "--no-data").mustBe(t, 0).out; got != plain {
		t.Errorf("with NO_COLOR it is\n%q", got)
	}
}

func TestAnApplyListsEachViewWhereMoreIsAskedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, plans)
	r := w.sluice(t, "apply", "--no-data", "--auto-approve", "-v").mustBe(t, 0)
	if strings.Contains(r.out, "13 views") || strings.Count(r.out, ": created\n") != 15 || !strings.Contains(r.out, "destination.lake.view.contacts_all: created\n") {
		t.Errorf("got\n%s", r.out)
	}
	// Of views alone, too.
	if err := os.Remove(w.at("out/contacts/views.sql")); err != nil {
		t.Fatal(err)
	}
	says(t, w.sluice(t, "apply", "--no-data", "--auto-approve").mustBe(t, 0).out, "destination.lake.table.contacts: 13 views created")
}
