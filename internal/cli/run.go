package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/load"
)

type runOptions struct {
	full bool // read everything again
	// frozen lets no table change.
	frozen bool
	json   bool // events on stdout
	notify bool // tell whom the file names
	// backfilled is the range of a backfill, as its summary names it; empty
	// for a run.
	backfilled string
	// flags are those of a reconciliation that a dry run's end repeats.
	flags string
}

const runLong = `Reads what changed since the last run of each pipeline, all of the pipelines
or those named, and commits it to their destinations. The first run reads
everything. Killed at any moment, the next run goes on from what it kept.

With sync: recent, or snapshot, each run reads all that the pipeline asks for,
and marks as deleted the contacts of the table that are no longer among it.

A pipeline that fails stops no other: the exit code is 4 when some failed and
others are done, 1 when none is done. It is 3 where tables have to be replaced
first, which "sluice apply" does: their destinations take nothing until then,
others do.

With --frozen nothing is read where a plan has changes: it shows them and exits
3, and so it does where what was read would bring new columns.

With --notify it tells whom notify and heartbeat name how it ended, as
"sluice schedule" does; without, nobody.`

const runExample = `  sluice run
  sluice run nightly --full
  sluice run --json | tail -n 1 | jq .cursor`

func (a *app) runCommand() *cobra.Command {
	var o runOptions
	c := command(&cobra.Command{
		Use:     "run [PIPELINE...] [flags]",
		Short:   "Exports what changed since the last run",
		Long:    runLong,
		Example: runExample,
		RunE: func(c *cobra.Command, names []string) error {
			return a.run(c.Context(), names, o)
		},
		ValidArgsFunction: a.completePipelines,
	})
	c.Flags().SortFlags = false
	c.Flags().BoolVar(&o.full, "full", false, "read everything again, not only what changed")
	c.Flags().BoolVar(&o.frozen, "frozen", false, "change no table: show what would change, and exit 3")
	c.Flags().BoolVar(&o.json, "json", false, "print events, one JSON object a line, the last of each pipeline of type run_finished")
	c.Flags().BoolVar(&o.notify, "notify", false, "tell whom notify and heartbeat name how it ended")
	return c
}

// run runs the pipelines that the arguments name.
func (a *app) run(ctx context.Context, names []string, o runOptions) error {
	cfg, chosen, err := a.loadNamed(names)
	if err != nil {
		return err
	}
	store, err := a.store(cfg)
	if err != nil {
		return err
	}
	if o.frozen {
		if err := a.mustStand(ctx, names); err != nil {
			return err
		}
	}
	return a.runAll(ctx, cfg, chosen, store, o)
}

// mustStand refuses where a run would change a table, or make one.
func (a *app) mustStand(ctx context.Context, names []string) error {
	e, err := a.look(ctx, planOptions{pipelines: names, noData: true})
	if err != nil || e.plan.Empty() {
		return err
	}
	if _, err := io.WriteString(a.err, planText(e.plan, a.errPaint())+"\n"); err != nil {
		return fmt.Errorf("print plan: %w", err)
	}
	refused := &userError{message: "run --frozen changes no table, and nothing was read", hint: "`sluice" + a.fileFlag() + " apply --no-data` does what the plan says, once approved"}
	a.show(refused)
	return &exitCodeError{code: exitApproval, err: refused}
}

// runAll runs pipelines one after the other. One that fails stops no other.
func (a *app) runAll(ctx context.Context, cfg *config.Config, chosen []*config.Pipeline, store *state.Store, o runOptions) (err error) {
	s := a.newSources()
	defer func() { err = errors.Join(err, s.close()) }()

	tell := a.newTeller(cfg, chosen, store, o.notify)
	var failed []error
	var awaited []run.Replacement
	frozen := false
	approval := true // and nothing else is what those that failed wait for
	for _, p := range chosen {
		view := a.runView(cfg, p, o)
		err := a.runOne(ctx, cfg, p, store, s, view, func(e *run.Engine, j run.Job) (run.Summary, error) {
			j.Full, j.Frozen = o.full, o.frozen
			return e.Run(ctx, j)
		})
		tell.ran(p.Name, err) //nolint:contextcheck // a notice is of no run: it ends when it is told or given up
		if err != nil {
			if len(chosen) > 1 {
				err = fmt.Errorf("pipeline %s: %w", p.Name, err)
			}
			failed = append(failed, err)
			list, all := run.Unapproved(p.Name, err)
			awaited = append(awaited, list...)
			frozen = frozen || errors.As(err, new(*run.FrozenError))
			if !all {
				a.show(err)
				approval = false
			}
			if ctx.Err() != nil {
				break
			}
		}
	}
	tell.tell(ctx)
	if len(awaited) > 0 {
		if err := a.showAwaited(cfg, awaited); approval {
			return err
		}
	}
	switch {
	case len(failed) == 0:
		return nil
	case len(failed) == len(chosen) && frozen:
		return &exitCodeError{code: exitApproval, err: errors.Join(failed...)}
	case len(failed) == len(chosen):
		return &exitCodeError{code: exitError, err: errors.Join(failed...)}
	default:
		return &exitCodeError{code: exitPartial, err: errors.Join(failed...)}
	}
}

// runOne lets do work on one pipeline, and shows what happens.
func (a *app) runOne(ctx context.Context, cfg *config.Config, p *config.Pipeline, store *state.Store, s *sources, view runView, do func(*run.Engine, run.Job) (run.Summary, error)) (err error) {
	finished := false
	defer func() {
		view.close()
		if err != nil && !finished { // before the engine began: the events still end as promised
			view.event(run.Event{
				Type: eventFinished, Time: a.Clock.Now(), Pipeline: p.Name, Error: err.Error(),
				Summary: &run.Summary{Status: "failed"},
			})
		}
	}()
	job, closeLoaders, err := a.job(ctx, cfg, p, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeLoaders()) }()
	engine := &run.Engine{Store: store, Clock: a.Clock, Log: a.log, Observe: func(e run.Event) {
		finished = finished || e.Type == eventFinished
		view.event(e)
	}}
	summary, err := do(engine, job)
	a.noteApplied(ctx, cfg, p, engine, job, err)
	view.close()
	if errors.Is(err, load.ErrForeign) {
		if record, loadErr := store.LoadResources(context.WithoutCancel(ctx)); loadErr == nil { // which only helps
			err = renamedError(cfg, p, record, err)
		}
	}
	if err != nil {
		return err
	}
	return view.summary(ctx, summary)
}

// loadNamed is load, and choose among what was loaded.
func (a *app) loadNamed(names []string, options ...config.Option) (*config.Config, []*config.Pipeline, error) {
	cfg, err := a.load(options...)
	if err != nil {
		return nil, nil, err
	}
	chosen, err := choose(cfg, names)
	return cfg, chosen, err
}

// choose picks the pipelines named, in the file's order where none is.
func choose(cfg *config.Config, names []string) ([]*config.Pipeline, error) {
	return cfg.Select(names)
}
