package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
	"github.com/sluice-etl/sluice/transform"
)

// extract walks what the mode asks for and seals it as a package. A full run
// scans by created_at, where nothing moves, and then reads the changes since
// the scan began; an incremental one reads the changes since the cursor.
func (r *syncRun) extract(ctx context.Context) error {
	registry, err := schemas.NewRegistry(r.job.Contract, r.session.columns(r.st.Registry))
	if err != nil {
		return fmt.Errorf("restore column registry: %w", err)
	}
	client, err := extract.NewClient(r.job.Source, r.Clock)
	if err != nil {
		return err
	}
	st := r.newStaging(registry, client.Stats)
	var cursor *time.Time
	if r.span != nil {
		err = r.backfill(ctx, client, st)
	} else {
		cursor, err = r.walkPhases(ctx, client, st)
	}
	r.counts, r.session.parts = st.totals(), st.parts
	if err != nil {
		if ctx.Err() != nil {
			return &InterruptedError{RunID: r.session.start.RunID, Staged: r.session.rows(), Err: err}
		}
		return err
	}
	if err := r.refuseMixedClients(); err != nil {
		return err
	}
	if r.session.start.Mode == modeFull && r.counts.Pages == 0 {
		return &EmptySourceError{Source: r.job.Identity.String()}
	}
	if r.session.rows() == 0 && (r.span != nil || r.st.Cursor != nil && sameTime(r.st.Cursor, cursor)) {
		return nil // nothing came and nothing moved: no package
	}
	return r.sealPackage(ctx, registry, cursor)
}

// decoding filters rows as they arrive. A contact's channel never changes, so
// one outside is dropped, unless the filter is new: what it keeps out now, and
// what a conversation's state keeps out, may have been let in before, and then
// has to leave the table.
func (r *syncRun) decoding() transform.Options {
	o := transform.Options{Contract: r.job.Contract, Filter: map[string][]string{}, Bury: map[string][]string{}}
	moved := r.st.Cursor != nil && r.st.Filters != state.FiltersFingerprint(r.job.Filters)
	for column, values := range r.job.Filters {
		if column == "platform" && !moved {
			o.Filter[column] = values
		} else {
			o.Bury[column] = values
		}
	}
	return o
}

// newStaging takes up what the journal says was done before.
func (r *syncRun) newStaging(registry *schemas.Registry, stats func() extract.Stats) *staging {
	s := r.session
	st := &staging{
		dir:        s.dir,
		quarantine: filepath.Join(r.Store.Dir(), "quarantine", r.job.Pipeline, s.start.RunID),
		runID:      s.start.RunID,
		decoding:   r.decoding(),
		registry:   registry, journal: s.journal, clock: r.Clock,
		verify:   cmp.Or(r.job.Verify, load.VerifyFull),
		sealRows: cmp.Or(r.SealRows, defaultSealRows), sealAfter: cmp.Or(r.SealAfter, defaultSealAfter),
		stats: stats, parts: s.parts, numbers: s.numbers(),
		clients: map[string]bool{}, rejected: map[xxh3.Uint128]bool{}, known: map[schemas.FieldRef]schemas.RegistryEntry{}, emit: r.emit,
	}
	for _, e := range registry.Entries() {
		st.known[e.Ref()] = e
	}
	if n := len(s.parts); n > 0 {
		last := s.parts[n-1]
		st.counts, st.nextRow, st.readSince = last.Counts, last.NextRow, last.ReadSince
	}
	for _, p := range s.phases {
		if p.Counts.Pages >= st.counts.Pages {
			st.counts, st.readSince = p.Counts, p.ReadSince
		}
	}
	st.before, r.counts = st.counts, st.counts
	return st
}

// walkPhases runs the phases that the journal does not have yet and returns
// the new cursor.
func (r *syncRun) walkPhases(ctx context.Context, pager extract.Pager, st *staging) (*time.Time, error) {
	from := time.UnixMicro(0)
	if r.session.start.Mode == modeFull {
		if _, done := r.session.phases[phaseScan]; !done {
			if err := r.scan(ctx, pager, st); err != nil {
				return nil, err
			}
		}
		if scan := r.session.phases[phaseScan]; scan.ReadSince != nil {
			from = scan.ReadSince.Add(-r.job.Lookback)
		}
	} else {
		from = *r.session.start.Cursor
	}
	if _, done := r.session.phases[phaseChanges]; !done {
		if err := r.changes(ctx, pager, st, from); err != nil {
			return nil, err
		}
	}
	cursor := r.session.phases[phaseChanges].Progress.Final
	if r.st.Cursor != nil && cursor.Before(*r.st.Cursor) {
		cursor = *r.st.Cursor // a cursor never moves back
	}
	return &cursor, nil
}

