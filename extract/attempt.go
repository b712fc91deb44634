package extract

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
)

const (
	excerptBytes = 300      // of a body, in an error
	maxKeptBody  = 16 << 20 // a larger buffer is not kept for reuse
)

// errHeaderTimeout is the cause of a request cancelled for its header's sake.
var errHeaderTimeout = errors.New("no response header in time")

// errRequestTimeout is the cause of a request cancelled for its length.
var errRequestTimeout = errors.New("no whole response in time")

// buffer holds a body and the gzip reader that fills it, both reused.
type buffer struct {
	bytes.Buffer
	gzip gzip.Reader
}

// attempt sends a call once, for which there was room (reserve).
func (c *Client) attempt(ctx context.Context, k *call) (Response, *failure) {
	defer c.landed()
	ctx, cancel := context.WithTimeoutCause(ctx, c.source.RequestTimeout, errRequestTimeout)
	defer cancel()
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url.String(), nil)
	if err != nil {
		return Response{}, &failure{err: fmt.Errorf("build request: %w", err)}
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Accept-Encoding", "gzip")
	req.Header.Set("Cache-Control", "no-cache") // the vendor's page advises caching: yesterday's rows
	req.Header.Set("User-Agent", c.source.UserAgent)
	if c.source.APIKey != "" {
		req.Header.Set(c.source.KeyHeader, c.source.APIKey.Reveal())
	}
	out := Response{SentAt: c.clk.Now()}
	c.count(func(s *Stats) { s.Requests++ })
	timer := time.AfterFunc(c.source.ResponseHeaderTimeout, func() { giveUp(errHeaderTimeout) })
	resp, err := c.http.Do(req)
	timer.Stop()
	if err != nil {
		return out, c.transportFailure(ctx, k, err)
	}
	defer func() { _ = resp.Body.Close() }()

	buf, _ := c.bodies.Get().(*buffer)
	defer func() {
		if buf.Cap() <= maxKeptBody {
			c.bodies.Put(buf)
		}
	}()
	err = c.read(buf, resp, k)
	out.ReceivedAt = c.clk.Now()
	out.describe(resp.Header)
	c.received(int64(buf.Len()))
	if resp.StatusCode != http.StatusOK {
		return out, c.statusFailure(k, resp, buf.Bytes())
	}
	if err != nil {
		return out, c.transportFailure(ctx, k, err)
	}
	return out, c.decode(k, buf.Bytes(), PageInfo{ReceivedAt: out.ReceivedAt, Request: k.request})
}

// decode hands the body on and tells a bad page from a fault of our own.
func (c *Client) decode(k *call, body []byte, info PageInfo) *failure {
	err := k.decode(body, info)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrBadPage):
		return &failure{
			cause: CauseBadPage,
			err:   c.badPage(k, body, err),
		}
	default:
		return &failure{err: err}
	}
}

// badPage is the error of an answer that is not what was asked for. What looks
// like JSON may hold contacts: none of it goes into an error, which ends in logs
// and in state.
func (c *Client) badPage(k *call, body []byte, err error) *PageError {
	e := &PageError{Request: k.request, Err: err, message: c.redact.Replace(err.Error())}
	if e.private = mayHoldContacts(body); !e.private && !c.source.Private {
		e.Body = c.excerpt(body)
	}
	return e
}

// mayHoldContacts reports whether a body begins like JSON, and is not just a
// short message.
func mayHoldContacts(body []byte) bool {
	start := bytes.TrimSpace(body)
	if len(start) == 0 || start[0] != '[' && start[0] != '{' {
		return false
	}
	var message map[string]json.RawMessage
	if len(start) > excerptBytes || json.Unmarshal(start, &message) != nil {
		return true
	}
	return message["data"] != nil || message["contacts"] != nil || message["id"] != nil
}

