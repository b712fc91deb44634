package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/sluice-etl/sluice/extract"
)

// Backfill is a range of time to be read once more.
type Backfill struct {
	// From and To bound the range, [From, To), to the millisecond; what is
	// printed in the one before may be read as well, as the clock behind it is
	// finer. A To in the future means now. Days are those of From's location.
	From, To time.Time
	// Key is the timestamp that has to lie in the range. By created_at the
	// range is exact; by updated_at it holds the contacts whose last change
	// lies in it, not those that have changed again since.
	Key extract.Key
	// Window is the length of the pieces that are read, and fail, each by
	// itself; a whole number of days follows the calendar. 0: one day.
	Window time.Duration
	// Parallel is the most windows read at once, 1 to 64; the source's own
	// limits hold besides. 0: the source's concurrency.
	Parallel int
}

// Window is a piece of a backfill: [From, To).
type Window struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// String names the window for people, in the time zone of its bounds.
func (w Window) String() string { return instant(w.From) + " to " + instant(w.To) }

const (
	// MaxWindows bounds how many pieces a range is cut into: each costs a
	// request at least.
	MaxWindows = 20_000
	// giveUpAfter is the number of windows that may fail one after the other
	// before the rest is left for another time: each has its own retries.
	giveUpAfter = 8
)

// ErrRange marks a Backfill whose range or windows make no sense.
var ErrRange = errors.New("bad range")

// Backfill reads [From, To) once more and merges it, beside other runs of the
// pipeline. It never moves the cursor, and a row older than the table's loses.
// It blocks until done or ctx ends; what was read by then is kept, and a
// backfill of the same range and key goes on with the rest. Windows that fail
// stop no other (*WindowsError); nothing is committed before all are read.
func (e *Engine) Backfill(ctx context.Context, job Job, b Backfill) (Summary, error) {
	s, err := newSpan(job, b, e.Clock.Now())
	if err != nil {
		return Summary{Status: "failed"}, err
	}
	return e.start(ctx, &syncRun{job: job, kind: kindBackfill, span: s})
}

// CheckBackfill reports what Engine.Backfill would find wrong with a range before
// it reads anything.
func CheckBackfill(job Job, b Backfill, now time.Time) error {
	_, err := newSpan(job, b, now)
	return err
}

// spanRecord is what a backfill was asked for, as its journal has it.
type spanRecord struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	Key  string    `json:"key"`
}

func (s *spanRecord) same(other *spanRecord) bool {
	if s == nil || other == nil {
		return s == other
	}
	return s.From.Equal(other.From) && s.To.Equal(other.To) && s.Key == other.Key
}

// span is a backfill with its bounds settled.
type span struct {
	spanRecord
	key      extract.Key
	from, to time.Time // to: cut to now
	step     time.Duration
	parallel int
}

func newSpan(job Job, b Backfill, now time.Time) (*span, error) {
	if job.Sync == SyncRecent && job.DaysAlone {
		return nil, &DaysAloneError{Pipeline: job.Pipeline}
	}
	s := &span{
		spanRecord: spanRecord{From: b.From, To: b.To, Key: b.Key.String()},
		key:        b.Key, from: b.From, to: b.To.In(b.From.Location()),
		step:     cmp.Or(b.Window, 24*time.Hour),
		parallel: cmp.Or(b.Parallel, job.Source.Concurrency, defaultWorkers),
	}
	if now.Before(s.to) {
		s.to = now.In(b.From.Location())
	}
	switch {
	case b.From.Equal(b.To):
		return nil, fmt.Errorf("%w: it is empty, as %s is not part of it", ErrRange, instant(b.To.In(b.From.Location())))
	case b.To.Before(b.From):
		return nil, fmt.Errorf("%w: it ends at %s, before it begins at %s", ErrRange, instant(b.To.In(b.From.Location())), instant(b.From))
	case !s.from.Before(s.to):
		return nil, fmt.Errorf("%w: it begins at %s, which is in the future", ErrRange, instant(b.From))
	case s.from.Unix() < 0:
		return nil, fmt.Errorf("%w: it begins at %s, before 1970", ErrRange, instant(b.From))
	case s.step < time.Second:
		return nil, fmt.Errorf("%w: windows of %s are too short, the least is 1s", ErrRange, s.step)
	case s.parallel < 1 || s.parallel > 64:
		return nil, fmt.Errorf("%w: %d windows at once are not from 1 to 64", ErrRange, s.parallel)
	case s.to.Sub(s.from)/s.step > MaxWindows:
		return nil, fmt.Errorf("%w: more than %d windows of %s", ErrRange, MaxWindows, s.step)
	}
	return s, nil
}

