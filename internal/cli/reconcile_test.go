package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/duck"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/sandbox"
	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/schemas"
)

// hands is a clock that a test moves.
type hands struct{ now atomic.Pointer[time.Time] }

func (h *hands) Now() time.Time { return *h.now.Load() }

func (h *hands) move(d time.Duration) {
	h.to(h.Now().Add(d))
}

func (h *hands) to(t time.Time) { h.now.Store(&t) }

// served is a sandbox beside a world whose pipelines read it, with one clock.
type served struct {
	*sandbox.Server
	*world
	*hands
}

// startSandbox serves a sandbox as long as the test goes on.
func startSandbox(t *testing.T, o sandbox.Options, c clock.Clock) (server *sandbox.Server, url string) {
	t.Helper()
	server, err := sandbox.New(o, c)
	if err != nil {
		t.Fatal(err)
	}
	running, err := server.Start(t.Context(), loopback)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := running.Close(); err != nil {
			t.Error(err)
		}
	})
	return server, running.URL
}

// changing starts a sandbox of so many contacts. What follows "nightly" in the
// pipelines file is rest.
func changing(t *testing.T, contacts int, rest string) served {
	t.Helper()
	o := sandbox.DefaultOptions()
	o.Contacts = contacts
	h, start := &hands{}, noon.Now()
	h.now.Store(&start)
	server, url := startSandbox(t, o, h)
	s := served{server, newWorld(t, ""), h}
	s.clock = h
	s.pipelines(t, url, rest)
	return s
}

func (s served) pipelines(t *testing.T, url, rest string) {
	t.Helper()
	s.env["KEY"] = "sandbox"
	s.write(t, "pipelines.yaml", `version: 1
state: {path: .sluice}
sources:
  crm: {type: contacts_api, url: "`+url+`", api_key: "${KEY}", requests_per_second: 1000}
destinations:
  lake: {type: parquet, path: out}
pipelines:
  nightly: {source: crm, destinations: [lake], verify: off`+rest+`}
`)
}

// text returns the pipelines file.
func (s served) text(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(s.file())
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// table returns what the destination holds, its lock apart.
func (s served) table(t *testing.T) map[string]string {
	t.Helper()
	return s.tree(t, "out/contacts/current", "out/contacts/history", "out/contacts/_manifests")
}

// withoutRunIDs takes the random part of run ids out of a text.
func withoutRunIDs(s string) string {
	return regexp.MustCompile(`Z-[0-9a-f]{6}`).ReplaceAllString(s, "Z-xxxxxx")
}

// remove deletes the first n contacts of the source, and returns their ids.
func (s served) remove(t *testing.T, n int) []string {
	t.Helper()
	var dump strings.Builder
	if err := s.Dump(&dump); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for line := range strings.Lines(dump.String()) {
		if len(ids) == n {
			break
		}
		var c struct{ ID string }
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			t.Fatal(err)
		}
		if err := s.Delete(c.ID); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, c.ID)
	}
	return ids
}

func TestReconcileMarksWhatTheSourceHasNoMore(t *testing.T) {
	t.Parallel()
	s := changing(t, 100, ", reconcile: {max_share: 3%}")
	s.sluice(t, "run").mustBe(t, 0)
	ids := s.remove(t, 3)
	s.move(time.Hour)
	before := s.table(t)
	dry := s.sluice(t, "reconcile", "nightly", "--dry-run").mustBe(t, 0)
	golden(t, "reconcile/dry_run.txt", dry.out)
	if diff := cmp.Diff(before, s.table(t)); diff != "" {
		t.Errorf("--dry-run changed files:\n%s", diff)
	}
	s.move(time.Hour)
	r := s.sluice(t, "reconcile", "nightly").mustBe(t, 0)
	golden(t, "reconcile/stderr.txt", r.err)
	if duck.Available { // the summary ends with what this build can do next
		golden(t, "reconcile/summary.txt", r.out)
		_, sql, _ := strings.Cut(r.out, `query "`)
		got := s.sluice(t, "query", strings.TrimSuffix(strings.TrimSpace(sql), `"`)).mustBe(t, 0).out
		for _, id := range ids {
			if !strings.Contains(got, id) || strings.Count(got, "\n") != 4 {
				t.Errorf("the query to try next does not list what was deleted, %s:\n%s", ids, got)
			}
		}
	}
	s.move(time.Hour)
	if err := s.Restore(ids[0], true); err != nil {
		t.Fatal(err)
	}
	all := events(t, s.sluice(t, "reconcile", "nightly", "--json").mustBe(t, 0).out)
	last := all[len(all)-1]
	want := map[string]any{
		"live": 97.0, "walked": 98.0, "missing": 0.0, "gone": 0.0, "unlisted": 0.0, "unasked": 0.0, "returned": 1.0, "max_missing": 2.0, "dry_run": false,
	}
	if diff := cmp.Diff(want, last["reconciled"]); diff != "" || all[0]["mode"] != modeReconcile || last["type"] != eventFinished || last["status"] != "done" {
		t.Errorf("got %v and %v (-want +got):\n%s", all[0], last, diff)
	}
	s.move(time.Hour)
	if r := s.sluice(t, "reconcile", "nightly").mustBe(t, 0); duck.Available {
		golden(t, "reconcile/nothing.txt", r.out)
	}
	golden(t, "reconcile/runs.txt", withoutRunIDs(s.sluice(t, "runs").mustBe(t, 0).out))
}

