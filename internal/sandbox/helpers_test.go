package sandbox

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/internal/clock"
)

// afterHistory is a moment at which every contact's history has happened.
var afterHistory = time.Date(2026, 9, 2, 12, 0, 0, 0, time.UTC)

// manualClock moves when a test says so.
type manualClock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *manualClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *manualClock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func newServer(t *testing.T, o Options) *Server {
	t.Helper()
	return newServerAt(t, o, clock.Fixed(afterHistory))
}

func newServerAt(t *testing.T, o Options, clk clock.Clock) *Server {
	t.Helper()
	s, err := New(o, clk)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// call sends one request with the key, in process.
func call(t *testing.T, s *Server, method, target, body string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, target, stringReader(body))
	r.Header.Set("X-Api-Key", DefaultKey)
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

func stringReader(s string) io.Reader {
	if s == "" {
		return http.NoBody
	}
	return &onlyReader{s}
}

type onlyReader struct{ s string }

func (r *onlyReader) Read(p []byte) (int, error) {
	if r.s == "" {
		return 0, io.EOF
	}
	n := copy(p, r.s)
	r.s = r.s[n:]
	return n, nil
}

// listed is a contact as a client decodes it.
type listed map[string]any

func (c listed) str(key string) string {
	s, _ := c[key].(string)
	return s
}

const contactsPath = "/api/public/contacts?"

// list asks for a page and decodes it.
func list(t *testing.T, s *Server, query url.Values) []listed {
	t.Helper()
	w := call(t, s, http.MethodGet, contactsPath+query.Encode(), "")
	if w.Code != http.StatusOK {
		t.Fatalf("%s: %d %s", query.Encode(), w.Code, w.Body)
	}
	return decodePage(t, w.Body.Bytes())
}

func decodePage(t *testing.T, body []byte) []listed {
	t.Helper()
	var page []listed
	if err := json.Unmarshal(body, &page); err != nil {
		t.Fatalf("decode page: %v: %.200s", err, body)
	}
	return page
}

func ids(page []listed) []string {
	out := make([]string, len(page))
	for n, c := range page {
		out[n] = c.str("id")
	}
	return out
}

func all(s *Server) []Contact {
	var list []Contact
	s.Each(func(c Contact) bool {
		list = append(list, c)
		return true
	})
	return list
}

func params(pairs ...string) url.Values {
	v := url.Values{}
	for k := 0; k < len(pairs); k += 2 {
		v.Set(pairs[k], pairs[k+1])
	}
	return v
}

func printed(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

func fine(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }

func message(t *testing.T, w *httptest.ResponseRecorder) string {
	t.Helper()
	var body struct {
		StatusCode int
		Message    string
		Error      string
	}
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatalf("decode error: %v: %.200s", err, w.Body)
	}
	if body.StatusCode != w.Code {
		t.Errorf("statusCode %d in an answer with status %d", body.StatusCode, w.Code)
	}
	if w.Code == http.StatusBadRequest && body.Error != "Bad Request" {
		t.Errorf("error is %q", body.Error)
	}
	return body.Message
}
