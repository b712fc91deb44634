package extract_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/extract/extracttest"
	"github.com/sluice-etl/sluice/internal/clock"
)

// A schedule is a source, how it is read, and what goes wrong: all from one
// seed.
type schedule struct {
	seed     uint64
	source   extracttest.Options
	lookback time.Duration
	pageSize int
	runs     int
	kill     float64 // chance that a run is killed somewhere
	full     float64 // chance that a run reads everything again
	budget   int     // requests that a read may take; 0: requestBudget
	oneWalk  bool    // the first run walks updated_at from the epoch
}

// reader is what a schedule attacks: it reads everything after a mark into a
// sink and says how far it came.
type reader func(ctx context.Context, s schedule, p pass) (extract.Outcome, error)

// pass is one call of a reader.
type pass struct {
	src    extract.Pager
	clk    clock.Clock
	sink   extract.Sink
	key    extract.Key
	from   int64
	stopAt time.Time
	seed   uint64
}

// walk is the reader that ships, without some of its rules.
func walk(without extract.Rule) reader {
	return func(ctx context.Context, s schedule, p pass) (extract.Outcome, error) {
		w := &extract.Walk{
			Client: p.src, Key: p.key, From: p.from, StopAt: p.stopAt, Lookback: s.lookback,
			PageSize: s.pageSize, Clock: p.clk, Seed: p.seed,
		}
		w.Without(without)
		return w.Run(ctx, p.sink)
	}
}

// staged is a row as a part would hold it.
type staged struct {
	id, n   int
	updated int64
}

// engine does with a reader what the engine of internal/run does: it stages,
// seals, resumes at what is final, and moves the cursor.
type engine struct {
	schedule
	read reader
	scan func(ctx context.Context) (done bool, err error) // reads in its place, if not nil
	src  *extracttest.Source
	rng  *rand.Rand

	// What survives a kill.
	cursor   int64
	begun    bool           // there is a cursor
	phase    int            // 0: incremental; 1: created_at; 2: catch-up
	from     int64          // where the phase resumes
	since    int64          // where the catch-up starts
	table    map[int]staged // merged
	blocks   []extract.TieBlock
	out      []extract.Outcome
	unproven int // contacts found missing in statistical blocks

	// The part being written.
	decoded []extract.Row
	part    []staged
	sealed  extract.Progress
}

// fault is a broken promise.
type fault struct{ error }

func faultf(format string, args ...any) error { return fault{fmt.Errorf(format, args...)} }

func newEngine(s schedule, read reader) *engine {
	return &engine{
		schedule: s, read: read, src: extracttest.New(s.source),
		rng: rand.New(rand.NewPCG(s.seed, 7)), table: map[int]staged{},
	}
}

func (e *engine) Decode(body []byte, _ extract.PageInfo) (rows []extract.Row, err error) {
	e.decoded, err = extracttest.Decode(body)
	return e.decoded, err
}

func (e *engine) Stage(_ context.Context, skip []bool) error {
	for i, r := range e.decoded {
		if skip == nil || !skip[i] {
			id, n := extracttest.Identify(r)
			e.part = append(e.part, staged{id, n, r.Updated})
		}
	}
	return nil
}

// Advance seals a part now and then: what came after the last seal is lost in
// a kill.
func (e *engine) Advance(_ context.Context, p extract.Progress) error {
	if p.Final > p.Mark {
		return faultf("final prefix %d is past the mark %d", p.Final, p.Mark)
	}
	if p.Final < e.sealed.Final || p.Mark < e.sealed.Mark {
		return faultf("progress went back from %v to %v", e.sealed, p)
	}
	if e.rng.IntN(2) == 0 {
		e.seal(p)
	}
	return nil
}

func (e *engine) seal(p extract.Progress) {
	for _, r := range e.part {
		if old, ok := e.table[r.id]; !ok || r.updated >= old.updated {
			e.table[r.id] = r
		}
	}
	e.part, e.sealed = e.part[:0], p
	if e.phase == 1 && p.ReadSince != 0 {
		e.since = min(e.since, p.ReadSince-e.lookback.Microseconds())
	}
}

// run is one run of the pipeline, resumed as often as it is killed.
func (e *engine) run(ctx context.Context, full bool) error {
	switch {
	case e.phase == 1 || e.phase == 2: // a full read was interrupted
	case full || !e.begun:
		e.phase, e.from, e.since = 1, 0, math.MaxInt64
	default:
		e.from = e.cursor
	}
	for {
		phase := e.walkPhase
		if e.scan != nil {
			phase = e.scan
		}
		done, err := phase(ctx)
		if err != nil {
			return err
		}
		if done {
			return e.check()
		}
	}
}

