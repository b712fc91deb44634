package extract

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/sluice-etl/sluice/internal/clock"
)

// The bounds of a walk that meets a source behaving worse than the
// assumptions allow.
const (
	maxPageSize    = 1000
	orderAttempts  = 3    // times a page is asked for before its order is an error
	maxFuturePages = 2000 // pages read past the run's start because they lie in the future
)

// runner is the state of one walk.
type runner struct {
	w     Walk
	sink  Sink
	limit int
	rng   *rand.Rand
	out   Outcome

	mark  int64 // whole milliseconds: what requests ask after
	stop  int64 // the source's time at which the walk ends
	begun bool
	// recent holds the rows staged that a request at mark may show again.
	recent map[[16]byte]sighting
	newest int64 // the last time printed on any of recent
	// notEnd is the longest page known to have been followed by more rows.
	notEnd  int
	longest int           // the longest page seen
	lag     time.Duration // the least time from a Date to our clock
	cached  bool          // a cache's answer had to do
	ahead   int           // pages read past the run's start because they lie in the future; 0 before it
	trim    int64         // rows printed after it are left for the next slice
	skip    []bool
	// firstTime is the first printed time behind pages without any, in the block
	// being read; never where it begins with a row that has one.
	firstTime int64
}

// sighting is a row as it was staged, and where it stood in the pass.
type sighting struct {
	version uint64
	key     int64
	ref     int32 // position in the first pass of the block, -1 if it was not there
	cur     int32 // position in the pass numbered pass
	pass    int32
}

// page is an answer. Its rows are valid until the next fetch.
type page struct {
	offset      int
	rows        []Row
	resp        Response
	first, last int64 // printed times of the first and last usable row
	anyValid    bool
}

func (w *Walk) newRunner(sink Sink) (*runner, error) {
	r := &runner{w: *w, sink: sink, limit: w.PageSize, recent: map[[16]byte]sighting{}}
	if r.limit == 0 {
		r.limit = maxPageSize
	}
	if r.w.Clock == nil {
		r.w.Clock = clock.System{}
	}
	if r.w.StopAt.IsZero() {
		r.w.StopAt = r.w.Clock.Now()
	}
	switch {
	case w.Client == nil:
		return nil, errors.New("start walk: no client")
	case sink == nil:
		return nil, errors.New("start walk: no sink")
	case r.limit < 1 || r.limit > maxPageSize:
		return nil, fmt.Errorf("start walk: page size %d is not from 1 to %d", r.limit, maxPageSize)
	case w.Lookback < 0:
		return nil, fmt.Errorf("start walk: lookback %s is negative", w.Lookback)
	case w.MaxPages < 0:
		return nil, fmt.Errorf("start walk: %d pages at most is negative", w.MaxPages)
	}
	r.w.Until = -floorMilli(-w.Until) // a bound inside a millisecond cannot be seen
	r.rng = rand.New(rand.NewPCG(w.Seed, 0x9e3779b97f4a7c15))
	r.mark, r.newest, r.trim, r.firstTime = floorMilli(w.From), never, math.MaxInt64, never
	r.lag = math.MaxInt64
	r.out.Progress = Progress{Mark: w.From, Final: w.From}
	r.out.Assumptions = w.assumptions()
	return r, nil
}

// run asks page after page until a reason to end.
func (r *runner) run(ctx context.Context) error {
	for {
		if r.w.Until > 0 && r.mark >= r.w.Until-milli {
			r.out.EndReason = EndAtUntil
			return nil
		}
		p, err := r.fetch(ctx, 0)
		if err != nil {
			return err
		}
		var done bool
		if len(p.rows) == 0 {
			done, err = r.emptyList(ctx)
		} else {
			done, err = r.take(ctx, p)
		}
		if err != nil || done {
			return err
		}
	}
}

