package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/plan"
	"github.com/sluice-etl/sluice/internal/run"
)

// exitPending is the exit code of plan --detailed-exitcode where something is
// to change.
const exitPending = 2

const planLong = `Shows what "sluice apply" would do, and changes nothing. It asks the destinations
of all pipelines, or of those named; the source is not asked.

For now a plan has one kind of change: tables that have to be replaced, because a
setting of the destination cannot change where the table is, such as a method of
BigQuery from or to cdc. What a run adds by itself (new tables, columns, views) is
not listed, nor what it would read.`

const applyLong = `Shows the plan, asks, and replaces the tables that it lists. What that does, and
for whom, stands under each. Contacts and versions are kept: a table is made anew
from what the destination holds, and nothing is read from the source.

Away from a terminal it needs --auto-approve. Runs of a pipeline are kept out while
its table is replaced. Stopped on the way, the same command does the rest; until
then the destination takes nothing, and what is for it waits.`

func (a *app) planCommand() *cobra.Command {
	detailed := false
	c := command(&cobra.Command{
		Use:     "plan [PIPELINE...] [flags]",
		Short:   "Shows which tables have to be replaced",
		Long:    planLong,
		Example: "  sluice plan\n  sluice plan nightly --detailed-exitcode",
		RunE: func(c *cobra.Command, names []string) error {
			return a.plan(c.Context(), names, detailed)
		},
		ValidArgsFunction: a.completePipelines,
	})
	c.Flags().BoolVar(&detailed, "detailed-exitcode", false, "exit 2 where something is to change, 0 where nothing is")
	return c
}

func (a *app) applyCommand() *cobra.Command {
	approved := false
	c := command(&cobra.Command{
		Use:     "apply [PIPELINE...] [flags]",
		Short:   "Replaces the tables that a plan shows, once approved",
		Long:    applyLong,
		Example: "  sluice apply\n  sluice apply nightly --auto-approve",
		RunE: func(c *cobra.Command, names []string) error {
			return a.apply(c.Context(), names, approved)
		},
		ValidArgsFunction: a.completePipelines,
	})
	c.Flags().BoolVar(&approved, "auto-approve", false, "do not ask")
	return c
}

// print writes a part of a result.
func (a *app) print(text string) error {
	if _, err := io.WriteString(a.Streams.Out, visible(text)); err != nil {
		return fmt.Errorf("print plan: %w", err)
	}
	return nil
}

func (a *app) plan(ctx context.Context, names []string, detailed bool) error {
	_, p, _, err := a.makePlan(ctx, names)
	if err != nil {
		return err
	}
	if p.Empty() {
		return a.print(nothingToChange)
	}
	if err := a.print(planText(p, a.outPaint()) + "\nNothing was changed: `sluice" + a.fileFlag() + " apply` does this, once approved.\n"); err != nil {
		return err
	}
	if detailed {
		return &exitCodeError{code: exitPending, err: errors.New("changes are pending")}
	}
	return nil
}

const nothingToChange = "No changes. No table has to be replaced.\n"

// makePlan asks the destinations of the pipelines named, of all where none is.
func (a *app) makePlan(ctx context.Context, names []string) (*config.Config, plan.Plan, []run.Replacement, error) {
	cfg, chosen, err := a.loadNamed(names, config.Offline())
	if err != nil {
		return nil, plan.Plan{}, nil, err
	}
	var all []run.Replacement
	for _, p := range chosen {
		err := a.withDestinations(ctx, cfg, p, func(e *run.Engine, job run.Job) error {
			list, err := e.Replacements(ctx, job)
			all = append(all, list...)
			return err
		})
		if err != nil {
			return nil, plan.Plan{}, nil, fmt.Errorf("plan pipeline %s: %w", p.Name, err)
		}
	}
	made, err := planned(cfg, all)
	return cfg, made, all, err
}

// withDestinations opens a pipeline's destinations, and nothing of its source,
// for as long as do takes.
func (a *app) withDestinations(ctx context.Context, cfg *config.Config, p *config.Pipeline, do func(*run.Engine, run.Job) error) (err error) {
	store, err := a.store(cfg)
	if err != nil {
		return err
	}
	job := run.Job{Pipeline: p.Name}
	defer func() { err = errors.Join(err, closeDestinations(job)) }()
	if err := a.openDestinations(ctx, cfg, p, &job); err != nil {
		return err
	}
	return do(&run.Engine{Store: store, Clock: a.Clock, Log: a.log}, job)
}