// walkPhase runs one walk and moves on as far as it came.
func (e *engine) walkPhase(ctx context.Context) (done bool, err error) {
	key := extract.ByUpdated
	if e.phase == 1 {
		key = extract.ByCreated
	}
	e.part, e.sealed = e.part[:0], extract.Progress{Mark: e.from, Final: e.from}
	e.src.Budget = requestBudget
	out, err := e.read(ctx, e.schedule, pass{e.src, e.src, e, key, e.from, e.src.Now(), e.rng.Uint64()})
	e.blocks = append(e.blocks, out.Ties...)
	e.out = append(e.out, out)
	if err == nil {
		e.seal(out.Progress)
	} else if errors.Is(err, extracttest.ErrEndless) {
		return false, faultf("a walk took more than %d requests", requestBudget)
	} else if order := (*extract.OrderError)(nil); !errors.Is(err, extracttest.ErrKilled) && !errors.As(err, &order) {
		return false, err
	}
	final := e.sealed.Final
	if e.phase == 1 {
		if loss := e.missing(func(c extracttest.Contact) bool { return c.Created <= final }, false); loss != nil {
			return false, loss
		}
	}
	switch {
	case err != nil: // killed, or refused a page: the same phase goes on where it was final
		e.from = max(e.from, final)
		e.src.Revive(0)
	case e.phase == 1:
		e.phase, e.from = 2, e.catchUp(out)
	default:
		e.phase, e.begun = 0, true
		e.cursor = max(e.cursor, final)
		return true, nil
	}
	return false, nil
}

// catchUp is where the changes since a read by created_at start: before the
// first of its rows was read. A source without rows has no such moment.
func (e *engine) catchUp(out extract.Outcome) int64 {
	if e.since == math.MaxInt64 {
		return out.Final
	}
	return e.since
}

// requestBudget is far above what any walk needs, and far below for ever.
const requestBudget = 6000

// check looks at the table after a run: whatever lies at or before the cursor
// is never read again, so it has to be there.
func (e *engine) check() error {
	return e.missing(func(c extracttest.Contact) bool { return c.Updated <= e.cursor }, true)
}

// missing reports a contact that concerns us and that the table does not hold,
// or holds only as it was before. Losses in a block that is recorded as
// statistical are counted apart.
func (e *engine) missing(concerns func(extracttest.Contact) bool, exact bool) error {
	for _, c := range e.src.Contacts() {
		if !concerns(c) {
			continue
		}
		got, ok := e.table[c.ID]
		if ok && (got.n >= c.N || !exact) {
			continue
		}
		if e.statistical(c) {
			e.unproven++
			continue
		}
		return faultf("contact %d (created %s, updated %s, write %d, visible %v) is not in the table (it has write %d); cursor %s",
			c.ID, extract.FormatTime(c.Created), extract.FormatTime(c.Updated), c.N, c.Visible, got.n, extract.FormatTime(e.cursor))
	}
	return nil
}

func (e *engine) statistical(c extracttest.Contact) bool {
	for _, b := range e.blocks {
		within := func(t int64) bool { return t >= b.At && t < b.At+4000 }
		if b.Statistical && (within(c.Updated) || within(c.Created)) {
			return true
		}
	}
	return false
}

// attack plays a schedule against a reader and returns the promise it broke.
func attack(ctx context.Context, s schedule, read reader) (*engine, error) {
	e := newEngine(s, read)
	return e, e.play(ctx)
}

func (e *engine) play(ctx context.Context) error {
	s := e.schedule
	e.begun = s.oneWalk
	for range s.runs {
		if e.rng.Float64() < s.kill {
			e.src.Revive(1 + e.rng.IntN(25))
		} else {
			e.src.Revive(0)
		}
		if err := e.run(ctx, e.rng.Float64() < s.full); err != nil {
			return err
		}
		e.src.Pass(e.rng.IntN(12), time.Duration(1+e.rng.IntN(2000))*time.Millisecond)
	}
	// The source stands still: one more run, and the table equals it.
	e.src.Revive(0)
	e.src.Settle(2*s.lookback + s.source.LateBy + time.Hour)
	if err := e.run(ctx, false); err != nil {
		return err
	}
	return e.missing(func(extracttest.Contact) bool { return true }, true)
}