// String describes the range for people.
func (s *span) String() string {
	return fmt.Sprintf("%s by %s", Window{s.from, s.to}, s.key)
}

func (s *span) until() time.Time { return s.to }

// interval returns [from, to) as marks: what is printed after From, and at or
// before Until.
func interval(from, to time.Time) extract.Interval {
	mark := func(t time.Time) int64 { // the last millisecond before t
		us := t.UnixMicro()
		return (us+999)/1000*1000 - 1000
	}
	iv := extract.Interval{From: mark(from), Until: mark(to)}
	if iv.Until == 0 {
		iv.Until = -1 // 0 would be no end; a millisecond of 1970 that holds nothing
	}
	return iv
}

// windowJob is a window, or what is left of one.
type windowJob struct {
	window Window
	left   extract.Interval
}

// windows returns what is left of the range, cut at the windows' borders.
func (s *span) windows(covered []extract.Interval) []windowJob {
	var jobs []windowJob
	borders := cutTime(s.from, s.to, s.step)
	for i, from := range borders[:len(borders)-1] {
		w := Window{From: from, To: borders[i+1]}
		for _, iv := range extract.Uncovered([]extract.Interval{interval(w.From, w.To)}, covered) {
			jobs = append(jobs, windowJob{w, iv})
		}
	}
	return jobs
}

// backfill reads what the journal lacks of the range.
func (r *syncRun) backfill(ctx context.Context, pager extract.Pager, st *staging) error {
	if _, done := r.session.phases[phaseBackfill]; done {
		return nil
	}
	s := r.span
	covered := st.covered(phaseBackfill)
	whole := interval(s.from, s.to)
	st.beginsAt(phaseBackfill, whole.From, covered)
	jobs := s.windows(covered)
	w := &windowReader{run: r, pager: pager, st: st, queue: group(jobs, s.parallel*groupsEach)}
	if err := w.read(ctx, min(s.parallel, max(len(w.queue), 1))); err != nil {
		return err
	}
	if len(w.failed) > 0 {
		slices.SortFunc(w.failed, func(a, b *WindowError) int { return a.From.Compare(b.From) })
		return &WindowsError{Failed: w.failed, Untried: w.untried(), Windows: len(jobs)}
	}
	outcome := outcomeOf(s.key, s.from, w.sum, len(jobs))
	until := s.to.UTC()
	outcome.Until, outcome.EndReason = &until, extract.EndAtUntil
	final := whole.From // up to the first moment about which nothing is final yet
	if done := st.covered(phaseBackfill); len(done) > 0 && done[0].From <= whole.From {
		final = done[0].Until
	}
	return r.endPhase(st, phaseBackfill, outcome, extract.Progress{Mark: whole.Until, Final: final, ReadSince: w.sum.ReadSince})
}

// groupsEach is how many groups of windows each worker gets to read: enough
// that none is left waiting for the last.
const groupsEach = 4

// group puts neighbouring windows together into about n groups. A group is
// read by one walk, as a page may hold what many windows do.
func group(jobs []windowJob, n int) [][]windowJob {
	size := max(1, (len(jobs)+n-1)/n)
	var groups [][]windowJob
	for i, job := range jobs {
		if last := len(groups) - 1; i > 0 && len(groups[last]) < size && jobs[i-1].left.Until == job.left.From {
			groups[last] = append(groups[last], job)
		} else {
			groups = append(groups, []windowJob{job})
		}
	}
	return groups
}

