package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/quarantine"
	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/schemas"
)

const (
	kindSync         = "sync"
	kindBackfill     = "backfill"
	kindReconcile    = "reconcile"
	kindRetry        = "retry"
	kindCommit       = "commit" // not a run: the end of any
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
	return e.start(ctx, &syncRun{job: job, kind: kindSync})
}

// start does one run under the lock of its kind.
func (e *Engine) start(ctx context.Context, r *syncRun) (Summary, error) {
	claim, err := e.Store.Claim(ctx, r.job.Pipeline, r.kind)
	if err != nil {
		return Summary{Status: "failed"}, err
	}
	r.claim = claim
	own := *e // a run beside it may share e
	if own.Log == nil {
		own.Log = slog.New(slog.DiscardHandler)
	}
	r.Engine, r.began = &own, e.Clock.Now()
	if r.job.Enrich {
		r.job.PageSize = min(cmp.Or(r.job.PageSize, enrichedPage), enrichedPage)
	}
	err = r.run(ctx)
	summary := r.finish(ctx, err)
	if releaseErr := claim.Release(ctx); releaseErr != nil {
		// It is over with this process, and lapses by itself elsewhere.
		own.Log.WarnContext(ctx, "the run's lock could not be given up", "error", releaseErr)
	}
	return summary, err
}

// syncRun is one call of Engine.Run, Backfill, Reconcile or Retry.
type syncRun struct {
	*Engine
	job     Job
	kind    string
	span    *span      // what a backfill reads; nil for others
	recon   *reconcile // what a reconciliation does; nil for others
	retry   *retry     // what a retry does; nil for others
	info    *infoLog   // of enrich: info; nil for others
	claim   *state.Claim
	began   time.Time
	client  *extract.Client
	st      *state.Pipeline
	session *session
	ready   []string // destinations whose Check passed
	anew    []string // of which the table is gone, that begins anew
	failed  []*DestinationError
	counts  counts
	reasons quarantine.Counts // of the records set aside
	summary Summary
	pkg     int64                    // serial of the package this run sealed
	written map[string]state.Written // by destination
	// commits releases the lock under which packages are sealed and committed;
	// nil while it is not held.
	commits func() error
}

func (r *syncRun) run(ctx context.Context) (err error) {
	if err := r.job.checkHashKey(); err != nil {
		return err
	}
	if r.client, err = extract.NewClient(r.job.Source, r.Clock); err != nil {
		return err
	}
	defer r.client.Close()
	defer func() { err = errors.Join(err, r.unlockCommits()) }()
	if err := r.prepare(ctx); err != nil {
		return err
	}
	if r.pkg > 0 {
		return r.drain(ctx)
	}
	if err := r.extract(ctx); err != nil {
		// What earlier runs queued does not wait for a source that is down.
		return errors.Join(err, r.drain(ctx))
	}
	err = r.drain(ctx)
	var failed *DestinationsError
	if err == nil || errors.As(err, &failed) {
		r.keepStages(ctx)
	}
	return err
}

// disk is where the run's directory is.
func (r *syncRun) disk() atomicfile.Disk {
	if r.Disk == nil {
		return atomicfile.OS{}
	}
	return r.Disk
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
	if r.kind != kindSync && st.Cursor == nil {
		return &NotReadyError{Pipeline: r.job.Pipeline, Kind: r.kind, Reason: unprepared(st, r.job)}
	}
	if st.Lineage == "" {
		// Destinations are checked against the lineage, so it must be stored
		// before the first of them learns it.
		if st, err = r.Store.Update(ctx, r.job.Pipeline, func(*state.Pipeline) error { return nil }); err != nil {
			return err
		}
	}
	r.st = st
	if err := checkContract(st, r.job.Contract); err != nil {
		return err
	}
	if err := r.checkDestinations(ctx); err != nil {
		return err
	}
	if r.job, err = r.job.resolve(ctx, r.client); err != nil {
		return errors.Join(err, r.drain(ctx))
	}
	if reason := unprepared(st, r.job); r.kind != kindSync && reason != "" {
		return &NotReadyError{Pipeline: r.job.Pipeline, Kind: r.kind, Reason: reason}
	}
	if err := r.openSession(ctx); err != nil {
		return err
	}
	return r.tellPlainText(ctx)
}

