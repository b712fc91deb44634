package load

import (
	"context"
	"fmt"
)

// ReplaceError is a table that cannot be brought to its settings in place: it
// has to be made anew, which nobody does unasked. A loader's Check and Commit
// return it (errors.As), and so may whatever else reads or changes the table.
// Nothing was changed.
type ReplaceError struct {
	// Table names the table as people do, as project.dataset.table.
	Table string
	// Attribute is the setting that the table was made with and cannot change,
	// From its value in the table, To that of the destination.
	Attribute, From, To string
	// Detail is what replacing the table does and costs, a sentence a line.
	Detail string
}

func (e *ReplaceError) Error() string {
	return fmt.Sprintf("table %s has to be replaced: %s %q -> %q", e.Table, e.Attribute, e.From, e.To)
}

// Hint says what to do.
func (e *ReplaceError) Hint() string {
	return "`sluice plan` shows what that does, `sluice apply` does it once it is approved; or set " + e.Attribute + " back"
}

// Replacer is a Loader that can make its table anew under other settings.
type Replacer interface {
	Loader
	// Replace makes a table of lineage anew in the form that the destination's
	// settings ask for, from what the destination itself holds: every contact,
	// tombstones included, as the order of Loader has it, and every version.
	// Where Check returns no *ReplaceError there is nothing to do.
	//
	// It is called when somebody has approved it, instead of Commit: no Commit
	// runs meanwhile. It blocks until the table is replaced or ctx ends. Killed at
	// any step, or failed, it has lost nothing: until the next Replace is through,
	// Check and Commit return a *ReplaceError, also where the settings are what
	// they were. Readers see the old table or the new one, or for a moment that
	// there is none, and never a part of either.
	Replace(ctx context.Context, lineage string) (Replaced, error)
}

// Replaced is what Replace has done; the zero value is nothing.
type Replaced struct {
	Contacts int64 `json:"contacts"` // rows of the new table, tombstones included
}
