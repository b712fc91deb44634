package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/schemas"
)

const (
	kindSync         = "sync"
	defaultSealRows  = 131072
	defaultSealAfter = time.Minute
	defaultWorkers   = 4     // as extract.Source has it
	leastSealRows    = 16384 // of a part, however many windows are read at once
)

// Run does one sync of the job: extract what is new, seal it, commit it and
// whatever else is queued. It blocks until done or ctx ends; what was staged by
// then is kept for the next run (*InterruptedError). A destination that fails
// stops neither extraction nor the others (*DestinationsError).
func (e *Engine) Run(ctx context.Context, job Job) (Summary, error) {
	release, err := e.Store.LockRun(ctx, job.Pipeline, kindSync)
	if err != nil {
		return Summary{Status: "failed"}, err
	}
	r := &syncRun{Engine: e, job: job, began: e.Clock.Now()}
	if r.Log == nil {
		r.Log = slog.New(slog.DiscardHandler)
	}
	err = r.run(ctx)
	summary := r.finish(ctx, err)
	return summary, errors.Join(err, release())
}

// syncRun is one call of Engine.Run.
type syncRun struct {
	*Engine
	job     Job
	began   time.Time
	st      *state.Pipeline
	session *session
	ready   []string // destinations whose Check passed
	failed  []*DestinationError
	counts  counts
	summary Summary
	pkg     int64 // serial of the package this run sealed
}

func (r *syncRun) run(ctx context.Context) error {
	if err := r.prepare(ctx); err != nil {
		return err
	}
	if err := r.extract(ctx); err != nil {
		// What earlier runs queued does not wait for a source that is down.
		return errors.Join(err, r.drain(ctx))
	}
	return r.drain(ctx)
}

// prepare reads state, checks source and destinations, and opens the session:
// an unfinished run of before or a new one. Nothing is fetched yet.
func (r *syncRun) prepare(ctx context.Context) error {
	st, err := r.Store.Load(ctx, r.job.Pipeline)
	if err != nil {
		return err
	}
	if err := state.CheckSource(st, r.job.Identity); err != nil {
		return err
	}
	if st.Lineage == "" {
		// Destinations are checked against the lineage, so it must be stored
		// before the first of them learns it.
		if st, err = r.Store.Update(ctx, r.job.Pipeline, func(*state.Pipeline) error { return nil }); err != nil {
			return err
		}
	}
	r.st = st
	if err := r.checkDestinations(ctx); err != nil {
		return err
	}
	return r.openSession(ctx)
}

// checkDestinations asks every destination whether it can take the table. It
// fails when none can; otherwise those that cannot are reported at the end.
func (r *syncRun) checkDestinations(ctx context.Context) error {
	for _, d := range r.job.Destinations {
		position, err := d.Loader.Check(ctx, r.st.Lineage)
		if err != nil {
			r.failed = append(r.failed, &DestinationError{Destination: d.Name, Queued: len(r.queue(d.Name)), Err: err})
			continue
		}
		r.ready = append(r.ready, d.Name)
		// A state restored from a backup must not give a serial out twice.
		r.st.NextPackage = max(r.st.NextPackage, position+1)
	}
	if len(r.ready) == 0 {
		failed := r.failed
		r.failed = nil
		return &DestinationsError{Failed: failed}
	}
	return nil
}

func (r *syncRun) queue(destination string) []state.PackageRef {
	if d := r.st.Destinations[destination]; d != nil {
		return d.Queue
	}
	return nil
}

// mode says what this run has to read and why.
func (r *syncRun) mode() (mode, reason string) {
	switch {
	case r.job.Full:
		return modeFull, "asked for by --full"
	case r.st.Cursor == nil:
		return modeFull, "first run of this pipeline"
	case r.st.Filters != state.FiltersFingerprint(r.job.Filters):
		return modeFull, "the filters changed"
	case r.st.Contract != "" && r.st.Contract != r.job.Contract.Hash():
		return modeFull, "the contract changed"
	case r.job.FullEvery > 0 && (r.st.LastFull == nil || r.began.Sub(*r.st.LastFull) >= r.job.FullEvery):
		return modeFull, "the last full read is older than full_every"
	}
	for _, d := range r.job.Destinations {
		if _, known := r.st.Destinations[d.Name]; !known {
			return modeFull, fmt.Sprintf("destination %q is new", d.Name)
		}
	}
	return modeIncremental, "changes since the cursor"
}