func (a *app) apply(ctx context.Context, names []string, approved bool) error {
	cfg, p, list, err := a.makePlan(ctx, names)
	if err != nil {
		return err
	}
	if p.Empty() {
		return a.print(nothingToChange)
	}
	if err := a.print(planText(p, a.outPaint())); err != nil {
		return err
	}
	if !approved {
		if err := a.approvePlan(ctx); err != nil {
			return err
		}
	}
	if err := a.print("\n"); err != nil {
		return err
	}
	done, failed := 0, []error{}
	for _, r := range list {
		err := a.replace(ctx, cfg, r)
		if err == nil {
			done++
			continue
		}
		failed = append(failed, err)
		if ctx.Err() != nil {
			break
		}
	}
	if len(failed) > 0 {
		return &applyError{done: done, err: errors.Join(failed...)}
	}
	return a.print(fmt.Sprintf("\nApply complete: %s replaced.\n\nNext: sluice%s run\n", counted(done, "table", "tables"), a.fileFlag()))
}

// applyError is an apply of which some steps failed.
type applyError struct {
	done int
	err  error
}

func (e *applyError) Error() string {
	if e.done == 0 {
		return e.err.Error()
	}
	return fmt.Sprintf("%v (%s replaced)", e.err, counted(e.done, "other table was", "other tables were"))
}

// Unwrap returns the causes.
func (e *applyError) Unwrap() []error { return []error{e.err} }

// Hint says what to do.
func (e *applyError) Hint() string {
	return "nothing is lost; the same command does the rest"
}

// replace does one change of a plan.
func (a *app) replace(ctx context.Context, cfg *config.Config, r run.Replacement) error {
	p, err := pipeline(cfg, r.Pipeline)
	if err != nil {
		return err
	}
	address := addressOf(cfg, r)
	if err := a.print(address + ": replacing...\n"); err != nil {
		return err
	}
	return a.withDestinations(ctx, cfg, p, func(e *run.Engine, job run.Job) error {
		began := a.Clock.Now()
		out, err := e.Replace(ctx, job, r)
		if err != nil {
			return err
		}
		return a.print(fmt.Sprintf("%s: replaced, %s in %s\n", address, counted(out.Contacts, "row", "rows"), duration(a.Clock.Now().Sub(began))))
	})
}

// approvePlan asks whether to go on.
func (a *app) approvePlan(ctx context.Context) error {
	no := func(why string) error {
		err := &userError{message: "nothing was changed", hint: why}
		a.show(err)
		return &exitCodeError{code: exitApproval, err: err}
	}
	if !a.Streams.InTerminal {
		return no("it has to be approved: give --auto-approve, or run it on a terminal")
	}
	answer, err := a.ask(ctx, "\nDo you want to perform these actions?\n  Only 'yes' will be accepted to approve.\n\n  Enter a value: ")
	if err != nil {
		return err
	}
	if answer != "yes" {
		return no("the answer was not yes")
	}
	return nil
}

// ask puts a question on the terminal and returns the line that is typed.
func (a *app) ask(ctx context.Context, question string) (string, error) {
	if _, err := io.WriteString(a.err, question); err != nil {
		return "", fmt.Errorf("ask: %w", err)
	}
	answered := make(chan string, 1) // a Ctrl-C does not end a read
	go func() {
		line, _ := bufio.NewReader(a.Streams.In).ReadString('\n') // what comes before an error is the answer
		answered <- strings.TrimSpace(line)
	}()
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case answer := <-answered:
		return answer, nil
	}
}

// awaited shows what a pipeline's run waits for, where that is all that kept it
// from being done, and says so by the exit code. Any other error is returned as
// it is.
func (a *app) awaited(cfg *config.Config, p *config.Pipeline, err error) error {
	list, all := run.Unapproved(p.Name, err)
	if !all {
		return err
	}
	return a.showAwaited(cfg, list)
}

// showAwaited shows the replacements that runs wait for.
func (a *app) showAwaited(cfg *config.Config, list []run.Replacement) error {
	p, err := planned(cfg, list)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(a.err, visible("\n"+planText(p, a.errPaint())+"\n")); err != nil {
		return fmt.Errorf("print plan: %w", err)
	}
	waits := &userError{
		message: fmt.Sprintf("%s to be replaced first, and took nothing", counted(len(list), "table has", "tables have")),
		hint:    "what is for it waits. `sluice" + a.fileFlag() + " apply` shows this again, asks, and does it; `sluice" + a.fileFlag() + " apply --auto-approve` does not ask",
	}
	a.show(waits)
	return &exitCodeError{code: exitApproval, err: waits}
}
