package bigquery

import (
	"context"
	"fmt"
	"slices"

	bq "google.golang.org/api/bigquery/v2"

	"github.com/sluice-etl/sluice/load"
)

var _ load.Destroyer = (*Loader)(nil)

// goingLabel is the label of the commits table that says that the tables are
// being removed: whatever is left of them, nobody reads or writes it any more.
const goingLabel = "sluice_going"

// going refuses tables of which some may be gone.
func (l layout) going() *Error {
	if l.commits == nil || l.commits.Labels[goingLabel] == "" {
		return nil
	}
	return &Error{
		Message: "removing the table was begun and did not end", Table: l.o.place(l.o.Table),
		hint: "Destroy it once more: that removes the rest. After it the table can be made anew.",
	}
}

// Destroy implements load.Destroyer. The record of packages says first that the
// tables are going, and goes last, so that what is left is known for a part at
// every step.
func (l *Loader) Destroy(ctx context.Context, d load.Destruction) error {
	if err := l.destroy(ctx, d); err != nil {
		return fmt.Errorf("remove the table: %w", err)
	}
	return nil
}

func (l *Loader) destroy(ctx context.Context, d load.Destruction) error {
	lay, err := l.look(ctx)
	if err != nil || lay.dataset == nil {
		return err
	}
	if err := lay.belongs(d.Lineage); err != nil {
		return err
	}
	tables, err := l.ownTables(ctx, lay, d.Lineage)
	if err != nil {
		return err
	}
	if lay.commits != nil && lay.going() == nil {
		if err := l.label(ctx, l.o.commits(), goingLabel, "1"); err != nil {
			return err
		}
	}
	if err := l.ensureUnion(ctx, true, l.o.Table); err != nil {
		return err
	}
	former, err := l.formerUnions(ctx)
	if err != nil {
		return err
	}
	for _, t := range former { // what reads the table cannot stay
		if err := l.remove(ctx, t.TableReference.TableId); err != nil {
			return err
		}
	}
	views, err := l.standingViews(ctx)
	if err != nil {
		return err
	}
	for _, s := range slices.Backward(views) { // what is read goes after what reads it
		if s.own {
			if err := l.removeView(ctx, s); err != nil {
				return err
			}
		}
	}
	if d.Stages && l.o.Stages != "" {
		t, err := l.table(ctx, l.o.Stages)
		if err != nil {
			return err
		}
		if t != nil && isStages(t) {
			tables = append([]string{l.o.Stages}, tables...)
		}
	}
	for _, name := range tables {
		if err := l.remove(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// ownTables are the tables to remove, in this order. One of somebody else's in
// their midst is an error, while nothing is removed yet.
func (l *Loader) ownTables(ctx context.Context, lay layout, lineage string) ([]string, error) {
	rebuilt, err := l.table(ctx, l.o.rebuilt())
	if err != nil {
		return nil, err
	}
	var out []string
	for _, t := range []*bq.Table{rebuilt, lay.current, lay.history, lay.staging, lay.commits} {
		if t == nil {
			continue
		}
		name := t.TableReference.TableId
		if t.Labels[lineageLabel] != lineageValue(lineage) {
			if t == rebuilt { // which is no part of the table
				continue
			}
			return nil, foreign(l.o.place(name), "a table that sluice did not make has the name", otherName)
		}
		out = append(out, name)
	}
	return out, nil
}
