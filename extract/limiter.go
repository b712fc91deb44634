package extract

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Hosts holds the limits of each host, shared by all clients that are given
// it. The zero value is not usable; see NewHosts.
type Hosts struct {
	mu    sync.Mutex
	hosts map[string]*host
}

// NewHosts returns an empty set of limits.
func NewHosts() *Hosts { return &Hosts{hosts: map[string]*host{}} }

// get returns the limits of a host. Where sources disagree about the rate, the
// lowest holds; the first says how many requests may be in flight.
func (h *Hosts) get(name string, perSecond float64, concurrency int) *host {
	limit := rate.Inf
	if perSecond > 0 {
		limit = rate.Limit(perSecond)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	known, ok := h.hosts[name]
	if !ok {
		known = &host{
			limiter: rate.NewLimiter(limit, 1),
			gate:    newGate(concurrency),
		}
		h.hosts[name] = known
	} else if limit < known.limiter.Limit() {
		known.limiter.SetLimit(limit)
	}
	return known
}

// host is what all workers of one host share.
type host struct {
	limiter *rate.Limiter
	gate    *gate // requests in flight

	mu     sync.Mutex
	pauses map[chan struct{}]struct{} // each closed when it is over
}

// pause keeps every worker of the host from sending for d, from now.
func (h *host) pause(d time.Duration) {
	over := make(chan struct{})
	h.mu.Lock()
	if h.pauses == nil {
		h.pauses = map[chan struct{}]struct{}{}
	}
	h.pauses[over] = struct{}{}
	h.mu.Unlock()
	time.AfterFunc(d, func() {
		h.mu.Lock()
		delete(h.pauses, over)
		h.mu.Unlock()
		close(over)
	})
}

// paused returns a channel that closes when some pause is over, nil if there
// is none.
func (h *host) paused() chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	for over := range h.pauses {
		return over
	}
	return nil
}

// acquire waits for a turn: a free place, no pause, and the rate. release must
// follow where it returns nil.
func (h *host) acquire(ctx context.Context) error {
	if err := h.gate.enter(ctx); err != nil {
		return err
	}
	if err := h.ready(ctx); err != nil {
		h.release()
		return err
	}
	return nil
}

func (h *host) ready(ctx context.Context) error {
	for {
		for over := h.paused(); over != nil; over = h.paused() {
			select {
			case <-over:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if err := h.limiter.Wait(ctx); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("wait for rate limit: %w", err)
		}
		if h.paused() == nil { // one may have begun while waiting for the rate
			return nil
		}
	}
}

func (h *host) release() { h.gate.leave() }
