package schemas

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// mostFreezes is how many fields a message about a freeze names.
const mostFreezes = 5

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
	// Others are further fields of which that is so, as JoinFreezes has them.
	Others []*FreezeError
}

// JoinFreezes makes one of the *FreezeError among errs: that of the first field,
// by name, with the others beside it, each field once, by its least contact. So
// windows that are read at once and meet several have one message, whichever
// came first. Errors that are no freeze are joined to it. Where there is at most
// one freeze, errs are joined as they are, but that one which two of them wrap is
// named by the first alone.
func JoinFreezes(errs ...error) error {
	var frozen []*FreezeError
	var rest, all []error
	for _, err := range errs {
		var f *FreezeError
		switch {
		case !errors.As(err, &f):
			rest = append(rest, err)
		case slices.Contains(frozen, f):
			continue
		default:
			frozen = append(frozen, f)
		}
		all = append(all, err)
	}
	if len(frozen) < 2 {
		return errors.Join(all...)
	}
	slices.SortFunc(frozen, func(a, b *FreezeError) int {
		return cmp.Or(cmp.Compare(a.Field, b.Field), cmp.Compare(a.Contact, b.Contact))
	})
	frozen = slices.CompactFunc(frozen, func(a, b *FreezeError) bool { return a.Field == b.Field })
	first := *frozen[0]
	first.Others = frozen[1:]
	return errors.Join(append([]error{&first}, rest...)...)
}

func (e *FreezeError) Error() string {
	texts := []string{e.one()}
	for _, o := range e.Others[:min(len(e.Others), mostFreezes-1)] {
		texts = append(texts, o.one())
	}
	if left := len(e.Others) + 1 - len(texts); left > 0 {
		texts = append(texts, fmt.Sprintf("and %d more fields", left))
	}
	return strings.Join(texts, "; ")
}

// one is the message about one field.
func (e *FreezeError) one() string {
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

// Hint says what to do, and in which lines.
func (e *FreezeError) Hint() string {
	hint := fmt.Sprintf("nothing was committed. In %s:%d, ", e.Contract, e.Line) + e.remedy()
	for _, o := range e.Others[:min(len(e.Others), mostFreezes-1)] {
		hint += fmt.Sprintf(". For %s in line %d, %s", o.Field, o.Line, o.remedy())
	}
	return hint
}

// remedy says what the line may say instead.
func (e *FreezeError) remedy() string {
	if e.New {
		return fmt.Sprintf("new_columns: evolve gives it column %s (%s), discard leaves it out; or declare a column for it (with policy: drop to leave it out), or list it under exclude", e.Column, e.Got)
	}
	return fmt.Sprintf("type_conflicts: evolve keeps such values as text in %s, discard leaves them out", e.Column+misfitSuffix)
}
