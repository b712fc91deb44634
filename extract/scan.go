package extract

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-etl/sluice/internal/clock"
)

// Scan reads a range of one timestamp in windows, several at a time (DESIGN
// section 3.5). Windows that hold much are split while others have nothing
// left to do. ByCreated reads what nothing moves in; ByUpdated is as safe, for
// a row that leaves a window goes to the end of time, past what any window
// calls final. A Scan is used once.
type Scan struct {
	Client Pager // called from all workers at once
	Key    Key
	// Remaining is what is left to read. An interval without an end is read up
	// to StopAt, by the rules of Walk. Intervals that overlap are merged.
	Remaining []Interval
	// StopAt, Lookback, PageSize, Days, Filters, Clock and Seed are those of
	// Walk. All windows share one end: the source's Date on the first answer,
	// where it has one, else StopAt.
	StopAt   time.Time
	Lookback time.Duration
	PageSize int
	Days     int
	Filters  url.Values
	Clock    clock.Clock
	Seed     uint64
	// Workers is the most windows in flight, 1 to 64. 0: 1. The client's own
	// limits hold besides.
	Workers int
	// SlicePages is the number of pages read of a window before it is planned
	// anew. 0: 4.
	SlicePages int
	// Sink returns the sink of a worker, 0 to Workers - 1. It is called from
	// Run's goroutine, once for each worker that gets work; from then to the
	// end of Run one goroutine alone uses that sink.
	Sink func(worker int) WindowSink

	without rule // rules taken out, by the simulation alone
}

// ScanOutcome is what a scan did. It is also filled in when the scan fails.
type ScanOutcome struct {
	// Outcome sums up all walks. Its Progress is that of one walk over
	// Remaining: Mark and Final end at the first gap, and what lies between the
	// intervals of Remaining counts as delivered. Ties are in order, ReadSince
	// is the earliest, EndReason is that of the last stretch.
	Outcome
	// Covered is what is final, merged: a later Scan reads the Uncovered.
	// Without failure and up to the lookback before the source's clock it is
	// Remaining.
	Covered []Interval
	// Windows is the number of windows read, those made by splitting included.
	Windows int
}

// The defaults and bounds of a scan.
const (
	maxWorkers        = 64
	defaultSlicePages = 4
)

