// Package web is the daemon's page: whether the last night worked, how fresh the
// data is, and what is wrong. It shows what a monitor knows, and asks the daemon
// for what a person may want done.
//
// Everything works without JavaScript; the one small script replaces parts of a
// page as the daemon renders them anew. All text of a file or a server goes
// through html/template, and nothing is loaded from another host.
package web

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/monitor"
)

// Actions are what the page can have done. They are safe for concurrent use, and
// return once something is under way, not when it is done.
type Actions interface {
	// RunNow begins a run of the pipeline called so.
	RunNow(ctx context.Context, pipeline string) error
	// Backfill begins to read a range again. A *FieldError says what is wrong with
	// what was typed.
	Backfill(ctx context.Context, r BackfillRequest) error
	// Plan looks at the destinations and returns the plan as text; with count it
	// asks the sources as well how much the next runs would read. It blocks until
	// that is done.
	Plan(ctx context.Context, count bool) (string, error)
}

// BackfillRequest is what was typed into the form, unchecked.
type BackfillRequest struct {
	Pipeline, From, To, By, Window, Parallel string
}

// FieldError says what is wrong with one field of a form.
type FieldError struct {
	Field   string // from, to, by, window or parallel; empty for the whole
	Message string
}

func (e *FieldError) Error() string { return e.Message }

// Options are what the page works with.
type Options struct {
	Clock   clock.Clock
	Log     *slog.Logger
	Monitor *monitor.Monitor
	Actions Actions
	// Token is asked of everybody; empty: of nobody, which is for loopback alone.
	Token string
	// Hosts are the names that the page is reached by, besides loopback's and, with
	// a token, addresses. Without ports.
	Hosts []string
	// Origin is where people reach the page, scheme and host, as behind a proxy;
	// empty: where it listens.
	Origin string
	// Port tells the cookies of several daemons of a host apart.
	Port string
	// Clean takes keys out of what is sent; nil: there are none.
	Clean func([]byte) []byte
	// Hints says what to do about an error; nil: nothing is known.
	Hints func(error) []string
	// Command is how sluice is called for the file: "sluice -f x.yaml".
	Command string
	// Metrics needs the token where there is one, Healthz and Readyz never; nil:
	// there is no such page.
	Metrics, Healthz, Readyz http.Handler
	// Streams is how many live views there may be at once. 0: 64.
	Streams int
}

// Page is the http.Handler of the page.
type Page struct {
	o         Options
	templates *template.Template
	handler   http.Handler
	cross     *http.CrossOriginProtection
	key       []byte // of the tokens in forms
	sessions  sessions
	wrong     attempts
	streams   chan struct{} // as many as there may be
	plans     plans
}

var _ http.Handler = (*Page)(nil)

// New returns the page.
func New(o Options) (*Page, error) {
	if o.Streams == 0 {
		o.Streams = 64
	}
	p := &Page{o: o, cross: http.NewCrossOriginProtection(), key: make([]byte, 32), streams: make(chan struct{}, o.Streams)}
	_, _ = rand.Read(p.key) // it never fails: crypto/rand says so
	if o.Origin != "" {
		if err := p.cross.AddTrustedOrigin(o.Origin); err != nil {
			return nil, fmt.Errorf("read address of the page: %w", err)
		}
	}
	var err error
	if p.templates, err = parseTemplates(); err != nil {
		return nil, fmt.Errorf("read templates of the page: %w", err)
	}
	p.handler = p.routes()
	return p, nil
}

func (p *Page) routes() http.Handler {
	own := http.NewServeMux() // behind the token
	own.HandleFunc("GET /{$}", p.overview)
	own.HandleFunc("GET /pipelines/{name}", p.pipeline)
	own.HandleFunc("POST /pipelines/{name}/run", p.runNow)
	own.HandleFunc("POST /pipelines/{name}/backfill", p.backfill)
	own.HandleFunc("GET /pipelines/{name}/runs/{run}", p.run)
	own.HandleFunc("GET /plan", p.plan)
	own.HandleFunc("POST /plan", p.countPlan)
	own.HandleFunc("GET /live", p.live)
	own.HandleFunc("POST /logout", p.logout)
	own.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		p.refuse(w, r, http.StatusNotFound, "There is no such page.", "")
	})
	if p.o.Metrics != nil {
		own.Handle("GET /metrics", p.o.Metrics)
	}
	open := http.NewServeMux()
	open.HandleFunc("GET /static/{file}", static)
	open.HandleFunc("GET /login", p.loginForm)
	open.HandleFunc("POST /login", p.login)
	open.Handle("/", p.withToken(own))

	all := http.NewServeMux()
	for path, h := range map[string]http.Handler{"GET /healthz": p.o.Healthz, "GET /readyz": p.o.Readyz} {
		if h != nil {
			all.Handle(path, h)
		}
	}
	all.Handle("/", p.atHome(p.sameOrigin(open)))
	return secured(all)
}

// ServeHTTP answers a request.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.handler.ServeHTTP(w, r) }

// pipelineURL is where the page of a pipeline is.
func pipelineURL(name string) string { return "/pipelines/" + url.PathEscape(name) }

// runURL is where the page of a run is.
func runURL(pipeline, run string) string {
	return pipelineURL(pipeline) + "/runs/" + url.PathEscape(run)
}

// hints are what can be done about an error.
func (p *Page) hints(err error) []string {
	if p.o.Hints == nil || err == nil {
		return nil
	}
	return p.o.Hints(err)
}

// fieldError is the field that an error is about, nil for none.
func fieldError(err error) *FieldError {
	var f *FieldError
	if errors.As(err, &f) {
		return f
	}
	return nil
}
