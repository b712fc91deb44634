package extract

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"
)

// Source says where the contacts endpoint is and how to talk to it. The zero
// value of every field but BaseURL is usable.
type Source struct {
	// BaseURL is the scheme, host and, where the endpoint sits below one, path
	// prefix. Required. https, unless the host is a loopback or AllowInsecure
	// is set.
	BaseURL string
	// APIKey is sent with every request, and nowhere else. Empty: no header.
	APIKey Secret
	// KeyHeader is the header that carries the key. Empty: x-api-key.
	KeyHeader string
	// AllowInsecure permits plain http to a host that is not a loopback.
	AllowInsecure bool
	// UserAgent is sent with every request. Empty: "sluice".
	UserAgent string

	// RequestsPerSecond is the most requests a second sent to the host, by all
	// clients that share Hosts together. 0: 5. Negative: no limit.
	RequestsPerSecond float64
	// Concurrency is the most requests in flight to the host; how many there
	// are adapts to what the host takes well (see Stats.Concurrency). 0: 4.
	Concurrency int

	// ConnectTimeout bounds dialling and the TLS handshake, each. 0: 10 s.
	ConnectTimeout time.Duration
	// ResponseHeaderTimeout bounds the wait from the request being written to
	// the response's header; the endpoint computes the whole page before it
	// answers. 0: 60 s.
	ResponseHeaderTimeout time.Duration
	// RequestTimeout bounds one attempt from dialling to the last byte of the
	// body. 0: 2 min.
	RequestTimeout time.Duration

	// MaxRetries is the most attempts after the first, for one request. 0: 8.
	// Negative: no retries.
	MaxRetries int
	// RetryBudget bounds the time one request may spend from its first
	// failure to giving up, waits included. 0: 5 min.
	RetryBudget time.Duration
	// BackoffMin is the wait before the first retry, doubled for each one
	// after it and spread by jitter. 0: 500 ms.
	BackoffMin time.Duration
	// BackoffMax is the longest such wait. A Retry-After may be longer, within
	// RetryBudget. 0: 30 s.
	BackoffMax time.Duration

	// MaxBody is the largest response body taken, in bytes after gzip. 0: 64 MiB.
	MaxBody int64

	// MaxRequests is the most requests that one client sends, repeats included,
	// and MaxBytes what their answers may have altogether, in bytes after gzip: a
	// request that could exceed either is not sent (*BudgetError). How large an
	// answer will be is not known beforehand: the largest so far stands for it.
	// 0: no limit.
	MaxRequests, MaxBytes int64

	// Filters are further parameters of the contacts request (stage_id,
	// pipeline_id, custom_field_key, ...), sent as they are. The parameters of
	// Query win over them.
	Filters url.Values

	// Private says that what contacts hold may be in no error: nothing of a body
	// with status 200 is shown, of others only what is no list of contacts, and
	// of a request not the value that a custom field is asked for.
	Private bool

	// Hosts holds the limits shared by all clients of one process. nil: this
	// client's own.
	Hosts *Hosts
	// Transport carries the requests. nil: a transport of the client's own with
	// the timeouts above. One that is given keeps its own connect timeout.
	Transport http.RoundTripper
}

// Identity is the scheme and host that state remembers a source by, such as
// "https://api.vambe.me". A BaseURL that does not parse gives "".
func (s Source) Identity() string {
	u, err := url.Parse(s.BaseURL)
	if err != nil || u.Host == "" {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// Secret is text that no formatting verb, encoder or logger prints.
type Secret string

const redacted = "[redacted]"

// The ways in which a value could be printed, all of them closed.
var (
	_ fmt.Formatter  = Secret("")
	_ fmt.Stringer   = Secret("")
	_ fmt.GoStringer = Secret("")
	_ json.Marshaler = Secret("")
	_ slog.LogValuer = Secret("")
)

// Reveal returns the text itself.
func (s Secret) Reveal() string { return string(s) }

// Format prints a placeholder, whatever the verb: %x would otherwise give the
// text away past String.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// String returns a placeholder, or "" for an empty secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString returns a placeholder.
func (s Secret) GoString() string { return s.String() }

// MarshalJSON encodes a placeholder.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// MarshalText encodes a placeholder, for YAML and map keys.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue logs a placeholder.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
