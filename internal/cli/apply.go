package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/plan"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/load"
)

// applied counts what was done of a plan.
type applied struct {
	done   map[plan.Action]int
	failed []error
	// broken are the pipelines of which something failed: their data waits.
	broken map[string]bool
}

// carryOut does what a plan says, destination by destination, and saves state
// after each. What fails stops nothing else, but for state that cannot be saved:
// nothing more is done that nobody would remember.
func (a *app) carryOut(ctx context.Context, e *estate) (out applied) {
	out = applied{done: map[plan.Action]int{}, broken: map[string]bool{}}
	left := e.plan.Ordered()
	for _, p := range e.chosen {
		for _, d := range p.Destinations {
			var own []plan.Change
			own, left = e.partAt(p, d, left, out)
			if own = out.free(p, own); len(own) == 0 {
				continue
			}
			if err := a.carryOutAt(ctx, e, p, d, own, &out); out.fails(p.Name, err) || ctx.Err() != nil {
				out.stop(e)
				return out
			}
		}
	}
	for _, c := range left {
		if out.broken[c.Pipeline] || c.Action != plan.Forget && c.Kind != plan.KindPipeline {
			continue
		}
		var err error
		if c.Action == plan.Destroy {
			err = (&run.Engine{Store: e.store, Clock: a.Clock, Log: a.log}).Reset(ctx, c.Pipeline)
		}
		if err == nil {
			err = a.recorded(ctx, e, []plan.Change{c}, &out)
		}
		if out.fails(c.Pipeline, err) {
			out.stop(e)
			return out
		}
	}
	return out
}

// fails notes that something of a pipeline failed, if it did, and reports
// whether that is the end: state cannot be saved.
func (o *applied) fails(pipeline string, err error) bool {
	if err == nil {
		return false
	}
	o.failed = append(o.failed, err)
	o.broken[pipeline] = true
	return errors.As(err, new(*state.EmergencyError))
}

// free notes what of a pipeline's changes at a destination is blocked, and returns
// what can be done beside it: nothing, where it is what all else stands in or reads.
func (o *applied) free(p *config.Pipeline, list []plan.Change) (out []plan.Change) {
	whole := true
	for _, c := range list {
		if c.Action != plan.Blocked {
			out = append(out, c)
			continue
		}
		o.fails(p.Name, &userError{message: c.Address + " cannot be made as it is asked for", hint: strings.Join(c.Effects, " ")})
		whole = whole && c.Kind != plan.KindDataset && c.Address != plan.TableAddress(c.Destination, p.Table)
	}
	if !whole {
		return nil
	}
	return out
}

// stop lets no pipeline run.
func (o *applied) stop(e *estate) {
	for _, p := range e.chosen {
		o.broken[p.Name] = true
	}
}

// partAt takes what is to be done with one destination of a pipeline out of
// changes. What is shared stays where a removal before it failed.
func (e *estate) partAt(p *config.Pipeline, d *config.Destination, list []plan.Change, so applied) (own, rest []plan.Change) {
	for _, c := range list {
		// A table that is to be removed and is gone already is one that state knows.
		does := c.Action != plan.Forget || e.destroy && c.Address == plan.TableAddress(d.Name, p.Table)
		waits := e.destroy && c.Pipeline == "" && len(so.failed) > 0
		if c.Destination == d.Name && e.doneBy(c, p) && does && !waits {
			own = append(own, c)
		} else {
			rest = append(rest, c)
		}
	}
	return own, rest
}

// carryOutAt does what is to be done at one destination of a pipeline.
func (a *app) carryOutAt(ctx context.Context, e *estate, p *config.Pipeline, d *config.Destination, list []plan.Change, out *applied) (err error) {
	job, err := a.bareJob(ctx, e.cfg, p, nil, false)
	if err != nil {
		return err
	}
	loader, err := a.loader(ctx, e.cfg, p, d)
	if err != nil {
		return fmt.Errorf("open destination %s: %w", d.Name, err)
	}
	job.Destinations = []run.Destination{{Name: d.Name, Loader: loader}}
	defer func() { err = errors.Join(err, closeDestinations(job)) }()
	engine := &run.Engine{Store: e.store, Clock: a.Clock, Log: a.log}
	if e.destroy {
		return a.destroyAt(ctx, e, engine, job, list, out, p.Table)
	}
	var converge []plan.Change
	for _, c := range list {
		if c.Action != plan.Replace {
			converge = append(converge, c)
			continue
		}
		if err := a.replaceAt(ctx, engine, job, c); err != nil {
			return err
		}
		if err := a.recorded(ctx, e, []plan.Change{c}, out); err != nil {
			return err
		}
	}
	if len(converge) == 0 {
		return nil
	}
	var only []load.ResourceName
	for _, c := range converge {
		only = append(only, e.names[c.Address])
	}
	if err := engine.Converge(ctx, job, d.Name, only); err != nil {
		return err
	}
	return a.recorded(ctx, e, converge, out)
}

