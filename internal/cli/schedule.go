package cli

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/schedule"
	"github.com/sluice-etl/sluice/internal/state"
)

const scheduleLong = `Runs each pipeline that has a schedule at its times, in its time zone, until it
is stopped. A pipeline whose run before is still going is skipped. What happens
is logged to stderr.

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
	defer func() { err = errors.Join(err, s.close()) }()
	var entries []schedule.Entry
	for _, p := range cfg.Pipelines {
		if p.Schedule == "" {
			a.log.WarnContext(ctx, "the pipeline has no schedule and never runs here", slog.String("pipeline", p.Name))
			continue
		}
		// Wiring once, before the first time comes, shows at the start what
		// would fail every night.
		job, closeLoaders, err := a.job(jobs, cfg, p, s)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, closeLoaders()) }()
		entries = append(entries, schedule.Entry{
			Name: p.Name, Spec: p.Schedule, Location: p.Timezone,
			Run: func(ctx context.Context) error { return a.scheduledRun(ctx, cfg, p, store, job) },
		})
	}
	if len(entries) == 0 {
		return &userError{message: "no pipeline in " + cfg.File + " has a schedule", hint: "give one of them a line such as: schedule: \"0 3 * * *\""}
	}
	scheduler := &schedule.Scheduler{Clock: a.Clock, Log: a.log, Grace: grace}
	return scheduler.Run(ctx, entries)
}

// scheduledRun is one run, told in log lines.
func (a *app) scheduledRun(ctx context.Context, _ *config.Config, p *config.Pipeline, store *state.Store, job run.Job) error {
	log := a.log.With(slog.String("pipeline", p.Name))
	engine := &run.Engine{Store: store, Clock: a.Clock, Log: a.log, Observe: func(e run.Event) {
		switch e.Type {
		case eventCommitted:
			if r := e.Result; r != nil {
				log.InfoContext(ctx, "committed", slog.String("destination", e.Destination), slog.Int64("package", e.Package),
					slog.Int64("new", r.New), slog.Int64("changed", r.Changed), slog.Int64("unchanged", r.Unchanged), slog.Int("files", len(r.Files)))
			}
		case eventFailed:
			log.ErrorContext(ctx, "commit failed", slog.String("destination", e.Destination), slog.String("error", e.Error))
		}
	}}
	sum, err := engine.Run(ctx, job)
	if err != nil {
		if h := hints(err); len(h) > 0 {
			log.ErrorContext(ctx, "what to do", slog.String("hint", h[0]))
		}
		return err
	}
	log.InfoContext(ctx, "summary", slog.String("status", sum.Status), slog.Int64("new", sum.New), slog.Int64("changed", sum.Changed),
		slog.Int64("unchanged", sum.Unchanged), slog.Int64("requests", sum.Requests), slog.Int64("retries", sum.Retries), slog.String("cursor", sum.Cursor))
	return nil
}
