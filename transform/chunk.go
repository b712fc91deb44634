package transform

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/sluice-etl/sluice/schemas"
)

const (
	defaultMaxDepth   = 10_000 // as jsontext
	defaultMaxColumns = 2_000
	// maxBytes bounds the bodies in one chunk: offsets into a column's text
	// are 32 bits, and no column holds more text than the bodies.
	maxBytes = 1 << 30
	// fieldBytes is about what knowing one field takes.
	fieldBytes = 1 << 10
	// maxClients bounds the client_id values remembered.
	maxClients = 64
)

// Chunk collects pages until they are sealed as one record batch. It is not
// safe for concurrent use; a record that it has sealed may be released by any
// goroutine.
type Chunk struct {
	scanner
	o         Options
	optionErr error

	// The fields known so far.
	contact, ticket, cfCustomer, cfTicket *table
	columns                               []*column // all of them, misfits included
	declared, required                    []*column
	id, created, updated                  *column
	lastMessage, client                   *column // nil where the contract lacks them
	filters, burials                      []filter
	wanted                                *wanted          // nil: none
	over                                  *column          // fields without a column; nil until needed
	overKey                               schemas.FieldRef // of the overflow value being read
	maxFields                             int
	skipped                               int // keys known that are not wanted
	clients                               []string

	// The kept rows.
	rows    int
	bytes   int64 // of the kept bodies
	pages   []kept
	buried  []int32 // rows outside Options.Bury, ascending
	rejects []Reject

	// The page and record being read.
	tent    tentative
	row     int32  // of the record, among all rows
	serial  uint64 // of the object
	fault   string // why the record cannot be kept
	entries []entry
	scratch []byte
	runs    []run
}

// kept is a page whose rows belong to the chunk.
type kept struct {
	rows        int
	firstRow    int64
	extractedAt int64 // microseconds
}

// tentative is the last page decoded.
type tentative struct {
	open    bool
	bytes   int
	rows    []Row
	drop    []bool // rejected or filtered
	bury    []bool
	rejects []Reject
}

// filter keeps rows by the values of a column.
type filter struct {
	col    *column
	values []string
}

// NewChunk returns an empty chunk. Options that make no sense are reported by
// the first Decode.
func NewChunk(o Options) *Chunk {
	if o.Contract == nil {
		o.Contract = schemas.Default()
	}
	if o.MaxDepth <= 0 {
		o.MaxDepth = defaultMaxDepth
	}
	// Columns are settled when the chunk is sealed; until then there may be
	// more than the table takes, within reason. A contract may have lowered its
	// bound after the table had more: their fields have to be found still.
	fields := o.MaxColumns
	if o.MaxColumns <= 0 {
		o.MaxColumns = cmp.Or(o.Contract.MaxColumns, defaultMaxColumns)
		fields = max(o.MaxColumns, defaultMaxColumns)
	}
	c := &Chunk{o: o}
	c.maxDepth = o.MaxDepth
	c.tables(o.Contract)
	c.maxFields = len(c.columns) + 2*fields
	c.optionErr = c.configure()
	return c
}

// configure checks the options and resolves the filter.
func (c *Chunk) configure() error {
	if c.id == nil || c.created == nil || c.updated == nil || c.id.time || !c.created.time || !c.updated.time {
		return errors.New("configure decoder: the contract lacks id, created_at or updated_at")
	}
	err := c.checkPolicies()
	if err != nil {
		return err
	}
	if c.filters, err = c.resolve(c.o.Filter); err != nil {
		return err
	}
	if c.burials, err = c.resolve(c.o.Bury); err != nil {
		return err
	}
	return c.want(c.o.BuryField)
}

// resolve finds the columns that filters speak of, by name, or by where the
// built-in contract's column of that name comes from.
func (c *Chunk) resolve(options map[string][]string) (filters []filter, err error) {
	for name, values := range options {
		i := slices.IndexFunc(c.declared, func(col *column) bool { return col.decl.Name == name })
		builtIn := slices.IndexFunc(schemas.Default().Columns, func(col schemas.ContractColumn) bool { return col.Name == name })
		if i < 0 && builtIn >= 0 {
			ref := schemas.Default().Columns[builtIn].Ref
			i = slices.IndexFunc(c.declared, func(col *column) bool { return col.ref == ref })
		}
		switch {
		case i < 0 && builtIn >= 0:
			col := schemas.Default().Columns[builtIn]
			return nil, fmt.Errorf("configure decoder: filter by %q: the contract lacks that column; add {name: %s, path: %s, type: %s} to its columns", name, name, path(col.Ref), col.Type)
		case i < 0:
			return nil, fmt.Errorf("configure decoder: filter by %q: not a column of the contract", name)
		}
		decl := c.declared[i].decl
		if decl.Type != schemas.String && decl.Type != schemas.Bool {
			return nil, fmt.Errorf("configure decoder: filter by %q: column %s of the contract is of type %s, a filter takes string or bool", name, decl.Name, decl.Type)
		}
		filters = append(filters, filter{col: c.declared[i], values: values})
	}
	return filters, nil
}