func TestReconcileThatCannotBeSaysWhy(t *testing.T) {
	t.Parallel()
	s := changing(t, 100, ", reconcile: {max_share: 2%}")
	var b strings.Builder
	refused := func(line string) {
		t.Helper()
		r := s.sluice(t, strings.Fields(line)...).mustBe(t, 1)
		if r.out != "" {
			t.Errorf("%s writes to stdout: %s", line, r.out)
		}
		b.WriteString("$ sluice " + line + "\n" + r.err + "\n")
	}
	for _, line := range []string{
		"reconcile", "reconcile nightyl", "reconcile nightly weekly", "reconcile nightly --max-share 1", "reconcile nightly --max-share 200%",
		"reconcile nightly --max-probes -1", "reconcile nightly", "reconcile nightly --max-shar 1%",
	} {
		refused(line)
	}
	s.sluice(t, "run").mustBe(t, 0)
	s.remove(t, 3)
	s.move(time.Hour)
	before := s.table(t)
	refused("reconcile nightly")
	if diff := cmp.Diff(before, s.table(t)); diff != "" {
		t.Errorf("a reconciliation that was refused changed files:\n%s", diff)
	}
	golden(t, "reconcile/usage.txt", b.String())
	if r := s.sluice(t, "reconcile", "nightly", "--dry-run", "--max-share", "3%", "--max-probes", "2").mustBe(t, 0); !strings.HasSuffix(r.out, "\nNext: sluice reconcile nightly --max-share 3% --max-probes 2\n") {
		t.Errorf("a dry run does not end with its command:\n%s", r.out)
	}
	// The flag wins over the file, and the next run asks for the rest.
	r := s.sluice(t, "reconcile", "nightly", "--max-share", "3%", "--max-probes", "2").mustBe(t, 0)
	for _, want := range []string{"missing     3, allowed are 3\n", "gone        2, not found by id either: marked as deleted\n", "not asked   1, beyond max_probes: left to the next run\n"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("%q is not in\n%s", want, r.out)
		}
	}
	if r := s.sluice(t, "reconcile", "nightly").mustBe(t, 0); !strings.Contains(r.out, "missing     1, allowed are 1\n  gone        1,") {
		t.Errorf("the next run:\n%s", r.out)
	}
}

func TestASnapshotMarksWhatLeftAndNeedsNoReconciliation(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	s := changing(t, 100, ", sync: snapshot")
	r := s.sluice(t, "run").mustBe(t, 0)
	if want := "nightly: reading everything (first run of this pipeline)\n"; !strings.HasPrefix(r.err, want) || strings.Contains(r.out, "left") {
		t.Errorf("the first run:\n%s%s", r.err, r.out)
	}
	s.remove(t, 7)
	s.move(time.Hour)
	r = s.sluice(t, "run").mustBe(t, 0)
	golden(t, "modes/snapshot.txt", r.err+r.out)
	if list := s.sluice(t, "runs").mustBe(t, 0).out; !strings.Contains(list, "snapshot    0        0         93     7") {
		t.Errorf("runs lists\n%s", list)
	}
	golden(t, "modes/snapshot_reconcile.txt", s.sluice(t, "reconcile", "nightly").mustBe(t, 1).err)
}

func TestARecentPipelineNamesItsWindow(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	for name, combine := range map[string]string{"combined": "true", "alone": "false"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := changing(t, 300, ", sync: recent, days: 30")
			data := strings.Replace(s.text(t), "requests_per_second", "combine_filters: "+combine+", requests_per_second", 1)
			s.write(t, "pipelines.yaml", data)
			first := s.sluice(t, "run").mustBe(t, 0)
			s.move(20 * 24 * time.Hour) // and nobody writes
			second := s.sluice(t, "run").mustBe(t, 0)
			golden(t, "modes/recent_"+name+".txt", first.err+first.out+second.err+second.out)
		})
	}
}

func TestATableThatTakesNoMoreColumnsIsSaidTo(t *testing.T) {
	t.Parallel()
	a, cfg, _ := wiring(t, newWorld(t, small))
	v := &plainView{app: a, cfg: cfg, p: cfg.Pipelines[0]}
	store, err := a.store(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{false, true} {
		_, err := store.Update(t.Context(), "nightly", func(p *state.Pipeline) error {
			reg, err := schemas.NewRegistry(schemas.Default(), nil)
			if err != nil {
				return err
			}
			reg.Settle(schemas.FieldRef{Scope: schemas.ScopeCFCustomer, Key: "city"}, schemas.KindString, "r")
			if want {
				reg.Settle(schemas.FieldRef{Scope: schemas.ScopeOverflow}, schemas.KindNested, "r")
			}
			p.Registry = reg.Entries()
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		a.Streams.Out = &out
		if err := v.summary(t.Context(), run.Summary{Status: "done"}); err != nil {
			t.Fatal(err)
		}
		const line = "  columns     as many as a table takes: fields met since then are in other_fields__json\n"
		if strings.Contains(out.String(), line) != want {
			t.Errorf("want said: %v, got\n%s", want, out.String())
		}
	}
}

func TestTheSummarySaysHowManyLeft(t *testing.T) {
	t.Parallel()
	a, cfg, _ := wiring(t, newWorld(t, small))
	v := &plainView{app: a, cfg: cfg, p: cfg.Pipelines[0]}
	var b strings.Builder
	v.rows(&b, run.Summary{Changed: 10, Deleted: 8, Cursor: "1970-01-01T00:00:00Z"})
	if got := b.String(); !strings.Contains(got, "  left        8 contacts no longer among") || strings.Contains(got, "cursor") {
		t.Errorf("got\n%s", got)
	}
}
