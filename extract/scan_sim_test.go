package extract_test

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/extract/extracttest"
)

// counter lets one of the requests that wait be answered at a time, in an
// order drawn from a seed: whatever the goroutines do, a seed gives one
// history. It has to run in a bubble of synctest.
type counter struct {
	src extract.Pager
	rng *rand.Rand

	mu      sync.Mutex
	waiting []*turn
}

type turn struct {
	after  int64
	offset int
	go_    chan struct{}
	done   chan struct{}
}

// Page waits for its turn. Rows are read and handed on before another's is.
func (c *counter) Page(ctx context.Context, q extract.Query, decode func([]byte, extract.PageInfo) error) (extract.Response, error) {
	after := q.CreatedAfter
	if after == nil {
		after = q.UpdatedAfter
	}
	t := &turn{*after, q.Offset, make(chan struct{}), make(chan struct{})}
	c.mu.Lock()
	c.waiting = append(c.waiting, t)
	c.mu.Unlock()
	select {
	case <-t.go_:
	case <-ctx.Done():
		c.mu.Lock()
		c.waiting = slices.DeleteFunc(c.waiting, func(w *turn) bool { return w == t })
		c.mu.Unlock()
		return extract.Response{}, context.Cause(ctx)
	}
	defer close(t.done)
	return c.src.Page(ctx, q, decode)
}

// serve gives turns until stop is closed.
func (c *counter) serve(stop <-chan struct{}) {
	for {
		synctest.Wait() // everyone is asking, or idle
		c.mu.Lock()
		if len(c.waiting) == 0 {
			c.mu.Unlock()
			select {
			case <-stop:
				return
			default:
				time.Sleep(time.Millisecond) // virtual: until someone asks
				continue
			}
		}
		slices.SortFunc(c.waiting, func(a, b *turn) int {
			return cmp.Or(cmp.Compare(a.after, b.after), cmp.Compare(a.offset, b.offset))
		})
		i := c.rng.IntN(len(c.waiting))
		t := c.waiting[i]
		c.waiting = slices.Delete(c.waiting, i, i+1)
		c.mu.Unlock()
		close(t.go_)
		<-t.done
	}
}

// scanned is the engine of the simulation with reads in windows: what each
// worker has sealed, and the stretches that it completes, survive a kill.
type scanned struct {
	*engine
	workers int
	without extract.Rule
	check   bool // the judge looks at the windows too, not only at the table

	covered []extract.Interval
	sinks   []*scanSink
	windows int
}

// scanSink is one worker's.
type scanSink struct {
	e   *scanned
	rng *rand.Rand
	extract.Stretches
	window   extract.Interval
	mark     int64
	decoded  []extract.Row
	part     []staged
	since    int64
	advanced []extract.Interval // by marks
}

func (s *scanSink) Window(iv extract.Interval) error {
	s.Stretches.Window(iv)
	s.window, s.mark = iv, iv.From
	s.advanced = append(s.advanced, extract.Interval{From: iv.From, Until: iv.From})
	return nil
}

func (s *scanSink) Decode(body []byte, _ extract.PageInfo) (rows []extract.Row, err error) {
	s.decoded, err = extracttest.Decode(body)
	return s.decoded, err
}

func (s *scanSink) Stage(_ context.Context, skip []bool) error {
	for i, r := range s.decoded {
		if skip == nil || !skip[i] {
			key := r.Created
			if s.e.phase != 1 {
				key = r.Updated
			}
			if s.window.Until != 0 && key > s.window.Until {
				return faultf("a row of %s was staged for the window %v", extract.FormatTime(key), s.window)
			}
			id, n := extracttest.Identify(r)
			s.part = append(s.part, staged{id, n, r.Updated})
		}
	}
	return nil
}

