package extract

import (
	"context"
	"errors"
	"net/url"
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

// Run reads until everything in Remaining is delivered, an error, or the end of
// ctx. Where a worker fails the others stop at their next request, and the
// first error is returned. The ScanOutcome is valid in every case, and no sink
// has been advanced past what it holds.
func (s *Scan) Run(context.Context) (ScanOutcome, error) {
	return ScanOutcome{}, errors.New("scan: not yet")
}
