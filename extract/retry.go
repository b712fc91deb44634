package extract

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"github.com/sluice-etl/sluice/internal/clock"
)

// call is one request, however many attempts it takes.
type call struct {
	url     *url.URL
	request string // path and query
	decode  func(body []byte, info PageInfo) error
	limit   int64       // of the body, in bytes, where it is below the source's; 0: the source's
	budget  *time.Timer // runs from the first failure
	waited  time.Duration
}

// failure is an attempt that failed.
type failure struct {
	err   error
	cause Cause         // "" where another attempt would change nothing
	after time.Duration // as the server asked
	// overload says that the server names load as the reason, where cause does
	// not.
	overload bool
}

// retry repeats a call until it succeeds, cannot, or has used up its attempts
// or its time.
func (c *Client) retry(ctx context.Context, k *call) (Response, error) {
	defer func() {
		if k.budget != nil {
			k.budget.Stop()
		}
	}()
	for attempt := 1; ; attempt++ {
		if err := c.host.acquire(ctx); err != nil {
			return Response{Requests: int64(attempt - 1)}, fmt.Errorf("get %s: %w", k.request, err)
		}
		if err := c.reserve(); err != nil {
			c.host.release()
			return Response{Requests: int64(attempt - 1)}, fmt.Errorf("get %s: %w", k.request, err)
		}
		era := c.host.gate.begin()
		resp, fail := c.attempt(ctx, k)
		c.host.gate.end(era, signOf(ctx, fail), resp.ReceivedAt.Sub(resp.SentAt))
		c.host.release()
		resp.Requests = int64(attempt)
		if fail == nil {
			return resp, nil
		}
		if ctx.Err() != nil { // whose cause may be another call's error
			return resp, fmt.Errorf("get %s: %w", k.request, context.Cause(ctx))
		}
		setAttempts(fail.err, attempt)
		if fail.cause == "" || attempt > c.source.MaxRetries {
			return resp, fail.err
		}
		delay := c.delay(fail, attempt)
		if k.spent(delay, c.source.RetryBudget) {
			return resp, fail.err
		}
		if fail.cause == CauseRateLimited || fail.after > 0 {
			// The limit is the host's, so every worker waits.
			c.host.pause(delay)
		} else if err := clock.Sleep(ctx, delay); err != nil {
			return resp, fmt.Errorf("get %s: %w", k.request, err)
		}
		c.count(func(s *Stats) { s.Retries[fail.cause]++ })
	}
}

// spent reports whether waiting for delay would exceed the budget.
func (k *call) spent(delay, budget time.Duration) bool {
	if k.budget == nil {
		k.budget = time.NewTimer(budget)
	}
	k.waited += delay
	select {
	case <-k.budget.C:
		return true
	default:
		return k.waited > budget
	}
}

// delay is the wait before the attempt that follows. Jitter spreads workers
// that failed together; a Retry-After is never cut short.
func (c *Client) delay(f *failure, attempt int) time.Duration {
	d := c.source.BackoffMax
	if shift := attempt - 1; shift < 20 {
		d = min(d, c.source.BackoffMin<<shift)
	}
	d = d/2 + rand.N(d/2+1)
	return max(d, f.after)
}

func (c *Client) count(f func(*Stats)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.stats)
}

// statusFailure turns an answer that is not 200 into its error.
func (c *Client) statusFailure(k *call, resp *http.Response, body []byte) *failure {
	e := StatusError{Status: resp.StatusCode, Request: k.request}
	if c.mayShow(k, body) {
		e.Body = c.excerpt(body)
	}
	e.RetryAfter = c.retryAfter(resp.Header)
	f := &failure{after: e.RetryAfter}
	switch code := resp.StatusCode; {
	case code == http.StatusBadRequest:
		f.err = &BadRequestError{e}
	case code == http.StatusUnauthorized:
		f.err = &UnauthorizedError{e}
	case code == http.StatusForbidden:
		f.err = &ForbiddenError{e}
	case code == http.StatusTooManyRequests:
		f.err, f.cause = &e, CauseRateLimited
	case code == http.StatusRequestTimeout:
		f.err, f.cause = &e, CauseTimeout
	case code >= 500:
		f.err, f.cause = &e, CauseServerError
		f.overload = code == http.StatusServiceUnavailable
	default:
		f.err = &e
	}
	return f
}

// retryAfter reads Retry-After, seconds or a date. A date is taken against the
// server's own clock where it tells it.
func (c *Client) retryAfter(h http.Header) time.Duration {
	v := h.Get("Retry-After")
	if v == "" {
		return 0
	}
	if d, err := time.ParseDuration(v + "s"); err == nil {
		return max(0, d)
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		now = c.clk.Now()
	}
	return max(0, at.Sub(now))
}

// setAttempts writes the number of attempts into an error that tells it.
func setAttempts(err error, n int) {
	var (
		status    *StatusError
		transport *TransportError
		page      *PageError
	)
	switch {
	case errors.As(err, &status):
		status.Attempts = n
	case errors.As(err, &page):
		page.Attempts = n
	case errors.As(err, &transport):
		transport.Attempts = n
	}
}
