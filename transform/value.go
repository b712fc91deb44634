package transform

import (
	"github.com/sluice-etl/sluice/schemas"
)

// token is one value as it stands in the body.
type token struct {
	kind     uint8 // kindNone for null
	from, to int   // the text: without the quotes of a string
	escaped  bool
}

// token reads the value at i.
func (c *Chunk) token(i int) (t token, next int) {
	if i >= len(c.b) {
		return t, c.fail(i, "")
	}
	t.from = i
	switch b := c.b[i]; b {
	case '"':
		t.kind = kindString
		t.from++
		if t.to, t.escaped = c.str(t.from); t.to < 0 {
			return t, -1
		}
		return t, t.to + 1
	case 'n':
		return t, c.word(i, "null")
	case 't':
		t.kind = kindTrue
		t.to = i
		return t, c.word(i, "true")
	case 'f':
		t.kind = kindFalse
		t.to = i
		return t, c.word(i, "false")
	case '{', '[':
		t.kind = kindNested
		t.to = c.skip(i)
		return t, t.to
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		t.kind = kindNumber
		t.to = c.number(i)
		return t, t.to
	default:
		return t, c.fail(i, "there is no value where one is due")
	}
}

// content returns the text of t, valid until the next call.
func (c *Chunk) content(t token) []byte {
	raw := c.b[t.from:t.to]
	if t.escaped {
		c.scratch = unescape(c.scratch[:0], raw)
		return c.scratch
	}
	return raw
}

// source returns the text of t as a column of text shows it.
func (c *Chunk) source(t token) []byte {
	switch t.kind {
	case kindTrue:
		return []byte("true")
	case kindFalse:
		return []byte("false")
	default:
		return c.content(t)
	}
}

// store puts t into col, nil for a value that is not wanted.
func (c *Chunk) store(col *column, t token) {
	if t.kind != kindNone && col != nil {
		col.put(c.row, t.kind, c.content(t))
	}
}

// value reads the value of a member of the contact or its ticket.
func (c *Chunk) value(f *field, i int) int {
	if f.act == actText {
		col := f.col
		if i < len(c.b) && c.b[i] == '"' {
			return c.text(col, i+1)
		}
		t, next := c.token(i)
		if next >= 0 {
			c.store(col, t)
		}
		return next
	}
	return c.structured(f, i)
}

// text reads a string, from the byte after its opening quote, into col.
func (c *Chunk) text(col *column, i int) int {
	end, escaped := c.str(i)
	if end < 0 {
		return -1
	}
	if escaped {
		col.data = unescape(col.data, c.b[i:end])
	} else {
		col.data = append(col.data, c.b[i:end]...)
	}
	col.end(c.row, kindString)
	return end + 1
}

// structured reads the value of a field that is not plainly text.
func (c *Chunk) structured(f *field, i int) int {
	first := byte(0)
	if i < len(c.b) {
		first = c.b[i]
	}
	switch {
	case f.act == actTime:
		return c.timestamp(f.col, i)
	case f.act == actTicket && first == '{':
		return c.members(f.inside, i, 0)
	case f.act == actCustom && first == '{':
		return c.members(f.inside, i, f.rank)
	case f.act == actCustom && first == '[':
		return c.list(f, i)
	case f.act == actOverflow:
		return c.overflow(i, 0)
	case f.act == actSkip:
		return c.skip(i)
	}
	t, next := c.token(i)
	if next >= 0 {
		c.store(f.col, t)
	}
	return next
}

// timestamp reads the value of a declared timestamp.
func (c *Chunk) timestamp(col *column, i int) int {
	if len(c.b)-i > 26 && c.b[i] == '"' && c.b[i+25] == '"' {
		if us, ok := fixed24(c.b[i+1 : i+25]); ok {
			col.putTime(c.row, us)
			return i + 26
		}
	}
	t, next := c.token(i)
	if next < 0 || t.kind == kindNone {
		return next
	}
	text := c.source(t)
	if us, ok := parseTimestamp(text); ok && t.kind == kindString {
		col.putTime(c.row, us)
		return next
	}
	c.badOf(col).note(c.row, t.kind, text)
	return next
}

// custom reads the value of a custom field found in a place of the given rank.
func (c *Chunk) custom(f *field, i, rank int) int {
	switch f.act {
	case actOverflow:
		return c.overflow(i, rank)
	case actSkip:
		return c.skip(i)
	case actText, actTime, actTicket, actCustom: // which custom fields are all one
	}
	if i < len(c.b) && c.b[i] == '"' && !f.col.has(c.row) {
		f.col.rank = rank
		return c.text(f.col, i+1)
	}
	t, next := c.token(i)
	if next >= 0 {
		c.storeCustom(f.col, t, rank)
	}
	return next
}

// storeCustom puts t into col, or decides between it and the value that
// another place of the same contact has given.
func (c *Chunk) storeCustom(col *column, t token, rank int) {
	if t.kind == kindNone {
		return
	}
	contested := col.has(c.row)
	col.put(c.row, t.kind, c.content(t))
	if !contested {
		col.rank = rank
		return
	}
	if kind, lost, differ := col.contest(c.row, rank); differ {
		c.badOf(col).note(c.row, kind, lost)
	}
}

