package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/schemas"
	"github.com/sluice-etl/sluice/transform"
)

const (
	// A run of which so many contacts, and more than one in ten of those
	// asked for, got no answer fails: that is an endpoint that is down, and not a
	// contact that it cannot show. Contacts that failed in a run before do not
	// count, or one that never answers would fail every quiet night.
	fewestInfoFailed = 20
	infoFailedShare  = 10 // one in so many
	// mostInfoFailed bounds what state remembers.
	mostInfoFailed = 10_000
	// mostAskedAgain bounds how many contacts of runs before a run asks for again.
	mostAskedAgain = 1000
	// mostFailAgain is after how many of them that fail once more the rest is left
	// to the next run: each takes as long as a request is repeated.
	mostFailAgain = 5
	// namedInfoFailed is how many of them a summary names.
	namedInfoFailed = 5
)

// infoChange says how asking for a contact ended. Contacts that answer at once
// leave no trace.
type infoChange struct {
	ID        string    `json:"id"`
	CreatedAt time.Time `json:"created_at,omitzero"`
	At        time.Time `json:"at"`
	Failed    bool      `json:"failed,omitempty"` // else it has answered by now, or is gone
}

// infoLog is what a run knows of contacts that the info endpoint gives no answer
// for. staging's mu guards it.
type infoLog struct {
	// before are those of runs before, and of processes before of this one.
	before  map[string]state.InfoFailed
	changed map[string]infoChange // by this process
	unsaved []infoChange          // of which the journal has nothing yet
	asked   int64                 // by this process
	failed  int64                 // of asked, those that are not in before
}

// newInfoLog takes up what state and the journal say.
func newInfoLog(remembered []state.InfoFailed, s *session) *infoLog {
	l := &infoLog{before: map[string]state.InfoFailed{}, changed: map[string]infoChange{}}
	for _, f := range after(remembered, s.infoChanges()) {
		l.before[f.ID] = f
	}
	return l
}

// infoChanges are those of the journal, in order.
func (s *session) infoChanges() []infoChange {
	var out []infoChange
	for _, p := range s.parts {
		out = append(out, p.Info...)
	}
	return out
}

// after applies changes to what is remembered: the last of each contact counts.
// One that has failed after it answered, in a run beside this one, stays.
func after(remembered []state.InfoFailed, changes []infoChange) []state.InfoFailed {
	failed := map[string]state.InfoFailed{}
	for _, f := range remembered {
		failed[f.ID] = f
	}
	for _, c := range changes {
		old, known := failed[c.ID]
		switch {
		case known && old.FailedAt.After(c.At):
		case c.Failed:
			failed[c.ID] = state.InfoFailed{ID: c.ID, CreatedAt: c.CreatedAt, FailedAt: c.At}
		default:
			delete(failed, c.ID)
		}
	}
	out := make([]state.InfoFailed, 0, len(failed))
	for _, f := range failed {
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b state.InfoFailed) int {
		return cmp.Or(a.FailedAt.Compare(b.FailedAt), cmp.Compare(a.ID, b.ID))
	})
	if len(out) == 0 {
		return nil
	}
	return out
}

// noAnswer reports whether an error is that of one contact, which others need
// not have: the endpoint fails, breaks off or refuses its request, however often
// it is asked. A key that is refused, and a limit on requests, concern all.
func noAnswer(err error) bool {
	var (
		status    *extract.StatusError
		transport *extract.TransportError
		page      *extract.PageError
		large     *extract.TooLargeError
	)
	if errors.As(err, &status) {
		return status.Status != http.StatusUnauthorized && status.Status != http.StatusForbidden && status.Status != http.StatusTooManyRequests
	}
	return errors.As(err, &transport) || errors.As(err, &page) || errors.As(err, &large)
}

// noteAnswered counts a contact that was asked for, and forgets that it failed.
func (s *staging) noteAnswered(c askedFor, n Enriched) error {
	s.noteEnriched(n)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.info.asked++
	s.forget(c.id)
	return nil
}

// forget notes that a contact need not be asked for again; mu is held.
func (s *staging) forget(id string) {
	_, before := s.info.before[id]
	if last := s.info.changed[id]; last.Failed || before && last.ID == "" {
		s.changeInfo(infoChange{ID: id, At: s.now()})
	}
}

