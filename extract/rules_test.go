package extract_test

import (
	"context"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/extract/extracttest"
)

// calm takes from a schedule what makes blocks statistical.
func calm(s *schedule) {
	s.source.TieOrder, s.source.Silent, s.source.Stale = extracttest.Stable, 0, 0
	s.source.Short, s.source.Cap, s.source.Disorder = 0, 0, 0
	s.pageSize = max(s.pageSize, 8)
}

// withoutRule is the walk without one of its rules, in schedules that are bent
// towards what the rule is for. Where another rule would repair the damage,
// base names it: it is out in both the walk that loses and the one that does
// not.
var withoutRule = []struct {
	name string
	rule extract.Rule
	base extract.Rule
	bend func(*schedule)
}{
	{name: "the mark stays behind the last time", rule: extract.RuleMarkBehind},
	{name: "a page out of order is refused", rule: extract.RuleOrder, bend: func(s *schedule) { s.source.Disorder = 0.1 }},
	{name: "ties are drained by offset", rule: extract.RuleDrain},
	{name: "offsets are anchored", rule: extract.RuleAnchor, base: extract.RuleConfirm, bend: func(s *schedule) {
		calm(s)
		s.source.Ties, s.source.TieSize = 120, 60
		s.source.Updates = 1
	}},
	{name: "blocks are confirmed", rule: extract.RuleConfirm, bend: func(s *schedule) {
		calm(s)
		s.source.TieOrder, s.source.Silent = extracttest.Physical, 2
		s.source.Ties, s.source.TieSize = 120, 60
	}},
	{name: "passes are repeated where the order changes", rule: extract.RuleStatistical, bend: func(s *schedule) {
		s.source.TieOrder = extracttest.Shuffled
	}},
	{name: "a short page is not the end", rule: extract.RuleEndProof},
	{name: "an anchor with nothing after it is not the end", rule: extract.RuleProbe, bend: func(s *schedule) { s.source.Short = 0.5 }},
	{name: "the cursor stays the lookback behind", rule: extract.RuleFinality},
	{name: "the final prefix is contiguous", rule: extract.RuleContiguous},
	{name: "a Date is taken back to the reading", rule: extract.RuleElapsed, bend: func(s *schedule) {
		s.source.Latency, s.source.Late, s.source.Updates = 6*time.Second, 0.7, 2
	}},
	{name: "a cache's Date is not believed", rule: extract.RuleCached, bend: func(s *schedule) {
		s.source.Stale, s.source.AgeHidden, s.source.NoDate = 0.5, false, false
		s.source.Updates = max(s.source.Updates, 0.5)
	}},
	{name: "the future is no cursor", rule: extract.RuleFuture, bend: func(s *schedule) { s.source.Future, s.source.NoDate = 5, true }},
	{name: "the walk ends at the start of its run", rule: extract.RuleStop},
}

const ruleSchedules = 400

func TestEveryRuleIsMissedWhenItIsTakenOut(t *testing.T) {
	for _, c := range withoutRule {
		t.Run(c.name, func(t *testing.T) {
			for seed := uint64(1); seed <= ruleSchedules; seed++ {
				s := newSchedule(seed)
				if c.bend != nil {
					c.bend(&s)
				}
				e, err := attack(t.Context(), s, walk(c.base|c.rule))
				if err == nil && e.unproven == 0 {
					continue
				}
				t.Logf("seed %d: %v (%d lost in blocks said to be statistical)", seed, err, e.unproven)
				if e, err := attack(t.Context(), s, walk(c.base)); err != nil || e.unproven > 0 {
					t.Errorf("seed %d: with the rule: %v", seed, err)
				}
				return
			}
			t.Errorf("nothing was lost in %d schedules", ruleSchedules)
		})
	}
}

