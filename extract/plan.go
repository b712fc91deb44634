package extract

import (
	"cmp"
	"fmt"
	"slices"
)

// minSplit is the number of pages that have to be left of a window for a
// split to be worth it: each window reads about half a page past its end, and
// asks twice where it is empty.
const minSplit = 2

// plan takes a worker back and puts what is left of its window into the
// queue, in two halves where others wait for work. Halving what promises more
// pages, again and again, has all workers busy after a few pages of a long
// history, and costs a short one no request: nobody knows beforehand where the
// rows are.
func (r *scanRun) plan(done slice) {
	i, _ := slices.BinarySearch(r.idle, done.worker)
	r.idle = slices.Insert(r.idle, i, done.worker)
	var left []window
	if !r.cut { // one page has shown what time it is
		r.cut = true
		for _, iv := range r.todo[1:] {
			left = append(left, window{Interval: iv, begins: true})
		}
		r.out.Windows += len(left)
	}
	if done.out.EndReason == EndOfSlice {
		rest := []window{{Interval: upTo(done.out.Mark, done.end())}}
		// The worker itself is idle again, and has its own share.
		spare := len(r.idle) - len(r.queue) - len(left)
		if spare > 1 && r.pagesLeft(min(done.end(), r.stop), done.From, done.out.Mark, done.out.Rows) >= minSplit {
			rest = r.halve(rest[0])
		}
		r.out.Windows += len(rest) - 1
		left = append(left, rest...)
	}
	for _, w := range left {
		w.pages, w.stop = r.s.SlicePages, r.stop
		r.queue = append(r.queue, w)
	}
	slices.SortFunc(r.queue, func(a, b window) int { return cmp.Compare(a.From, b.From) })
}

// halve cuts a window into two of the same length, unless milliseconds are too
// coarse for it.
func (r *scanRun) halve(w window) []window {
	border := floorMilli(w.From + max(0, min(w.end(), r.stop)-w.From)/2)
	if border <= w.From || border >= w.end() || border == 0 {
		return []window{w}
	}
	first := window{Interval: upTo(w.From, border), begins: w.begins}
	switch {
	case r.s.without&ruleRemainder != 0:
		return []window{first}
	case r.s.without&ruleBorderHeld != 0:
		first.Until -= milli
	case r.s.without&ruleBorderOnce != 0:
		border -= milli
	}
	return []window{first, {Interval: upTo(border, w.end())}}
}

// pagesLeft estimates the pages between a mark and an end, if their rows lie as
// close as those read between since and the mark.
func (r *scanRun) pagesLeft(end, since, mark, rows int64) float64 {
	return float64(max(0, end-mark)) * float64(rows) / float64(max(1, mark-since)) / float64(r.s.PageSize)
}

// account notes what a slice has read.
func (r *scanRun) account(done slice) {
	from, end := done.From, done.end()
	if r.stop == 0 {
		r.stop = done.stop
	}
	final := done.out.Final
	if r.s.without&ruleFinalOnly != 0 {
		final = done.out.Mark
	}
	if mark := min(done.out.Mark, end); mark > from {
		r.delivered = append(r.delivered, upTo(from, mark))
	}
	if final = min(final, end); final > from {
		r.final = append(r.final, upTo(from, final))
	}
	switch why := done.out.EndReason; why {
	case EndOfRows, EndAtStop, EndAtUntil:
		if done.out.Mark < end {
			r.closed = append(r.closed, upTo(done.out.Mark, end))
		}
		if from >= r.last {
			r.last, r.out.EndReason = from, why
		}
	case EndOfSlice, EndUnreached:
	}
	since := r.out.ReadSince
	r.out.Add(done.out)
	if r.s.without&ruleEarliest != 0 && since != 0 {
		r.out.ReadSince = max(since, done.out.ReadSince)
	}
}

// GapError says that a scan missed a stretch: a bug of the scan's own, found
// before anything is built on it.
type GapError struct {
	Key     Key
	Missing []Interval
}

// Error names the first stretch.
func (e *GapError) Error() string {
	first := e.Missing[0]
	return fmt.Sprintf("scan by %s left a gap from %s to %s (%d in all)", e.Key, FormatTime(first.From), FormatTime(first.Until), len(e.Missing))
}

// Hint says what to do.
func (e *GapError) Hint() string {
	return "this is a bug: report it with the run's log. Nothing is lost, a run with concurrency 1 reads the stretch again"
}

// finish sums up, and checks that nothing was forgotten.
func (r *scanRun) finish() (ScanOutcome, error) {
	out := r.out
	out.Covered = MergeIntervals(r.final)
	out.Mark, out.Final = prefix(r.todo, r.delivered), prefix(r.todo, r.final)
	slices.SortStableFunc(out.Ties, func(a, b TieBlock) int { return cmp.Compare(a.At, b.At) })
	if r.err != nil {
		out.EndReason = EndUnreached
		return out, r.err
	}
	if gaps := Uncovered(r.todo, append(r.delivered, r.closed...)); len(gaps) > 0 && r.s.without&ruleUnion == 0 {
		out.EndReason = EndUnreached
		return out, &GapError{Key: r.s.Key, Missing: gaps}
	}
	return out, nil
}

// prefix returns how far the intervals are covered from their beginning on.
func prefix(of, covered []Interval) int64 {
	at := int64(0)
	covered = MergeIntervals(covered)
	for _, iv := range of {
		at = iv.From
		for _, c := range covered {
			if c.From <= at && c.end() > at {
				at = c.end()
			}
		}
		if at < iv.end() {
			break
		}
	}
	return at
}
