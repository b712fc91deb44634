package extract

import (
	"context"
)

const (
	// maxOverlap is the most rows that two pages of a descent share, unless
	// more than that have left the list between them.
	maxOverlap = 20
	// maxStill is how many requests in a row may find nothing new.
	maxStill = 500
	// A page that shows the end counts for strongEnd if the last row delivered
	// is its last row, and for 1 if that row is not on it, so that the page may
	// as well have been cut short above it. enough of that is the end, or
	// enoughCut where pages are cut short at will, or where what comes past the
	// end cannot be told from what is pushed there by arrivals.
	strongEnd = 4
	enough    = 4
	enoughCut = 12
	// minRecentPage is the shortest page that gets anywhere: a row above the
	// frontier, the frontier, and a new one.
	minRecentPage = 3
)

// descent is the state of one pass. Its times are as printed, not turned round
// as in the runner.
type descent struct {
	frontier int64    // everything printed after it is delivered, and some of it
	began    int64    // the source's time, at the earliest, at which the first page was read
	rows     int64    // staged before the pass
	pages    int      // accepted
	first    int      // rows on the first of them
	idle     int      // requests since the frontier moved
	back     int      // steps back in a row
	forward  int      // pages above the frontier in a row
	width    int      // rows on the last accepted page
	tail     [16]byte // the last row of the page that moved the frontier last
	probed   found    // by the last probe since the frontier moved
	ends     int      // how much speaks for the end of the list
	single   bool     // what was accepted after the first page was on it
}

// found is what a probe past a page brought.
type found int

const (
	notProbed found = iota
	foundNone       // no row
	foundOld        // rows that were delivered before, pushed there by arrivals
	foundNew        // the list goes on
)

// pass reads the list from its top down, to what is printed before r.down.
// atOnce says that all it had to show stood on one page, which is how things
// were at one moment.
func (r *recentRun) pass(ctx context.Context) (atOnce bool, err error) {
	r.descent = descent{frontier: farAway, rows: r.out.Rows}
	started := false
	for offset := 0; ; r.idle++ {
		if r.idle > maxStill {
			return false, &DriftError{At: r.frontier, Requests: r.idle}
		}
		p, err := r.fetch(ctx, offset)
		if err != nil {
			return false, err
		}
		if !started {
			started = true
			r.begins(p)
		}
		switch {
		case len(p.rows) == 0 && offset == 0:
			if r.ends++; r.ends > 1 { // asked twice, as nothing vouches for it
				return true, nil
			}
		case !r.adjacent(p):
			r.out.Discarded++
			offset = r.stepBack(p.offset)
		default:
			next, done, err := r.take(ctx, p)
			if err != nil {
				return false, err
			}
			if done {
				return r.atOnce(), nil
			}
			offset = next
		}
	}
}

// begins notes when a pass began, by its first page, and which rows its own
// pages and the next pass may show again.
func (r *recentRun) begins(p page) {
	r.began = r.readAt(p)
	r.keep = r.began - r.w.Lookback.Microseconds()
	if r.down != -farAway {
		r.keep = min(r.keep, r.down)
	}
}

// adjacent says whether nothing that is in the list now lies between what was
// delivered and what p shows: the list is in order, and p starts above the
// frontier.
func (r *recentRun) adjacent(p page) bool {
	if len(p.rows) > 0 && (p.offset == 0 || !r.keeps(ruleAnchor)) {
		return true
	}
	return p.anyValid && -p.first > r.frontier
}

// stepBack returns where to ask instead of an offset past the frontier: rows
// have left the list above it.
func (r *recentRun) stepBack(offset int) int {
	by := overlapOf(max(r.width, minRecentPage)) << min(r.back, maxDoublings)
	r.back++
	r.forward = 0
	return max(0, offset-by)
}

// overlapOf is how many rows the page after one of n rows shares with it. A
// page that starts past the frontier costs a request, and each row of overlap
// a part of one.
func overlapOf(n int) int { return max(minAnchor, min(n/20, maxOverlap)) }

