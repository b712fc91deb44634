package run_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/sandbox"
	"github.com/sluice-etl/sluice/schemas"
)

// outlook asks what the next run of a job would read.
func (w *world) outlook(job run.Job) run.Outlook {
	w.t.Helper()
	e := run.Engine{Store: w.store, Clock: clock.System{}}
	o, err := e.Outlook(w.t.Context(), job, true)
	if err != nil {
		w.t.Fatal(err)
	}
	if o.CountError != nil {
		w.t.Fatal(o.CountError)
	}
	return o
}

func TestAnOutlookCountsWhatTheNextRunReads(t *testing.T) {
	t.Parallel()
	w := newWorld(t, contacts(5000))
	job := w.job()
	job.Lookback = 0
	first := w.outlook(job)
	c := first.Count
	if first.Mode != "full" || first.Reason != "first run of this pipeline" || first.Since != nil || first.Kept != 0 {
		t.Errorf("before the first run: %+v", first)
	}
	if c.Contacts < 4975 || c.Contacts > 5025 || c.Reread != 0 || c.Pages < 50 || c.Pages > 51 || c.Requests < c.Pages || c.Asked > run.EstimateBudget+1 || c.Bytes < 5000*200 {
		t.Errorf("before the first run the count is %+v", *c)
	}
	if d := first.Destinations; len(d) != 1 || !d[0].Seeded || d[0].Waiting != 0 || d[0].Bytes != 0 {
		t.Errorf("the destination's: %+v", d)
	}
	if p := w.state(); p.Serial != 0 {
		t.Errorf("an outlook saved state: %+v", p)
	}
	w.mustRun(job)

	var at []int64
	for range 2 { // the second has a package of its kind to go by
		w.source.Mutate(sandbox.Mutation{Updates: 30, Creates: 7})
		o := w.outlook(job)
		c = o.Count
		if o.Mode != "incremental" || o.Since == nil || !o.Since.Equal(*w.state().Cursor) || !c.Exact {
			t.Errorf("after a run: %+v, %+v", o, c)
		}
		sum := w.mustRun(job)
		if read := sum.New + sum.Changed + sum.Unchanged; c.Contacts != read || c.Contacts-c.Reread != sum.New+sum.Changed {
			t.Errorf("%d contacts were foretold, %d of them read again; the run had %+v", c.Contacts, c.Reread, sum)
		}
		at = append(at, o.Destinations[0].Bytes)
	}
	if at[0] != 0 || at[1] < 1000 || first.Destinations[0].Seeded == w.outlook(job).Destinations[0].Seeded {
		t.Errorf("bytes to write were foretold as %v", at)
	}
	job.Full = true
	if o := w.outlook(job); o.Mode != "full" || o.Destinations[0].Bytes < 100_000 || o.Count.Contacts < 4989 || o.Count.Contacts > 5039 {
		t.Errorf("with --full: %+v, %+v", o, o.Count)
	}
}

func TestAnOutlookKnowsWhatAnUnfinishedRunHasRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, contacts(5000))
	ctx, cancel := context.WithCancel(t.Context())
	w.afterPage = func(pages int64) {
		if pages >= 40 {
			cancel()
		}
	}
	_, err := w.run(ctx, w.job())
	var interrupted *run.InterruptedError
	if !errors.As(err, &interrupted) {
		t.Fatalf("got %v", err)
	}
	if o := w.outlook(w.job()); o.Kept != interrupted.Staged {
		t.Errorf("%d rows are staged, the outlook says %+v", interrupted.Staged, o)
	}
	other := w.job()
	other.Lookback = time.Minute // another run: it would begin anew
	if o := w.outlook(other); o.Kept != 0 {
		t.Errorf("a run of other settings is said to go on with %d rows", o.Kept)
	}
}

func TestAnOutlookOfASourceThatDoesNotAnswerSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, contacts(10))
	job := w.job()
	job.Source.BaseURL = "http://127.0.0.1:1"
	e := run.Engine{Store: w.store, Clock: clock.System{}}
	o, err := e.Outlook(t.Context(), job, true)
	if err != nil || o.Count != nil || o.CountError == nil || o.Mode != "full" {
		t.Errorf("got %+v, %v", o, err)
	}
	if o, err = e.Outlook(t.Context(), job, false); err != nil || o.CountError != nil {
		t.Errorf("nobody asked, and got %+v, %v", o, err)
	}
}

func TestAnOutlookRefusesWhatARunWould(t *testing.T) {
	t.Parallel()
	w := newWorld(t, contacts(10))
	w.mustRun(w.job())
	job := w.job()
	contract, err := schemas.ParseContract("c", []byte("version: 1\ncolumns:\n  - {name: id, path: id, type: string, required: true}\n  - {name: created_at, path: created_at, type: timestamp, required: true}\n  - {name: updated_at, path: updated_at, type: timestamp, required: true}\n  - {name: name, path: name, type: json}\n"))
	if err != nil {
		t.Fatal(err)
	}
	job.Contract = contract
	e := run.Engine{Store: w.store, Clock: clock.System{}}
	var refused *run.ContractError
	if _, err := e.Outlook(t.Context(), job, false); !errors.As(err, &refused) {
		t.Errorf("got %v", err)
	}
}

func TestRunsStopBeforeTheyExceedTheirBudgetAndGetThereTogether(t *testing.T) {
	t.Parallel()
	w := newWorld(t, contacts(4000))
	job := w.job()
	job.Source.MaxRequests = 20
	runs := 0
	for {
		before := w.source.Stats().Requests
		_, err := w.run(t.Context(), job)
		if runs++; runs > 10 {
			t.Fatal("the runs come to no end")
		}
		if asked := w.source.Stats().Requests - before; asked > 20 {
			t.Errorf("a run made %d requests", asked)
		}
		if err == nil {
			break
		}
		var spent *extract.BudgetError
		if !errors.As(err, &spent) || !strings.Contains(err.Error(), "max_requests") {
			t.Fatalf("got %v", err)
		}
		if w.state().Cursor != nil {
			t.Fatal("a run that did not read everything moved the cursor")
		}
	}
	if runs < 3 {
		t.Errorf("%d runs were enough for 40 pages", runs)
	}
	w.same("lake")
	w.tidy()
}

func TestAFrozenRunCommitsNothingThatChangesATable(t *testing.T) {
	t.Parallel()
	w := newWorld(t, contacts(40))
	job := w.job()
	w.mustRun(job)
	frozen := job
	frozen.Frozen = true
	w.source.Mutate(sandbox.Mutation{Updates: 5})
	w.mustRun(frozen) // nothing new
	if err := w.source.Update(w.ids(1)[0], sandbox.Change{Customer: []sandbox.Field{{Key: "Never Seen", Value: json.RawMessage(`"x"`)}}}); err != nil {
		t.Fatal(err)
	}
	before := w.state()
	_, err := w.run(t.Context(), frozen)
	var refused *run.FrozenError
	if !errors.As(err, &refused) || strings.Join(refused.Columns, " ") != "cf_customer_never_seen" {
		t.Fatalf("got %v", err)
	}
	if after := w.state(); after.NextPackage != before.NextPackage || !after.Cursor.Equal(*before.Cursor) {
		t.Error("a frozen run has made a package")
	}
	if sum := w.mustRun(job); sum.Changed != 1 {
		t.Errorf("the run after it: %+v", sum)
	}
	w.mustRun(frozen)
	w.same("lake")
	w.tidy()
}
