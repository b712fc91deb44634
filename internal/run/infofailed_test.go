package run_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/state"
)

// silent makes the info endpoint give no answer for some contacts.
type silent struct {
	mu  sync.Mutex
	ids map[string]bool
}

func (x *silent) are(ids ...string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.ids = map[string]bool{}
	for _, id := range ids {
		x.ids[id] = true
	}
}

// answer fails for one contact and breaks off for the next.
func (x *silent) answer(id string, resp *http.Response) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case !x.ids[id]:
	case id[0]%2 == 0:
		replace(resp, http.StatusInternalServerError, `{"message":"Internal server error"}`)
	default:
		replace(resp, http.StatusOK, `{"id":"`+id)
	}
}

// silentWorld is a world whose list is bare, and a job that asks for the rest.
func silentWorld(t *testing.T, n int) (*world, run.Job, *infoSource, *silent) {
	t.Helper()
	o := contacts(n)
	o.BareList = true
	w := newWorld(t, o)
	job, s := w.enrichedJob()
	job.Source.MaxRetries, job.Lookback = 1, time.Second
	x := &silent{}
	s.answer = x.answer
	return w, job, s, x
}

func (w *world) waiting() []string {
	var out []string
	for _, f := range w.state().InfoFailed {
		out = append(out, f.ID)
	}
	slices.Sort(out)
	return out
}

// enriched reports whether a stored contact has what info alone serves.
func enriched(row map[string]string) bool {
	_, custom := row["last_message_content"]
	return custom || row["last_message_at"] == "" || row["last_closed_ticket_id"] != ""
}

func TestAContactThatInfoNeverAnswersForDoesNotFailTheNight(t *testing.T) {
	w, job, s, x := silentWorld(t, 300)
	ids := w.ids(8)
	slices.Sort(ids)
	x.are(ids...)
	sum := w.mustRun(job)
	w.same("lake")
	if sum.Enriched.Failed != 8 || sum.Enriched.Again != 0 || sum.InfoFailed != 8 || len(sum.InfoFailedIDs) != 5 || len(sum.Notes) != 1 || sum.Quarantined > 0 {
		t.Errorf("the summary says %+v, %d %v, notes %q", sum.Enriched, sum.InfoFailed, sum.InfoFailedIDs, sum.Notes)
	}
	if d := cmp.Diff(ids, w.waiting()); d != "" {
		t.Errorf("remembered (-want +got):\n%s", d)
	}
	for id, row := range w.cells("lake") {
		if want := !slices.Contains(ids, id); row["name"] == "" && want || want && !enriched(row) {
			t.Fatalf("contact %s is stored as %v", id, row)
		}
	}
	for _, id := range ids {
		if strings.Contains(strings.Join(sum.Notes, " "), id) {
			t.Error("a note, which is kept, names a contact")
		}
	}

	// They fail once more, each is asked for again after some nights.
	for range 2 {
		s.asked.Store(0)
		again := w.mustRun(job)
		if again.Enriched.Failed < 5 || again.Enriched.Failed != again.Enriched.Again || again.InfoFailed != 8 {
			t.Errorf("the next run says %+v, %d", again.Enriched, again.InfoFailed)
		}
		if n := s.asked.Load(); n > 2*5+20 {
			t.Errorf("%d requests for contacts that failed before", n)
		}
	}
	x.are()
	if sum = w.mustRun(job); sum.InfoFailed != 0 || len(sum.Notes) != 0 || len(w.waiting()) != 0 {
		t.Errorf("once it answers: %+v, remembered %v", sum, w.waiting())
	}
	cells := w.cells("lake")
	for _, id := range ids {
		if !enriched(cells[id]) {
			t.Errorf("contact %s is not enriched: %v", id, cells[id])
		}
	}
	w.same("lake")
	if c := w.mustCompare(job, run.Comparison{All: true, Values: true}); c.Same != c.Checked {
		t.Errorf("verify --source: %+v", c)
	}
	w.tidy()
}

