package extract

import (
	"context"
	"fmt"
)

const (
	// minAnchorPage is the shortest page that can be anchored, and goodOverlap
	// the rows of overlap that leave little to chance. A tie that straddles the
	// edge of a page by more than the overlap could lose rows where its order
	// changes; then the overlap shows them in the old order once in
	// overlap! times by chance, and the confirming pass once more.
	minAnchorPage = 8
	goodOverlap   = 8
	minAnchor     = 2  // rows that must stand in both pages
	maxRestarts   = 5  // times a pass may start anew: its anchors left, or its first page keeps changing
	maxIdle       = 3  // accepted pages in a row that brought nothing and moved nothing
	maxDoublings  = 24 // of the overlap: beyond any list
)

// anchored reads one block from its start to its end. Each page either follows
// an anchor or is a probe: past everything delivered, to see whether anything
// is there.
type anchored struct {
	*runner
	*block
	probe   bool
	emptyAt int // where a probe found nothing, -1 for nowhere
	back    int // times the overlap was doubled
	idle    int
}

// readAnchored reads on from p, which is staged and starts the list, until the
// block is left or the list ends.
func (r *runner) readAnchored(ctx context.Context, b *block, p page) (verdict, error) {
	a := &anchored{runner: r, block: b, emptyAt: -1}
	b.tie.Passes++
	v := b.place(r, p)
	a.probe = a.looksShort()
	for v == passOn {
		var err error
		if v, err = a.step(ctx); err != nil {
			return passOn, err
		}
	}
	return v, nil
}

// looksShort says whether the last page may be the list's end, so that a probe
// is worth its request: not if a page of this length was not the end before,
// as under a server's cap.
func (a *anchored) looksShort() bool { return a.width < a.limit && a.width > a.notEnd }

// step reads one page, and a probe before it where one is due.
func (a *anchored) step(ctx context.Context) (verdict, error) {
	if a.probe {
		if err := a.look(ctx); err != nil {
			return passOn, err
		}
	}
	q, err := a.fetch(ctx, a.offset())
	if err != nil {
		return passOn, err
	}
	m := a.match(a.runner, q)
	if ok, v := a.carries(q, m); !ok {
		a.out.Discarded++
		a.back++
		return v, nil
	}
	if q.offset == 0 {
		if a.restarts++; a.restarts > maxRestarts {
			return a.unstable("its first page kept changing"), nil
		}
	}
	if err := a.stage(ctx, q, never); err != nil {
		return passOn, err
	}
	before := a.end
	if v := a.place(a.runner, q); v != passOn {
		return v, nil
	}
	return a.progress(m.fresh > 0, before), nil
}

// look probes right after everything delivered. What it brings is not
// anchored, and so only shows that the list goes on.
func (a *anchored) look(ctx context.Context) error {
	q, err := a.fetch(ctx, a.end)
	if err != nil {
		return err
	}
	a.probe = false
	if len(q.rows) == 0 {
		a.emptyAt = a.end
		a.proves(q)
		return nil
	}
	a.notEnd = max(a.notEnd, a.width)
	a.out.Discarded++
	return nil
}

// proves bounds what an empty probe proves by when its list was read: a
// cache's answer may end the walk, and moves no cursor.
func (a *anchored) proves(q page) {
	if _, dated := a.sourceTime(q.resp); dated {
		a.block.bound = min(a.block.bound, a.runner.bound(q))
	} else if q.resp.Cached && a.keeps(ruleCached) {
		a.block.bound = never
	}
}

// offset is where the next page starts: before the end of the last one, by
// about a fifth of it, and further each time no anchor was found.
func (a *anchored) offset() int {
	if !a.keeps(ruleAnchor) {
		return a.end
	}
	overlap := max(a.width/5, min(goodOverlap, a.width/2), minAnchor)
	if a.idle > 0 {
		overlap = minAnchor // a short page may have held the overlap alone
	}
	overlap <<= min(a.back, maxDoublings)
	if !a.several && (a.emptyAt >= 0 || a.idle > 0) {
		return 0 // the whole of it fits a page, which needs no order to compare
	}
	if a.end < minAnchorPage {
		return 0
	}
	return max(0, a.end-overlap)
}

// carries reports whether what follows on q is adjacent to what was delivered.
func (a *anchored) carries(q page, m match) (bool, verdict) {
	switch {
	case !a.keeps(ruleAnchor):
		return true, passOn
	case !m.sameAsBefore:
		return false, a.unstable("ties changed their order")
	case q.offset == 0:
		return true, passOn
	case a.longest < minAnchorPage:
		return false, a.unstable(fmt.Sprintf("pages of %d rows are too short to anchor", a.longest))
	case !m.ordered:
		return false, a.unstable("ties changed their order")
	}
	return m.common >= minAnchor, passOn
}

// progress decides what follows an accepted page. The list has ended where a
// probe found nothing at the very place where the pages before and after it
// end: had rows left in between, that place would have moved.
func (a *anchored) progress(brought bool, before int) verdict {
	if brought || a.end != before {
		a.idle = 0
	} else if a.emptyAt == a.end || !a.keeps(ruleProbe) {
		return passEnded
	} else if a.idle++; a.idle > maxIdle {
		return a.unstable(fmt.Sprintf("pages of %d rows are too short to anchor", a.width))
	}
	a.back, a.emptyAt = 0, -1
	a.probe = !brought || a.looksShort()
	return passOn
}
