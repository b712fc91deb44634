package run_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/sandbox"
	"github.com/sluice-etl/sluice/load"
)

// remade is a destination whose table has to be made anew before it takes
// anything.
type remade struct {
	load.Loader
	from, to string
	failing  error
	replaced int
}

func (m *remade) wrong() error {
	if m.from == m.to {
		return nil
	}
	return &load.ReplaceError{Table: "contacts", Attribute: "method", From: m.from, To: m.to}
}

func (m *remade) Check(ctx context.Context, lineage string) (int64, error) {
	position, err := m.Loader.Check(ctx, lineage)
	if err == nil {
		err = m.wrong()
	}
	return position, err
}

func (m *remade) Commit(ctx context.Context, p load.Package) (load.Result, error) {
	if err := m.wrong(); err != nil {
		return load.Result{}, err
	}
	return m.Loader.Commit(ctx, p)
}

func (m *remade) Replace(context.Context, string) (load.Replaced, error) {
	if m.failing != nil {
		return load.Replaced{}, m.failing
	}
	m.from = m.to
	m.replaced++
	return load.Replaced{Contacts: 7}, nil
}

func (w *world) engine() *run.Engine { return &run.Engine{Store: w.store, Clock: clock.System{}} }

func TestADestinationThatHasToBeReplacedTakesNothingAndStopsNoOther(t *testing.T) {
	w := newWorld(t, contacts(300))
	second := &remade{Loader: w.lake("second"), from: "stream", to: "stream"}
	job := w.job(run.Destination{Name: "lake", Loader: w.lake("lake")}, run.Destination{Name: "second", Loader: second})
	w.mustRun(job)
	before := w.stored("second")
	second.to = "cdc"
	w.source.Mutate(sandbox.Mutation{Updates: 20, Creates: 5})
	_, err := w.run(t.Context(), job)
	list, all := run.Unapproved("nightly", err)
	if !all || len(list) != 1 || list[0].Destination != "second" || list[0].Pipeline != "nightly" || list[0].Needs.To != "cdc" {
		t.Fatalf("the run waits for %+v, and nothing else: %t (%v)", list, all, err)
	}
	w.same("lake")
	if got := w.stored("second"); fmt.Sprint(got) != fmt.Sprint(before) {
		t.Error("it was written to")
	}
	if q := w.state().Destinations["second"].Queue; len(q) != 1 {
		t.Errorf("%d packages wait for it", len(q))
	}
	found, err := w.engine().Replacements(t.Context(), job)
	if err != nil || len(found) != 1 || found[0].Destination != "second" {
		t.Fatalf("a plan finds %+v, %v", found, err)
	}
	if out, err := w.engine().Replace(t.Context(), job, found[0]); err != nil || out.Contacts != 7 {
		t.Fatalf("got %+v, %v", out, err)
	}
	w.mustRun(job)
	w.same("second")
	if q := w.state().Destinations["second"].Queue; len(q) > 0 {
		t.Errorf("%d packages wait for it still", len(q))
	}
}

func TestNothingIsReadForADestinationThatHasToBeReplacedAlone(t *testing.T) {
	w := newWorld(t, contacts(100))
	only := &remade{Loader: w.lake("lake"), from: "stream", to: "stream"}
	job := w.job(run.Destination{Name: "lake", Loader: only})
	w.mustRun(job)
	only.to = "cdc"
	requests := w.source.Stats().Requests
	_, err := w.run(t.Context(), job)
	if list, all := run.Unapproved("nightly", err); !all || len(list) != 1 {
		t.Fatalf("it waits for %+v, %t", list, all)
	}
	if n := w.source.Stats().Requests - requests; n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestOnlyWhatWasShownIsReplaced(t *testing.T) {
	w := newWorld(t, contacts(50))
	only := &remade{Loader: w.lake("lake"), from: "stream", to: "stream"}
	job := w.job(run.Destination{Name: "lake", Loader: only})
	if found, err := w.engine().Replacements(t.Context(), job); err != nil || len(found) > 0 {
		t.Fatalf("before the first run a plan finds %+v, %v", found, err)
	}
	w.mustRun(job)
	only.to = "cdc"
	found, err := w.engine().Replacements(t.Context(), job)
	if err != nil || len(found) != 1 {
		t.Fatalf("a plan finds %+v, %v", found, err)
	}
	for _, now := range []string{"load", "stream"} {
		only.to = now
		var moved *run.MovedError
		if _, err := w.engine().Replace(t.Context(), job, found[0]); !errors.As(err, &moved) || only.replaced > 0 {
			t.Errorf("with %s in the file by now: %v, %d replaced", now, err, only.replaced)
		}
	}
	only.to, only.failing = "cdc", errDown
	if _, err := w.engine().Replace(t.Context(), job, found[0]); !errors.Is(err, errDown) {
		t.Errorf("got %v", err)
	}
	claim, err := w.store.Claim(t.Context(), "nightly", "sync")
	if err != nil {
		t.Fatalf("the locks were kept: %v", err)
	}
	only.failing = nil
	if _, err := w.engine().Replace(t.Context(), job, found[0]); err == nil || only.replaced > 0 {
		t.Errorf("beside a run: %v, %d replaced", err, only.replaced)
	}
	if err := claim.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.engine().Replace(t.Context(), job, found[0]); err != nil || only.replaced != 1 {
		t.Errorf("got %v, %d replaced", err, only.replaced)
	}
}

func TestAFailureBesideAReplacementIsNotAMatterOfApproval(t *testing.T) {
	w := newWorld(t, contacts(50))
	second, third := &remade{Loader: w.lake("second"), from: "a", to: "a"}, &brokenLoader{Loader: w.lake("third")}
	job := w.job(run.Destination{Name: "lake", Loader: w.lake("lake")}, run.Destination{Name: "second", Loader: second}, run.Destination{Name: "third", Loader: third})
	w.mustRun(job)
	second.to = "b"
	third.down.Store(true)
	w.source.Mutate(sandbox.Mutation{Updates: 5})
	_, err := w.run(t.Context(), job)
	if list, all := run.Unapproved("nightly", err); all || len(list) != 1 {
		t.Errorf("it waits for %+v, and nothing else: %t", list, all)
	}
	third.down.Store(false)
	_, err = w.run(t.Context(), job)
	if _, all := run.Unapproved("nightly", errors.Join(err, nil)); !all {
		t.Errorf("beside no other error: %v", err)
	}
	if _, all := run.Unapproved("nightly", errors.Join(err, errDown)); all {
		t.Error("beside another error it counts as a matter of approval")
	}
	if list, all := run.Unapproved("nightly", errDown); all || len(list) > 0 {
		t.Errorf("of another error: %+v, %t", list, all)
	}
}
