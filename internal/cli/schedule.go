package cli

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/spf13/cobra"
)

const scheduleLong = `Runs each pipeline that has a schedule at its times, in its time zone, until it
is stopped. A time that passes while the pipeline runs is skipped, or queued
with overlap: queue; one that passed while nothing was there to run it is made
up for once, unless catch_up is false. retry repeats a run that failed. Where
reconcile has a schedule too, the pipeline is reconciled at those times, beside
a run if need be. What happens is logged to stderr.

Told to stop (Ctrl-C or SIGTERM), it starts nothing more and lets running
pipelines go on for up to --grace; then they are interrupted, as if killed,
and the next run goes on from what they kept. Told twice, it ends at once.

A page shows how pipelines fare, and runs them or backfills when asked. It is at
http://127.0.0.1:8420/ unless daemon.listen or --listen says otherwise; other
machines reach it only with a token. With a page no pipeline needs a schedule.

The file is read once, at the start.`

type scheduleOptions struct {
	grace      time.Duration
	graceGiven bool // else the file's
	listen     string
}

func (a *app) scheduleCommand() *cobra.Command {
	var o scheduleOptions
	c := command(&cobra.Command{
		Use:     "schedule [flags]",
		Short:   "Runs pipelines at their scheduled times",
		Long:    scheduleLong,
		Example: "  sluice schedule --log-format json",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o.graceGiven = c.Flags().Changed("grace")
			return a.schedule(c.Context(), o)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	})
	c.Flags().DurationVar(&o.grace, "grace", 30*time.Second, "how long runs may go on once told to stop; goes before daemon.grace")
	c.Flags().StringVar(&o.listen, "listen", "", "where the page is, HOST:PORT, or off; goes before daemon.listen")
	return c
}

func (a *app) schedule(ctx context.Context, o scheduleOptions) (err error) {
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
	if o.graceGiven {
		cfg.Daemon.Grace = o.grace
	}
	// The sandboxes and jobs outlive ctx: they stop when the scheduler does.
	jobs, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	d := a.newDaemon(cfg, store)
	defer func() { err = errors.Join(err, d.close()) }()
	d.instrument()
	page, err := d.openPage(ctx, o)
	if err != nil {
		return err
	}
	entries, err := d.entries(jobs, page != nil)
	if err != nil {
		return errors.Join(err, page.close())
	}
	defer d.tellOthers(ctx)()
	return d.runServing(ctx, page, entries)
}
