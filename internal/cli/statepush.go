package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-etl/sluice/internal/state"
)

// maxPushed bounds what is read as state, in bytes.
const maxPushed = 256 << 20

const statePushLong = `Puts documents that pull, a backup or an error has written in the place of what is
stored. All of them are checked before the first is written, and no run may be
going on.

It refuses a document of another lineage, of an older serial, of the same serial
with another content, or without packages that wait or columns that tables have,
and says what would be lost; --force pushes it all the same. Packages that it
queues have to be there in any case. Within a lineage the number of the next
package never goes back.`

func (a *app) statePushCommand() *cobra.Command {
	force := false
	c := command(&cobra.Command{
		Use:     "push FILE|- [flags]",
		Short:   "Puts documents of state in place",
		Long:    statePushLong,
		Example: "  sluice state push sluice-state-resources-123.json\n  sluice state pull --pipeline nightly | jq '.serial += 1 | .last_full = null' | sluice state push -",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				return nil
			}
			return &usageError{command: c.CommandPath(), err: fmt.Errorf("sluice state push needs one file, or - for standard input; got %d", len(args))}
		},
		RunE: func(c *cobra.Command, args []string) error { return a.statePush(c.Context(), args[0], force) },
	})
	c.Flags().BoolVar(&force, "force", false, "push what would otherwise be refused")
	return c
}

// readPushed reads a file, or standard input for "-".
func (a *app) readPushed(name string) (title string, data []byte, err error) {
	in := a.Streams.In
	if title = "standard input"; name != "-" {
		title = name
		f, err := os.Open(name)
		if err != nil {
			return title, nil, &userError{err: fmt.Errorf("read state: %w", err), hint: "give the path of a file that `sluice state pull` or a backup made, or - for standard input"}
		}
		defer func() { _ = f.Close() }() // only read
		in = f
	}
	data, err = io.ReadAll(io.LimitReader(in, maxPushed+1))
	switch {
	case err != nil:
		return title, nil, fmt.Errorf("read state: %w", err)
	case len(data) > maxPushed:
		return title, nil, &userError{message: title + " is larger than any state", hint: "give a file that `sluice state pull` or a backup made"}
	}
	return title, data, nil
}

func (a *app) statePush(ctx context.Context, name string, force bool) error {
	title, data, err := a.readPushed(name)
	if err != nil {
		return err
	}
	parsed, err := state.Parse(title, data)
	if errors.Is(err, state.ErrCorrupt) {
		return &userError{err: err, hint: "nothing was changed; give a file that `sluice state pull`, a backup or a rescue made"}
	}
	if err != nil {
		return err
	}
	r, err := a.remembered(ctx)
	if err != nil {
		return err
	}
	// First all are checked, then all are written.
	for _, dryRun := range []bool{true, false} {
		var done []state.Pushed
		if parsed.Resources != nil {
			p, err := r.store.PushResources(ctx, parsed.Resources, force, dryRun)
			if err != nil {
				return err
			}
			done = append(done, p)
		}
		for _, pipeline := range slices.Sorted(maps.Keys(parsed.Pipelines)) {
			p, err := r.engine.Push(ctx, parsed.Pipelines[pipeline], force, dryRun)
			if err != nil {
				return err
			}
			done = append(done, p)
		}
		if dryRun {
			continue
		}
		var b strings.Builder
		for _, p := range done {
			writePushed(&b, p)
		}
		if err := a.printState(b.String()); err != nil {
			return err
		}
	}
	return nil
}

func writePushed(b *strings.Builder, p state.Pushed) {
	what := "resources"
	if p.Pipeline != "" {
		what = state.PipelineAddress(p.Pipeline)
	}
	if p.Same {
		fmt.Fprintf(b, "%s: serial %d is there already\n", visible(what), p.Serial)
		return
	}
	fmt.Fprintf(b, "%s: pushed, now at serial %d\n", visible(what), p.Serial)
	for _, lost := range p.Lost {
		fmt.Fprintf(b, "  gone: %s\n", oneLine(lost))
	}
	if p.Raised > 0 {
		fmt.Fprintf(b, "  the next package stays %d: destinations may hold those before it\n", p.Raised)
	}
	if p.Backup != "" {
		fmt.Fprintf(b, "  what stood there: %s\n", p.Backup)
	}
}
