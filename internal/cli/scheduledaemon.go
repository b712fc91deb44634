package cli

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/robfig/cron/v3"

	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/monitor"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/schedule"
	"github.com/sluice-etl/sluice/internal/state"
)

// kindSync is what state and the monitor call the kind of a run that the
// scheduler gives no name.
const kindSync = "sync"

// daemon is `sluice schedule` at work: what the page, the metrics and notices
// look at, and act through.
type daemon struct {
	app       *app
	cfg       *config.Config
	store     *state.Store
	sources   *sources
	scheduler *schedule.Scheduler
	monitor   *monitor.Monitor
	watchers  []watcher
	closers   []func() error
	// metrics, healthz and readyz answer the paths of these names on the page.
	metrics, healthz, readyz http.Handler
}

// watcher is told what happens, of either source from one goroutine at a time;
// it must not block.
type watcher struct {
	schedule func(schedule.Event)               // what the scheduler does; may be nil
	run      func(kind string, event run.Event) // what runs do; may be nil
}

// newDaemon makes a daemon that does nothing yet. The caller closes it.
func (a *app) newDaemon(cfg *config.Config, store *state.Store) *daemon {
	d := &daemon{app: a, cfg: cfg, store: store, sources: a.newSources()}
	d.monitor = monitor.New(monitor.Options{Clock: a.Clock, Pipelines: monitored(cfg), Load: store.Load, Hints: hints})
	d.watch(watcher{d.monitor.Schedule, d.monitor.Observe})
	d.scheduler = &schedule.Scheduler{
		Clock: a.Clock, Log: a.log, Grace: cfg.Daemon.Grace, Parallel: cfg.Daemon.Concurrency, Permanent: permanent, Elsewhere: elsewhere,
		Observe: func(e schedule.Event) {
			for _, w := range d.watchers {
				if w.schedule != nil {
					w.schedule(e)
				}
			}
		},
	}
	return d
}

// watch adds a watcher. It is called before the scheduler runs.
func (d *daemon) watch(w watcher) { d.watchers = append(d.watchers, w) }

// close closes what jobs were wired with.
func (d *daemon) close() error {
	var errs []error
	for _, closeLoaders := range d.closers {
		errs = append(errs, closeLoaders())
	}
	return errors.Join(append(errs, d.sources.close())...)
}

// monitored is what the monitor is to know of configuration.
func monitored(cfg *config.Config) []monitor.Pipeline {
	var all []monitor.Pipeline
	for _, p := range cfg.Pipelines {
		m := monitor.Pipeline{Name: p.Name, Source: p.Source.Name, Table: p.Table, Sync: p.Sync, Schedule: p.Schedule, Location: p.Timezone, Freshness: p.Freshness}
		if p.Reconcile != nil {
			m.Reconcile = p.Reconcile.Schedule
		}
		for _, dest := range p.Destinations {
			m.Destinations = append(m.Destinations, monitor.Destination{Name: dest.Name, Type: dest.Type, Place: dest.Place(p.Table)})
		}
		all = append(all, m)
	}
	return all
}

// work is what a job does with its engine.
type work func(context.Context, *run.Engine, run.Job) (run.Summary, error)

// entries makes those of all pipelines: their runs, which have no times where the
// pipeline has no schedule, and their reconciliations that have one. ctx is that
// of what they are wired with.
func (d *daemon) entries(ctx context.Context, page bool) ([]schedule.Entry, error) {
	var entries []schedule.Entry
	timed := false
	for _, p := range d.cfg.Pipelines {
		own, err := d.entriesOf(ctx, p)
		if err != nil {
			return nil, err
		}
		for _, e := range own {
			timed = timed || e.Spec != ""
		}
		entries = append(entries, own...)
	}
	if !timed && !page {
		return nil, &userError{message: "no pipeline in " + d.cfg.File + " has a schedule", hint: "give one of them a line such as: schedule: \"0 3 * * *\""}
	}
	return entries, nil
}

