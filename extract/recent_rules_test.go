package extract_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/extract/extracttest"
)

// calmRecent takes from a schedule what hides the loss that a rule prevents
// behind another rule.
func calmRecent(s *schedule) {
	calm(s)
	s.source.Long, s.source.Future, s.source.Late = 0, 0, 0
	s.source.Contacts = 120
	s.source.Gap = 20 * time.Millisecond
	s.source.Ties, s.source.TieSize, s.source.Bulk = 0, 1, 0
}

// withoutRecentRule is a reading of the recent without one of its rules, as in
// withoutRule.
var withoutRecentRule = []struct {
	name string
	rule extract.Rule
	bend func(*schedule)
}{
	{"a page starts above what was delivered", extract.RuleAnchor, func(s *schedule) {
		calmRecent(s)
		s.source.Deletes = 3
	}},
	{"a page out of order is refused", extract.RuleOrder, func(s *schedule) { s.source.Disorder = 0.1 }},
	{"ties are drained", extract.RuleDrain, func(s *schedule) {
		calmRecent(s)
		s.source.Ties, s.source.TieSize = 120, 60
	}},
	{"ties are confirmed", extract.RuleConfirm, func(s *schedule) {
		calmRecent(s)
		s.source.TieOrder, s.source.Silent = extracttest.Physical, 2
		s.source.Ties, s.source.TieSize = 120, 60
	}},
	{"ties that change their order are read again and again", extract.RuleStatistical, func(s *schedule) {
		calmRecent(s)
		s.source.TieOrder = extracttest.Shuffled
		s.source.Ties, s.source.TieSize = 120, 60
	}},
	{"a short page is not the end", extract.RuleEndProof, func(s *schedule) { s.source.Short = 0.3 }},
	{"nor is a short page with nothing new, alone", extract.RuleProbe, func(s *schedule) {
		calmRecent(s)
		s.source.Short, s.source.Messages = 0.6, 1
	}},
	{"a cache's answer is asked for again", extract.RuleCached, func(s *schedule) {
		calmRecent(s)
		s.pageSize = 25
		s.source.Stale, s.source.NoDate, s.source.Messages = 0.6, false, 1
	}},
	{"the newest are read again", extract.RuleTop, func(s *schedule) {
		calmRecent(s)
		s.source.Messages = 0.3
	}},
	{"down to the lookback", extract.RuleTopDepth, func(s *schedule) {
		calmRecent(s)
		s.runs, s.pageSize = 6, 12
		s.source.Messages, s.source.Late, s.source.LateBy = 3, 0.5, s.lookback-10*time.Millisecond
		s.source.Contacts = 250
	}},
	{"and again until they fit a page", extract.RuleTopAgain, func(s *schedule) {
		calmRecent(s)
		s.pageSize = 8
		s.source.Messages = 2
	}},
}

func TestEveryRuleOfReadingTheRecentIsMissedWhenItIsTakenOut(t *testing.T) {
	for _, c := range withoutRecentRule {
		t.Run(c.name, func(t *testing.T) {
			for seed := uint64(1); seed <= ruleSchedules; seed++ {
				s := newRecentSchedule(seed)
				s.runs = 1
				c.bend(&s)
				d, _ := playRecent(t.Context(), s, recentBy(c.rule), false)
				if d.err == nil && d.lost+d.unproven == 0 {
					continue
				}
				with, _ := playRecent(t.Context(), s, recentBy(0), false)
				if with.err != nil || with.lost > 0 {
					t.Errorf("seed %d: with the rule: %d lost, %v", seed, with.lost, with.err)
				}
				if with.unproven > 0 {
					continue // a loss that the rule does not prevent
				}
				t.Logf("seed %d: %d contacts lost, and %d where the record says so; %v", seed, d.lost, d.unproven, d.err)
				return
			}
			t.Errorf("nothing was lost in %d schedules", ruleSchedules)
		})
	}
}

// descendingPaging asks for offset after offset until a short page.
func descendingPaging(ctx context.Context, s schedule, src *windowed, sink *versions, _ uint64) (out extract.Outcome, err error) {
	for offset := 0; ; {
		n := 0
		_, err := src.Page(ctx, extract.Query{Days: src.days, Limit: s.pageSize, Offset: offset}, func(body []byte, info extract.PageInfo) error {
			rows, err := sink.Decode(body, info)
			n = len(rows)
			return err
		})
		if err != nil {
			return out, err
		}
		if err := sink.Stage(ctx, nil); err != nil || n < s.pageSize {
			return out, err
		}
		offset += n
	}
}