// entry is one element of a list of custom fields.
type entry struct {
	f     *field
	over  schemas.FieldRef // where f is the overflow
	value token
}

// list reads an array in a place of custom fields. Where each element is an
// object with one text "key" and one "value", these are custom fields; if
// some have further members, the array is kept as it is as well. Any other
// array is an ordinary nested value of the place's own field.
func (c *Chunk) list(f *field, i int) int {
	c.entries = c.entries[:0]
	start := i
	next, pure, extra := c.elements(f.inside, i)
	if next < 0 {
		return -1
	}
	if !pure || extra {
		c.store(f.col, token{kind: kindNested, from: start, to: next})
	}
	if !pure {
		return next
	}
	for _, e := range c.entries {
		switch e.f.act {
		case actSkip:
		case actOverflow:
			c.overKey = e.over
			c.addOverflow(e.value, f.rank)
		case actText, actTime, actTicket, actCustom: // which custom fields are all one
			c.storeCustom(e.f.col, e.value, f.rank)
		}
	}
	return next
}

// elements reads the array at i into c.entries. pure is false where an element
// is not a custom field; extra is true where one has further members.
func (c *Chunk) elements(t *table, i int) (next int, pure, extra bool) {
	if c.depth >= c.maxDepth {
		return c.fail(i, "it is nested too deep"), false, false
	}
	c.depth++
	pure = true
	i = c.space(i + 1)
	if i < len(c.b) && c.b[i] == ']' {
		c.depth--
		return i + 1, true, false
	}
	for {
		if i < len(c.b) && c.b[i] == '{' {
			var ok, more bool
			if i, ok, more = c.element(t, i); i < 0 {
				return -1, false, false
			}
			pure, extra = pure && ok, extra || more
		} else {
			pure = false
			if i = c.skip(i); i < 0 {
				return -1, false, false
			}
		}
		i = c.space(i)
		switch {
		case i < len(c.b) && c.b[i] == ',':
			i = c.space(i + 1)
		case i < len(c.b) && c.b[i] == ']':
			c.depth--
			return i + 1, pure, extra
		default:
			return c.fail(i, "a comma or closing bracket is missing"), false, false
		}
	}
}

// element reads one {key, value} object of a list.
func (c *Chunk) element(t *table, i int) (next int, ok, extra bool) {
	if c.depth >= c.maxDepth {
		return c.fail(i, "it is nested too deep"), false, false
	}
	c.depth++
	var e entry
	var keys, values int
	i = c.space(i + 1)
	for first := true; i >= len(c.b) || c.b[i] != '}' || !first; first = false {
		from, to, escaped, at := c.key(i)
		if at < 0 {
			return -1, false, false
		}
		name := c.b[from:to]
		if escaped {
			name = unescape(nil, name)
		}
		v, after := c.token(at)
		if after < 0 {
			return -1, false, false
		}
		switch string(name) {
		case "key":
			keys++
			if v.kind == kindString {
				e.f = c.find(t, c.content(v))
				e.over = c.overKey
			}
		case "value":
			values++
			e.value = v
		default:
			extra = true
		}
		i = c.space(after)
		if i < len(c.b) && c.b[i] == ',' {
			i = c.space(i + 1)
			continue
		}
		if i < len(c.b) && c.b[i] == '}' {
			break
		}
		return c.fail(i, "a comma or closing bracket is missing"), false, false
	}
	c.depth--
	if e.f == nil || keys != 1 || values != 1 {
		return i + 1, false, extra
	}
	c.entries = append(c.entries, e)
	return i + 1, true, extra
}

// overflow reads the value of a field beyond those that a chunk holds, found
// in a place of the given rank.
func (c *Chunk) overflow(i, rank int) int {
	t, next := c.token(i)
	if next >= 0 {
		c.addOverflow(t, rank)
	}
	return next
}

// addOverflow adds a member to the row's object of fields without a column.
func (c *Chunk) addOverflow(t token, rank int) {
	if t.kind == kindNone {
		return
	}
	if c.over == nil {
		c.over = c.column(schemas.FieldRef{}, nil)
		c.over.misfit = true
	}
	content := c.content(t)
	if c.wanted != nil {
		c.wanted.note(c.overKey, rank, t.kind, content)
	}
	kind, content, ok := c.protectedMember(c.overKey, t.kind, content)
	if !ok {
		return
	}
	text := appendQuoted(nil, []byte(c.overKey.String()))
	text = appendJSON(append(text, ':'), kind, content)
	c.over.member(c.row, text)
}

// member adds "key":value to the row's value, which is the inside of an object.
func (c *column) member(row int32, text []byte) {
	if c.has(row) {
		c.data = append(append(c.data, ','), text...)
		c.ends[c.n] = int32(len(c.data))
		return
	}
	c.put(row, kindNested, text)
}

// seeClient remembers the account of the row being read.
func (c *Chunk) seeClient() {
	id := c.client.text(c.client.n - 1)
	if n := len(c.clients); n > 0 && string(id) == c.clients[n-1] || len(id) == 0 || n >= maxClients {
		return
	}
	for i, known := range c.clients {
		if string(id) == known {
			// Most recent last: it is the one looked at first.
			c.clients[i], c.clients[len(c.clients)-1] = c.clients[len(c.clients)-1], c.clients[i]
			return
		}
	}
	c.clients = append(c.clients, string(id))
}
