package duckdb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/views"
	"github.com/sluice-etl/sluice/schemas"
)

var _ load.Converger = (*Loader)(nil)

// Converge implements load.Converger, in one transaction. New columns may come
// ahead of it, as with Commit. Where there is nothing to do the database is
// opened for reading alone.
func (l *Loader) Converge(ctx context.Context, c load.Convergence) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.Lineage == "" {
		return errors.New("converge table: no lineage is given")
	}
	if err := checkTable(c.Table); err != nil {
		return err
	}
	st, err := l.stand(ctx, c.Lineage)
	if err != nil {
		return err
	}
	todo, err := l.todo(st, c)
	if err != nil || !todo.any() {
		return err
	}
	if err := l.create(ctx); err != nil {
		return err
	}
	s, err := l.open(ctx, false, len(c.Table.Columns))
	if err != nil {
		return err
	}
	err = s.converge(ctx, l, c)
	if closeErr := s.close(); err == nil {
		err = closeErr
	}
	return explain("converge table", l.o.Path, err)
}

// todo is what a convergence changes.
type todo struct {
	table, stages bool
	views         []load.Resource // to be made, made anew or removed
	union         bool            // the view over accounts
}

func (t todo) any() bool { return t.table || t.stages || len(t.views) > 0 || t.union }

// todo says what is not as it is wanted, of what c looks after, and refuses what
// cannot be done in place.
func (l *Loader) todo(st standing, c load.Convergence) (out todo, err error) {
	list, err := l.resources(st, c.Table)
	if err != nil {
		return out, err
	}
	tables := st.exists() || c.Wants(load.KindTable, l.o.Table)
	for _, r := range list {
		if !c.Wants(r.Kind, r.Name) || (r.Want == nil) == (r.Have == nil) && !differs(r.Want, r.Have) {
			continue
		}
		switch {
		case r.Kind == load.KindView && l.unionName(st, r.Name):
			if r.Name == l.o.Union.Name && st.unions.taken {
				return out, l.foreignUnion()
			}
			out.union = true
		case r.Kind == load.KindView && tables: // else there is nothing to read
			out.views = append(out.views, r)
		case r.Kind == load.KindView:
		case r.Name == l.o.Table:
			if err := l.mayChange(st, r); err != nil {
				return out, err
			}
			out.table = true
		default:
			if err := l.mayChange(standing{}, r); err != nil {
				return out, err
			}
			out.stages = true
		}
	}
	return out, nil
}

// differs reports whether anything that is wanted is otherwise.
func differs(want, have []load.Attribute) bool {
	return slices.ContainsFunc(want, func(a load.Attribute) bool {
		return !slices.ContainsFunc(have, func(h load.Attribute) bool { return h.Name == a.Name && h.Value == a.Value })
	})
}

// mayChange refuses a table that has lost what nobody can bring back, and one
// that would have to be another.
func (l *Loader) mayChange(st standing, r load.Resource) error {
	if st.exists() && (st.current == nil || st.history == nil) {
		lost := st.t.name + currentSuffix
		if st.current != nil {
			lost = st.t.name + historySuffix
		}
		return &Error{Message: "the stored table " + schemaName + "." + lost + " is missing", Path: l.o.Path, hint: lostHint}
	}
	for _, a := range r.Want {
		i := slices.IndexFunc(r.Have, func(h load.Attribute) bool { return h.Name == a.Name })
		_, need := needed()[strings.TrimPrefix(strings.TrimPrefix(a.Name, historyPrefix), load.ColumnAttribute(""))]
		switch {
		case i >= 0 && retypes(a, r.Have[i]):
			_, column, _ := strings.Cut(a.Name, load.ColumnAttribute(""))
			return &Error{Message: fmt.Sprintf("column %s of %s is %s, and is to be %s", column, r.Name, typeOf(r.Have[i]), typeOf(a)), Path: l.o.Path, hint: retypeHint}
		case st.exists() && need && i < 0 && strings.Contains(a.Name, load.ColumnAttribute("")):
			return &Error{Message: fmt.Sprintf("table %s has lost %s, which every row needs", r.Name, a.Name), Path: l.o.Path, hint: lostHint}
		}
	}
	return nil
}

const lostHint = "Somebody dropped it. Restore the database from a backup, or `sluice destroy` the table and run with --full."

func (s *session) converge(ctx context.Context, l *Loader, c load.Convergence) error {
	s.sweep()
	st, err := s.stand(ctx, l.o, c.Lineage) // what is true now stays true
	if err != nil {
		return err
	}
	todo, err := l.todo(st, c)
	if err != nil || !todo.any() {
		return err
	}
	if todo.table && st.exists() {
		if err := s.widen(ctx, st.t, st.missing(c.Table), addedBudget); err != nil {
			return err
		}
	}
	return s.transaction(ctx, func() error {
		if todo.stages {
			if err := s.convergeStages(ctx, l.o, st); err != nil {
				return err
			}
		}
		t := st.t
		if todo.table {
			if t, err = s.convergeTable(ctx, l.o, c, st); err != nil {
				return err
			}
		}
		if t.found {
			if len(todo.views) > 0 {
				if t.views, err = s.convergeViews(ctx, l.o, t, todo.views); err != nil {
					return fmt.Errorf("create views: %w", err)
				}
			}
			if err := s.note(ctx, t); err != nil {
				return err
			}
		}
		if todo.union || len(todo.views) > 0 { // what it reads has changed
			return s.writeUnion(ctx, l.o, true)
		}
		return nil
	})
}

