package transform

import (
	"errors"
	"fmt"
	"slices"

	"github.com/sluice-etl/sluice/schemas"
)

// wanted is Options.BuryField at work. It looks at values as they were served,
// before any column is settled: what the table makes of the field, or that it
// has no column for it, changes nothing.
type wanted struct {
	key, value string
	names      map[schemas.Scope]string // column name of key in each entity that counts
	cols       []*column                // of the fields meant, as they are met
	over       []overValue              // of the record being read, where the chunk has no column
}

// overValue is the value that a field without a column has in a record.
type overValue struct {
	ref   schemas.FieldRef
	rank  int
	match bool
}

// want resolves Options.BuryField.
func (c *Chunk) want(f *FieldFilter) error {
	if f == nil {
		return nil
	}
	w := &wanted{key: f.Key, value: f.Value, names: map[schemas.Scope]string{}}
	for scope, entity := range map[schemas.Scope]string{schemas.ScopeCFCustomer: "customer", schemas.ScopeCFTicket: "ticket"} {
		if f.Entity == "" || f.Entity == entity {
			w.names[scope] = schemas.FieldRef{Scope: scope, Key: f.Key}.ColumnName()
		}
	}
	switch {
	case f.Key == "" || f.Value == "":
		return errors.New("configure decoder: filter by custom field: it needs a key and a value")
	case len(w.names) == 0:
		return fmt.Errorf("configure decoder: filter by custom field %q: entity %q is neither customer nor ticket", f.Key, f.Entity)
	case !c.hasPlace(w):
		return fmt.Errorf("configure decoder: filter by custom field %q: the contract reads none of this entity; list where they stand under custom_fields, such as customer: [custom_fields] or ticket: [%s.custom_fields]",
			f.Key, schemas.TicketField)
	}
	c.wanted = w
	for _, t := range []*table{c.cfCustomer, c.cfTicket} {
		for key, f := range t.fields { // those that the contract declares
			ref := schemas.FieldRef{Scope: t.scope, Key: key}
			if !w.means(ref) {
				continue
			}
			if f.act == actSkip {
				f.act, f.col = actText, c.column(ref, nil)
				f.col.hidden = true
			}
			w.cols = append(w.cols, f.col)
		}
	}
	return nil
}

// hasPlace reports whether custom fields of an entity that counts are read at
// all. A column of the contract may have taken a place.
func (c *Chunk) hasPlace(w *wanted) bool {
	for _, t := range []*table{c.contact, c.ticket} {
		for _, f := range t.fields {
			if _, ok := w.names[scopeOf(f)]; ok {
				return true
			}
		}
	}
	return false
}

// scopeOf returns the scope of the custom fields in a place, "" where f is
// none.
func scopeOf(f *field) schemas.Scope {
	if f.act != actCustom {
		return ""
	}
	return f.inside.scope
}

// means reports whether the filter speaks of a field: one whose key is the
// filter's, or would give the same column.
func (w *wanted) means(ref schemas.FieldRef) bool {
	name, ok := w.names[ref.Scope]
	return ok && (ref.Key == w.key || ref.ColumnName() == name)
}

// is reports whether a value has the text that is asked for. An object or an
// array has none.
func (w *wanted) is(kind uint8, text []byte) bool {
	switch kind {
	case kindString, kindNumber:
		return string(text) == w.value
	case kindTrue:
		return w.value == "true"
	case kindFalse:
		return w.value == "false"
	default:
		return false
	}
}

// note remembers a value that has no column of its own. Between two places of
// one field it decides as column.contest does.
func (w *wanted) note(ref schemas.FieldRef, rank int, kind uint8, text []byte) {
	if !w.means(ref) {
		return
	}
	v := overValue{ref: ref, rank: rank, match: w.is(kind, text)}
	i := slices.IndexFunc(w.over, func(old overValue) bool { return old.ref == ref })
	switch {
	case i < 0:
		w.over = append(w.over, v)
	case rank < w.over[i].rank:
		w.over[i] = v
	}
}

// passesWanted reports whether the record just read has the value.
func (c *Chunk) passesWanted() bool {
	w := c.wanted
	if w == nil {
		return true
	}
	for _, col := range w.cols {
		if col.has(c.row) && w.is(col.kindOf(col.n-1), col.text(col.n-1)) {
			return true
		}
	}
	return slices.ContainsFunc(w.over, func(v overValue) bool { return v.match })
}