// fullAfter is the age of the last full read at which everything is read again.
func (j Job) fullAfter() time.Duration { return j.FullEvery - min(j.FullSlack, j.FullEvery/4) }

// checkContract refuses a contract that gives a column of the tables another
// type, source or name: a run changes tables by adding to them alone. A column
// that is left out on purpose stays in the tables, null from then on; one that is
// merely not declared any more is refused, for its field would come back under
// the rules of those that nobody declared.
func checkContract(st *state.Pipeline, c *schemas.Contract) error {
	var faults []string
	for _, old := range st.Columns {
		i := slices.IndexFunc(c.Columns, func(col schemas.ContractColumn) bool { return col.Name == old.Name })
		switch {
		case i < 0 && leftOut(c, old):
		case i < 0 && otherName(c, old) != "":
			faults = append(faults, fmt.Sprintf("column %s is to be called %s", old.Name, otherName(c, old)))
		case i < 0:
			faults = append(faults, fmt.Sprintf("column %s is gone", old.Name))
		case c.Columns[i].Type != old.Type:
			faults = append(faults, fmt.Sprintf("column %s is %s, the tables have it as %s", old.Name, c.Columns[i].Type, old.Type))
		case c.Columns[i].Ref.String() != old.Source:
			faults = append(faults, fmt.Sprintf("column %s is filled from %s, the tables have it from %s", old.Name, c.Columns[i].Ref, old.Source))
		}
	}
	if len(faults) == 0 {
		_, err := schemas.NewRegistry(c, st.Entries(c))
		return err
	}
	return &ContractError{Pipeline: st.Pipeline, Faults: faults}
}

// checkDestinations asks every destination whether it can take the table. It
// fails when none can; otherwise those that cannot are reported at the end.
func (r *syncRun) checkDestinations(ctx context.Context) error {
	for _, d := range r.job.Destinations {
		position, err := d.Loader.Check(ctx, r.st.Lineage)
		known := r.st.Destinations[d.Name]
		if err == nil && known != nil && known.NeedsFull == nil && position < known.Position && !r.job.Full {
			err = &LostTableError{Holds: position, Committed: known.Position}
		}
		if err != nil {
			r.failed = append(r.failed, &DestinationError{Destination: d.Name, Queued: len(r.queue(d.Name)), Err: err})
			continue
		}
		r.ready = append(r.ready, d.Name)
		if known != nil && position == 0 && known.Position > 0 {
			r.anew = append(r.anew, d.Name)
		}
		// A state restored from a backup must not give a serial out twice.
		r.st.NextPackage = max(r.st.NextPackage, position+1)
	}
	if len(r.ready) == 0 {
		failed := r.failed
		r.failed = nil
		return &DestinationsError{Failed: failed, Alone: true}
	}
	return nil
}

func (r *syncRun) queue(destination string) []state.PackageRef {
	if d := r.st.Destinations[destination]; d != nil {
		return d.Queue
	}
	return nil
}

// mode says what a sync has to read and why.
func (r *syncRun) mode() (mode, reason string) {
	if r.recon != nil {
		return modeReconcile, "looking for contacts that the source no longer has"
	}
	if r.retry != nil {
		return modeRetry, "records that were set aside"
	}
	full := modeFull
	if r.job.whole() {
		full = string(r.job.Sync)
	}
	if r.job.Full {
		return full, "asked for by --full"
	}
	if reason := unprepared(r.st, r.job); reason != "" {
		return full, reason
	}
	if !r.job.whole() && r.ahead(*r.st.Cursor) {
		return full, "the cursor lies in the future: a clock was wrong, or state was edited"
	}
	for _, name := range r.ready {
		if d := r.st.Destinations[name]; d != nil && d.NeedsFull != nil {
			return full, fmt.Sprintf("destination %q was down for so long that its queue was given up", name)
		}
	}
	if r.job.whole() {
		return full, "every run reads them all"
	}
	if r.job.FullEvery > 0 && (r.st.LastFull == nil || r.began.Sub(*r.st.LastFull) >= r.job.fullAfter() || r.ahead(*r.st.LastFull)) {
		return modeFull, "the last full read is older than full_every"
	}
	return modeIncremental, "changes since the cursor"
}

