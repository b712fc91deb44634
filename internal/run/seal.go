package run

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/schemas"
)

// sealPackage numbers what was staged, queues it for every destination and
// moves the cursor, in one save of state. From there on the rows are safe. A
// backfill has no cursor.
func (r *syncRun) sealPackage(ctx context.Context, registry *schemas.Registry, cursor *time.Time) error {
	if err := r.checkFrozen(registry); err != nil {
		return err
	}
	// What is long of it first, while others may commit.
	dirName := runDirName(r.job.Pipeline, r.session.start.RunID)
	if _, err := r.claim.Keep(ctx, dirName); err != nil {
		if ctx.Err() != nil {
			return r.interrupted(err)
		}
		return err
	}
	if err := r.lockCommits(ctx); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx) // half a second that a Ctrl-C must not throw away
	s := r.session
	now := r.Clock.Now()
	cov, err := s.coverage(r.counts, r.job.Contract, now, cursor)
	if err != nil {
		return err
	}
	next := r.st.NextPackage
	st, err := r.Store.UpdateOrRescue(ctx, r.job.Pipeline, func(p *state.Pipeline) error {
		if err := r.claim.Check(p); err != nil {
			return err
		}
		merged, err := r.agree(p, registry)
		if err != nil {
			return err
		}
		s.saw(merged)
		p.NextPackage = max(p.NextPackage, next)
		ref := state.PackageRef{Serial: p.NextPackage, RunID: s.start.RunID, Rows: s.rows(), Bytes: s.bytes(), SealedAt: now}
		// The journal first: state must never name a package without one.
		sealed := sealedRecord{Serial: ref.Serial, SealedAt: now, Cursor: cursor, Table: merged.Table(), Coverage: cov}
		if err := s.journal.append(record{Sealed: &sealed}); err != nil {
			return err
		}
		if ref.Kept, err = r.claim.Keep(ctx, dirName); err != nil {
			return err
		}
		if r.kind == kindSync {
			r.moveOn(p, cursor)
		}
		if err := p.Enqueue(ref, r.takers(p)...); err != nil {
			return err
		}
		seen := r.job.Identity
		seen.ClientIDs = s.clientIDs()
		if r.job.hidesAccount() {
			seen.ClientIDs, p.Source.ClientIDs = nil, nil
		}
		p.RecordSource(seen)
		p.Registry = merged.Entries()
		p.LeftOut = s.leftOut(p.LeftOut, r.kind == kindSync)
		r.rememberInfo(p)
		r.pkg = ref.Serial
		rec := r.record("sealed", nil)
		rec.CursorAfter, rec.Coverage = cursor, cov
		p.RecordRun(rec)
		return nil
	})
	if err != nil {
		r.pkg = 0
		return fmt.Errorf("seal package: %w", err)
	}
	r.st = st
	r.summary.Coverage = cov
	r.tellInfo()
	r.emit(Event{Type: "package_sealed", Package: r.pkg, Contacts: s.rows()})
	return nil
}

// agree joins the columns that this run settled with those that a run beside
// it may have settled meanwhile. Where the two contradict each other, what was
// staged cannot go into the table, and is given up.
func (r *syncRun) agree(p *state.Pipeline, registry *schemas.Registry) (*schemas.Registry, error) {
	if reason := unprepared(p, r.job); r.kind != kindSync && reason != "" {
		return nil, &NotReadyError{Pipeline: r.job.Pipeline, Kind: r.kind, Reason: reason}
	}
	entries, err := joinEntries(p.Entries(r.job.Contract), registry.Entries())
	if err == nil {
		registry, err = schemas.NewRegistry(r.job.Contract, entries)
	}
	if err != nil {
		r.session.parts = nil // of no use to a later run either
		return nil, &ColumnsMovedError{Err: err}
	}
	return registry, nil
}

// moveOn lets state stand where a sync has come to.
func (r *syncRun) moveOn(p *state.Pipeline, cursor *time.Time) {
	r.dropRemoved(p, r.destinations())
	r.notePlain(p)
	p.Filters, p.Contract = r.job.selection(), r.job.Contract.Hash()
	p.HashKey, p.Policies = r.job.hashKeyID(), policies(r.job.Contract)
	p.Cursor = cursor
	p.Columns = p.Columns[:0]
	for _, col := range r.job.Contract.Columns {
		p.Columns = append(p.Columns, state.Column{Name: col.Name, Type: col.Type, Source: col.Ref.String()})
	}
	if r.session.start.Mode != modeIncremental {
		p.LastFull = &r.session.start.StartedAt
	}
}

// takers names the destinations that the package goes to: all but those that
// wait for a full read, unless this is one and they can take it.
func (r *syncRun) takers(p *state.Pipeline) []string {
	full := r.kind == kindSync && r.session.start.Mode != modeIncremental
	return slices.DeleteFunc(r.destinations(), func(name string) bool {
		d := p.Destinations[name]
		if d == nil || d.NeedsFull == nil {
			return false
		}
		if full && slices.Contains(r.ready, name) {
			d.NeedsFull = nil
			return false
		}
		return true
	})
}

// destinations names the job's destinations.
func (r *syncRun) destinations() []string {
	names := make([]string, len(r.job.Destinations))
	for i, d := range r.job.Destinations {
		names[i] = d.Name
	}
	return names
}

// dropRemoved forgets destinations that the pipeline no longer has, and their
// queues with them.
func (r *syncRun) dropRemoved(p *state.Pipeline, names []string) {
	for name := range p.Destinations {
		if !slices.Contains(names, name) {
			delete(p.Destinations, name)
		}
	}
}
