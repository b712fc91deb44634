package schedule

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/robfig/cron/v3"
)

const (
	// recheck bounds one sleep: a machine that was suspended, or whose clock was
	// set, notices within this time that the hour has come.
	recheck = time.Minute
	// overslept is how much later than its time a run is one that was missed: a
	// machine that is merely busy is not that late.
	overslept = 5 * time.Minute
	// setBack is how far the clock has to go back for the next time to be looked up
	// anew: it may be years ahead. Less is a correction, after which the same
	// time would come once more.
	setBack = time.Hour
	// mostTimes bounds the counting of times that have passed.
	mostTimes = 10000
)

// keeper runs one entry. Its fields are its own goroutine's, but for ask.
type keeper struct {
	s     *Scheduler
	e     Entry
	id    job
	times cron.Schedule // nil: none
	log   *slog.Logger
	ask   chan struct{} // by Trigger, which has marked the job as busy
	done  chan *attempt

	active bool // a run waits or goes on
	next   turn // the next regular one; zero for none
	extra  *turn
	queued bool      // a time has passed meanwhile, of an entry that queues
	failed time.Time // the first failure in a row
	seen   time.Time // the last look at the clock
}

// turn is a run to come.
type turn struct {
	base, at time.Time // the time that the schedule names, and with jitter
	trigger  Trigger
	number   int
}

func newKeeper(s *Scheduler, e Entry, times cron.Schedule) *keeper {
	id := job{e.Name, e.Kind}
	return &keeper{s: s, e: e, id: id, times: times, log: s.logOf(id), ask: make(chan struct{}, 1), done: make(chan *attempt, 1)}
}

// keep runs the entry at its times until ctx ends and its run has.
func (k *keeper) keep(ctx, jobs context.Context) {
	k.begin(ctx)
	for {
		if ctx.Err() != nil {
			if k.active {
				<-k.done
			}
			return
		}
		k.lookBack(ctx)
		if at := k.due(); at.IsZero() || at.After(k.s.now()) {
			k.wait(ctx, jobs, at)
		} else {
			k.come(ctx, jobs)
		}
	}
}

// wait waits for what happens next, until a time unless that is zero.
func (k *keeper) wait(ctx, jobs context.Context, until time.Time) {
	var alarm <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(min(until.Sub(k.s.now()), recheck))
		defer timer.Stop()
		alarm = timer.C
	}
	select {
	case <-ctx.Done():
	case <-alarm:
	case <-k.ask:
		k.asked(ctx, jobs)
	case a := <-k.done:
		k.active = false
		k.s.release(k.id)
		if ctx.Err() == nil { // else there is nothing next to announce
			k.ended(ctx, jobs, a)
		}
	}
}

// begin finds the first time, and what was missed.
func (k *keeper) begin(ctx context.Context) {
	now := k.s.now()
	k.seen = now
	if k.times == nil {
		return
	}
	k.next = k.draw(k.times.Next(now))
	k.announce(ctx)
	switch {
	case !k.e.CatchUp:
		return
	case k.e.LastStart.IsZero():
		k.log.InfoContext(ctx, "it is not known to have run before: there is nothing to make up for")
		return
	}
	due := k.times.Next(k.e.LastStart)
	if due.IsZero() || due.After(now) {
		return
	}
	n := 1
	for t := k.times.Next(due); !t.IsZero() && !t.After(now) && n < mostTimes; t = k.times.Next(t) {
		n++
	}
	at := now
	if k.next.at.After(now) {
		at = now.Add(k.jitter(k.next.at.Sub(now)))
	}
	k.extra = &turn{base: due, at: at, trigger: CatchUp, number: 1}
	k.missed(ctx, due, n)
}

// missed tells that times passed while nothing was there to see them.
func (k *keeper) missed(ctx context.Context, at time.Time, n int) {
	k.log.WarnContext(ctx, "missed: it is made up for once", slog.Time("at", at.In(k.e.Location)), slog.Int("times", n))
	k.s.tell(Event{Type: Missed, Name: k.id.name, Kind: k.id.kind, Trigger: CatchUp, At: at, Times: n})
}

