package parquet

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/views"
)

var _ load.Converger = (*Loader)(nil)

// Converge implements load.Converger. A table without rows is its folder, a
// manifest with the columns and views.sql: there is no Parquet file below
// current. A new column, or other settings, are a commit of their own, which
// writes every file of current anew for the column as the next package would.
func (l *Loader) Converge(ctx context.Context, c load.Convergence) error {
	path := filepath.Join(l.dir, viewsName)
	before, _ := os.ReadFile(path) // whether it changes is all that counts
	if err := l.convergeTable(ctx, c); err != nil {
		return err
	}
	after, _ := os.ReadFile(path)
	return l.convergeUnion(c, !bytes.Equal(before, after))
}

// convergeTable makes the table and its own views.
func (l *Loader) convergeTable(ctx context.Context, c load.Convergence) error {
	if err := errors.Join(ctx.Err(), checkConvergence(c)); err != nil {
		return err
	}
	s, err := l.stand(c.Lineage)
	if err != nil {
		return err
	}
	if err := l.mayConverge(s, c); err != nil {
		return err
	}
	if s.stages < 0 && l.stagesWanted(c) {
		if err := l.makeStages(ctx); err != nil {
			return err
		}
	}
	if l.idle(s, c) {
		return nil
	}
	if err := atomicfile.MakeDirs(l.o.FS, l.dir, dirMode); err != nil {
		return explain("create folder", l.dir, err)
	}
	release, err := acquire(ctx, l.dir, "", l.o.LockWait, l.o.Clock)
	if err != nil {
		return err
	}
	return errors.Join(l.convergeLocked(ctx, c), release())
}

func checkConvergence(c load.Convergence) error {
	if c.Lineage == "" {
		return errors.New("converge table: no lineage is given")
	}
	return checkTable(c.Table)
}

// mayConverge refuses what cannot be done in place.
func (l *Loader) mayConverge(s standing, c load.Convergence) error {
	if !c.Wants(load.KindTable, l.o.Table) {
		return nil
	}
	return errors.Join(l.missingFiles(s), l.retyped(s, c.Table))
}

func (l *Loader) stagesWanted(c load.Convergence) bool {
	return l.o.Stages != "" && c.Wants(load.KindTable, l.o.Stages)
}

// makeStages makes the table of stages, without any.
func (l *Loader) makeStages(ctx context.Context) error {
	dir := filepath.Join(filepath.Dir(l.dir), l.o.Stages)
	if err := atomicfile.MakeDirs(l.o.FS, dir, dirMode); err != nil {
		return explain("create folder", dir, err)
	}
	release, err := acquire(ctx, dir, "", l.o.LockWait, l.o.Clock)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, stagesName)
	err = explain("clean", dir, atomicfile.RemoveTempsOn(l.o.FS, dir))
	if _, statErr := os.Stat(path); err == nil && errors.Is(statErr, fs.ErrNotExist) { // nobody was faster
		err = l.writeStages(ctx, path, load.StageList{})
	}
	return errors.Join(err, release())
}

// idle reports whether there is nothing to do for the table and its views: all
// that c looks after is as it is wanted, and no commit was interrupted.
func (l *Loader) idle(s standing, c load.Convergence) bool {
	if s.m == nil {
		return !c.Wants(load.KindTable, l.o.Table) // then there is nothing for views to read
	}
	for _, r := range l.resources(s, c.Table) {
		stages := r.Kind == load.KindTable && r.Name != l.o.Table
		if !stages && c.Wants(r.Kind, r.Name) && ((r.Want == nil) != (r.Have == nil) || differs(r.Want, r.Have)) {
			return false
		}
	}
	return !s.pending
}

func (l *Loader) convergeLocked(ctx context.Context, c load.Convergence) error {
	m, err := l.recover(load.Package{Lineage: c.Lineage})
	if err != nil {
		return err
	}
	s, err := l.stand(c.Lineage)
	if err != nil {
		return err
	}
	s.m = m
	if err := l.mayConverge(s, c); err != nil { // it may have changed before the lock was ours
		return err
	}
	next, err := l.stageConvergence(ctx, s, c)
	if err != nil {
		_ = clearStaging(l.o.FS, l.dir) // or the next commit does
		return err
	}
	if next == nil {
		return nil
	}
	if _, err := l.publish(next); err != nil {
		return err
	}
	pruneManifests(l.o.FS, l.dir, next.Number)
	return clearStaging(l.o.FS, l.dir)
}

// stageConvergence stages the commit that makes the table and its views what
// they are wanted to be, as far as c looks after them, and returns its manifest:
// nil where there is nothing to do.
func (l *Loader) stageConvergence(ctx context.Context, s standing, c load.Convergence) (*Manifest, error) {
	p := l.packageFor(s, c)
	next, _, err := l.stageRows(ctx, s.m, p)
	if err != nil {
		return nil, err
	}
	changes := l.tableChanges(s, c)
	if !changes {
		next.Compatibility, next.Timezone = s.m.Compatibility, s.m.Timezone
	}
	if err := l.stageChosenViews(next, c); err != nil {
		return nil, err
	}
	if !changes && len(next.Published) == 0 {
		return nil, clearStaging(l.o.FS, l.dir)
	}
	return next, flushStaging(l.o.FS, l.dir)
}

// tableChanges reports whether the table is to be looked after and is not as it
// is wanted.
func (l *Loader) tableChanges(s standing, c load.Convergence) bool {
	table := l.tableResource(s, c.Table)
	return c.Wants(load.KindTable, l.o.Table) && differs(table.Want, table.Have)
}

// packageFor is a package without rows, as if it came right after the last one,
// with the columns that the table is to have.
func (l *Loader) packageFor(s standing, c load.Convergence) load.Package {
	p := load.Package{Serial: s.m.Package, Lineage: c.Lineage, Pipeline: s.m.Pipeline, RunID: s.m.RunID, Table: s.m.Schema}
	if l.tableChanges(s, c) {
		p.Table = c.Table
	}
	return p
}

// stageChosenViews stages views.sql with the views that c looks after as they
// are wanted, and the others as they stand there.
func (l *Loader) stageChosenViews(next *Manifest, c load.Convergence) error {
	path := filepath.Join(l.dir, viewsName)
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return explain("read", path, err)
	}
	head, wanted := views.Split(Views(l.viewsFor(next)))
	_, there := views.Split(string(old))
	at := func(list []views.Statement, name string) int {
		return slices.IndexFunc(list, func(s views.Statement) bool { return s.Name == name })
	}
	var list []views.Statement
	chosen := false
	for _, v := range wanted {
		i := at(there, v.Name)
		if c.Wants(load.KindView, v.Name) {
			list, chosen = append(list, v), true
		} else if i >= 0 {
			list = append(list, there[i])
		}
	}
	for _, v := range there {
		if at(wanted, v.Name) >= 0 {
			continue
		}
		if c.Wants(load.KindView, v.Name) {
			chosen = true
		} else {
			list = append(list, v)
		}
	}
	sql := views.Join(head, list)
	if !chosen || sql == string(old) {
		return nil
	}
	return l.stageSmall(viewsName, []byte(sql), next)
}