// scan reads everything by created_at, several windows at a time, from what
// the journal lacks.
func (r *syncRun) scan(ctx context.Context, pager extract.Pager, st *staging) error {
	st.begins(phaseScan)
	everything := []extract.Interval{{}}
	workers := cmp.Or(r.job.Source.Concurrency, defaultWorkers)
	total := st.sealRows
	st.share(workers)
	var sinks []*stager
	s := &extract.Scan{
		Client: pager, Key: extract.ByCreated, Remaining: extract.Uncovered(everything, st.covered(phaseScan)),
		StopAt: r.began, Lookback: r.job.Lookback, PageSize: r.job.PageSize, Clock: r.Clock, Seed: r.seed(), Workers: workers,
		Sink: func(int) extract.WindowSink {
			sinks = append(sinks, st.stager())
			return sinks[len(sinks)-1]
		},
	}
	out, err := s.Run(ctx)
	err = sealAll(ctx, sinks, err)
	st.sealRows = total
	if err != nil {
		return fmt.Errorf("read contacts by created_at: %w", err)
	}
	return r.endPhase(st, phaseScan, outcomeOf(extract.ByCreated, time.UnixMicro(0), out.Outcome, out.Windows), out.Progress)
}

// changes reads what was updated after from, or after what the journal has of
// it: rows between the end of the final stretch and the mark may have become
// visible late, so the walk goes on from the former.
func (r *syncRun) changes(ctx context.Context, pager extract.Pager, st *staging, from time.Time) error {
	st.begins(phaseChanges)
	left := extract.Uncovered([]extract.Interval{{From: from.UnixMicro()}}, st.covered(phaseChanges))
	w := &extract.Walk{
		Client: pager, Key: extract.ByUpdated, From: left[0].From, StopAt: r.began, Lookback: r.job.Lookback,
		PageSize: r.job.PageSize, Clock: r.Clock, Seed: r.seed(),
	}
	sink := st.stager()
	if err := sink.Window(left[0]); err != nil {
		return err
	}
	out, err := w.Run(ctx, sink)
	if err = sealAll(ctx, []*stager{sink}, err); err != nil {
		return fmt.Errorf("read contacts by updated_at: %w", err)
	}
	return r.endPhase(st, phaseChanges, outcomeOf(extract.ByUpdated, from, out, 1), out.Progress)
}

// seed makes the run's statistical passes differ from another's.
func (r *syncRun) seed() uint64 { return uint64(r.session.start.StartedAt.UnixNano()) } //nolint:gosec // any bits will do

// sealAll makes parts of what the sinks still hold, also when a walk ended
// early: the next run then goes on from there. It returns the walk's error
// with its own.
func sealAll(ctx context.Context, sinks []*stager, walkErr error) error {
	errs := []error{walkErr}
	for _, s := range sinks {
		errs = append(errs, s.seal(context.WithoutCancel(ctx)))
	}
	return errors.Join(errs...)
}

// endPhase journals that a phase is complete.
func (r *syncRun) endPhase(st *staging, phase string, outcome outcomeRecord, p extract.Progress) error {
	c := st.totals()
	st.noteRead(p.ReadSince)
	r.session.parts = st.parts
	return r.session.endPhase(phaseRecord{
		Phase:     phase,
		Progress:  progressRecord{Mark: time.UnixMicro(p.Mark).UTC(), Final: time.UnixMicro(p.Final).UTC()},
		ReadSince: st.readSince, Outcome: outcome, Counts: c,
	})
}

// refuseMixedClients stops a run whose contacts belong to another account than
// the state's, before they reach any destination.
func (r *syncRun) refuseMixedClients() error {
	id := r.job.Identity
	id.ClientIDs = r.session.clientIDs()
	err := state.CheckSource(r.st, id)
	if err == nil {
		return nil
	}
	r.session.parts = nil // of no use to a later run either
	return err
}
