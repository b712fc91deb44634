package views

import (
	"fmt"
	"slices"

	"github.com/sluice-etl/sluice/schemas"
)

// Field is a field of a contact that views reckon with, by the name that its
// column has in the built-in contract. A contract may give the column another
// name; id, created_at and updated_at keep theirs in every contract.
type Field string

// The fields that views know.
const (
	LastMessage Field = "last_message_at"
	Blocked     Field = "blocked"
	Platform    Field = "platform"
	ChatStatus  Field = "chat_status"
	Customer    Field = "ai_customer_id"
	Name        Field = "name"
	Phone       Field = "phone"
	Email       Field = "email"
	Ticket      Field = "active_ticket_v2_id"
	Stage       Field = "active_ticket_v2_current_stage_id"
)

// ref is where the field stands in a contact.
func (f Field) ref() schemas.FieldRef {
	switch f {
	case Ticket:
		return schemas.FieldRef{Scope: schemas.ScopeTicket, Key: "id"}
	case Stage:
		return schemas.FieldRef{Scope: schemas.ScopeTicket, Key: "current_stage_id"}
	default:
		return schemas.FieldRef{Scope: schemas.ScopeContact, Key: string(f)}
	}
}

// wants is the type that the field's column has to have.
func (f Field) wants() schemas.Type {
	switch f {
	case LastMessage:
		return schemas.Timestamp
	case Blocked:
		return schemas.Bool
	default:
		return schemas.String
	}
}

// bears reports whether views can reckon with what a policy stores of the
// field. Some compare it with a value or join by it, and customers are told
// apart by theirs: equal hashes are one customer, equal masks need not be.
func (f Field) bears(p schemas.Policy) bool {
	switch f {
	case Blocked, Platform, ChatStatus, Stage:
		return p == schemas.Keep || p == ""
	case Customer:
		return p != schemas.Mask
	default:
		return true
	}
}

// column returns the table's column of the field, whatever its name and type. A
// column that does not say what it is filled from, as those of a table that was
// read back from a warehouse, goes by its name.
func (f Field) column(t schemas.Table) (c schemas.Column, ok bool) {
	source := f.ref().String()
	i := slices.IndexFunc(t.Columns, func(c schemas.Column) bool {
		return c.Source == source && c.Origin != schemas.MisfitText && c.Origin != schemas.SystemDefined
	})
	if i < 0 {
		if i = t.Index(string(f)); i < 0 {
			return c, false
		}
		if _, err := schemas.ParseFieldRef(t.Columns[i].Source); err == nil {
			return c, false // another field has been given its name
		}
	}
	return t.Columns[i], true
}

// Find returns the table's column of a field. Where views cannot reckon with it,
// why says so, in words that follow the name of a view.
func Find(t schemas.Table, f Field) (c schemas.Column, why string) {
	c, ok := f.column(t)
	switch {
	case !ok:
		return c, fmt.Sprintf("the table has no column of %s", f.path())
	case c.Policy == schemas.Drop:
		return c, fmt.Sprintf("the contract leaves out %s", f.path())
	case c.Type != f.wants():
		return c, fmt.Sprintf("column %s is %s, not %s", c.Name, c.Type, f.wants())
	case !f.bears(c.Policy):
		return c, fmt.Sprintf("column %s has policy %s", c.Name, c.Policy)
	default:
		return c, ""
	}
}

// ColumnName is the name of the column of a field, that of the field where there
// is none.
func ColumnName(t schemas.Table, f Field) string {
	if c, ok := f.column(t); ok {
		return c.Name
	}
	return string(f)
}

// path is the field as a contract writes it.
func (f Field) path() string {
	ref := f.ref()
	if ref.Scope == schemas.ScopeTicket {
		return schemas.TicketField + "." + ref.Key
	}
	return ref.Key
}

// Lacks says why a view over the table cannot be as it would be, empty where it
// can: what is the matter with the first of the fields that it cannot reckon
// with.
func Lacks(t schemas.Table, fields ...Field) string {
	for _, f := range fields {
		if _, why := Find(t, f); why != "" {
			return why
		}
	}
	return ""
}

// DateName is the name of the day that views add for a timestamp column, empty
// for a column without one: that of x_at is x_date. The last message's day has
// its name also where the column has another one that gives none.
func DateName(c schemas.Column) string {
	if c.Type != schemas.Timestamp || c.Origin == schemas.SystemDefined {
		return ""
	}
	if base := dateBase(c.Name); base != "" {
		return base + "_date"
	}
	if c.Source == LastMessage.ref().String() {
		return dateBase(string(LastMessage)) + "_date"
	}
	return ""
}
