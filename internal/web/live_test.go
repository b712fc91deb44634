package web

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-etl/sluice/internal/run"
)

// reader takes what a live view sends, message by message.
type reader struct {
	http.ResponseWriter
	mu       sync.Mutex
	buffer   bytes.Buffer
	messages []message
}

type message struct {
	at   time.Time
	text string
}

func (r *reader) Write(b []byte) (int, error) { return r.buffer.Write(b) }

func (r *reader) Flush() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages = append(r.messages, message{time.Now(), r.buffer.String()})
	r.buffer.Reset()
}

func (r *reader) all() []message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]message{}, r.messages...)
}

// watch opens a live view until the test ends it.
func (w *world) watch(t *testing.T, query url.Values) (*reader, func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/live?"+query.Encode(), nil)
	r.Host = "127.0.0.1:8420"
	out := &reader{ResponseWriter: httptest.NewRecorder()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.ServeHTTP(out, r)
	}()
	return out, func() {
		cancel()
		<-done
	}
}

func parts(t *testing.T, text string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for line := range strings.Lines(text) {
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			var p struct{ ID, HTML string }
			if err := json.Unmarshal([]byte(data), &p); err != nil {
				t.Fatal(err)
			}
			out[p.ID] = p.HTML
		}
	}
	return out
}

func TestALiveViewSendsWhatHasChangedAtMostOnceASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := mixed(t, Options{})
		view, stop := w.watch(t, url.Values{"of": {"overview"}})
		defer stop()
		synctest.Wait()
		first := parts(t, view.all()[0].text)
		if len(first) != 8 { // the verdict, the tools and six pipelines
			t.Errorf("%d parts at first", len(first))
		}
		start := time.Now()
		for i := range 100 { // ten a second
			w.monitor.Observe("", run.Event{Type: "progress", RunID: "20260902T105825Z-abcdef", Pipeline: "weekly_full", Phase: "scan", Contacts: int64(50_000 + i), Pages: 50})
			time.Sleep(100 * time.Millisecond) // of the bubble's clock
		}
		got := view.all()[1:]
		if len(got) < 5 || len(got) > 10 {
			t.Errorf("%d messages in %s", len(got), time.Since(start))
		}
		for i, m := range got {
			if i > 0 && m.at.Sub(got[i-1].at) < time.Second {
				t.Errorf("message %d came %s after the one before", i, m.at.Sub(got[i-1].at))
			}
			p := parts(t, m.text)
			if len(p) != 1 || !strings.Contains(p["p-weekly_5ffull"], "50,0") {
				t.Errorf("message %d has %d parts: %s", i, len(p), m.text)
			}
		}
	})
}

func TestALiveViewIsWhatThePageHas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := mixed(t, Options{})
		runs := w.docs["orders_crm"].Runs
		for path, query := range map[string]url.Values{
			"/":                     {"of": {"overview"}},
			"/?show=problems":       {"of": {"overview"}, "show": {"problems"}},
			"/pipelines/orders_crm": {"of": {"pipeline"}, "name": {"orders_crm"}},
			runURL("orders_crm", runs[len(runs)-1].RunID): {"of": {"run"}, "name": {"orders_crm"}, "run": {runs[len(runs)-1].RunID}},
		} {
			page := w.browser(t).get(path, 200)
			view, stop := w.watch(t, query)
			synctest.Wait()
			sent := parts(t, view.all()[0].text)
			if n := strings.Count(page, "data-part="); n != len(sent) {
				t.Errorf("%s: %d parts, and %d are sent", path, n, len(sent))
			}
			for id, html := range sent {
				if !strings.Contains(page, `data-part="`+id+`"`) || !strings.Contains(page, ">"+html+"<") {
					t.Errorf("%s: part %s is another in the page:\n%s", path, id, html)
				}
			}
			stop()
		}
	})
}

func TestALiveViewOfNothingIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{}, nightly("nightly"))
	for _, query := range []string{"", "of=plan", "of=pipeline&name=nobody", "of=run&name=nightly&run=none"} {
		w.browser(t).get("/live?"+query, 404)
	}
}

func TestMoreLiveViewsThanAllowedAreRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{Streams: 1}, nightly("nightly"))
		_, stop := w.watch(t, url.Values{"of": {"overview"}})
		synctest.Wait()
		w.browser(t).get("/live?of=overview", 503)
		stop()
		_, stop = w.watch(t, url.Values{"of": {"overview"}})
		stop()
	})
}

func TestALiveViewEndsWithTheLogin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, Options{Token: secret}, nightly("nightly"))
		b := w.browser(t)
		b.post("/login", "/login", url.Values{"token": {secret}})
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/live?of=overview", nil)
		r.Host = b.host
		r.AddCookie(b.cookies["sluice-8420"])
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.ServeHTTP(&reader{ResponseWriter: httptest.NewRecorder()}, r)
		}()
		synctest.Wait()
		b.post("/", "/logout", nil)
		select {
		case <-done:
		case <-time.After(time.Minute): // of the bubble's clock
			t.Error("it goes on")
		}
	})
}
