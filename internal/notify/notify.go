// Package notify tells people how pipelines fare: that one fails, that it is done
// again, that its data grows old. It looks at what the monitor knows and at what
// state says was told already, so that a daemon that is started anew, or the next
// cron job, neither repeats a notice nor loses the one that ends it.
package notify

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/monitor"
	"github.com/sluice-etl/sluice/internal/schedule"
)

const (
	kindSync = "sync"
	slack    = "slack"

	// lookEvery is how often is looked for what to tell, besides after events:
	// data grows old without one.
	lookEvery = time.Minute
	// spacing is the least time between two looks: a run that goes on tells of its
	// progress all the time.
	spacing = time.Second
	// again is how long after a notice that nobody took it is tried anew.
	again = 10 * time.Minute
	// settle is how long after a mark was saved the monitor may still show state
	// from before.
	settle = time.Minute
	// atOnce is how many messages are on their way at most.
	atOnce = 8
)

// Target is who is told.
type Target struct {
	Name string
	Type string // slack or webhook
	URL  string // a key
	// On are the events that it is told of: failure, recovery (which is fresh too)
	// and stale. Pipelines are the names of those that it is told of.
	On, Pipelines []string
}

// Options are what a Notifier works with.
type Options struct {
	Clock   clock.Clock
	Log     *slog.Logger
	Targets []Target
	// Heartbeats are the URLs, each a key, that hear of syncs that are done, by
	// pipeline.
	Heartbeats map[string]string
	Snapshot   func(context.Context) monitor.Snapshot
	// Mark has state remember that a trouble was told, and when it began; a zero
	// time that it is over.
	Mark func(ctx context.Context, pipeline, trouble string, since time.Time) error
	// Clean hides secrets in a text.
	Clean func(string) string
	// Page is where people reach the daemon's page, the base of the links to it;
	// empty for no links.
	Page string
	// Version is the build's.
	Version string
	// RetryFor is how long a message is sent again. 0: 10 minutes.
	RetryFor time.Duration
	// Transport carries requests; nil: the default.
	Transport http.RoundTripper
}

// Notifier tells what there is to tell. It is safe for concurrent use.
type Notifier struct {
	o      Options
	client *http.Client
	slots  chan struct{}
	way    sync.WaitGroup // of messages
	halt   chan struct{}  // closed when heartbeats are given up
	halted sync.Once

	mu    sync.Mutex
	busy  map[key]bool      // a notice of it is on its way
	marks map[key]mark      // what was told by this process
	pause map[key]time.Time // nobody took it: not before
}

// key is a pipeline's failure or staleness, or its heartbeat.
type key struct{ pipeline, what string }

type mark struct {
	since time.Time // zero: it is over
	at    time.Time // when it was noted
	saved bool
}

// New returns a Notifier that tells nothing yet.
func New(o Options) *Notifier {
	if o.RetryFor == 0 {
		o.RetryFor = 10 * time.Minute
	}
	return &Notifier{
		o: o, halt: make(chan struct{}), slots: make(chan struct{}, atOnce), busy: map[key]bool{}, marks: map[key]mark{}, pause: map[key]time.Time{},
		// A redirect would carry a key to whom nobody has named.
		client: &http.Client{Transport: o.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
}

// Run tells what there is to tell, now, whenever changed has a value and every
// minute, until ctx ends. It looks once more then, and waits for messages on
// their way no longer than grace.
func (n *Notifier) Run(ctx context.Context, changed <-chan struct{}, grace time.Duration) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	sending, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	for ctx.Err() == nil {
		n.look(sending)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-ticker.C:
		}
		_ = clock.Sleep(ctx, spacing) // or until it is time to stop
	}
	n.look(sending)
	timer := time.AfterFunc(grace, func() {
		stop()
		n.giveUp()
	})
	defer timer.Stop()
	n.way.Wait()
}

// giveUp ends the sending of heartbeats.
func (n *Notifier) giveUp() { n.halted.Do(func() { close(n.halt) }) }

// Tell tells what there is to tell now, and waits until it is told or given up.
func (n *Notifier) Tell(ctx context.Context) {
	defer context.AfterFunc(ctx, n.giveUp)()
	n.look(ctx)
	n.way.Wait()
}

// Schedule takes what the scheduler tells: a sync that is done is a heartbeat. It
// does not block.
func (n *Notifier) Schedule(e schedule.Event) {
	address := n.o.Heartbeats[e.Name]
	k := key{e.Name, "heartbeat"}
	if e.Type != schedule.Finished || e.Kind != "" && e.Kind != kindSync || address == "" || !n.begin(k) {
		return
	}
	n.way.Go(func() {
		defer n.end(k)
		ctx, cancel := context.WithCancel(context.Background()) //nolint:forbidigo // of no run: it ends with what is told, see giveUp
		defer cancel()
		go func() {
			select {
			case <-n.halt:
				cancel()
			case <-ctx.Done():
			}
		}()
		if err := n.send(ctx, request{method: http.MethodGet, url: address}); err != nil {
			n.o.Log.Error("the heartbeat was not delivered", slog.String("pipeline", e.Name), slog.String("to", host(address)), slog.String("error", n.o.Clean(err.Error())))
		}
	})
}

