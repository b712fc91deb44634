package extract_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/extract"
)

const testKey = "sk-very+secret/key"

// serve returns a client of a server that answers with h, quick to retry.
func serve(t *testing.T, h http.HandlerFunc, change ...func(*extract.Source)) *extract.Client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	s := extract.Source{
		BaseURL: server.URL, APIKey: testKey, RequestsPerSecond: -1,
		BackoffMin: time.Millisecond, BackoffMax: 2 * time.Millisecond, MaxRetries: 3,
	}
	for _, f := range change {
		f(&s)
	}
	c, err := extract.NewClient(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// read asks for a page and returns its body.
func read(t *testing.T, c *extract.Client) (string, extract.Response, error) {
	t.Helper()
	var got string
	after := int64(0)
	resp, err := c.Page(t.Context(), extract.Query{UpdatedAfter: &after, Limit: 100}, func(body []byte, _ extract.PageInfo) error {
		if !json.Valid(body) || body[0] != '[' {
			return fmt.Errorf("decode: %w", extract.ErrBadPage)
		}
		got = string(body)
		return nil
	})
	return got, resp, err
}

func TestARequestCarriesKeyGzipAndParameters(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.URL.RequestURI(); got != "/api/public/contacts?limit=100&stage_id=abc&updated_after=1970-01-01T00%3A00%3A00.000Z" {
			t.Errorf("asked %s", got)
		}
		for name, want := range map[string]string{
			"X-Api-Key": testKey, "Accept-Encoding": "gzip", "Cache-Control": "no-cache", "User-Agent": "sluice",
		} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("%s is %q, not %q", name, got, want)
			}
		}
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("X-RateLimit-Remaining", "7")
		z := gzip.NewWriter(w)
		_, _ = io.WriteString(z, `["`+strings.Repeat("a", 1<<20)+`"]`)
		_ = z.Close()
	}, func(s *extract.Source) { s.Filters = map[string][]string{"stage_id": {"abc"}} })
	for range 2 { // the second reuses the first one's memory
		got, resp, err := read(t, c)
		if err != nil || len(got) != 1<<20+4 {
			t.Fatalf("got %d bytes, %v", len(got), err)
		}
		if resp.Date.IsZero() || resp.Cached || resp.Requests != 1 || resp.RateLimit["x-ratelimit-remaining"] != "7" {
			t.Errorf("response is %+v", resp)
		}
		if resp.ReceivedAt.Before(resp.SentAt) {
			t.Errorf("received %v before sent %v", resp.ReceivedAt, resp.SentAt)
		}
	}
	if s := c.Stats(); s.Requests != 2 || s.TotalRetries() != 0 || s.Bytes < 2<<20 {
		t.Errorf("stats are %+v", s)
	}
}

func TestWhatCanPassIsRetriedAndCountedByCause(t *testing.T) {
	hijack := func(w http.ResponseWriter, raw string) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		_, _ = io.WriteString(conn, raw)
		_ = conn.Close()
	}
	whole := func() []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = io.WriteString(z, `[{"id":"`+strings.Repeat("x", 500)+`"}]`)
		_ = z.Close()
		return b.Bytes()
	}()
	for name, c := range map[string]struct {
		cause extract.Cause
		fail  http.HandlerFunc
	}{
		"500":                    {extract.CauseServerError, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }},
		"502 with HTML":          {extract.CauseServerError, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusBadGateway) }},
		"408":                    {extract.CauseTimeout, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusRequestTimeout) }},
		"429":                    {extract.CauseRateLimited, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) }},
		"reset":                  {extract.CauseConnection, func(w http.ResponseWriter, _ *http.Request) { hijack(w, "") }},
		"HTML with 200":          {extract.CauseBadPage, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>login</html>") }},
		"JSON cut in the middle": {extract.CauseBadPage, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `[{"id":"1"},{"i`) }},
		"no body":                {extract.CauseBadPage, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, ` `) }},
		"shorter than it says": {extract.CauseTruncated, func(w http.ResponseWriter, _ *http.Request) {
			hijack(w, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[1,2")
		}},
		"chunks that end early": {extract.CauseTruncated, func(w http.ResponseWriter, _ *http.Request) {
			hijack(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n[1,2\r\n")
		}},
		"gzip that ends early": {extract.CauseTruncated, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(whole[:len(whole)-9])
		}},
		"gzip with a flipped bit": {extract.CauseTruncated, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			damaged := bytes.Clone(whole)
			damaged[len(damaged)-6] ^= 1
			_, _ = w.Write(damaged)
		}},
		"stalled header": {extract.CauseTimeout, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
		"stalled body": {extract.CauseTimeout, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "[1,")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var n atomic.Int32
			client := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if n.Add(1) <= 2 {
					c.fail(w, r)
					return
				}
				_, _ = io.WriteString(w, "[]")
			}, func(s *extract.Source) {
				s.ResponseHeaderTimeout, s.RequestTimeout = 300*time.Millisecond, 600*time.Millisecond
			})
			got, resp, err := read(t, client)
			if err != nil || got != "[]" || resp.Requests != 3 {
				t.Fatalf("got %q after %d requests, %v", got, resp.Requests, err)
			}
			if s := client.Stats(); s.Retries[c.cause] != 2 || s.TotalRetries() != 2 || s.Requests != 3 {
				t.Errorf("stats are %+v, want 2 for %s", s, c.cause)
			}
		})
	}
}

