package run_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/schemas"
)

// started is how the last run said that it began.
func (w *world) started() run.Event {
	w.t.Helper()
	for _, ev := range w.events {
		if ev.Type == "run_started" {
			return ev
		}
	}
	w.t.Fatal("no run has begun")
	return run.Event{}
}

// evolvingLake is evolving with files alone.
func evolvingLake(t *testing.T) (*world, *dressed, func(contract string) run.Job) {
	t.Helper()
	w := newWorld(t, contacts(400))
	d, lakes := &dressed{}, w.lakes("lake")
	return w, d, func(lines string) run.Job {
		job := w.job(lakes...)
		job.Source.Transport, job.Contract = d, contractOf(t, lines)
		return job
	}
}

// lakeHas fails unless a query about the lake is answered as wanted.
func (w *world) lakeHas(query string, want ...string) {
	w.t.Helper()
	if got := w.ask(query); !slices.Equal(got, want) {
		w.t.Errorf("%s: got %v, want %v", query, got, want)
	}
}

func TestWhatAContractLeftOutComesOnceItIsLetIn(t *testing.T) {
	slow(t)
	w, d, job := evolvingLake(t)
	w.mustRun(job(""))
	full := func(lines string) run.Job {
		j := job(lines)
		j.Full = true
		return j
	}
	wear := func(size any) func(map[string]any) {
		return func(c map[string]any) { c["shoe_size"] = size }
	}
	for _, step := range []struct {
		rule  string
		size  any
		left  schemas.LeftOut
		names string
		shows string
		want  string
	}{
		{"new_columns", 41, schemas.LeftOut{Rule: schemas.RuleNewColumns, Scope: schemas.ScopeContact}, "new_columns of scope contact", "count(shoe_size)", "400"},
		{
			"type_conflicts", "large",
			schemas.LeftOut{Rule: schemas.RuleTypeConflicts, Scope: schemas.ScopeContact, Key: "shoe_size"},
			"type_conflicts of contact:shoe_size", "count(shoe_size__text)", "400",
		},
	} {
		d.change = wear(step.size)
		done := w.mustRun(full(step.rule + ": discard"))
		if done.Discarded["contact:shoe_size"] < 400 || !slices.Contains(w.state().LeftOut, step.left) {
			t.Fatalf("%s: left out %v by %v", step.rule, done.Discarded, w.state().LeftOut)
		}
		w.mustRun(job(step.rule + ": discard"))
		if got := w.started(); got.Mode != "incremental" || !slices.Contains(w.state().LeftOut, step.left) {
			t.Errorf("%s: as before it reads %s (%s), left out %v", step.rule, got.Mode, got.Reason, w.state().LeftOut)
		}
		var early *run.NotReadyError
		if _, err := w.backfill(t.Context(), job(""), spring(), 500); !errors.As(err, &early) || !strings.Contains(early.Reason, step.names) {
			t.Errorf("%s: a backfill under a contract that lets it in: %v", step.rule, err)
		}
		w.mustRun(job(""))
		if got := w.started(); got.Mode != "full" || got.Reason != "the contract lets in what it left out: "+step.names {
			t.Errorf("%s: let in, it reads %s (%s)", step.rule, got.Mode, got.Reason)
		}
		w.lakeHas("SELECT "+step.shows+" FROM LAKE", step.want)
		if left := w.state().LeftOut; len(left) != 0 {
			t.Errorf("%s: then %v is left out", step.rule, left)
		}
		w.mustRun(job(""))
		if got := w.started(); got.Mode != "incremental" {
			t.Errorf("%s: after that it reads %s (%s)", step.rule, got.Mode, got.Reason)
		}
	}
	w.same("lake")
	w.tidy()
}

func TestAContractThatStopsToLetInNeedsNoFullRead(t *testing.T) {
	w, d, job := evolvingLake(t)
	d.change = func(c map[string]any) { c["shoe_size"] = 41 }
	w.mustRun(job(""))
	w.mustRun(job("new_columns: discard\ntype_conflicts: discard"))
	if got := w.started(); got.Mode != "incremental" {
		t.Errorf("it reads %s (%s)", got.Mode, got.Reason)
	}
	w.mustRun(job(""))
	if got := w.started(); got.Mode != "incremental" { // nothing was left out
		t.Errorf("back again it reads %s (%s)", got.Mode, got.Reason)
	}
}

func TestAnUnfinishedRunThatLeftValuesOutIsNotGoneOnWithUnderAContractThatLetsThemIn(t *testing.T) {
	w, d, job := evolvingLake(t)
	d.change = func(c map[string]any) { c["shoe_size"] = 41 }
	under := func(lines string) run.Job {
		j := job(lines)
		j.PageSize, j.Source.Concurrency = 20, 1
		return j
	}
	stopAfter := func(pages int, lines string) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w.afterPage = func(int64) {
			if pages--; pages == 0 {
				cancel()
			}
		}
		e := run.Engine{Store: w.store, Clock: clock.System{}, SealRows: 40, Observe: func(ev run.Event) {
			if ev.Type == "progress" {
				w.afterPage(ev.Pages)
			}
		}}
		if _, err := e.Run(ctx, under(lines)); err == nil {
			t.Fatal("the run was not stopped")
		}
		w.afterPage = nil
	}
	stopAfter(9, "new_columns: discard")
	w.mustRun(under(""))
	w.lakeHas("SELECT count(*), count(shoe_size) FROM LAKE", "400|400")
	if runs := w.state().Runs; len(runs) != 2 || runs[0].RunID == runs[1].RunID {
		t.Errorf("it went on with what lacks values: %+v", runs)
	}
	w.tidy()
}

func TestADroppedColumnComesBackByAFullReadOfItself(t *testing.T) {
	slow(t)
	w, _, job := evolvingLake(t)
	dropped := func() run.Job {
		j := job("")
		text := strings.Replace(string(schemas.BuiltIn()), "path: phone\n    type: string", "path: phone\n    type: string\n    policy: drop", 1)
		var err error
		if j.Contract, err = schemas.ParseContract("crm.yaml", []byte(text)); err != nil {
			t.Fatal(err)
		}
		return j
	}
	w.mustRun(dropped())
	if got := w.ask("SELECT count(*) FROM (DESCRIBE SELECT * FROM LAKE) WHERE column_name = 'phone'"); got[0] != "0" {
		t.Errorf("a dropped column is in the table")
	}
	w.mustRun(job(""))
	if got := w.started(); got.Mode != "full" || got.Reason != "the contract changed" {
		t.Errorf("it reads %s (%s)", got.Mode, got.Reason)
	}
	w.lakeHas("SELECT count(*), count(phone) > 300 FROM LAKE", "400|true")
}
