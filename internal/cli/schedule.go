package cli

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/robfig/cron/v3"
	"github.com/spf13/cobra"

	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/schedule"
	"github.com/sluice-etl/sluice/internal/state"
)

const scheduleLong = `Runs each pipeline that has a schedule at its times, in its time zone, until it
is stopped. A pipeline whose run before is still going is skipped. Where
reconcile has a schedule too, the pipeline is reconciled at those times, beside
a run if need be. What happens is logged to stderr.

Told to stop (Ctrl-C or SIGTERM), it starts nothing more and lets running
pipelines go on for up to --grace; then they are interrupted, as if killed,
and the next run goes on from what they kept.

The file is read once, at the start.`

func (a *app) scheduleCommand() *cobra.Command {
	grace := 30 * time.Second
	c := command(&cobra.Command{
		Use:               "schedule [flags]",
		Short:             "Runs pipelines at their scheduled times",
		Long:              scheduleLong,
		Example:           "  sluice schedule --log-format json",
		Args:              noArgs,
		RunE:              func(c *cobra.Command, _ []string) error { return a.schedule(c.Context(), grace) },
		ValidArgsFunction: cobra.NoFileCompletions,
	})
	c.Flags().DurationVar(&grace, "grace", grace, "how long running pipelines may go on after being told to stop")
	return c
}

func (a *app) schedule(ctx context.Context, grace time.Duration) (err error) {
	if !a.verbose {
		if err := a.setLog(slog.LevelInfo); err != nil {
			return err
		}
	}
	cfg, err := a.load()
	if err != nil {
		return err
	}
	store, err := a.store(cfg)
	if err != nil {
		return err
	}
	// The sandboxes and jobs outlive ctx: they stop when the scheduler does.
	jobs, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	s := a.newSources()
	var closers []func() error
	defer func() {
		for _, closeLoaders := range closers {
			err = errors.Join(err, closeLoaders())
		}
		err = errors.Join(err, s.close())
	}()
	var entries []schedule.Entry
	for _, p := range cfg.Pipelines {
		w := scheduled{app: a, cfg: cfg, pipeline: p, store: store}
		if p.Schedule == "" && !w.reconciles() {
			a.log.WarnContext(ctx, "the pipeline has no schedule and never runs here", slog.String("pipeline", p.Name))
			continue
		}
		// Wiring once, before the first time comes, shows at the start what
		// would fail every night.
		wire := func() (run.Job, error) {
			job, closeLoaders, err := a.job(jobs, cfg, p, s)
			if err == nil {
				closers = append(closers, closeLoaders)
			}
			return job, err
		}
		own, err := w.entries(wire)
		if err != nil {
			return err
		}
		entries = append(entries, own...)
	}
	if len(entries) == 0 {
		return &userError{message: "no pipeline in " + cfg.File + " has a schedule", hint: "give one of them a line such as: schedule: \"0 3 * * *\""}
	}
	scheduler := &schedule.Scheduler{Clock: a.Clock, Log: a.log, Grace: grace}
	return scheduler.Run(ctx, entries)
}

// scheduled is a pipeline that runs at its times.
type scheduled struct {
	app      *app
	cfg      *config.Config
	pipeline *config.Pipeline
	store    *state.Store
}

func (w scheduled) reconciles() bool {
	return w.pipeline.Reconcile != nil && w.pipeline.Reconcile.Schedule != ""
}

// entries makes those of a pipeline: its runs and its reconciliations, which
// may go on beside each other and therefore have a job each.
func (w scheduled) entries(wire func() (run.Job, error)) ([]schedule.Entry, error) {
	p := w.pipeline
	if p.Schedule == "" {
		w.app.log.Warn("the pipeline has no schedule of its own: only its reconciliation runs here", slog.String("pipeline", p.Name))
	}
	var entries []schedule.Entry
	add := func(kind, spec string, times cron.Schedule, do func(context.Context, *run.Engine, run.Job) (run.Summary, error)) error {
		job, err := wire()
		if err != nil {
			return err
		}
		log := w.app.log.With(slog.String("pipeline", p.Name))
		if kind != "" {
			log = log.With(slog.String("kind", kind))
		}
		entries = append(entries, schedule.Entry{
			Name: p.Name, Kind: kind, Spec: spec, Times: times, Location: p.Timezone,
			Run: func(ctx context.Context, _ schedule.Trigger) error {
				engine := &run.Engine{Store: w.store, Clock: w.app.Clock, Log: w.app.log, Observe: observe(ctx, log)}
				sum, err := do(ctx, engine, job)
				w.app.noteApplied(ctx, w.cfg, p, engine, job, err)
				return report(ctx, log, sum, err)
			},
		})
		return nil
	}
	if p.Schedule != "" {
		err := add("", p.Schedule, p.Cron, func(ctx context.Context, e *run.Engine, j run.Job) (run.Summary, error) { return e.Run(ctx, j) })
		if err != nil {
			return nil, err
		}
	}
	if w.reconciles() {
		err := add(modeReconcile, p.Reconcile.Schedule, p.Reconcile.Cron, func(ctx context.Context, e *run.Engine, j run.Job) (run.Summary, error) {
			return e.Reconcile(ctx, j, reconciliation(p))
		})
		if err != nil {
			return nil, err
		}
	}
	return entries, nil
}

// observe tells in log lines what a run does.
func observe(ctx context.Context, log *slog.Logger) func(run.Event) {
	return func(e run.Event) {
		switch e.Type {
		case eventCommitted:
			if r := e.Result; r != nil {
				log.InfoContext(ctx, "committed", slog.String("destination", e.Destination), slog.Int64("package", e.Package),
					slog.Int64("new", r.New), slog.Int64("changed", r.Changed), slog.Int64("unchanged", r.Unchanged),
					slog.Int64("deleted", r.Deleted), slog.Int("files", len(r.Files)))
			}
		case eventKept:
			log.WarnContext(ctx, "an unfinished backfill is kept: give its command again, or remove its directory",
				slog.String("range", e.Reason), slog.String("dir", e.Dir))
		case eventFailed:
			log.ErrorContext(ctx, "commit failed", slog.String("destination", e.Destination), slog.String("error", e.Error))
		}
	}
}

// report tells in a log line how a run ended.
func report(ctx context.Context, log *slog.Logger, sum run.Summary, err error) error {
	if err != nil {
		return err
	}
	attrs := []slog.Attr{slog.String("status", sum.Status)}
	if r := sum.Reconciled; r != nil {
		attrs = append(attrs, slog.Int64("live", r.Live), slog.Int64("walked", r.Walked), slog.Int64("missing", r.Missing), slog.Int64("gone", r.Gone),
			slog.Int64("unlisted", r.Unlisted), slog.Int64("unasked", r.Unasked), slog.Int64("returned", r.Returned))
	} else {
		attrs = append(attrs, slog.Int64("new", sum.New), slog.Int64("changed", sum.Changed), slog.Int64("unchanged", sum.Unchanged), slog.Int64("deleted", sum.Deleted))
	}
	attrs = append(attrs, slog.Int64("requests", sum.Requests), slog.Int64("retries", sum.Retries), slog.String("cursor", sum.Cursor))
	log.LogAttrs(ctx, slog.LevelInfo, "summary", attrs...)
	return nil
}
