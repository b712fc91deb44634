package web

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sluice-etl/sluice/internal/clock"
)

const (
	// planGood is how long a plan is shown again without looking anew, countGood
	// how long one for which sources were asked.
	planGood  = time.Minute
	countGood = 10 * time.Minute
	// planTime bounds how long a plan may take.
	planTime = 3 * time.Minute
)

// plans keep the last plan, without and with counts.
type plans struct {
	making sync.Mutex // held while one is made
	mu     sync.Mutex
	last   [2]made
}

type made struct {
	text string
	at   time.Time
	err  error
}

// PlanPage is the page of the plan.
type PlanPage struct {
	Frame
	Lines   []PlanLine
	At      *When
	Counted bool
	CanAct  bool
	Error   string
	Hints   []string
}

// PlanLine is a line of a plan, with its colour.
type PlanLine struct{ Text, Class string }

func (p *Page) plan(w http.ResponseWriter, r *http.Request) {
	counted := r.URL.Query().Get("counted") != ""
	slow(w)
	m := p.planOf(r.Context(), counted && p.recent(true))
	v := PlanPage{Frame: p.frame(w, r, "Plan"), At: when(m.at, p.o.Clock.Now(), time.UTC), Counted: counted && p.recent(true), CanAct: p.o.Actions != nil}
	v.Here = "plan"
	code := http.StatusOK
	if m.err != nil {
		v.Error, v.Hints, code = sentence(m.err), p.hints(m.err), http.StatusServiceUnavailable
	} else {
		v.Lines = planLines(m.text)
	}
	p.render(w, code, "plan", v)
}

// countPlan asks the sources too, which a page that is merely looked at does not.
func (p *Page) countPlan(w http.ResponseWriter, r *http.Request) {
	if !p.sentByForm(w, r) {
		return
	}
	slow(w)
	p.planOf(r.Context(), true)
	http.Redirect(w, r, "/plan?counted=1", http.StatusSeeOther)
}

// slow lets an answer take as long as a plan may.
func slow(w http.ResponseWriter) {
	end := clock.System{}.Now().Add(planTime + time.Minute) // the kernel has a clock of its own
	control := http.NewResponseController(w)
	_, _ = control.SetWriteDeadline(end), control.SetReadDeadline(end) // a writer without deadlines has none to move
}

func index(counted bool) int {
	if counted {
		return 1
	}
	return 0
}

// recent reports whether the last plan is still good.
func (p *Page) recent(counted bool) bool {
	p.plans.mu.Lock()
	defer p.plans.mu.Unlock()
	m := p.plans.last[index(counted)]
	good := planGood
	if counted {
		good = countGood
	}
	return !m.at.IsZero() && p.o.Clock.Now().Sub(m.at) < good
}

// planOf is the plan, made anew where the last one is old. One is made at a time.
func (p *Page) planOf(ctx context.Context, counted bool) made {
	if p.o.Actions == nil {
		return made{at: p.o.Clock.Now(), text: ""}
	}
	p.plans.making.Lock()
	defer p.plans.making.Unlock()
	if !p.recent(counted) {
		// Who asked may go away; who asks next would have to wait once more.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), planTime)
		defer cancel()
		text, err := p.o.Actions.Plan(ctx, counted)
		m := made{text: text, at: p.o.Clock.Now(), err: err}
		p.plans.mu.Lock()
		p.plans.last[index(counted)] = m
		p.plans.mu.Unlock()
		return m
	}
	p.plans.mu.Lock()
	defer p.plans.mu.Unlock()
	return p.plans.last[index(counted)]
}

// planLines gives the lines of a plan the colours that they have on a terminal.
func planLines(text string) []PlanLine {
	var out []PlanLine
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		l := PlanLine{Text: line}
		switch first, _, _ := strings.Cut(strings.TrimSpace(line), " "); first {
		case "+":
			l.Class = "add"
		case "~":
			l.Class = "change"
		case "-/+":
			l.Class = "remove"
		case "-":
			if !strings.HasPrefix(line, "    - ") { // what follows from a change
				l.Class = "remove"
			}
		}
		out = append(out, l)
	}
	return out
}
