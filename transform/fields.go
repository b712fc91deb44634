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
	actSkip                   // not wanted by the contract: validated and left out
)

// field is a key that objects of a table have had.
type field struct {
	key    string // unescaped
	quoted string // how the key is usually served: "key": ; empty where it needs escapes
	act    action
	many   bool    // stands for any number of keys
	col    *column // nil where the value itself is not wanted
	inside *table  // of the members (actTicket) or custom fields (actCustom)
	rank   int     // of the place (actCustom)

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
	skip   field  // as over, for those that are not wanted
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
		return &table{
			scope: s, fields: map[string]*field{}, none: none, first: none,
			over: field{act: actOverflow, many: true, next: none}, skip: field{act: actSkip, many: true, next: none},
		}
	}
	c.contact, c.ticket = newTable(schemas.ScopeContact), newTable(schemas.ScopeTicket)
	c.cfCustomer, c.cfTicket = newTable(schemas.ScopeCFCustomer), newTable(schemas.ScopeCFTicket)

	// What takes apart objects is no value: these keep one of another kind.
	own := func(ref schemas.FieldRef) *column {
		if !contract.Rule(ref).Wanted {
			return nil
		}
		return c.column(ref, nil)
	}
	c.contact.add(schemas.TicketField, &field{
		act: actTicket, inside: c.ticket, col: own(schemas.FieldRef{Scope: schemas.ScopeContact, Key: schemas.TicketField}),
	})
	for _, s := range contract.CustomFields {
		c.in(s.Place.Scope).add(s.Place.Key, &field{act: actCustom, rank: s.Rank, inside: c.in(s.Entity()), col: own(s.Place)})
	}
	for i := range contract.Columns {
		c.declare(&contract.Columns[i])
	}
	for i := range contract.Left {
		decl := &contract.Left[i]
		if c.looksAt(decl) {
			c.declare(decl).hidden = true
			continue
		}
		c.in(decl.Ref.Scope).add(decl.Ref.Key, &field{act: actSkip})
	}
}

// in returns the table of a scope.
func (c *Chunk) in(s schemas.Scope) *table {
	switch s {
	case schemas.ScopeTicket:
		return c.ticket
	case schemas.ScopeCFCustomer:
		return c.cfCustomer
	case schemas.ScopeCFTicket:
		return c.cfTicket
	case schemas.ScopeContact, schemas.ScopeOverflow: // the latter is no part of a contact
		return c.contact
	default:
		return c.contact
	}
}

// looksAt reports whether a declared column that the table does not have is
// read all the same: filters and the walk go by what is served.
func (c *Chunk) looksAt(decl *schemas.ContractColumn) bool {
	if decl.Ref == (schemas.FieldRef{Scope: schemas.ScopeContact, Key: "last_message_at"}) {
		return true
	}
	return len(c.o.Filter)+len(c.o.Bury) > 0 && (decl.Type == schemas.String || decl.Type == schemas.Bool)
}

// declare adds a declared column, and remembers those that have a part beside
// the table.
func (c *Chunk) declare(decl *schemas.ContractColumn) *column {
	col := c.column(decl.Ref, decl)
	f := &field{act: actText, col: col}
	if col.time {
		f.act = actTime
	}
	c.in(decl.Ref.Scope).add(decl.Ref.Key, f)
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
	return col
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
	rule := c.o.Contract.Rule(ref)
	meant := c.wanted != nil && c.wanted.means(ref)
	switch {
	case !rule.Wanted && !meant:
		if c.skipped >= c.maxFields {
			return &t.skip
		}
		c.skipped++
		return t.add(ref.Key, &field{act: actSkip})
	case rule.Wanted && len(c.columns) >= c.maxFields && rule.NewColumns != schemas.Freeze && rule.NewColumns != schemas.Discard:
		// Under the other two nothing becomes part of the overflow unseen.
		c.overKey = ref
		return &t.over
	}
	col := c.column(ref, nil)
	col.hidden = !rule.Wanted
	if meant {
		c.wanted.cols = append(c.wanted.cols, col)
	}
	return t.add(ref.Key, &field{act: actText, col: col})
}