// take stages a page that starts right after the mark, and moves the mark or
// drains what holds it.
func (r *runner) take(ctx context.Context, p page) (done bool, err error) {
	// Most pages move the mark, and only their last rows can show again: the
	// others are not remembered at all.
	keep := int64(never)
	if p.anyValid && r.reach(p.last) > r.mark {
		keep = r.reach(p.last)
		if !r.past(p) && keep <= r.horizon(r.now(p)) && r.endsSlice(keep, r.out.Pages+1, r.out.Rows+int64(len(p.rows))) {
			r.trim = keep
		}
	}
	if err := r.stage(ctx, p, keep); err != nil {
		return false, err
	}
	short := len(p.rows) < r.limit
	if short && !r.keeps(ruleEndProof) {
		r.settle(r.reach(p.last), r.bound(p))
		return true, r.finish(ctx, EndOfRows)
	}
	if p.anyValid && r.reach(p.last) > r.mark || r.past(p) {
		return r.leave(ctx, p.last, r.bound(p), r.now(p))
	}
	if !r.keeps(ruleDrain) {
		if p.last <= r.mark {
			r.settle(r.mark+milli, r.bound(p))
			return false, nil
		}
		r.settle(p.last, r.bound(p))
		return false, nil
	}
	return r.drain(ctx, p)
}

// past reports whether p reaches the end of the window.
func (r *runner) past(p page) bool {
	return r.w.Until > 0 && p.anyValid && p.last >= r.w.Until
}

// reach returns the mark after a page whose last printed time is t.
func (r *runner) reach(t int64) int64 {
	if !r.keeps(ruleMarkBehind) {
		return floorMilli(t)
	}
	return floorMilli(t) - milli
}

// leave moves the mark behind t, the last printed time delivered, and says
// whether that ends the walk.
func (r *runner) leave(ctx context.Context, t, bound, now int64) (done bool, err error) {
	if r.w.Until > 0 && t >= r.w.Until {
		r.settle(r.w.Until-milli, bound)
		return true, r.finish(ctx, EndAtUntil)
	}
	edge := r.horizon(now)
	r.settle(min(r.reach(t), max(edge, r.mark)), bound)
	r.mark = r.reach(t)
	if r.stop <= r.mark && r.keeps(ruleStop) {
		if !r.lookAhead(t, edge) {
			return true, r.finish(ctx, EndAtStop)
		}
		r.mark = max(r.mark, edge)
	}
	if r.trim == r.mark {
		return true, r.finish(ctx, EndOfSlice)
	}
	r.forget()
	return false, r.advance(ctx)
}

// endsSlice says whether a slice ends with its mark at m and so much read.
// Past the run's start it does not: the walk is about to end by itself, and
// what it reads of the future moves no mark to go on from.
func (r *runner) endsSlice(m, pages, rows int64) bool {
	if m <= r.w.From || m >= r.stop || r.ahead > 0 {
		return false
	}
	full := r.w.MaxPages > 0 && pages >= int64(r.w.MaxPages)
	return full || r.w.yield != nil && r.w.yield(m, rows)
}

// horizon is the time past which no skew explains a timestamp: what is printed
// there lies in the future.
func (r *runner) horizon(now int64) int64 {
	return floorMilli(now + r.w.Lookback.Microseconds())
}

// lookAhead says whether to read on past the run's start. Updates that follow
// us end there. Rows in the future do not follow us, and no later run would
// come to find them in the past: they are read, from the horizon on, without
// moving mark or cursor.
func (r *runner) lookAhead(t, horizon int64) bool {
	if r.w.Until > 0 && r.w.Until <= horizon || r.ahead >= maxFuturePages {
		return false
	}
	if r.ahead > 0 && t <= horizon { // the present has caught up with us
		return false
	}
	r.ahead++
	return true
}

// forget drops the rows that no request shows again. A map keeps the size of
// the largest block it ever held, so the few that remain may move to a new one.
func (r *runner) forget() {
	kept := r.recent
	if len(kept) > maxPageSize {
		kept = map[[16]byte]sighting{}
	}
	for id, s := range r.recent {
		if s.key >= r.mark {
			kept[id] = s
		} else {
			delete(kept, id)
		}
	}
	r.recent = kept
}