// draw adds jitter to a time.
func (k *keeper) draw(base time.Time) turn {
	t := turn{base: base, at: base, trigger: Timed, number: 1}
	if base.IsZero() || k.e.Jitter <= 0 {
		return t
	}
	if after := k.times.Next(base); !after.IsZero() {
		t.at = base.Add(k.jitter(after.Sub(base)))
	} else {
		t.at = base.Add(k.jitter(2 * k.e.Jitter))
	}
	return t
}

// jitter draws a wait of whole milliseconds, shorter than half of the time that
// there is.
func (k *keeper) jitter(room time.Duration) time.Duration {
	most := min(k.e.Jitter, room/2)
	return time.Duration(k.s.chance() * float64(most)).Truncate(time.Millisecond)
}

// announce tells when the next regular run is.
func (k *keeper) announce(ctx context.Context) {
	if k.next.at.IsZero() {
		k.log.WarnContext(ctx, "the schedule names no time to come", slog.String("schedule", k.e.Spec))
	} else {
		k.log.InfoContext(ctx, "next run", slog.Time("at", k.next.at.In(k.e.Location)))
	}
	k.tellNext()
}

func (k *keeper) tellNext() {
	k.s.tell(Event{Type: Next, Name: k.id.name, Kind: k.id.kind, At: k.next.at})
}

// due is the time at which there is something to do; zero for none.
func (k *keeper) due() time.Time {
	switch {
	case k.active && (k.e.Overlap != Queue || k.queued):
		return time.Time{} // what passes meanwhile is counted at the end
	case k.active || k.extra == nil:
		return k.next.at
	case !k.next.at.IsZero() && k.next.at.Before(k.extra.at):
		return k.next.at
	default:
		return k.extra.at
	}
}

// lookBack notices that the clock was set back by much, after which the next
// time may be far too late.
func (k *keeper) lookBack(ctx context.Context) {
	if k.active {
		return // once it has ended
	}
	now := k.s.now()
	if k.times != nil && now.Before(k.seen.Add(-setBack)) {
		k.log.WarnContext(ctx, "the clock was set back", slog.Duration("by", k.seen.Sub(now).Round(time.Second)))
		k.next = k.draw(k.times.Next(now))
		k.announce(ctx)
	}
	k.seen = now
}

// come does what is due.
func (k *keeper) come(ctx, jobs context.Context) {
	now := k.s.now()
	regular := !k.next.at.IsZero() && !k.next.at.After(now)
	switch {
	case k.active: // of an entry that queues
		k.queue(ctx, k.next.base)
		k.next = k.draw(k.times.Next(k.next.base))
		k.tellNext()
	case regular:
		k.regular(ctx, jobs, now)
	default:
		t := *k.extra
		k.extra = nil
		k.start(ctx, jobs, t)
	}
}

// queue notes that the job runs again after this run.
func (k *keeper) queue(ctx context.Context, at time.Time) {
	k.queued = true
	k.log.WarnContext(ctx, "queued: the run before is still going", slog.Time("at", at.In(k.e.Location)))
	k.s.tell(Event{Type: Queued, Name: k.id.name, Kind: k.id.kind, Trigger: Timed, At: at})
}

// regular runs the job because its time has come, or came while the machine
// slept.
func (k *keeper) regular(ctx, jobs context.Context, now time.Time) {
	t := k.next
	k.next = k.draw(k.times.Next(t.base))
	_, more := k.passed(now)
	late := now.Sub(t.at) > overslept
	switch {
	case late && !k.e.CatchUp:
		k.log.WarnContext(ctx, "skipped: nothing was there to see it, and catch_up is off", slog.Int("times", more+1))
		k.skipped(more + 1)
		k.announce(ctx)
		return
	case late:
		t.trigger = CatchUp
		k.missed(ctx, t.base, more+1)
	case more > 0:
		k.log.WarnContext(ctx, "skipped: the machine was late", slog.Int("times", more))
		k.skipped(more)
	}
	k.extra, k.failed = nil, time.Time{}
	k.tellNext()
	k.start(ctx, jobs, t)
}

// passed moves the next regular turn beyond now, and returns how many it moves
// over, and the time of the first.
func (k *keeper) passed(now time.Time) (first time.Time, n int) {
	for !k.next.at.IsZero() && k.next.at.Before(now) {
		if n == 0 {
			first = k.next.base
		}
		n++
		last := k.next.base
		if n == mostTimes {
			last = now
		}
		k.next = k.draw(k.times.Next(last))
	}
	return first, n
}