func TestGivingUpSaysStatusRequestAndStartOfBodyAndNeverTheKey(t *testing.T) {
	quoted, _ := json.Marshal(testKey)
	echo := "your key " + testKey + " as JSON " + string(quoted) + " in a URL sk-very%2Bsecret%2Fkey "
	for name, c := range map[string]struct {
		status   int
		body     string
		attempts int64
		as       func(error) bool
		hint     string
	}{
		"400":                {400, `{"message":"limit must be at most 1000"}` + echo, 1, isA[*extract.BadRequestError], "parameter"},
		"401":                {401, echo, 1, isA[*extract.UnauthorizedError], "api_key"},
		"403":                {403, echo, 1, isA[*extract.ForbiddenError], "may not read"},
		"404":                {404, echo, 1, isA[*extract.StatusError], "url"},
		"302 to nowhere":     {304, "", 1, isA[*extract.StatusError], "redirect"},
		"429":                {429, echo, 4, isA[*extract.StatusError], "requests_per_second"},
		"500":                {500, strings.Repeat("é", 200) + echo, 4, isA[*extract.StatusError], "later"},
		"cut inside the key": {500, strings.Repeat("x", 295) + echo, 4, isA[*extract.StatusError], "later"},
		"HTML":               {200, "<html>" + echo, 4, isA[*extract.PageError], "HTML"},
	} {
		t.Run(name, func(t *testing.T) {
			client := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			})
			_, resp, err := read(t, client)
			var hinter extract.Hinter
			if !c.as(err) || !errors.As(err, &hinter) || resp.Requests != c.attempts {
				t.Fatalf("%T after %d requests: %v", err, resp.Requests, err)
			}
			if !strings.Contains(hinter.Hint(), c.hint) {
				t.Errorf("hint is %q", hinter.Hint())
			}
			text := fmt.Sprintf("%v %+v %#v %s", err, err, err, hinter.Hint())
			if strings.Contains(text, "very") {
				t.Errorf("the key shows in %s", text)
			}
			if !strings.Contains(err.Error(), "/api/public/contacts?limit=100") {
				t.Errorf("no request in %q", err)
			}
			if c.attempts > 1 && !strings.Contains(err.Error(), "(4 attempts)") {
				t.Errorf("no attempts in %q", err)
			}
			if len(err.Error()) > 1000 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		})
	}
}

func isA[T error](err error) bool {
	var target T
	return errors.As(err, &target)
}

func TestAnUnreachableHostIsATransportError(t *testing.T) {
	server := httptest.NewServer(nil)
	server.Close()
	c, err := extract.NewClient(extract.Source{BaseURL: server.URL, APIKey: testKey, MaxRetries: -1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = read(t, c)
	var transport *extract.TransportError
	if !errors.As(err, &transport) || transport.Cause != extract.CauseConnection || !strings.Contains(transport.Hint(), "network") {
		t.Errorf("%T: %v", err, err)
	}
}

func TestARedirectNeverCarriesTheKeyAway(t *testing.T) {
	var stolen atomic.Bool
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		stolen.Store(true)
		t.Errorf("the other host was asked with key %q", r.Header.Get("x-api-key"))
	}))
	defer thief.Close()
	client := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, thief.URL+"/x", http.StatusFound) })
	_, resp, err := read(t, client)
	var redirect *extract.RedirectError
	if !errors.As(err, &redirect) || resp.Requests != 1 || !strings.Contains(redirect.Hint(), thief.URL) {
		t.Errorf("after %d requests: %v", resp.Requests, err)
	}
	if stolen.Load() {
		t.Error("the redirect was followed")
	}

	client = serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2" {
			http.Redirect(w, r, "/v2", http.StatusFound)
			return
		}
		_, _ = io.WriteString(w, `["`+r.Header.Get("x-api-key")+`"]`)
	})
	if got, _, err := read(t, client); err != nil || got != `["`+testKey+`"]` {
		t.Errorf("within the host: got %s, %v", got, err)
	}

	client = serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/again", http.StatusFound) })
	if _, _, err = read(t, client); !errors.As(err, &redirect) {
		t.Errorf("in a circle: %v", err)
	}
}

