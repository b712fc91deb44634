package run

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/load"
)

// drain commits every queued package to every destination that can take it, in
// order of serial, and removes the parts that nobody waits for any more. A
// destination that fails keeps its queue; the others go on.
func (r *syncRun) drain(ctx context.Context) error {
	if err := r.lockCommits(ctx); err != nil {
		return err
	}
	if err := r.drainReady(ctx); err != nil {
		return err
	}
	if len(r.failed) > 0 {
		return &DestinationsError{Failed: r.failed}
	}
	return nil
}

// drainReady is drain of the destinations that have not failed yet; those that
// do are noted in r.failed. The commit lock is held.
func (r *syncRun) drainReady(ctx context.Context) error {
	done := map[string]bool{} // run ids whose package some destination has now taken
	for i, d := range r.job.Destinations {
		if !slices.Contains(r.ready, d.Name) {
			continue
		}
		if err := r.drainOne(ctx, d, i == 0, done); err != nil {
			if ctx.Err() != nil {
				return r.interrupted(err)
			}
			r.ready = slices.DeleteFunc(r.ready, func(name string) bool { return name == d.Name })
			r.failed = append(r.failed, &DestinationError{Destination: d.Name, Queued: len(r.queue(d.Name)), Err: err})
			r.emit(Event{Type: "commit_failed", Destination: d.Name, Error: err.Error()})
		}
	}
	if err := r.noteFailures(ctx, done); err != nil {
		return err
	}
	for runID := range done {
		if err := r.release(ctx, runID); err != nil {
			return err
		}
	}
	return nil
}

// interrupted says that the run was stopped, and what it keeps.
func (r *syncRun) interrupted(err error) error {
	e := &InterruptedError{Err: err, Anew: (r.recon != nil || r.retry != nil) && r.pkg == 0}
	if r.session != nil {
		e.RunID, e.Staged = r.session.start.RunID, r.session.rows()
	}
	return e
}

// commitPoll is how often a run looks whether the one beside it has committed.
const commitPoll = 50 * time.Millisecond

// lockCommits keeps runs of other kinds out until the end of this one, so that
// each seals and commits its own package, and none removes parts that another
// is reading. It waits for a run that is about to end, and brings what that
// one changed into r.st. With a lock that is free, a Ctrl-C changes nothing.
func (r *syncRun) lockCommits(ctx context.Context) error {
	for r.commits == nil {
		release, err := r.Store.LockRun(context.WithoutCancel(ctx), r.job.Pipeline, kindCommit)
		var held *state.HeldError
		switch {
		case err == nil:
			r.commits = release
		case !errors.As(err, &held):
			return err
		default:
			if err := clock.Sleep(ctx, commitPoll); err != nil {
				return r.interrupted(err)
			}
			continue
		}
		st, err := r.Store.Load(context.WithoutCancel(ctx), r.job.Pipeline)
		if err != nil {
			return err
		}
		st.NextPackage = max(st.NextPackage, r.st.NextPackage)
		r.st = st
	}
	return nil
}

// unlockCommits lets the others commit again.
func (r *syncRun) unlockCommits() error {
	if r.commits == nil {
		return nil
	}
	release := r.commits
	r.commits = nil
	return release()
}

