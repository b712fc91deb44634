package extract

import (
	"context"
	"fmt"
)

// tiePass is one reading of the rows with one timestamp.
type tiePass struct {
	order map[[16]byte]int // place in the pass
	fresh int              // rows not delivered before
	start int              // offset of its first page
	last  int              // offset of its last page
	why   string           // why anchors do not carry it; empty where they do
	idle  int              // pages in a row that brought nothing
	back  int              // steps back in a row
}

// drainTie reads the rows printed at t, which more than fill a page, until two
// passes in a row, both anchored, agree; or else until ten in a row bring
// nothing new. It returns where to go on.
func (r *recentRun) drainTie(ctx context.Context, t int64, offset int) (next int, err error) {
	if !r.keeps(ruleDrain) {
		r.frontier = t - milli
		return offset + r.width, nil
	}
	tie := TieBlock{At: t - milli}
	requests := r.out.Requests
	met := map[[16]byte]bool{}
	var before tiePass
	for quiet := 0; ; {
		if tie.Passes >= maxPasses {
			return 0, &TieError{At: t, Passes: tie.Passes}
		}
		tie.Passes++
		now, err := r.passTie(ctx, t, offset, &tie)
		if err != nil {
			return 0, err
		}
		for id := range now.order {
			met[id] = true
		}
		if !tie.Statistical {
			tie.Why = now.why
			if tie.Why == "" && tie.Passes > 1 {
				tie.Why = now.differs(before)
			}
			tie.Statistical = tie.Why != ""
			if !tie.Statistical && (tie.Passes > 1 || !r.keeps(ruleConfirm)) {
				next = now.last
				break
			}
		} else if quiet++; now.fresh > 0 {
			quiet = 0
		}
		before, offset, next = now, now.start, now.last
		if quiet >= quietPasses || tie.Statistical && !r.keeps(ruleStatistical) {
			break
		}
	}
	tie.Size, tie.Requests = int64(len(met)), r.out.Requests-requests
	r.tied(tie)
	// What lies below is read by the descent, from a page with a row of the tie
	// or above on it.
	r.frontier = t - milli
	r.idle, r.back, r.probed, r.ends = 0, 0, notProbed, 0
	return next, nil
}

// differs says how a pass that should confirm another does not.
func (now tiePass) differs(before tiePass) string {
	if now.fresh > 0 {
		return fmt.Sprintf("a confirming pass brought %d new rows", now.fresh)
	}
	// The places of the rows that both have must grow together.
	places := make([]int, 0, len(now.order))
	byPlace := make(map[int]int, len(now.order))
	most := -1
	for id, at := range now.order {
		if was, ok := before.order[id]; ok {
			byPlace[at] = was
			most = max(most, at)
		}
	}
	for at := range most + 1 {
		if was, ok := byPlace[at]; ok {
			places = append(places, was)
		}
	}
	for i := 1; i < len(places); i++ {
		if places[i] <= places[i-1] {
			return "ties changed their order"
		}
	}
	return ""
}

// passTie reads the rows printed at t once, from a page that starts above them
// to one that ends below them, or until pages bring nothing more.
func (r *recentRun) passTie(ctx context.Context, t int64, offset int, tie *TieBlock) (tiePass, error) {
	pass := tiePass{order: map[[16]byte]int{}}
	p, err := r.startTie(ctx, t, offset)
	if err == nil && tie.Passes == 2 {
		// Asked for twice: a source that answers from two replicas in turn
		// would otherwise give each pass the same wrong orders.
		p, err = r.startTie(ctx, t, p.offset)
	}
	pass.start, pass.last = p.offset, p.offset
	for err == nil {
		if !tie.Statistical {
			instead, vouched := pass.vouch(r, p, t)
			if pass.why != "" {
				return pass, nil
			}
			if !vouched {
				p, err = r.fetch(ctx, instead)
				continue
			}
		}
		var ended bool
		if ended, err = pass.take(ctx, r, p, t); err != nil || ended {
			return pass, err
		}
		n := len(p.rows)
		step := max(1, n-max(minAnchor, min(goodOverlap, n/2), n/5))
		if tie.Statistical {
			step = max(1, n/2+r.rng.IntN(max(1, step-n/2+1)))
		}
		p, err = r.fetch(ctx, p.offset+step)
	}
	return pass, err
}

