package run_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/sluice-etl/sluice/internal/atomicfile/faultfs"
	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/sandbox"
	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/load"
)

// backlog is a world in which one package waits for the lake, and its engine.
func backlog(t *testing.T) (*world, *run.Engine) {
	t.Helper()
	w := newWorld(t, contacts(300))
	w.mustRun(w.job())
	w.source.Mutate(sandbox.Mutation{Updates: 7})
	broken := &brokenLoader{Loader: w.lake("lake")}
	broken.down.Store(true)
	if _, err := w.run(t.Context(), w.job(run.Destination{Name: "lake", Loader: broken})); !errors.Is(err, errDown) {
		t.Fatalf("the destination is well: %v", err)
	}
	return w, &run.Engine{Store: w.store, Clock: clock.System{}}
}

// parsed is a copy of what is stored of the pipeline.
func (w *world) parsed(path string) *state.Pipeline {
	w.t.Helper()
	data, err := w.store.Stored(w.t.Context(), "nightly")
	if err != nil {
		w.t.Fatal(err)
	}
	p, err := state.Parse(path, data)
	if err != nil {
		w.t.Fatal(err)
	}
	return p.Pipelines["nightly"]
}

func TestAPipelineThatPackagesWaitForIsForgottenOnlyByForce(t *testing.T) {
	w, e := backlog(t)
	before := w.state()
	for _, dryRun := range []bool{true, false} {
		_, err := e.Forget(t.Context(), "nightly", false, dryRun)
		var queued *run.QueuedError
		if !errors.As(err, &queued) || queued.Waiting.Packages != 1 || queued.Waiting.Rows < 7 || queued.Hint() == "" {
			t.Fatalf("got %v", err)
		}
		if _, err = e.ForgetDestination(t.Context(), "nightly", "lake", false, dryRun); !errors.As(err, &queued) {
			t.Fatalf("got %v", err)
		}
	}
	if out, err := e.Forget(t.Context(), "nightly", true, true); err != nil || out.Lost["lake"].Packages != 1 || out.Backup != "" {
		t.Fatalf("dry: %+v, %v", out, err)
	}
	if now := w.state(); now.Serial != before.Serial {
		t.Fatalf("changed: %+v", now)
	}
	out, err := e.Forget(t.Context(), "nightly", true, false)
	if err != nil || out.Lost["lake"].Packages != 1 || out.Backup == "" {
		t.Fatalf("%+v, %v", out, err)
	}
	w.tidy()
	if p := w.state(); p.Serial != 0 {
		t.Errorf("left is %+v", p)
	}
	// The table knows that this is another history, and is left as it is.
	if _, err := w.run(t.Context(), w.job()); !errors.Is(err, load.ErrForeign) {
		t.Errorf("the old table was taken: %v", err)
	}
}

func TestAForgottenPipelineIsGoneWhereverItWasKilled(t *testing.T) {
	counting := faultfs.New(nil, faultfs.Fault{})
	template := newLived(t)
	_, e := template.again().open(counting)
	if out, err := e.Forget(t.Context(), "nightly", true, false); err != nil || out.Unfinished != 1 || out.Aside != 2 {
		t.Fatalf("%+v, %v", out, err)
	}
	for _, op := range killedAt(counting.Ops()) {
		l := template.again()
		_, e := l.open(faultfs.New(nil, faultfs.Fault{Op: op, Err: faultfs.ErrKilled, Sticky: true}))
		_, killed := e.Forget(t.Context(), "nightly", true, false)
		s, healthy := l.open(nil)
		p, err := s.Load(t.Context(), "nightly")
		if err != nil || p.Serial == 0 && l.glob("runs/nightly.*") > 0 {
			t.Fatalf("operation %d: %+v, %v: what was staged outlives the document", op, p, err)
		}
		if p.Serial > 0 && killed == nil {
			t.Fatalf("operation %d: it says that it is gone", op)
		}
		if _, err := healthy.Forget(t.Context(), "nightly", true, false); err != nil {
			t.Fatalf("operation %d: finishing it: %v", op, err)
		}
		if p, err := s.Load(t.Context(), "nightly"); err != nil || p.Serial != 0 || l.glob("runs/nightly.*") != 0 || l.glob("runs/weekly.*") != 1 || l.glob("quarantine/nightly/*") != 2 {
			t.Fatalf("operation %d: left is %+v, %v", op, p, err)
		}
	}
}

