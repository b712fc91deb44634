package monitor

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/schedule"
	"github.com/sluice-etl/sluice/internal/state"
)

var morning = time.Date(2026, 9, 1, 3, 0, 0, 0, time.UTC)

// told is the monitor of one pipeline whose state is the document.
func told(document *state.Pipeline) *Monitor {
	return New(Options{
		Clock: clock.Fixed(morning), Pipelines: []Pipeline{{Name: "nightly"}},
		Load:  func(context.Context, string) (*state.Pipeline, error) { return document, nil },
		Hints: func(error) []string { return []string{"look there"} },
	})
}

// failing has a job of the kind fail, in a run that the engine began where the id
// is not empty.
func failing(m *Monitor, kind, runID string) {
	m.Schedule(schedule.Event{Type: schedule.Started, Name: "nightly", Kind: kind, Trigger: schedule.Timed, Attempt: 1, Time: morning})
	m.Observe(kind, run.Event{Type: "run_started", RunID: runID, Pipeline: "nightly"})
	m.Schedule(schedule.Event{Type: schedule.Failed, Name: "nightly", Kind: kind, Trigger: schedule.Timed, Attempt: 1, Time: morning.Add(time.Second), Err: errors.New("no route")})
}

func TestASyncThatFailedWithoutARecordIsAFailure(t *testing.T) {
	t.Parallel()
	m := told(&state.Pipeline{Runs: []state.RunRecord{{Kind: "sync", Status: "done", StartedAt: morning.Add(-24 * time.Hour), FinishedAt: &morning}}})
	failing(m, "", "")
	s, _ := m.Status(t.Context(), "nightly")
	want := []Failure{{Kind: "sync", Trigger: schedule.Timed, Attempt: 1, At: morning.Add(time.Second), Err: "no route", Hints: []string{"look there"}}}
	if diff := cmp.Diff(want, s.Failures); diff != "" || s.Health != Failing {
		t.Errorf("%s (-want +got):\n%s", s.Health, diff)
	}
}

func TestAReconciliationThatFailedLeavesTheHealthOfThePipeline(t *testing.T) {
	t.Parallel()
	m := told(&state.Pipeline{Runs: []state.RunRecord{{Kind: "sync", Status: "done", StartedAt: morning, FinishedAt: &morning}}})
	failing(m, "reconcile", "20260901T030000Z-aaaaaa")
	s, _ := m.Status(t.Context(), "nightly")
	if len(s.Failures) != 1 || s.Failures[0].Kind != "reconcile" || s.Health != Healthy {
		t.Errorf("%s, %+v", s.Health, s.Failures)
	}
	if f, ok := m.Failure("nightly", "20260901T030000Z-aaaaaa"); !ok || f.Err != "no route" {
		t.Errorf("the run is told as %+v", f)
	}
	m.Schedule(schedule.Event{Type: schedule.Finished, Name: "nightly", Kind: "reconcile", Time: morning})
	if s, _ = m.Status(t.Context(), "nightly"); len(s.Failures) != 0 {
		t.Errorf("after a good one: %+v", s.Failures)
	}
}

func TestARunOfAnotherProcessThatIsDoneEndsAFailure(t *testing.T) {
	t.Parallel()
	later := morning.Add(time.Hour)
	document := &state.Pipeline{}
	m := told(document)
	failing(m, "", "")
	document.Runs = []state.RunRecord{{Kind: "sync", Status: "done", StartedAt: later, FinishedAt: &later}}
	if s, _ := m.Status(t.Context(), "nightly"); s.Health != Healthy || len(s.Failures) != 0 {
		t.Errorf("%s, %+v", s.Health, s.Failures)
	}
}

func TestASyncThatStoodBackSaysNothingOfHowThePipelineIs(t *testing.T) {
	t.Parallel()
	m := told(&state.Pipeline{Runs: []state.RunRecord{{Kind: "sync", Status: "done", StartedAt: morning.Add(-24 * time.Hour), FinishedAt: &morning}}})
	e := schedule.Event{Type: schedule.Started, Name: "nightly", Trigger: schedule.Timed, Attempt: 1, Time: morning}
	m.Schedule(e)
	e.Type, e.Times, e.Err = schedule.Skipped, 1, &state.HeldError{}
	m.Schedule(e)
	if s, _ := m.Status(t.Context(), "nightly"); !s.Undecided {
		t.Error("nobody knows yet whether it is repeated")
	}
	e.Type = schedule.GivenUp
	m.Schedule(e)
	s, _ := m.Status(t.Context(), "nightly")
	if len(s.Skips) != 1 || len(s.Failures) != 0 || len(s.Live) != 0 || s.Health != Healthy || s.Undecided {
		t.Errorf("%s, %+v, %+v, %+v", s.Health, s.Skips, s.Failures, s.Live)
	}
	m.Schedule(schedule.Event{Type: schedule.Finished, Name: "nightly", Time: morning})
	if s, _ = m.Status(t.Context(), "nightly"); len(s.Skips) != 0 {
		t.Errorf("after one that was not: %+v", s.Skips)
	}
}
