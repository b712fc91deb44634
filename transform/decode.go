package transform

import (
	"bytes"
	"fmt"

	"github.com/zeebo/xxh3"

	"github.com/sluice-etl/sluice/schemas"
)

// Faults of a record. They name no value: they are logged.
const (
	faultTwice = "the key %q stands twice in one object"
	faultValue = "%s is missing, null or not a %s"
	faultEmpty = "id is empty"
)

// body reads the whole page.
func (c *Chunk) body() int {
	i := c.space(0)
	switch {
	case i < len(c.b) && c.b[i] == '[':
		i = c.array(i)
	case i < len(c.b) && c.b[i] == '{':
		i = c.wrapper(i)
	default:
		i = c.fail(i, "it is neither an array nor an object")
	}
	if i < 0 {
		return -1
	}
	if i = c.space(i); i < len(c.b) {
		return c.fail(i, "something follows the page")
	}
	return i
}

// wrapper reads {"data": [...]} or {"contacts": [...]}: an object where one of
// these two is an array. What else it holds is validated and left out.
func (c *Chunk) wrapper(i int) int {
	c.depth = 1
	found, start := false, i
	i = c.space(i + 1)
	if i < len(c.b) && c.b[i] == '}' {
		return c.fail(start, "it has no contacts")
	}
	for {
		from, to, escaped, next := c.key(i)
		if next < 0 {
			return -1
		}
		key := c.b[from:to]
		if escaped {
			c.scratch = unescape(c.scratch[:0], key)
			key = c.scratch
		}
		if named := string(key) == "data" || string(key) == "contacts"; named && next < len(c.b) && c.b[next] == '[' {
			if found {
				return c.fail(next, "it has two lists of contacts")
			}
			found = true
			i = c.array(next)
		} else {
			i = c.skip(next)
		}
		if i < 0 {
			return -1
		}
		i = c.space(i)
		switch {
		case i < len(c.b) && c.b[i] == ',':
			i = c.space(i + 1)
		case i < len(c.b) && c.b[i] == '}':
			if !found {
				return c.fail(start, "it has no contacts")
			}
			return i + 1
		default:
			return c.fail(i, "a comma or closing bracket is missing")
		}
	}
}

// array reads the list of contacts.
func (c *Chunk) array(i int) int {
	c.depth++
	i = c.space(i + 1)
	if i < len(c.b) && c.b[i] == ']' {
		c.depth--
		return i + 1
	}
	for {
		if i >= len(c.b) || c.b[i] != '{' {
			return c.noContact(i)
		}
		if i = c.record(i); i < 0 {
			return -1
		}
		i = c.space(i)
		switch {
		case i < len(c.b) && c.b[i] == ',':
			i = c.space(i + 1)
		case i < len(c.b) && c.b[i] == ']':
			c.depth--
			return i + 1
		default:
			return c.fail(i, "a comma or closing bracket is missing")
		}
	}
}

// noContact fails the page for what stands in place of a contact. It is named
// by kind, so that the vendor can be told, and never by value.
func (c *Chunk) noContact(i int) int {
	if c.skip(i) < 0 {
		return -1 // it is not JSON either
	}
	what := "a number"
	switch c.b[i] {
	case '"':
		what = "a string"
	case '[':
		what = "an array"
	case 't', 'f':
		what = "a boolean"
	case 'n':
		what = "null"
	}
	c.faultHint = hintNoContact
	return c.fail(i, fmt.Sprintf("element %d of the list is %s, not an object", len(c.tent.rows)+1, what))
}

const hintNoContact = "the endpoint answers with a list that holds something else than contacts: a page is taken whole or not at all, so nothing of this one was kept. Run again; if it persists, send the vendor the request and what was found"

// record reads one contact and adds its Row.
func (c *Chunk) record(start int) int {
	c.fault = ""
	c.row = int32(c.rows + len(c.tent.rows))
	if c.wanted != nil {
		c.wanted.over = c.wanted.over[:0]
	}
	i := c.members(c.contact, start, 0)
	if i < 0 {
		return -1
	}
	raw := c.b[start:i]
	row := Row{Version: xxh3.Hash(raw)}
	c.keys(&row)
	if c.fault == "" {
		c.fault = c.unfit()
	}
	c.tent.drop = append(c.tent.drop, c.fault != "" || !c.passes(c.filters))
	c.tent.bury = append(c.tent.bury, !c.passes(c.burials) || !c.passesWanted())
	if c.fault != "" {
		c.reject(raw)
	}
	c.tent.rows = append(c.tent.rows, row)
	return i
}

