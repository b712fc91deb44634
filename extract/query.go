package extract

import (
	"net/url"
	"strconv"
	"time"
)

// Query is one request for a page of contacts. At least one of UpdatedAfter,
// CreatedAfter and Days is needed; the endpoint refuses less.
type Query struct {
	// UpdatedAfter and CreatedAfter are microseconds since 1970 UTC, strictly
	// after. nil: not sent.
	UpdatedAfter *int64
	CreatedAfter *int64
	// Days keeps contacts whose last message is within so many days. 0: not sent.
	Days int
	// Limit is the page size, 1 to 1000. 0: not sent (the endpoint takes 100).
	Limit int
	// Offset is the number of rows to skip.
	Offset int
	// Extra are further parameters; those above win over them.
	Extra url.Values
}

// Values returns the query's parameters.
func (q Query) Values() url.Values {
	v := make(url.Values, len(q.Extra)+4)
	for name, values := range q.Extra {
		v[name] = values
	}
	if q.UpdatedAfter != nil {
		v.Set("updated_after", FormatTime(*q.UpdatedAfter))
	}
	if q.CreatedAfter != nil {
		v.Set("created_after", FormatTime(*q.CreatedAfter))
	}
	if q.Days > 0 {
		v.Set("days", strconv.Itoa(q.Days))
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	if q.Offset > 0 {
		v.Set("offset", strconv.Itoa(q.Offset))
	}
	return v
}

// FormatTime prints microseconds since 1970 as the endpoint takes them: UTC,
// milliseconds, and microseconds only where there are some.
func FormatTime(us int64) string {
	t := time.UnixMicro(us).UTC()
	if us%1000 == 0 {
		return t.Format("2006-01-02T15:04:05.000Z")
	}
	return t.Format("2006-01-02T15:04:05.000000Z")
}

// Response is what came with a page besides its body.
type Response struct {
	// Date is the source's clock when it answered; zero where the header is
	// missing or unreadable.
	Date time.Time
	// Cached says that the answer may come from a cache (an Age above zero, a
	// cache hit header): its Date says nothing of when the rows were read.
	Cached bool
	// SentAt and ReceivedAt are the local clock before the attempt that
	// succeeded and after its body.
	SentAt, ReceivedAt time.Time
	// Requests is the number of attempts, at least 1.
	Requests int64
	// RateLimit are the headers that speak of limits (ratelimit-*,
	// x-ratelimit-*, retry-after); nil if there are none.
	RateLimit map[string]string
}

// Stats counts what a client has done.
type Stats struct {
	Requests int64           `json:"requests"` // attempts sent
	Retries  map[Cause]int64 `json:"retries"`  // attempts that were repeats, by why the one before failed
	Bytes    int64           `json:"bytes"`    // of bodies, after gzip
	// Concurrency is that of the host, whichever client made it so.
	Concurrency ConcurrencyStats `json:"concurrency"`
}

// TotalRetries is the sum over all causes.
func (s Stats) TotalRetries() int64 {
	var n int64
	for _, c := range s.Retries {
		n += c
	}
	return n
}

// Cause names why an attempt failed.
type Cause string

// The causes that are worth another attempt.
const (
	CauseRateLimited Cause = "rate_limited" // 429
	CauseServerError Cause = "server_error" // 5xx
	CauseTimeout     Cause = "timeout"      // any of the named timeouts, and 408
	CauseConnection  Cause = "connection"   // refused, reset, no such host, TLS
	CauseTruncated   Cause = "truncated"    // the body ended early
	CauseBadPage     Cause = "bad_page"     // the body is not what was asked for
)
