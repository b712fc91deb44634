package transform_test

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-etl/sluice/schemas"
	"github.com/sluice-etl/sluice/transform"
)

// What the oracle knows of a contract's rules, in its plain way.

// obey takes out of a contact what the contract does not want.
func (f *flat) obey(c *schemas.Contract) {
	for ref := range f.values {
		if !c.Rule(ref).Wanted {
			delete(f.values, ref)
			delete(f.lost, ref)
		}
	}
}

var oracleNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

// oracleFits reports whether a declared column holds a value; sure is false
// where the oracle does not know.
func oracleFits(t schemas.Type, n node) (fits, sure bool) {
	text := n.kind == '"'
	switch t {
	case schemas.String:
		return text, true
	case schemas.JSON:
		return true, true
	case schemas.Bool:
		return n.text == "true" || n.text == "false", true
	case schemas.Timestamp:
		return isTime(n), true
	case schemas.Date:
		_, ok := oracleTime(n.text + "T00:00:00Z")
		return text && ok, true
	case schemas.Int64:
		if !text && n.kind != '0' || !oracleNumber.MatchString(n.text) || n.text == "-0" {
			return false, true
		}
		_, err := strconv.ParseInt(n.text, 10, 64)
		return err == nil, true
	case schemas.Float64:
		if !text && n.kind != '0' || !oracleNumber.MatchString(n.text) {
			return false, true
		}
		return false, false // whether it is exact, the decoder's own tests say
	default:
		return false, false
	}
}

// uncounted names the fields of which not as many values were counted as left
// out as the oracle missed.
func uncounted(s *transform.Sealed, missed map[schemas.FieldRef]int64) string {
	var out []string
	for field, n := range s.Discarded {
		if ref, err := schemas.ParseFieldRef(field); err != nil || missed[ref] != n {
			out = append(out, field)
		}
	}
	for ref, n := range missed {
		if s.Discarded[ref.String()] != n {
			out = append(out, ref.String())
		}
	}
	return strings.Join(out, " ")
}

func hasSource(t schemas.Table, ref schemas.FieldRef) bool {
	return slices.ContainsFunc(t.Columns, func(c schemas.Column) bool { return c.Source == ref.String() })
}
