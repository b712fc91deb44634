package extract

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/sluice-etl/sluice/internal/clock"
)

// contactsPath is the endpoint, below the base URL.
const contactsPath = "/api/public/contacts"

// Client talks to one source. Its methods may be called from any number of
// goroutines.
type Client struct {
	source Source // defaults filled in
	base   *url.URL
	http   *http.Client
	own    *http.Transport // to be closed; nil where one was given
	host   *host
	clk    clock.Clock
	redact *strings.Replacer
	bodies sync.Pool // *buffer

	mu    sync.Mutex
	stats Stats
	// For the budget: requests let through, those of them in flight, and the
	// largest body so far, in bytes.
	reserved, flying, largest int64
}

var _ Pager = (*Client)(nil)

// NewClient checks s and returns a client for it. clk stamps pages; nil: the
// machine's clock. Errors are *SourceError.
func NewClient(s Source, clk clock.Clock) (*Client, error) {
	base, err := s.check()
	if err != nil {
		return nil, err
	}
	if clk == nil {
		clk = clock.System{}
	}
	s = s.withDefaults()
	c := &Client{source: s, base: base, clk: clk, redact: s.APIKey.replacer()}
	c.stats.Retries = map[Cause]int64{}
	c.bodies.New = func() any { return new(buffer) }
	c.host = s.Hosts.get(base.Scheme+"://"+base.Host, s.RequestsPerSecond, s.Concurrency)
	transport := s.Transport
	if transport == nil {
		c.own = s.transport()
		transport = c.own
	}
	c.http = &http.Client{Transport: transport, CheckRedirect: c.checkRedirect}
	return c, nil
}

// check returns the base URL, or what is wrong with s.
func (s Source) check() (*url.URL, error) {
	u, err := url.Parse(s.BaseURL)
	if err != nil || u.Host == "" || u.Opaque != "" {
		return nil, &SourceError{Field: "BaseURL", Message: "the url is not of the form https://host", Advice: "set the source's url, such as https://api.vambe.me"}
	}
	where := u.Scheme + "://" + u.Host
	switch {
	case u.User != nil:
		return nil, &SourceError{Field: "BaseURL", Message: "the url of " + u.Host + " carries a user or password", Advice: "remove them from the url; the key goes into api_key"}
	case u.RawQuery != "" || u.Fragment != "":
		return nil, &SourceError{Field: "BaseURL", Message: "the url of " + where + " carries a query or fragment", Advice: "leave scheme, host and path only"}
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, &SourceError{Field: "BaseURL", Message: "the url's scheme is " + u.Scheme, Advice: "use https"}
	case u.Scheme == "http" && !s.AllowInsecure && !isLoopback(u.Hostname()):
		return nil, &SourceError{Field: "BaseURL", Message: where + " would send the API key unencrypted", Advice: "use https, or set allow_insecure: true if the network between is yours"}
	}
	for _, r := range s.APIKey.Reveal() {
		if r <= ' ' || r >= 0x7f {
			return nil, &SourceError{Field: "APIKey", Message: "the API key holds a space, line break or non-ASCII character", Advice: "check the variable or file that it comes from"}
		}
	}
	return u, nil
}

func isLoopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

func (s Source) withDefaults() Source {
	orDuration := func(d *time.Duration, def time.Duration) {
		if *d <= 0 {
			*d = def
		}
	}
	orDuration(&s.ConnectTimeout, 10*time.Second)
	orDuration(&s.ResponseHeaderTimeout, time.Minute)
	orDuration(&s.RequestTimeout, 2*time.Minute)
	orDuration(&s.RetryBudget, 5*time.Minute)
	orDuration(&s.BackoffMin, 500*time.Millisecond)
	orDuration(&s.BackoffMax, 30*time.Second)
	if s.KeyHeader == "" {
		s.KeyHeader = "x-api-key"
	}
	if s.UserAgent == "" {
		s.UserAgent = "sluice"
	}
	if s.RequestsPerSecond == 0 {
		s.RequestsPerSecond = 5
	}
	if s.Concurrency <= 0 {
		s.Concurrency = 4
	}
	if s.MaxRetries == 0 {
		s.MaxRetries = 8
	}
	if s.MaxBody <= 0 {
		s.MaxBody = 64 << 20
	}
	if s.Hosts == nil {
		s.Hosts = NewHosts()
	}
	return s
}

func (s Source) transport() *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: s.ConnectTimeout}).DialContext,
		TLSHandshakeTimeout:    s.ConnectTimeout,
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    s.Concurrency,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 1 << 20,
		DisableCompression:     true, // the client asks for gzip itself, also of a transport that is given
	}
}

// checkRedirect refuses to leave the host: net/http would carry the key's
// header along to any other.
func (c *Client) checkRedirect(req *http.Request, via []*http.Request) error {
	from, to := c.base.Scheme+"://"+c.base.Host, req.URL.Scheme+"://"+req.URL.Host
	switch {
	case from != to:
		return &RedirectError{From: from, To: to, Reason: "the API key goes to no other place than the one configured"}
	case len(via) > maxRedirects:
		return &RedirectError{From: from, To: to, Reason: fmt.Sprintf("more than %d redirects", maxRedirects)}
	}
	return nil
}

const maxRedirects = 5

// Page asks for one page of contacts and hands its body to decode, once for
// each attempt that brought a body; the body is valid only during the call. An
// error of decode that wraps ErrBadPage leads to another attempt, any other is
// returned as it is.
func (c *Client) Page(ctx context.Context, q Query, decode func(body []byte, info PageInfo) error) (Response, error) {
	values := make(url.Values, len(c.source.Filters)+4)
	maps.Copy(values, c.source.Filters)
	maps.Copy(values, q.Values())
	return c.Get(ctx, contactsPath, values, decode)
}

// Get asks for path below the base URL, such as "/api/public/pipeline", with
// the same limits, retries and errors as Page. The Response counts its
// attempts in the case of an error too.
func (c *Client) Get(ctx context.Context, path string, query url.Values, decode func(body []byte, info PageInfo) error) (Response, error) {
	u := c.at(path, (&url.URL{Path: path}).EscapedPath())
	u.RawQuery = query.Encode()
	return c.retry(ctx, &call{url: u, request: c.shown(u), decode: decode})
}

// at returns the URL of a path below the base, which is given as it is and as
// it is escaped.
func (c *Client) at(path, escaped string) *url.URL {
	u := *c.base
	u.Path = strings.TrimSuffix(c.base.Path, "/") + path
	u.RawPath = strings.TrimSuffix(c.base.EscapedPath(), "/") + escaped
	return &u
}

// Stats returns what the client has done so far.
func (c *Client) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Retries = maps.Clone(s.Retries)
	s.Concurrency = c.host.gate.snapshot()
	return s
}

// Close drops idle connections.
func (c *Client) Close() {
	if c.own != nil {
		c.own.CloseIdleConnections()
	}
}