// windowReader reads groups of windows side by side.
type windowReader struct {
	run   *syncRun
	pager extract.Pager
	st    *staging

	mu     sync.Mutex
	queue  [][]windowJob // to be begun
	failed []*WindowError
	row    int   // failures since anything was read
	fatal  error // ends all
	sum    extract.Outcome
}

// read blocks until all windows have been read or have failed, or something
// has happened that no window would survive. What the sinks hold is sealed in
// every case.
func (w *windowReader) read(ctx context.Context, workers int) error {
	total := w.st.sealRows
	w.st.share(workers)
	defer func() { w.st.sealRows = total }()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	sinks := make([]*stager, workers)
	var all sync.WaitGroup
	for i := range sinks {
		sinks[i] = w.st.stager()
		all.Go(func() {
			for {
				windows := w.take()
				if windows == nil {
					return
				}
				out, err := w.walk(ctx, sinks[i], windows)
				if w.done(ctx, windows, out, err) {
					stop()
					return
				}
			}
		})
	}
	all.Wait()
	return sealAll(ctx, sinks, w.fatal)
}

// take gives the next group to be read, nil where there is none.
func (w *windowReader) take() []windowJob {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fatal != nil || w.row >= giveUpAfter || len(w.queue) == 0 {
		return nil
	}
	next := w.queue[0]
	w.queue = w.queue[1:]
	return next
}

// untried counts the windows that nobody began.
func (w *windowReader) untried() int {
	n := 0
	for _, g := range w.queue {
		n += len(g)
	}
	return n
}

func (w *windowReader) walk(ctx context.Context, sink *stager, windows []windowJob) (extract.Outcome, error) {
	all := extract.Interval{From: windows[0].left.From, Until: windows[len(windows)-1].left.Until}
	if err := sink.Window(all); err != nil {
		return extract.Outcome{}, err
	}
	r := w.run
	days, filters := r.job.narrowing()
	walk := &extract.Walk{
		Client: w.pager, Key: r.span.key, From: all.From, Until: all.Until + 1000,
		StopAt: r.began, Lookback: r.job.Lookback, PageSize: r.job.PageSize, Days: days, Filters: filters, Clock: r.Clock,
		Seed: r.seed() + uint64(all.From), //nolint:gosec // any bits will do
	}
	return walk.Run(ctx, sink)
}

// done accounts for a walk, and says whether nothing else is worth reading.
// The window in which it failed is left out, those after it are still to be
// read.
func (w *windowReader) done(ctx context.Context, windows []windowJob, out extract.Outcome, err error) (end bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sum.Add(out)
	switch {
	case err == nil:
		w.row = 0
		return false
	case ctx.Err() != nil || !alone(err):
		if w.fatal == nil {
			w.fatal = fmt.Errorf("read contacts by %s: %w", w.run.span.key, err)
		}
		return true
	}
	if out.Pages > 0 {
		w.row = 0
	}
	w.row++
	at := 0
	for at < len(windows)-1 && windows[at].left.Until <= out.Mark {
		at++
	}
	if rest := windows[at+1:]; len(rest) > 0 {
		w.queue = append([][]windowJob{rest}, w.queue...)
	}
	bad := windows[at].window
	failed := &WindowError{From: bad.From, To: bad.To, Err: err}
	w.failed = append(w.failed, failed)
	w.st.tell(Event{Type: "window_failed", Phase: phaseBackfill, Window: &bad, Error: failed.Error()})
	return false
}

// alone reports whether what failed in one window may work in another: the
// source failed after its retries, or its answer made no sense. A refused key,
// a full disk or the end of ctx concern them all.
func alone(err error) bool {
	var (
		status    *extract.StatusError
		transport *extract.TransportError
		page      *extract.PageError
		large     *extract.TooLargeError
		order     *extract.OrderError
		tie       *extract.TieError
	)
	switch {
	case errors.As(err, &status):
		return status.Status == http.StatusTooManyRequests || status.Status >= http.StatusInternalServerError
	default:
		return errors.As(err, &transport) || errors.As(err, &page) || errors.As(err, &large) || errors.As(err, &order) || errors.As(err, &tie)
	}
}
