package extract

import (
	"math"
	"slices"
	"time"
)

// Finality (DESIGN section 3.4). A row may become visible up to the lookback
// after its own timestamp, so a page says nothing final about the lookback
// before the moment at which the source read its rows. That moment is the
// response's Date, less the time the attempt took: the source stamps the
// answer after it has read the rows, and a row may become visible in between.
//
// A Date is not believed where it is missing, may be a cache's, or is further
// from our clock than the lookback, which skew is part of. Then the last time
// printed on that page stands in for it, as the rows were read no earlier;
// times that lie in the future for our clock tell nothing. A cached Date that
// nothing marks as cached is the time at which the cached rows were read, and
// so still right.

// never is a bound before all times.
const never = math.MinInt64

// sourceTime returns when the source read the rows of a response, at the
// earliest, in microseconds since 1970; false where it does not tell.
func (r *runner) sourceTime(resp Response) (int64, bool) {
	if resp.Date.IsZero() {
		return 0, false
	}
	if resp.Cached && r.keeps(ruleCached) {
		return 0, false
	}
	if skew := resp.Date.Sub(resp.ReceivedAt).Abs(); skew > max(r.w.Lookback, minTrustedSkew) {
		return 0, false
	}
	read := resp.Date.UnixMicro()
	if elapsed := resp.ReceivedAt.Sub(resp.SentAt); elapsed > 0 && r.keeps(ruleElapsed) {
		read -= elapsed.Microseconds()
	}
	return read, true
}

// minTrustedSkew keeps a Date, which is printed in whole seconds, usable under
// a lookback of nothing.
const minTrustedSkew = 2 * time.Second

// bound returns up to where page p is final, its own mark aside.
func (r *runner) bound(p page) int64 {
	if !r.keeps(ruleFinality) {
		return math.MaxInt64
	}
	read, dated := r.sourceTime(p.resp)
	if !dated {
		read = r.printedBy(p, r.key)
	}
	if read == never {
		return never
	}
	return read - r.w.Lookback.Microseconds()
}

// printedBy returns the last time printed on p that our clock had reached.
func (r *runner) printedBy(p page, key func(*Row) int64) int64 {
	last, now := int64(never), p.resp.SentAt.UnixMicro()
	for i := range p.rows {
		row := &p.rows[i]
		if k := key(row); !row.Invalid && (k <= now || !r.keeps(ruleFuture)) {
			last = max(last, k)
		}
	}
	return last
}

// witness takes note of when the rows of an accepted page were read, at the
// earliest: what changed before the earliest of these moments, less the
// lookback, was on the pages as it was then.
func (r *runner) witness(p page) {
	if len(p.rows) == 0 {
		return
	}
	read, dated := r.sourceTime(p.resp)
	switch {
	case dated:
	case p.resp.Cached || !p.resp.Date.IsZero():
		read = r.printedBy(p, func(row *Row) int64 { return max(row.Updated, row.Created) })
	default:
		// A cache would have added a Date (RFC 9110, 6.6.1) and an Age (RFC
		// 9111, 5.1). To take the times printed instead would have most full
		// reads of such a source followed by another.
		read = p.resp.SentAt.UnixMicro()
		r.assume("an answer with neither Date nor Age is no cache's")
	}
	read = max(read, 1) // where nothing is known, since ever
	if r.out.ReadSince == 0 || read < r.out.ReadSince {
		r.out.ReadSince = read
	}
}

// assume adds to the assumptions in force.
func (r *runner) assume(what string) {
	if !slices.Contains(r.out.Assumptions, what) {
		r.out.Assumptions = append(r.out.Assumptions, what)
	}
}

// settle moves the mark to `to` and the final prefix as far as bound lets it.
// The prefix grows only while it has reached the mark: past a gap nothing is
// contiguous any more.
func (r *runner) settle(to, bound int64) {
	r.mark = max(r.mark, floorMilli(to))
	if r.ahead > 0 {
		return
	}
	final := min(to, bound)
	if !r.keeps(ruleContiguous) || r.out.Final >= r.out.Mark {
		r.out.Final = max(r.out.Final, final)
	}
	r.out.Mark = max(r.out.Mark, to)
}

// floorMilli returns the whole millisecond at or before us.
func floorMilli(us int64) int64 {
	m := us % milli
	if m < 0 {
		m += milli
	}
	return us - m
}

const milli = int64(1000) // microseconds
