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
