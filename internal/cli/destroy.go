package cli

import (
	"context"

	"github.com/spf13/cobra"
)

const destroyLong = `Removes what Sluice has made at the destinations, for good: tables with their
history, their records of commits, views. It says what data that is, and asks.

A destination is protected unless it says prevent_destroy: false; one that is
protected stops the command before anything is removed. Datasets, directories
and database files that others may use stay, as does everything that Sluice did
not write. The pipelines then know no cursor, so that the next run reads
everything; the names of columns stay given.

Stopped on the way, the same command does the rest.`

func (a *app) destroyCommand() *cobra.Command {
	o := planOptions{destroy: true, noData: true}
	approved := false
	c := command(&cobra.Command{
		Use:     "destroy [PIPELINE...] [flags]",
		Short:   "Removes tables and views, once approved",
		Long:    destroyLong,
		Example: "  sluice destroy nightly\n  sluice destroy --target destination.local",
		RunE: func(c *cobra.Command, names []string) error {
			o.pipelines = names
			return a.destroy(c.Context(), o, approved)
		},
		ValidArgsFunction: a.completePipelines,
	})
	planFlags(c, &o)
	c.Flags().BoolVar(&approved, "auto-approve", false, "do not ask")
	return c
}

func (a *app) destroy(ctx context.Context, o planOptions, approved bool) error {
	e, err := a.look(ctx, o)
	if err != nil {
		return err
	}
	if e.plan.Empty() {
		return a.print("No changes: there is nothing to destroy.\n")
	}
	if err := a.printPlan(e.plan, ""); err != nil {
		return err
	}
	if !approved {
		if err := a.approvePlan(ctx, "Do you really want to destroy all of this? It cannot be undone."); err != nil {
			return err
		}
	}
	if err := a.print("\n"); err != nil {
		return err
	}
	return a.afterwards(ctx, e, o, a.carryOut(ctx, e))
}
