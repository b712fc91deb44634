package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/load"
)

// confirm asks for missing contacts one by one, and returns those that the
// source does not have, each with a moment before it was asked.
func (r *syncRun) confirm(ctx context.Context, st *staging, missing, walked idSet) (gone map[idKey]time.Time, ids []string, err error) {
	if len(missing) == 0 {
		return nil, nil, nil
	}
	// Which ones are left to the next run is drawn anew each time, so that none
	// is left for ever.
	seed := r.seed()
	lot := func(a, b idKey) int { return cmp.Compare(xxh3.HashSeed(a[:], seed), xxh3.HashSeed(b[:], seed)) }
	slices.SortFunc(missing, lot)
	chosen := newIDSet(slices.Clone(missing[:min(len(missing), r.recon.o.MaxProbes)]))
	r.recon.found.Unasked = int64(len(missing) - len(chosen))
	var known []string
	err = r.withTable(ctx, func(l load.Lister) error {
		r.recon.next = r.st.NextPackage
		return r.list(ctx, l, func(s stored) {
			switch k := hashID(s.id); {
			case s.deleted:
			case chosen.has(k):
				ids = append(ids, strings.Clone(s.id))
			case walked.has(k) && (len(known) < controls || lot(k, hashID(known[controls-1])) < 0):
				known = append(known, strings.Clone(s.id))
				slices.SortFunc(known, func(a, b string) int { return lot(hashID(a), hashID(b)) })
				known = known[:min(len(known), controls)]
			}
		})
	})
	if err != nil {
		return nil, nil, err
	}
	if err := r.checkInfo(ctx, known); err != nil {
		return nil, nil, err
	}
	gone, err = r.probeAll(ctx, st, ids)
	return gone, ids, err
}

// checkInfo makes sure that the source tells a contact that it has from one
// that it has not, when asked for by id.
func (r *syncRun) checkInfo(ctx context.Context, known []string) error {
	for _, id := range known {
		_, found, err := r.client.Contact(ctx, id)
		if err != nil {
			return fmt.Errorf("ask for a contact that exists: %w", err)
		}
		if found {
			return nil
		}
	}
	return &NoInfoError{IDs: known}
}

// probeAll asks for contacts, several at once.
func (r *syncRun) probeAll(ctx context.Context, st *staging, ids []string) (map[idKey]time.Time, error) {
	st.begins(phaseConfirm)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	p := &probes{client: r.client, ids: ids, now: r.Clock.Now, gone: map[idKey]time.Time{}, stop: stop}
	var all sync.WaitGroup
	for range min(len(ids), cmp.Or(r.job.Source.Concurrency, defaultWorkers)) {
		all.Go(func() {
			for p.one(ctx) {
				st.tell(Event{Type: "progress", Phase: phaseConfirm, Contacts: p.done()})
			}
		})
	}
	all.Wait()
	if p.err != nil {
		return nil, fmt.Errorf("ask for single contacts: %w", p.err)
	}
	r.recon.found.Unlisted += p.there
	return p.gone, nil
}

// probes is what the workers of probeAll share.
type probes struct {
	client *extract.Client
	ids    []string
	now    func() time.Time
	stop   context.CancelCauseFunc

	mu    sync.Mutex
	next  int
	gone  map[idKey]time.Time
	there int64
	err   error // the first
}

// one asks for the next contact; false where there is none, or one failed.
func (p *probes) one(ctx context.Context) bool {
	p.mu.Lock()
	if p.next == len(p.ids) || p.err != nil {
		p.mu.Unlock()
		return false
	}
	id := p.ids[p.next]
	p.next++
	p.mu.Unlock()
	before := p.now()
	_, found, err := p.client.Contact(ctx, id)
	p.mu.Lock()
	defer p.mu.Unlock()
	var other *extract.WrongContactError
	switch {
	case errors.As(err, &other): // merged into another one, it may be: not gone for certain
		p.there++
	case err != nil:
		if p.err == nil {
			p.err = err
			p.stop(err)
		}
		return false
	case found:
		p.there++
	default:
		p.gone[hashID(id)] = before
	}
	return true
}

// done is the number of contacts asked for.
func (p *probes) done() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.there + int64(len(p.gone))
}

// markGone stages tombstones of the contacts that are gone. Where another run
// has made a package since they were asked for, they are asked for once more:
// it may have seen one again just as it was, which leaves no trace in the
// table. A run that ends later has read its rows later, and wins by that.
func (r *syncRun) markGone(ctx context.Context, st *staging, gone map[idKey]time.Time, ids []string) error {
	var marked int64
	if len(gone) > 0 {
		lister, err := r.table(ctx)
		if err == nil && r.st.NextPackage != r.recon.next {
			ids = slices.DeleteFunc(ids, func(id string) bool { return gone[hashID(id)].IsZero() })
			gone, err = r.probeAll(ctx, st, ids)
		}
		if err == nil {
			r.recon.found.Gone = int64(len(gone))
			marked, err = r.bury(ctx, st, lister, func(s stored) (time.Time, bool) {
				since, is := gone[hashID(s.id)]
				return since, is && !s.deleted && s.extracted.Before(since)
			})
		}
		if err != nil {
			return fmt.Errorf("mark deleted contacts: %w", err)
		}
	}
	return r.session.endPhase(phaseRecord{
		Phase: phaseConfirm, Outcome: markedOutcome(marked), Counts: st.totals(),
	})
}
