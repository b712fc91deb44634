package cli

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/sluice-etl/sluice/internal/duck"
	"github.com/sluice-etl/sluice/schemas"
)

// thawed is the contract with evolve in the place of freeze, to show what a
// frozen table has no place for.
func thawed(c *schemas.Contract) *schemas.Contract {
	thaw := func(e schemas.Evolution) schemas.Evolution {
		if e == schemas.Freeze {
			return schemas.Evolve
		}
		return e
	}
	out := *c
	out.Columns, out.Undeclared = slices.Clone(c.Columns), maps.Clone(c.Undeclared)
	for i := range out.Columns {
		out.Columns[i].TypeConflicts = thaw(out.Columns[i].TypeConflicts)
	}
	for s, rule := range out.Undeclared {
		rule.NewColumns, rule.TypeConflicts = thaw(rule.NewColumns), thaw(rule.TypeConflicts)
		out.Undeclared[s] = rule
	}
	return &out
}

// unrestricted is the contract without anything that leaves fields out: what is
// decoded under it may be counted, and never shown.
func unrestricted(c *schemas.Contract) *schemas.Contract {
	out := *c
	out.Columns = slices.DeleteFunc(slices.Clone(c.Columns), func(col schemas.ContractColumn) bool {
		return col.Name != schemas.ColID && col.Name != schemas.ColCreatedAt && col.Name != schemas.ColUpdatedAt
	})
	out.Left, out.Renames, out.Select, out.Exclude = nil, nil, nil, nil
	out.Undeclared = maps.Clone(c.Undeclared)
	for s, rule := range out.Undeclared {
		rule.Wanted, rule.Policy = true, schemas.Keep
		rule.NewColumns, rule.TypeConflicts = schemas.Evolve, schemas.Evolve
		out.Undeclared[s] = rule
	}
	return &out
}

// previewColumn is a column of the sample.
type previewColumn struct {
	schemas.Column
	Policy schemas.Policy `json:"policy,omitempty"` // what is stored of values
	New    bool           `json:"new,omitempty"`    // the pipeline's table does not have it yet
	Nulls  int64          `json:"nulls"`            // contacts of the sample without a value
	// Examples are the shortest values, as they would be stored, at most three.
	Examples []string `json:"examples"`
}

const exampleCount = 3

// columns describes the sample's columns but for Sluice's own.
func (s *pageSample) columns() []previewColumn {
	var out []previewColumn
	for i, c := range s.sealed.Table.Columns {
		if c.Origin == schemas.SystemDefined {
			continue
		}
		values := s.sealed.Record.Column(i)
		col := previewColumn{Column: c, New: s.before.Index(c.Name) < 0, Nulls: int64(values.NullN()), Examples: examples(values)}
		if ref, err := schemas.ParseFieldRef(c.Source); err == nil && ref.Scope != schemas.ScopeOverflow {
			col.Policy = s.contract.Rule(ref).Policy
		}
		out = append(out, col)
	}
	return out
}

// examples returns the shortest values of a column: they tell as much as long
// ones. An empty text tells something only where there is nothing else.
func examples(values arrow.Array) []string {
	distinct := map[string]struct{}{}
	for r := range values.Len() {
		if !values.IsNull(r) {
			distinct[values.ValueStr(r)] = struct{}{}
		}
	}
	if len(distinct) > 1 {
		delete(distinct, "")
	}
	sorted := slices.SortedFunc(maps.Keys(distinct), func(x, y string) int {
		return cmp.Or(cmp.Compare(displayWidth(x), displayWidth(y)), strings.Compare(x, y))
	})
	return append([]string{}, sorted[:min(len(sorted), exampleCount)]...)
}

// leftOut is a field of which nothing is stored.
type leftOut struct {
	Field    string `json:"field"`
	Contacts int64  `json:"contacts"` // of the page that have a value of it
	Reason   string `json:"reason"`
}

// leftOut lists the fields that the contract leaves out: those declared, and
// those met in the page.
func (s *pageSample) leftOut() []leftOut {
	values := map[schemas.FieldRef]int64{}
	for _, seen := range s.served {
		var n int64
		for _, k := range seen.Values {
			n += k
		}
		values[seen.Ref()] = n
	}
	for _, col := range s.contract.Left {
		values[col.Ref] += 0 // listed even if the page does not have it
	}
	out := []leftOut{}
	for _, ref := range slices.SortedFunc(maps.Keys(values), schemas.FieldRef.Compare) {
		if reason := whyLeftOut(s.contract, ref); reason != "" {
			out = append(out, leftOut{Field: ref.String(), Contacts: values[ref], Reason: reason})
		}
	}
	for _, field := range slices.Sorted(maps.Keys(s.sealed.Discarded)) {
		ref, err := schemas.ParseFieldRef(field)
		if err != nil {
			continue
		}
		rule := s.contract.Rule(ref)
		reason := fmt.Sprintf("new_columns: discard, line %d", rule.NewColumnsLine)
		if _, has := s.registry.Entry(ref); has {
			reason = fmt.Sprintf("values that do not fit: type_conflicts: discard, line %d", rule.TypeConflictsLine)
		}
		out = append(out, leftOut{Field: field, Contacts: s.sealed.Discarded[field], Reason: reason})
	}
	return out
}

// whyLeftOut says what in the contract leaves a field out, "" for one that it
// lets in.
func whyLeftOut(c *schemas.Contract, ref schemas.FieldRef) string {
	if c.Rule(ref).Wanted {
		return ""
	}
	for _, col := range c.Left {
		if col.Ref == ref && col.Policy == schemas.Drop {
			return fmt.Sprintf("policy: drop, line %d", col.Line)
		}
	}
	for _, p := range c.Exclude {
		if p.Matches(ref) {
			return fmt.Sprintf("exclude, line %d", p.Line)
		}
	}
	if len(c.Select) > 0 && !slices.ContainsFunc(c.Select, func(p schemas.FieldPattern) bool { return p.Matches(ref) }) {
		return "not in select"
	}
	switch ref.Scope {
	case schemas.ScopeCFCustomer:
		return "policy: drop for undeclared customer fields"
	case schemas.ScopeCFTicket:
		return "policy: drop for undeclared ticket fields"
	default:
		return "undeclared: drop"
	}
}

// shownText is a value or key from the source as one line of a terminal:
// nothing in it moves the cursor, hides or turns the order of text around.
func shownText(s string) string {
	if s == "" || s == "NULL" {
		return cell(duck.Value{Text: s})
	}
	return printable(oneLine(s))
}

// share is n of total in whole percent; what is there is not 0%.
func share(n, total int64) string {
	switch percent := n * 100 / max(total, 1); {
	case total == 0:
		return "-"
	case percent == 0 && n > 0:
		return "<1%"
	default:
		return fmt.Sprintf("%d%%", percent)
	}
}
