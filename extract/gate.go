package extract

import (
	"context"
	"slices"
	"sync"
	"time"
)

// gate bounds the requests in flight to a host by what the host takes well.
//
// Additive increase, multiplicative decrease, as TCP does since Jacobson
// (1988): the limit starts at two, grows by one after as many answers as it
// allows in flight, if that many were, and halves at a 429, a 503 or a timeout,
// once for all requests that were under way (RFC 6582 does so within a round
// trip). It does not grow while fewer requests are sent than it allows, as that
// shows nothing (RFC 7661), and it comes back only slowly to where it was
// refused (as CUBIC does, RFC 9438): each try costs the source a few 429.
//
// Besides, it gives way before requests fail. The mean latency of some answers
// is compared with the least such mean so far: above twice that, the limit is
// multiplied by twice the least over the present, at least by a half (the
// gradient of Netflix's concurrency-limits, with its tolerance of 2), and does
// not grow until latency is down. Means, not single answers: an empty page
// costs the source less than a full one. A limit that is down to two and slow
// all the same is not what makes the source slow, so after five such means in a
// row the least is taken anew (the rule and the number of Envoy's adaptive
// concurrency filter).
type gate struct {
	bound int // never more than that

	mu      sync.Mutex
	limit   int
	held    int             // places taken: requests in flight, and those waiting for the rate
	waiting []chan struct{} // in order; closed when a place is given
	sent    int             // requests in flight
	stats   ConcurrencyStats
	era     int64 // counts decreases: what was sent before one does not cause another

	answers int  // towards the next increase
	filled  bool // as many were in flight as allowed since the last change
	refused int  // the limit at the last 429; 0: none, or it has been passed since

	samples int           // towards the next mean
	total   time.Duration // of their latencies
	least   time.Duration // mean; 0: none yet
	slow    bool          // the last mean was above the tolerance
	stuck   int           // such means in a row with the limit at its least
}

const (
	startInFlight    = 2 // and the least that latency alone leads to
	meanOf           = 8 // answers, at least
	latencyTolerance = 2
	stuckMeans       = 5
	patience         = 16 // times the answers, before a limit that was refused is tried again
)

// ConcurrencyStats is the state of the limit on requests in flight, which all
// clients of a host share.
type ConcurrencyStats struct {
	Limit    int   `json:"limit"`    // requests that may be in flight now
	Peak     int   `json:"peak"`     // most that ever were
	Backoffs int64 `json:"backoffs"` // times the limit was lowered
}

// verdict of an attempt, as the gate sees it.
type loadSign int

const (
	signNone     loadSign = iota // nothing to learn: a broken body, a refused parameter
	signAnswered                 // a page came
	signOverload                 // 429, 503, timeout
)

func newGate(bound int) *gate {
	return &gate{bound: bound, limit: min(startInFlight, bound)}
}

// enter waits for a place. leave must follow where it returns nil.
func (g *gate) enter(ctx context.Context) error {
	g.mu.Lock()
	if g.held < g.limit && len(g.waiting) == 0 {
		g.held++
		g.mu.Unlock()
		return nil
	}
	place := make(chan struct{})
	g.waiting = append(g.waiting, place)
	g.mu.Unlock()
	select {
	case <-place:
		return nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(g.waiting, place); i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
	} else { // it was given at the same moment
		g.held--
		g.admit()
	}
	return context.Cause(ctx)
}

// leave gives a place back.
func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held--
	g.admit()
}

// admit gives free places to those who wait.
func (g *gate) admit() {
	for len(g.waiting) > 0 && g.held < g.limit {
		g.held++
		close(g.waiting[0])
		g.waiting = g.waiting[1:]
	}
}

// begin notes that a request is being sent. Its result goes to end.
func (g *gate) begin() (era int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sent++
	g.stats.Peak = max(g.stats.Peak, g.sent)
	g.filled = g.filled || g.sent >= g.limit
	return g.era
}

// end notes how a request went. A latency of 0 is unknown.
func (g *gate) end(era int64, sign loadSign, latency time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sent--
	switch {
	case era != g.era || sign == signNone:
	case sign == signOverload:
		g.refused = g.limit
		g.lower(max(1, g.limit/2))
	default:
		g.answered(latency)
	}
	g.admit()
}

func (g *gate) answered(latency time.Duration) {
	if latency > 0 {
		g.samples++
		g.total += latency
		if g.samples >= max(meanOf, g.limit) {
			mean := g.total / time.Duration(g.samples)
			g.samples, g.total = 0, 0
			if g.judge(mean) {
				return
			}
		}
	}
	need := g.limit
	if g.limit+1 >= g.refused && g.refused > 0 {
		need *= patience
	}
	if g.answers++; g.answers < need {
		return
	}
	if g.filled && !g.slow && g.limit < g.bound {
		g.limit++
		if g.limit > g.refused {
			g.refused = 0
		}
	}
	g.answers, g.filled = 0, g.sent+1 >= g.limit
}

// judge compares a mean latency with the least one, and reports whether the
// limit was lowered for it.
func (g *gate) judge(mean time.Duration) bool {
	if g.least == 0 || mean < g.least {
		g.least = mean
	}
	g.slow = mean > latencyTolerance*g.least
	least := min(startInFlight, g.bound)
	if !g.slow || g.limit > least {
		g.stuck = 0
	}
	if !g.slow {
		return false
	}
	if g.limit <= least {
		if g.stuck++; g.stuck >= stuckMeans {
			g.least, g.slow, g.stuck = mean, false, 0
		}
		return false
	}
	gradient := max(0.5, latencyTolerance*float64(g.least)/float64(mean))
	g.lower(max(least, min(g.limit-1, int(float64(g.limit)*gradient))))
	return true
}

// lower takes the limit down and starts to count anew.
func (g *gate) lower(limit int) {
	g.limit = min(limit, g.limit)
	g.era++
	g.stats.Backoffs++
	g.answers, g.filled = 0, false
	g.samples, g.total = 0, 0
}

func (g *gate) snapshot() ConcurrencyStats {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.stats
	s.Limit = g.limit
	return s
}

// signOf says what an attempt tells of the source's load. One that we gave up
// ourselves tells nothing.
func signOf(ctx context.Context, f *failure) loadSign {
	switch {
	case f == nil:
		return signAnswered
	case ctx.Err() != nil:
		return signNone
	case f.cause == CauseRateLimited || f.cause == CauseTimeout || f.overload:
		return signOverload
	default:
		return signNone
	}
}
