package parquet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sluice-etl/sluice/internal/gcs"
	"github.com/sluice-etl/sluice/load"
)

var _ load.Converger = (*GSLoader)(nil)

// Converge implements load.Converger, as Loader does.
func (l *GSLoader) Converge(ctx context.Context, c load.Convergence) error {
	if err := l.convergeTable(ctx, c); err != nil {
		return err
	}
	return l.convergeUnion(ctx, c)
}

// convergeTable makes the table and its own views.
func (l *GSLoader) convergeTable(ctx context.Context, c load.Convergence) error {
	if err := errors.Join(ctx.Err(), checkConvergence(c)); err != nil {
		return err
	}
	_, s, err := l.stand(ctx, c.Lineage)
	if err != nil {
		return err
	}
	if err := l.local.mayConverge(s, c); err != nil {
		return err
	}
	stages := s.stages < 0 && l.local.stagesWanted(c)
	if !stages && l.local.idle(s, c) {
		return l.sweepIdle(ctx, s)
	}
	leave, err := l.enter(ctx, "")
	if err != nil {
		return err
	}
	if stages {
		if err := l.makeStages(ctx); err != nil {
			return errors.Join(err, leave())
		}
	}
	for range mostRestarts {
		if err := l.convergeOnce(ctx, c); !errors.Is(err, errOvertaken) {
			return errors.Join(err, leave())
		}
	}
	return errors.Join(&Error{
		Message: fmt.Sprintf("gave up: other commits were faster %d times", mostRestarts), Path: l.URL(),
		hint: "Let no run write to this table meanwhile, and try again.",
	}, leave())
}

// sweepIdle removes what a convergence has staged that was stopped at its end.
func (l *GSLoader) sweepIdle(ctx context.Context, s standing) error {
	if s.m == nil || s.pending {
		return nil
	}
	return l.sweep(ctx, s.m.Number)
}

// makeStages makes the table of stages, without any. The caller holds the
// working directory.
func (l *GSLoader) makeStages(ctx context.Context) error {
	path := filepath.Join(l.local.dir, stagesName)
	if err := l.local.writeStages(ctx, path, load.StageList{}); err != nil {
		return err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return explain("read", path, err)
	}
	_, err = l.o.Client.Put(ctx, l.bucket, l.stagesObject(), data, gcs.Absent, map[string]string{stagesKey: stagesVersion})
	if errors.Is(err, gcs.ErrChanged) { // a run was faster, and it has rows
		return nil
	}
	return err
}

// convergeOnce makes of the table as it is now what it is wanted to be;
// errOvertaken if that changed meanwhile.
func (l *GSLoader) convergeOnce(ctx context.Context, c load.Convergence) error {
	t, s, err := l.stand(ctx, c.Lineage)
	if err == nil && t.pending() {
		if err = l.settle(ctx, t.head); err == nil {
			t, s, err = l.stand(ctx, c.Lineage)
		}
	}
	if err != nil {
		return err
	}
	if err := l.local.mayConverge(s, c); err != nil || l.local.idle(s, c) {
		return err
	}
	if s.m == nil {
		s.m = &Manifest{Lineage: c.Lineage, Current: []File{}, History: []File{}, Results: []Committed{}}
	}
	replaces, err := l.bring(ctx, t, s.m, l.local.packageFor(s, c))
	if err != nil {
		return err
	}
	m, err := l.local.stageConvergence(ctx, s, c)
	if err != nil || m == nil {
		return err
	}
	h, err := l.headOf(ctx, t, s.m, m, replaces)
	if err != nil {
		return err
	}
	if err := l.upload(ctx, h.Commit, h.Published); err != nil {
		l.unstage(ctx, h.Commit, h.Published)
		return err
	}
	if err := l.record(ctx, t, h); err != nil {
		return err
	}
	_ = l.sweep(ctx, h.Number) // or the next commit does
	return nil
}
