package cli

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/internal/plan"
	"github.com/sluice-etl/sluice/internal/sandbox"
)

func TestAPipelineThatWasRenamedInTheFileAloneIsSuggested(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	for _, place := range []string{"type: parquet, path: out", "type: duckdb, path: crm.duckdb"} {
		yaml := strings.Replace(plans, "type: parquet, path: out", place, 1)
		w := newWorld(t, yaml)
		w.sluice(t, "run").mustBe(t, 0)
		renamed := strings.Replace(yaml, "nightly:", "daily:", 1)
		w.write(t, "pipelines.yaml", renamed)
		const way = "pipeline nightly is gone from the file and wrote this table: `sluice state mv pipeline.nightly pipeline.daily` if it was renamed"
		for _, line := range [][]string{{"plan"}, {"apply", "--auto-approve"}, {"run"}} {
			says(t, w.sluice(t, line...).mustBe(t, exitError).err, "another state", way)
		}
		// Another one that the file still has is no renamed one.
		w.write(t, "pipelines.yaml", renamed+"  nightly: {source: crm, destinations: [spare], stages: off}\n")
		if r := w.sluice(t, "plan", "daily").mustBe(t, exitError); strings.Contains(r.err, "state mv") {
			t.Errorf("of a pipeline that the file has it says\n%s", r.err)
		}
		w.write(t, "pipelines.yaml", renamed)
		w.sluice(t, "state", "mv", "pipeline.nightly", "pipeline.daily").mustBe(t, 0)
		w.sluice(t, "plan", "--detailed-exitcode").mustBe(t, 0)
		says(t, w.sluice(t, "run").mustBe(t, 0).err, "reading what changed")
	}
}

func TestAPlanShowsWhatStateHasForgottenAndTheFileNoLongerNames(t *testing.T) {
	t.Parallel()
	two := plans + "  other: {source: crm, table: others, destinations: [spare], stages: off}\n"
	w := newWorld(t, two)
	w.sluice(t, "run").mustBe(t, 0)
	w.write(t, "pipelines.yaml", plans)
	golden(t, "plan/removed_pipeline.txt", settled(w.sluice(t, "plan", "--no-data").mustBe(t, 0).out))
	w.sluice(t, "apply", "--no-data", "--auto-approve").mustBe(t, 0)
	w.sluice(t, "plan", "--detailed-exitcode").mustBe(t, 0)
	if _, err := os.Stat(filepath.Join(w.dir, "spare", "others", "current")); err != nil {
		t.Errorf("what was forgotten is gone: %v", err)
	}

	// What was made is found there again; a position is not.
	w.sluice(t, "state", "rm", "destination.lake.view.contacts_all", "destination.lake.table.contacts").mustBe(t, 0)
	says(t, w.sluice(t, "plan", "--detailed-exitcode").mustBe(t, 0).out, "No changes")
	w.sluice(t, "state", "rm", "pipeline.nightly.destination.lake").mustBe(t, 0)
	says(t, w.sluice(t, "plan").mustBe(t, 0).out, `reads everything (destination "lake" is new)`, "destination.lake: is filled by this full read")
	w.sluice(t, "run").mustBe(t, 0)
	// The table is of a history that nobody knows any more.
	removed := w.sluice(t, "state", "rm", "pipeline.nightly").mustBe(t, 0)
	says(t, w.sluice(t, "plan").mustBe(t, exitError).err, "another state", "restore it from a backup")
	copies := regexp.MustCompile(`what stood there: (\S+)`).FindStringSubmatch(removed.out)
	w.sluice(t, "state", "push", "--force", strings.Replace(copies[1], "DIR", w.dir, 1)).mustBe(t, 0)
	w.sluice(t, "plan", "--no-data", "--detailed-exitcode").mustBe(t, 0)
}

// held passes requests on to a source, but those that come while it is shut wait
// until it opens.
type held struct {
	shut          atomic.Bool
	arrived, open chan struct{}
}

func (h *held) before(t *testing.T, to string) string {
	t.Helper()
	target, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	h.arrived, h.open = make(chan struct{}, 100), make(chan struct{})
	pass := httputil.NewSingleHostReverseProxy(target)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h.shut.Load() {
			h.arrived <- struct{}{}
			<-h.open
		}
		pass.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestDestroyIsRefusedWhileARunHoldsThePipeline(t *testing.T) {
	t.Parallel()
	s, h := changing(t, 20, ""), &held{}
	s.pipelines(t, h.before(t, regexp.MustCompile(`http://[^"]+`).FindString(s.text(t))), "")
	s.write(t, "pipelines.yaml", strings.Replace(s.text(t), "path: out}", "path: out, prevent_destroy: false}", 1))
	s.sluice(t, "run").mustBe(t, 0)
	s.move(time.Hour)
	before := s.table(t)

	h.shut.Store(true)
	ended := make(chan result)
	go func() { ended <- s.sluice(t, "run") }()
	<-h.arrived
	r := s.sluice(t, "destroy", "--auto-approve").mustBe(t, exitError)
	says(t, r.err, "lock pipeline nightly", "held by process", "wait for it to end")
	for name, was := range s.table(t) {
		if before[name] != was {
			t.Errorf("%s was touched", name)
		}
	}
	if len(s.table(t)) != len(before) {
		t.Error("something was removed")
	}
	h.shut.Store(false)
	close(h.open)
	(<-ended).mustBe(t, 0)
	s.sluice(t, "destroy", "--auto-approve").mustBe(t, 0)
}

// numbers are what a plan says of one sync, and what the run then reads.
func (s served) numbers(t *testing.T) (plan.Sync, finished) {
	t.Helper()
	var doc planDocument
	if err := json.Unmarshal([]byte(s.sluice(t, "plan", "--json").mustBe(t, 0).out), &doc); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(s.sluice(t, "run", "--json").mustBe(t, 0).out), "\n")
	var f finished
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &f); err != nil {
		t.Fatal(err)
	}
	return doc.Syncs[0], f
}