// drainOne commits the queue of one destination. The summary counts the
// contacts of the first destination: they are the same contacts everywhere.
func (r *syncRun) drainOne(ctx context.Context, d Destination, first bool, done map[string]bool) error {
	for _, ref := range slices.Clone(r.queue(d.Name)) {
		p, err := r.load(ctx, ref)
		var result load.Result
		if err == nil {
			p.Memo, p.Remember = compacted(ref.Memo), r.rememberer(d.Name, ref.Serial)
			if result, err = d.Loader.Commit(ctx, p); err != nil {
				err = fmt.Errorf("commit package %d: %w", ref.Serial, err)
			}
		}
		if err != nil {
			if r.committedElsewhere(ctx, d.Name, ref) {
				continue
			}
			if lost := (*LostPartError)(nil); errors.As(err, &lost) {
				lost.Waiting = "pipeline." + r.job.Pipeline + ".destination." + d.Name
			}
			return err
		}
		own := r.session != nil && ref.RunID == r.session.start.RunID
		if first {
			r.noteMoved(ctx, result)
		}
		if first && own {
			r.summary.New += result.New
			r.summary.Changed += result.Changed
			r.summary.Unchanged += result.Unchanged
			r.summary.Deleted += result.Deleted
			if r.recon != nil && ref.Serial == r.pkg {
				r.recon.found.Returned = result.Changed
			}
		}
		r.summary.Files += len(result.Files)
		took := written(ref, result)
		if own {
			r.noteWritten(d.Name, took)
		}
		r.emit(Event{Type: "committed", Destination: d.Name, Package: ref.Serial, Result: &result, Written: &took})
		// The commit took effect, so state has to learn of it even when a
		// Ctrl-C came meanwhile; if it does not, the next run repeats it.
		st, err := r.Store.UpdateOrRescue(context.WithoutCancel(ctx), r.job.Pipeline, func(p *state.Pipeline) error {
			if p.Destinations[d.Name] != nil { // else another machine's run has dropped it
				p.Committed(d.Name, ref.Serial)
			}
			if first && !own {
				p.FinishSealed(ref.RunID, r.Clock.Now(), state.Counts{New: result.New, Changed: result.Changed, Unchanged: result.Unchanged, Deleted: result.Deleted})
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("record commit of package %d: %w", ref.Serial, err)
		}
		r.st = st
		done[ref.RunID] = true
	}
	return nil
}

// written is what a package took at a destination.
func written(ref state.PackageRef, result load.Result) state.Written {
	w := state.Written{Bytes: ref.Bytes, Scanned: result.BytesScanned} // what is sent to a destination without files
	if len(result.Files) > 0 {
		w.Bytes = 0
		for _, f := range result.Files {
			w.Bytes += f.Bytes
		}
	}
	return w
}

// noteWritten notes what the run's own package took at a destination, for plans
// of later runs.
func (r *syncRun) noteWritten(destination string, w state.Written) {
	if r.written == nil {
		r.written = map[string]state.Written{}
	}
	r.written[destination] = w
}

// rememberer keeps a loader's note with a package in the queue of its
// destination. A Ctrl-C does not stop it: the loader is about to do what it has
// noted.
func (r *syncRun) rememberer(destination string, serial int64) func(context.Context, []byte) error {
	return func(ctx context.Context, memo []byte) error {
		if !json.Valid(memo) {
			return fmt.Errorf("keep note on package %d: it is no JSON", serial)
		}
		st, err := r.Store.Update(context.WithoutCancel(ctx), r.job.Pipeline, func(p *state.Pipeline) error {
			d := p.Destinations[destination]
			if d == nil {
				return fmt.Errorf("destination %s is no longer part of the pipeline", destination)
			}
			i := slices.IndexFunc(d.Queue, func(q state.PackageRef) bool { return q.Serial == serial })
			if i < 0 {
				return fmt.Errorf("another run has committed package %d meanwhile", serial)
			}
			d.Queue[i].Memo = slices.Clone(memo)
			return nil
		})
		if err != nil {
			return fmt.Errorf("keep note on package %d: %w", serial, err)
		}
		st.NextPackage = max(st.NextPackage, r.st.NextPackage)
		r.st = st
		return nil
	}
}

// compacted is a note as the loader gave it: state's document indents it.
func compacted(memo []byte) []byte {
	var b bytes.Buffer
	if json.Compact(&b, memo) != nil {
		return nil // there is none
	}
	return b.Bytes()
}

// committedElsewhere reports whether another machine has committed, or given
// up, a kept package meanwhile, and removed it.
func (r *syncRun) committedElsewhere(ctx context.Context, destination string, ref state.PackageRef) bool {
	if ref.Kept == "" {
		return false
	}
	st, err := r.Store.Load(ctx, r.job.Pipeline)
	if err != nil {
		return false // what has failed already is the error
	}
	same := func(q state.PackageRef) bool { return q.Serial == ref.Serial && q.RunID == ref.RunID }
	if d := st.Destinations[destination]; d != nil && slices.ContainsFunc(d.Queue, same) {
		return false
	}
	st.NextPackage = max(st.NextPackage, r.st.NextPackage)
	r.st = st
	return true
}

// noteMoved warns of contacts whose created_at changed: the walk relies on it
// to stay.
func (r *syncRun) noteMoved(ctx context.Context, result load.Result) {
	if result.Moved == 0 {
		return
	}
	r.summary.Moved += result.Moved
	if len(r.summary.MovedIDs) == 0 {
		r.summary.MovedIDs = result.MovedIDs
	}
	r.Log.WarnContext(ctx, "created_at of contacts changed", "contacts", result.Moved, "some", result.MovedIDs)
}

// The bounds of a queue where Destination does not say.
const (
	defaultQueueBytes = 10 << 30
	defaultQueueAge   = 30 * 24 * time.Hour
)

// tooLong reports whether a destination's queue is to be given up.
func (d Destination) tooLong(queue []state.PackageRef, now time.Time) bool {
	if len(queue) == 0 {
		return false
	}
	var bytes int64
	for _, p := range queue {
		bytes += p.Bytes
	}
	return bytes > cmp.Or(d.QueueBytes, defaultQueueBytes) || now.Sub(queue[0].SealedAt) > cmp.Or(d.QueueAge, defaultQueueAge)
}

// giveUp forgets the queues of failing destinations that are too long, and
// returns the runs whose packages those were.
func (r *syncRun) giveUp(p *state.Pipeline) (runs []string) {
	now := r.Clock.Now()
	for _, f := range r.failed {
		i := slices.IndexFunc(r.job.Destinations, func(d Destination) bool { return d.Name == f.Destination })
		d := p.Destinations[f.Destination]
		if i < 0 || d == nil || !r.job.Destinations[i].tooLong(d.Queue, now) {
			continue
		}
		given := p.GiveUp(f.Destination, now)
		f.Queued, f.GivenUp = 0, len(given)
		for _, ref := range given {
			runs = append(runs, ref.RunID)
		}
	}
	return runs
}

// noteFailures lets state remember which destinations fail and since when, and
// gives up the queues that have become too long. Runs whose packages were in
// them are noted in done.
func (r *syncRun) noteFailures(ctx context.Context, done map[string]bool) error {
	if len(r.failed) == 0 {
		return nil
	}
	var given []string
	st, err := r.Store.Update(context.WithoutCancel(ctx), r.job.Pipeline, func(p *state.Pipeline) error {
		for _, f := range r.failed {
			if p.Destinations[f.Destination] != nil {
				p.Failed(f.Destination, r.Clock.Now(), f.Err)
			}
		}
		given = r.giveUp(p)
		return nil
	})
	if err != nil {
		return errors.Join(&DestinationsError{Failed: r.failed}, fmt.Errorf("record failed commits: %w", err))
	}
	r.st = st
	for _, f := range r.failed {
		if f.GivenUp == 0 { // what was sealed since it failed waits for it as well
			f.Queued = len(r.queue(f.Destination))
		}
	}
	for _, runID := range given {
		done[runID] = true
	}
	return nil
}

// load reads a sealed package back from its journal, wherever they are kept.
func (r *syncRun) load(ctx context.Context, ref state.PackageRef) (load.Package, error) {
	dirName := runDirName(r.job.Pipeline, ref.RunID)
	if err := r.Store.FetchRun(ctx, dirName, ref.Kept); err != nil {
		return load.Package{}, fmt.Errorf("open package %d: %w", ref.Serial, err)
	}
	dir := r.Store.RunDir(dirName)
	records, _, err := readJournal(dir)
	if err != nil {
		return load.Package{}, fmt.Errorf("open package %d: %w", ref.Serial, err)
	}
	p := load.Package{
		Serial: ref.Serial, Lineage: r.st.Lineage, Pipeline: r.job.Pipeline,
		RunID: ref.RunID, SealedAt: ref.SealedAt, Verify: r.job.Verify,
	}
	found := false
	for _, rec := range records {
		switch {
		case rec.Start != nil:
			p.HashKey = rec.Start.HashKey
		case rec.Part != nil && rec.Part.File != "":
			if err := checkPart(dir, *rec.Part); err != nil {
				return load.Package{}, fmt.Errorf("open package %d: %w", ref.Serial, err)
			}
			p.Parts = append(p.Parts, load.Part{Path: filepath.Join(dir, rec.Part.File), Rows: rec.Part.Rows, Bytes: rec.Part.Bytes})
		case rec.Sealed != nil && rec.Sealed.Serial == ref.Serial:
			p.Table, p.Coverage, found = rec.Sealed.Table, rec.Sealed.Coverage, true
		}
	}
	if !found {
		return load.Package{}, fmt.Errorf("open package %d: %w", ref.Serial, &LostPartError{Path: filepath.Join(dir, journalName), Err: errors.New("the package's record is missing")})
	}
	return p, nil
}