func (s *scanSink) Advance(_ context.Context, p extract.Progress) error {
	if p.Final > p.Mark || p.Mark < s.mark {
		return faultf("mark %d, final %d after mark %d", p.Mark, p.Final, s.mark)
	}
	s.mark = p.Mark
	s.advanced[len(s.advanced)-1].Until = p.Mark
	if s.e.without&extract.RuleFinalOnly != 0 {
		p.Final = p.Mark
	}
	s.Stretches.Advance(p)
	if p.ReadSince != 0 {
		s.since = min(s.since, p.ReadSince)
	}
	if s.rng.IntN(3) == 0 {
		s.seal()
	}
	return nil
}

// seal makes a part durable, with what it completes.
func (s *scanSink) seal() {
	for _, r := range s.part {
		if old, ok := s.e.table[r.id]; !ok || r.updated >= old.updated {
			s.e.table[r.id] = r
		}
	}
	s.part = s.part[:0]
	s.e.covered = append(s.e.covered, s.Seal()...)
	if s.since != math.MaxInt64 {
		s.e.since = min(s.e.since, s.since-s.e.lookback.Microseconds())
	}
}

// scanPhase reads what remains of a phase, as far as it comes.
func (e *scanned) scanPhase(ctx context.Context) (done bool, err error) {
	key := extract.ByUpdated
	if e.phase == 1 {
		key = extract.ByCreated
	}
	e.src.Budget = cmp.Or(e.budget, requestBudget)
	front := &counter{src: e.src, rng: rand.New(rand.NewPCG(e.rng.Uint64(), 8))}
	stop := make(chan struct{})
	var serving sync.WaitGroup
	serving.Go(func() { front.serve(stop) })
	e.sinks = nil
	before := e.since
	whole := []extract.Interval{{From: e.from}}
	s := &extract.Scan{
		Client: front, Key: key, Remaining: extract.Uncovered(whole, e.covered), StopAt: e.src.Now(),
		Lookback: e.lookback, PageSize: e.pageSize, Clock: e.src, Seed: e.rng.Uint64(),
		Workers: e.workers, SlicePages: 1 + e.rng.IntN(4),
		Sink: func(worker int) extract.WindowSink {
			sink := &scanSink{e: e, rng: rand.New(rand.NewPCG(e.seed, uint64(worker+len(e.out)*100))), since: math.MaxInt64}
			e.sinks = append(e.sinks, sink)
			return sink
		},
	}
	s.Without(e.without)
	out, err := s.Run(ctx)
	close(stop)
	serving.Wait()
	e.blocks = append(e.blocks, out.Ties...)
	e.out = append(e.out, out.Outcome)
	e.windows += out.Windows
	if bad := (*extract.GapError)(nil); errors.As(err, &bad) {
		return false, faultf("%w", bad)
	}
	if overlap := e.overlap(); overlap != nil && e.check {
		return false, overlap
	}
	if err == nil { // then the outcome has to know as well as what was journalled
		e.since = before
		if out.ReadSince != 0 {
			e.since = min(before, out.ReadSince-e.lookback.Microseconds())
		}
	}
	return e.endScan(key, out, err)
}

// overlap reports a time that two windows of a scan have delivered.
func (e *scanned) overlap() error {
	var all []extract.Interval
	for _, s := range e.sinks {
		for _, iv := range s.advanced {
			if iv.Until > iv.From {
				all = append(all, iv)
			}
		}
	}
	slices.SortFunc(all, func(a, b extract.Interval) int { return cmp.Compare(a.From, b.From) })
	for i := 1; i < len(all); i++ {
		if all[i].From < all[i-1].Until {
			return faultf("the windows %v and %v were both delivered", all[i-1], all[i])
		}
	}
	return nil
}

