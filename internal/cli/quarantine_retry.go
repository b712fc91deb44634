package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/quarantine"
	"github.com/sluice-etl/sluice/internal/run"
)

type quarantineRetryOptions struct {
	run  string
	json bool
}

const quarantineRetryLong = `Makes rows of the records set aside that can be rows by now, of one pipeline or
of all. A record that is stored is decoded again under the contract of today. One
that is not, or still fails, is fetched again by the contact's id, in two
requests. With enrich: info each takes one more, for what a run would store of it
besides. One that is neither stored nor has an id cannot be retried: a run with
--full, or a backfill, reads it again, and drop removes it here.

The rows are committed as a package of their own, beside other runs. Newer rows
that the tables hold stay. A record leaves the quarantine once every destination
has its row, or has it queued; what still fails stays, with the reason of today.
A contact that the source has deleted since comes back until sluice reconcile
finds it gone. Stopped on the way, the same command does the rest.`

func (a *app) quarantineRetryCommand() *cobra.Command {
	var o quarantineRetryOptions
	c := command(&cobra.Command{
		Use:               "retry [PIPELINE] [flags]",
		Short:             "Makes rows of records set aside that can be rows by now",
		Long:              quarantineRetryLong,
		Example:           "  sluice quarantine retry nightly\n  sluice quarantine retry nightly --run 20260901T120000Z-1a2b3c",
		Args:              atMostOnePipeline,
		RunE:              func(c *cobra.Command, names []string) error { return a.quarantineRetry(c.Context(), names, o) },
		ValidArgsFunction: a.completePipelines,
	})
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&o.run, "run", "", "only those of the run of this id")
	f.BoolVar(&o.json, "json", false, "print events to stdout, one JSON object a line, the last of type run_finished")
	return c
}

func (a *app) quarantineRetry(ctx context.Context, names []string, o quarantineRetryOptions) (err error) {
	cfg, chosen, err := a.loadNamed(names)
	if err != nil {
		return err
	}
	store, err := a.store(cfg)
	if err != nil {
		return err
	}
	s := a.newSources()
	defer func() { err = errors.Join(err, s.close()) }()
	for _, p := range chosen {
		// Without any there is nothing to ask the source or the destinations.
		records, err := a.aside(cfg, []*config.Pipeline{p})
		if err != nil {
			return err
		}
		if len(records) == 0 && !o.json {
			if err := a.printQuarantine(p.Name + ": no record is set aside\n"); err != nil {
				return err
			}
			continue
		}
		view := a.runView(cfg, p, runOptions{json: o.json})
		err = a.runOne(ctx, cfg, p, store, s, view, func(e *run.Engine, j run.Job) (run.Summary, error) {
			return e.Retry(ctx, j, run.Retry{Run: o.run})
		})
		if err != nil {
			return fmt.Errorf("pipeline %s: %w", p.Name, err)
		}
	}
	return nil
}

// retried writes what a retry did.
func (v *plainView) retried(row func(label, format string, args ...any), r *run.Retried) {
	row("set aside", "%s taken up", counted(r.Records, "record", "records"))
	row("passed", "%s, %s of them fetched again", count(r.Passed), count(r.Fetched))
	row("stay", "%s", count(r.Kept))
	v.reasons(row, r.KeptBy)
	if r.Unknown > 0 {
		row("no way", "%s neither stored nor with an id: `sluice%s run %s --full` reads them again, `sluice%s quarantine drop %s` removes them here",
			count(r.Unknown), v.app.fileFlag(), v.p.Address(), v.app.fileFlag(), v.p.Address())
	}
}

// reasons writes why records were set aside, a line each.
func (v *plainView) reasons(row func(label, format string, args ...any), by map[string]int64) {
	for _, reason := range quarantine.Counts(by).Sorted() {
		row("", "%s: %s", count(by[reason]), oneLine(reason))
	}
}