func (n *Notifier) begin(k key) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	was := n.busy[k]
	n.busy[k] = true
	return !was
}

func (n *Notifier) end(k key) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.busy, k)
}

// look begins to tell what there is to tell.
func (n *Notifier) look(ctx context.Context) {
	if len(n.o.Targets) == 0 {
		return
	}
	s := n.o.Snapshot(ctx)
	for _, p := range s.Pipelines {
		for _, notice := range due(p, n.told(p, s.At), s.At) {
			k := key{p.Name, notice.trouble}
			n.mu.Lock()
			early := s.At.Before(n.pause[k])
			n.mu.Unlock()
			if early || !n.begin(k) {
				continue
			}
			n.way.Go(func() {
				defer n.end(k)
				n.tell(ctx, k, notice)
			})
		}
	}
}

// told are the troubles of a pipeline that were told: as state has it, but for
// what this process has just noted.
func (n *Notifier) told(p monitor.Status, now time.Time) map[string]time.Time {
	out := map[string]time.Time{}
	for trouble, since := range p.Told {
		out[trouble] = since
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, trouble := range []string{Failure, Stale} {
		k := key{p.Name, trouble}
		m, ok := n.marks[k]
		switch {
		case !ok:
		case m.saved && now.Sub(m.at) > settle && p.ReadAt.Sub(m.at) > settle:
			delete(n.marks, k) // state has it by now, and other processes may have changed it
		case m.since.IsZero():
			delete(out, trouble)
		default:
			out[trouble] = m.since
		}
	}
	return out
}

// tell tells all who want to know, and has state remember it once one has taken
// it. What nobody takes is tried anew later.
func (n *Notifier) tell(ctx context.Context, k key, notice Notice) {
	var wanting []Target
	for _, t := range n.o.Targets {
		if t.wants(notice) {
			wanting = append(wanting, t)
		}
	}
	if len(wanting) == 0 && notice.begins {
		return // and nobody is told of its end
	}
	if n.o.Page != "" {
		notice.Page = strings.TrimSuffix(n.o.Page, "/") + "/pipelines/" + url.PathEscape(notice.Pipeline)
	}
	taken := make([]bool, len(wanting))
	var all sync.WaitGroup
	for i, t := range wanting {
		all.Go(func() { taken[i] = n.Send(ctx, t, notice) == nil })
	}
	all.Wait()
	if len(wanting) > 0 && !slices.Contains(taken, true) {
		n.mu.Lock()
		n.pause[k] = n.o.Clock.Now().Add(again)
		n.mu.Unlock()
		return
	}
	m := mark{at: n.o.Clock.Now()}
	if notice.begins {
		m.since = *notice.Since
	}
	err := n.o.Mark(context.WithoutCancel(ctx), k.pipeline, k.what, m.since)
	if err != nil {
		n.o.Log.WarnContext(ctx, "that it was told could not be noted in state: another start tells it again", slog.String("pipeline", k.pipeline), slog.String("error", n.o.Clean(err.Error())))
	}
	m.saved = err == nil
	n.mu.Lock()
	n.marks[k] = m
	n.mu.Unlock()
}

func (t Target) wants(n Notice) bool {
	event := n.Event
	if event == Fresh {
		event = Recovery
	}
	return slices.Contains(t.On, event) && slices.Contains(t.Pipelines, n.Pipeline)
}

// Send sends one notice to one target, and blocks until it is taken or given up,
// which the log tells too.
func (n *Notifier) Send(ctx context.Context, t Target, notice Notice) error {
	n.slots <- struct{}{}
	defer func() { <-n.slots }()
	body, err := notice.cleaned(n.o.Clean).body(t.Type)
	if err == nil {
		header := http.Header{"Content-Type": {"application/json"}, "Sluice-Event": {notice.Event}}
		err = n.send(ctx, request{method: http.MethodPost, url: t.URL, body: body, header: header})
	}
	attrs := []any{slog.String("notice", t.Name), slog.String("event", notice.Event), slog.String("pipeline", notice.Pipeline), slog.String("to", host(t.URL))}
	if err != nil {
		n.o.Log.ErrorContext(ctx, "the notice was not delivered", append(attrs, slog.String("error", n.o.Clean(err.Error())))...)
		return err
	}
	n.o.Log.InfoContext(ctx, "notice sent", attrs...)
	return nil
}

// NewTest returns a notice that tells that nothing has happened.
func NewTest(at time.Time) Notice { return Notice{Version: Version, Event: Test, At: at.UTC()} }
