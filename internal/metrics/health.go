package metrics

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sluice-etl/sluice/internal/monitor"
)

const (
	// probeTimeout is how long the scheduler and the monitor may take to answer
	// before they count as stuck. Reading state may not hold them up.
	probeTimeout = 5 * time.Second
	// mostLate is how long after its time a job may begin. The scheduler looks at
	// the clock every minute.
	mostLate = 5 * time.Minute
)

// health answers whether the daemon is alive and ready. Answers name pipelines
// and nothing that an error says: anybody may ask.
type health struct {
	o Options

	mu    sync.Mutex
	asked chan probe // where the last question is still open
}

type probe struct {
	snapshot monitor.Snapshot
	running  error
}

// ask asks the scheduler and the monitor; ok is false where one is stuck. A
// question that is still open is not asked once more.
func (h *health) ask(ctx context.Context) (p probe, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.asked == nil {
		answer := make(chan probe, 1)
		h.asked = answer
		go func() {
			answer <- probe{running: h.o.Running(), snapshot: h.o.Snapshot(context.WithoutCancel(ctx))}
		}()
	}
	timeout := time.NewTimer(probeTimeout)
	defer timeout.Stop()
	select {
	case p = <-h.asked:
		h.asked = nil
		return p, true
	case <-timeout.C:
		return probe{}, false
	}
}

// alive answers /healthz: whether the process does its work, or should be
// started anew.
func (h *health) alive(w http.ResponseWriter, r *http.Request) {
	p, ok := h.ask(r.Context())
	if !ok {
		h.answer(w, []string{"the scheduler does not answer"})
		return
	}
	var reasons []string
	for _, s := range p.snapshot.Pipelines {
		if late := p.snapshot.At.Sub(s.Next); p.running == nil && !s.Next.IsZero() && late > mostLate && len(s.Live) == 0 {
			reasons = append(reasons, fmt.Sprintf("%s should have begun %s ago", s.Name, late.Round(time.Second)))
		}
	}
	h.answer(w, reasons)
}

// ready answers /readyz: whether jobs run at their times, with state that can
// be read.
func (h *health) ready(w http.ResponseWriter, r *http.Request) {
	p, ok := h.ask(r.Context())
	if !ok {
		h.answer(w, []string{"the scheduler does not answer"})
		return
	}
	var reasons, unread []string
	if p.running != nil {
		reasons = append(reasons, "the scheduler takes no jobs: it is stopping, or has not begun")
	}
	for _, s := range p.snapshot.Pipelines {
		if s.Err != nil {
			unread = append(unread, s.Name)
		}
	}
	if len(unread) > 0 {
		reasons = append(reasons, "state cannot be read: "+strings.Join(unread, ", "))
	}
	h.answer(w, reasons)
}

// answer says that all is well, or why it is not.
func (h *health) answer(w http.ResponseWriter, reasons []string) {
	body := struct {
		Status  string   `json:"status"` // ok or unavailable
		Reasons []string `json:"reasons,omitempty"`
	}{"ok", reasons}
	code := http.StatusOK
	if len(reasons) > 0 {
		body.Status, code = "unavailable", http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		h.o.Log.Debug("the answer to a probe was not taken", slog.Any("error", err))
	}
}
