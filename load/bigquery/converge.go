package bigquery

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

var _ load.Converger = (*Loader)(nil)

// Converge implements load.Converger. Tables are made and widened as a commit
// does it, and in the same order, so that the next Converge or Commit goes on
// wherever this one ends.
func (l *Loader) Converge(ctx context.Context, c load.Convergence) error {
	if err := l.converge(ctx, c); err != nil {
		return fmt.Errorf("make what is wanted at the destination: %w", err)
	}
	return nil
}

func (l *Loader) converge(ctx context.Context, c load.Convergence) error {
	if c.Lineage == "" {
		return errors.New("check what to make: it needs a lineage")
	}
	inv, err := l.inventory(ctx, c.Lineage)
	if err != nil {
		return err
	}
	if err := inv.lay.ours(c.Lineage); err != nil { // or is going
		return err
	}
	if c.Wants(load.KindDataset, "") {
		if err := l.ensureDataset(ctx, inv.lay.dataset); err != nil {
			return err
		}
	} else if inv.lay.dataset == nil {
		if len(c.Only) == 0 {
			return nil
		}
		return l.noDataset()
	}
	if inv.lay.dataset == nil {
		if inv.lay.dataset, err = l.dataset(ctx); err != nil {
			return err
		}
	}
	table := joined(c.Table, inv.lay)
	if c.Wants(load.KindTable, l.o.Table) {
		if err := inv.convergeTable(ctx, c.Lineage, table); err != nil {
			return err
		}
	} else {
		table = inv.only(table)
	}
	if l.o.Stages != "" && c.Wants(load.KindTable, l.o.Stages) {
		if inv.stages != nil && !isStages(inv.stages) {
			return l.o.foreignStages()
		}
		b := l.o.stagesBlueprint()
		b.relabel = true
		if err := l.ensureTable(ctx, b, inv.stages, inv.lay.dataset); err != nil {
			return err
		}
	}
	return inv.convergeViews(ctx, c, table)
}

// convergeTable makes the four tables of the contacts, or what they lack.
func (inv *inventory) convergeTable(ctx context.Context, lineage string, table schemas.Table) error {
	if err := inv.sameMethod(inv.lay, inv.last); err != nil {
		return err
	}
	for _, b := range inv.blueprints(table, lineage, "") {
		if t := inv.lay.named(b.name); t != nil {
			if err := errors.Join(inv.refuses(b, t)...); err != nil {
				return err
			}
		}
	}
	for _, b := range inv.blueprints(table, lineage, "") {
		b.relabel = true
		if err := inv.ensureTable(ctx, b, inv.lay.named(b.name), inv.lay.dataset); err != nil {
			return err
		}
	}
	return nil
}

// only are the columns of a table that stand there: the views that are wanted
// without it can read no others.
func (inv *inventory) only(table schemas.Table) schemas.Table {
	var out schemas.Table
	for _, c := range table.Columns {
		if fieldNamed(columnsOf(inv.lay.current), c.Name) != nil {
			out.Columns = append(out.Columns, c)
		}
	}
	return out
}

// convergeViews makes the views that are not as they are wanted, and removes
// those that nothing wants. Where that leaves all as they are wanted, the record
// says so, and a commit need not look at them.
func (inv *inventory) convergeViews(ctx context.Context, c load.Convergence, table schemas.Table) error {
	stages, err := inv.stagesOf(ctx)
	if err != nil {
		return err
	}
	list := inv.wantedViews(table, stages)
	complete, changed := true, false
	for _, v := range list {
		if s := inv.standing(v.Name); s != nil && slices.Equal(s.attributes(), inv.viewAttributes(v)) {
			continue
		}
		if !c.Wants(load.KindView, v.Name) {
			complete = false
			continue
		}
		if _, _, err := inv.query(ctx, v.SQL); err != nil {
			return fmt.Errorf("make view %s: %w", inv.o.place(v.Name), err)
		}
		changed = true
	}
	for _, s := range slices.Backward(inv.views) { // what is read goes after what reads it
		wanted := slices.ContainsFunc(list, func(v view) bool { return v.Name == s.name })
		if !wanted && s.own && c.Wants(load.KindView, s.name) {
			if err := inv.removeView(ctx, s); err != nil {
				return err
			}
		}
	}
	if err := inv.convergeUnion(ctx, c, changed); err != nil {
		return err
	}
	commits, err := inv.table(ctx, inv.o.commits())
	if err != nil || commits == nil || !complete || commits.Labels[viewsLabel] == digestOf(list) {
		return err
	}
	return inv.label(ctx, inv.o.commits(), viewsLabel, digestOf(list))
}

// convergeUnion makes the view over accounts as far as c looks after it, and
// always after what it reads has changed.
func (inv *inventory) convergeUnion(ctx context.Context, c load.Convergence, changed bool) error {
	for _, t := range inv.former {
		if name := t.TableReference.TableId; c.Wants(load.KindView, name) {
			if err := inv.remove(ctx, name); err != nil {
				return err
			}
		}
	}
	wants := inv.o.Union.Name != "" && c.Wants(load.KindView, inv.o.Union.Name)
	if wants && inv.union != nil && !isUnion(inv.union) {
		return inv.o.foreignUnion()
	}
	if !wants && (!changed || inv.union == nil) {
		return nil
	}
	return inv.ensureUnion(ctx, true, "")
}

// removeView removes a view or a function.
func (l *Loader) removeView(ctx context.Context, s standing) error {
	if !s.function {
		return l.remove(ctx, s.name)
	}
	err := l.retry(ctx, func(ctx context.Context) error {
		err := l.rest.Routines.Delete(l.o.Project, l.o.Dataset, s.name).Context(ctx).Do()
		if notFound(err) { // or by an attempt whose answer was lost
			return nil
		}
		return err
	})
	return explain("delete function", l.o.place(s.name), err)
}