// finished is the last line of a run for programs.
type finished struct{ New, Changed, Unchanged, Requests int64 }

func (f finished) contacts() int64 { return f.New + f.Changed + f.Unchanged }

func TestAPlanCountsWhatTheNextRunReadsOfEveryKind(t *testing.T) {
	t.Parallel()
	for settings, mode := range map[string]string{
		", sync: recent, days: 300": "recent", ", sync: snapshot": "snapshot", ", enrich: info": "incremental",
	} {
		s := changing(t, 400, settings)
		for when := range 2 {
			said, read := s.numbers(t)
			if want := mode; when == 0 && mode == "incremental" {
				if said.Mode != "full" {
					t.Errorf("%s: the first run is %s", settings, said.Mode)
				}
			} else if said.Mode != want {
				t.Errorf("%s, run %d: it is %s", settings, when, said.Mode)
			}
			if slack := said.Contacts/20 + 1; !said.Counted || said.Contacts < read.contacts()-slack || said.Contacts > read.contacts()+slack || said.Exact && said.Contacts != read.contacts() {
				t.Errorf("%s, run %d: %d contacts are announced (exactly: %t), %d read", settings, when, said.Contacts, said.Exact, read.contacts())
			}
			if slack := read.Requests/5 + 5; said.Requests < read.Requests-slack || said.Requests > read.Requests+slack {
				t.Errorf("%s, run %d: %d requests are announced, %d made", settings, when, said.Requests, read.Requests)
			}
			s.Create(5)
			s.move(2 * time.Hour)
		}
	}
}

// A package that waits beside state in a bucket goes along when its pipeline gets
// another name, and a document that queues it can be put back.
func TestStateInABucketIsRenamedAndPushedWithWhatWaits(t *testing.T) {
	t.Parallel()
	c := everywhere(t, 30, "lake, bucket")
	c.sluice(t, "run").mustBe(t, 0)
	var ids []string
	c.Each(func(some sandbox.Contact) bool { ids = append(ids, some.ID); return len(ids) < 7 })
	for _, id := range ids {
		if err := c.Touch(id); err != nil {
			t.Fatal(err)
		}
	}
	c.move(2 * time.Hour)
	c.gcs.SetFault(forbidLake)
	c.sluice(t, "run").mustBe(t, 1)
	c.gcs.SetFault(nil)
	waits := c.sluice(t, "state", "pull", "--pipeline", "nightly").mustBe(t, 0).out
	c.write(t, "waits.json", waits)

	// Put back after it was forgotten.
	says(t, c.sluice(t, "state", "rm", "pipeline.nightly.destination.bucket").mustBe(t, 1).err, "wait for destination bucket")
	c.sluice(t, "state", "rm", "pipeline.nightly.destination.bucket", "--force").mustBe(t, 0)
	says(t, c.sluice(t, "state", "push", c.at("waits.json")).mustBe(t, 1).err, "serial")
	c.sluice(t, "state", "push", c.at("waits.json"), "--force").mustBe(t, 0)

	c.sluice(t, "state", "mv", "pipeline.nightly", "pipeline.daily").mustBe(t, 0)
	c.write(t, "pipelines.yaml", strings.Replace(c.text(t), "nightly:", "daily:", 1))
	for name := range c.gcs.Objects(t, "sluice", "state/runs/") {
		if strings.Contains(name, "nightly") {
			t.Errorf("%s has the old name", name)
		}
	}
	r := c.sluice(t, "run").mustBe(t, 0)
	says(t, r.err, "bucket committed: 0 new, 7 changed")
	c.same(t, false, "lake", "bucket")
	c.sluice(t, "verify").mustBe(t, 0)
	c.sluice(t, "plan", "--no-data", "--detailed-exitcode").mustBe(t, 0)

	// What has been committed is there no more, so a document cannot queue it.
	for _, force := range [][]string{nil, {"--force"}} {
		r := c.sluice(t, append([]string{"state", "push", c.at("waits.json")}, force...)...).mustBe(t, 1)
		says(t, r.err, "it queues package 2 for destination bucket, which is not there")
	}
}

func TestATableWithoutRowsAnswersQueries(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	for _, place := range []string{"type: parquet, path: out", "type: duckdb, path: crm.duckdb"} {
		w := newWorld(t, strings.Replace(plans, "type: parquet, path: out", place, 1))
		says(t, w.sluice(t, "query", "FROM contacts").mustBe(t, exitError).err, "nothing is exported yet")
		w.sluice(t, "apply", "--no-data", "--auto-approve").mustBe(t, 0)
		if got := w.sluice(t, "query", "--format", "csv", "SELECT count(*) AS n FROM contacts").mustBe(t, 0).out; got != "n\n0\n" {
			t.Errorf("got %q", got)
		}
		if got := w.sluice(t, "query", "--format", "csv", "SELECT id, phone, updated_at FROM contacts_all").mustBe(t, 0).out; got != "id,phone,updated_at\n" {
			t.Errorf("got %q", got)
		}
		says(t, w.onTerminal(t, "query").mustBe(t, 0).out, "0 contacts, exported by nightly")
	}
}
