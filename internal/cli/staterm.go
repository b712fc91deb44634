package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/state"
)

type stateRmOptions struct {
	dryRun, force, json bool
}

const stateRmLong = `Forgets addresses. Nothing at a destination is touched.

Something that was made at a destination: the next plan finds it there again, or
makes it. pipeline.NAME.destination.D: the position and what waits for it; the next
run reads everything for it. pipeline.NAME: all of its state, and what unfinished
runs have staged. Its next run begins another history (lineage), and refuses the
tables of the old one: push the backup back, or give the pipeline another table or
path, or move the old tables away.

It refuses while packages wait for a destination; with --force they are lost.`

func (a *app) stateRmCommand() *cobra.Command {
	var o stateRmOptions
	c := command(&cobra.Command{
		Use:     "rm ADDRESS... [flags]",
		Short:   "Forgets pipelines, destinations or what was made",
		Long:    stateRmLong,
		Example: "  sluice state rm destination.lake.view.contacts_active\n  sluice state rm pipeline.nightly --dry-run",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &usageError{command: c.CommandPath(), err: errors.New("sluice state rm needs an address")}
			}
			return nil
		},
		RunE:              func(c *cobra.Command, args []string) error { return a.stateRm(c.Context(), args, o) },
		ValidArgsFunction: a.completeAddresses,
	})
	f := c.Flags()
	f.SortFlags = false
	f.BoolVar(&o.dryRun, "dry-run", false, "only say what would be forgotten")
	f.BoolVar(&o.force, "force", false, "forget also what packages wait for, and lose them")
	f.BoolVar(&o.json, "json", false, "print one JSON object a line")
	return c
}

// forgottenLine is what rm --json prints.
type forgottenLine struct {
	Address string `json:"address"`
	DryRun  bool   `json:"dry_run,omitempty"`
	run.Forgotten
}

func (a *app) stateRm(ctx context.Context, addresses []string, o stateRmOptions) error {
	r, err := a.remembered(ctx)
	if err != nil {
		return err
	}
	slices.Sort(addresses)
	addresses = slices.Compact(addresses)
	// First all are checked, then all are forgotten.
	for _, dryRun := range []bool{true, false} {
		if o.dryRun && !dryRun {
			break
		}
		for _, address := range addresses {
			f, err := a.forget(ctx, r, address, o.force, dryRun)
			if err != nil {
				return err
			}
			if dryRun && !o.dryRun {
				continue
			}
			if err := a.printForgotten(address, f, o); err != nil {
				return err
			}
		}
	}
	return nil
}

// forget removes what is remembered of one address.
func (a *app) forget(ctx context.Context, r *remembered, address string, force, dryRun bool) (run.Forgotten, error) {
	name, destination, isPipeline := r.pipelineOf(address)
	_, isResource := r.resources.Items[address]
	if !isPipeline && !isResource {
		return run.Forgotten{}, a.unknownAddress(r, address)
	}
	if destination != "" {
		p, err := r.store.Load(ctx, name)
		if err != nil {
			return run.Forgotten{}, err
		}
		if p.Destinations[destination] == nil {
			return run.Forgotten{}, a.unknownAddress(r, address)
		}
		return r.engine.ForgetDestination(ctx, name, destination, force, dryRun)
	}
	var out run.Forgotten
	var err error
	if isPipeline {
		if out, err = r.engine.Forget(ctx, name, force, dryRun); err != nil {
			return out, err
		}
	}
	if !isResource || dryRun {
		return out, nil
	}
	_, backup, err := r.store.EditResources(ctx, func(r *state.Resources) error {
		delete(r.Items, address)
		return nil
	})
	if out.Backup == "" {
		out.Backup = backup
	}
	return out, err
}

func (a *app) printForgotten(address string, f run.Forgotten, o stateRmOptions) error {
	if o.json {
		line, err := json.Marshal(forgottenLine{Address: address, DryRun: o.dryRun, Forgotten: f})
		if err != nil {
			return fmt.Errorf("print state: %w", err)
		}
		return a.printState(string(line) + "\n")
	}
	var b strings.Builder
	verb := "forgotten"
	if o.dryRun {
		verb = "would be forgotten"
	}
	fmt.Fprintf(&b, "%s: %s\n", visible(address), verb)
	for _, name := range slices.Sorted(maps.Keys(f.Lost)) {
		w := f.Lost[name]
		fmt.Fprintf(&b, "  lost: %s with %s that waited for destination %s\n", counted(w.Packages, "package", "packages"), counted(w.Rows, "row", "rows"), oneLine(name))
	}
	if f.Unfinished > 0 {
		fmt.Fprintf(&b, "  what %s had staged goes too; its cursor had not moved, so it can be read again\n", counted(f.Unfinished, "unfinished run", "unfinished runs"))
	}
	if f.Aside > 0 {
		fmt.Fprintf(&b, "  records set aside stay: `sluice%s quarantine drop %s` removes them\n", a.fileFlag(), shellQuote(f.Pipeline))
	}
	if f.Backup != "" {
		fmt.Fprintf(&b, "  what stood there: %s\n", f.Backup)
	}
	switch {
	case f.Pipeline == "":
		b.WriteString("  nothing at the destination was touched: the next plan finds it there, or makes it\n")
	case f.Destination != "":
		fmt.Fprintf(&b, "  the next run reads everything, and %s takes it; its table stays\n", oneLine(f.Destination))
	default:
		fmt.Fprintf(&b, "  the next run of %s reads everything under another lineage, which the tables of\n  lineage %s refuse.\n", oneLine(f.Pipeline), f.Lineage)
		fmt.Fprintf(&b, "  The ways out: `sluice%s state push` of the copy that is kept, another table or path for the\n  pipeline, or moving the old tables away\n", a.fileFlag())
	}
	return a.printState(b.String())
}
