package extract

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
)

// Without takes rules out of a walk.
func (w *Walk) Without(r Rule) { w.without = r }
