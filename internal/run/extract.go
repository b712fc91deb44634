package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
	"github.com/sluice-etl/sluice/transform"
)

// extract walks what the mode asks for and seals it as a package. A full run
// scans by created_at, where nothing moves, and then reads the changes since
// the scan began; an incremental one reads the changes since the cursor. A run
// that brought nothing makes a package too: its coverage belongs to the data.
func (r *syncRun) extract(ctx context.Context) error {
	registry, err := schemas.NewRegistry(r.job.Contract, r.session.columns(r.st.Entries(r.job.Contract)))
	if err != nil {
		return fmt.Errorf("restore column registry: %w", err)
	}
	st := r.newStaging(registry, r.client.Stats)
	var cursor *time.Time
	switch {
	case r.span != nil:
		err = r.backfill(ctx, r.client, st)
	case r.recon != nil:
		err = r.reconcile(ctx, st)
	case r.retry != nil:
		err = r.retryAside(ctx, st)
	default:
		cursor, err = r.walkPhases(ctx, r.client, st)
	}
	if err == nil && ctx.Err() == nil {
		err = st.checkAside(true)
	}
	r.counts, r.session.parts, r.reasons = st.totals(), st.parts, reasons(st.parts)
	if err != nil && r.retry != nil {
		r.session.parts = nil // the next one begins anew
	}
	var (
		left   *LeftShareError
		nobody *NobodyPassesError
		limit  *QuarantineLimitError
	)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return r.interrupted(err)
	case errors.As(err, &left), errors.As(err, &nobody), errors.As(err, &limit):
		r.session.parts = nil // the next run is to look anew
		return err
	default:
		return err
	}
	switch {
	case r.recon != nil && r.recon.o.DryRun:
		return nil
	case r.retry != nil:
		return r.endRetry(ctx, registry)
	case r.recon == nil && r.session.digest == nil:
		if _, err := r.session.readIDs(ctx); err != nil {
			if ctx.Err() != nil {
				return r.interrupted(err)
			}
			return err
		}
	}
	return r.sealPackage(ctx, registry, cursor)
}

// decoding marks the rows outside the filters as they arrive: a contact may
// have been inside before, also by its channel, and then has to leave the
// table. The tombstone of one that never was leaves no trace there.
func (r *syncRun) decoding() transform.Options {
	return transform.Options{Contract: r.job.Contract, HashKey: r.job.HashKey, Bury: r.job.Filters, BuryField: r.job.buriedField()}
}

