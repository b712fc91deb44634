package crashtest

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sluice-etl/sluice/internal/clock"
)

// Endpoint is a contacts endpoint that serves each contact byte for byte as a
// test wrote it: the sandbox writes them by itself. It pages by limit and offset
// in the order that the endpoint's page gives, and has no pipelines. It may be
// used from any goroutine, as a handler or as a transport.
type Endpoint struct {
	// Clock tells the time of the answers' Date.
	Clock clock.Clock
	// Page is called before each request for a page is answered; nil: nothing is.
	Page func()

	mu       sync.Mutex
	contacts map[string]served
}

type served struct {
	id               string
	created, updated time.Time
	body             []byte
}

var (
	_ http.Handler      = (*Endpoint)(nil)
	_ http.RoundTripper = (*Endpoint)(nil)
)

// Put adds a contact, or replaces it. The times are those that stand in body, to
// the millisecond.
func (e *Endpoint) Put(id string, created, updated time.Time, body []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.contacts == nil {
		e.contacts = map[string]served{}
	}
	e.contacts[id] = served{id, created.Truncate(time.Millisecond), updated.Truncate(time.Millisecond), bytes.Clone(body)}
}

// Bodies returns all contacts by id, as they are served.
func (e *Endpoint) Bodies() map[string][]byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make(map[string][]byte, len(e.contacts))
	for id, c := range e.contacts {
		out[id] = c.body
	}
	return out
}

// Dump returns all contacts for Judge.Look, one a line: none may have a line
// break in its body.
func (e *Endpoint) Dump() []byte {
	var out []byte
	bodies := e.Bodies()
	for _, id := range sorted(bodies) {
		out = append(append(out, bodies[id]...), '\n')
	}
	return out
}

// ServeHTTP implements http.Handler.
func (e *Endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	resp, err := e.RoundTrip(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	for name, values := range resp.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body) // a reader that has gone is what some tests are about
}

// RoundTrip implements http.RoundTripper.
func (e *Endpoint) RoundTrip(r *http.Request) (*http.Response, error) {
	body := []byte("[]")
	if strings.HasSuffix(r.URL.Path, "/contacts") {
		if e.Page != nil {
			e.Page()
		}
		var err error
		if body, err = e.page(r); err != nil {
			return nil, err
		}
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{
			"Content-Type": {"application/json"}, "Content-Length": {strconv.Itoa(len(body))},
			"Date": {e.Clock.Now().UTC().Format(http.TimeFormat)},
		},
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)), Request: r,
	}, nil
}

// page returns the array of contacts that a request asks for.
func (e *Endpoint) page(r *http.Request) ([]byte, error) {
	asked := r.URL.Query()
	var after [2]time.Time
	for i, name := range []string{"created_after", "updated_after"} {
		if text := asked.Get(name); text != "" {
			at, err := time.Parse(time.RFC3339Nano, text)
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", name, err)
			}
			after[i] = at
		}
	}
	limit, offset := 100, 0
	for name, to := range map[string]*int{"limit": &limit, "offset": &offset} {
		if text := asked.Get(name); text != "" {
			if _, err := fmt.Sscanf(text, "%d", to); err != nil {
				return nil, fmt.Errorf("read %s: %w", name, err)
			}
		}
	}
	byUpdated := asked.Get("updated_after") != ""
	rows := e.after(after[0], after[1], byUpdated)
	rows = rows[min(offset, len(rows)):]
	rows = rows[:min(limit, len(rows))]
	bodies := make([][]byte, len(rows))
	for i, row := range rows {
		bodies[i] = row.body
	}
	return slices.Concat([]byte("["), bytes.Join(bodies, []byte(",")), []byte("]")), nil
}

// after returns the contacts created and updated after, in the order asked for.
func (e *Endpoint) after(created, updated time.Time, byUpdated bool) []served {
	e.mu.Lock()
	defer e.mu.Unlock()
	var rows []served
	for _, c := range e.contacts {
		if (created.IsZero() || c.created.After(created)) && (updated.IsZero() || c.updated.After(updated)) {
			rows = append(rows, c)
		}
	}
	slices.SortFunc(rows, func(a, b served) int {
		by := a.created.Compare(b.created)
		if byUpdated {
			by = a.updated.Compare(b.updated)
		}
		return cmp.Or(by, strings.Compare(a.id, b.id))
	})
	return rows
}
