package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// leakSource serves contacts that the test makes up, as the endpoint does, and
// fails in ways that show their bodies to whoever looks.
type leakSource struct {
	*httptest.Server

	mu       sync.Mutex
	contacts []map[string]any
	faults   []func(w http.ResponseWriter, page []byte) // of the next requests
	pages    int
	// stages answer the next requests for them; none: there is no such list.
	stages []func(w http.ResponseWriter)
	// infos is how many contacts were asked for by their id; with noInfo each is
	// refused, and shown.
	infos  int
	noInfo bool
	// hold is called before each page with its number, without the lock.
	hold func(n int)
}

func newLeakSource(t *testing.T) *leakSource {
	t.Helper()
	s := &leakSource{}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

// put adds a contact, or replaces the one of the same id.
func (s *leakSource) put(c map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.contacts = slices.DeleteFunc(s.contacts, func(o map[string]any) bool { return o["id"] == c["id"] })
	s.contacts = append(s.contacts, c)
}

func (s *leakSource) remove(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.contacts = slices.DeleteFunc(s.contacts, func(o map[string]any) bool { return o["id"] == id })
}

func (s *leakSource) fail(faults ...func(w http.ResponseWriter, page []byte)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, faults...)
}

// ServeHTTP implements http.Handler.
func (s *leakSource) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.pages++
	n, hold := s.pages, s.hold
	s.mu.Unlock()
	if hold != nil {
		hold(n)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if id, ok := strings.CutPrefix(r.URL.Path, "/api/public/contact/info/"); ok || strings.HasSuffix(r.URL.Path, "/info") {
		if !ok {
			id = strings.TrimSuffix(r.URL.Path[strings.LastIndex(strings.TrimSuffix(r.URL.Path, "/info"), "/")+1:], "/info")
		}
		i := slices.IndexFunc(s.contacts, func(c map[string]any) bool { return c["id"] == id })
		if i < 0 {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		if s.noInfo {
			w.WriteHeader(http.StatusBadRequest)
		}
		s.infos++
		_ = json.NewEncoder(w).Encode(s.contacts[i])
		return
	}
	if strings.HasSuffix(r.URL.Path, "/public/pipeline") && len(s.stages) > 0 {
		stages := s.stages[0]
		s.stages = s.stages[1:]
		stages(w)
		return
	}
	if !strings.HasSuffix(r.URL.Path, "/contacts") {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	page, err := json.Marshal(s.page(r))
	if err != nil {
		panic(err)
	}
	if len(s.faults) > 0 {
		fault := s.faults[0]
		s.faults = s.faults[1:]
		fault(w, page)
		return
	}
	_, _ = w.Write(page)
}

func (s *leakSource) page(r *http.Request) []map[string]any {
	q := r.URL.Query()
	key, after := "updated_at", q.Get("updated_after")
	if after == "" {
		key, after = "created_at", q.Get("created_after")
	}
	from, err := time.Parse(time.RFC3339Nano, after)
	if err != nil {
		from = time.Time{}
	}
	at := func(c map[string]any) time.Time {
		text, _ := c[key].(string)
		v, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return from.Add(time.Millisecond) // such a contact comes first
		}
		return v
	}
	list := slices.DeleteFunc(slices.Clone(s.contacts), func(c map[string]any) bool { return !at(c).After(from) })
	slices.SortStableFunc(list, func(a, b map[string]any) int { return at(a).Compare(at(b)) })
	offset, _ := strconv.Atoi(q.Get("offset"))
	limit, _ := strconv.Atoi(q.Get("limit"))
	list = list[min(offset, len(list)):]
	return list[:min(limit, len(list))]
}

// plantedContact is contact n of the test, with values of its own wherever a
// contact can have any.
func plantedContact(n, version int) map[string]any {
	at := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(n) * time.Hour)
	phones := []any{"+56 9 8765 4321", "56987654321", "(+56) 9-8765.4321", 56987654321, "0056987654321@c.us"}
	secret := func(what string) string { return fmt.Sprintf("Planted%s %d é v%d", what, n, version) }
	c := map[string]any{
		"id": fmt.Sprintf("contact-%03d", n), "client_id": "plantedaccount",
		"created_at": at.Format("2006-01-02T15:04:05.000Z"), "updated_at": at.Add(time.Duration(version) * 24 * time.Hour).Format("2006-01-02T15:04:05.000Z"),
		"phone": phones[n%len(phones)], "email": fmt.Sprintf("Planted.Person%d@Example.com", n), "name": secret("name"), "platform": "whatsapp",
		"notes": secret("notes"), "nested": map[string]any{"deep": []any{secret("deep")}},
		"metadata":         map[string]any{"rut": secret("rut"), "phone": "+56 9 8765 4321"},
		"active_ticket_v2": map[string]any{"id": fmt.Sprintf("ticket-%d", n), "title": secret("title"), "metadata": map[string]any{"k": secret("k"), "o": map[string]any{"a": secret("o")}}},
	}
	switch n % 5 {
	case 0:
		c["custom_fields"] = []any{map[string]any{"key": "rut", "value": secret("other"), "label": secret("label")}}
	case 1:
		c["custom_fields"] = []any{secret("list")}
		c["email"] = map[string]any{"address": secret("address")}
	case 2:
		c["custom_field_values"] = secret("text")
		c["metadata"] = []any{map[string]any{"key": "rut", "value": secret("rut")}}
	}
	for i := range 12 { // beyond max_columns
		c[fmt.Sprintf("beyond_%d_%d", n%4, i)] = secret("beyond")
	}
	return c
}

// rejectedContact cannot become a row.
func rejectedContact(n int) map[string]any {
	c := plantedContact(n, 0)
	delete(c, "created_at")
	return maps.Clone(c)
}

// tap passes a connection on and keeps all that goes through it.
type tap struct {
	net.Listener
	mu   sync.Mutex
	seen []byte
}

func newTap(t *testing.T, to string) *tap {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{Listener: l}
	var all sync.WaitGroup
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			all.Go(func() { p.pass(out, in); _ = out.Close() })
			all.Go(func() { p.pass(in, out); _ = in.Close() })
		}
	}()
	t.Cleanup(func() { _ = l.Close() })
	return p
}

func (p *tap) pass(to, from net.Conn) {
	_, _ = io.Copy(io.MultiWriter(to, writerFunc(func(b []byte) (int, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.seen = append(p.seen, b...)
		return len(b), nil
	})), from)
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func (p *tap) bytes() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.seen)
}

// bytes returns what a file below the world's directory holds.
func (w *world) bytes(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(w.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}
