package extract

import (
	"context"
	"fmt"
	"time"

	"github.com/sluice-etl/sluice/internal/clock"
)

// Recent reads the contacts with a message in the last Days days, newest first:
// what `days` by itself gives (DESIGN section 3.6), for sources that do not
// combine it with other parameters. Where they do, a Walk with Days is better.
// A Recent is used once, from one goroutine.
//
// The list can be asked for by offset alone, and it moves all the time: a
// contact jumps to the front whenever a message comes, the window's edge takes
// contacts off its tail, deletions take them out anywhere. So it is read like
// this.
//
//   - A page counts only if it starts above the last time delivered (or at the
//     top): the list is in order, so what follows is adjacent, however far the
//     list has moved meanwhile. Otherwise the next request steps back; and
//     forward where arrivals have pushed the place beyond the page.
//   - A timestamp that fills a page is read by anchors of at least two rows,
//     twice; where its order changes, until ten passes bring nothing new, and
//     then it is recorded as statistical.
//   - The end is a page that starts above the last row delivered, has room for
//     more, and shows nothing after it, twice, with nothing past it in between.
//   - A contact that jumps while it is still to come is behind us then. So the
//     list is read again from the top, down to the lookback before the reading
//     began; and again, down to the lookback before that reading began, until
//     the whole of it came on one page, which is one moment. Where more than
//     a page of contacts has messages within the lookback that never happens:
//     after ten such passes the front is recorded as statistical, as a contact
//     can have been missed only if it jumped at the wrong moment in each of
//     them. It is no error, since such a source would never be read at all.
//
// Whatever was to be seen when Run began, and stays in the window until it
// ends, is delivered as it was then or later, some of it more than once.
type Recent struct {
	Client Pager
	// Days is the window, 1 to 365.
	Days int
	// StopAt is the local time at which the run started. It stands in for the
	// source's time where the first answer does not tell it. Zero: the time at
	// which Run is called.
	StopAt time.Time
	// Lookback is how long after its timestamp a message may become visible,
	// clock skew included.
	Lookback time.Duration
	// PageSize is the number of rows asked for, 3 to 1000. 0: 1000.
	PageSize int
	Clock    clock.Clock // nil: the machine's
	// Seed makes the steps of statistical passes reproducible.
	Seed uint64

	without rule // rules taken out, by the simulation alone
}

// maxTopPasses is how often the front is read again while it does not fit a
// page.
const maxTopPasses = 10

// Run reads until all is delivered, an error, or the end of ctx. The sink is
// advanced after each page, so that it may seal a part; but there is no place
// to go on from, as nothing stays in its place: Progress.Mark and
// Progress.Final remain 0, and must not become a cursor. A reading that was
// stopped starts anew. Progress.ReadSince is as for a Walk. The Outcome is valid
// in every case.
func (w *Recent) Run(ctx context.Context, sink Sink) (Outcome, error) {
	r, err := w.newRun(sink)
	if err != nil {
		return Outcome{}, err
	}
	err = r.run(ctx)
	return r.out, err
}

func (w *Recent) newRun(sink Sink) (*recentRun, error) {
	switch {
	case w.Days < 1 || w.Days > 365:
		return nil, fmt.Errorf("start reading recent contacts: %d days are not from 1 to 365", w.Days)
	case w.PageSize != 0 && w.PageSize < minRecentPage:
		return nil, fmt.Errorf("start reading recent contacts: pages of %d rows are too short to overlap, %d is the least", w.PageSize, minRecentPage)
	}
	walk := &Walk{
		Client: w.Client, Key: byMessage, From: -farAway, StopAt: w.StopAt, Lookback: w.Lookback,
		PageSize: w.PageSize, Days: w.Days, Clock: w.Clock, Seed: w.Seed, without: w.without,
	}
	r, err := walk.newRunner(sink)
	if err != nil {
		return nil, err
	}
	r.out.Progress = Progress{}
	r.out.Assumptions = []string{
		"id of a contact never changes",
		"a message is visible within " + w.Lookback.String() + " of its last_message_at, clock skew included",
		"days by itself lists contacts by last_message_at, newest first",
		"ties keep their order between two requests, except where a block is recorded as statistical",
		"an answer with neither an Age nor an old Date is no cache's",
	}
	return &recentRun{runner: r}, nil
}

