package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sluice-etl/sluice/internal/state"
)

// waiting is a pipeline of two destinations; the second one is a file at first,
// which takes nothing.
const waiting = `version: 1
state: {path: .sluice}
sources:
  crm: {type: contacts_api, url: "sandbox://?contacts=40&seed=1", requests_per_second: 1000}
destinations:
  lake: {type: parquet, path: out}
  archive: {type: parquet, path: archive}
pipelines:
  nightly: {source: crm, table: contacts, destinations: [lake, archive]}
`

// newWaiting is a world in which a package waits for the archive, and something
// was made at the lake.
func newWaiting(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, waiting)
	w.write(t, "archive", "in the way")
	w.sluice(t, "run").mustBe(t, 1)
	s, err := state.Open(filepath.Join(w.dir, ".sluice"), w.clock)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.UpdateResources(t.Context(), func(r *state.Resources) error {
		for address, kind := range map[string]string{"destination.lake.table.contacts": state.KindTable, "destination.lake.view.contacts_active": state.KindView} {
			r.Items[address] = state.Resource{
				Kind: kind, Pipeline: "nightly", Destination: "lake", Type: "parquet", Place: "out/contacts", AppliedAt: w.clock.Now(),
				Attributes: map[string]string{"column.id": "string required", "compatibility": "plain"},
			}
		}
		r.Items["pipeline.nightly"] = state.Resource{Kind: state.KindPipeline, Pipeline: "nightly", AppliedAt: w.clock.Now()}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// drawn is what each state has of its own: lineages, ids of runs, hashes, paths.
var drawn = regexp.MustCompile(`cannot use folder.*|[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}|20\d{6}T\d{6}Z-[0-9a-f]{6}|[0-9a-f]{64}|"bytes": \d+`)

func scrubbed(s string) string { return drawn.ReplaceAllString(s, "DRAWN") }

func TestStateListsAndShowsWhatIsRemembered(t *testing.T) {
	t.Parallel()
	w := newWaiting(t)
	var b strings.Builder
	for _, line := range []string{
		"state list", "state list destination.lake.view", "state list --json", "state show pipeline.nightly",
		"state show pipeline.nightly.destination.archive", "state show destination.lake.table.contacts", "state show destination.lake.table.contacts --json",
	} {
		b.WriteString("$ sluice " + line + "\n" + w.sluice(t, strings.Fields(line)...).mustBe(t, 0).out + "\n")
	}
	golden(t, "state/shown.txt", scrubbed(b.String()))
	var shown shownPipeline
	if err := json.Unmarshal([]byte(w.sluice(t, "state", "show", "pipeline.nightly", "--json").mustBe(t, 0).out), &shown); err != nil {
		t.Fatal(err)
	}
	if d := shown.Destinations["archive"]; shown.Cursor == nil || d.Position != 0 || len(d.Queue) != 1 || d.Rows < 40 || len(shown.Runs) != 1 || shown.Discovered == 0 {
		t.Errorf("got %+v", shown)
	}
	if r := newWorld(t, small).sluice(t, "state", "list").mustBe(t, 0); r.out != "" {
		t.Errorf("no state lists %q", r.out)
	}
}

func TestStateSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	w := newWaiting(t)
	before := w.tree(t, ".sluice/state", ".sluice/runs")
	w.write(t, "no.json", `{"format_version": 1}`)
	w.write(t, "future.json", `{"format_version": 2, "pipeline": "nightly", "sluice_version": "9.0.0"}`)
	var b strings.Builder
	for _, line := range []string{
		"state", "state lst", "state list a b", "state list destination.laek", "state show", "state show pipeline.nightyl", "state show pipeline.nightly.destination.lkae",
		"state pull --pipeline nightyl", "state pull --pipeline nightly --resources", "state push", "state push absent.json", "state push DIR/no.json", "state push DIR/future.json",
		"state rm", "state rm pipeline.nightly", "state rm pipeline.nightly.destination.archive", "state rm destination.lake.table.contacts destination.lake.table.contatcs",
		"state mv pipeline.nightly", "state mv pipeline.nightly destination.lake", "state mv nightly daily", "state mv pipeline.nightly pipeline.nightly",
		"state mv pipeline.nightyl pipeline.daily", "state mv destination.lake destination.archive", "state mv destination.laek destination.x",
	} {
		r := w.sluice(t, strings.Fields(strings.ReplaceAll(line, "DIR", w.dir))...)
		if line != "state" {
			r.mustBe(t, 1)
			if r.out != "" {
				t.Errorf("%s writes to stdout: %s", line, r.out)
			}
			b.WriteString("$ sluice " + line + "\n" + r.err + "\n")
		}
	}
	golden(t, "state/wrong.txt", scrubbed(b.String()))
	for name, was := range before {
		if now := w.tree(t, ".sluice/state", ".sluice/runs")[name]; now != was {
			t.Errorf("%s was changed", name)
		}
	}
}

func TestStateThatIsPulledCanBePushedBack(t *testing.T) {
	t.Parallel()
	w := newWaiting(t)
	all := w.sluice(t, "state", "pull").mustBe(t, 0).out
	one := w.sluice(t, "state", "pull", "--pipeline", "nightly").mustBe(t, 0).out
	stored, err := os.ReadFile(filepath.Join(w.dir, ".sluice/state/pipeline.nightly.json"))
	if err != nil || w.relative(string(stored)) != one {
		t.Errorf("pull prints\n%s\nstored is\n%s, %v", one, stored, err)
	}
	if got := w.sluice(t, "state", "pull", "--resources").mustBe(t, 0).out; !strings.Contains(got, `"destination.lake.table.contacts"`) {
		t.Errorf("got %s", got)
	}
	for _, name := range []string{"pipeline.nightly.json", "resources.json"} {
		if err := os.Remove(filepath.Join(w.dir, ".sluice/state", name)); err != nil {
			t.Fatal(err)
		}
	}
	all = strings.ReplaceAll(all, "DIR", w.dir)
	w.write(t, "all.json", all)
	var b strings.Builder
	for range 2 {
		b.WriteString(w.sluice(t, "state", "push", filepath.Join(w.dir, "all.json")).mustBe(t, 0).out)
	}
	older := strings.Replace(string(stored), `"serial": `, `"serial": 1`, 1)                          // 3 becomes 13
	lost := regexp.MustCompile(`(?s)"queue": \[.*?\n      \]`).ReplaceAllString(older, `"queue": []`) // of the archive
	push := func(text string, args ...string) result {
		return w.run(t, Streams{In: strings.NewReader(text)}, append([]string{"state", "push", "-"}, args...)...)
	}
	b.WriteString(push(lost).mustBe(t, 1).err)
	b.WriteString(push(older).mustBe(t, 0).out)
	b.WriteString(push(string(stored)).mustBe(t, 1).err)
	b.WriteString(push(string(stored), "--force").mustBe(t, 0).out)
	golden(t, "state/pushed.txt", scrubbed(b.String()))
	if err := os.Remove(filepath.Join(w.dir, "archive")); err != nil {
		t.Fatal(err)
	}
	if r := w.sluice(t, "run").mustBe(t, 0); !strings.Contains(r.err, "archive committed: 40 new") {
		t.Errorf("the package that waits is not committed:\n%s\n%s", r.out, r.err)
	}
}

func TestStateForgetsWhatItIsTold(t *testing.T) {
	t.Parallel()
	w := newWaiting(t)
	tables := w.tree(t, "out")
	var b strings.Builder
	for _, line := range []string{
		"state rm destination.lake.view.contacts_active --dry-run", "state rm destination.lake.view.contacts_active",
		"state rm pipeline.nightly.destination.archive --force", "state rm pipeline.nightly --dry-run", "state rm pipeline.nightly", "state list",
	} {
		b.WriteString("$ sluice " + line + "\n" + w.sluice(t, strings.Fields(line)...).mustBe(t, 0).out + "\n")
	}
	golden(t, "state/forgotten.txt", scrubbed(b.String()))
	r := w.sluice(t, "run").mustBe(t, 1)
	if !strings.Contains(r.err, "another state") {
		t.Errorf("the next run says\n%s", r.err)
	}
	if now := w.tree(t, "out"); len(now) != len(tables) {
		t.Errorf("the tables have %d files, had %d", len(now), len(tables))
	}
	backup := regexp.MustCompile(`what stood there: (\S+pipeline\.nightly\S+)`).FindAllStringSubmatch(b.String(), -1)
	// The way out that it names: the failed run began another history.
	w.sluice(t, "state", "push", strings.Replace(backup[len(backup)-1][1], "DIR", w.dir, 1), "--force").mustBe(t, 0)
	w.write(t, "pipelines.yaml", strings.Replace(waiting, "[lake, archive]", "[lake]", 1))
	w.sluice(t, "run").mustBe(t, 0)
}

func TestARenamedPipelineRunsOnUnderItsNewName(t *testing.T) {
	t.Parallel()
	w := newWaiting(t)
	var b strings.Builder
	for _, line := range []string{"state mv pipeline.nightly pipeline.daily", "state mv destination.archive destination.attic", "state list"} {
		b.WriteString("$ sluice " + line + "\n" + w.sluice(t, strings.Fields(line)...).mustBe(t, 0).out + "\n")
	}
	golden(t, "state/moved.txt", scrubbed(b.String()))
	if err := os.Remove(filepath.Join(w.dir, "archive")); err != nil {
		t.Fatal(err)
	}
	w.write(t, "pipelines.yaml", strings.NewReplacer("nightly", "daily", "archive:", "attic:", "lake, archive", "lake, attic").Replace(waiting))
	r := w.sluice(t, "run").mustBe(t, 0)
	if !strings.Contains(r.err, "attic committed: 40 new") || strings.Contains(r.err, "reading everything") {
		t.Errorf("it went on with\n%s\n%s", r.out, r.err)
	}
}