// farAhead is how far ahead of our clock the source's may be.
const farAhead = 24 * time.Hour

// ahead reports whether a time lies so far in the future that no clock of the
// source explains it.
func (r *syncRun) ahead(t time.Time) bool { return t.After(r.began.Add(farAhead)) }

// unprepared says why the tables lack rows that only a full read brings; empty
// where they do not.
func unprepared(st *state.Pipeline, job Job) string {
	switch {
	case st.Cursor == nil:
		return "first run of this pipeline"
	case st.Filters != job.selection():
		return "the filters, sync, days or enrich changed"
	case st.Contract != "" && st.Contract != job.Contract.Hash():
		return "the contract changed"
	case st.Contract != "" && st.HashKey != job.hashKeyID():
		return "the hash key changed"
	case letIn(st.LeftOut, job.Contract) != "":
		return "the contract lets in what it left out: " + letIn(st.LeftOut, job.Contract)
	}
	for _, d := range job.Destinations {
		if _, known := st.Destinations[d.Name]; !known {
			return fmt.Sprintf("destination %q is new", d.Name)
		}
	}
	return ""
}

// wanted is how the journal of a new run would begin.
func (r *syncRun) wanted() startRecord {
	start := startRecord{
		Pipeline: r.job.Pipeline, StartedAt: r.began, Source: r.job.Identity, Settings: r.settings(),
		HashKey: r.job.hashKeyID(),
	}
	if r.span != nil {
		start.Mode, start.Reason, start.Span = modeBackfill, r.span.String(), &r.span.spanRecord
		return start
	}
	start.Mode, start.Reason = r.mode()
	start.Cursor = r.st.Cursor
	return start
}

// openSession resumes the unfinished run if it was for the same thing, and
// starts a new one otherwise.
func (r *syncRun) openSession(ctx context.Context) error {
	if err := errors.Join(r.sweep(ctx), r.claim.Sweep(ctx)); err != nil {
		return err
	}
	found, err := leftovers(r.disk(), filepath.Dir(r.Store.RunDir("x")), r.job.Pipeline, r.kind)
	if err != nil {
		return err
	}
	want := r.wanted()
	var kept []Event
	for _, l := range found {
		stale := letIn(l.leftOut(), r.job.Contract) != ""
		switch start := l.start(); {
		case r.accounted(start.RunID): // a destination still has to take it
			if r.session != nil || start.Settings != want.Settings || start.Span == nil || !start.Span.same(want.Span) {
				continue
			}
			// The same backfill has been read: it goes on with its commits.
			if r.session, err = l.resume(); err != nil {
				return err
			}
			r.pkg, r.counts, r.reasons = l.serial(), r.session.phases[phaseBackfill].Counts, reasons(r.session.parts)
		case r.session == nil && r.recon == nil && r.retry == nil && start.Mode == want.Mode && start.Settings == want.Settings &&
			start.Span.same(want.Span) && sameTime(start.Cursor, want.Cursor) && !stale:
			if r.session, err = l.resume(); err != nil {
				return err
			}
		case start.Settings == want.Settings && start.Span != nil && !stale:
			kept = append(kept, Event{Type: "backfill_kept", Reason: start.Reason, Dir: l.dir})
		default:
			// Its cursor never moved, so whatever it staged is read again, with what
			// the contract had left out of it.
			r.Log.InfoContext(ctx, "give up an unfinished run of other settings", "run_id", start.RunID, "mode", start.Mode)
			if err := removeRun(r.disk(), l.dir); err != nil {
				return err
			}
		}
	}
	if r.session == nil {
		if want.RunID, err = newRunID(r.began, r.kind); err != nil {
			return err
		}
		if r.session, err = newSession(r.disk(), r.Store.RunDir(runDirName(r.job.Pipeline, want.RunID)), want); err != nil {
			return err
		}
	}
	r.emit(Event{Type: "run_started", Mode: want.Mode, Reason: r.session.start.Reason, Contacts: r.session.rows()})
	for _, ev := range kept {
		r.emit(ev)
	}
	return nil
}