// endScan seals what a scan that ended well holds, and moves on.
func (e *scanned) endScan(key extract.Key, out extract.ScanOutcome, err error) (done bool, _ error) {
	broken := fault{}
	order := (*extract.OrderError)(nil)
	switch {
	case err == nil:
		for _, s := range e.sinks {
			s.since = math.MaxInt64
			s.seal()
		}
	case errors.As(err, &broken):
		return false, broken
	case errors.Is(err, extracttest.ErrEndless):
		return false, faultf("a scan took more than %d requests", cmp.Or(e.budget, requestBudget))
	case !errors.Is(err, extracttest.ErrKilled) && !errors.As(err, &order):
		return false, err
	}
	covers := func(at int64) bool {
		return slices.ContainsFunc(e.covered, func(iv extract.Interval) bool { return at > iv.From && at <= iv.Until })
	}
	// What is covered is never read again by this phase.
	held := func(c extracttest.Contact) bool { return key == extract.ByCreated && covers(c.Created-c.Created%1000) }
	if loss := e.missing(held, false); loss != nil {
		return false, loss
	}
	if err != nil {
		e.src.Revive(0)
		if e.rng.Float64() < e.kill/2 {
			e.src.Revive(1 + e.rng.IntN(25))
		}
		return false, nil
	}
	if want := extract.MergeIntervals(e.covered); len(want) > 0 && want[0].From <= e.from && want[0].Until < out.Final {
		return false, faultf("final up to %d, and the sinks hold %v", out.Final, want)
	}
	from := out.Final
	e.covered = nil
	if key == extract.ByCreated {
		e.phase, e.from = 2, e.catchUp(out.Outcome)
		return false, nil
	}
	e.phase, e.begun = 0, true
	e.cursor = max(e.cursor, from)
	return true, nil
}

// attackScan plays a schedule against scans: the full reads in windows, and by
// chance the reads of changes too.
func attackScan(t *testing.T, s schedule, without extract.Rule, check bool) (e *scanned, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(s.seed, 11))
		e = &scanned{engine: newEngine(s, walk(0)), workers: 1 + r.IntN(8), without: without, check: check}
		e.scan = func(ctx context.Context) (bool, error) {
			if e.phase != 1 && (s.seed+uint64(len(e.out)))%3 == 0 && len(e.covered) == 0 {
				return e.walkPhase(ctx)
			}
			return e.scanPhase(ctx)
		}
		err = e.play(t.Context())
	})
	return e, err
}

// newScanSchedule is a schedule with more to read in windows.
func newScanSchedule(seed uint64) schedule {
	s := newSchedule(seed)
	r := rand.New(rand.NewPCG(seed, 12))
	if s.source.Contacts > 20 {
		s.source.Lulls = r.IntN(5)
		s.oneWalk = false
		s.full = []float64{0.2, 0.5}[r.IntN(2)]
	}
	return s
}

func TestSimulatedScansSkipNoContact(t *testing.T) {
	n, _ := envNumber(t, "SLUICE_SIM_SCHEDULES", 150)
	first := uint64(1)
	if seed, ok := envNumber(t, "SLUICE_SIM_SEED", 0); ok {
		first, n = seed, 1
	}
	var windows, scans, requests, statistical, losses int
	workers := map[int]int{}
	for seed := first; seed < first+n; seed++ {
		e, err := attackScan(t, newScanSchedule(seed), 0, true)
		if err != nil {
			t.Errorf("seed %d: %v\nreproduce with SLUICE_SIM_SEED=%d\n%d workers, %+v", seed, err, seed, e.workers, e.schedule)
		}
		windows += e.windows
		scans += len(e.out)
		workers[e.workers]++
		for _, o := range e.out {
			requests += int(o.Requests)
		}
		for _, b := range e.blocks {
			if b.Statistical {
				statistical++
			}
		}
		losses += e.unproven
	}
	t.Logf("%d schedules from seed %d: %d reads in %d windows, %d requests, %d statistical blocks, %d contacts lost in those; workers %v",
		n, first, scans, windows, requests, statistical, losses, slices.Sorted(maps.Keys(workers)))
	if losses > statistical/100 {
		t.Errorf("statistical blocks lost %d contacts in %d blocks", losses, statistical)
	}
}

