// Package sandbox serves the contacts endpoint from generated, changing
// contacts, with every behaviour of the real one that an exporter has to
// survive: ties, late-visible rows, caps, faults, a skewed clock. It keeps the
// truth at hand (Each, Dump), so that a test can judge what was exported.
//
// The data is a function of the number of contacts and the seed alone; so are
// changes per request and faults, given the order of requests.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/sluice-etl/sluice/internal/clock"
)

// Server is a sandbox. Its methods may be called from any goroutine.
type Server struct {
	opts   Options
	clk    clock.Clock
	faults *injector
	gzip   gzipPool
	pages  sync.Pool // *pageBuffer
	routes http.Handler

	mu    sync.RWMutex
	store *store
}

// New makes the contacts. It fails where an option is out of its range.
func New(o Options, clk clock.Clock) (*Server, error) {
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("check sandbox options: %w", err)
	}
	o.normalize()
	switch {
	case o.LateDelay > 0 && o.LateRequests > 0:
		return nil, errors.New("check sandbox options: late_delay and late_requests exclude each other")
	case o.LateShare > 0 && o.LateDelay == 0 && o.LateRequests == 0:
		return nil, errors.New("check sandbox options: late_share needs late_delay or late_requests")
	}
	s := &Server{opts: o, clk: clk, faults: newInjector(&o)}
	s.store = newStore(&s.opts)
	s.routes = s.makeRoutes()
	return s, nil
}

// ClientID is the client_id of every contact.
func (s *Server) ClientID() string { return s.store.g.client.String() }

// Now is the sandbox's clock.
func (s *Server) Now() time.Time {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.now()
}

func (s *Server) now() time.Time {
	return s.clk.Now().Add(s.opts.Skew + time.Duration(s.store.pages)*s.opts.ClockStep)
}

// advance brings the contacts up to now, which it returns in microseconds. The
// caller holds the lock.
func (s *Server) advance() int64 {
	now := s.now().UnixMicro()
	s.store.advance(now)
	return now
}

// Handler serves the public API and, under /_sandbox/, the truth and the
// controls, which need the key as well: GET dump and stats, POST mutate with a
// Mutation, and for one contact POST contact/{id}/touch, update (with a
// Change), message and restore (?touch=true), and DELETE contact/{id}.
func (s *Server) Handler() http.Handler { return s.routes }

// handler answers one route.
type handler func(r *http.Request) reply

func (s *Server) makeRoutes() http.Handler {
	mux := http.NewServeMux()
	public := func(pattern string, h handler) { mux.Handle(pattern, s.guard(h, true)) }
	public("GET /api/public/contacts", s.listContacts)
	public("GET /api/public/contact/{id}/info", s.contactInfo)
	public("GET /api/public/pipeline", s.listPipelines)
	public("GET /api/public/whatsapp/contact/contacts", s.listWhatsApp)
	public("POST /api/public/customer/upsert/info", s.upsert)
	public("POST /api/public/contact/{id}/update-metadata", s.updateMetadata)
	control := func(pattern string, h handler) { mux.Handle(pattern, s.guard(h, false)) }
	control("GET /_sandbox/dump", s.dump)
	control("GET /_sandbox/stats", s.stats)
	control("POST /_sandbox/mutate", s.mutate)
	control("POST /_sandbox/contact/{id}/touch", s.touchContact)
	control("POST /_sandbox/contact/{id}/update", s.updateContact)
	control("POST /_sandbox/contact/{id}/message", s.messageContact)
	control("POST /_sandbox/contact/{id}/restore", s.restoreContact)
	control("DELETE /_sandbox/contact/{id}", s.deleteContact)
	control("/", func(r *http.Request) reply {
		return failure(http.StatusNotFound, "Cannot "+r.Method+" "+r.URL.Path)
	})
	return mux
}