func (k *keeper) skipped(n int) {
	k.s.tell(Event{Type: Skipped, Name: k.id.name, Kind: k.id.kind, Trigger: Timed, Times: n})
}

// asked runs the job because somebody wants it.
func (k *keeper) asked(ctx, jobs context.Context) {
	if k.extra != nil && k.extra.trigger == CatchUp {
		k.extra = nil // this makes up for it
	}
	k.run(ctx, jobs, turn{trigger: Manual, number: 1})
}

// start runs the job by itself.
func (k *keeper) start(ctx, jobs context.Context, t turn) {
	if !k.s.take(k.id) {
		<-k.ask // somebody asked for it in the same moment, and gets it by this
	}
	k.run(ctx, jobs, t)
}

func (k *keeper) run(ctx, jobs context.Context, t turn) {
	k.active = true
	a := &attempt{id: k.id, trigger: t.trigger, number: t.number}
	a.run = func(ctx context.Context) error { return k.e.Run(ctx, t.trigger) }
	go func() {
		defer func() { k.done <- a }()
		k.s.do(ctx, jobs, k.log, a)
	}()
}

// ended decides what comes after a run.
func (k *keeper) ended(ctx, jobs context.Context, a *attempt) {
	first, n := k.passed(k.s.now())
	if n > 0 && k.e.Overlap == Queue && !k.queued {
		k.queue(ctx, first)
		n--
	}
	if n > 0 {
		k.log.WarnContext(ctx, "skipped: the run before was still going", slog.Int("times", n))
		k.skipped(n)
	}
	if a.err == nil {
		k.extra, k.failed = nil, time.Time{}
	} else {
		k.again(ctx, a)
	}
	if k.queued {
		k.queued = false
		k.extra, k.failed = nil, time.Time{}
		k.tellNext()
		k.start(ctx, jobs, turn{trigger: Timed, number: 1})
		return
	}
	if k.times != nil {
		k.announce(ctx)
	}
}

// again plans the repetition of a run that failed, or gives it up.
func (k *keeper) again(ctx context.Context, a *attempt) {
	now := k.s.now()
	if a.trigger == Manual && k.extra != nil {
		k.retrying(ctx, k.extra.number-1, a.err) // that of a run before stays
		return
	}
	if k.failed.IsZero() {
		k.failed = now
	}
	t := turn{at: now.Add(k.backoff(a.number)), trigger: Retry, number: a.number + 1}
	until := k.until()
	var panicked *PanicError
	switch {
	case a.trigger == Manual, k.queued, k.e.Again.For <= 0, errors.As(a.err, &panicked),
		k.s.Permanent != nil && k.s.Permanent(a.err), t.at.After(until), !k.next.at.IsZero() && !t.at.Before(k.next.at):
		k.failed = time.Time{}
		e := a.event(GivenUp)
		e.Err, e.Until = a.err, until
		k.s.tell(e)
	default:
		k.extra = &t
		k.retrying(ctx, a.number, a.err)
	}
}

// until is when the last repetition may begin.
func (k *keeper) until() time.Time {
	until := k.failed.Add(k.e.Again.For)
	if !k.next.at.IsZero() && k.next.at.Before(until) {
		return k.next.at
	}
	return until
}

// backoff is the wait after so many failures.
func (k *keeper) backoff(failures int) time.Duration {
	wait := k.e.Again.Backoff
	for range failures - 1 {
		if wait >= k.e.Again.MaxBackoff {
			break
		}
		wait *= 2
	}
	wait = min(wait, max(k.e.Again.MaxBackoff, k.e.Again.Backoff))
	return wait - time.Duration(k.s.chance()*float64(wait)/2).Truncate(time.Millisecond)
}

func (k *keeper) retrying(ctx context.Context, failures int, err error) {
	until := k.until()
	k.log.WarnContext(ctx, "it is tried again", slog.Time("at", k.extra.at.In(k.e.Location)), slog.Time("until", until.In(k.e.Location)), slog.Int("attempt", k.extra.number))
	k.s.tell(Event{Type: Retrying, Name: k.id.name, Kind: k.id.kind, Trigger: Retry, At: k.extra.at, Until: until, Attempt: failures, Err: err})
}