// read fills buf with the body, unpacked, up to the limit.
func (c *Client) read(buf *buffer, resp *http.Response, k *call) error {
	buf.Reset()
	if n := resp.ContentLength; n > 0 && n <= maxKeptBody {
		buf.Grow(int(n) + bytes.MinRead)
	}
	var body io.Reader = resp.Body
	if strings.EqualFold(resp.Header.Get("Content-Encoding"), "gzip") {
		if err := buf.gzip.Reset(resp.Body); err != nil {
			return asTruncated(err)
		}
		body = &buf.gzip
	}
	limit := c.source.MaxBody
	if k.limit > 0 {
		limit = min(limit, k.limit)
	}
	n, err := buf.ReadFrom(io.LimitReader(body, limit+1))
	if n > limit {
		return &TooLargeError{Request: k.request, Limit: limit}
	}
	return asTruncated(err)
}

// truncatedError marks a body that ended early or was damaged on the way.
type truncatedError struct{ err error }

func (e *truncatedError) Error() string { return "the body ended early: " + e.err.Error() }
func (e *truncatedError) Unwrap() error { return e.err }

func asTruncated(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) ||
		errors.Is(err, gzip.ErrChecksum) || errors.Is(err, gzip.ErrHeader) {
		return &truncatedError{err}
	}
	return err
}

// transportFailure sorts an error that is no answer.
func (c *Client) transportFailure(ctx context.Context, k *call, err error) *failure {
	var (
		redirect  *RedirectError
		large     *TooLargeError
		truncated *truncatedError
		inner     *url.Error
		network   net.Error
	)
	switch {
	case errors.As(err, &redirect):
		return &failure{err: redirect}
	case errors.As(err, &large):
		return &failure{err: large}
	}
	if errors.As(err, &inner) { // it repeats the whole URL
		err = inner.Err
	}
	cause := CauseConnection
	switch own := context.Cause(ctx); {
	case errors.Is(own, errHeaderTimeout) || errors.Is(own, errRequestTimeout):
		cause, err = CauseTimeout, own
	case errors.As(err, &truncated):
		cause = CauseTruncated
	case errors.As(err, &network) && network.Timeout():
		cause = CauseTimeout
	}
	return &failure{
		cause: cause,
		err:   &TransportError{Cause: cause, Request: k.request, Err: err, message: c.redact.Replace(err.Error())},
	}
}

// describe takes what the headers say of clock, cache and limits.
func (out *Response) describe(h http.Header) {
	if t, err := http.ParseTime(h.Get("Date")); err == nil {
		out.Date = t.UTC()
	}
	if age, err := strconv.ParseInt(strings.TrimSpace(h.Get("Age")), 10, 64); err == nil && age > 0 {
		out.Cached = true
	}
	for _, name := range []string{"X-Cache", "Cf-Cache-Status", "Cache-Status", "X-Cache-Status"} {
		v := strings.ToLower(h.Get(name))
		if strings.Contains(v, "hit") || strings.Contains(v, "stale") {
			out.Cached = true
		}
	}
	for name, values := range h {
		lower := strings.ToLower(name)
		if strings.HasPrefix(lower, "ratelimit") || strings.HasPrefix(lower, "x-ratelimit") || lower == "retry-after" {
			if out.RateLimit == nil {
				out.RateLimit = map[string]string{}
			}
			out.RateLimit[lower] = strings.Join(values, ", ")
		}
	}
}

// excerpt returns the start of a body as printable text without the key.
func (c *Client) excerpt(body []byte) string {
	// The key goes first: cut before that, a part of it could remain.
	text := c.redact.Replace(string(body[:min(len(body), 64<<10)]))
	if len(text) > excerptBytes {
		text = text[:excerptBytes] + "..."
	}
	return strings.TrimSpace(strings.ToValidUTF8(text, "?"))
}

// replacer removes the secret from a text, as it is and as an answer may echo
// it.
func (s Secret) replacer() *strings.Replacer {
	key := s.Reveal()
	if key == "" {
		return strings.NewReplacer()
	}
	quoted, err := json.Marshal(key)
	if err != nil {
		quoted = []byte(`"` + key + `"`)
	}
	return strings.NewReplacer(
		key, redacted,
		strings.Trim(string(quoted), `"`), redacted,
		url.QueryEscape(key), redacted,
		url.PathEscape(key), redacted,
	)
}
