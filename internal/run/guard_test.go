package run_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/sandbox"
	"github.com/sluice-etl/sluice/internal/state"
)

func TestAContactThatChangesItsChannelLeavesTheTable(t *testing.T) {
	w := newWorld(t, contacts(300))
	job := w.job()
	job.Filters = map[string][]string{"platform": {"whatsapp"}}
	w.mustRun(job)
	on := func(c sandbox.Contact) bool { return c.Platform == "whatsapp" }
	w.holds("lake", on)
	var ids []string
	w.source.Each(func(c sandbox.Contact) bool {
		if on(c) {
			ids = append(ids, c.ID)
		}
		return len(ids) < 2
	})
	other := "web-whatsapp"
	for i, id := range ids {
		if err := w.source.Update(id, sandbox.Change{Platform: &other, Silent: i == 1}); err != nil {
			t.Fatal(err)
		}
	}
	w.mustRun(job)
	if alive := w.alive("lake"); alive[ids[0]] || !alive[ids[1]] {
		t.Errorf("the one with a new updated_at is there: %t, the silent one: %t", alive[ids[0]], alive[ids[1]])
	}
	job.Full = true
	w.mustRun(job)
	w.holds("lake", on)
}

func TestASourceThatShowsFarLessMarksNobody(t *testing.T) {
	slow(t)
	for _, mode := range []run.SyncMode{run.SyncSnapshot, run.SyncRecent} {
		t.Run(string(mode), func(t *testing.T) {
			w := newWorld(t, contacts(300))
			job := w.job()
			job.Sync = mode
			if mode == run.SyncRecent {
				job.Days = 365
			}
			w.mustRun(job)
			before := w.alive("lake")
			var hidden []string
			for id := range before {
				if len(hidden) <= len(before)*3/4 {
					hidden = append(hidden, id)
				}
			}
			ill := job
			ill.Source.Transport = hiding(hidden...)
			var left *run.LeftShareError
			if _, err := w.run(t.Context(), ill); !errors.As(err, &left) || left.Left != int64(len(hidden)) || !strings.Contains(left.Hint(), "--full") {
				t.Fatalf("got %v, with %d hidden", err, len(hidden))
			}
			w.tidy()
			w.mustRun(job) // what the ill source showed is of no use to it
			if got := w.alive("lake"); len(got) != len(before) {
				t.Errorf("%d contacts are alive, were %d", len(got), len(before))
			}
			ill.Full = true
			w.mustRun(ill)
			if got := w.alive("lake"); len(got) != len(before)-len(hidden) {
				t.Errorf("asked for, %d contacts are alive of %d", len(got), len(before))
			}
		})
	}
}

func TestAFilterThatNobodyPassesEmptiesNoTable(t *testing.T) {
	w := newWorld(t, contacts(200))
	w.mustRun(w.job())
	job := w.job()
	job.Filters = map[string][]string{"platform": {"watsapp"}}
	var nobody *run.NobodyPassesError
	if _, err := w.run(t.Context(), job); !errors.As(err, &nobody) || nobody.Read != 200 {
		t.Fatalf("got %v", err)
	}
	w.holds("lake", everybody)
	job.Full = true
	w.mustRun(job)
	w.holds("lake", func(sandbox.Contact) bool { return false })
}

func TestARecentPipelineThatCannotBeBackfilledSaysSo(t *testing.T) {
	w := newWorld(t, contacts(100))
	job := w.job()
	job.Sync, job.Days, job.DaysAlone = run.SyncRecent, 200, true
	w.mustRun(job)
	var alone *run.DaysAloneError
	if _, err := w.backfill(t.Context(), job, spring(), 500); !errors.As(err, &alone) {
		t.Errorf("got %v", err)
	}
	e := run.Engine{Store: w.store, Clock: clock.System{}}
	if _, err := e.Estimate(t.Context(), job, spring()); !errors.As(err, &alone) {
		t.Errorf("estimate: %v", err)
	}
	odd := newWorld(t, func() sandbox.Options { o := contacts(300); o.DaysAlone = true; return o }())
	job = odd.job()
	job.Sync, job.Days = run.SyncRecent, 300
	_, err := odd.run(t.Context(), job)
	var order *run.DaysOrderError
	if !errors.As(err, &order) || !strings.Contains(order.Hint(), "combine_filters: false") {
		t.Errorf("got %v", err)
	}
}

func TestACursorOrAFullReadInTheFutureIsNotBelieved(t *testing.T) {
	w := newWorld(t, contacts(200))
	w.mustRun(w.job())
	later := time.Now().Add(90 * 24 * time.Hour)
	edit := func(f func(*state.Pipeline)) {
		t.Helper()
		if _, err := w.store.Update(t.Context(), "nightly", func(p *state.Pipeline) error { f(p); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	edit(func(p *state.Pipeline) { p.Cursor = &later })
	w.source.Mutate(sandbox.Mutation{Updates: 20})
	w.mustRun(w.job())
	if ev := w.events[0]; ev.Mode != "full" || !strings.Contains(ev.Reason, "future") {
		t.Errorf("mode %q: %s", ev.Mode, ev.Reason)
	}
	w.same("lake")
	if c := w.state().Cursor; c.After(time.Now()) {
		t.Errorf("the cursor is still at %s", c)
	}
	edit(func(p *state.Pipeline) { p.LastFull = &later })
	job := w.job()
	job.FullEvery = 24 * time.Hour
	w.mustRun(job)
	if ev := w.events[0]; ev.Mode != "full" {
		t.Errorf("mode %q: %s", ev.Mode, ev.Reason)
	}
}

func TestARunThatDiedBeforeItsCommitIsFinishedByTheOneThatCommitsIt(t *testing.T) {
	w := newWorld(t, contacts(400))
	w.mustRun(w.job())
	// What a kill right after sealing leaves: a package in the queue and a record
	// that nobody has completed.
	broken := &brokenLoader{Loader: w.lake("lake")}
	broken.down.Store(true)
	w.source.Mutate(sandbox.Mutation{Updates: 15, Creates: 5})
	if _, err := w.run(t.Context(), w.job(run.Destination{Name: "lake", Loader: broken})); err == nil {
		t.Fatal("the broken destination took it")
	}
	if _, err := w.store.Update(t.Context(), "nightly", func(p *state.Pipeline) error {
		r := &p.Runs[len(p.Runs)-1]
		r.Status, r.FinishedAt, r.Error = "sealed", nil, ""
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	sum := w.mustRun(w.job())
	if sum.New != 0 || sum.Changed != 0 {
		t.Errorf("the later run claims %+v", sum)
	}
	runs := w.state().Runs
	if r := runs[len(runs)-2]; r.Status != "done" || r.FinishedAt == nil || r.New != 5 || r.Changed < 14 {
		t.Errorf("the killed run is recorded as %+v", r)
	}
	w.same("lake")
}