func TestAForgottenDestinationIsReadForAgain(t *testing.T) {
	w, e := backlog(t)
	out, err := e.ForgetDestination(t.Context(), "nightly", "lake", true, false)
	if err != nil || out.Lost["lake"].Packages != 1 || out.Backup == "" {
		t.Fatalf("%+v, %v", out, err)
	}
	w.mustRun(w.job())
	if runs := w.state().Runs; runs[len(runs)-1].Mode != "full" {
		t.Errorf("the run was %+v", runs[len(runs)-1])
	}
	w.same("lake")
	w.tidy()
}

func TestAPushedQueueHasToBeThere(t *testing.T) {
	w, e := backlog(t)
	copied := w.parsed("copy")
	w.mustRun(w.job()) // the package is committed and its files are gone
	_, err := e.Push(t.Context(), copied, true, false)
	if !errors.Is(err, state.ErrRefused) || !strings.Contains(err.Error(), "queues package 2 for destination lake, which is not there") {
		t.Fatalf("got %v", err)
	}
	// Without the queue the older document is taken, and the next run catches up
	// from its cursor; no number is given twice.
	copied.Destinations["lake"].Queue = nil
	if _, err = e.Push(t.Context(), copied, false, false); !errors.Is(err, state.ErrRefused) {
		t.Fatalf("an older serial was taken: %v", err)
	}
	copied.NextPackage = 2
	out, err := e.Push(t.Context(), copied, true, false)
	if err != nil || out.Raised == 0 || out.Backup == "" {
		t.Fatalf("%+v, %v", out, err)
	}
	w.source.Mutate(sandbox.Mutation{Updates: 5, Creates: 3})
	w.mustRun(w.job())
	w.same("lake")
	w.tidy()
}

func TestAQueueThatIsThereIsPushedAndCommitted(t *testing.T) {
	w, e := backlog(t)
	copied := w.parsed("copy")
	copied.Serial++
	copied.LastFull = nil
	if out, err := e.Push(t.Context(), copied, false, false); err != nil || len(out.Lost) > 0 {
		t.Fatalf("%+v, %v", out, err)
	}
	release, err := w.store.LockRun(t.Context(), "nightly", "sync")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Push(t.Context(), copied, true, false); !errors.Is(err, state.ErrHeld) {
		t.Errorf("pushed beside a run: %v", err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	w.mustRun(w.job())
	w.same("lake")
	w.tidy()
}

func TestAnErasedContactIsInNoCopyOfStateEither(t *testing.T) {
	const id = "0b0e7a52-6f0c-4f0e-9d53-2f6b1c8e4d11"
	w := newWorld(t, contacts(30))
	w.mustRun(w.job())
	name := func(p *state.Pipeline) error {
		p.Destination("lake").Error = "row of " + id + " was refused"
		p.RecordRun(state.RunRecord{RunID: "x", Error: "contact " + id})
		return nil
	}
	if _, _, err := w.store.Edit(t.Context(), "nightly", name); err != nil {
		t.Fatal(err)
	}
	e := &run.Engine{Store: w.store, Clock: clock.System{}}
	for _, to := range []string{"daily", "nightly"} { // which leaves a copy under either name
		from := map[string]string{"daily": "nightly", "nightly": "daily"}[to]
		if _, err := e.RenamePipeline(t.Context(), from, to); err != nil {
			t.Fatal(err)
		}
	}
	job := run.Job{Pipeline: "nightly"}
	dry, err := e.Erase(t.Context(), job, id, true)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := e.Erase(t.Context(), job, id, false); err != nil || out.Named != dry.Named || out.Named < 6 {
		t.Fatalf("%+v, a dry run said %+v, %v", out, dry, err)
	}
	if left := w.whereabouts(sandbox.Contact{ID: id}, "state"); len(left) > 0 {
		t.Errorf("it is still in %v", left)
	}
	if out, err := e.Erase(t.Context(), job, id, false); err != nil || out.Any() {
		t.Errorf("erased again: %+v, %v", out, err)
	}
}