// changeInfo notes a change for the next part; mu is held.
func (s *staging) changeInfo(c infoChange) {
	s.info.changed[c.ID] = c
	s.info.unsaved = append(s.info.unsaved, c)
}

// noteNoAnswer remembers a contact that got no answer, or fails where there are
// too many of them.
func (s *staging) noteNoAnswer(c askedFor, cause error) error {
	_, before := s.info.before[c.id]
	n := Enriched{Failed: 1}
	if before {
		n.Again = 1
	}
	s.noteEnriched(n)
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.info
	l.asked++
	if last := l.changed[c.id]; !before && !last.Failed {
		l.failed++
	}
	s.changeInfo(infoChange{ID: c.id, CreatedAt: time.UnixMicro(c.created).UTC(), At: s.now(), Failed: true})
	if (l.failed >= fewestInfoFailed && l.failed*infoFailedShare > l.asked) || len(l.before)+int(l.failed) > mostInfoFailed {
		return &EnrichError{Failed: l.failed, Asked: l.asked, Err: cause}
	}
	return nil
}

// takeInfo returns what has changed since the last part; mu is held.
func (s *staging) takeInfo() []infoChange {
	if s.info == nil {
		return nil
	}
	out := s.info.unsaved
	s.info.unsaved = nil
	return out
}

// askAgain asks for the contacts that got no answer in runs before, those first
// that have waited longest. Each is looked for in the list, for the tables are to
// have it as it is there now.
func (r *syncRun) askAgain(ctx context.Context, st *staging) error {
	if st.info == nil || len(st.info.before) == 0 {
		return nil
	}
	st.begins(phaseInfo)
	registry, err := schemas.NewRegistry(r.job.Contract, st.registry.Entries())
	if err != nil {
		return fmt.Errorf("restore column registry: %w", err)
	}
	x := &retrier{run: r, st: st, sink: st.stager(), now: st.began, registry: registry, chunk: transform.NewChunk(st.decoding)}
	asked, failing := 0, 0
	for _, c := range after(nil, st.waiting()) {
		if asked++; asked > mostAskedAgain || failing >= mostFailAgain {
			break
		}
		why, err := x.fromList(ctx, c.ID, c.CreatedAt)
		if err != nil {
			return sealAll(ctx, []*stager{x.sink}, fmt.Errorf("ask again for contacts without an answer: %w", err))
		}
		st.mu.Lock()
		if why != "" { // the list has it no more, or not as a row
			st.forget(c.ID)
		} else if st.info.changed[c.ID].Failed {
			failing++
		}
		st.mu.Unlock()
	}
	if err := sealAll(ctx, []*stager{x.sink}, nil); err != nil {
		return fmt.Errorf("ask again for contacts without an answer: %w", err)
	}
	r.session.parts = st.parts
	return nil
}

// waiting are the contacts of before that this process has not asked for.
func (s *staging) waiting() []infoChange {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []infoChange
	for id, f := range s.info.before {
		if _, done := s.info.changed[id]; !done {
			out = append(out, infoChange{ID: id, CreatedAt: f.CreatedAt, At: f.FailedAt, Failed: true})
		}
	}
	return out
}

// rememberInfo lets state know which contacts are to be asked for again.
func (r *syncRun) rememberInfo(p *state.Pipeline) {
	if !r.job.Enrich {
		p.InfoFailed = nil
		return
	}
	changes := r.session.infoChanges()
	if r.info != nil {
		changes = append(changes, r.info.unsaved...)
	}
	p.InfoFailed = after(p.InfoFailed, changes)
}

// tellInfo says which contacts are to be asked for again.
func (r *syncRun) tellInfo() {
	n := len(r.st.InfoFailed)
	if n == 0 {
		return
	}
	r.summary.InfoFailed = int64(n)
	for _, f := range r.st.InfoFailed[:min(n, namedInfoFailed)] {
		r.summary.InfoFailedIDs = append(r.summary.InfoFailedIDs, f.ID)
	}
	r.note("", fmt.Sprintf("the info endpoint gives no answer for %d of the contacts: they are stored as the list has them, and the next run asks for them again", n), nil)
}
