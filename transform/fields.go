package transform

import (
	"encoding/binary"
	"strings"
	"unicode/utf8"

	"github.com/sluice-etl/sluice/schemas"
)

// action says what a field's value is read as.
type action uint8

const (
	actText     action = iota // a value of any kind, kept as text
	actTime                   // a declared timestamp
	actTicket                 // the active ticket: its members are fields of their own
	actCustom                 // a place of custom fields
	actOverflow               // beyond the number of fields that a chunk holds
)

// field is a key that objects of a table have had.
type field struct {
	key    string // unescaped
	quoted string // how the key is usually served: "key": ; empty where it needs escapes
	act    action
	col    *column
	inside *table // of the members (actTicket) or custom fields (actCustom)
	rank   int    // of the place (actCustom)

	next *field // what followed last time; none at first
	seen uint64 // serial of the last object that had the key

	// The first and last eight bytes of quoted (what is short, in head under
	// mask), to compare without a call.
	head, mask, tail uint64
}

// quote sets the served form of the key.
func (f *field) quote() {
	f.quoted = `"` + f.key + `":`
	padded := append([]byte(f.quoted), 0, 0, 0, 0, 0, 0, 0, 0)
	f.mask = ^uint64(0)
	if n := len(f.quoted); n < 8 {
		f.mask = 1<<(8*n) - 1
	} else {
		f.tail = binary.LittleEndian.Uint64(padded[n-8:])
	}
	f.head = binary.LittleEndian.Uint64(padded) & f.mask
}

// at reports whether b[i:] goes on with the field's key as it is usually
// served, and with at least one byte more.
func (f *field) at(b []byte, i int) bool {
	n := len(f.quoted)
	if n == 0 || len(b)-i < n+8 {
		return n > 0 && len(b)-i > n && string(b[i:i+n]) == f.quoted
	}
	if binary.LittleEndian.Uint64(b[i:])&f.mask != f.head {
		return false
	}
	switch {
	case n <= 8:
		return true
	case n <= 16:
		return binary.LittleEndian.Uint64(b[i+n-8:]) == f.tail
	default:
		return string(b[i+8:i+n]) == f.quoted[8:]
	}
}

// table knows the keys of one sort of object: the contact, its ticket, the
// custom fields of either.
//
// Keys are guessed: after a field comes most likely the one that came after it
// last time. A guess costs a comparison, a miss a map look-up.
type table struct {
	scope  schemas.Scope
	fields map[string]*field
	none   *field // stands for no guess
	first  *field // what the last object began with; none at first
	over   field  // stands for the fields beyond those that a chunk holds
}

// maxKey bounds the keys that are guessed and looked up by their served form.
const maxKey = 256

// add makes key known.
func (t *table) add(key string, f *field) *field {
	f.key, f.next = key, t.none
	if plain(key) {
		f.quote()
	}
	t.fields[key] = f
	return f
}

// plain reports whether key stands in JSON as it is. Only such keys may be
// compared to bytes that have not been scanned.
func plain(key string) bool {
	if len(key) > maxKey || !utf8.ValidString(key) {
		return false
	}
	return strings.IndexFunc(key, func(r rune) bool { return r < ' ' || r == '"' || r == '\\' }) < 0
}

// tables builds the tables that the contract starts with.
func (c *Chunk) tables(contract *schemas.Contract) {
	none := &field{} // at nothing
	newTable := func(s schemas.Scope) *table {
		return &table{scope: s, fields: map[string]*field{}, none: none, first: none, over: field{act: actOverflow, next: none}}
	}
	c.contact, c.ticket = newTable(schemas.ScopeContact), newTable(schemas.ScopeTicket)
	c.cfCustomer, c.cfTicket = newTable(schemas.ScopeCFCustomer), newTable(schemas.ScopeCFTicket)

	in := func(s schemas.Scope) *table {
		if s == schemas.ScopeTicket {
			return c.ticket
		}
		return c.contact
	}
	c.contact.add(schemas.TicketField, &field{
		act: actTicket, inside: c.ticket,
		col: c.column(schemas.FieldRef{Scope: schemas.ScopeContact, Key: schemas.TicketField}, nil),
	})
	for _, s := range contract.CustomFields {
		f := &field{act: actCustom, rank: s.Rank, inside: c.cfCustomer, col: c.column(s.Place, nil)}
		if s.Entity() == schemas.ScopeCFTicket {
			f.inside = c.cfTicket
		}
		in(s.Place.Scope).add(s.Place.Key, f)
	}
	for i := range contract.Columns {
		decl := &contract.Columns[i]
		f := &field{act: actText, col: c.column(decl.Ref, decl)}
		if f.col.time {
			f.act = actTime
		}
		in(decl.Ref.Scope).add(decl.Ref.Key, f)
		c.declare(decl, f.col)
	}
}

// declare remembers the declared columns that have a part beside the table.
func (c *Chunk) declare(decl *schemas.ContractColumn, col *column) {
	c.declared = append(c.declared, col)
	if decl.Required {
		c.required = append(c.required, col)
	}
	switch decl.Name {
	case schemas.ColID:
		c.id = col
	case schemas.ColCreatedAt:
		c.created = col
	case schemas.ColUpdatedAt:
		c.updated = col
	}
	if decl.Ref == (schemas.FieldRef{Scope: schemas.ScopeContact, Key: "last_message_at"}) && col.time {
		c.lastMessage = col
	}
	if decl.Ref == (schemas.FieldRef{Scope: schemas.ScopeContact, Key: "client_id"}) && !col.time {
		c.client = col
	}
}

// column adds a column to the chunk.
func (c *Chunk) column(ref schemas.FieldRef, decl *schemas.ContractColumn) *column {
	col := newColumn(ref, decl)
	c.columns = append(c.columns, col)
	return col
}

// badOf returns the column for the text of values that have no place in col.
func (c *Chunk) badOf(col *column) *column {
	if col.bad == nil {
		col.bad = c.column(col.ref, nil)
		col.bad.misfit = true
	}
	return col.bad
}

// find returns the field of t with the given key, new if need be.
func (c *Chunk) find(t *table, key []byte) *field {
	if f, ok := t.fields[string(key)]; ok {
		return f
	}
	ref := schemas.FieldRef{Scope: t.scope, Key: string(key)}
	if len(c.columns) >= c.maxFields {
		c.overKey = ref
		return &t.over
	}
	col := c.column(ref, nil)
	if c.wanted != nil && c.wanted.means(ref) {
		c.wanted.cols = append(c.wanted.cols, col)
	}
	return t.add(ref.Key, &field{act: actText, col: col})
}
