package extract

import (
	"cmp"
	"math"
	"slices"
)

// Interval is a stretch of one timestamp, as marks: it holds the rows printed
// after From, and at or before Until. Microseconds since 1970 UTC.
type Interval struct {
	From  int64 `json:"from"`
	Until int64 `json:"until,omitempty"` // 0: no end
}

// end returns Until as a number that compares.
func (iv Interval) end() int64 {
	if iv.Until == 0 {
		return math.MaxInt64
	}
	return iv.Until
}

// upTo returns the interval from `from` to end, whatever an end of 0 would say.
func upTo(from, end int64) Interval {
	switch end {
	case math.MaxInt64:
		end = 0
	case 0:
		end = -1 // the end of time 0 cannot be told from no end; one less is no loss
	}
	return Interval{From: from, Until: end}
}

// MergeIntervals returns what the intervals hold together, in order, without
// overlaps, and joined where one ends as the next begins. Empty ones vanish.
func MergeIntervals(ivs []Interval) []Interval {
	sorted := slices.Clone(ivs)
	slices.SortFunc(sorted, func(a, b Interval) int { return cmp.Compare(a.From, b.From) })
	var out []Interval
	for _, iv := range sorted {
		if iv.end() <= iv.From {
			continue
		}
		if n := len(out); n > 0 && iv.From <= out[n-1].end() {
			out[n-1].Until = upTo(0, max(out[n-1].end(), iv.end())).Until
			continue
		}
		out = append(out, iv)
	}
	return out
}

// Uncovered returns what is left of the intervals once covered is taken from
// them, in order: the Remaining of a Scan that goes on where another stopped.
func Uncovered(of, covered []Interval) []Interval {
	covered = MergeIntervals(covered)
	var out []Interval
	for _, iv := range MergeIntervals(of) {
		from := iv.From
		for _, c := range covered {
			if c.end() <= from || c.From >= iv.end() {
				continue
			}
			if c.From > from {
				out = append(out, upTo(from, c.From))
			}
			from = c.end()
		}
		if from < iv.end() {
			out = append(out, upTo(from, iv.end()))
		}
	}
	return out
}

// WindowSink is a Sink that is also told which stretch its rows belong to, so
// that a part can be journalled with what it completes (see Stretches).
type WindowSink interface {
	Sink
	// Window says that the pages that follow are read for iv, until the next
	// call. The Progress of each Advance in between speaks of iv alone: once
	// what has been staged is sealed, (iv.From, Progress.Final] is complete.
	// Several calls may go on one after the other along the same stretch.
	Window(iv Interval) error
}

// Stretches notes for a WindowSink what its staged rows complete. The zero
// value is ready. Call Window and Advance from the methods of these names, and
// Seal once a part with all rows staged so far is durable: what it returns is
// to be journalled with that part. A later Scan over the Uncovered of all that
// was journalled goes on from there.
type Stretches struct {
	now  Interval // the stretch being read, as far as it is final and not yet sealed
	rest []Interval
}

// Window starts a stretch.
func (s *Stretches) Window(iv Interval) {
	s.keep()
	s.now = Interval{From: iv.From, Until: iv.From}
}

// Advance notes how far the stretch is complete.
func (s *Stretches) Advance(p Progress) { s.now.Until = max(s.now.Until, p.Final) }

// Seal returns what the rows staged up to the last Advance complete, merged,
// and has not been returned before.
func (s *Stretches) Seal() []Interval {
	s.keep()
	s.now.From = s.now.Until
	done := MergeIntervals(s.rest)
	s.rest = nil
	return done
}

func (s *Stretches) keep() {
	if s.now.Until > s.now.From {
		s.rest = append(s.rest, upTo(s.now.From, s.now.Until))
	}
}