// replaceAt makes a table anew.
func (a *app) replaceAt(ctx context.Context, engine *run.Engine, job run.Job, c plan.Change) error {
	address := c.Address
	list, err := engine.Replacements(ctx, job)
	if err != nil {
		return err
	}
	if len(list) != 1 {
		return &userError{
			message: address + " cannot be made anew from what it holds",
			hint:    "nothing was changed. " + strings.Join(c.Effects, " ") + " To begin with an empty table, remove this one (`sluice" + a.fileFlag() + " destroy --target " + address + "`): the next run reads everything",
		}
	}
	if err := a.print(address + ": replacing...\n"); err != nil {
		return err
	}
	began := a.Clock.Now()
	done, err := engine.Replace(ctx, job, list[0])
	if err != nil {
		return err
	}
	return a.print(fmt.Sprintf("%s: replaced, %s in %s\n", address, counted(done.Contacts, "row", "rows"), duration(a.Clock.Now().Sub(began))))
}

// destroyAt removes a pipeline's tables from a destination.
func (a *app) destroyAt(ctx context.Context, e *estate, engine *run.Engine, job run.Job, list []plan.Change, out *applied, table string) error {
	destination := job.Destinations[0].Name
	stages := slices.ContainsFunc(list, func(c plan.Change) bool {
		return c.Kind == plan.KindTable && c.Address != plan.TableAddress(destination, table)
	})
	if err := a.print("destination." + destination + ": removing...\n"); err != nil {
		return err
	}
	if err := engine.Destroy(ctx, job, destination, stages); err != nil {
		return err
	}
	return a.recorded(ctx, e, list, out)
}

// pastTense says what was done.
func pastTense(c plan.Change) string {
	switch c.Action {
	case plan.Create:
		return "created"
	case plan.Update:
		return "changed"
	case plan.Forget:
		return "forgotten"
	case plan.Destroy:
		if c.Kind == plan.KindPipeline {
			return "reset: the next run reads everything"
		}
		return "removed"
	default:
		return ""
	}
}

// recorded lets state remember what was done, and says it.
func (a *app) recorded(ctx context.Context, e *estate, list []plan.Change, out *applied) error {
	now := a.Clock.Now().UTC()
	record, err := e.store.UpdateResources(context.WithoutCancel(ctx), func(r *state.Resources) error {
		for _, c := range list {
			if c.Action == plan.Forget || c.Action == plan.Destroy {
				delete(r.Items, c.Address)
				continue
			}
			i := slices.IndexFunc(e.found, func(f plan.Resource) bool { return f.Address == c.Address })
			r.Items[c.Address] = e.item(e.found[i], e.found[i].Want, now)
		}
		return nil
	})
	if err != nil {
		return err
	}
	e.record = record
	for _, c := range list {
		out.done[c.Action]++
	}
	for _, line := range e.doneLines(list, a.verbose) {
		if err := a.print(line + "\n"); err != nil {
			return err
		}
	}
	return nil
}

// doneLines say what was done, a line each; with the views of a table in one,
// unless each is asked for.
func (e *estate) doneLines(list []plan.Change, each bool) (out []string) {
	views := map[string]int{} // that the same was done to, by their table
	over := func(c plan.Change) string {
		p := e.cfg.Pipeline(c.Pipeline)
		if each || p == nil || c.Kind != plan.KindView {
			return c.Address
		}
		return plan.TableAddress(c.Destination, p.Table)
	}
	for _, c := range list {
		if c.Kind == plan.KindView {
			views[over(c)+pastTense(c)]++
		}
	}
	for _, c := range list {
		text := pastTense(c)
		if text == "" {
			continue
		}
		key := over(c) + text
		n := views[key]
		tabled := slices.ContainsFunc(list, func(o plan.Change) bool { return o.Kind == plan.KindTable && o.Address+pastTense(o) == key })
		switch {
		case c.Kind == plan.KindTable && n > 0:
			text += ", with " + counted(n, "view", "views")
		case c.Kind != plan.KindView || !tabled && n < 2:
		case tabled || n == 0: // its table's line says it
			continue
		default:
			views[key] = 0
			out = append(out, over(c)+": "+counted(n, "view", "views")+" "+text)
			continue
		}
		out = append(out, c.Address+": "+text)
	}
	return out
}

// text is what an apply says at its end.
func (o applied) text(destroyed bool) string {
	if destroyed {
		return "Destroy complete: " + count(o.done[plan.Destroy]) + " destroyed."
	}
	text := "Apply complete: " + count(o.done[plan.Create]) + " added, " + count(o.done[plan.Update]) + " changed"
	if n := o.done[plan.Replace]; n > 0 {
		text += ", " + count(n) + " replaced"
	}
	if n := o.done[plan.Forget]; n > 0 {
		text += ", " + count(n) + " forgotten"
	}
	return text + ", " + count(o.done[plan.Destroy]) + " destroyed."
}

// total is how many changes were made.
func (o applied) total() int {
	n := 0
	for _, k := range o.done {
		n += k
	}
	return n
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
	return fmt.Sprintf("%v (%s made)", e.err, counted(e.done, "other change was", "other changes were"))
}

// Unwrap returns the causes.
func (e *applyError) Unwrap() []error { return []error{e.err} }

// Hint says what to do.
func (e *applyError) Hint() string {
	return "nothing is lost; the same command does the rest"
}
