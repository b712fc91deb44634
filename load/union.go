package load

import (
	"slices"
	"strings"
)

// Union is a view over the tables of several accounts in one destination, which
// the loader of each of them keeps: it reads the main view of each table that
// exists, and has every column that one of them has, null where another lacks it.
type Union struct {
	// Name is the view's. Empty: there is none.
	Name string
	// Tables are the siblings, the loader's own table included, in any order; also
	// where there is no view, for there may have been one.
	Tables []string
}

// Sorted returns the siblings by name, each once: the order in which the view
// reads them, whoever makes it.
func (u Union) Sorted() []string {
	return slices.Compact(slices.Sorted(slices.Values(u.Tables)))
}

// unionTables is the attribute that views over accounts alone have.
const unionTables = "tables"

// IsUnion reports whether a resource is a view over accounts, wanted or not.
func IsUnion(r Resource) bool {
	return r.Kind == KindView && slices.ContainsFunc(slices.Concat(r.Want, r.Have), func(a Attribute) bool { return a.Name == unionTables })
}

// Attributes are those of the view as it is wanted: over all of its tables, with
// all their columns.
func (u Union) Attributes() []Attribute { return UnionAttributes(u.Sorted(), true) }

// UnionAttributes are those of a view over accounts that reads tables. fresh is
// false where one of them has a column that the view lacks.
func UnionAttributes(tables []string, fresh bool) []Attribute {
	columns := "all"
	if !fresh {
		columns = "of before"
	}
	return []Attribute{{Name: "columns", Value: columns}, {Name: unionTables, Value: strings.Join(slices.Sorted(slices.Values(tables)), ", ")}}
}
