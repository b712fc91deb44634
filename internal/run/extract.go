package run

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

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
	st := r.newStager(registry)
	before := r.counts
	st.account = func() {
		stats := client.Stats()
		st.counts.Requests = before.Requests + stats.Requests
		st.counts.Retries = before.Retries + stats.TotalRetries()
	}
	cursor, err := r.walkPhases(ctx, client, st)
	st.account()
	r.counts = st.counts
	if err != nil {
		return r.stopped(ctx, st, err)
	}
	r.session.parts = st.parts
	if err := r.refuseMixedClients(); err != nil {
		return err
	}
	if r.session.start.Mode == modeFull && r.counts.Pages == 0 {
		return &EmptySourceError{Source: r.job.Identity.String()}
	}
	if len(st.parts) == 0 && r.st.Cursor != nil && sameTime(r.st.Cursor, cursor) {
		return nil // nothing came and nothing moved: no package
	}
	return r.sealPackage(ctx, registry, cursor)
}

// decoding filters rows as they arrive. A contact's channel never changes, so
// one outside is dropped; what a conversation's state keeps out now may have
// been let in before, and then has to leave the table.
func (r *syncRun) decoding() transform.Options {
	o := transform.Options{Contract: r.job.Contract, Filter: map[string][]string{}, Bury: map[string][]string{}}
	for column, values := range r.job.Filters {
		if column == "platform" {
			o.Filter[column] = values
		} else {
			o.Bury[column] = values
		}
	}
	return o
}

func (r *syncRun) newStager(registry *schemas.Registry) *stager {
	s := r.session
	st := &stager{
		dir:        s.dir,
		quarantine: filepath.Join(r.Store.Dir(), "quarantine", r.job.Pipeline, s.start.RunID),
		runID:      s.start.RunID,
		chunk:      transform.NewChunk(r.decoding()),
		registry:   registry, journal: s.journal, clock: r.Clock, verify: r.job.Verify,
		sealRows: r.SealRows, sealAfter: r.SealAfter,
		parts: s.parts, clients: map[string]bool{}, known: map[schemas.FieldRef]schemas.RegistryEntry{},
	}
	if st.verify == "" {
		st.verify = load.VerifyFull
	}
	if st.sealRows <= 0 {
		st.sealRows = defaultSealRows
	}
	if st.sealAfter <= 0 {
		st.sealAfter = defaultSealAfter
	}
	for _, e := range registry.Entries() {
		st.known[e.Ref()] = e
	}
	if n := len(s.parts); n > 0 {
		st.counts, st.nextRow, st.readSince = s.parts[n-1].Counts, s.parts[n-1].NextRow, s.parts[n-1].ReadSince
	}
	for _, p := range s.phases {
		if p.Counts.Pages >= st.counts.Pages {
			st.counts, st.readSince = p.Counts, p.ReadSince
		}
	}
	r.counts = st.counts
	st.observe = func(s *stager) {
		r.emit(Event{
			Type: "progress", Phase: s.phase, Contacts: s.counts.Rows, Pages: s.counts.Pages,
			Mark: s.progress.Mark.Format(time.RFC3339Nano), Goal: r.began.UTC().Format(time.RFC3339),
		})
	}
	st.sealedPart = func(p partRecord) {
		r.emit(Event{Type: "part_sealed", Phase: p.Phase, Contacts: s.rows(), Pages: p.Counts.Pages})
	}
	return st
}

// walkPhases runs the phases that the journal does not have yet and returns
// the new cursor, nil if there is still none.
func (r *syncRun) walkPhases(ctx context.Context, pager extract.Pager, st *stager) (*time.Time, error) {
	from := time.UnixMicro(0)
	if r.session.start.Mode == modeFull {
		if _, done := r.session.phases[phaseScan]; !done {
			if _, err := r.walk(ctx, pager, st, phaseScan, extract.ByCreated, from); err != nil {
				return nil, err
			}
		}
		if scan := r.session.phases[phaseScan]; scan.ReadSince != nil {
			from = scan.ReadSince.Add(-r.job.Lookback)
		}
	} else {
		from = *r.session.start.Cursor
	}
	changes, done := r.session.phases[phaseChanges]
	if !done {
		var err error
		if changes, err = r.walk(ctx, pager, st, phaseChanges, extract.ByUpdated, from); err != nil {
			return nil, err
		}
	}
	cursor := changes.Progress.Final
	if r.st.Cursor != nil && cursor.Before(*r.st.Cursor) {
		cursor = *r.st.Cursor // a cursor never moves back
	}
	return &cursor, nil
}

// walk runs one phase from where the journal left it, and journals its end.
func (r *syncRun) walk(ctx context.Context, pager extract.Pager, st *stager, phase string, key extract.Key, from time.Time) (phaseRecord, error) {
	st.phase, st.progress = phase, nil
	if last := r.session.last(phase); last != nil && last.Progress != nil {
		// A walk goes on from the final prefix, not from its mark: rows between
		// the two may have become visible late.
		from = last.Progress.Final
		st.progress = last.Progress
	}
	w := &extract.Walk{
		Client: pager, Key: key, From: from.UnixMicro(), StopAt: r.began, Lookback: r.job.Lookback,
		PageSize: r.job.PageSize, Clock: r.Clock, Seed: uint64(r.session.start.StartedAt.UnixNano()),
	}
	out, err := w.Run(ctx, st)
	if err != nil {
		return phaseRecord{}, fmt.Errorf("read contacts by %s: %w", key, err)
	}
	if err := st.seal(ctx); err != nil {
		return phaseRecord{}, err
	}
	outcome, err := encodeOutcome(w, out)
	if err != nil {
		return phaseRecord{}, err
	}
	st.account()
	st.noteRead(out.Progress)
	p := phaseRecord{
		Phase:     phase,
		Progress:  progressRecord{Mark: time.UnixMicro(out.Mark).UTC(), Final: time.UnixMicro(out.Final).UTC()},
		ReadSince: st.readSince, Outcome: outcome, Counts: st.counts,
	}
	r.session.parts = st.parts
	return p, r.session.endPhase(p)
}

// stopped keeps what was staged when a walk ends early, so that the next run
// goes on from there, and says so where the user asked for the stop.
func (r *syncRun) stopped(ctx context.Context, st *stager, cause error) error {
	if sealErr := st.seal(context.WithoutCancel(ctx)); sealErr != nil {
		cause = errors.Join(cause, sealErr)
	}
	r.session.parts = st.parts
	if ctx.Err() != nil {
		return &InterruptedError{RunID: r.session.start.RunID, Staged: r.session.rows(), Err: cause}
	}
	return cause
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
