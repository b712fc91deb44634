package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/plan"
	"github.com/sluice-etl/sluice/internal/run"
)

// exitPending is the exit code of plan --detailed-exitcode where something is
// to change.
const exitPending = 2

const planLong = `Shows what "sluice apply" would do, and changes nothing: tables, views and
datasets that would be made, changed, replaced or forgotten, what something else
has changed there since, and what the next runs would read, which takes a few
requests to the source.

Every resource has an address: destination.lake.table.contacts,
destination.lake.view.contacts_active, destination.warehouse.dataset,
pipeline.nightly. --target limits the plan to one, or to all that begin so.

A plan that was saved with --out is what "sluice apply FILE" does, and nothing
else: it is refused where the file, state's resources or a destination have
changed meanwhile. Nightly runs do not make it stale, unless they add columns.`

const applyLong = `Shows the plan, asks, and does it: datasets, tables, views, pipelines, in this
order, with state saved after each destination; then it runs the pipelines.
What fails stops nothing else, and the next apply does the rest.

Away from a terminal changes need --auto-approve, or a plan that was saved by
"sluice plan --out FILE" and looked at. --no-data leaves the runs out.

Data is never removed by it: what the file no longer names is forgotten and
stays where it is ("sluice destroy" removes). A table that is replaced is made
anew from what the destination holds; nothing is read from the source.`

// planFlags are those that plan, apply and destroy share.
func planFlags(c *cobra.Command, o *planOptions) {
	f := c.Flags()
	f.SortFlags = false
	f.StringArrayVar(&o.targets, "target", nil, "only this address, and those that begin with it; may be repeated")
}

func (a *app) planCommand() *cobra.Command {
	var o planOptions
	var out string
	var asJSON, detailed, refresh bool
	c := command(&cobra.Command{
		Use:     "plan [PIPELINE...] [flags]",
		Short:   "Shows what would change, in the destinations and in the data",
		Long:    planLong,
		Example: "  sluice plan\n  sluice plan nightly --out nightly.plan\n  sluice plan --no-data --detailed-exitcode",
		RunE: func(c *cobra.Command, names []string) error {
			o.pipelines, o.unseen = names, !refresh
			return a.showPlan(c.Context(), o, out, asJSON, detailed)
		},
		ValidArgsFunction: a.completePipelines,
	})
	planFlags(c, &o)
	f := c.Flags()
	f.StringVar(&out, "out", "", "save the plan to this file, for sluice apply FILE")
	f.BoolVar(&asJSON, "json", false, "print a JSON object")
	f.BoolVar(&detailed, "detailed-exitcode", false, "exit 2 where something is to change, 0 where nothing is")
	f.BoolVar(&refresh, "refresh", true, "look at the destinations; false: trust what was last applied")
	f.BoolVar(&o.noData, "no-data", false, "do not ask the source how much the next runs would read")
	return c
}