func TestASourceIsCheckedBeforeItIsAsked(t *testing.T) {
	for name, c := range map[string]struct {
		source extract.Source
		ok     bool
	}{
		"https":                {extract.Source{BaseURL: "https://api.vambe.me"}, true},
		"https with a path":    {extract.Source{BaseURL: "https://h/crm/"}, true},
		"loopback":             {extract.Source{BaseURL: "http://127.0.0.1:8080"}, true},
		"loopback v6":          {extract.Source{BaseURL: "http://[::1]:8080"}, true},
		"localhost":            {extract.Source{BaseURL: "http://localhost:8080"}, true},
		"allowed http":         {extract.Source{BaseURL: "http://crm.internal", AllowInsecure: true}, true},
		"http":                 {extract.Source{BaseURL: "http://api.vambe.me"}, false},
		"http, nearly local":   {extract.Source{BaseURL: "http://localhost.example.com"}, false},
		"no scheme":            {extract.Source{BaseURL: "api.vambe.me"}, false},
		"another scheme":       {extract.Source{BaseURL: "ftp://api.vambe.me"}, false},
		"nothing":              {extract.Source{}, false},
		"a password":           {extract.Source{BaseURL: "https://u:" + testKey + "@h"}, false},
		"a query":              {extract.Source{BaseURL: "https://h/?key=" + testKey}, false},
		"a key with a newline": {extract.Source{BaseURL: "https://h", APIKey: testKey + "\n"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := extract.NewClient(c.source, nil)
			if (err == nil) != c.ok {
				t.Fatalf("error is %v", err)
			}
			var hinter extract.Hinter
			if err != nil && (!errors.As(err, &hinter) || hinter.Hint() == "" || strings.Contains(fmt.Sprintf("%+v", err)+hinter.Hint(), "very")) {
				t.Errorf("error is %+v", err)
			}
		})
	}
	if got := (extract.Source{BaseURL: "https://h:8443/crm"}).Identity(); got != "https://h:8443" {
		t.Errorf("identity is %q", got)
	}
}

func TestNothingPrintsASecret(t *testing.T) {
	source := extract.Source{BaseURL: "https://h", APIKey: testKey}
	encoded, err := json.Marshal(map[string]any{"s": source.APIKey, "p": &source.APIKey, "source": source.APIKey})
	if err != nil {
		t.Fatal(err)
	}
	var logged bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&logged, nil))
	log.Info("x", "key", source.APIKey, "struct", struct{ K extract.Secret }{testKey})
	text := fmt.Sprintf("%v %+v %#v %s %q %x %X %d %v", source, source, source, source.APIKey, source.APIKey, source.APIKey,
		source.APIKey, source.APIKey, []extract.Secret{testKey}) + string(encoded) + logged.String()
	for _, form := range []string{"very", fmt.Sprintf("%x", "very"), fmt.Sprintf("%X", "very"), "[115 107"} {
		if strings.Contains(text, form) {
			t.Errorf("%q shows in %s", form, text)
		}
	}
	if source.APIKey.Reveal() != testKey {
		t.Error("it does not reveal itself either")
	}
}

func TestABodyIsBounded(t *testing.T) {
	for _, zipped := range []bool{false, true} {
		client := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			var to io.Writer = w
			if zipped {
				w.Header().Set("Content-Encoding", "gzip")
				z := gzip.NewWriter(w)
				defer func() { _ = z.Close() }()
				to = z
			}
			_, _ = to.Write(bytes.Repeat([]byte(" "), 1<<20))
		}, func(s *extract.Source) { s.MaxBody = 1 << 16 })
		_, resp, err := read(t, client)
		var large *extract.TooLargeError
		if !errors.As(err, &large) || resp.Requests != 1 {
			t.Errorf("zipped %v: after %d requests: %v", zipped, resp.Requests, err)
		}
	}
}

func TestCachesAreSeen(t *testing.T) {
	for header, value := range map[string]string{"Age": "3", "X-Cache": "Hit from cloudfront", "CF-Cache-Status": "HIT", "Cache-Status": `edge; hit`} {
		client := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(header, value)
			_, _ = io.WriteString(w, "[]")
		})
		if _, resp, err := read(t, client); err != nil || !resp.Cached {
			t.Errorf("%s: %s: cached %v, %v", header, value, resp.Cached, err)
		}
	}
	client := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Age", "0")
		w.Header().Set("CF-Cache-Status", "DYNAMIC")
		_, _ = io.WriteString(w, "[]")
	})
	if _, resp, _ := read(t, client); resp.Cached {
		t.Error("a fresh answer counts as cached")
	}
}

func TestADecoderThatFailsForItselfIsNotRetried(t *testing.T) {
	client := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "[]") })
	full := errors.New("disk full")
	resp, err := client.Get(t.Context(), "/api/public/pipeline", nil, func([]byte, extract.PageInfo) error { return full })
	if !errors.Is(err, full) || resp.Requests != 1 {
		t.Errorf("after %d requests: %v", resp.Requests, err)
	}
}

func TestCancellingEndsARequestAtOnce(t *testing.T) {
	started := make(chan struct{})
	client := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		close(started)
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stopped by the user")
	go func() { <-started; cancel(stop) }()
	_, err := client.Page(ctx, extract.Query{Days: 1}, nil)
	if !errors.Is(err, stop) {
		t.Errorf("error is %v", err)
	}
}
