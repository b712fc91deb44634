package extract

import (
	"context"
	"fmt"
	"time"
)

// coarse is how far before the mark a row may be printed: a source could print
// whole seconds of a finer clock.
const coarse = int64(time.Second / time.Microsecond)

// OrderError says that the source answered out of order, or with rows from
// before what was asked for, several times over. No mark can be taken from
// such a page.
type OrderError struct {
	Key      Key
	Request  string // path and query
	Position int    // of the row that breaks the order, from 0
	Time     int64  // printed on it, microseconds since 1970 UTC
	Before   int64  // what it must not be before: the row ahead of it, or the mark
	Attempts int
}

// Error names the rows.
func (e *OrderError) Error() string {
	return fmt.Sprintf("page out of order: row %d has %s %s, after %s (%d attempts at %s)",
		e.Position, e.Key, FormatTime(e.Time), FormatTime(e.Before), e.Attempts, readable(e.Request))
}

// Hint says what to do.
func (e *OrderError) Hint() string {
	return "the endpoint does not keep its order, so a cursor over it would skip contacts; nothing past the last good page was kept. Run again; if it persists, ask the vendor."
}

// freshAttempts is how often a page is asked for that comes from a cache.
const freshAttempts = 6

// fetch asks for the page at an offset after the mark. Of a window of days, a
// cache's answer is asked for again: contacts come into the window by a
// message, which need not move their updated_at, so that no later reading by
// updated_at finds those that an old answer lacks.
func (r *runner) fetch(ctx context.Context, offset int) (page, error) {
	for attempt := 1; ; attempt++ {
		p, err := r.ordered(ctx, offset)
		if err != nil || r.w.Days == 0 || !r.old(p.resp) || !r.keeps(ruleCached) {
			return p, err
		}
		if attempt == freshAttempts {
			r.cached = true
			return p, nil
		}
		r.out.Discarded++
	}
}

// old says whether an answer comes from a cache, by its own word or by a Date
// that lags behind those of other answers.
func (r *runner) old(resp Response) bool {
	if resp.Cached {
		return true
	}
	if resp.Date.IsZero() {
		return false
	}
	lag := resp.ReceivedAt.Sub(resp.Date)
	r.lag = min(r.lag, lag)
	return lag-r.lag > minTrustedSkew+resp.ReceivedAt.Sub(resp.SentAt)
}

// ordered asks for a page. One that is out of order is asked for again, in case
// rows moved while it was being read, and is an error if it stays so.
func (r *runner) ordered(ctx context.Context, offset int) (page, error) {
	for attempt := 1; ; attempt++ {
		p, request, err := r.ask(ctx, offset)
		if err != nil {
			return page{}, err
		}
		bad := r.checkOrder(&p)
		if bad == nil {
			r.longest = max(r.longest, len(p.rows))
			return p, nil
		}
		r.out.OutOfOrder++
		r.out.Discarded++
		if attempt == orderAttempts {
			bad.Request, bad.Attempts = request, attempt
			return page{}, bad
		}
	}
}

// ask sends one request and notes what its answer says of the source's clock.
func (r *runner) ask(ctx context.Context, offset int) (page, string, error) {
	if err := ctx.Err(); err != nil {
		return page{}, "", fmt.Errorf("read page: %w", context.Cause(ctx))
	}
	q := Query{Days: r.w.Days, Limit: r.limit, Offset: offset, Extra: r.w.Filters}
	mark := r.mark
	switch r.w.Key {
	case ByCreated:
		q.CreatedAfter = &mark
	case byMessage: // nothing but days and offset
	default:
		q.UpdatedAfter = &mark
	}
	p := page{offset: offset}
	var request string
	resp, err := r.w.Client.Page(ctx, q, func(body []byte, info PageInfo) error {
		request = info.Request
		rows, err := r.sink.Decode(body, info)
		p.rows = rows
		return err
	})
	r.out.Requests += resp.Requests
	if err != nil {
		return page{}, "", err // it names the request
	}
	p.resp = resp
	if _, dated := r.sourceTime(resp); !dated {
		r.out.Undated++
	}
	if !r.begun {
		r.begin(resp)
	}
	r.out.LastDate = resp.Date
	return p, request, nil
}

// begin takes the end of the walk from its first answer.
func (r *runner) begin(resp Response) {
	r.begun = true
	r.out.FirstDate = resp.Date
	r.stop = r.w.StopAt.UnixMicro()
	if _, ok := r.sourceTime(resp); ok {
		// A Date is cut to the second: what changed in the rest of it changed
		// before the run, and whoever made the change expects to see it.
		r.stop = resp.Date.Add(time.Second).UnixMicro()
	}
	if r.w.stopAt != 0 && r.keeps(ruleOneStop) {
		r.stop = r.w.stopAt
	}
}

// checkOrder fills in the times of p and reports the first row that breaks
// the order.
func (r *runner) checkOrder(p *page) *OrderError {
	least := r.mark - coarse
	floor := r.mark
	for i := range p.rows {
		row := &p.rows[i]
		if !r.placed(row) {
			continue
		}
		key := r.key(row)
		if key < least && r.keeps(ruleOrder) {
			e := &OrderError{Key: r.w.Key, Position: i, Time: key, Before: max(least, floor)}
			if r.w.Key == byMessage {
				e.Time, e.Before = -e.Time, -e.Before
			}
			return e
		}
		if !p.anyValid {
			p.first, p.anyValid = key, true
		}
		least, floor = key, key
		p.last = key
	}
	return nil
}