// vouch says whether what a page shows of the tie is adjacent to what the pass
// has delivered of it, or else where to ask instead, or why that cannot be
// told.
func (now *tiePass) vouch(r *recentRun, p page, t int64) (instead int, vouched bool) {
	common, ordered := now.match(r, p, t)
	start := p.offset == 0 || p.anyValid && -p.first > t
	switch {
	case !ordered:
		now.why = "ties changed their order"
	case r.longest < minAnchorPage:
		now.why = fmt.Sprintf("pages of %d rows are too short to anchor", r.longest)
	case start && now.back > 0 && len(now.order) > 0:
		now.why = "no page overlapped with what was read before it"
	case start || common >= minAnchor:
		now.back = 0
		return 0, true
	}
	r.out.Discarded++
	now.back++
	return max(0, p.offset-overlapOf(len(p.rows))<<min(now.back, maxDoublings)), false
}

// take stages a page and says whether it ends the pass.
func (now *tiePass) take(ctx context.Context, r *recentRun, p page, t int64) (ended bool, err error) {
	had := len(now.order)
	now.place(r, p, t)
	if err := r.stagePage(ctx, p); err != nil || len(p.rows) == 0 {
		return true, err
	}
	above := p.anyValid && -p.last > t
	if p.anyValid && -p.first >= t {
		now.last = p.offset
	}
	if r.idle++; r.idle > maxStill {
		return true, &DriftError{At: t, Requests: r.idle}
	}
	switch {
	case len(now.order) > had:
		now.idle, r.idle = 0, 0
	case !above || len(p.rows) < r.limit: // a full page above the tie was pushed there, and says nothing of it
		now.idle++
	}
	return p.anyValid && -p.last < t || now.idle > maxIdle, nil
}

// startTie asks for a page that starts above the rows printed at t and reaches
// them, from an offset that was about there.
func (r *recentRun) startTie(ctx context.Context, t int64, offset int) (page, error) {
	for back := 0; ; {
		if r.idle++; r.idle > maxStill {
			return page{}, &DriftError{At: t, Requests: r.idle}
		}
		p, err := r.fetch(ctx, offset)
		if err != nil {
			return page{}, err
		}
		n := len(p.rows)
		switch {
		case offset > 0 && (!p.anyValid || -p.first <= t):
			r.out.Discarded++
			offset = max(0, offset-minAnchor<<min(back, maxDoublings))
			back++
		case p.anyValid && -p.last > t && n == r.longest:
			r.out.Discarded++
			offset += max(1, n-overlapOf(n))
		default:
			return p, nil
		}
	}
}

// match compares a page with what the pass has shown of the tie: the rows that
// both have must come first, in the same order.
func (now tiePass) match(r *recentRun, p page, t int64) (common int, ordered bool) {
	ordered = true
	place, fresh := -1, false
	for i := range p.rows {
		row := &p.rows[i]
		if !r.placed(row) || row.LastMessage != t {
			continue
		}
		at, ok := now.order[row.ID]
		if !ok {
			fresh = true
			continue
		}
		if fresh || at <= place {
			ordered = false
		}
		place = at
		common++
	}
	return common, ordered
}

// place notes the rows of the tie on an accepted page.
func (now *tiePass) place(r *recentRun, p page, t int64) {
	for i := range p.rows {
		row := &p.rows[i]
		if !r.placed(row) || row.LastMessage != t {
			continue
		}
		if _, ok := now.order[row.ID]; ok {
			continue
		}
		now.order[row.ID] = len(now.order)
		if !r.knows(row) {
			now.fresh++
		}
	}
}
