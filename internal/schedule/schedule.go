// Package schedule runs jobs at the times a cron expression names, each in a
// time zone of its own, never two of one job at once and never more than so many
// altogether. What it missed it makes up for, and what failed it repeats.
package schedule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/sluice-etl/sluice/internal/clock"
)

// Entry is one job with its times.
type Entry struct {
	Name string
	// Kind tells several entries of one name apart; empty for the one that needs
	// no telling.
	Kind string
	// Spec is a cron expression of five fields, a descriptor (@hourly, @daily,
	// ...) or @every with a Go duration. Empty, and Times nil: the entry runs only
	// when Scheduler.Trigger asks for it.
	Spec string
	// Times are those that Spec names where the caller has read it already;
	// nil: Spec is parsed, in Location. They are taken as InZone gives them.
	Times cron.Schedule
	// Location is the time zone Spec is read in; nil is UTC.
	Location *time.Location
	// Jitter is how long after its time a run may begin: how long is drawn anew
	// each time, and is at most half of the time to the next one. 0: on time.
	Jitter time.Duration
	// Overlap says what becomes of times that pass while the job runs; empty is
	// Skip.
	Overlap Overlap
	// CatchUp makes up, once, for times that passed while no scheduler was there
	// to see them: since LastStart, or while the machine slept.
	CatchUp bool
	// LastStart is when the job was last begun, by whomever; zero: never, and then
	// nothing is made up for.
	LastStart time.Time
	// Again says how a run that failed is repeated; zero: not at all.
	Again Repetition
	// Run is the job. Its context ends when the scheduler's grace period does. What
	// it panics with is its error.
	Run func(ctx context.Context, why Trigger) error
}

// Overlap says what becomes of times that pass while a job runs.
type Overlap string

// The ways.
const (
	Skip  Overlap = "skip"  // they are left out
	Queue Overlap = "queue" // the job runs once more right after
)

// Repetition says how a run that failed is repeated. A run that somebody asked
// for is not, nor is one whose error is permanent.
type Repetition struct {
	// For is how long after the first failure the last repetition may begin; it is
	// before the next regular time in any case. 0: none.
	For time.Duration
	// Backoff is the wait after the first failure. It doubles with each one, up to
	// MaxBackoff; by chance up to half of it is left off.
	Backoff, MaxBackoff time.Duration
}

// Once is a job that runs now, one time.
type Once struct {
	// Name and Kind are as an Entry's. No entry may have both.
	Name, Kind string
	// Run is as an Entry's.
	Run func(ctx context.Context) error
}

// Scheduler holds what all entries share. Its fields are not changed once Run
// has been called, which is called once.
type Scheduler struct {
	Clock clock.Clock
	Log   *slog.Logger
	// Grace is how long jobs that are running when the scheduler is told to
	// stop may go on before their context is cancelled. Zero cancels at once.
	Grace time.Duration
	// Parallel is how many jobs run at once at most; others wait, and begin in the
	// order in which their time came. 0: no limit.
	Parallel int
	// Observe receives what happens, one event at a time; it must not block. nil
	// for none.
	Observe func(Event)
	// Permanent reports whether a job's error is one that no repetition mends;
	// nil: none is. A panic always is.
	Permanent func(error) bool
	// Elsewhere reports whether a job's error says that another process is at the
	// same job, so that this one stood back: it is Skipped then, not Failed. nil:
	// none does.
	Elsewhere func(error) bool
	// Chance draws a number from [0, 1), from several goroutines at once; nil:
	// math/rand's.
	Chance func() float64

	slots   *slots
	running atomic.Int32
	telling sync.Mutex // one event after the other

	mu      sync.Mutex // guards what follows
	keepers map[job]*keeper
	busy    map[job]bool // asked for, waiting or running
	launch  func(Once)   // nil while the scheduler does not run
}

// job is what tells jobs apart.
type job struct{ name, kind string }

// Errors of Scheduler.Run, Trigger and Submit.
var (
	// ErrCutShort says that a job was still running at the end of the grace period
	// and was cancelled.
	ErrCutShort = errors.New("a running job was cancelled at the end of the grace period")
	// ErrUnknown says that there is no such entry.
	ErrUnknown = errors.New("there is no such job")
	// ErrBusy says that the job is running, or about to.
	ErrBusy = errors.New("it is running already, or about to")
	// ErrStopping says that the scheduler is stopping, or has not begun.
	ErrStopping = errors.New("nothing new is started: the scheduler is stopping, or has not begun")
)