// farAway is a time before or after all times, with room to reckon with.
const farAway = int64(1) << 61

// recentRun is the state of a Recent.
type recentRun struct {
	*runner
	descent
	down   int64 // a pass has to show everything printed at or after it
	keep   int64 // rows printed at or after it are remembered beyond their page
	varied bool  // a page was shorter than others, and not the last
}

// run reads the whole list, and then its front until that fits a page.
func (r *recentRun) run(ctx context.Context) error {
	r.down = -farAway
	before := int64(0)
	for passes := int64(1); ; passes++ {
		atOnce, err := r.pass(ctx)
		if err != nil {
			return err
		}
		if passes == 1 {
			before = r.out.Requests
		}
		switch {
		case atOnce || !r.keeps(ruleTop) || passes > 1 && !r.keeps(ruleTopAgain):
			return r.finish(ctx, EndOfRows)
		case passes > maxTopPasses:
			r.tied(TieBlock{
				At: r.down, Size: r.out.Rows - r.rows, Passes: passes - 1, Requests: r.out.Requests - before, Statistical: true,
				Why: fmt.Sprintf("more than a page of contacts has messages within %s, and they kept moving while they were read again", r.w.Lookback),
			})
			return r.finish(ctx, EndOfRows)
		}
		r.down = r.began - r.w.Lookback.Microseconds()
		if !r.keeps(ruleTopDepth) {
			r.down = r.began
		}
		r.down = floorMilli(r.down)
	}
}

// readAt returns the source's time at which the rows of a pass's first page
// were read, at the earliest. A source that does not tell it has at least
// reached the newest message printed there, those of the future aside.
func (r *recentRun) readAt(p page) int64 {
	if t, ok := r.sourceTime(p.resp); ok {
		return t
	}
	if t := r.printedBy(p, func(row *Row) int64 { return row.LastMessage }); t != never {
		return t
	}
	if r.down == -farAway {
		return min(r.w.StopAt.UnixMicro(), p.resp.SentAt.UnixMicro())
	}
	return p.resp.SentAt.UnixMicro()
}

// forgetPassed drops the rows that neither the next pages nor the next pass can show:
// what is kept is the page just read, or the tie, and the front.
func (r *recentRun) forgetPassed(first int64) {
	for id, s := range r.recent {
		if at := -s.key; at > first && at < r.keep {
			delete(r.recent, id)
		}
	}
}

// stagePage hands the rows of p on and lets the sink seal a part.
func (r *recentRun) stagePage(ctx context.Context, p page) error {
	if err := r.stage(ctx, p, never); err != nil {
		return err
	}
	if p.anyValid {
		r.forgetPassed(-p.first)
	}
	return r.advance(ctx)
}

// knows says whether a row was delivered in its place.
func (r *recentRun) knows(row *Row) bool {
	s, ok := r.recent[row.ID]
	return ok && s.key == r.key(row)
}

// DriftError says that the list moved faster than it could be read.
type DriftError struct {
	At       int64 // the last time delivered, microseconds since 1970 UTC
	Requests int   // that brought nothing after it
}

// Error names the place.
func (e *DriftError) Error() string {
	return fmt.Sprintf("read recent contacts: %d requests in a row found nothing below last_message_at %s, nor the end of the list", e.Requests, FormatTime(e.At))
}

// Hint says what to do.
func (e *DriftError) Hint() string {
	return "the list moved faster than it was read, or its pages are too short to overlap: run again when there is less traffic, or raise page_size; if the endpoint combines days with created_after, remove combine_filters: false"
}
