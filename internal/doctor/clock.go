package doctor

import (
	"context"
	"fmt"
	"time"

	"github.com/sluice-etl/sluice/extract"
)

// skew narrows down how far the source's clock is ahead of ours: the source
// stamped each answer, cut to the second, between its request and its arrival.
type skew struct {
	low, high time.Duration // bounds by all answers together
	dated     int
	undated   int
	cached    int
	torn      bool // no one skew fits all answers
}

func elapsed(r extract.Response) time.Duration { return r.ReceivedAt.Sub(r.SentAt) }

func (s *skew) add(r extract.Response) {
	switch {
	case r.ReceivedAt.IsZero(): // no answer
		return
	case r.Cached:
		s.cached++
		return
	case r.Date.IsZero():
		s.undated++
		return
	}
	low, high := r.Date.Sub(r.ReceivedAt), r.Date.Add(dateStep).Sub(r.SentAt)
	if s.dated++; s.dated == 1 {
		s.low, s.high = low, high
		return
	}
	s.low, s.high = max(s.low, low), min(s.high, high)
	s.torn = s.torn || s.low > s.high
}

const (
	smallSkew   = time.Minute     // not worth a word
	trustedSkew = 2 * time.Second // a Date is believed within it under any lookback
)

func (e *exam) checkClock(context.Context) (finding, error) {
	s := e.clock
	const printed = "A run then takes the end of what is final from the newest printed times instead: safe, but a quiet source moves its cursor late."
	switch {
	case s.dated == 0 && s.cached > 0:
		return finding{Note, fmt.Sprintf("%s came from a cache (an Age or cache header).", plural(s.cached, "answer", "answers")), "A cache may serve yesterday's contacts: take this path out of it. " + printed}, nil
	case s.dated == 0 && s.undated > 0:
		return finding{Note, "Answers carry no Date.", printed}, nil
	case s.dated == 0:
		return unknown("No answer came."), nil
	case s.torn:
		return finding{Note, fmt.Sprintf("The Date headers of %s disagree with each other: several clocks answer, or one was set meanwhile.", plural(s.dated, "answer", "answers")), "lookback must cover how far they are apart."}, nil
	}
	least := time.Duration(0) // the skew is at least this
	switch {
	case s.low > 0:
		least = s.low
	case s.high < 0:
		least = -s.high
	}
	bounds := between(s.low, s.high)
	found := "The source's clock and this machine's agree (" + bounds + ")."
	if least > 0 {
		found = fmt.Sprintf("The source's clock is %s this machine's (%s by %s).", offset(s.low, s.high), bounds, plural(s.dated, "answer", "answers"))
	}
	if n := s.cached + s.undated; n > 0 {
		found += fmt.Sprintf(" %s had no Date of their own.", plural(n, "answer", "answers"))
	}
	switch {
	case least > max(e.o.Lookback, trustedSkew):
		e.suggest(keyLookback, "lookback: "+setting(2*least), "the clocks are "+span(least)+" apart; better, set this machine's clock by NTP")
		return finding{Problem, found, "That is more than the lookback of " + span(e.o.Lookback) + ", so Sluice does not believe the source's Date, and where this machine's clock is behind, runs end early. Set this machine's clock by NTP, or set lookback: " + setting(2*least) + "."}, nil
	case least > smallSkew:
		return finding{Note, found, "lookback covers it. Set this machine's clock by NTP, unless the source's is the wrong one."}, nil
	default:
		return finding{OK, found, ""}, nil
	}
}

// between prints a range, both of its ends in one unit.
func between(low, high time.Duration) string {
	if high-low < time.Minute && min(low.Abs(), high.Abs()) > 2*time.Minute { // seconds apart, and far off
		return "about " + signed((low+high)/2)
	}
	from, to := signed(low), signed(high)
	if from == to {
		return from
	}
	return from + " to " + to
}

func signed(d time.Duration) string {
	if d < 0 {
		return "-" + span(d)
	}
	return "+" + span(d)
}

func offset(low, high time.Duration) string {
	if low > 0 {
		return span((low+high)/2) + " ahead of"
	}
	return span((low+high)/2) + " behind"
}

const keyResponseTimeout = "sources.*.response_timeout"

// checkTimes compares the slowest answer with the time an answer may take.
func (e *exam) checkTimes(context.Context) (finding, error) {
	if len(e.pages) == 0 {
		return unknown("No page came."), nil
	}
	slowest := e.pages[0]
	var total time.Duration
	for _, p := range e.pages {
		total += elapsed(p.resp)
		if elapsed(p.resp) > elapsed(slowest.resp) {
			slowest = p
		}
	}
	limit := e.o.Source.ResponseHeaderTimeout
	if limit <= 0 {
		limit = time.Minute
	}
	d := elapsed(slowest.resp)
	found := fmt.Sprintf("%s took %s on average; the slowest %s, for %s of %s.",
		plural(len(e.pages), "page", "pages"), span(total/time.Duration(len(e.pages))), span(d), contacts(len(slowest.rows)), slowest.request)
	if 3*d >= limit {
		e.suggest(keyResponseTimeout, "response_timeout: "+setting(6*d), "the slowest answer took "+span(d))
		return finding{Note, found, fmt.Sprintf("response_timeout is %s: set it to %s or more, or lower page_size.", span(limit), setting(6*d))}, nil
	}
	return finding{OK, found, ""}, nil
}
