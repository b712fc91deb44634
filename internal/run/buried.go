package run

import (
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
		policy := policyNow(c, e.Ref())
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
	if !ok {
		return false
	}
	for line := range strings.SplitSeq(strings.Trim(texts.Value(0), `"`), "\n") {
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

// isHash reports whether text looks like what schemas.Hash makes.
func isHash(text string) bool {
	return len(text) == 64 && strings.Trim(text, "0123456789abcdef") == ""
}