// take stages an adjacent page, and says where to go on or that the pass is
// done.
func (r *recentRun) take(ctx context.Context, p page) (next int, done bool, err error) {
	before, n := r.frontier, len(p.rows)
	unknown, strange := r.unknown(p)
	if err := r.stagePage(ctx, p); err != nil {
		return 0, false, err
	}
	if p.anyValid {
		r.frontier = min(before, -p.last)
	}
	moved := unknown > 0 || r.frontier < before
	r.accept(p, moved, strange > 0)
	if r.frontier < r.down {
		r.single = r.pages == 1
		return 0, true, nil
	}
	above := r.above(p)
	next = p.offset + max(0, min(above-1, n-overlapOf(n)))
	stuck := r.frontier == before && 2*(n-above) >= n && 2*n > r.longest // its rows fill pages
	room := n < r.limit && (n < r.longest || p.offset == 0)
	final := p.rows[n-1].ID // the page is gone once another is asked for
	if moved {
		r.tail = final
	}
	if !moved && room {
		if r.probed == notProbed || r.probed == foundNew {
			if err := r.look(ctx, p.offset+n, n); err != nil {
				return 0, false, err
			}
		}
		if r.ended(final == r.tail) {
			return 0, true, nil
		}
		stuck = stuck && r.probed == foundNew
	}
	switch {
	case n < r.limit && !r.keeps(ruleEndProof):
		return 0, true, nil
	case stuck:
		next, err = r.drainTie(ctx, r.frontier, p.offset)
		return next, false, err
	case moved && n < r.limit && n > r.notEnd:
		return next, false, r.look(ctx, p.offset+n, n)
	case above == n && !moved:
		// All of it lies above the frontier: arrivals have pushed that down.
		next += n * (1<<min(r.forward, maxForward) - 1)
		r.forward++
	}
	return next, false, nil
}

// ended adds a page that shows nothing past the frontier to what speaks for
// the end, and says whether that is enough.
func (r *recentRun) ended(strong bool) bool {
	if r.probed == foundNew {
		r.ends = 0
		return false
	}
	need := enoughCut
	if r.probed == foundNone && !r.varied {
		need = enough
	}
	r.ends++
	if strong {
		r.ends += strongEnd - 1
	}
	return r.ends >= need || !r.keeps(ruleProbe)
}

// maxForward bounds how far a step forward grows: to a thousand pages.
const maxForward = 10

// accept notes an accepted page.
func (r *recentRun) accept(p page, moved, strange bool) {
	n := len(p.rows)
	if r.pages++; r.pages == 1 {
		r.first, r.single = n, true
	} else if moved || strange {
		r.single = false
	}
	if moved {
		if r.width > 0 && r.width < r.limit && r.width < r.longest {
			r.varied = true // the page before was not the last
		}
		r.idle, r.forward, r.probed, r.ends = 0, 0, notProbed, 0
	}
	r.back, r.width = 0, n
}

// atOnce says whether the one page that a pass took shows one moment. Where it
// showed the whole list it may have been cut short just there, at the limit or
// before it: not if longer pages came, or if no page was ever cut, or if nothing
// came of it.
func (r *recentRun) atOnce() bool {
	if !r.single || r.frontier < r.down {
		return r.single
	}
	if r.first >= r.limit {
		return false
	}
	return r.first < r.longest || r.notEnd == 0 || r.out.Rows == r.rows
}

// unknown counts the rows of p at or past the frontier that were not delivered
// there, and the contacts that are not remembered from anywhere.
func (r *recentRun) unknown(p page) (rows, strange int) {
	for i := range p.rows {
		row := &p.rows[i]
		if r.placed(row) && row.LastMessage <= r.frontier && !r.knows(row) {
			rows++
		}
		if _, ok := r.recent[row.ID]; !ok {
			strange++
		}
	}
	return rows, strange
}

// above counts the rows of p before the first one at or past the frontier.
func (r *recentRun) above(p page) int {
	for i := range p.rows {
		if row := &p.rows[i]; r.placed(row) && row.LastMessage <= r.frontier {
			return i
		}
	}
	return len(p.rows)
}

// look probes right after an accepted page of n rows. What it brings is not
// vouched for, and so only shows that the list goes on.
func (r *recentRun) look(ctx context.Context, offset, n int) error {
	q, err := r.fetch(ctx, offset)
	if err != nil {
		return err
	}
	r.probed = foundNone
	if len(q.rows) > 0 {
		r.out.Discarded++
		r.probed = foundOld
	}
	for i := range q.rows {
		if row := &q.rows[i]; r.placed(row) && !r.knows(row) {
			r.probed = foundNew
		}
	}
	if r.probed == foundNew {
		r.notEnd = max(r.notEnd, n)
		r.varied = r.varied || n < r.longest
	}
	return nil
}
