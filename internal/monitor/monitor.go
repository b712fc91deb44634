package monitor

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/schedule"
	"github.com/sluice-etl/sluice/internal/state"
)

const (
	// keptLogs and keptLines bound the logs of runs that are kept in memory, of
	// each pipeline; of what is beyond keptLines the middle is left out.
	keptLogs  = 20
	keptLines = 400

	// parallelReads is how many documents of state are read at once.
	parallelReads = 8

	kindSync = "sync"
)

// Options are what a Monitor works with.
type Options struct {
	Clock     clock.Clock
	Pipelines []Pipeline
	// Load reads a pipeline's state.
	Load func(ctx context.Context, pipeline string) (*state.Pipeline, error)
	// Refresh is how long what Load returned is good for, where no run of this
	// process has ended since: other processes run pipelines too. 0: 5 s.
	Refresh time.Duration
	// Patience is how long Snapshot and Status wait for state that is being read;
	// then they show what was known before. 0: 2 s.
	Patience time.Duration
	// ReadTimeout is how long one reading may take. 0: 30 s.
	ReadTimeout time.Duration
	// Hints says what to do about an error; nil: nothing is known.
	Hints func(error) []string
}

// Monitor gathers what the daemon's jobs do. It is safe for concurrent use.
type Monitor struct {
	o     Options
	since time.Time

	reads chan struct{} // one for each reading

	mu      sync.Mutex
	watches map[chan struct{}]struct{}
	of      map[string]*pipeline
}

type pipeline struct {
	Pipeline
	next  map[string]time.Time // by kind
	live  map[string]*Live     // by kind
	fails map[string]Failure   // by kind: the last job, where it failed
	skips map[string]Failure   // by kind: the last job, where it stood back
	retry *Repeat
	logs  []*runLog
	// undecided: the sync failed, and whether it is repeated has not been told.
	undecided bool

	st      *state.Pipeline
	readAt  time.Time // when st was; zero: never
	err     error
	read    time.Time     // when the last reading began; zero: there has to be one
	reading chan struct{} // closed at the end of the one that goes on; nil for none
}

type runLog struct {
	id    string
	lines []Line
	left  int      // out, in the middle
	fail  *Failure // nil where it has not failed
}

// New returns the monitor of the given pipelines.
func New(o Options) *Monitor {
	if o.Refresh == 0 {
		o.Refresh = 5 * time.Second
	}
	o.Patience, o.ReadTimeout = cmp.Or(o.Patience, 2*time.Second), cmp.Or(o.ReadTimeout, 30*time.Second)
	m := &Monitor{o: o, since: o.Clock.Now(), reads: make(chan struct{}, parallelReads), watches: map[chan struct{}]struct{}{}, of: map[string]*pipeline{}}
	for _, p := range o.Pipelines {
		m.of[p.Name] = &pipeline{Pipeline: p, next: map[string]time.Time{}, live: map[string]*Live{}, fails: map[string]Failure{}, skips: map[string]Failure{}}
	}
	return m
}

// Watch returns a channel that gets a value once something has changed; several
// changes may be one value. stop ends it.
func (m *Monitor) Watch() (changed <-chan struct{}, stop func()) {
	c := make(chan struct{}, 1)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watches[c] = struct{}{}
	return c, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.watches, c)
	}
}