// transaction runs f in one.
func (s *session) transaction(ctx context.Context, f func() error) error {
	if _, err := s.exec(ctx, "BEGIN TRANSACTION"); err != nil {
		return err
	}
	err := f()
	if err == nil {
		_, err = s.exec(ctx, "COMMIT")
	}
	if err != nil {
		// Closing the session rolls back too; an error here says nothing new.
		_, _ = s.exec(context.WithoutCancel(ctx), "ROLLBACK")
	}
	return err
}

// missing are the columns of table that one of the stored tables lacks.
func (st standing) missing(table schemas.Table) (out []schemas.Column) {
	for _, c := range table.Columns {
		for _, there := range [][]catalogColumn{st.current, st.history} {
			if !slices.ContainsFunc(there, func(h catalogColumn) bool { return h.name == c.Name }) {
				out = append(out, c)
				break
			}
		}
	}
	return out
}

// convergeTable makes the table, or adds what it lacks. Nothing is noted yet.
func (s *session) convergeTable(ctx context.Context, o Options, c load.Convergence, st standing) (stored, error) {
	t := st.t
	if st.gone() {
		if err := s.forget(ctx, t.name); err != nil {
			return t, err
		}
		t = stored{name: o.Table, views: t.views}
	}
	columns, err := change(t.columns, c.Table)
	if err != nil {
		return t, err
	}
	if t.found {
		columns.added = st.missing(columns.table)
	}
	if err := s.prepare(ctx, o, load.Package{Lineage: c.Lineage}, t, columns); err != nil {
		return t, err
	}
	t.found, t.columns = true, columns.table
	t.views.Timezone = views.Zone(o.Timezone)
	return t, nil
}

// note writes down the columns and views of a table.
func (s *session) note(ctx context.Context, t stored) error {
	columns, err := json.Marshal(t.columns)
	if err != nil {
		return fmt.Errorf("encode columns: %w", err)
	}
	record, err := json.Marshal(t.views)
	if err != nil {
		return fmt.Errorf("encode views: %w", err)
	}
	_, err = s.exec(ctx, `UPDATE _sluice.tables SET "columns" = ?, views = ? WHERE name = ?`, string(columns), string(record), t.name)
	return err
}

// convergeStages makes the table of stages, without any, or adds the columns
// that it lacks.
func (s *session) convergeStages(ctx context.Context, o Options, st standing) error {
	if st.stages == nil {
		if _, err := s.exec(ctx, metaTables+stagesNotes); err != nil {
			return err
		}
		return s.writeStages(ctx, o, load.StageList{})
	}
	for _, c := range load.StageTable().Columns {
		if slices.ContainsFunc(st.stages, func(h catalogColumn) bool { return h.name == c.Name }) {
			continue
		}
		_, err := s.exec(ctx, fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s %s", stagesRelation(o.Stages), views.QuoteName(c.Name), views.DuckType(c.Type)))
		if err != nil {
			return err
		}
	}
	return nil
}

// convergeViews makes and removes the chosen views of a table, and returns the
// record of all.
func (s *session) convergeViews(ctx context.Context, o Options, t stored, chosen []load.Resource) (viewsRecord, error) {
	record := t.views
	stages, err := s.stagesOf(ctx, o.Stages)
	if err != nil {
		return record, err
	}
	standing, err := s.names(ctx)
	if err != nil {
		return record, err
	}
	vo := viewOptions(o, t, t.columns)
	vo.Stages = stages
	if vo.Taken, err = takenFor(s.path, vo, standing, record); err != nil {
		return record, err
	}
	text := views.SQL(vo)
	_, wanted := views.Split(text)
	keep := record
	for _, r := range chosen {
		if r.Want == nil {
			keep.Names, keep.Macros = without(keep.Names, r.Name), without(keep.Macros, r.Name)
		}
	}
	if err := s.dropViews(ctx, record, keep, taken(standing, record)); err != nil {
		return record, err
	}
	record = keep
	var made []views.Statement
	for _, v := range wanted {
		if !slices.ContainsFunc(chosen, func(r load.Resource) bool { return r.Name == v.Name }) {
			continue
		}
		if _, err := s.exec(ctx, v.Text); err != nil {
			return record, err
		}
		made = append(made, v)
		if names := record.of(v); !slices.Contains(*names, v.Name) {
			*names = append(slices.Clone(*names), v.Name)
		}
	}
	if err := s.noteMade(ctx, &record, made); err != nil {
		return record, err
	}
	record.settle(vo, text, wanted)
	return record, nil
}

func without(names []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == name })
}

// of is the list that a view is noted in.
func (r *viewsRecord) of(v views.Statement) *[]string {
	if v.Macro {
		return &r.Macros
	}
	return &r.Names
}

// settle notes the SQL of all views if it is what made every one of them: then
// the next package leaves them as they are. Else it makes all anew.
func (r *viewsRecord) settle(vo views.Options, text string, wanted []views.Statement) {
	r.Taken, r.SHA256 = vo.Taken, checksum(text)
	for _, v := range wanted {
		if made, ok := r.Made[v.Name]; !ok || made.By != v.Digest() || !slices.Contains(*r.of(v), v.Name) {
			r.SHA256 = ""
		}
	}
	if len(wanted) != len(r.Names)+len(r.Macros) {
		r.SHA256 = ""
	}
}
