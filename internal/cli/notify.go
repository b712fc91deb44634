package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/diag"
	"github.com/sluice-etl/sluice/internal/metrics"
	"github.com/sluice-etl/sluice/internal/monitor"
	"github.com/sluice-etl/sluice/internal/notify"
	"github.com/sluice-etl/sluice/internal/schedule"
	"github.com/sluice-etl/sluice/internal/state"
)

const (
	// noticeGrace is how long a daemon that stops tries to deliver what it has to
	// tell.
	noticeGrace = 10 * time.Second
	// noticeRetry is how long a command that somebody waits for tries.
	noticeRetry = time.Minute
)

func (a *app) notifyCommand() *cobra.Command {
	c := command(&cobra.Command{
		Use:   "notify",
		Short: "Looks after the notices that pipelines.yaml asks for",
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
		Args:  noArgs,
	})
	c.AddCommand(command(&cobra.Command{
		Use:   "test [NAME...]",
		Short: "Sends a notice that nothing has happened",
		Long: `Sends a notice that nothing has happened to each entry of notify, or to those
named, and says who has taken it. Nothing is noted in state.`,
		Example:           "  sluice notify test ops",
		RunE:              func(c *cobra.Command, names []string) error { return a.notifyTest(c.Context(), names) },
		ValidArgsFunction: cobra.NoFileCompletions,
	}))
	return c
}

func (a *app) notifyTest(ctx context.Context, names []string) error {
	cfg, err := a.load()
	if err != nil {
		return err
	}
	chosen, err := chooseNotices(cfg, names)
	if err != nil {
		return err
	}
	n := notify.New(a.noticeOptions(cfg, nil, nil, noticeRetry))
	var failed []error
	for _, notice := range chosen {
		if notice.URL.IsZero() {
			failed = append(failed, &userError{message: "notice " + notice.Name + " has no url", hint: "set the variable that it is taken from"})
			continue
		}
		if err := n.Send(ctx, targetOf(notice), notify.NewTest(a.Clock.Now())); err != nil {
			failed = append(failed, &userError{message: "notice " + notice.Name, err: err, hint: "look at its url, and whether this machine reaches it"})
			continue
		}
		if _, err := fmt.Fprintf(a.Streams.Out, "%s has taken it.\n", notice.Name); err != nil {
			return fmt.Errorf("print result: %w", err)
		}
	}
	return errors.Join(failed...)
}

func chooseNotices(cfg *config.Config, names []string) ([]*config.Notice, error) {
	var known []string
	byName := map[string]*config.Notice{}
	for _, n := range cfg.Notify {
		known, byName[n.Name] = append(known, n.Name), n
	}
	if len(known) == 0 {
		return nil, &userError{message: cfg.File + " has no notify", hint: "add one, as in notify: {ops: {type: slack, url: \"${SLACK_URL}\"}}"}
	}
	if len(names) == 0 {
		return cfg.Notify, nil
	}
	var chosen []*config.Notice
	for _, name := range names {
		n := byName[name]
		if n == nil {
			return nil, &userError{message: fmt.Sprintf("no notice is called %q in %s", name, cfg.File), hint: diag.Hint(name, known)}
		}
		chosen = append(chosen, n)
	}
	return chosen, nil
}

func targetOf(n *config.Notice) notify.Target {
	return notify.Target{Name: n.Name, Type: n.Type, URL: n.URL.Reveal(), On: n.On, Pipelines: n.Pipelines}
}

// noticeOptions are those of the notices and heartbeats that the file asks for.
// store and m may be nil where nothing is looked at.
func (a *app) noticeOptions(cfg *config.Config, store *state.Store, m *monitor.Monitor, retryFor time.Duration) notify.Options {
	o := notify.Options{
		Clock: a.Clock, Log: a.log, Heartbeats: map[string]string{}, Page: cfg.Daemon.URL, Version: version(), RetryFor: retryFor,
		Clean: func(s string) string { return string(a.secrets.clean([]byte(s))) },
		Mark: func(ctx context.Context, pipeline, trouble string, since time.Time) error {
			_, err := store.Update(ctx, pipeline, func(p *state.Pipeline) error {
				p.NoteTold(trouble, since)
				return nil
			})
			return err
		},
	}
	if m != nil {
		o.Snapshot = m.Snapshot
	}
	for _, n := range cfg.Notify {
		if !n.URL.IsZero() {
			o.Targets = append(o.Targets, targetOf(n))
		}
	}
	for _, p := range cfg.Pipelines {
		if !p.Heartbeat.IsZero() {
			o.Heartbeats[p.Name] = p.Heartbeat.Reveal()
		}
	}
	return o
}

// teller tells how runs of this command ended, as the daemon does.
type teller struct {
	app      *app
	monitor  *monitor.Monitor
	notifier *notify.Notifier
}

// newTeller returns nil where nobody is told: flag is --notify.
func (a *app) newTeller(cfg *config.Config, chosen []*config.Pipeline, store *state.Store, flag bool) *teller {
	if !flag {
		return nil
	}
	only := *cfg
	only.Pipelines = chosen
	m := monitor.New(monitor.Options{Clock: a.Clock, Pipelines: monitored(&only), Load: store.Load, Hints: hints})
	return &teller{app: a, monitor: m, notifier: notify.New(a.noticeOptions(cfg, store, m, noticeRetry))}
}

// ran notes how a pipeline's run ended; one that stood back says nothing.
func (t *teller) ran(pipeline string, err error) {
	if t == nil || err != nil && elsewhere(err) {
		return
	}
	tell := func(typ schedule.EventType) {
		e := schedule.Event{Type: typ, Name: pipeline, Trigger: schedule.Manual, Attempt: 1, Time: t.app.Clock.Now(), Err: err}
		t.monitor.Schedule(e)
		t.notifier.Schedule(e)
	}
	if err == nil {
		tell(schedule.Finished)
		return
	}
	tell(schedule.Failed)
	tell(schedule.GivenUp)
}

// tell tells it, unless somebody stopped the command: they know.
func (t *teller) tell(ctx context.Context) {
	if t != nil && ctx.Err() == nil {
		t.notifier.Tell(ctx)
	}
}

// instrument has the daemon count what it does, and answer whether it is well.
func (d *daemon) instrument() {
	m := metrics.New(metrics.Options{
		Pipelines: monitored(d.cfg), Snapshot: d.monitor.Snapshot, Version: version(), Log: d.app.log,
		Running: d.scheduler.Ready,
	})
	d.watch(watcher{schedule: m.Schedule, run: m.Observe})
	d.metrics, d.healthz, d.readyz = m.Handlers()
}

// tellOthers has the daemon tell what notify and heartbeat ask for, until stop,
// which waits for what is on its way.
func (d *daemon) tellOthers(ctx context.Context) (stop func()) {
	n := notify.New(d.app.noticeOptions(d.cfg, d.store, d.monitor, 0))
	d.watch(watcher{schedule: n.Schedule})
	changed, unwatch := d.monitor.Watch()
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		n.Run(ctx, changed, noticeGrace)
	}()
	return func() {
		cancel()
		<-ended
		unwatch()
	}
}
