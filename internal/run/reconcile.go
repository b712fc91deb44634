package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/load"
)

const (
	defaultMaxShare  = 0.01
	defaultMaxProbes = 1000
	// controls is the number of contacts that the source lists which are asked
	// for by id, before a missing answer is believed of others: one of them may
	// be deleted at that moment, hardly all.
	controls = 3
)

// Reconcile finds the contacts of the table that the source has no more, and
// marks them as deleted: those that a walk of all contacts did not meet, each
// asked for by its id. It reads beside other runs of the pipeline, and a row
// that was read later than a contact was found to be gone wins over the mark.
// It blocks until done or ctx ends; stopped, or failed, it marks nothing, and
// the next one begins anew. Contacts marked as deleted that the source shows
// again are taken up again. A share above o.MaxShare is a *MissingShareError.
func (e *Engine) Reconcile(ctx context.Context, job Job, o Reconciliation) (Summary, error) {
	o.MaxShare, o.MaxProbes = cmp.Or(o.MaxShare, defaultMaxShare), cmp.Or(o.MaxProbes, defaultMaxProbes)
	switch {
	case job.Sync == SyncSnapshot:
		return Summary{Status: "failed"}, &SnapshotError{Pipeline: job.Pipeline}
	case o.MaxShare < 0 || o.MaxShare > 1:
		return Summary{Status: "failed"}, fmt.Errorf("%w: a share of %v is not above 0 and up to 1", ErrRange, o.MaxShare)
	case o.MaxProbes < 1:
		return Summary{Status: "failed"}, fmt.Errorf("%w: %d contacts asked for one by one are less than 1", ErrRange, o.MaxProbes)
	}
	return e.start(ctx, &syncRun{job: job, kind: kindReconcile, recon: &reconcile{o: o, found: Reconciled{DryRun: o.DryRun}}})
}

// reconcile is what a reconciliation was asked for and has found.
type reconcile struct {
	o     Reconciliation
	found Reconciled
	next  int64 // number of the next package when contacts were asked for
}

// reconcile finds and stages what Engine.Reconcile promises.
func (r *syncRun) reconcile(ctx context.Context, st *staging) error {
	st.looks = true
	found := &r.recon.found
	r.summary.Reconciled = found
	// The table first: every contact that it holds by now existed before the
	// walk, which therefore meets it if it still does.
	live, dead, err := r.tableIDs(ctx)
	if err != nil {
		return err
	}
	if r.job.Sync == SyncRecent || r.recon.o.DryRun {
		dead = nil // those out of the window are not to come back by this way
	}
	walked, err := r.walkIDs(ctx, st, dead)
	if err != nil {
		return err
	}
	missing := slices.DeleteFunc(live, walked.has)
	found.Walked, found.Missing = int64(len(walked)), int64(len(missing))
	found.MaxMissing = allowed(r.recon.o.MaxShare, found.Live)
	switch {
	case found.Walked == 0:
		return &EmptySourceError{Source: r.job.Identity.String()}
	case found.Missing > found.MaxMissing:
		return &MissingShareError{Found: *found, MaxShare: r.recon.o.MaxShare}
	}
	gone, ids, err := r.confirm(ctx, st, missing, walked)
	if err != nil {
		return err
	}
	found.Gone = int64(len(gone))
	r.session.reconciled = found
	if r.recon.o.DryRun {
		return nil
	}
	return r.markGone(ctx, st, gone, ids)
}

// allowed is how many of so many contacts a share is, rounded down. Shares come
// in steps of a millionth: half of one makes up for those that a float64 has a
// little too small, such as 29%.
func allowed(share float64, contacts int64) int64 {
	return int64(share*float64(contacts) + 0.5e-6)
}

// tableIDs returns the contacts of the table that are not marked as deleted,
// and those that are.
func (r *syncRun) tableIDs(ctx context.Context) (live, dead idSet, err error) {
	err = r.withTable(ctx, func(l load.Lister) error {
		return r.list(ctx, l, func(s stored) {
			if s.deleted {
				dead = append(dead, hashID(s.id))
			} else {
				live = append(live, hashID(s.id))
			}
		})
	})
	r.recon.found.Live = int64(len(live))
	return newIDSet(live), newIDSet(dead), err
}

// withTable lists the table while nothing is committed to it, and lets the
// others commit again.
func (r *syncRun) withTable(ctx context.Context, list func(load.Lister) error) error {
	lister, err := r.table(ctx)
	if err == nil {
		err = list(lister)
	}
	if err != nil {
		err = fmt.Errorf("look at the table's contacts: %w", err)
	}
	return errors.Join(err, r.unlockCommits())
}

// walkIDs reads everything by created_at, whatever the pipeline asks for, and
// returns the contacts that the source showed. Those among dead are staged.
func (r *syncRun) walkIDs(ctx context.Context, st *staging, dead idSet) (idSet, error) {
	st.begins(phaseWalk)
	workers := cmp.Or(r.job.Source.Concurrency, defaultWorkers)
	st.share(workers)
	var sinks []*idSink
	s := &extract.Scan{
		Client: r.client, Key: extract.ByCreated, Remaining: []extract.Interval{{}},
		StopAt: r.began, Lookback: r.job.Lookback, PageSize: r.job.PageSize, Clock: r.Clock, Seed: r.seed(), Workers: workers,
		Sink: func(int) extract.WindowSink {
			sinks = append(sinks, &idSink{stager: st.stager(), wanted: dead})
			return sinks[len(sinks)-1]
		},
	}
	out, err := s.Run(ctx)
	var seen []idKey
	stagers := make([]*stager, len(sinks))
	for i, sink := range sinks {
		stagers[i] = sink.stager
		seen = append(seen, sink.seen...)
	}
	if err := sealAll(ctx, stagers, err); err != nil {
		return nil, fmt.Errorf("walk all contacts: %w", err)
	}
	err = r.endPhase(st, phaseWalk, outcomeOf(extract.ByCreated, time.UnixMicro(0), out.Outcome, out.Windows), out.Progress)
	return newIDSet(seen), err
}

// idSink notes which contacts pass, and stages those that are wanted.
type idSink struct {
	*stager
	wanted idSet
	seen   []idKey
	skip   []bool
}

var _ extract.WindowSink = (*idSink)(nil)

// Stage implements extract.Sink.
func (s *idSink) Stage(ctx context.Context, skip []bool) error {
	s.skip = append(s.skip[:0], make([]bool, len(s.rows))...)
	for i, row := range s.rows {
		if !row.Invalid {
			s.seen = append(s.seen, row.ID)
		}
		s.skip[i] = i < len(skip) && skip[i] || row.Invalid || !s.wanted.has(row.ID)
	}
	return s.stager.Stage(ctx, s.skip)
}
