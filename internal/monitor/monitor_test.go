package monitor

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/schedule"
	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/schemas"
)

// shelf is where state lies that a monitor reads.
type shelf struct {
	mu    sync.Mutex
	docs  map[string]*state.Pipeline
	err   error
	loads int
	wait  time.Duration // before each answer
	most  int           // read at once
	now   int
}

func (s *shelf) load(ctx context.Context, name string) (*state.Pipeline, error) {
	s.mu.Lock()
	s.loads++
	s.now++
	s.most = max(s.most, s.now)
	wait := s.wait
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.now--
		s.mu.Unlock()
	}()
	if wait > 0 {
		if err := clock.Sleep(ctx, wait); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	if d := s.docs[name]; d != nil {
		return d, nil
	}
	return state.New(name), nil
}

func (s *shelf) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// count are the readings so far, and how many went on at once at most.
func (s *shelf) count() (loads, most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.loads, s.most
}

func at(hours float64) time.Time { return morning.Add(time.Duration(hours * float64(time.Hour))) }

func record(id, kind, status string, from, to time.Time) state.RunRecord {
	r := state.RunRecord{RunID: id, Kind: kind, Status: status, StartedAt: from}
	if !to.IsZero() {
		r.FinishedAt = &to
	}
	return r
}

func TestAStatusShowsWhatStateAndEventsTell(t *testing.T) {
	t.Parallel()
	done, failed := record("a", "sync", "done", at(-48), at(-47)), record("b", "sync", "failed", at(-24), at(-23))
	cursor, since := at(-48), at(-23)
	document := &state.Pipeline{
		Cursor: &cursor,
		Runs:   []state.RunRecord{done, failed, record("c", "sync", "sealed", at(-2), time.Time{}), record("d", "backfill", "done", at(-1), at(-1))},
		Told:   map[string]time.Time{"failure": at(-23)},
		Destinations: map[string]*state.Destination{"lake": {
			Position: 7, Error: "disk full", FailingSince: &since, NeedsFull: &since,
			Queue: []state.PackageRef{{Rows: 5, Bytes: 50, SealedAt: at(-20)}, {Rows: 6, Bytes: 60, SealedAt: at(-22)}},
		}},
		Registry: []schemas.RegistryEntry{{Column: "cf_customer_city", Type: schemas.String, FirstRun: "a", FirstSeen: at(-48), LastSeen: at(-24)}},
	}
	lake := Destination{Name: "lake", Type: "parquet", Place: "/out/contacts"}
	conf := Pipeline{Name: "nightly", Source: "crm", Table: "contacts", Sync: "incremental", Schedule: "0 3 * * *", Reconcile: "@weekly", Location: time.UTC, Destinations: []Destination{lake}, Freshness: 26 * time.Hour}
	m := New(Options{Clock: clock.Fixed(morning), Pipelines: []Pipeline{conf}, Load: func(context.Context, string) (*state.Pipeline, error) { return document, nil }, Hints: func(error) []string { return nil }})
	m.Schedule(schedule.Event{Type: schedule.Next, Name: "nightly", At: at(24)})
	m.Schedule(schedule.Event{Type: schedule.Next, Name: "nightly", Kind: "reconcile", At: at(48)})
	m.Schedule(schedule.Event{Type: schedule.Failed, Name: "nightly", Err: errors.New("refused"), Trigger: schedule.Timed, Attempt: 2, Time: at(-0.5)})
	m.Schedule(schedule.Event{Type: schedule.Retrying, Name: "nightly", Err: errors.New("refused"), Attempt: 2, At: at(1), Until: at(2)})
	m.Schedule(schedule.Event{Type: schedule.Skipped, Name: "nightly", Kind: "reconcile", Err: errors.New("held"), Trigger: schedule.Timed, Attempt: 1, Times: 1, Time: at(-3)})
	m.Schedule(schedule.Event{Type: schedule.Started, Name: "nightly", Kind: "backfill", Trigger: schedule.Manual, Attempt: 1, Time: at(-0.25)})
	m.Observe("backfill", run.Event{Type: "run_started", RunID: "e", Pipeline: "nightly", Mode: "backfill"})
	got, ok := m.Status(t.Context(), "nightly")
	if !ok {
		t.Fatal("there is no status")
	}
	if len(got.Fields) == 1 && got.Fields[0].Source == "" {
		t.Error("a field's source is missing")
	}
	got.Fields[0].Source = ""
	want := Status{
		Pipeline: conf, Health: Failing, Next: at(24), NextReconcile: at(48),
		Live:     []Live{{Pipeline: "nightly", Kind: "backfill", Trigger: schedule.Manual, Attempt: 1, Since: at(-0.25), RunID: "e", Mode: "backfill", Share: -1}},
		Retry:    &Repeat{Attempt: 2, At: at(1), Until: at(2), Err: "refused"},
		Failures: []Failure{{Kind: "sync", Trigger: schedule.Timed, Attempt: 2, At: at(-0.5), Err: "refused"}},
		Skips:    []Failure{{Kind: "reconcile", Trigger: schedule.Timed, Attempt: 1, At: at(-3), Err: "held"}},
		Last:     &failed, Runs: document.Runs, FreshAt: at(-48), Age: 48 * time.Hour, Late: true, Cursor: &cursor,
		Told:   document.Told,
		Queues: []Queue{{Destination: lake, Position: 7, Packages: 2, Rows: 11, Bytes: 110, Oldest: at(-22), Error: "disk full", FailingSince: since, NeedsFull: true}},
		Fields: []Field{{Column: "cf_customer_city", Type: "string", FirstRun: "a", FirstSeen: at(-48), LastSeen: at(-24)}},
		ReadAt: morning,
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(Live{}), cmp.Comparer(func(a, b *time.Location) bool { return a.String() == b.String() })); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	// A field that nothing sets would be shown empty for ever.
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Status]()) {
		if v := reflect.ValueOf(got).FieldByIndex(f.Index); len(f.Index) == 1 && v.IsZero() && f.Name != "Err" && f.Name != "Undecided" {
			t.Errorf("the test does not show %s", f.Name)
		}
	}
}

