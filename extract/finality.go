package extract

import (
	"math"
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
// printed on that page stands in for it, and our clock where that time lies in
// the future, or, as a cache's rows are older than any clock says, the last
// printed time that does not. A cached Date that nothing marks as cached is the time at which
// the cached rows were read, and so still right.

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
	switch sent := p.resp.SentAt.UnixMicro(); {
	case dated:
	case !p.anyValid:
		return never
	case !r.keeps(ruleFuture) || p.last <= sent:
		read = p.last
	case p.resp.Cached:
		if read = r.lastBy(p, sent); read == never {
			return never
		}
	default:
		read = sent
	}
	return read - r.w.Lookback.Microseconds()
}

// lastBy returns the last time printed on p that is not after t.
func (r *runner) lastBy(p page, t int64) int64 {
	last := int64(never)
	for i := range p.rows {
		if k := r.key(&p.rows[i]); !p.rows[i].Invalid && k <= t {
			last = max(last, k)
		}
	}
	return last
}

// settle moves the mark to `to` and the final prefix as far as bound lets it.
// The prefix grows only while it has reached the mark: past a gap nothing is
// contiguous any more.
func (r *runner) settle(to, bound int64) {
	final := min(to, bound)
	if !r.keeps(ruleContiguous) || r.out.Final >= r.out.Mark {
		r.out.Final = max(r.out.Final, final)
	}
	r.out.Mark = max(r.out.Mark, to)
	r.mark = max(r.mark, floorMilli(to))
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