// entriesOf makes the entries of a pipeline. Its runs and reconciliations may go
// on beside each other and therefore have a job each.
func (d *daemon) entriesOf(ctx context.Context, p *config.Pipeline) ([]schedule.Entry, error) {
	reconciles := p.Reconcile != nil && p.Reconcile.Schedule != ""
	switch {
	case p.Schedule == "" && reconciles:
		d.app.log.WarnContext(ctx, "the pipeline has no schedule of its own: only its reconciliation runs here", slog.String("pipeline", p.Name))
	case p.Schedule == "":
		d.app.log.WarnContext(ctx, "the pipeline has no schedule and never runs here by itself", slog.String("pipeline", p.Name))
	}
	var st *state.Pipeline
	if p.CatchUp && (p.Schedule != "" || reconciles) {
		var err error
		if st, err = d.store.Load(ctx, p.Name); err != nil {
			d.app.log.WarnContext(ctx, "state cannot be read: nothing that was missed is made up for", slog.String("pipeline", p.Name), slog.Any("error", err))
		}
	}
	sync, err := d.entry(ctx, p, "", p.Schedule, p.Cron, st, func(ctx context.Context, e *run.Engine, j run.Job) (run.Summary, error) { return e.Run(ctx, j) })
	if err != nil || !reconciles {
		return []schedule.Entry{sync}, err
	}
	rec, err := d.entry(ctx, p, modeReconcile, p.Reconcile.Schedule, p.Reconcile.Cron, st, func(ctx context.Context, e *run.Engine, j run.Job) (run.Summary, error) {
		return e.Reconcile(ctx, j, reconciliation(p))
	})
	return []schedule.Entry{sync, rec}, err
}

// entry makes one entry. Wiring what has times once, before the first of them
// comes, shows at the start what would fail every night. st may be nil.
func (d *daemon) entry(ctx context.Context, p *config.Pipeline, kind, spec string, times cron.Schedule, st *state.Pipeline, do work) (schedule.Entry, error) {
	e := schedule.Entry{
		Name: p.Name, Kind: kind, Spec: spec, Times: times, Location: p.Timezone,
		Jitter: p.Jitter, Overlap: schedule.Overlap(p.Overlap), CatchUp: p.CatchUp,
		Run: func(ctx context.Context, _ schedule.Trigger) error { return d.once(ctx, p, kind, do) },
	}
	if r := p.Retry; r != nil {
		e.Again = schedule.Repetition{For: r.For, Backoff: r.Backoff, MaxBackoff: r.MaxBackoff}
	}
	if spec == "" {
		return e, nil
	}
	if st != nil {
		e.LastStart = st.LastStart(orSync(kind))
	}
	job, closeLoaders, err := d.app.job(ctx, d.cfg, p, d.sources)
	if err != nil {
		return e, err
	}
	d.closers = append(d.closers, closeLoaders)
	e.Run = func(ctx context.Context, _ schedule.Trigger) error { return d.do(ctx, p, kind, job, do) }
	return e, nil
}

func orSync(kind string) string {
	if kind == "" {
		return kindSync
	}
	return kind
}

// once is do with a job that is wired for it alone. It is how what was not
// planned runs: a backfill, say.
func (d *daemon) once(ctx context.Context, p *config.Pipeline, kind string, w work) (err error) {
	job, closeLoaders, err := d.app.job(ctx, d.cfg, p, d.sources)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeLoaders()) }()
	return d.do(ctx, p, kind, job, w)
}

// do does one job of a pipeline, tells the watchers, and logs what happens.
func (d *daemon) do(ctx context.Context, p *config.Pipeline, kind string, job run.Job, w work) error {
	log := newRunLog(d.app.log.With(slog.String("pipeline", p.Name)))
	if kind != "" {
		log.Logger = log.With(slog.String("kind", kind))
	}
	began := d.app.Clock.Now()
	_, err := d.store.Update(ctx, p.Name, func(st *state.Pipeline) error { st.NoteStart(orSync(kind), began); return nil })
	if err != nil {
		log.WarnContext(ctx, "the start could not be noted: after a crash it is made up for once more", slog.Any("error", err))
	}
	tell := logged(ctx, log)
	engine := &run.Engine{Store: d.store, Clock: d.app.Clock, Log: log.Logger, Observe: func(e run.Event) {
		tell(e)
		for _, watcher := range d.watchers {
			if watcher.run != nil {
				watcher.run(kind, e)
			}
		}
	}}
	sum, err := w(ctx, engine, job)
	d.app.noteApplied(ctx, d.cfg, p, engine, job, err)
	return summarize(ctx, log.Logger, sum, err)
}