// Run reads until everything in Remaining is delivered, an error, or the end of
// ctx. Where a worker fails the others stop at their next request, and the
// first error is returned. The ScanOutcome is valid in every case, and no sink
// has been advanced past what it holds.
func (s *Scan) Run(ctx context.Context) (ScanOutcome, error) {
	r, err := s.newRun()
	if err != nil {
		return ScanOutcome{}, err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var workers sync.WaitGroup
	for {
		r.assign(ctx, &workers)
		if r.busy == 0 {
			break
		}
		done := <-r.done
		r.busy--
		r.account(done)
		if done.err != nil && r.err == nil {
			r.err = done.err // it names its request, and with it the place
			stop(done.err)
		}
		if r.err == nil {
			r.plan(done)
		}
	}
	for _, tasks := range r.tasks {
		close(tasks)
	}
	workers.Wait()
	return r.finish()
}

// scanRun is the state of one scan. Its goroutine plans; a worker reads one
// slice of a window at a time, and says what came of it.
type scanRun struct {
	s     Scan // defaults filled in
	todo  []Interval
	queue []window      // to be read, in order
	idle  []int         // workers that have nothing to do, in order
	tasks []chan window // by worker
	done  chan slice
	busy  int
	// hungry is the number of workers for which there is no window. Workers
	// look at it after each page: who reads a window that is worth splitting
	// hands it in.
	hungry atomic.Int64
	cut    bool // the range has been cut into windows

	stop      int64      // the source's time at which the scan ends; 0: not known yet
	delivered []Interval // by marks
	final     []Interval
	closed    []Interval // past the end of the list, or of the scan
	last      int64      // where the last stretch begins that has been read to its end
	out       ScanOutcome
	err       error
}

// window is a stretch of time to be read.
type window struct {
	Interval
	begins bool  // Remaining begins it, not a mark of this scan
	pages  int   // the most to read in one go
	stop   int64 // of the scan
}

// slice is what a worker has read of a window.
type slice struct {
	window
	worker int
	out    Outcome
	stop   int64
	err    error
}

func (s *Scan) newRun() (*scanRun, error) {
	r := &scanRun{s: *s, todo: MergeIntervals(s.Remaining), last: never}
	if r.s.Workers == 0 {
		r.s.Workers = 1
	}
	if r.s.SlicePages == 0 {
		r.s.SlicePages = defaultSlicePages
	}
	if r.s.PageSize == 0 {
		r.s.PageSize = maxPageSize
	}
	if r.s.Clock == nil {
		r.s.Clock = clock.System{}
	}
	if r.s.StopAt.IsZero() {
		r.s.StopAt = r.s.Clock.Now()
	}
	switch {
	case s.Client == nil:
		return nil, errors.New("start scan: no client")
	case s.Sink == nil:
		return nil, errors.New("start scan: no sink")
	case r.s.Workers < 1 || r.s.Workers > maxWorkers:
		return nil, fmt.Errorf("start scan: %d workers are not from 1 to %d", r.s.Workers, maxWorkers)
	case r.s.SlicePages < 0:
		return nil, fmt.Errorf("start scan: %d pages at a time is negative", r.s.SlicePages)
	}
	r.done = make(chan slice, r.s.Workers)
	for i := range r.s.Workers {
		r.idle = append(r.idle, i)
	}
	r.out.Assumptions = r.walk(window{}).assumptions()
	if len(r.todo) > 0 { // one page shows what time it is, and where the rows begin
		r.queue, r.out.Windows = []window{{Interval: r.todo[0], begins: true, pages: 1}}, 1
	}
	return r, nil
}

// assign hands windows to the workers that have none, and starts a worker when
// there is work for it.
func (r *scanRun) assign(ctx context.Context, workers *sync.WaitGroup) {
	for len(r.idle) > 0 && len(r.queue) > 0 {
		i, w := r.idle[0], r.queue[0]
		r.idle, r.queue = r.idle[1:], r.queue[1:]
		if i == len(r.tasks) { // the first that is idle has the least number, so they start in order
			tasks, sink := make(chan window, 1), r.s.Sink(i)
			r.tasks = append(r.tasks, tasks)
			workers.Go(func() {
				for w := range tasks {
					done := r.read(ctx, sink, w)
					done.worker = i
					r.done <- done
				}
			})
		}
		r.busy++
		r.tasks[i] <- w
	}
	r.hungry.Store(0)
	if r.cut && r.err == nil {
		r.hungry.Store(int64(len(r.idle)))
	}
}

// walk returns the walk along one window.
func (r *scanRun) walk(w window) *Walk {
	s := &r.s
	walk := &Walk{
		Client: s.Client, Key: s.Key, From: w.From, StopAt: s.StopAt, Lookback: s.Lookback,
		PageSize: s.PageSize, Days: s.Days, Filters: s.Filters, Clock: s.Clock,
		Seed: s.Seed + uint64(w.From), MaxPages: w.pages,
		after: !w.begins, stopAt: w.stop, without: s.without,
	}
	if w.Until != 0 {
		// A border is a mark, and what is printed at it belongs to the window
		// that it ends.
		walk.Until = w.Until + milli
	}
	if w.stop != 0 {
		walk.yield = func(mark, rows int64) bool {
			return r.hungry.Load() > 0 && r.pagesLeft(min(w.end(), w.stop), w.From, mark, rows) >= minSplit
		}
	}
	return walk
}

// read reads a slice of a window.
func (r *scanRun) read(ctx context.Context, sink WindowSink, w window) slice {
	done := slice{window: w, out: Outcome{Progress: Progress{Mark: w.From, Final: w.From}}}
	if err := sink.Window(w.Interval); err != nil {
		done.err = fmt.Errorf("start window: %w", err)
		return done
	}
	run, err := r.walk(w).newRunner(sink)
	if err != nil {
		done.err = err
		return done
	}
	done.err = run.run(ctx)
	done.out, done.stop = run.out, run.stop
	if done.out.Mark == 0 && w.From < 0 { // see upTo
		done.out.Mark, done.out.Final = -1, min(done.out.Final, -1)
	}
	return done
}
