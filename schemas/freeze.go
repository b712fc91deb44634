package schemas

import "fmt"

// FreezeError is a value that a contract with new_columns or type_conflicts:
// freeze has no place for. It names no value.
type FreezeError struct {
	Contract string // the contract's file
	Line     int    // where the file says so, from 1
	Contact  string // id of the first contact, in order of arrival, that has such a value
	Field    string // as FieldRef.String prints it
	// Column is the field's column, or the one that a new field would take.
	Column string
	// Have is the type of the column, empty for a new field. Got is a type that
	// would hold the value, Kind what it is.
	Have, Got Type
	Kind      Kinds
	New       bool // the table does not have the field
	// Twice says that places of the contact give the field different values, of
	// which a column holds one.
	Twice bool
}

func (e *FreezeError) Error() string {
	switch {
	case e.New:
		return fmt.Sprintf("contact %s: field %s is new (%s), and new_columns is freeze", e.Contact, e.Field, e.Kind.words())
	case e.Twice:
		return fmt.Sprintf("contact %s: field %s has different values in different places, column %s (%s) holds one, and type_conflicts is freeze",
			e.Contact, e.Field, e.Column, e.Have)
	default:
		return fmt.Sprintf("contact %s: field %s is %s (%s), column %s is %s, and type_conflicts is freeze",
			e.Contact, e.Field, e.Kind.words(), e.Got, e.Column, e.Have)
	}
}

// Hint says what to do, and in which line.
func (e *FreezeError) Hint() string {
	at := fmt.Sprintf("nothing was committed. In %s:%d, ", e.Contract, e.Line)
	if e.New {
		return at + fmt.Sprintf("new_columns: evolve gives it column %s (%s), discard leaves it out; or declare a column for it, or list it under exclude", e.Column, e.Got)
	}
	return at + fmt.Sprintf("type_conflicts: evolve keeps such values as text in %s, discard leaves them out", e.Column+misfitSuffix)
}
