package cli

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/internal/run"
)

// unfit says of which columns values stand as text beside, and of which fields
// values were left out.
func unfit(row func(label, format string, args ...any), s run.Summary) {
	if n, columns := most(s.Misfits, "__text"); n > 0 {
		row("misfits", "%s not of the type of the column, stored as text beside it: %s", counted(n, "value", "values"), columns)
	}
	if n, fields := most(s.Discarded, ""); n > 0 {
		row("discarded", "%s that the contract has no place for: %s", counted(n, "value", "values"), fields)
	}
}

// most returns the sum of the counts, and lists the largest by name.
func most(counts map[string]int64, suffix string) (sum int64, list string) {
	const listed = 5
	names := slices.SortedFunc(maps.Keys(counts), func(x, y string) int {
		return cmp.Or(cmp.Compare(counts[y], counts[x]), cmp.Compare(x, y))
	})
	var parts []string
	for i, name := range names {
		sum += counts[name]
		if i < listed {
			parts = append(parts, printable(cut(oneLine(name), 60))+suffix+" "+count(counts[name]))
		}
	}
	if more := len(names) - listed; more > 0 {
		parts = append(parts, "and "+count(more)+" more")
	}
	return sum, strings.Join(parts, ", ")
}
