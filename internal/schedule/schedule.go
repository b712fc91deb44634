// Package schedule runs jobs at the times a cron expression names, each in a
// time zone of its own, never two of one job at once.
package schedule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/sluice-etl/sluice/internal/clock"
)

// Entry is one job with its times.
type Entry struct {
	Name string
	// Kind tells several entries of one name apart in the log; empty for the
	// one that needs no telling.
	Kind string
	// Spec is a cron expression of five fields, a descriptor (@hourly, @daily,
	// ...) or @every with a Go duration.
	Spec string
	// Times are those that Spec names where the caller has read it already;
	// nil: Spec is parsed, in Location.
	Times cron.Schedule
	// Location is the time zone Spec is read in; nil is UTC.
	Location *time.Location
	// Run is the job. Its context ends when the scheduler's grace period does.
	Run func(ctx context.Context) error
}

// Scheduler holds what all entries share.
type Scheduler struct {
	Clock clock.Clock
	Log   *slog.Logger
	// Grace is how long jobs that are running when the scheduler is told to
	// stop may go on before their context is cancelled. Zero cancels at once.
	Grace time.Duration
}

// ErrCutShort says that a job was still running at the end of the grace period
// and was cancelled.
var ErrCutShort = errors.New("a running job was cancelled at the end of the grace period")

// recheck bounds one sleep: a machine that was suspended, or whose clock was
// set, notices within this time that the hour has come.
const recheck = time.Minute

// Parse reads a cron expression in a time zone; nil is UTC.
func Parse(spec string, loc *time.Location) (cron.Schedule, error) {
	if loc == nil {
		loc = time.UTC
	}
	s, err := cron.ParseStandard(spec)
	if err != nil {
		return nil, fmt.Errorf("parse schedule %q: %w", spec, err)
	}
	if at, ok := s.(*cron.SpecSchedule); ok {
		at.Location = loc
	}
	return s, nil
}

// Run runs the entries until ctx ends, then waits for the jobs that are
// running. It returns nil, or ErrCutShort if it had to cancel one, or an error
// before anything ran if an expression is malformed. A job's own error is
// logged and stops nothing.
func (s *Scheduler) Run(ctx context.Context, entries []Entry) error {
	schedules := make([]cron.Schedule, len(entries))
	for i, e := range entries {
		if schedules[i] = e.Times; e.Times != nil {
			continue
		}
		var err error
		if schedules[i], err = Parse(e.Spec, e.Location); err != nil {
			return fmt.Errorf("schedule %s: %w", e.Name, err)
		}
	}
	jobs, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()

	var running atomic.Int32
	var loops sync.WaitGroup
	for i, e := range entries {
		run := e.Run
		e.Run = func(ctx context.Context) error {
			running.Add(1)
			defer running.Add(-1)
			return run(ctx)
		}
		loops.Go(func() { s.loop(ctx, jobs, e, schedules[i]) })
	}
	idle := make(chan struct{})
	go func() {
		loops.Wait()
		close(idle)
	}()

	select {
	case <-idle: // no entry, or none with a time to come
		return nil
	case <-ctx.Done():
	}
	if n := running.Load(); n > 0 {
		s.Log.InfoContext(ctx, "stopping: waiting for running jobs", slog.Int("jobs", int(n)), slog.Duration("grace", s.Grace))
	}
	grace := time.NewTimer(s.Grace)
	defer grace.Stop()
	select {
	case <-idle:
		return nil
	case <-grace.C:
	}
	cut := running.Load() > 0
	cancel()
	<-idle
	if cut {
		return ErrCutShort
	}
	return nil
}

// loop runs one entry. The job runs in the loop itself, so that it cannot
// overlap with itself: times that pass meanwhile are skipped.
func (s *Scheduler) loop(ctx, jobs context.Context, e Entry, times cron.Schedule) {
	log := s.Log.With(slog.String("pipeline", e.Name))
	if e.Kind != "" {
		log = log.With(slog.String("kind", e.Kind))
	}
	next := times.Next(s.Clock.Now())
	for {
		if next.IsZero() {
			log.WarnContext(ctx, "the schedule names no time to come", slog.String("schedule", e.Spec))
			return
		}
		log.InfoContext(ctx, "next run", slog.Time("at", next.In(location(e))))
		if !s.sleepUntil(ctx, next) {
			return
		}
		s.runOnce(jobs, log, e)
		if ctx.Err() != nil {
			return // told to stop meanwhile: there is no next run to announce
		}
		next = s.after(ctx, log, times, next)
	}
}

func location(e Entry) *time.Location {
	if e.Location == nil {
		return time.UTC
	}
	return e.Location
}

func (s *Scheduler) runOnce(ctx context.Context, log *slog.Logger, e Entry) {
	start := s.Clock.Now()
	log.InfoContext(ctx, "run started")
	err := e.Run(ctx)
	took := slog.Duration("took", s.Clock.Now().Sub(start).Round(time.Millisecond))
	if err != nil {
		attrs := []any{slog.Any("error", err), took}
		var hinted interface {
			error
			Hint() string
		}
		if errors.As(err, &hinted) && hinted.Hint() != "" {
			attrs = append(attrs, slog.String("hint", hinted.Hint()))
		}
		log.ErrorContext(ctx, "run failed", attrs...)
		return
	}
	log.InfoContext(ctx, "run finished", took)
}

// after returns the first time after last that has not passed yet, and logs
// those that passed while the job ran.
func (s *Scheduler) after(ctx context.Context, log *slog.Logger, times cron.Schedule, last time.Time) time.Time {
	now := s.Clock.Now()
	skipped := 0
	next := times.Next(last)
	for !next.IsZero() && next.Before(now) {
		skipped++
		next = times.Next(next)
	}
	if skipped > 0 {
		log.WarnContext(ctx, "skipped: the run before was still going", slog.Int("times", skipped))
	}
	return next
}

// sleepUntil waits for t; it is false when ctx ended first.
func (s *Scheduler) sleepUntil(ctx context.Context, t time.Time) bool {
	for {
		left := t.Sub(s.Clock.Now())
		if left <= 0 {
			return ctx.Err() == nil
		}
		timer := time.NewTimer(min(left, recheck))
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
		case <-timer.C:
		}
	}
}