// openSession resumes the unfinished run if it was for the same thing, and
// starts a new one otherwise.
func (r *syncRun) openSession(ctx context.Context) error {
	found, err := leftovers(filepath.Dir(r.Store.RunDir("x")), r.job.Pipeline)
	if err != nil {
		return err
	}
	mode, reason := r.mode()
	settings := r.settings()
	for _, l := range found {
		switch start := l.start(); {
		case r.accounted(start.RunID):
			if err := r.release(l.dir, start.RunID); err != nil {
				return err
			}
		case r.session == nil && start.Mode == mode && start.Settings == settings && sameTime(start.Cursor, r.st.Cursor):
			if r.session, err = l.resume(); err != nil {
				return err
			}
		default:
			// Its cursor never moved, so whatever it staged is read again.
			r.Log.InfoContext(ctx, "give up an unfinished run of other settings", "run_id", start.RunID, "mode", start.Mode)
			if err := removeRun(l.dir); err != nil {
				return err
			}
		}
	}
	if r.session == nil {
		runID, err := newRunID(r.began)
		if err != nil {
			return err
		}
		r.session, err = newSession(r.Store.RunDir(runDirName(r.job.Pipeline, runID)), startRecord{
			RunID: runID, Pipeline: r.job.Pipeline, Mode: mode, Reason: reason, StartedAt: r.began,
			Source: r.job.Identity, Settings: settings, Cursor: r.st.Cursor,
		})
		if err != nil {
			return err
		}
	}
	r.emit(Event{Type: "run_started", Mode: mode, Reason: r.session.start.Reason})
	return nil
}

// accounted reports whether state knows the package of a run.
func (r *syncRun) accounted(runID string) bool {
	for _, d := range r.st.Destinations {
		if slices.ContainsFunc(d.Queue, func(p state.PackageRef) bool { return p.RunID == runID }) {
			return true
		}
	}
	return slices.ContainsFunc(r.st.Runs, func(rec state.RunRecord) bool { return rec.RunID == runID && rec.Package > 0 })
}

// release removes a run's parts once no destination waits for them.
func (r *syncRun) release(dir, runID string) error {
	for _, d := range r.st.Destinations {
		if slices.ContainsFunc(d.Queue, func(p state.PackageRef) bool { return p.RunID == runID }) {
			return nil
		}
	}
	return removeRun(dir)
}

// settings fingerprints what the staged rows of a run depend on.
func (r *syncRun) settings() string {
	return state.FiltersFingerprint(r.job.Filters) + "/" + r.job.Contract.Hash() + "/" + r.job.Identity.Scheme + "://" + r.job.Identity.Host
}

func sameTime(a, b *time.Time) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Equal(*b)
}

