package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/sluice-etl/sluice/internal/clock"
)

const (
	// requestTimeout bounds one request, its answer included.
	requestTimeout = 15 * time.Second
	// firstWait is the wait after the first failure; it doubles up to longestWait.
	firstWait, longestWait = time.Second, time.Minute
	// mostAnswer is how much of an answer is read, so that the connection can be
	// used again.
	mostAnswer = 4 << 10
)

// refusedError is an answer that no repetition mends.
type refusedError struct{ status int }

func (e *refusedError) Error() string { return answered(e.status) }

func answered(status int) string {
	return fmt.Sprintf("it answered %d %s", status, http.StatusText(status))
}

// request is one message to one URL, which is a key: no error names more of it
// than its host.
type request struct {
	method, url string
	body        []byte
	header      http.Header
}

// send sends a request, again and again until it is taken, refused, or the
// budget of time is spent.
func (n *Notifier) send(ctx context.Context, r request) error {
	until := n.o.Clock.Now().Add(n.o.RetryFor)
	wait := firstWait
	for {
		after, err := n.once(ctx, r)
		if err == nil || errors.As(err, new(*refusedError)) {
			return err
		}
		// By chance, so that many pipelines do not come back together.
		pause := max(after, wait-rand.N(wait/4)) //nolint:gosec // only spreads retries
		if ctx.Err() != nil || n.o.Clock.Now().Add(pause).After(until) {
			return err
		}
		n.o.Log.DebugContext(ctx, "a notice is sent again", slog.String("to", host(r.url)), slog.Duration("in", pause), slog.Any("error", err))
		if clock.Sleep(ctx, pause) != nil {
			return err
		}
		wait = min(2*wait, longestWait)
	}
}

// once sends a request, and returns how long its receiver asks to wait where it
// was not taken.
func (n *Notifier) once(ctx context.Context, r request) (after time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.method, r.url, bytes.NewReader(r.body))
	if err != nil {
		return 0, &refusedError{} // the configuration has checked it
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	req.Header.Set("User-Agent", "sluice/"+n.o.Version)
	res, err := n.client.Do(req)
	if err != nil {
		var of *url.Error
		if errors.As(err, &of) {
			err = of.Err // without the URL
		}
		return 0, err
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	if _, err := io.CopyN(io.Discard, res.Body, mostAnswer); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	switch {
	case res.StatusCode < 300:
		return 0, nil
	case res.StatusCode == http.StatusTooManyRequests, res.StatusCode == http.StatusRequestTimeout, res.StatusCode >= 500:
		return retryAfter(res.Header.Get("Retry-After"), n.o.Clock.Now()), errors.New(answered(res.StatusCode))
	default:
		return 0, &refusedError{res.StatusCode}
	}
}

// retryAfter reads the header of that name: seconds, or a date.
func retryAfter(text string, now time.Time) time.Duration {
	if s, err := strconv.Atoi(text); err == nil && s >= 0 {
		return time.Duration(min(s, 86400)) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// host is all of a URL that may be shown.
func host(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return u.Host
}
