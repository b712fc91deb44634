package web

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/sluice-etl/sluice/internal/clock"
)

const (
	// liveEvery is the least time between two messages of a live view, liveIdle
	// the most: times such as "5 min ago" grow old by themselves.
	liveEvery = time.Second
	liveIdle  = 15 * time.Second
	// liveFor is how long one lasts; the script then asks for another.
	liveFor = time.Hour
	// liveWrite is how long a reader may take to take a message.
	liveWrite = 20 * time.Second
)

// part is a part of a page that is rendered anew: the element that has it, the
// template, and what it shows.
type part struct {
	ID, template string
	data         any
}

// live sends the parts of a page as Server-Sent Events: all of them at first, and
// then those that have changed, at most once a second.
func (p *Page) live(w http.ResponseWriter, r *http.Request) {
	parts := p.partsOf(r)
	if parts == nil {
		http.Error(w, "There is no such view.", http.StatusNotFound)
		return
	}
	select {
	case p.streams <- struct{}{}:
		defer func() { <-p.streams }()
	default:
		w.Header().Set("Retry-After", "30")
		http.Error(w, "Too many pages are open: this one does not follow.", http.StatusServiceUnavailable)
		return
	}
	changed, stop := p.o.Monitor.Watch()
	defer stop()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")                      // nginx would keep it
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // as below
	s := stream{page: p, w: w, control: http.NewResponseController(w), sent: map[string][]byte{}}
	end := time.NewTimer(liveFor)
	defer end.Stop()
	for {
		if err := s.send(parts(r.Context())); err != nil {
			return // the reader went away
		}
		// No sooner than a second later, and then once something has changed.
		if !pause(r, end.C, time.NewTimer(liveEvery), nil) || !pause(r, end.C, time.NewTimer(liveIdle), changed) {
			return
		}
		if p.o.Token != "" && bearer(r) == "" && !p.sessions.has(p.cookie(r), p.o.Clock.Now()) {
			return // logged out meanwhile
		}
	}
}

// pause waits for the timer, or for a change; it is false where the stream ends.
func pause(r *http.Request, end <-chan time.Time, t *time.Timer, changed <-chan struct{}) bool {
	defer t.Stop()
	select {
	case <-r.Context().Done():
		return false
	case <-end:
		return false
	case <-t.C:
		return true
	case <-changed:
		return true
	}
}

// stream is the open answer to one live view.
type stream struct {
	page    *Page
	w       http.ResponseWriter
	control *http.ResponseController
	sent    map[string][]byte
}

// send writes the parts that differ from what was sent before.
func (s *stream) send(parts []part) error {
	var b bytes.Buffer
	for _, part := range parts {
		html, err := s.page.rendered(part.template, part.data)
		if err != nil {
			s.page.o.Log.Error("a part of a page could not be rendered", "part", part.ID, "error", err)
			continue
		}
		if bytes.Equal(html, s.sent[part.ID]) {
			continue
		}
		s.sent[part.ID] = html
		message, err := json.Marshal(map[string]string{"id": part.ID, "html": string(html)})
		if err != nil {
			return fmt.Errorf("encode part: %w", err)
		}
		fmt.Fprintf(&b, "event: part\ndata: %s\n\n", message)
	}
	if b.Len() == 0 {
		b.WriteString(": nothing new\n\n")
	}
	// The kernel's deadlines are of its own clock. A writer without any has none
	// to move.
	_ = s.control.SetWriteDeadline(clock.System{}.Now().Add(liveWrite))
	if _, err := s.w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("write to a live view: %w", err)
	}
	if err := s.control.Flush(); err != nil {
		return fmt.Errorf("write to a live view: %w", err)
	}
	return nil
}

// partsOf is what makes the parts of the view that a request asks for; nil where
// there is none.
func (p *Page) partsOf(r *http.Request) func(context.Context) []part {
	q := r.URL.Query()
	name := q.Get("name")
	switch q.Get("of") {
	case "overview":
		problems := q.Get("show") == "problems"
		return func(ctx context.Context) []part {
			return overviewParts(p.overviewOf(p.o.Monitor.Snapshot(ctx), problems))
		}
	case "pipeline":
		if _, ok := p.o.Monitor.Status(r.Context(), name); !ok {
			return nil
		}
		return func(ctx context.Context) []part {
			s, _ := p.o.Monitor.Status(ctx, name)
			now := p.o.Clock.Now()
			return []part{{"row", "row", row(s, now, false)}, {"details", "details", details(s, now)}}
		}
	case "run":
		if _, ok := p.runBody(r.Context(), name, q.Get("run")); !ok {
			return nil
		}
		return func(ctx context.Context) []part {
			body, _ := p.runBody(ctx, name, q.Get("run"))
			return []part{{"run", "runbody", body}}
		}
	default:
		return nil
	}
}

// overviewParts are the parts of the overview: each pipeline is one, unless which
// are shown depends on how they are.
func overviewParts(v Overview) []part {
	list := []part{{"verdict", "verdict", v.Verdict}, {"tools", "tools", v}}
	if v.Problems {
		return append(list, part{"list", "list", v})
	}
	for _, g := range v.Groups {
		if g.Name != "" {
			list = append(list, part{g.ID, "grouphead", g})
		}
		for _, r := range g.Rows {
			list = append(list, part{r.ID, "row", r})
		}
	}
	return list
}
