package extract

import (
	"context"
	"fmt"
)

const (
	// quietPasses in a row that bring nothing new end a statistical drain. Each
	// pass over k pages of a freshly shuffled tie misses a given row with a
	// chance of at most about 0.37, so ten miss it once in 20,000 times, and the
	// overlap makes that rarer still.
	quietPasses = 10
	// maxPasses ends the attempt: a block that brings new rows for so long is
	// not a tie.
	maxPasses = 300
)

// TieError says that a block kept bringing new rows.
type TieError struct {
	At     int64 // microseconds since 1970 UTC
	Passes int64
}

// Error names the time and the passes.
func (e *TieError) Error() string {
	return fmt.Sprintf("drain tie at %s: %d passes and still new rows", FormatTime(e.At), e.Passes)
}

// Hint says what to do.
func (e *TieError) Hint() string {
	return "many contacts share this timestamp and the endpoint returns them in a new order each time; a larger page_size makes them fit fewer pages"
}

// repeat reads a block over and over, by plain offsets, until passes in a row
// bring nothing new.
func (r *runner) repeat(ctx context.Context, b *block) (verdict, error) {
	b.tie.Statistical = true
	if !r.keeps(ruleStatistical) {
		b.last = max(b.last, r.edge()+milli)
		return passLeft, nil
	}
	if b.bare {
		if err := r.widen(ctx); err != nil {
			return passOn, err
		}
	}
	v := passOn
	for quiet := 0; quiet < quietPasses; {
		if b.tie.Passes >= maxPasses {
			return passOn, &TieError{At: b.tie.At, Passes: b.tie.Passes}
		}
		b.tie.Passes++
		fresh, end, err := r.sweep(ctx, b)
		if err != nil {
			return passOn, err
		}
		v = end
		quiet++
		if fresh > 0 {
			quiet = 0
		}
	}
	return v, nil
}

// sweep reads the block once by offsets that overlap by chance, and counts the
// rows of the block not met before. The steps vary, and a page is asked for
// twice by chance: a source that answers in a cycle, such as two replicas in
// turn, would otherwise show the same rows in every pass.
func (r *runner) sweep(ctx context.Context, b *block) (fresh int, v verdict, err error) {
	again := false
	for offset := 0; ; {
		p, err := r.fetch(ctx, offset)
		if err != nil {
			return 0, passOn, err
		}
		if len(p.rows) == 0 {
			return fresh, passEnded, nil
		}
		fresh += r.unmet(b, p)
		if err := r.stage(ctx, p, never); err != nil {
			return 0, passOn, err
		}
		b.bound, b.now = min(b.bound, r.bound(p)), r.now(p)
		if !again && r.rng.IntN(2) == 0 {
			again = true
			continue
		}
		again = false
		if p.anyValid && (floorMilli(p.last) > r.edge() || r.past(p)) {
			b.last = p.last
			if p.first > r.edge() {
				// Rows may have slipped between the last page and this one.
				b.last = r.edge() + milli
			}
			return fresh, passLeft, nil
		}
		n := len(p.rows)
		least, most := max(1, n/2), max(1, n-max(minAnchor, n/5))
		offset += least + r.rng.IntN(max(1, most-least+1))
	}
}

// unmet counts the rows of p that belong to the block and were in no pass yet.
func (r *runner) unmet(b *block, p page) int {
	n, last := 0, r.edge()
	if r.w.Until > 0 {
		last = min(last, r.w.Until-1)
	}
	for i := range p.rows {
		row := &p.rows[i]
		s, ok := r.recent[row.ID]
		if !row.Invalid && r.key(row) <= last && (!ok || s.key != r.key(row)) {
			n++
		}
	}
	return n
}