// path writes a field as a contract does.
func path(ref schemas.FieldRef) string {
	if ref.Scope == schemas.ScopeTicket {
		return schemas.TicketField + "." + ref.Key
	}
	return ref.Key
}

// passes reports whether the record just read passes the filters.
func (c *Chunk) passes(filters []filter) bool {
	for _, f := range filters {
		if !f.col.has(c.row) {
			return false
		}
		last := f.col.n - 1
		if !fits(f.col.decl.Type, f.col.kindOf(last), f.col.text(last)) || !slices.Contains(f.values, string(f.col.source(last))) {
			return false
		}
	}
	return true
}

// Decode parses a whole page, all or nothing, and returns one Row for each of
// its elements, valid until the next call. The page is tentative: the next
// Decode replaces it unless Keep comes first. An error wraps ErrBadPage when
// the body is not a page, ErrFull when the chunk has to be sealed first; then
// no page is tentative.
//
// An object that has a key twice is set aside as a whole, since readers of
// JSON differ in which value they take; keys that differ in case are two keys.
// A declared timestamp is RFC 3339 with an offset, to the microsecond below.
func (c *Chunk) Decode(body []byte) ([]Row, error) {
	c.discard()
	switch {
	case c.optionErr != nil:
		return nil, c.optionErr
	case len(body) > maxBytes:
		return nil, &pageError{message: fmt.Sprintf("it has %d bytes, more than %d", len(body), maxBytes)}
	case c.bytes+int64(len(body)) > maxBytes:
		return nil, fmt.Errorf("decode page: %w", ErrFull)
	}
	for _, col := range c.columns {
		col.recycle()
		col.setMark()
	}
	c.b, c.depth, c.faultHint = body, 0, ""
	end := c.body()
	c.b = nil
	c.tent.open = true
	if end < 0 {
		c.discard()
		return nil, &pageError{message: fmt.Sprintf("%s (byte %d of %d)", c.faultMsg, c.faultPos, len(body)), hint: c.faultHint}
	}
	c.tent.bytes = len(body)
	return c.tent.rows, nil
}

// discard takes the tentative page back.
func (c *Chunk) discard() {
	if c.tent.open {
		for _, col := range c.columns {
			col.rollback()
		}
	}
	c.clear()
}

// clear forgets the tentative page, whose rows have been kept or taken back.
func (c *Chunk) clear() {
	clear(c.tent.rejects)
	c.tent = tentative{rows: c.tent.rows[:0], drop: c.tent.drop[:0], bury: c.tent.bury[:0], rejects: c.tent.rejects[:0]}
}

// Keep makes the rows of the tentative page part of the chunk, but those for
// which skip is true; a nil skip keeps all. Rejected and filtered rows are not
// among the kept ones that it counts. Without a tentative page it does nothing.
func (c *Chunk) Keep(skip []bool, m Meta) (n int) {
	if !c.tent.open {
		return 0
	}
	skipped := func(i int) bool { return i < len(skip) && skip[i] }
	c.runs = c.runs[:0]
	for i := range c.tent.rows {
		if skipped(i) || c.tent.drop[i] {
			continue
		}
		if c.tent.bury[i] {
			c.buried = append(c.buried, int32(c.rows+n))
		}
		n++
		row := int32(c.rows + i)
		if k := len(c.runs) - 1; k >= 0 && c.runs[k].to == row {
			c.runs[k].to++
			continue
		}
		c.runs = append(c.runs, run{row, row + 1})
	}
	if n < len(c.tent.rows) {
		for _, col := range c.columns {
			if col.n > col.mark.n {
				col.compact(c.runs, int32(c.rows))
			}
		}
	}
	for _, r := range c.tent.rejects {
		if !skipped(r.Position) {
			r.Request, r.At = m.Request, m.ExtractedAt
			c.rejects = append(c.rejects, r)
		}
	}
	if n > 0 {
		c.pages = append(c.pages, kept{rows: n, firstRow: m.FirstRow, extractedAt: m.ExtractedAt.UnixMicro()})
	}
	c.rows += n
	c.bytes += int64(c.tent.bytes)
	c.clear()
	return n
}

// Rows returns the number of kept rows.
func (c *Chunk) Rows() int { return c.rows }

// Bytes returns about how much memory the kept rows take.
func (c *Chunk) Bytes() int64 {
	var n int64
	for _, col := range c.columns {
		n += col.size()
	}
	if more := len(c.columns) - c.maxFields; more > 0 {
		n += int64(more) * fieldBytes
	}
	return n
}

// ClientIDs returns the distinct client_id values decoded so far, the most
// recent last, at most 64. Where the contract hashes client_id they are hashes,
// that begin with schemas.HashedAccount and the id of the key; where it masks
// or drops it there are none.
func (c *Chunk) ClientIDs() []string { return c.accounts(slices.Clone(c.clients)) }