// newStaging takes up what the journal says was done before.
func (r *syncRun) newStaging(registry *schemas.Registry, stats func() extract.Stats) *staging {
	s := r.session
	st := &staging{
		metadata: load.HashKeyMetadata(s.start.HashKey),
		dir:      s.dir,
		fs:       s.disk,
		aside:    r.newAside(),
		runID:    s.start.RunID,
		decoding: r.decoding(),
		registry: registry, journal: s.journal, clock: r.Clock,
		verify:   cmp.Or(r.job.Verify, load.VerifyFull),
		sealRows: cmp.Or(r.SealRows, defaultSealRows), sealAfter: cmp.Or(r.SealAfter, defaultSealAfter),
		stats: stats, parts: s.parts, numbers: s.numbers(),
		account: r.account(), began: lastRun(r.st),
		clients: map[string]bool{}, known: map[schemas.FieldRef]schemas.RegistryEntry{}, emit: r.emit,
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
	if st.enrich = r.newEnricher(); st.enrich != nil {
		st.info = newInfoLog(r.st.InfoFailed, s)
		st.enrich.answered, st.enrich.failed = st.noteAnswered, st.noteNoAnswer
	}
	r.info = st.info
	return st
}

// account returns what refuses client ids of another account than the one that
// filled the tables, or that an unfinished run was begun under.
func (r *syncRun) account() func([]string) error {
	known, begun, dir := r.st, &state.Pipeline{}, r.session.dir
	id := r.job.Identity
	if id.ClientIDs = r.session.clientIDs(); len(id.ClientIDs) > 0 {
		begun.RecordSource(id)
	}
	return func(clientIDs []string) error {
		id.ClientIDs = clientIDs
		if err := state.CheckSource(known, id); err != nil {
			return err
		}
		if state.CheckSource(begun, id) != nil {
			return &MixedRunError{Dir: dir, Begun: begun.Source.ClientIDs, Found: clientIDs}
		}
		return nil
	}
}

// lastRun returns when the last recorded run ended, or began.
func lastRun(p *state.Pipeline) time.Time {
	var last time.Time
	for _, rec := range p.Runs {
		for _, at := range []*time.Time{&rec.StartedAt, rec.FinishedAt} {
			if at != nil && at.After(last) {
				last = *at
			}
		}
	}
	return last
}

// walkPhases runs the phases that the journal does not have yet and returns
// the new cursor.
func (r *syncRun) walkPhases(ctx context.Context, pager extract.Pager, st *staging) (*time.Time, error) {
	last, err := r.read(ctx, pager, st)
	var order *extract.OrderError
	if r.job.Sync == SyncRecent && !r.job.DaysAlone && errors.As(err, &order) {
		err = &DaysOrderError{Err: err}
	}
	if err != nil {
		return nil, err
	}
	if r.session.start.Mode == modeFull && !r.job.Full && st.nobodyPasses() {
		return nil, &NobodyPassesError{Pipeline: r.job.Pipeline, Read: r.session.rows()}
	}
	if err := r.askAgain(ctx, st); err != nil {
		return nil, err
	}
	cursor := r.session.phases[last].Progress.Final
	if r.st.Cursor != nil && cursor.Before(*r.st.Cursor) && !r.ahead(*r.st.Cursor) {
		cursor = *r.st.Cursor // a cursor never moves back
	}
	if r.session.start.Mode != modeIncremental && st.totals().Pages == 0 {
		if err := r.checkEmpty(ctx, pager, st); err != nil {
			return nil, err
		}
	}
	if _, done := r.session.phases[phaseMissing]; r.job.whole() && !done {
		if err := r.markMissing(ctx, st); err != nil {
			return nil, err
		}
	}
	return &cursor, nil
}

// read walks what the mode asks for, and returns the name of the last phase.
func (r *syncRun) read(ctx context.Context, pager extract.Pager, st *staging) (last string, err error) {
	if r.job.Sync == SyncRecent && r.job.DaysAlone {
		if _, done := r.session.phases[phaseRecent]; !done || r.session.resumed {
			err = r.recent(ctx, pager, st)
		}
		return phaseRecent, err
	}
	from := time.UnixMicro(0)
	if r.session.start.Mode == modeIncremental {
		from = *r.session.start.Cursor
	} else {
		if _, done := r.session.phases[phaseScan]; !done {
			if err := r.scan(ctx, pager, st); err != nil {
				return "", err
			}
		}
		if scan := r.session.phases[phaseScan]; scan.ReadSince != nil {
			from = scan.ReadSince.Add(-r.job.Lookback)
		}
	}
	// A run that was stopped between its last page and its package, be it a day
	// ago, has not seen what changed since.
	if _, done := r.session.phases[phaseChanges]; !done || r.session.resumed {
		err = r.changes(ctx, pager, st, from)
	}
	return phaseChanges, err
}

// checkEmpty tells a source without contacts, more often than not the wrong
// account, from one in which none passes what the source was asked to filter
// by.
func (r *syncRun) checkEmpty(ctx context.Context, pager extract.Pager, st *staging) error {
	empty := &EmptySourceError{Source: r.job.Identity.String()}
	if days, filters := r.job.narrowing(); days == 0 && len(filters) == 0 {
		return empty
	}
	var epoch int64
	rows := 0
	_, err := pager.Page(ctx, extract.Query{CreatedAfter: &epoch, Limit: 1}, func(body []byte, _ extract.PageInfo) error {
		list, err := transform.NewChunk(st.decoding).Decode(body)
		if errors.Is(err, transform.ErrBadPage) {
			return fmt.Errorf("%w: %w", extract.ErrBadPage, err)
		}
		rows = len(list)
		return err
	})
	if err != nil {
		return fmt.Errorf("look for contacts outside the filters: %w", err)
	}
	if rows == 0 {
		return empty
	}
	return nil
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
	days, filters := r.job.narrowing()
	s := &extract.Scan{
		Client: pager, Key: extract.ByCreated, Remaining: extract.Uncovered(everything, st.covered(phaseScan)),
		StopAt: r.began, Lookback: r.job.Lookback, PageSize: r.job.PageSize, Days: days, Filters: filters,
		Clock: r.Clock, Seed: r.seed(), Workers: workers,
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
	days, filters := r.job.narrowing()
	w := &extract.Walk{
		Client: pager, Key: extract.ByUpdated, From: left[0].From, StopAt: r.began, Lookback: r.job.Lookback,
		PageSize: r.job.PageSize, Days: days, Filters: filters, Clock: r.Clock, Seed: r.seed(),
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

// recent reads the contacts with a message in the last days where the source
// takes `days` by itself alone. What an earlier process has read of it stays
// in the package; the walk begins anew, as its list begins with the present.
func (r *syncRun) recent(ctx context.Context, pager extract.Pager, st *staging) error {
	st.begins(phaseRecent)
	w := &extract.Recent{
		Client: pager, Days: r.job.Days, StopAt: r.began, Lookback: r.job.Lookback,
		PageSize: r.job.PageSize, Clock: r.Clock, Seed: r.seed(),
	}
	sink := st.stager()
	out, err := w.Run(ctx, sink)
	if err = sealAll(ctx, []*stager{sink}, err); err != nil {
		return fmt.Errorf("read contacts of the last %d days: %w", r.job.Days, err)
	}
	outcome := outcomeOf(extract.ByUpdated, r.began.AddDate(0, 0, -r.job.Days), out, 1)
	outcome.Key = "last_message_at"
	// No walk by updated_at has come anywhere; the cursor says since when
	// changes may be missing.
	since := r.began.Add(-r.job.Lookback).UnixMicro()
	if out.ReadSince != 0 {
		since = out.ReadSince - r.job.Lookback.Microseconds()
	}
	return r.endPhase(st, phaseRecent, outcome, extract.Progress{Mark: since, Final: since, ReadSince: out.ReadSince})
}

// seed makes the run's statistical passes differ from another's.
func (r *syncRun) seed() uint64 { return uint64(r.session.start.StartedAt.UnixNano()) } //nolint:gosec // any bits will do

// sealAll makes parts of what the sinks still hold, also when a walk ended
// early: the next run then goes on from there. It returns the walk's error
// with its own, of several windows that met what a frozen table has no place for
// one.
func sealAll(ctx context.Context, sinks []*stager, walkErr error) error {
	errs := []error{walkErr}
	for _, s := range sinks {
		errs = append(errs, s.seal(context.WithoutCancel(ctx)))
		if s.refusal != nil {
			errs = append(errs, s.refusal)
		}
	}
	return schemas.JoinFreezes(errs...)
}

// endPhase journals that a phase is complete.
func (r *syncRun) endPhase(st *staging, phase string, outcome outcomeRecord, p extract.Progress) error {
	c := st.totals()
	st.noteRead(p.ReadSince)
	outcome.Final, outcome.Ties = finalOf(st.covered(phase)), st.tiesOf(phase)
	r.session.parts = st.parts
	return r.session.endPhase(phaseRecord{
		Phase:     phase,
		Progress:  progressRecord{Mark: time.UnixMicro(p.Mark).UTC(), Final: time.UnixMicro(p.Final).UTC()},
		ReadSince: st.readSince, Outcome: outcome, Counts: c,
	})
}