func TestSimulatedScansRepeatFromTheirSeed(t *testing.T) {
	for seed := uint64(1); seed <= 12; seed++ {
		a, errA := attackScan(t, newScanSchedule(seed), 0, true)
		b, errB := attackScan(t, newScanSchedule(seed), 0, true)
		if errA != nil || errB != nil || !maps.Equal(a.table, b.table) || a.windows != b.windows || len(a.out) != len(b.out) || a.src.Now() != b.src.Now() {
			t.Errorf("seed %d: %v and %v, %d and %d reads", seed, errA, errB, len(a.out), len(b.out))
		}
	}
}

// withoutScanRule is the scan without one of its rules.
var withoutScanRule = []struct {
	name string
	rule extract.Rule
	bend func(*schedule)
}{
	{name: "a border belongs to the window that it ends", rule: extract.RuleBorderHeld, bend: func(s *schedule) {
		s.source = extracttest.Options{Seed: s.seed, Contacts: 250, Gap: 20 * time.Millisecond, Latency: 50 * time.Millisecond}
		s.lookback, s.oneWalk = time.Second, false
	}},
	{name: "both halves of a window are read", rule: extract.RuleRemainder},
	{name: "all windows end at the start of the scan", rule: extract.RuleOneStop, bend: func(s *schedule) {
		s.source.Contacts, s.pageSize, s.kill = 60, 8, 0
		s.source.Updates, s.budget = 13, 1500
	}},
	{name: "the catch-up starts at the earliest reading", rule: extract.RuleEarliest, bend: func(s *schedule) {
		s.source.Updates, s.kill = 2, 0
	}},
	{name: "what is not final is not covered", rule: extract.RuleFinalOnly, bend: func(s *schedule) {
		s.source.Late, s.source.LateBy, s.kill = 0.7, s.lookback-10*time.Millisecond, 1
		s.source.Creates = 1
	}},
}

func TestEveryRuleOfAScanIsMissedWhenItIsTakenOut(t *testing.T) {
	for _, c := range withoutScanRule {
		t.Run(c.name, func(t *testing.T) {
			lost := 0
			for seed := uint64(1); seed <= ruleSchedules && lost < 1; seed++ {
				s := newScanSchedule(seed)
				if c.bend != nil {
					c.bend(&s)
				}
				// The scan's own check is out too: the judge has to see it.
				_, err := attackScan(t, s, extract.RuleUnion|c.rule, false)
				if err == nil {
					continue
				}
				lost++
				t.Logf("seed %d: %v", seed, err)
				if e, err := attackScan(t, s, extract.RuleUnion, true); err != nil || e.unproven > 0 {
					t.Errorf("seed %d: with the rule: %v", seed, err)
				}
			}
			if lost == 0 {
				t.Errorf("nothing was lost in %d schedules", ruleSchedules)
			}
		})
	}
}

func TestAScanFindsItsOwnGaps(t *testing.T) {
	for name, rule := range map[string]extract.Rule{
		"a border that belongs to none": extract.RuleBorderHeld,
		"a half that is dropped":        extract.RuleRemainder,
	} {
		s, _ := scanOver(extracttest.New(extracttest.Options{Seed: 1, Contacts: 300}), 4)
		s.Without(rule)
		out, err := s.Run(t.Context())
		var gap *extract.GapError
		if !errors.As(err, &gap) || gap.Hint() == "" || len(gap.Missing) == 0 || out.EndReason != extract.EndUnreached {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestABorderThatBelongsToBothWindowsIsSeen(t *testing.T) {
	seen := 0
	for seed := uint64(1); seed <= 20; seed++ {
		s := newScanSchedule(seed)
		if _, err := attackScan(t, s, extract.RuleBorderOnce, true); err != nil {
			seen++
		}
		if _, err := attackScan(t, s, 0, true); err != nil {
			t.Errorf("seed %d: with the rule: %v", seed, err)
		}
	}
	if seen < 5 {
		t.Errorf("seen in %d of 20 schedules", seen)
	}
}
