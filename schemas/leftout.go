package schemas

import (
	"cmp"
	"fmt"
	"slices"
)

// LeftOut is a rule of a contract by which values were left out: new_columns:
// discard of a scope of fields, or type_conflicts: discard of a field. What a
// contract of later lets in again has to be read again.
type LeftOut struct {
	// Rule is RuleNewColumns or RuleTypeConflicts.
	Rule  string `json:"rule"`
	Scope Scope  `json:"scope"`
	// Key is that of the field, of type_conflicts alone.
	Key string `json:"key,omitempty"`
}

// The rules by which values are left out, as a contract spells them.
const (
	RuleNewColumns    = "new_columns"
	RuleTypeConflicts = "type_conflicts"
)

// LetIn reports whether a contract lets in what the rule left out. Under freeze
// nothing comes in.
func (l LeftOut) LetIn(c *Contract) bool {
	if l.Rule == RuleNewColumns {
		return c.Undeclared[l.Scope].NewColumns == Evolve
	}
	rule := c.Rule(FieldRef{l.Scope, l.Key})
	return rule.Wanted && rule.TypeConflicts == Evolve
}

// String names the rule in a message.
func (l LeftOut) String() string {
	if l.Rule == RuleNewColumns {
		return fmt.Sprintf("%s of scope %s", l.Rule, l.Scope)
	}
	return fmt.Sprintf("%s of %s", l.Rule, FieldRef{l.Scope, l.Key})
}

// JoinLeftOut returns all rules of the lists, each once, sorted; nil for none.
func JoinLeftOut(lists ...[]LeftOut) []LeftOut {
	var out []LeftOut
	for _, list := range lists {
		out = append(out, list...)
	}
	slices.SortFunc(out, func(a, b LeftOut) int {
		return cmp.Or(cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Scope, b.Scope), cmp.Compare(a.Key, b.Key))
	})
	return slices.Compact(out)
}