// guard puts in front of a route what all have in common: the key and, for the
// public API, rate limit, latency and faults.
func (s *Server) guard(h handler, public bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Api-Key") != s.opts.APIKey {
			s.send(w, r, failure(http.StatusUnauthorized, "Invalid or missing API key: send it in the header x-api-key"), fault{})
			return
		}
		if !public {
			s.send(w, r, h(r), fault{})
			return
		}
		if wait, ok := s.faults.admit(s.Now()); !ok {
			s.tooMany(w, r, wait)
			return
		}
		if !s.delay(r) {
			return // the client left
		}
		var f fault
		if r.Method == http.MethodGet {
			f = s.faults.decide()
		}
		if s.fail(w, r, f) {
			return
		}
		if r.URL.Path == "/api/public/whatsapp/contact/contacts" {
			w.Header().Set("Deprecation", "true")
		}
		if f.kind == faultDisorder {
			r = r.WithContext(context.WithValue(r.Context(), disorderKey{}, true))
		}
		s.send(w, r, h(r), f)
	})
}

// disorderKey marks a request whose page comes out of order.
type disorderKey struct{}

// delay waits for the latency; false if the client leaves meanwhile.
func (s *Server) delay(r *http.Request) bool {
	d := s.opts.Latency
	if jitter := s.opts.LatencyJitter; jitter > 0 {
		s.faults.mu.Lock()
		h := mix(s.faults.seed ^ mix(s.faults.requests+0x1a7e))
		s.faults.mu.Unlock()
		d += time.Duration(below(h, uint64(jitter)))
	}
	if d <= 0 {
		return true
	}
	return clock.Sleep(r.Context(), d) == nil
}

// Running is a Server that listens.
type Running struct {
	URL string // http://host:port

	server *http.Server
	done   chan struct{}
	err    error // valid once done is closed
}

const (
	headerTimeout = 10 * time.Second       // for a client to send its headers
	stopGrace     = time.Second            // for answers under way when the sandbox stops
	tick          = 100 * time.Millisecond // between changes per second
)

// Start listens on addr, by default a free port of 127.0.0.1, and serves until
// ctx ends or Close is called. An address that is not loopback needs
// Options.AllowRemote.
func (s *Server) Start(ctx context.Context, addr string) (*Running, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	if err := s.checkAddr(addr); err != nil {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("start sandbox: %w", err)
	}
	run := &Running{
		URL:  "http://" + listener.Addr().String(),
		done: make(chan struct{}),
		server: &http.Server{
			Handler: s.Handler(), ReadHeaderTimeout: headerTimeout,
			ErrorLog: log.New(io.Discard, "", 0), // aborted connections are what it is for
		},
	}
	served := make(chan error, 1)
	go func() { served <- run.server.Serve(listener) }()
	go run.supervise(ctx, s, served)
	return run, nil
}

// supervise makes the changes per second and waits for the end.
func (run *Running) supervise(ctx context.Context, s *Server, served <-chan error) {
	defer close(run.done)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s.mu.Lock()
			s.advance()
			s.mu.Unlock()
		case <-ctx.Done():
			grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
			_ = run.server.Shutdown(grace) // a stall outlasts it: Close ends that
			cancel()
			_ = run.server.Close()
			run.finish(<-served)
			return
		case err := <-served:
			run.finish(err)
			return
		}
	}
}

func (run *Running) finish(err error) {
	if !errors.Is(err, http.ErrServerClosed) {
		run.err = fmt.Errorf("serve sandbox: %w", err)
	}
}

// Close stops at once and waits until it has stopped.
func (run *Running) Close() error {
	_ = run.server.Close() // a listener that is closed already is no error here
	return run.Wait()
}

// Wait blocks until the sandbox has stopped: because ctx ended, by Close, or
// for the error it returns.
func (run *Running) Wait() error {
	<-run.done
	return run.err
}

func (s *Server) checkAddr(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("start sandbox: address must be host:port: %w", err)
	}
	ip := net.ParseIP(host)
	if s.opts.AllowRemote || host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("start sandbox: %q is not a loopback address; use 127.0.0.1, or allow remote clients", addr)
}