func TestTheHealthOfAPipeline(t *testing.T) {
	t.Parallel()
	done, failed := record("a", "sync", "done", at(-2), at(-1)), record("b", "sync", "failed", at(-1), at(-0.5))
	stopped := record("c", "sync", "interrupted", at(-0.5), at(-0.25))
	for name, c := range map[string]struct {
		runs  []state.RunRecord
		fresh time.Duration
		err   error
		want  Health
	}{
		"never run":                      {want: Never},
		"done":                           {runs: []state.RunRecord{done}, want: Healthy},
		"failed":                         {runs: []state.RunRecord{done, failed}, want: Failing},
		"done after it failed":           {runs: []state.RunRecord{failed, done}, want: Healthy},
		"interrupted after a good one":   {runs: []state.RunRecord{done, stopped}, want: Healthy},
		"interrupted after a failed one": {runs: []state.RunRecord{done, failed, stopped}, want: Failing},
		"a reconciliation failed":        {runs: []state.RunRecord{done, record("r", "reconcile", "failed", at(-1), at(-0.5))}, want: Healthy},
		"older than it may be":           {runs: []state.RunRecord{done}, fresh: time.Hour, want: Late},
		"as old as it may be":            {runs: []state.RunRecord{done}, fresh: 2 * time.Hour, want: Healthy},
		"failed and late":                {runs: []state.RunRecord{done, failed}, fresh: time.Hour, want: Failing},
		"its state cannot be read":       {err: errors.New("no"), want: Unknown},
	} {
		m := New(Options{Clock: clock.Fixed(morning), Pipelines: []Pipeline{{Name: "p", Freshness: c.fresh}}, Load: func(context.Context, string) (*state.Pipeline, error) {
			return &state.Pipeline{Runs: c.runs}, c.err
		}})
		if s, _ := m.Status(t.Context(), "p"); s.Health != c.want {
			t.Errorf("%s: %s, want %s", name, s.Health, c.want)
		}
	}
}

func TestStateIsReadAgainWhenItIsOldOrARunHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{docs: map[string]*state.Pipeline{}}
		m := New(Options{Clock: clock.System{}, Pipelines: []Pipeline{{Name: "p"}}, Load: s.load})
		read := func() Status {
			got, _ := m.Status(t.Context(), "p")
			return got
		}
		read()
		read()
		if n, _ := s.count(); n != 1 {
			t.Errorf("%d readings of what is fresh", n)
		}
		changed, stop := m.Watch()
		defer stop()
		s.set(func() {
			s.docs["p"] = &state.Pipeline{Serial: 1, Runs: []state.RunRecord{record("x", "sync", "done", at(0), at(0))}}
		})
		time.Sleep(5 * time.Second) // another process has run it
		if got := read(); got.Last == nil || got.Last.RunID != "x" {
			t.Errorf("the run of another process is not shown: %+v", got.Last)
		}
		select {
		case <-changed:
		default:
			t.Error("those who watch did not hear of it")
		}
		m.Schedule(schedule.Event{Type: schedule.Finished, Name: "p"})
		read()
		if n, _ := s.count(); n != 3 {
			t.Errorf("%d readings, a run has ended since the second", n)
		}
		s.set(func() { s.err = errors.New("gone") })
		time.Sleep(5 * time.Second)
		if got := read(); got.Err == nil || got.Last == nil || got.Health != Unknown || time.Since(got.ReadAt) != 5*time.Second {
			t.Errorf("without state: %+v", got)
		}
	})
}

func TestARunThatEndsWhileStateIsReadIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{docs: map[string]*state.Pipeline{}}
		begun := make(chan struct{}, 2)
		goOn := make(chan struct{})
		m := New(Options{Clock: clock.System{}, Pipelines: []Pipeline{{Name: "p"}}, Load: func(ctx context.Context, name string) (*state.Pipeline, error) {
			st, err := s.load(ctx, name)
			begun <- struct{}{}
			<-goOn
			return st, err
		}})
		got := make(chan Status)
		go func() {
			one, _ := m.Status(t.Context(), "p")
			got <- one
		}()
		<-begun
		s.set(func() {
			s.docs["p"] = &state.Pipeline{Serial: 1, Runs: []state.RunRecord{record("x", "sync", "done", at(0), at(0))}}
		})
		m.Schedule(schedule.Event{Type: schedule.Finished, Name: "p"})
		close(goOn)
		if one := <-got; one.Last == nil {
			t.Error("the run that ended meanwhile is not shown")
		}
	})
}

func TestManySlowReadingsDoNotStallASnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{docs: map[string]*state.Pipeline{}, wait: time.Second}
		var list []Pipeline
		for i := range 100 {
			list = append(list, Pipeline{Name: fmt.Sprint(i)})
		}
		m := New(Options{Clock: clock.System{}, Pipelines: list, Load: s.load, Refresh: time.Minute})
		began := time.Now()
		first := m.Snapshot(t.Context())
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("it took %s, and patience is 2 s", took)
		}
		known := 0
		for _, p := range first.Pipelines {
			if p.Err == nil {
				known++
			} else if !errors.Is(p.Err, errUnread) || p.Health != Unknown {
				t.Errorf("%s: %v, %s", p.Name, p.Err, p.Health)
			}
		}
		if _, most := s.count(); known < parallelReads || known > 2*parallelReads || most != parallelReads {
			t.Errorf("%d are known after 2 s, %d were read at once", known, most)
		}
		time.Sleep(15 * time.Second)
		if n, _ := s.count(); n != 100 {
			t.Errorf("%d readings", n)
		}
		began = time.Now()
		for _, p := range m.Snapshot(t.Context()).Pipelines {
			if p.Err != nil {
				t.Errorf("%s: %v", p.Name, p.Err)
			}
		}
		if time.Since(began) != 0 {
			t.Error("what is known takes time")
		}
		// State that answers no more: the last that was known is shown.
		s.set(func() { s.wait = time.Hour })
		time.Sleep(time.Minute)
		if one := m.Snapshot(t.Context()).Pipelines[0]; one.Err != nil || one.ReadAt.IsZero() {
			t.Errorf("while state is read: %+v", one)
		}
		time.Sleep(30 * time.Second)
		if one := m.Snapshot(t.Context()).Pipelines[0]; one.Err == nil || one.Health != Unknown {
			t.Errorf("state does not answer, and it is %s: %v", one.Health, one.Err)
		}
		time.Sleep(time.Hour) // lets the readings end
	})
}

func TestAReaderThatGoesAwayDoesNotMakeStateUnreadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{docs: map[string]*state.Pipeline{}, wait: time.Second}
		m := New(Options{Clock: clock.System{}, Pipelines: []Pipeline{{Name: "p"}}, Load: s.load})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		m.Snapshot(ctx)
		got, _ := m.Status(t.Context(), "p")
		if n, _ := s.count(); got.Err != nil || n != 1 {
			t.Errorf("%v after %d readings", got.Err, n)
		}
	})
}

func TestSeveralChangesAreOneValueForThoseWhoWatch(t *testing.T) {
	t.Parallel()
	m := told(state.New("nightly"))
	changed, stop := m.Watch()
	other, stopOther := m.Watch()
	stopOther()
	for range 3 {
		m.Observe("", run.Event{Type: "progress", RunID: "a", Pipeline: "nightly"})
	}
	if len(changed) != 1 || len(other) != 0 {
		t.Errorf("%d values, %d for who has stopped", len(changed), len(other))
	}
	<-changed
	m.Schedule(schedule.Event{Type: schedule.Next, Name: "unknown"})
	if len(changed) != 0 {
		t.Error("what happens to others is a change")
	}
	stop()
	if len(m.watches) != 0 {
		t.Error("a watch is left")
	}
}

