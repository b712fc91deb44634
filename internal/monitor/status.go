package monitor

import (
	"cmp"
	"slices"
	"time"

	"github.com/sluice-etl/sluice/internal/state"
)

const (
	statusDone        = "done"
	statusInterrupted = "interrupted"
)

// status puts together what is known of a pipeline; st may be nil. It is called
// with mu held.
func (m *Monitor) status(p *pipeline, st *state.Pipeline, err error, now time.Time) Status {
	s := Status{Pipeline: p.Pipeline, Err: err, Next: p.next[kindSync], NextReconcile: p.next["reconcile"]}
	for _, l := range p.live {
		s.Live = append(s.Live, *l)
	}
	slices.SortFunc(s.Live, func(a, b Live) int { return a.Since.Compare(b.Since) })
	s.Undecided, s.ReadAt = p.undecided, p.readAt
	if p.retry != nil {
		again := *p.retry
		s.Retry = &again
	}
	if st != nil {
		s.take(st)
	}
	s.Failures = p.failures(s.Last)
	for _, f := range p.skips {
		s.Skips = append(s.Skips, f)
	}
	ordered(s.Skips)
	since := s.FreshAt
	if since.IsZero() {
		since = m.since
	}
	s.Age = max(0, now.Sub(since))
	s.Late = s.Freshness > 0 && s.Age > s.Freshness
	s.Health = s.health()
	return s
}

// failures are the jobs that failed last, of each kind one; not of syncs where
// state knows one that began later, of another process then.
func (p *pipeline) failures(last *state.RunRecord) []Failure {
	var list []Failure
	for _, f := range p.fails {
		if f.Kind != kindSync || last == nil || last.StartedAt.Before(f.At) {
			list = append(list, f)
		}
	}
	ordered(list)
	return list
}

func ordered(list []Failure) {
	slices.SortFunc(list, func(a, b Failure) int {
		return cmp.Or(cmp.Compare(place(a.Kind), place(b.Kind)), cmp.Compare(a.Kind, b.Kind))
	})
}

// place orders kinds of jobs: syncs come first.
func place(kind string) int {
	if kind == kindSync {
		return 0
	}
	return 1
}

func (s *Status) health() Health {
	switch {
	case s.Err != nil:
		return Unknown
	case len(s.Failures) > 0 && s.Failures[0].Kind == kindSync:
		return Failing
	case s.lastFailed():
		return Failing
	case s.Late:
		return Late
	case s.Last == nil:
		return Never
	default:
		return Healthy
	}
}

// lastFailed reports whether the last sync that came to an end of its own failed:
// one that was interrupted says nothing, and the next goes on from it.
func (s *Status) lastFailed() bool {
	for i := range slices.Backward(s.Runs) {
		if r := &s.Runs[i]; r.Kind == kindSync && r.FinishedAt != nil && r.Status != statusInterrupted {
			return r.Status != statusDone
		}
	}
	return false
}

func (s *Status) take(st *state.Pipeline) {
	s.Runs, s.Cursor, s.Told = st.Runs, st.Cursor, st.Told
	for i := range slices.Backward(st.Runs) {
		r := &st.Runs[i]
		if r.Kind != kindSync || r.FinishedAt == nil {
			continue
		}
		if s.Last == nil {
			s.Last = r
		}
		if r.Status == statusDone {
			s.FreshAt = r.StartedAt
			break
		}
	}
	for _, d := range s.Destinations {
		s.Queues = append(s.Queues, queue(d, st.Destinations[d.Name]))
	}
	for _, e := range st.Registry {
		s.Fields = append(s.Fields, Field{
			Source: e.Ref().String(), Column: e.Column, Type: string(e.Type),
			FirstRun: e.FirstRun, FirstSeen: e.FirstSeen, LastSeen: e.LastSeen,
		})
	}
}

func queue(d Destination, of *state.Destination) Queue {
	q := Queue{Destination: d}
	if of == nil {
		return q
	}
	q.Position, q.Error, q.NeedsFull, q.Packages = of.Position, of.Error, of.NeedsFull != nil, len(of.Queue)
	if of.FailingSince != nil {
		q.FailingSince = *of.FailingSince
	}
	for i, ref := range of.Queue {
		q.Rows += ref.Rows
		q.Bytes += ref.Bytes
		if i == 0 || ref.SealedAt.Before(q.Oldest) {
			q.Oldest = ref.SealedAt
		}
	}
	return q
}

// share is how much of the way from first to goal mark has come, all as RFC 3339;
// negative where one of them is missing.
func share(first, mark, goal string) float64 {
	var at [3]time.Time
	for i, text := range []string{first, mark, goal} {
		t, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return -1
		}
		at[i] = t
	}
	whole := at[2].Sub(at[0])
	if whole <= 0 {
		return -1
	}
	return min(1, max(0, float64(at[1].Sub(at[0]))/float64(whole)))
}