// keys fills what the walk needs.
func (c *Chunk) keys(row *Row) {
	ok := c.id.has(c.row) && c.created.has(c.row) && c.updated.has(c.row)
	if ok {
		last := c.id.n - 1
		id := c.id.text(last)
		ok = c.id.kindOf(last) == kindString && len(id) > 0
		h := xxh3.Hash128(id)
		row.ID = h.Bytes()
		row.Created = c.created.micros[c.created.n-1]
		row.Updated = c.updated.micros[c.updated.n-1]
	}
	if !ok {
		*row = Row{Version: row.Version, Invalid: true}
	}
	if c.lastMessage != nil && c.lastMessage.has(c.row) {
		row.LastMessage = c.lastMessage.micros[c.lastMessage.n-1]
	}
	if c.client != nil && c.client.has(c.row) {
		c.seeClient()
	}
}

// unfit returns why the record cannot become a row, or "".
func (c *Chunk) unfit() string {
	for _, col := range c.required {
		if col.has(c.row) && (col.time || fits(col.decl.Type, col.kindOf(col.n-1), col.text(col.n-1))) {
			if col == c.id && len(col.text(col.n-1)) == 0 {
				return faultEmpty
			}
			continue
		}
		return fmt.Sprintf(faultValue, col.decl.Name, col.decl.Type)
	}
	return ""
}

// reject sets the record aside.
func (c *Chunk) reject(raw []byte) {
	r := Reject{Reason: c.fault, Raw: bytes.Clone(raw), Position: len(c.tent.rows)}
	if c.id.has(c.row) {
		r.ID = string(c.id.source(c.id.n - 1))
	}
	c.tent.rejects = append(c.tent.rejects, r)
}

// members reads an object whose opening brace is at i: each value goes to the
// column of its key. rank is that of the place, for custom fields.
func (c *Chunk) members(t *table, i, rank int) int {
	if c.depth >= c.maxDepth {
		return c.fail(i, "it is nested too deep")
	}
	c.depth++
	c.serial++
	b, serial := c.b, c.serial
	custom := t.scope == schemas.ScopeCFCustomer || t.scope == schemas.ScopeCFTicket
	i = c.space(i + 1)
	if i < len(c.b) && c.b[i] == '}' {
		c.depth--
		return i + 1
	}
	guess := &t.first
	for {
		f := *guess
		if f.at(b, i) {
			i += len(f.quoted)
			if b[i] <= ' ' {
				i = c.space(i)
			}
		} else {
			if f, i = c.lookUp(t, i); i < 0 {
				return -1
			}
			if !f.many {
				*guess = f
			}
		}
		switch {
		case f.seen == serial && !f.many:
			i = c.twice(f, i)
		case custom:
			i = c.custom(f, i, rank)
		default:
			i = c.value(f, i)
		}
		f.seen = serial
		if i < 0 {
			return -1
		}
		if i < len(b) && b[i] <= ' ' {
			i = c.space(i)
		}
		if i >= len(b) {
			return c.fail(i, "")
		}
		switch b[i] {
		case ',':
			i++
			if i < len(b) && b[i] <= ' ' {
				i = c.space(i)
			}
			guess = &f.next
		case '}':
			c.depth--
			return i + 1
		default:
			return c.fail(i, "a comma or closing bracket is missing")
		}
	}
}

// twice reads the second value of a key in one object. Readers of JSON differ
// in which of the two they take, so the record is set aside.
func (c *Chunk) twice(f *field, i int) int {
	if c.fault == "" {
		c.fault = fmt.Sprintf(faultTwice, f.key)
	}
	_, i = c.token(i)
	return i
}

// lookUp reads a key that was not guessed.
func (c *Chunk) lookUp(t *table, i int) (*field, int) {
	from, to, escaped, next := c.key(i)
	if next < 0 {
		return nil, -1
	}
	key := c.b[from:to]
	if escaped {
		c.scratch = unescape(c.scratch[:0], key)
		key = c.scratch
	}
	return c.find(t, key), next
}
