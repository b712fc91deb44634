package views

import "github.com/sluice-etl/sluice/schemas"

// Suits reports whether the views can reckon with a column. A contract may
// declare a column that they know with another type than the built-in one has;
// they then do without it, as where there is none. Columns that they know
// nothing of suit.
func Suits(c schemas.Column) bool {
	switch c.Name {
	case "last_message_at":
		return c.Type == schemas.Timestamp
	case "blocked":
		return c.Type == schemas.Bool
	case "platform", "chat_status", "ai_customer_id", "name", "phone", "email", "active_ticket_v2_id", colStage:
		return c.Type == schemas.String
	default:
		return true
	}
}

// suit reports whether the table has all of the columns, in types that the
// views know.
func (w *writer) suit(columns ...string) bool {
	for _, name := range columns {
		if i := w.o.Columns.Index(name); i < 0 || !Suits(w.o.Columns.Columns[i]) {
			return false
		}
	}
	return true
}