func TestPagingTheRecentByPlainOffsetsLosesContacts(t *testing.T) {
	lost, played := 0, 0
	for seed := uint64(1); seed <= 60; seed++ {
		s := newRecentSchedule(seed)
		calmRecent(&s)
		s.runs, s.pageSize = 1, 10
		s.source.Messages, s.source.Deletes, s.source.Contacts = 1, 0.3, 200
		played++
		if d, _ := playRecent(t.Context(), s, descendingPaging, false); d.lost > 0 {
			lost++
		}
		if d, _ := playRecent(t.Context(), s, recentBy(0), false); d.err != nil || d.lost > 0 {
			t.Errorf("seed %d: this reading, too: %d, %v", seed, d.lost, d.err)
		}
	}
	t.Logf("lost contacts in %d of %d schedules", lost, played)
	if lost < played*8/10 {
		t.Errorf("lost contacts in %d of %d schedules only: the judge is blind", lost, played)
	}
}

// combined reads the window by created_at, and then what has changed in it:
// what is done where days combines with other parameters. By turns the first
// is one walk, and a scan in windows.
func combined(ctx context.Context, s schedule, src *windowed, sink *versions, seed uint64) (extract.Outcome, error) {
	var out extract.Outcome
	var err error
	if seed%2 == 0 {
		w := &extract.Walk{
			Client: src, Key: extract.ByCreated, StopAt: src.Now(), Lookback: s.lookback, PageSize: s.pageSize,
			Days: src.days, Clock: src, Seed: seed,
		}
		out, err = w.Run(ctx, sink)
	} else {
		out, err = combinedScan(ctx, s, src, sink, seed)
	}
	if err != nil {
		return out, err
	}
	from := int64(0)
	if out.ReadSince != 0 {
		from = out.ReadSince - s.lookback.Microseconds()
	}
	w := &extract.Walk{
		Client: src, From: from, StopAt: src.Now(), Lookback: s.lookback, PageSize: s.pageSize,
		Days: src.days, Clock: src, Seed: seed,
	}
	changes, err := w.Run(ctx, sink)
	out.Add(changes)
	return out, err
}

func combinedScan(ctx context.Context, s schedule, src *windowed, sink *versions, seed uint64) (extract.Outcome, error) {
	r := rand.New(rand.NewPCG(seed, 15))
	front := &counter{src: src, rng: r}
	stop := make(chan struct{})
	var serving sync.WaitGroup
	serving.Go(func() { front.serve(stop) })
	var sinks []*versions
	scan := &extract.Scan{
		Client: front, Key: extract.ByCreated, Remaining: []extract.Interval{{}}, StopAt: src.Now(), Lookback: s.lookback,
		PageSize: s.pageSize, Days: src.days, Clock: src, Seed: seed, Workers: 1 + int(seed/2%8), SlicePages: 1 + int(seed/16%4),
		Sink: func(int) extract.WindowSink {
			sinks = append(sinks, newVersions())
			return sinks[len(sinks)-1]
		},
	}
	out, err := scan.Run(ctx)
	close(stop)
	serving.Wait()
	for _, other := range sinks {
		for id, content := range other.got {
			sink.got[id] = max(sink.got[id], content)
		}
	}
	return out.Outcome, err
}

func TestSimulatedWalksOfAWindowSkipNoContact(t *testing.T) {
	n, _ := envNumber(t, "SLUICE_SIM_SCHEDULES", 100)
	first := uint64(1)
	if seed, ok := envNumber(t, "SLUICE_SIM_SEED", 0); ok {
		first, n = seed, 1
	}
	var readings, requests, statistical, losses int
	for seed := first; seed < first+n; seed++ {
		s := newRecentSchedule(seed)
		if seed%4 == 0 { // who wrote just now is on no answer that is older
			s.source.Stale, s.source.Messages, s.source.Touch = 0.4, max(s.source.Messages, 1), false
		}
		var d windowVerdict
		var all []extract.Outcome
		synctest.Test(t, func(t *testing.T) { d, all = playRecent(t.Context(), s, combined, true) })
		if d.lost > 0 || d.err != nil {
			t.Errorf("seed %d: %d contacts lost, such as %d; %v\nreproduce with SLUICE_SIM_SEED=%d\n%+v\n%+v", seed, d.lost, d.first, d.err, seed, s, d.out)
		}
		losses += d.unproven
		for _, out := range all {
			readings++
			requests += int(out.Requests)
			for _, b := range out.Ties {
				if b.Statistical {
					statistical++
				}
			}
		}
	}
	t.Logf("%d schedules from seed %d: %d readings, %d requests, %d statistical blocks, %d contacts lost in those", n, first, readings, requests, statistical, losses)
}
