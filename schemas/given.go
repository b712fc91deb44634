package schemas

import "fmt"

// NameError is a name that a contract gives and that cannot be given any more:
// the tables have the field under another name, or another field under it.
type NameError struct {
	Contract string // the contract's file
	Line     int    // where it gives the name, from 1
	Field    string // as FieldRef.String prints it
	Column   string // the name given
	// Has is the name that the field has; empty where Holder, another field, has
	// the name given.
	Has, Holder string
}

func (e *NameError) Error() string {
	if e.Has != "" {
		return fmt.Sprintf("%s:%d: field %s is to be column %s, and is column %s already", e.Contract, e.Line, e.Field, e.Column, e.Has)
	}
	return fmt.Sprintf("%s:%d: field %s is to be column %s, and that is the column of field %s already", e.Contract, e.Line, e.Field, e.Column, e.Holder)
}

// Hint says what to do.
func (e *NameError) Hint() string {
	if e.Has != "" {
		return fmt.Sprintf("the names of columns stay for ever, since tables have them: take the name %s away or write %s; a pipeline with another name and table can begin with other names", e.Column, e.Has)
	}
	return fmt.Sprintf("the names of columns stay for ever, since tables have them: choose another name than %s", e.Column)
}

// TypeError is a type that a contract declares for a field which the tables have
// with another one.
type TypeError struct {
	Contract string // the contract's file
	Line     int    // where it declares the column, from 1
	Field    string // as FieldRef.String prints it
	Column   string // of the tables
	Has      Type   // of the tables
	Declared Type
}

func (e *TypeError) Error() string {
	return fmt.Sprintf("%s:%d: field %s is declared as %s, and is column %s of type %s already", e.Contract, e.Line, e.Field, e.Declared, e.Column, e.Has)
}

// Hint says what to do.
func (e *TypeError) Hint() string {
	return fmt.Sprintf("the types of columns stay for ever, since tables have them: declare %s as %s; a pipeline with another name and table can begin with other types", e.Column, e.Has)
}

// given is a name that the contract gives to a field, whether the table has
// the field or not.
type given struct {
	column string
	line   int
}

// givenNames returns the names of declared and renamed columns, those that are
// left out included: they may be let in again.
func givenNames(c *Contract) map[FieldRef]given {
	out := make(map[FieldRef]given, len(c.Columns)+len(c.Left)+len(c.Renames))
	for _, cols := range [][]ContractColumn{c.Columns, c.Left} {
		for _, col := range cols {
			out[col.Ref] = given{col.Name, col.Line}
		}
	}
	for _, r := range c.Renames {
		out[r.Ref] = given{r.Column, r.Line}
	}
	return out
}

// mayKeep reports what is wrong with an entry, given the names of the contract.
func (r *Registry) mayKeep(e RegistryEntry) error {
	ref := e.Ref()
	name, isGiven := r.given[ref]
	col, declared := r.declared[ref]
	switch _, out := r.left[ref]; {
	case isGiven && !out && name.column != e.Column:
		return &NameError{Contract: r.contract.Name, Line: name.line, Field: ref.String(), Column: name.column, Has: e.Column}
	case declared && col.Type != e.Type:
		return &TypeError{Contract: r.contract.Name, Line: name.line, Field: ref.String(), Column: e.Column, Has: e.Type, Declared: col.Type}
	}
	holder, ok := r.taken[e.Column]
	if !ok || holder == ref {
		return nil
	}
	if _, settled := r.entries[holder]; !settled {
		at := r.given[holder]
		return &NameError{Contract: r.contract.Name, Line: at.line, Field: holder.String(), Column: e.Column, Holder: ref.String()}
	}
	return fmt.Errorf("column %s belongs to field %q", e.Column, holder.String())
}