// sealPackage numbers what was staged, queues it for every destination and
// moves the cursor, in one save of state. From there on the rows are safe.
func (r *syncRun) sealPackage(ctx context.Context, registry *schemas.Registry, cursor *time.Time) error {
	ctx = context.WithoutCancel(ctx) // half a second that a Ctrl-C must not throw away
	s := r.session
	now := r.Clock.Now()
	cov, err := s.coverage(r.counts, now, cursor)
	if err != nil {
		return err
	}
	next := r.st.NextPackage
	st, err := r.Store.UpdateOrRescue(ctx, r.job.Pipeline, func(p *state.Pipeline) error {
		p.NextPackage = max(p.NextPackage, next)
		ref := state.PackageRef{Serial: p.NextPackage, RunID: s.start.RunID, Rows: s.rows(), SealedAt: now}
		// The journal first: state must never name a package without one.
		sealed := sealedRecord{Serial: ref.Serial, SealedAt: now, Cursor: cursor, Table: registry.Table(), Coverage: cov}
		if err := s.journal.append(record{Sealed: &sealed}); err != nil {
			return err
		}
		names := make([]string, len(r.job.Destinations))
		for i, d := range r.job.Destinations {
			names[i] = d.Name
		}
		r.dropRemoved(p, names)
		if err := p.Enqueue(ref, names...); err != nil {
			return err
		}
		seen := r.job.Identity
		seen.ClientIDs = s.clientIDs()
		p.RecordSource(seen)
		p.Filters, p.Contract = state.FiltersFingerprint(r.job.Filters), r.job.Contract.Hash()
		p.Registry = registry.Entries()
		p.Cursor = cursor
		if s.start.Mode == modeFull {
			p.LastFull = &s.start.StartedAt
		}
		rec := r.record("sealed", nil)
		rec.Package, rec.CursorAfter, rec.Coverage = ref.Serial, cursor, cov
		p.RecordRun(rec)
		r.pkg = ref.Serial
		return nil
	})
	if err != nil {
		return fmt.Errorf("seal package: %w", err)
	}
	r.st = st
	r.summary.Coverage = cov
	r.emit(Event{Type: "package_sealed", Package: r.pkg, Contacts: s.rows()})
	return nil
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

// record is this run as state remembers it.
func (r *syncRun) record(status string, err error) state.RunRecord {
	rec := state.RunRecord{
		RunID: r.session.start.RunID, Kind: kindSync, Mode: r.session.start.Mode, Status: status,
		StartedAt: r.session.start.StartedAt, CursorBefore: r.session.start.Cursor, CursorAfter: r.session.start.Cursor,
		New: r.summary.New, Changed: r.summary.Changed, Unchanged: r.summary.Unchanged,
		Requests: r.counts.Requests, Retries: r.counts.Retries, Pages: r.counts.Pages,
		Rows: r.counts.Rows, Quarantined: r.counts.Rejects, Package: r.pkg, Coverage: r.summary.Coverage,
	}
	if r.pkg > 0 {
		rec.CursorAfter = r.st.Cursor
	}
	if err != nil {
		rec.Error = err.Error()
	}
	return rec
}

// finish records the run and reports it. A failure to record is logged, not
// returned: the rows and the cursor are safe already.
func (r *syncRun) finish(ctx context.Context, err error) Summary {
	ctx = context.WithoutCancel(ctx)
	now := r.Clock.Now()
	r.summary.Status = status(err)
	r.summary.Requests, r.summary.Retries, r.summary.Quarantined = r.counts.Requests, r.counts.Retries, r.counts.Rejects
	r.summary.DurationMS = now.Sub(r.began).Milliseconds()
	if r.st != nil && r.st.Cursor != nil {
		r.summary.Cursor = r.st.Cursor.UTC().Format(time.RFC3339Nano)
	}
	if r.session != nil {
		rec := r.record(r.summary.Status, err)
		rec.FinishedAt = &now
		if _, saveErr := r.Store.Update(ctx, r.job.Pipeline, func(p *state.Pipeline) error { p.RecordRun(rec); return nil }); saveErr != nil {
			r.Log.WarnContext(ctx, "the run's record could not be saved", "run_id", rec.RunID, "error", saveErr)
		}
		if r.session.rows() == 0 && r.pkg == 0 {
			if discardErr := r.session.discard(); discardErr != nil {
				r.Log.WarnContext(ctx, "the empty run directory could not be removed", "run_id", rec.RunID, "error", discardErr)
			}
		} else if closeErr := r.session.journal.close(); closeErr != nil {
			r.Log.WarnContext(ctx, "the journal could not be closed", "run_id", rec.RunID, "error", closeErr)
		}
	}
	final := r.summary
	ev := Event{Type: "run_finished", Summary: &final}
	if err != nil {
		ev.Error = err.Error()
	}
	r.emit(ev)
	return r.summary
}

func status(err error) string {
	var interrupted *InterruptedError
	switch {
	case err == nil:
		return "done"
	case errors.As(err, &interrupted), errors.Is(err, context.Canceled):
		return "interrupted"
	default:
		return "failed"
	}
}

func (r *syncRun) emit(ev Event) {
	if r.Observe == nil {
		return
	}
	ev.Time, ev.Pipeline = r.Clock.Now(), r.job.Pipeline
	if ev.Type == "progress" {
		ev.Goal = r.began.UTC().Format(time.RFC3339)
	}
	if r.session != nil {
		ev.RunID = r.session.start.RunID
		if ev.Mode == "" {
			ev.Mode = r.session.start.Mode
		}
	}
	r.Observe(ev)
}

// outcomeRecord is the part of a walk's outcome that the coverage record keeps.
type outcomeRecord struct {
	Key         string             `json:"key"`
	From        time.Time          `json:"from"`
	EndReason   extract.EndReason  `json:"end_reason"`
	Windows     int                `json:"windows"` // read side by side, or one after the other
	Pages       int64              `json:"pages"`
	Requests    int64              `json:"requests"`
	Rows        int64              `json:"rows"`
	Duplicates  int64              `json:"duplicates"`
	Discarded   int64              `json:"discarded"`
	OutOfOrder  int64              `json:"out_of_order"`
	Undated     int64              `json:"undated"`
	Ties        []extract.TieBlock `json:"ties"`
	Assumptions []string           `json:"assumptions"`
}

func outcomeOf(key extract.Key, from time.Time, out extract.Outcome, windows int) outcomeRecord {
	return outcomeRecord{
		Key: key.String(), From: from.UTC(), EndReason: out.EndReason, Windows: windows,
		Pages: out.Pages, Requests: out.Requests, Rows: out.Rows, Duplicates: out.Duplicates,
		Discarded: out.Discarded, OutOfOrder: out.OutOfOrder, Undated: out.Undated,
		Ties: append([]extract.TieBlock{}, out.Ties...), Assumptions: out.Assumptions,
	}
}