func TestLogsOfRunsAreBounded(t *testing.T) {
	t.Parallel()
	m := told(state.New("nightly"))
	see := func(id, typ string, contacts int64) {
		m.Observe("sync", run.Event{Type: typ, RunID: id, Pipeline: "nightly", Phase: "scan", Contacts: contacts})
	}
	for i := range keptLogs + 5 {
		see(fmt.Sprint("run-", i), "run_started", 0)
	}
	if lines, _ := m.Log("nightly", "run-4"); lines != nil || len(m.of["nightly"].logs) != keptLogs {
		t.Errorf("%d logs are kept", len(m.of["nightly"].logs))
	}
	for n := range keptLines + 10 {
		see("run-24", "part_sealed", int64(n))
		see("run-24", "progress", int64(n))
		see("run-24", "progress", int64(n))
	}
	lines, left := m.Log("nightly", "run-24")
	if first, last := lines[0].Event.Type, lines[len(lines)-1].Event; len(lines) != keptLines || first != "run_started" || last.Contacts != keptLines+9 {
		t.Errorf("%d lines from %s to %+v", len(lines), first, last)
	}
	if want := 1 + 2*(keptLines+10) - keptLines; left != want {
		t.Errorf("%d lines are said to be left out, not %d", left, want)
	}
	if lines, _ := m.Log("weekly", "run-24"); lines != nil {
		t.Error("a pipeline that there is not has a log")
	}
}

func TestALiveRunShowsHowFarItIs(t *testing.T) {
	t.Parallel()
	m := told(state.New("nightly"))
	m.Schedule(schedule.Event{Type: schedule.Waiting, Name: "nightly", Time: at(0)})
	if s, _ := m.Status(t.Context(), "nightly"); len(s.Live) != 1 || !s.Live[0].Waiting {
		t.Errorf("%+v", s.Live)
	}
	m.Schedule(schedule.Event{Type: schedule.Started, Name: "nightly", Time: at(1)})
	stamp := func(h float64) string { return at(h).Format(time.RFC3339) }
	m.Observe("", run.Event{Type: "progress", Pipeline: "nightly", RunID: "a", Phase: "scan", Mark: stamp(0), Goal: stamp(10), Contacts: 1, Pages: 1})
	m.Observe("", run.Event{Type: "progress", Pipeline: "nightly", RunID: "a", Phase: "scan", Mark: stamp(4), Goal: stamp(10), Contacts: 9, Pages: 2})
	m.Observe("", run.Event{Type: "committed", Pipeline: "nightly", RunID: "a", Destination: "lake"})
	m.Observe("", run.Event{Type: "commit_failed", Pipeline: "nightly", RunID: "a", Destination: "local"})
	s, _ := m.Status(t.Context(), "nightly")
	l := s.Live[0]
	if math.Abs(l.Share-0.4) > 1e-9 || l.Contacts != 9 || l.Pages != 2 || l.RunID != "a" || l.Committed[0] != "lake" || l.Failed[0] != "local" || l.Waiting || !l.Since.Equal(at(1)) {
		t.Errorf("%+v", l)
	}
	m.Schedule(schedule.Event{Type: schedule.Finished, Name: "nightly", Time: at(2)})
	if s, _ := m.Status(t.Context(), "nightly"); len(s.Live) != 0 {
		t.Errorf("it has ended: %+v", s.Live)
	}
}

func TestWhetherAFailureIsRepeatedIsOpenUntilTheSchedulerTells(t *testing.T) {
	t.Parallel()
	m := told(state.New("nightly"))
	tell := func(typ schedule.EventType, kind string) Status {
		m.Schedule(schedule.Event{Type: typ, Name: "nightly", Kind: kind, Time: morning, Err: errors.New("no")})
		s, _ := m.Status(t.Context(), "nightly")
		return s
	}
	if s := tell(schedule.Failed, ""); !s.Undecided || s.Retry != nil {
		t.Errorf("failed: %+v", s)
	}
	if s := tell(schedule.Retrying, ""); s.Undecided || s.Retry == nil {
		t.Errorf("it is repeated: %+v", s)
	}
	tell(schedule.Failed, "reconcile")
	if s := tell(schedule.GivenUp, "reconcile"); s.Undecided || s.Retry == nil {
		t.Errorf("a reconciliation was given up: %+v", s)
	}
	tell(schedule.Failed, "")
	if s := tell(schedule.GivenUp, ""); s.Undecided || s.Retry != nil {
		t.Errorf("it was given up: %+v", s)
	}
}

func TestAMonitorIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	m := told(state.New("nightly"))
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 50 {
				id := fmt.Sprint(i, "-", n)
				m.Schedule(schedule.Event{Type: schedule.Started, Name: "nightly", Time: morning})
				m.Observe("", run.Event{Type: "committed", RunID: id, Pipeline: "nightly", Destination: id})
				m.Snapshot(t.Context())
				_, stop := m.Watch()
				m.Log("nightly", id)
				m.Schedule(schedule.Event{Type: schedule.Failed, Name: "nightly", Err: errors.New(id), Time: morning})
				stop()
			}
		})
	}
	all.Wait()
}
