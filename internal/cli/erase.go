package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/run"
)

type eraseOptions struct {
	id        string
	pipelines []string
	yes       bool
	dryRun    bool
	json      bool
}

const eraseLong = `Removes a contact for good: from the tables, all its versions in history
included, from packages that wait for a destination, unfinished runs, quarantine
and the messages in state. Files that hold it are replaced by others without it,
and the old ones are gone when the command ends. A DuckDB file is made anew as a
whole, which takes as much room beside it: what DuckDB deletes stays in its file.

It says what it will remove, and asks; away from a terminal it needs --yes.
While the source still has the contact, a run that meets it brings it back:
delete it there first. What left Sluice's hands (backups, copies, results of
queries) is yours to clean.

Runs of the pipeline are kept out meanwhile. Stopped on the way, the same
command does the rest.`

func (a *app) eraseCommand() *cobra.Command {
	var o eraseOptions
	c := command(&cobra.Command{
		Use:     "erase --id ID [flags]",
		Short:   "Removes one contact everywhere",
		Long:    eraseLong,
		Example: "  sluice erase --id 0b0e7a52-6f0c-4f0e-9d53-2f6b1c8e4d11 --dry-run\n  sluice erase --id 0b0e7a52-6f0c-4f0e-9d53-2f6b1c8e4d11 --pipeline nightly --yes",
		Args:    noArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return a.erase(c.Context(), o) },
	})
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&o.id, "id", "", "the contact's id, as in the tables")
	f.StringSliceVar(&o.pipelines, "pipeline", nil, "only from this pipeline; may be repeated (default: all)")
	f.BoolVar(&o.yes, "yes", false, "do not ask")
	f.BoolVar(&o.dryRun, "dry-run", false, "only say what would be removed")
	f.BoolVar(&o.json, "json", false, "print a JSON object for each pipeline")
	// There is no error: the flag was defined above.
	_ = c.RegisterFlagCompletionFunc("pipeline", a.completePipelines)
	return c
}

// erasedLine is what --json prints.
type erasedLine struct {
	Type     string `json:"type"` // found, of a dry run and before it is removed, or erased
	Pipeline string `json:"pipeline"`
	run.Erased
}

func (a *app) erase(ctx context.Context, o eraseOptions) error {
	if o.id == "" {
		return &usageError{command: "sluice erase", err: errors.New("sluice erase needs the id of a contact: --id ID")}
	}
	cfg, err := a.load(config.Offline())
	if err != nil {
		return err
	}
	chosen, err := choose(cfg, o.pipelines)
	if err != nil {
		return err
	}
	stored := false
	for _, p := range chosen {
		found, err := a.erasePipeline(ctx, cfg, p, o, true)
		if err != nil {
			return err
		}
		stored = stored || found.Any()
	}
	switch {
	case !stored:
		return a.say("Nothing is stored of contact %s.\n", o)
	case o.dryRun:
		return nil
	}
	if err := a.say("While the source still has contact %s, the next run that meets it brings it back: delete it there first.\n", o); err != nil {
		return err
	}
	if err := a.approve(ctx, o.yes, o.json); err != nil {
		return err
	}
	for _, p := range chosen {
		if _, err := a.erasePipeline(ctx, cfg, p, o, false); err != nil {
			return err
		}
	}
	return nil
}

// erasePipeline removes the contact from what one pipeline has stored, or only
// counts, and prints it.
func (a *app) erasePipeline(ctx context.Context, cfg *config.Config, p *config.Pipeline, o eraseOptions, dryRun bool) (out run.Erased, err error) {
	store, err := a.store(cfg)
	if err != nil {
		return out, err
	}
	job := run.Job{Pipeline: p.Name}
	defer func() { err = errors.Join(err, closeDestinations(job)) }()
	if err := a.openDestinations(ctx, cfg, p, &job); err != nil {
		return out, err
	}
	e := &run.Engine{Store: store, Clock: a.Clock, Log: a.log}
	if out, err = e.Erase(ctx, job, o.id, dryRun); err != nil {
		return out, fmt.Errorf("pipeline %s: %w", p.Name, err)
	}
	if !out.Any() {
		return out, nil
	}
	return out, a.printErased(p, out, o, dryRun)
}

func (a *app) printErased(p *config.Pipeline, e run.Erased, o eraseOptions, dryRun bool) error {
	var b strings.Builder
	if o.json {
		line := erasedLine{Type: "erased", Pipeline: p.Name, Erased: e}
		if dryRun {
			line.Type = "found"
		}
		if err := json.NewEncoder(&b).Encode(line); err != nil {
			return fmt.Errorf("print what is removed: %w", err)
		}
	} else {
		what := "removed"
		if dryRun {
			what = "to remove"
		}
		fmt.Fprintf(&b, "%s: %s of contact %s:\n", p.Name, what, visible(o.id))
		writeErased(&b, e)
	}
	if _, err := io.WriteString(a.Streams.Out, b.String()); err != nil {
		return fmt.Errorf("print what is removed: %w", err)
	}
	return nil
}

// writeErased lists the places, one a line.
func writeErased(b *strings.Builder, e run.Erased) {
	row := func(place string, n int64, one, many string) {
		if n > 0 {
			fmt.Fprintf(b, "  %s %s\n", pad(place, 22, false), counted(n, one, many))
		}
	}
	for _, t := range e.Tables {
		row(t.Destination+", current", t.Current, "row", "rows")
		row(t.Destination+", history", t.History, "version", "versions")
		row(t.Destination+", notes", t.Names, "mention", "mentions")
	}
	row("waiting or unfinished", e.Staged, "row", "rows")
	row("quarantine", e.Aside, "record", "records")
	row("state", e.Named, "message", "messages")
}

// say prints a line about the contact for people.
func (a *app) say(format string, o eraseOptions) error {
	if o.json {
		return nil
	}
	if _, err := fmt.Fprintf(a.Streams.Out, format, visible(o.id)); err != nil {
		return fmt.Errorf("print what is removed: %w", err)
	}
	return nil
}

// exitApproval is the exit code where someone has to say yes first.
const exitApproval = 3

// approve asks whether to go on.
func (a *app) approve(ctx context.Context, yes, asJSON bool) error {
	if yes {
		return nil
	}
	if !a.Streams.InTerminal || asJSON {
		return a.unapproved("it has to be approved: give --yes, or run it on a terminal")
	}
	answer, err := a.ask(ctx, "Remove it for good? Type yes: ")
	if err != nil {
		return err
	}
	if answer != "yes" {
		return a.unapproved("the answer was not yes")
	}
	return nil
}

// unapproved says that nothing happened, and why.
func (a *app) unapproved(why string) error {
	err := &userError{message: "nothing was removed", hint: why}
	a.show(err)
	return &exitCodeError{code: exitApproval, err: err}
}
