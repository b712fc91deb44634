package run

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/schemas"
)

// FrozenError is a run that was to change no table and has found columns which
// the tables lack. Nothing was committed; what was read is kept.
type FrozenError struct {
	Pipeline string
	Columns  []string // sorted
}

func (e *FrozenError) Error() string {
	shown := e.Columns
	more := ""
	if len(shown) > 10 {
		more = fmt.Sprintf(" and %d more", len(shown)-10)
		shown = shown[:10]
	}
	return fmt.Sprintf("run %s --frozen: the tables would get new columns: %s%s", e.Pipeline, strings.Join(shown, ", "), more)
}

// Hint says what to do.
func (e *FrozenError) Hint() string {
	return "nothing was committed, and what was read is kept: a run without --frozen adds the columns and goes on with it; the contract's `new_columns: discard`, or `exclude`, leaves them out"
}

// checkFrozen refuses columns that the tables do not have yet, where no table
// may change.
func (r *syncRun) checkFrozen(registry *schemas.Registry) error {
	if !r.job.Frozen {
		return nil
	}
	known, err := schemas.NewRegistry(r.job.Contract, r.st.Entries(r.job.Contract))
	if err != nil {
		return fmt.Errorf("restore column registry: %w", err)
	}
	before := known.Table()
	var added []string
	for _, c := range registry.Table().Columns {
		if !slices.ContainsFunc(before.Columns, func(b schemas.Column) bool { return b.Name == c.Name }) {
			added = append(added, c.Name)
		}
	}
	if len(added) == 0 {
		return nil
	}
	slices.Sort(added)
	return &FrozenError{Pipeline: r.job.Pipeline, Columns: added}
}