// Run runs the entries until ctx ends, then waits for the jobs that are
// running. It returns nil, or ErrCutShort if it had to cancel one, or an error
// before anything ran if an expression is malformed. A job's own error is
// logged and stops nothing; one that waits for its turn when ctx ends does not
// begin.
func (s *Scheduler) Run(ctx context.Context, entries []Entry) error {
	keepers, err := s.keepersOf(entries)
	if err != nil {
		return err
	}
	jobs, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()

	s.slots = newSlots(s.Parallel)
	var work sync.WaitGroup
	work.Add(1) // until nothing more can be launched
	s.mu.Lock()
	s.keepers, s.busy = keepers, map[job]bool{}
	s.launch = func(o Once) { work.Go(func() { s.once(ctx, jobs, o) }) }
	s.mu.Unlock()
	for _, k := range keepers {
		work.Go(func() { k.keep(ctx, jobs) })
	}

	<-ctx.Done()
	s.mu.Lock()
	s.launch = nil
	s.mu.Unlock()
	work.Done()
	return s.wind(ctx, &work, cancel)
}

// wind waits for the jobs that are running, no longer than Grace.
func (s *Scheduler) wind(ctx context.Context, work *sync.WaitGroup, cancel func()) error {
	idle := make(chan struct{})
	go func() {
		work.Wait()
		close(idle)
	}()
	if n := s.running.Load(); n > 0 {
		s.Log.InfoContext(ctx, "stopping: waiting for running jobs", slog.Int("jobs", int(n)), slog.Duration("grace", s.Grace))
	}
	grace := time.NewTimer(s.Grace)
	defer grace.Stop()
	select {
	case <-idle:
		return nil
	case <-grace.C:
	}
	cut := s.running.Load() > 0
	cancel()
	<-idle
	if cut {
		return ErrCutShort
	}
	return nil
}

func (s *Scheduler) keepersOf(entries []Entry) (map[job]*keeper, error) {
	keepers := map[job]*keeper{}
	for _, e := range entries {
		id := job{e.Name, e.Kind}
		if keepers[id] != nil {
			return nil, fmt.Errorf("schedule %s: two jobs of one name and kind", e.Name)
		}
		if e.Location == nil {
			e.Location = time.UTC
		}
		times := e.Times
		if times == nil && e.Spec != "" {
			var err error
			if times, err = Parse(e.Spec, e.Location); err != nil {
				return nil, fmt.Errorf("schedule %s: %w", e.Name, err)
			}
		}
		if times != nil {
			times = InZone(times, e.Location)
		}
		keepers[id] = newKeeper(s, e, times)
	}
	return keepers, nil
}

// Trigger has an entry run now, or as soon as there is a slot, whatever its
// times. It does not wait for the run. It fails with ErrUnknown, ErrBusy or
// ErrStopping.
func (s *Scheduler) Trigger(name, kind string) error {
	id := job{name, kind}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keepers[id]
	switch {
	case s.launch == nil:
		return fmt.Errorf("run %s: %w", name, ErrStopping)
	case k == nil:
		return fmt.Errorf("run %s: %w", name, ErrUnknown)
	case s.busy[id]:
		return fmt.Errorf("run %s: %w", name, ErrBusy)
	}
	s.busy[id] = true
	k.ask <- struct{}{}
	return nil
}

// Ready returns nil while jobs are taken, and ErrStopping before Run has begun and
// once it is told to stop.
func (s *Scheduler) Ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.launch == nil {
		return ErrStopping
	}
	return nil
}

// Submit has a job run once, now or as soon as there is a slot. It does not wait
// for it. It fails with ErrStopping, and with ErrBusy while another of its name
// and kind has not ended, or where an entry has them.
func (s *Scheduler) Submit(o Once) error {
	id := job{o.Name, o.Kind}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.launch == nil:
		return fmt.Errorf("run %s: %w", o.Name, ErrStopping)
	case s.busy[id] || s.keepers[id] != nil:
		return fmt.Errorf("run %s: %w", o.Name, ErrBusy)
	}
	s.busy[id] = true
	s.launch(o)
	return nil
}

// take marks a job as busy; it is false where it was.
func (s *Scheduler) take(id job) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.busy[id]
	s.busy[id] = true
	return !was
}

func (s *Scheduler) release(id job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.busy, id)
}

// now is the time by the clock on the wall: a monotonic reading would not notice
// that the machine slept.
func (s *Scheduler) now() time.Time { return s.Clock.Now().Round(0) }

func (s *Scheduler) chance() float64 {
	if s.Chance == nil {
		return rand.Float64() //nolint:gosec // it spreads load
	}
	return s.Chance()
}

func (s *Scheduler) tell(e Event) {
	if s.Observe == nil {
		return
	}
	s.telling.Lock()
	defer s.telling.Unlock()
	e.Time = s.now()
	s.Observe(e)
}
