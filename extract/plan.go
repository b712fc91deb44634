package extract

import (
	"cmp"
	"fmt"
	"slices"
)

// minSplit is the number of pages that have to be left of a window for a
// split to be worth it: each window reads about half a page past its end.
const minSplit = 2

// plan takes a worker back and puts what is left of its window into the
// queue, split where others wait for work.
func (r *scanRun) plan(done slice) {
	i, _ := slices.BinarySearch(r.idle, done.worker)
	r.idle = slices.Insert(r.idle, i, done.worker)
	var left []window
	if done.out.EndReason == EndOfSlice {
		left = append(left, window{Interval: upTo(done.out.Mark, done.end())})
	}
	switch {
	case !r.cut:
		r.cut = true
		goesOn := len(left)
		for _, iv := range r.todo[1:] {
			left = append(left, window{Interval: iv, begins: true})
		}
		left = r.spread(left)
		r.out.Windows += len(left) - goesOn
	case len(left) > 0:
		// The worker itself is idle again, and has its own share.
		want := len(r.idle) - len(r.queue)
		if pages := r.pagesLeft(done.window, done.out.Mark, done.out.Rows); pages >= minSplit {
			left = r.split(left[0], min(want, max(minSplit, int(pages/minSplit))))
		}
		r.out.Windows += len(left) - 1
	}
	for _, w := range left {
		w.pages, w.stop = r.s.SlicePages, r.stop
		r.queue = append(r.queue, w)
	}
	slices.SortFunc(r.queue, func(a, b window) int { return cmp.Compare(a.From, b.From) })
}

// spread cuts the windows so that each worker has about the same time to read.
func (r *scanRun) spread(ws []window) []window {
	var total float64
	for _, w := range ws {
		total += r.length(w, w.From)
	}
	var out []window
	for _, w := range ws {
		n := 1
		if total > 0 {
			n = max(1, int(r.length(w, w.From)*float64(r.s.Workers)/total+0.5))
		}
		out = append(out, r.split(w, n)...)
	}
	return out
}

// split cuts a window into n of the same length, or fewer where milliseconds
// are too coarse for it.
func (r *scanRun) split(w window, n int) []window {
	if n < 2 {
		return []window{w}
	}
	var out []window
	from, step := w.From, int64(r.length(w, w.From))/int64(n)
	for k := range int64(n - 1) {
		border := floorMilli(w.From + (k+1)*step)
		if border <= from || border >= w.end() || border == 0 {
			continue
		}
		piece := window{Interval: upTo(from, border), begins: w.begins && len(out) == 0}
		from = border
		switch {
		case r.s.without&ruleBorderHeld != 0:
			piece.Until -= milli
		case r.s.without&ruleBorderOnce != 0:
			from -= milli
		}
		out = append(out, piece)
	}
	if len(out) > 0 && r.s.without&ruleRemainder != 0 {
		return out
	}
	return append(out, window{Interval: upTo(from, w.end()), begins: w.begins && len(out) == 0})
}

// length is the time from `from` to the end of a window or the scan, in
// microseconds.
func (r *scanRun) length(w window, from int64) float64 {
	return float64(max(0, min(w.end(), r.stop)-from))
}

// pagesLeft estimates the pages left of a window at a mark, if they lie as
// close as what has been read of it.
func (r *scanRun) pagesLeft(w window, mark, rows int64) float64 {
	left := float64(max(0, min(w.end(), w.stop)-mark))
	return left * float64(rows) / float64(max(1, mark-w.From)) / float64(r.s.PageSize)
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
