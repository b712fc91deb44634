package extract

import (
	"context"
	"fmt"
)

// A block is what a page cannot get past: rows printed within a few
// milliseconds of the mark, so that the mark cannot follow the page. It is
// read by offset, and since rows leave the list while it is read, an offset
// means nothing by itself: a page counts only where it overlaps what was
// delivered before it (DESIGN section 3.2).
type block struct {
	bound int64 // least finality bound of its pages
	now   int64 // the source's time at its last page
	tie   TieBlock
	bare  bool // its first page has no row with a time

	pass       int32
	next       int32 // position of the next row new to this pass
	confirming bool
	surprises  int // rows of the block that only a confirming pass brought
	restarts   int

	end     int   // position in the source's list after the last accepted row
	width   int   // rows on the last accepted page
	several bool  // this pass has accepted a page at an offset
	last    int64 // last printed time accepted
}

// verdict is how a pass ended.
type verdict int

const (
	passOn       verdict = iota // it has not
	passLeft                    // a page reached past the block
	passEnded                   // the source has no row after it
	passUnstable                // the order changed, or nothing can be told
)

// edge is the last printed time that a block at the mark has to hold. Three
// milliseconds are drained together so that the request after the block does
// not show the tie again: a row printed T is later than T. Where whole pages of
// rows without a time stand between the mark and the next row with one, the
// block reaches up to that row.
func (r *runner) edge() int64 { return max(r.mark+2*milli, r.firstTime) }

// widen looks for the first row with a time behind pages without any. Else the
// mark would follow such pages by a few milliseconds at a time, for years of
// them.
func (r *runner) widen(ctx context.Context) error {
	for offset := 0; ; {
		q, err := r.fetch(ctx, offset)
		if err != nil {
			return err
		}
		r.out.Discarded++
		if q.anyValid {
			r.firstTime = floorMilli(q.first)
		}
		if q.anyValid || len(q.rows) == 0 {
			return nil
		}
		offset += max(1, len(q.rows)-len(q.rows)/5)
	}
}

// drain reads the block that p, the page right after the mark, cannot get
// past.
func (r *runner) drain(ctx context.Context, p page) (done bool, err error) {
	before := r.out.Requests - p.resp.Requests
	b := &block{bound: r.bound(p), tie: TieBlock{At: r.mark}, bare: !p.anyValid}
	r.firstTime = never
	v, err := r.readAnchored(ctx, b, p)
	if err == nil && v != passUnstable && b.several && r.keeps(ruleConfirm) {
		v, err = r.confirm(ctx, b)
	}
	if err == nil && v == passUnstable {
		v, err = r.repeat(ctx, b)
	}
	if err != nil {
		return false, err
	}
	if b.tie.Passes > 1 || b.tie.Statistical {
		b.tie.Requests = r.out.Requests - before
		for _, s := range r.recent {
			if s.key <= r.edge() {
				b.tie.Size++
			}
		}
		r.tied(b.tie)
	}
	if v == passLeft {
		// A slice may end here too. What its last page holds past the block is
		// then read twice; a source of nothing but ties has no better place.
		if to := r.reach(b.last); to <= r.horizon(b.now) && r.endsSlice(to, r.out.Pages, r.out.Rows) {
			r.trim = to
		}
		return r.leave(ctx, b.last, b.bound, b.now)
	}
	return true, r.endOfRows(ctx, b)
}

// endOfRows settles a walk whose end was shown. Nothing lay past the last row
// when that was seen, so all time up to the lookback before that moment is
// final, not only what lies before the last row.
func (r *runner) endOfRows(ctx context.Context, b *block) error {
	to := max(min(r.reach(b.last), r.horizon(b.now)), r.mark)
	if r.w.Until > 0 {
		to = r.w.Until - milli
	} else if r.keeps(ruleFinality) {
		to = max(to, b.bound)
	}
	r.settle(to, b.bound)
	return r.finish(ctx, EndOfRows)
}

// confirm reads an anchored block a second time: a row that changed its place
// behind the anchors shows only so.
func (r *runner) confirm(ctx context.Context, b *block) (verdict, error) {
	b.confirming = true
	var p page
	// The first page is asked for twice: a source that answers from two
	// replicas in turn would otherwise give each pass the same wrong orders.
	for range 2 {
		var err error
		if p, err = r.fetch(ctx, 0); err != nil {
			return passOn, err
		}
		if len(p.rows) == 0 {
			return b.unstable("the rows were gone when they were read again"), nil
		}
		if !b.match(r, p).sameAsBefore {
			return b.unstable("ties changed their order"), nil
		}
		if err := r.stage(ctx, p, never); err != nil {
			return passOn, err
		}
	}
	v, err := r.readAnchored(ctx, b, p)
	if err == nil && v != passUnstable && b.surprises > 0 {
		return b.unstable(fmt.Sprintf("a confirming pass brought %d new rows", b.surprises)), nil
	}
	return v, err
}

// unstable notes why anchors do not carry this block.
func (b *block) unstable(why string) verdict {
	b.tie.Why = why
	return passUnstable
}

// place notes an accepted page: where its rows stand in the pass and where it
// ends in the source's list. A page at offset 0 starts the pass anew, as
// nothing comes before it but the mark.
func (b *block) place(r *runner, p page) verdict {
	if p.offset == 0 {
		b.pass++
		b.next, b.several = 0, false
	} else {
		b.several = true
	}
	for i := range p.rows {
		row := &p.rows[i]
		s, ok := r.recent[row.ID]
		if row.Invalid || !ok || s.key != r.key(row) || s.pass == b.pass {
			continue
		}
		s.pass, s.cur = b.pass, b.next
		b.next++
		if !b.confirming {
			s.ref = s.cur
		} else if s.ref == absent && s.key <= r.edge() {
			s.ref = noticed
			b.surprises++
		}
		r.recent[row.ID] = s
	}
	b.end, b.width = p.offset+len(p.rows), len(p.rows)
	b.bound, b.now = min(b.bound, r.bound(p)), r.now(p)
	if !p.anyValid {
		return passOn
	}
	b.last = p.last
	beyond := floorMilli(p.last) > r.edge() || p.offset == 0 && r.reach(p.last) > r.mark
	if beyond || r.past(p) {
		return passLeft
	}
	return passOn
}

// Values of sighting.ref besides positions.
const (
	absent  = -1 // not in the first pass
	noticed = -2 // nor there, and counted as a surprise
)

// match compares a page with what this pass, and the pass before it,
// delivered.
type match struct {
	common       int  // rows of the page that this pass has delivered
	fresh        int  // rows that it has not
	ordered      bool // the common rows come first, in the same order
	sameAsBefore bool // the rows of the pass to be confirmed come in its order
}

func (b *block) match(r *runner, p page) match {
	m := match{ordered: true, sameAsBefore: true}
	cur, ref := int32(-1), int32(-1)
	for i := range p.rows {
		row := &p.rows[i]
		if row.Invalid || i > 0 && row.ID == p.rows[i-1].ID {
			continue
		}
		s, ok := r.recent[row.ID]
		ok = ok && s.key == r.key(row)
		if ok && b.confirming && s.ref >= 0 {
			if s.ref <= ref {
				m.sameAsBefore = false
			}
			ref = s.ref
		}
		if !ok || s.pass != b.pass {
			m.fresh++
			continue
		}
		if m.fresh > 0 || s.cur <= cur {
			m.ordered = false
		}
		cur = s.cur
		m.common++
	}
	return m
}
