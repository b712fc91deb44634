package run

import (
	"cmp"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/sluice-etl/sluice/schemas"
)

// columnPolicies returns what the registry's contract stores of the values of
// each column, where it does not keep them.
func columnPolicies(reg *schemas.Registry) map[string]schemas.Policy {
	c := reg.Contract()
	out := map[string]schemas.Policy{}
	for _, col := range slices.Concat(c.Columns, c.Left) {
		if col.Policy != schemas.Keep {
			out[col.Name] = col.Policy
		}
	}
	for _, e := range reg.Entries() {
		policy := cmp.Or(policyNow(c, e.Ref()), schemas.Keep)
		if len(c.Inside(e.Ref())) > 0 {
			policy = c.Stored(e.Ref())
		}
		if e.Scope == schemas.ScopeOverflow {
			policy = overflowPolicy(c)
		}
		if policy != schemas.Keep {
			out[e.Column], out[e.MisfitColumn()] = policy, policy
		}
	}
	return out
}

// overflowPolicy is Drop where the column of fields without one has members of
// which some are protected: they are not told apart any more.
func overflowPolicy(c *schemas.Contract) schemas.Policy {
	for _, rule := range c.Undeclared {
		if rule.Policy != schemas.Keep {
			return schemas.Drop
		}
	}
	return schemas.Keep
}

// mayStay reports whether a stored value of one row is what its policy leaves. A
// contact that is gone was not read since the contract changed: its row may
// hold the values as they came, and these go into no new file.
func mayStay(policy schemas.Policy, col arrow.Array) bool {
	if policy == "" || policy == schemas.Keep || col.IsNull(0) {
		return true
	}
	texts, ok := col.(*array.String)
	return ok && leaves(policy, texts.Value(0))
}

// leaves reports whether a text is one that a policy leaves of a value.
func leaves(policy schemas.Policy, text string) bool {
	for line := range strings.SplitSeq(strings.Trim(text, `"`), "\n") {
		switch {
		case line == "":
		case policy == schemas.Hash && isHash(line):
		case policy == schemas.Mask && strings.HasPrefix(line, "***"):
		default:
			return false
		}
	}
	return true
}

// hiddenValue stands for a value that a comparison does not show.
const hiddenValue = "(hidden: not as its policy has it)"

// shown is a stored value as a comparison may show it: one that its policy does
// not leave, as plain text from before, or put there by somebody else, is hidden.
func shown(policy schemas.Policy, text string) string {
	if policy == "" || policy == schemas.Keep || leaves(policy, text) {
		return text
	}
	return hiddenValue
}

// isHash reports whether text looks like what schemas.Hash makes.
func isHash(text string) bool {
	return len(text) == 64 && strings.Trim(text, "0123456789abcdef") == ""
}