func TestAnInfoEndpointThatIsDownFailsTheRunAndLosesNothing(t *testing.T) {
	w, job, _, x := silentWorld(t, 400)
	x.are(w.ids(100)...)
	_, err := w.run(t.Context(), job)
	var failed *run.EnrichError
	if !errors.As(err, &failed) || failed.Failed < 20 || failed.Failed > 30 || failed.Refused || !strings.Contains(failed.Hint(), "run again later") {
		t.Fatalf("got %v", err)
	}
	if p := w.state(); p.NextPackage != 1 || len(p.InfoFailed) > 0 {
		t.Errorf("state moved on: package %d, %v", p.NextPackage, p.InfoFailed)
	}
	x.are()
	sum := w.mustRun(job)
	if sum.InfoFailed != 0 || len(w.waiting()) > 0 {
		t.Errorf("the next run says %+v", sum)
	}
	for id, row := range w.cells("lake") {
		if !enriched(row) {
			t.Fatalf("contact %s is not enriched: %v", id, row)
		}
	}
	w.same("lake")
	w.tidy()
}

func TestARunThatIsStoppedKeepsWhoGotNoAnswer(t *testing.T) {
	w, job, s, x := silentWorld(t, 700)
	ids := w.ids(10)
	x.are(ids...)
	job.PageSize = 20
	ctx, cancel := context.WithCancel(t.Context())
	s.answer = func(id string, resp *http.Response) {
		x.answer(id, resp)
		if s.asked.Load() > 500 {
			cancel()
		}
	}
	var interrupted *run.InterruptedError
	if _, err := w.run(ctx, job); !errors.As(err, &interrupted) || interrupted.Staged < 250 {
		t.Fatalf("got %v", err)
	}
	s.answer = x.answer
	if sum := w.mustRun(job); sum.InfoFailed != 10 || len(w.waiting()) != 10 {
		t.Errorf("the run that goes on says %d, %v", sum.InfoFailed, w.waiting())
	}
	x.are()
	w.mustRun(job)
	for id, row := range w.cells("lake") {
		if !enriched(row) {
			t.Fatalf("contact %s is not enriched: %v", id, row)
		}
	}
	w.same("lake")
}

func TestAContactThatIsGoneIsNotAskedForAgain(t *testing.T) {
	w, job, s, x := silentWorld(t, 100)
	ids := w.ids(2)
	x.are(ids...)
	w.mustRun(job)
	if err := w.source.Delete(ids[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := (&run.Engine{Store: w.store, Clock: clock.System{}}).Erase(t.Context(), job, ids[1], false); err != nil {
		t.Fatal(err)
	}
	if got := w.waiting(); !slices.Equal(got, ids[:1]) {
		t.Errorf("after an erasure of %s there are %v", ids[1], got)
	}
	x.are(ids[0])
	s.asked.Store(0)
	if sum := w.mustRun(job); sum.InfoFailed != 0 || len(w.waiting()) != 0 {
		t.Errorf("%+v, remembered %v", sum.InfoFailed, w.waiting())
	}
	job.Enrich = false
	if _, err := w.store.Update(t.Context(), job.Pipeline, func(p *state.Pipeline) error {
		p.InfoFailed = []state.InfoFailed{{ID: "x"}}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	w.mustRun(job)
	if got := w.waiting(); len(got) > 0 {
		t.Errorf("without enrich there are %v", got)
	}
}

// What a retry stores is what a run would have stored.
func TestARetriedContactHasWhatInfoTells(t *testing.T) {
	slow(t)
	for _, store := range []run.QuarantineStore{run.StoreRaw, run.StoreReference} {
		o := contacts(120)
		o.BareList = true
		w := newWorld(t, o)
		ids := w.ids(3)
		b := w.broken()
		b.harm(undated, ids...)
		job, s := w.enrichedJob()
		job.Quarantine.Store = store
		w.mustRun(job)
		b.mend()
		s.asked.Store(0)
		if got := w.mustRetry(job, run.Retry{}); got.Passed != 3 || s.asked.Load() != 6 {
			t.Errorf("%s: %+v, %d requests to the info endpoint", store, got, s.asked.Load())
		}
		cells := w.cells("lake")
		for _, id := range ids {
			if !enriched(cells[id]) {
				t.Errorf("%s: contact %s is stored as %v", store, id, cells[id])
			}
		}
		if c := w.mustCompare(job, run.Comparison{All: true, Values: true}); c.Same != c.Checked || c.Checked != 120 {
			t.Errorf("%s: verify --source: %+v", store, c)
		}
	}
}