// changed is called with mu held.
func (m *Monitor) changed() {
	for c := range m.watches {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

func kindOf(kind string) string { return cmp.Or(kind, kindSync) }

// Schedule takes what the scheduler tells.
func (m *Monitor) Schedule(e schedule.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.of[e.Name]
	if p == nil {
		return
	}
	kind := kindOf(e.Kind)
	switch e.Type {
	case schedule.Next:
		p.next[kind] = e.At
	case schedule.Waiting:
		p.live[kind] = &Live{Pipeline: e.Name, Kind: kind, Trigger: e.Trigger, Attempt: e.Attempt, Since: e.Time, Waiting: true, Share: -1}
	case schedule.Started:
		p.live[kind] = &Live{Pipeline: e.Name, Kind: kind, Trigger: e.Trigger, Attempt: e.Attempt, Since: e.Time, Share: -1}
	case schedule.Finished, schedule.Failed, schedule.Skipped:
		if e.Type == schedule.Skipped && e.Err == nil {
			break // the log tells
		}
		m.ended(p, kind, e)
		delete(p.live, kind)
		p.read = time.Time{}
		if kind == kindSync {
			p.retry, p.undecided = nil, e.Type != schedule.Finished
		}
	case schedule.Retrying:
		if kind != kindSync {
			break
		}
		p.undecided = false
		p.retry = &Repeat{Attempt: e.Attempt, At: e.At, Until: e.Until}
		if e.Err != nil {
			p.retry.Err = e.Err.Error()
		}
	case schedule.GivenUp:
		if kind == kindSync {
			p.retry, p.undecided = nil, false
		}
	case schedule.Missed, schedule.Queued: // the log tells
	}
	m.changed()
}

// ended notes how a job ended. It is called with mu held.
func (m *Monitor) ended(p *pipeline, kind string, e schedule.Event) {
	delete(p.skips, kind)
	if e.Type == schedule.Finished {
		delete(p.fails, kind)
		return
	}
	f := Failure{Kind: kind, Trigger: e.Trigger, Attempt: e.Attempt, At: e.Time}
	if e.Err != nil {
		f.Err = e.Err.Error()
		_, f.Approval = run.Unapproved(e.Name, e.Err)
		f.Approval = f.Approval || errors.As(e.Err, new(*run.FrozenError))
		if m.o.Hints != nil {
			f.Hints = m.o.Hints(e.Err)
		}
	}
	if l := p.live[kind]; l != nil {
		f.RunID = l.RunID
	}
	if e.Type == schedule.Skipped {
		p.skips[kind] = f // how the pipeline is, the other process tells
		return
	}
	p.fails[kind] = f
	if i := slices.IndexFunc(p.logs, func(l *runLog) bool { return l.id == f.RunID }); i >= 0 {
		p.logs[i].fail = &f
	}
}

// Observe takes what the engine tells of a job of the given kind.
func (m *Monitor) Observe(kind string, e run.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.of[e.Pipeline]
	if p == nil {
		return
	}
	p.note(e)
	if l := p.live[kindOf(kind)]; l != nil {
		l.take(e)
	}
	m.changed()
}

func (l *Live) take(e run.Event) {
	l.RunID = cmp.Or(e.RunID, l.RunID)
	l.Mode = cmp.Or(e.Mode, l.Mode)
	switch e.Type {
	case "progress":
		if e.Phase != l.Phase {
			l.Phase, l.first = e.Phase, e.Mark
		}
		l.first = cmp.Or(l.first, e.Mark)
		l.Contacts, l.Pages, l.Mark, l.Goal = e.Contacts, e.Pages, e.Mark, e.Goal
		l.Share = share(l.first, l.Mark, l.Goal)
	case "committed":
		l.Committed = append(slices.Clone(l.Committed), e.Destination)
	case "commit_failed":
		l.Failed = append(slices.Clone(l.Failed), e.Destination)
	}
}

// note adds to the log of a run. Of lines of progress the last alone is kept.
func (p *pipeline) note(e run.Event) {
	if e.RunID == "" {
		return
	}
	i := slices.IndexFunc(p.logs, func(l *runLog) bool { return l.id == e.RunID })
	if i < 0 {
		p.logs = append(p.logs, &runLog{id: e.RunID})
		if i = len(p.logs) - 1; i == keptLogs {
			p.logs = slices.Delete(p.logs, 0, 1)
			i--
		}
	}
	l := p.logs[i]
	if n := len(l.lines); n > 0 && e.Type == "progress" && l.lines[n-1].Event.Type == "progress" && l.lines[n-1].Event.Phase == e.Phase {
		l.lines[n-1] = Line{e.Time, e}
		return
	}
	if len(l.lines) == keptLines {
		l.lines = slices.Delete(l.lines, keptLines/2, keptLines/2+1)
		l.left++
	}
	l.lines = append(l.lines, Line{e.Time, e})
}

// Log returns the log of a run of this process, and how many of its lines are
// left out in the middle; nil for a run of another, or of long ago.
func (m *Monitor) Log(pipeline, runID string) (lines []Line, left int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.of[pipeline]
	if p == nil {
		return nil, 0
	}
	for _, l := range p.logs {
		if l.id == runID {
			return slices.Clone(l.lines), l.left
		}
	}
	return nil, 0
}

// Failure returns how a run of this process failed; false where it did not, or
// is of another process or of long ago.
func (m *Monitor) Failure(pipeline, runID string) (Failure, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.of[pipeline]
	if p == nil || runID == "" {
		return Failure{}, false
	}
	for _, l := range p.logs {
		if l.id == runID && l.fail != nil {
			return *l.fail, true
		}
	}
	return Failure{}, false
}
