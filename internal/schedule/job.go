package schedule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"
)

// PanicError is what a job panicked with.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("the job panicked: %v", e.Value) }

// Hint says what to do.
func (e *PanicError) Hint() string {
	return "this is a fault of sluice: please report it with the stack that the log shows"
}

// attempt is one run of a job, and how it ended.
type attempt struct {
	id      job
	trigger Trigger
	number  int // from 1
	run     func(context.Context) error

	began bool // else the scheduler stopped before there was a slot
	err   error
}

func (a *attempt) event(t EventType) Event {
	return Event{Type: t, Name: a.id.name, Kind: a.id.kind, Trigger: a.trigger, Attempt: a.number}
}

// once runs a job that was submitted.
func (s *Scheduler) once(ctx, jobs context.Context, o Once) {
	a := &attempt{id: job{o.Name, o.Kind}, trigger: Manual, number: 1, run: o.Run}
	defer s.release(a.id)
	s.do(ctx, jobs, s.logOf(a.id), a)
	if a.err != nil && ctx.Err() == nil {
		e := a.event(GivenUp)
		e.Err = a.err
		s.tell(e)
	}
}

func (s *Scheduler) logOf(id job) *slog.Logger {
	log := s.Log.With(slog.String("pipeline", id.name))
	if id.kind != "" {
		log = log.With(slog.String("kind", id.kind))
	}
	return log
}

// do waits for a slot, while ctx has not ended, and runs the job in jobs.
func (s *Scheduler) do(ctx, jobs context.Context, log *slog.Logger, a *attempt) {
	waits := func() {
		log.InfoContext(ctx, "waiting: as many jobs are running as may at once", slog.Int("concurrency", s.Parallel))
		s.tell(a.event(Waiting))
	}
	if !s.slots.take(ctx, waits) {
		return
	}
	defer s.slots.give()
	s.running.Add(1)
	defer s.running.Add(-1)
	a.began = true
	start := s.now()
	var why []any
	if a.trigger != Timed {
		why = append(why, slog.String("trigger", string(a.trigger)))
	}
	if a.number > 1 {
		why = append(why, slog.Int("attempt", a.number))
	}
	log.InfoContext(jobs, "run started", why...)
	s.tell(a.event(Started))
	notes := &notes{}
	a.err = guarded(context.WithValue(jobs, notesKey{}, notes), log, a.run)
	e := a.event(Finished)
	e.Took, e.Err = s.now().Sub(start), a.err
	switch {
	case a.err == nil:
	case s.Elsewhere != nil && s.Elsewhere(a.err):
		e.Type, e.Times = Skipped, 1
	default:
		e.Type = Failed
	}
	report(jobs, log, e, notes.all())
	s.tell(e)
}

// guarded runs a job, and makes an error of its panic.
func guarded(ctx context.Context, log *slog.Logger, run func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			stack := debug.Stack()
			log.ErrorContext(ctx, "the job panicked", slog.Any("panic", p), slog.String("stack", string(stack)))
			err = &PanicError{Value: p, Stack: stack}
		}
	}()
	return run(ctx)
}

// report tells in a log line how a run ended.
func report(ctx context.Context, log *slog.Logger, e Event, notes []any) {
	took := slog.Duration("took", e.Took.Round(time.Millisecond))
	if e.Err == nil {
		log.InfoContext(ctx, "run finished", append([]any{took}, notes...)...)
		return
	}
	attrs := []any{slog.Any("error", e.Err), took}
	var hinted interface {
		error
		Hint() string
	}
	if errors.As(e.Err, &hinted) && hinted.Hint() != "" {
		attrs = append(attrs, slog.String("hint", hinted.Hint()))
	}
	if e.Type == Skipped {
		log.WarnContext(ctx, "skipped: another process is at it", append(attrs, notes...)...)
		return
	}
	log.ErrorContext(ctx, "run failed", append(attrs, notes...)...)
}

// notes are what a job wants to stand in the line that tells how it ended.
type notes struct {
	mu    sync.Mutex
	attrs []any
}

type notesKey struct{}

// Note adds to the log line that tells how the job of ctx ended, such as the
// run's id, which the scheduler does not know. Without a job it does nothing.
func Note(ctx context.Context, attr slog.Attr) {
	n, ok := ctx.Value(notesKey{}).(*notes)
	if !ok {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.attrs = append(n.attrs, attr)
}

func (n *notes) all() []any {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.attrs
}
