package extract

// Rule names one rule of the walk, for the tests that take it out.
type Rule = rule

// Rules are all of them, by name.
var Rules = map[string]Rule{
	"mark stays behind":     ruleMarkBehind,
	"order is checked":      ruleOrder,
	"ties are drained":      ruleDrain,
	"offsets are anchored":  ruleAnchor,
	"blocks are confirmed":  ruleConfirm,
	"passes are repeated":   ruleStatistical,
	"the end is shown":      ruleEndProof,
	"the end is probed":     ruleProbe,
	"finality":              ruleFinality,
	"contiguous prefix":     ruleContiguous,
	"Date is taken back":    ruleElapsed,
	"caches are noticed":    ruleCached,
	"future is no cursor":   ruleFuture,
	"ends at the run start": ruleStop,
}

// Without takes rules out of a walk.
func (w *Walk) Without(r Rule) { w.without = r }
