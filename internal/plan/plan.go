// Package plan says what has to change for destinations to be as the
// configuration asks for them. It is pure: it looks at nothing itself.
package plan

import (
	"cmp"
	"fmt"
	"slices"
)

// Action is what is done to a resource.
type Action string

// Replace makes a resource anew, because it cannot be changed where it is.
const Replace Action = "replace"

// Mark is what stands before a resource that the action is for.
func (a Action) Mark() string {
	if a == Replace {
		return "-/+"
	}
	return "?"
}

// Plan is a list of changes, in the order of their addresses.
type Plan struct {
	Changes []Change
}

// Change is what becomes of one resource.
type Change struct {
	// Address names the resource, as TableAddress does.
	Address    string
	Action     Action
	Attributes []Attribute
	// Effects say in plain words what the change does and costs, one a line.
	Effects []string
}

// Attribute is a setting of a resource that changes.
type Attribute struct {
	Name, From, To string
	// Forces says that the setting cannot change in place.
	Forces bool
}

// TableAddress names a table of a destination.
func TableAddress(destination, table string) string {
	return "destination." + destination + ".table." + table
}

// New returns a plan of the changes. Two changes of one address are an error:
// nobody could say which comes first.
func New(changes []Change) (Plan, error) {
	p := Plan{Changes: slices.Clone(changes)}
	slices.SortStableFunc(p.Changes, func(a, b Change) int { return cmp.Compare(a.Address, b.Address) })
	for i := 1; i < len(p.Changes); i++ {
		if p.Changes[i].Address == p.Changes[i-1].Address {
			return Plan{}, fmt.Errorf("plan changes: %s would change twice", p.Changes[i].Address)
		}
	}
	return p, nil
}

// Empty reports whether there is nothing to do.
func (p Plan) Empty() bool { return len(p.Changes) == 0 }

// Count is how many changes have an action.
func (p Plan) Count(a Action) int {
	n := 0
	for _, c := range p.Changes {
		if c.Action == a {
			n++
		}
	}
	return n
}