// now returns the time by which a printed time is in the future.
func (r *runner) now(p page) int64 {
	if t, ok := r.sourceTime(p.resp); ok {
		return t
	}
	return p.resp.SentAt.UnixMicro()
}

// emptyList settles an answer without rows at the mark itself. Nothing can be
// anchored on it, so it is asked once more, and only a window takes it as
// covered.
func (r *runner) emptyList(ctx context.Context) (done bool, err error) {
	if r.ahead > 0 {
		return true, r.finish(ctx, EndAtStop)
	}
	p, err := r.fetch(ctx, 0)
	if err != nil {
		return false, err
	}
	if len(p.rows) > 0 {
		return r.take(ctx, p)
	}
	if r.w.Until > 0 {
		r.settle(r.w.Until-milli, r.bound(p))
	}
	return true, r.finish(ctx, EndOfRows)
}

// finish ends the walk for a reason and tells the sink how far it came.
func (r *runner) finish(ctx context.Context, why EndReason) error {
	if r.cached {
		r.tied(TieBlock{At: r.out.Mark, Passes: 1, Statistical: true, Why: "answers came from a cache, however often they were asked for"})
	}
	if err := r.advance(ctx); err != nil {
		return err
	}
	if r.ahead > 0 {
		why = EndAtStop
	}
	r.out.EndReason = why
	return nil
}

func (r *runner) advance(ctx context.Context) error {
	if err := r.sink.Advance(ctx, r.out.Progress); err != nil {
		return fmt.Errorf("advance mark: %w", err)
	}
	return nil
}

// stage hands the rows of p to the sink, without those it has already, and
// remembers the ones printed at keep or later.
func (r *runner) stage(ctx context.Context, p page, keep int64) error {
	skip := r.skip[:0]
	newest, beyond, dropped := r.newest, false, int64(0)
	for i := range p.rows {
		row := &p.rows[i]
		key := r.key(row)
		if !row.Invalid {
			beyond = r.w.Until > 0 && key >= r.w.Until || key > r.trim
		}
		if beyond { // the next window's, and so is a row without a time that follows one
			skip = append(skip, true)
			continue
		}
		if row.Invalid {
			r.out.Invalid++
		}
		var old sighting
		var known bool
		if row.Invalid || key <= newest {
			old, known = r.recent[row.ID]
		}
		dup := known && old.version == row.Version
		before := r.w.after && !row.Invalid && key <= r.w.From // another window's
		skip = append(skip, dup || before)
		switch {
		case dup:
			dropped++
			continue
		case !before:
			r.out.Rows++
		}
		if key < keep {
			continue
		}
		if !known || old.key != key {
			old = sighting{key: key, ref: absent}
		}
		old.version = row.Version
		r.recent[row.ID] = old
		r.newest = max(r.newest, key)
	}
	r.skip = skip
	r.out.Pages++
	r.out.Duplicates += dropped
	if s, ok := r.sink.(EvidenceSink); ok && dropped > 0 {
		s.Dropped(dropped)
	}
	r.witness(p)
	if err := r.sink.Stage(ctx, skip); err != nil {
		return fmt.Errorf("stage page: %w", err)
	}
	return nil
}

// tied notes a tie that has been drained.
func (r *runner) tied(t TieBlock) {
	r.out.Ties = append(r.out.Ties, t)
	if s, ok := r.sink.(EvidenceSink); ok {
		s.Tied(t)
	}
}

// key returns the timestamp of row that the walk goes along, turned round where
// it goes down.
func (r *runner) key(row *Row) int64 {
	switch r.w.Key {
	case ByCreated:
		return row.Created
	case byMessage:
		return -row.LastMessage
	default:
		return row.Updated
	}
}

// placed says whether row has a place in the order of the list.
func (r *runner) placed(row *Row) bool {
	return !row.Invalid && (r.w.Key != byMessage || row.LastMessage != 0)
}