// sweep removes what runs of any kind have left whose package is everywhere.
func (r *syncRun) sweep(ctx context.Context) error {
	runs := filepath.Dir(r.Store.RunDir("x"))
	names, err := runDirs(runs, r.job.Pipeline)
	if err != nil {
		return err
	}
	for _, name := range names {
		if runID := runIDOf(name); r.accounted(runID) {
			if err := r.release(ctx, runID); err != nil {
				return err
			}
		}
	}
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
func (r *syncRun) release(ctx context.Context, runID string) error {
	for _, d := range r.st.Destinations {
		if slices.ContainsFunc(d.Queue, func(p state.PackageRef) bool { return p.RunID == runID }) {
			return nil
		}
	}
	// Windows removes no file that is open.
	if r.session != nil && r.session.start.RunID == runID {
		if err := r.session.journal.close(); err != nil {
			return err
		}
	}
	dirName := runDirName(r.job.Pipeline, runID)
	if err := r.Store.DropRun(ctx, dirName); err != nil {
		r.Log.WarnContext(ctx, "a package that is committed everywhere is left to the next run to remove", "run_id", runID, "error", err)
	}
	return removeRun(r.disk(), r.Store.RunDir(dirName))
}

// settings fingerprints what the staged rows of a run depend on.
func (r *syncRun) settings() string {
	return r.job.selection() + "/" + r.job.Contract.Hash() + r.job.Contract.Account + r.job.hashKeyID() + "/" + r.job.Identity.Scheme + "://" + r.job.Identity.Host + "/" + r.job.Lookback.String()
}

func sameTime(a, b *time.Time) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Equal(*b)
}

// record is this run as state remembers it.
func (r *syncRun) record(status string, err error) state.RunRecord {
	rec := state.RunRecord{
		RunID: r.session.start.RunID, Kind: r.kind, Mode: r.session.start.Mode, Status: status,
		StartedAt: r.session.start.StartedAt, CursorBefore: r.session.start.Cursor, CursorAfter: r.session.start.Cursor,
		New: r.summary.New, Changed: r.summary.Changed, Unchanged: r.summary.Unchanged, Deleted: new(r.summary.Deleted),
		Requests: r.counts.Requests, Retries: r.counts.Retries, Pages: r.counts.Pages,
		Rows: r.counts.Rows, Quarantined: r.counts.Rejects, QuarantinedBy: r.reasons, Package: r.pkg, Coverage: r.summary.Coverage, Notes: r.summary.Notes,
		Written: r.written,
	}
	if r.pkg > 0 && r.kind == kindSync {
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
	r.summary.QuarantinedBy = r.reasons
	r.summary.Enriched = r.counts.Info.copied()
	r.summary.DurationMS = now.Sub(r.began).Milliseconds()
	if r.st != nil && r.st.Cursor != nil {
		r.summary.Cursor = r.st.Cursor.UTC().Format(time.RFC3339Nano)
	}
	if r.session != nil {
		r.summary.Misfits, r.summary.Discarded = r.session.unfit()
		rec := r.record(r.summary.Status, err)
		rec.FinishedAt = &now
		if _, saveErr := r.Store.Update(ctx, r.job.Pipeline, func(p *state.Pipeline) error { p.RecordRun(rec); return nil }); saveErr != nil {
			r.Log.WarnContext(ctx, "the run's record could not be saved", "run_id", rec.RunID, "error", saveErr)
		}
		// A backfill that failed keeps which of its windows are done, empty ones too.
		keep := r.span != nil && err != nil && len(r.session.parts) > 0
		// State that was not saved for certain, or is to be recovered from where
		// it was rescued, may name the package.
		var unsaved *state.EmergencyError
		keep = keep || errors.As(err, &unsaved)
		if r.session.rows() == 0 && r.pkg == 0 && !keep {
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
		if r.span != nil {
			ev.Goal = r.span.until().UTC().Format(time.RFC3339)
		}
	}
	if r.session != nil {
		ev.RunID = r.session.start.RunID
		if ev.Mode == "" {
			ev.Mode = r.session.start.Mode
		}
	}
	r.Observe(ev)
}
