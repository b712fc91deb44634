package load

import (
	"context"

	"github.com/sluice-etl/sluice/schemas"
)

// The kinds of resources, in the order in which they depend on each other.
const (
	KindDataset = "dataset"
	KindTable   = "table"
	KindView    = "view"
)

// Resource is a thing at a destination that a plan speaks of: what its settings
// and the table's columns ask for, beside what stands there.
type Resource struct {
	Kind string
	// Name is the thing's name within the destination, empty for a dataset.
	Name string
	// Want is what it is to be like, nil where nothing asks for it: a view that an
	// earlier version or setting made. Have is what it is like, nil where there is
	// none. Names are unique within each; the order is the one to read them in. An
	// attribute that Have alone has is somebody else's: it is left as it is.
	Want, Have []Attribute
	// Holds is what a table holds now, as far as that is known without reading it.
	Holds Holdings
	// Effects say in plain words what making, changing or replacing it does and
	// costs, a sentence a line; nil where that is plain.
	Effects []string
	// Blocked says that it is not as it is wanted and that neither Converge nor
	// Replace can make it so, as where something else has the name: the Effects say
	// why, and what helps.
	Blocked bool
}

// Attribute is a setting of a resource.
type Attribute struct {
	// Name is a word, or column.NAME for a column of a table, whose value is its
	// type, and "required" after it where it may not be null.
	Name, Value string
	// Forces says, of what is wanted, that it cannot be changed in place: the
	// resource has to be replaced.
	Forces bool
	// Usual says, of what is wanted, that it is listed only where something else has
	// changed it: Sluice leaves it so wherever it makes or changes the resource.
	Usual bool
}

// ColumnAttribute is the name of the attribute of a column.
func ColumnAttribute(column string) string { return "column." + column }

// ColumnAttributes are the attributes of a table's columns, in table order.
func ColumnAttributes(t schemas.Table) []Attribute {
	out := make([]Attribute, 0, len(t.Columns))
	for _, c := range t.Columns {
		value := string(c.Type)
		if c.Required {
			value += " required"
		}
		out = append(out, Attribute{Name: ColumnAttribute(c.Name), Value: value})
	}
	return out
}

// Holdings is how much a table holds; zeros where that is not known.
type Holdings struct {
	Contacts int64 `json:"contacts"` // rows of the current table, tombstones included
	Versions int64 `json:"versions"` // rows of history
	Files    int64 `json:"files,omitempty"`
	Bytes    int64 `json:"bytes"`
}

// Surveyor is a Loader that can say what stands at its destination.
type Surveyor interface {
	Loader
	// Survey returns the resources of the loader's table, in order of kind and
	// then name: the dataset, if there are datasets, the tables (that of the
	// contacts with its history as one; that of the stages) and the views. table
	// has every column that is known, those of the contract and all that were
	// discovered. It changes nothing and reads no rows. An interrupted commit is
	// left as it is. Where the table belongs to something else it fails as Check
	// does; where it has to be replaced it does not, but says so by an attribute
	// that Forces, and where nothing can be done, as for a column of another type, by
	// Blocked. lineage is empty where there was no run yet. It blocks until the
	// destination has answered or ctx ends.
	Survey(ctx context.Context, lineage string, table schemas.Table) ([]Resource, error)
}

// Converger is a Loader that can make and change resources without a package.
type Converger interface {
	Loader
	// Converge makes resources, as Survey lists them, what they are wanted to be:
	// datasets, tables without rows and views are made, columns added, settings
	// changed in place; a view that nothing wants is removed. It never drops or
	// retypes a column, removes rows or replaces a table: a *ReplaceError where
	// Replace does it, another error where nothing does. It is idempotent, and what a Commit would make afterwards is
	// what it has made. No Commit runs meanwhile. Killed at any step, the next
	// Converge or Commit completes it. It blocks until done or ctx ends.
	Converge(ctx context.Context, c Convergence) error
}

// Convergence says what to make.
type Convergence struct {
	Lineage string        // of the pipeline's state, which has been saved
	Table   schemas.Table // as for Survey
	// Only names the resources to look after; the others stay as they are. nil:
	// all of them.
	Only []ResourceName
}

// Wants reports whether a resource is to be looked after.
func (c Convergence) Wants(kind, name string) bool {
	if c.Only == nil {
		return true
	}
	for _, o := range c.Only {
		if o.Kind == kind && o.Name == name {
			return true
		}
	}
	return false
}

// ResourceName names a resource within its destination.
type ResourceName struct{ Kind, Name string }

// Destroyer is a Loader that can remove its table for good.
type Destroyer interface {
	Loader
	// Destroy removes the table of the contacts with its history, its records of
	// commits and the views over it; with d.Stages the table of the stages too. A
	// dataset, a directory or a database file that others may use stays, and so
	// does everything that Sluice did not write. What belongs to another lineage
	// is ErrForeign. It is idempotent; killed at any step, or failed, the next
	// Destroy does the rest, and until then Check either fails or finds the table
	// wholly there or wholly gone: never one that has lost a part. No Commit runs
	// meanwhile. It blocks until done or ctx ends.
	Destroy(ctx context.Context, d Destruction) error
}

// Destruction says what to remove.
type Destruction struct {
	Lineage string
	Stages  bool // the table of the stages too: no other pipeline uses it
}
