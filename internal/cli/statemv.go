package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/state"
)

const stateMvLong = `Gives a pipeline (pipeline.NAME) or a destination (destination.D) another name in
state, as in pipelines.yaml. The history stays the same, so destinations know it: a
pipeline takes its cursor, its queues, what its runs have staged, the records set
aside and its resources along.

Rename it in pipelines.yaml as well before the next run. It refuses a name that is
taken, and while a run is going on. Stopped on the way, the same command does the
rest, and until then runs of the pipeline refuse to start.`

func (a *app) stateMvCommand() *cobra.Command {
	asJSON := false
	c := command(&cobra.Command{
		Use:     "mv FROM TO [flags]",
		Short:   "Gives a pipeline or a destination another name",
		Long:    stateMvLong,
		Example: "  sluice state mv pipeline.nightly pipeline.daily\n  sluice state mv pipeline.nightly 'pipeline.nightly[\"acme\"]'\n  sluice state mv destination.lake destination.archive",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 2 {
				return nil
			}
			return &usageError{command: c.CommandPath(), err: fmt.Errorf("sluice state mv needs two addresses, got %d", len(args))}
		},
		RunE:              func(c *cobra.Command, args []string) error { return a.stateMv(c.Context(), args[0], args[1], asJSON) },
		ValidArgsFunction: a.completeAddresses,
	})
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return c
}

// movable takes an address apart: of a pipeline or of a destination as a whole.
func movable(address string) (kind, name string, err error) {
	kind, name, _ = strings.Cut(address, ".")
	if (kind == "pipeline" || kind == "destination") && state.ValidAddress(state.PipelineAddress(name), state.KindPipeline) {
		return kind, name, nil
	}
	return "", "", fmt.Errorf("%q is neither pipeline.NAME nor destination.NAME", address)
}

func (a *app) stateMv(ctx context.Context, from, to string, asJSON bool) error {
	kind, name, err := movable(from)
	kindTo, nameTo, errTo := movable(to)
	if err := errors.Join(err, errTo); err != nil {
		return &usageError{command: "sluice state mv", err: err}
	}
	switch {
	case kind != kindTo:
		return &usageError{command: "sluice state mv", err: fmt.Errorf("%s cannot become a %s", from, kindTo)}
	case name == nameTo:
		return &usageError{command: "sluice state mv", err: fmt.Errorf("%s has that name", from)}
	}
	r, err := a.remembered(ctx)
	if err != nil {
		return err
	}
	rename := r.engine.RenamePipeline
	if kind == "destination" {
		rename = r.engine.RenameDestination
	}
	out, err := rename(ctx, name, nameTo)
	if errors.Is(err, fs.ErrNotExist) {
		return a.unknownAddress(r, from)
	}
	if err != nil {
		return err
	}
	return a.printRenamed(from, to, out, asJSON)
}

// renamedLine is what mv --json prints.
type renamedLine struct {
	From      string   `json:"from"`
	To        string   `json:"to"`
	Runs      int      `json:"runs"`
	Aside     int      `json:"quarantine_files"`
	Resources int      `json:"resources"`
	Pipelines []string `json:"pipelines,omitempty"`
	Resumed   bool     `json:"resumed"`
	Backups   []string `json:"backups"`
}

func (a *app) printRenamed(from, to string, r run.Renamed, asJSON bool) error {
	if asJSON {
		line, err := json.Marshal(renamedLine{From: from, To: to, Runs: r.Runs, Aside: r.Aside, Resources: r.Resources, Pipelines: r.Pipelines, Resumed: r.Resumed, Backups: r.Backups})
		if err != nil {
			return fmt.Errorf("print state: %w", err)
		}
		return a.printState(string(line) + "\n")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s is now %s\n", visible(from), visible(to))
	if r.Resumed {
		b.WriteString("  it had been stopped on the way, and is done now\n")
	}
	if len(r.Pipelines) > 0 {
		fmt.Fprintf(&b, "  in the state of %s\n", oneLine(strings.Join(r.Pipelines, ", ")))
	}
	for _, part := range []struct {
		n         int
		one, many string
	}{
		{r.Runs, "run that has something staged", "runs that have something staged"},
		{r.Aside, "file of records set aside", "files of records set aside"},
		{r.Resources, "resource", "resources"},
	} {
		if part.n > 0 {
			fmt.Fprintf(&b, "  with %s\n", counted(part.n, part.one, part.many))
		}
	}
	for _, backup := range r.Backups {
		fmt.Fprintf(&b, "  what stood there: %s\n", backup)
	}
	b.WriteString("  Rename it in pipelines.yaml too, before the next run.\n")
	return a.printState(b.String())
}
