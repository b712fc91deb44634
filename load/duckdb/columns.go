package duckdb

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/sluice-etl/sluice/load/views"
	"github.com/sluice-etl/sluice/schemas"
)

// tableChange is what a package does to a table's columns.
type tableChange struct {
	table     schemas.Table    // afterwards
	added     []schemas.Column // in table order
	described []schemas.Column // with another description than before, added ones included
}

// change returns the table after a package: the package's columns in its
// order, and those only the table has before the system columns, by name.
// Nothing is dropped; a column whose type changed is an error, because types
// never change in place.
func change(stored, incoming schemas.Table) (tableChange, error) {
	out := tableChange{table: schemas.Table{Columns: slices.Clone(incoming.Columns)}}
	for i := range out.table.Columns {
		c := &out.table.Columns[i]
		k := stored.Index(c.Name)
		switch {
		case k < 0:
			// Only what the merge relies on is NOT NULL in the database.
			out.added = append(out.added, *c)
		case views.DuckType(stored.Columns[k].Type) != views.DuckType(c.Type):
			return tableChange{}, &Error{
				Message: fmt.Sprintf("column %s is %s in the table and %s in the package", c.Name, stored.Columns[k].Type, c.Type),
				hint:    retypeHint,
			}
		}
		if k < 0 && c.Description != "" || k >= 0 && stored.Columns[k].Description != c.Description {
			out.described = append(out.described, *c)
		}
	}
	var extra []schemas.Column
	for _, c := range stored.Columns {
		if incoming.Index(c.Name) < 0 {
			extra = append(extra, c)
		}
	}
	slices.SortFunc(extra, func(a, b schemas.Column) int { return cmp.Compare(a.Name, b.Name) })
	system := slices.IndexFunc(out.table.Columns, func(c schemas.Column) bool { return c.Origin == schemas.SystemDefined })
	if system < 0 {
		system = len(out.table.Columns)
	}
	out.table.Columns = slices.Insert(out.table.Columns, system, extra...)
	return out, nil
}

// needed are the columns that the merge relies on, with their types.
func needed() map[string]schemas.Type {
	need := map[string]schemas.Type{schemas.ColID: schemas.String, schemas.ColCreatedAt: schemas.Timestamp, schemas.ColUpdatedAt: schemas.Timestamp}
	for _, c := range schemas.SystemColumns() {
		need[c.Name] = c.Type
	}
	return need
}

// checkTable refuses a table that lacks a column the merge relies on.
func checkTable(t schemas.Table) error {
	need := needed()
	seen := make(map[string]bool, len(t.Columns))
	for _, c := range t.Columns {
		if seen[c.Name] {
			return fmt.Errorf("check package: column %s appears twice", c.Name)
		}
		seen[c.Name] = true
		if typ, ok := need[c.Name]; ok && views.DuckType(c.Type) != views.DuckType(typ) {
			return fmt.Errorf("check package: column %s is %s, want %s", c.Name, c.Type, typ)
		}
		delete(need, c.Name)
	}
	for name := range need {
		return fmt.Errorf("check package: no column %s", name)
	}
	return nil
}

// definition is a column as CREATE TABLE takes it.
func definition(c schemas.Column) string {
	s := views.QuoteName(c.Name) + " " + views.DuckType(c.Type)
	if _, ok := needed()[c.Name]; ok && c.Name != schemas.ColDeletedAt {
		s += " NOT NULL"
	}
	return s
}