func (a *app) applyCommand() *cobra.Command {
	var o planOptions
	approved := false
	c := command(&cobra.Command{
		Use:     "apply [PLANFILE | PIPELINE...] [flags]",
		Short:   "Does what a plan shows, once approved",
		Long:    applyLong,
		Example: "  sluice apply\n  sluice apply nightly.plan\n  sluice apply nightly --auto-approve --no-data",
		RunE: func(c *cobra.Command, names []string) error {
			o.pipelines = names
			return a.apply(c.Context(), o, approved)
		},
		ValidArgsFunction: a.completePipelines,
	})
	planFlags(c, &o)
	c.Flags().BoolVar(&o.noData, "no-data", false, "make and change tables and views, and run nothing")
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

// printPlan writes a plan, and what follows it.
func (a *app) printPlan(p plan.Plan, rest string) error {
	if _, err := io.WriteString(a.Streams.Out, planText(p, a.outPaint())); err != nil {
		return fmt.Errorf("print plan: %w", err)
	}
	return a.print(rest)
}

func (a *app) showPlan(ctx context.Context, o planOptions, out string, asJSON, detailed bool) error {
	e, err := a.look(ctx, o)
	if err != nil {
		return err
	}
	doc := a.document(e, o)
	if out != "" {
		if err := savePlan(out, doc); err != nil {
			return err
		}
	}
	switch {
	case asJSON:
		data, err := doc.encode()
		if err != nil {
			return err
		}
		if _, err := a.Streams.Out.Write(data); err != nil {
			return fmt.Errorf("print plan: %w", err)
		}
	case out != "":
		err = a.printPlan(e.plan, "\nSaved to "+out+": `sluice"+a.fileFlag()+" apply "+out+"` does this and nothing else.\n")
	case e.plan.Empty():
		err = a.printPlan(e.plan, "")
	case !e.plan.Doable():
		err = a.printPlan(e.plan, "\nNothing was changed, and `sluice"+a.fileFlag()+" apply` can change nothing: what helps stands above.\n")
	default:
		err = a.printPlan(e.plan, "\nNothing was changed: `sluice"+a.fileFlag()+" apply` does this, once approved.\n")
	}
	if err != nil {
		return err
	}
	if detailed && !e.plan.Empty() {
		return &exitCodeError{code: exitPending, err: errors.New("changes are pending")}
	}
	return nil
}

func (a *app) apply(ctx context.Context, o planOptions, approved bool) error {
	saved := a.planFile(o.pipelines)
	var doc planDocument
	if saved != "" {
		if len(o.targets) > 0 {
			return &usageError{command: "sluice apply", err: errors.New("a saved plan has its targets; --target goes with `sluice plan --out`")}
		}
		var err error
		if doc, err = readPlan(saved); err != nil {
			return err
		}
		o.pipelines, o.targets, o.destroy, o.unseen = doc.Pipelines, doc.Targets, doc.Destroy, !doc.Refreshed
		o.noData = o.noData || doc.NoData
	}
	e, err := a.look(ctx, o)
	if err != nil {
		return err
	}
	if saved != "" {
		if err := doc.refusal(saved, e, a.document(e, o)); err != nil {
			return err
		}
	}
	if err := a.printPlan(e.plan, ""); err != nil {
		return err
	}
	if !e.plan.Empty() {
		if e.plan.Doable() && !approved && saved == "" {
			if err := a.approvePlan(ctx, "Do you want to perform these actions?"); err != nil {
				return err
			}
		}
		if err := a.print("\n"); err != nil {
			return err
		}
	}
	done := a.carryOut(ctx, e)
	return a.afterwards(ctx, e, o, done)
}

// afterwards says what was done, and runs what is to be run.
func (a *app) afterwards(ctx context.Context, e *estate, o planOptions, done applied) error {
	if !e.plan.Empty() && (done.total() > 0 || len(done.failed) == 0) {
		if err := a.print("\n" + done.text(o.destroy) + "\n"); err != nil {
			return err
		}
	}
	var failed error
	if len(done.failed) > 0 {
		failed = &applyError{done: done.total(), err: errors.Join(done.failed...)}
	}
	var ready []*config.Pipeline
	for _, s := range e.plan.Syncs {
		if p := e.cfg.Pipeline(s.Pipeline); p != nil && !done.broken[s.Pipeline] {
			ready = append(ready, p)
		}
	}
	if o.noData || o.destroy || len(ready) == 0 || ctx.Err() != nil {
		return failed
	}
	if err := a.print("\n"); err != nil {
		return errors.Join(failed, err)
	}
	err := a.runAll(ctx, e.cfg, ready, e.store, runOptions{})
	if failed != nil {
		a.show(failed)
		return &exitCodeError{code: exitError, err: errors.Join(failed, err)}
	}
	return err
}

// planFile is the plan that the arguments name; empty where they name
// pipelines, or nothing.
func (a *app) planFile(args []string) string {
	if len(args) != 1 {
		return ""
	}
	cfg, _ := config.Load(a.file, a.Env, config.Offline())
	if cfg != nil {
		if _, err := cfg.Select(args); err == nil {
			return ""
		}
	}
	if strings.ContainsAny(args[0], "./\\") || isFile(args[0]) {
		return args[0]
	}
	return ""
}

// isFile reports whether something stands at a path.
func isFile(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// approvePlan asks whether to go on.
func (a *app) approvePlan(ctx context.Context, question string) error {
	no := func(why string) error {
		err := &userError{message: "nothing was changed", hint: why}
		a.show(err)
		return &exitCodeError{code: exitApproval, err: err}
	}
	if !a.Streams.InTerminal {
		return no("it has to be approved: give --auto-approve, or run it on a terminal")
	}
	answer, err := a.ask(ctx, "\n"+question+"\n  Only 'yes' will be accepted to approve.\n\n  Enter a value: ")
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
	if _, err := io.WriteString(a.err, "\n"+planText(p, a.errPaint())+"\n"); err != nil {
		return fmt.Errorf("print plan: %w", err)
	}
	waits := &userError{
		message: fmt.Sprintf("%s to be replaced first, and took nothing", counted(len(list), "table has", "tables have")),
		hint:    "what is for it waits. `sluice" + a.fileFlag() + " apply` shows this again, asks, and does it; `sluice" + a.fileFlag() + " apply --auto-approve` does not ask",
	}
	a.show(waits)
	return &exitCodeError{code: exitApproval, err: waits}
}