// offsetPaging is what most exporters do: the same filter, offset after
// offset, until a short page; the cursor is the last updated_at.
func offsetPaging(ctx context.Context, s schedule, p pass) (extract.Outcome, error) {
	var out extract.Outcome
	out.Progress = extract.Progress{Mark: p.from, Final: p.from}
	for offset := 0; ; {
		rows, resp, err := naivePage(ctx, s, p, p.from, offset)
		if err != nil {
			return out, err
		}
		naiveProgress(&out, p, rows, resp)
		offset += len(rows)
		if len(rows) < s.pageSize {
			return out, p.sink.Advance(ctx, out.Progress)
		}
	}
}

// bareCursor asks for what is after the last updated_at it has seen.
func bareCursor(ctx context.Context, s schedule, p pass) (extract.Outcome, error) {
	var out extract.Outcome
	out.Progress = extract.Progress{Mark: p.from, Final: p.from}
	for {
		rows, resp, err := naivePage(ctx, s, p, out.Mark, 0)
		if err != nil {
			return out, err
		}
		before := out.Mark
		naiveProgress(&out, p, rows, resp)
		if len(rows) < s.pageSize || out.Mark == before {
			return out, p.sink.Advance(ctx, out.Progress)
		}
	}
}

func naivePage(ctx context.Context, s schedule, p pass, after int64, offset int) (rows []extract.Row, resp extract.Response, err error) {
	q := extract.Query{Limit: s.pageSize, Offset: offset}
	if p.key == extract.ByCreated {
		q.CreatedAfter = &after
	} else {
		q.UpdatedAfter = &after
	}
	resp, err = p.src.Page(ctx, q, func(body []byte, info extract.PageInfo) error {
		rows, err = p.sink.Decode(body, info)
		return err
	})
	if err != nil {
		return nil, resp, err
	}
	return rows, resp, p.sink.Stage(ctx, nil)
}

func naiveProgress(out *extract.Outcome, p pass, rows []extract.Row, resp extract.Response) {
	if out.ReadSince == 0 {
		out.ReadSince = resp.SentAt.UnixMicro()
	}
	for _, r := range rows {
		k := r.Updated
		if p.key == extract.ByCreated {
			k = r.Created
		}
		out.Mark = max(out.Mark, k)
	}
	out.Final = out.Mark
}

func TestWhatOthersDoLosesContacts(t *testing.T) {
	for name, read := range map[string]reader{"offset paging": offsetPaging, "a bare cursor": bareCursor} {
		t.Run(name, func(t *testing.T) {
			lost, played := 0, 0
			for seed := uint64(1); seed <= 60; seed++ {
				s := newSchedule(seed)
				s.source = extracttest.Options{
					Seed: seed, Contacts: 200, Gap: s.source.Gap, Latency: 100 * time.Millisecond,
					Ties: 40, TieSize: 20, Updates: 1,
				}
				s.pageSize, s.kill, s.full, s.oneWalk = 15, 0, 0, true
				played++
				if _, err := attack(t.Context(), s, read); err != nil {
					lost++
				}
				if _, err := attack(t.Context(), s, walk(0)); err != nil {
					t.Errorf("seed %d: the walk, too: %v", seed, err)
				}
			}
			t.Logf("lost contacts in %d of %d schedules of ties and one update a request", lost, played)
			if lost < played*9/10 {
				t.Errorf("lost contacts in %d of %d schedules only: the judge is blind", lost, played)
			}
		})
	}
}

// The lookback is an assumption, and the judge sees when it does not hold.
func TestRowsVisibleLaterThanTheLookbackAreLost(t *testing.T) {
	for seed := uint64(1); seed <= ruleSchedules; seed++ {
		s := newSchedule(seed)
		s.source.Late, s.source.LateBy, s.source.Updates = 0.5, 5*s.lookback, 1
		if e, err := attack(t.Context(), s, walk(0)); err != nil || e.unproven > 0 {
			t.Logf("seed %d: %v", seed, err)
			return
		}
	}
	t.Error("nothing was lost")
}
