package extract

import "context"

// Rule names one rule of the walk, for the tests that take it out.
type Rule = rule

// The rules.
const (
	RuleMarkBehind  = ruleMarkBehind
	RuleOrder       = ruleOrder
	RuleDrain       = ruleDrain
	RuleAnchor      = ruleAnchor
	RuleConfirm     = ruleConfirm
	RuleStatistical = ruleStatistical
	RuleEndProof    = ruleEndProof
	RuleProbe       = ruleProbe
	RuleFinality    = ruleFinality
	RuleContiguous  = ruleContiguous
	RuleElapsed     = ruleElapsed
	RuleCached      = ruleCached
	RuleFuture      = ruleFuture
	RuleStop        = ruleStop

	RuleOneStop    = ruleOneStop
	RuleBorderHeld = ruleBorderHeld
	RuleBorderOnce = ruleBorderOnce
	RuleRemainder  = ruleRemainder
	RuleUnion      = ruleUnion
	RuleEarliest   = ruleEarliest
	RuleFinalOnly  = ruleFinalOnly

	RuleTop      = ruleTop
	RuleTopDepth = ruleTopDepth
	RuleTopAgain = ruleTopAgain
)

// Without takes rules out of a walk.
func (w *Walk) Without(r Rule) { w.without = r }

// Without takes rules out of a scan and its walks.
func (s *Scan) Without(r Rule) { s.without = r }

// Without takes rules out of a reading of the recent.
func (w *Recent) Without(r Rule) { w.without = r }

// RunPeak is Run, and says how many rows were remembered at most.
func (w *Recent) RunPeak(ctx context.Context, sink Sink) (out Outcome, peak int, err error) {
	watch := &peakSink{Sink: sink}
	r, err := w.newRun(watch)
	if err != nil {
		return Outcome{}, 0, err
	}
	watch.run = r
	err = r.run(ctx)
	return r.out, watch.peak, err
}

type peakSink struct {
	Sink
	run  *recentRun
	peak int
}

func (s *peakSink) Advance(ctx context.Context, p Progress) error {
	s.peak = max(s.peak, len(s.run.recent))
	return s.Sink.Advance(ctx, p)
}
