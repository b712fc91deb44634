package transform

import (
	"bytes"
	"errors"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/sluice-etl/sluice/schemas"
)

// Seal returns the kept rows as one record batch and empties the chunk for
// reuse; a tentative page is discarded. Fields that the registry does not know
// are settled on the way, sorted, so that it matters little which chunk meets
// a field first. A *schemas.FreezeError is a value that the contract has no
// place for. An error leaves the chunk as it was.
//
// What the record shares with the chunk comes back by its release, from mem
// comes only what had to be rearranged; nil stands for the default allocator.
func (c *Chunk) Seal(reg *schemas.Registry, run string, mem memory.Allocator) (*Sealed, error) {
	if c.optionErr != nil {
		return nil, c.optionErr
	}
	if reg.Contract() != c.o.Contract && reg.Contract().Hash() != c.o.Contract.Hash() {
		return nil, errors.New("seal chunk: the registry belongs to another contract")
	}
	if mem == nil {
		mem = memory.DefaultAllocator
	}
	c.discard()
	s := &sealer{
		c: c, reg: reg, run: run, rows: c.rows,
		lanes: map[string]*lane{}, misfits: map[string]int64{}, discarded: map[string]int64{},
	}
	if err := s.settle(); err != nil {
		return nil, err
	}
	s.hash()
	s.order = s.byMonth()
	table := reg.StagedTable()
	rec := s.record(table, mem)
	sealed := &Sealed{
		Record: rec, Table: table, Rejects: c.rejects, Misfits: s.misfits, Discarded: s.discarded,
		LeftOut: schemas.JoinLeftOut(s.leftOut), Sightings: s.sightings, Buried: int64(len(c.buried)),
	}
	c.empty()
	return sealed, nil
}

// empty makes the chunk ready for the next rows.
func (c *Chunk) empty() {
	for _, col := range c.columns {
		col.reset()
	}
	c.rows, c.bytes, c.pages, c.buried, c.rejects = 0, 0, c.pages[:0], nil, nil
	if len(c.columns) >= c.maxFields || c.skipped >= c.maxFields {
		// Names that come once must not keep out those that come always.
		fresh := NewChunk(c.o)
		fresh.clients = c.clients
		*c = *fresh
	}
}

// sealer turns the columns of a chunk into those of a table.
type sealer struct {
	c         *Chunk
	reg       *schemas.Registry
	run       string
	rows      int
	lanes     map[string]*lane // by column name
	misfits   map[string]int64
	discarded map[string]int64
	leftOut   []schemas.LeftOut
	sightings []schemas.Sighting
	hashes    []int64
	order     *order // nil where rows stay in place
}

// overflow gathers the values of fields without a column.
func (s *sealer) overflow(fields []found) {
	if over := s.c.over; len(fields) == 0 && (over == nil || over.n == 0) {
		return
	}
	cols, bads := make([]*column, 0, len(fields)+1), make([]*column, 0, len(fields)+1)
	for _, f := range fields {
		cols, bads = append(cols, f.col), append(bads, s.kept(f, f.col.bad))
	}
	out := newColumn(schemas.FieldRef{}, nil)
	if s.c.over != nil && s.c.over.n > 0 {
		cols, bads = append(cols, s.c.over), append(bads, nil)
	}
	next := make([]int, len(cols))
	badNext := make([]int, len(cols))
	for row := range int32(s.rows) {
		for i, col := range cols {
			if next[i] < col.n && col.rowOf(next[i]) == row {
				out.member(row, s.member(col, col.kindOf(next[i]), col.text(next[i]), ""))
				next[i]++
			}
			if b := bads[i]; b != nil && badNext[i] < b.n && b.rowOf(badNext[i]) == row {
				out.member(row, s.member(col, kindString, b.text(badNext[i]), "__text"))
				badNext[i]++
			}
		}
	}
	wrapped := newColumn(schemas.FieldRef{}, nil)
	for i := range out.n {
		wrapped.put(out.rowOf(i), kindNested, slices.Concat([]byte("{"), out.text(i), []byte("}")))
	}
	e := s.reg.Settle(schemas.FieldRef{Scope: schemas.ScopeOverflow}, schemas.KindNested, s.run)
	s.reg.Hold(refsOf(fields)...)
	s.lanes[e.Column] = &lane{typ: schemas.JSON, n: wrapped.n, rows: wrapped.rowList(), ends: wrapped.ends, data: wrapped.data}
}

// refsOf names fields.
func refsOf(fields []found) []schemas.FieldRef {
	out := make([]schemas.FieldRef, len(fields))
	for i, f := range fields {
		out[i] = f.raw.ref
	}
	return out
}

// member returns "field":value.
func (s *sealer) member(col *column, kind uint8, text []byte, suffix string) []byte {
	if col == s.c.over {
		return text
	}
	out := appendQuoted(nil, []byte(col.ref.String()+suffix))
	return appendJSON(append(out, ':'), kind, text)
}

// order is where rows go so that those of one month stand together.
type order struct {
	group  []int32 // of each row
	first  []int32 // place of each group's first row, in order of month
	places []int32 // of each row
}

// byMonth returns the stable order of rows by month of created_at, nil where
// they have it.
func (s *sealer) byMonth() *order {
	const day = 86_400_000_000
	months := make([]int32, s.rows)
	sorted, low, high := true, int32(1<<30), int32(0)
	var from, to int64 // of the month in hand
	var month int32
	for i, us := range s.c.created.micros[:s.rows] {
		if us < from || us >= to {
			d := us / day
			if us%day < 0 {
				d--
			}
			m, first, next := civilMonth(d)
			month, from, to = int32(m), first*day, next*day
		}
		sorted = sorted && (i == 0 || months[i-1] <= month)
		months[i] = month
		low, high = min(low, month), max(high, month)
	}
	if sorted {
		return nil
	}
	o := &order{group: months, first: make([]int32, high-low+1), places: make([]int32, s.rows)}
	for i := range months {
		months[i] -= low
		o.first[months[i]]++
	}
	var n int32
	for g, rows := range o.first {
		o.first[g] = n
		n += rows
	}
	next := slices.Clone(o.first)
	for row, g := range months {
		o.places[row] = next[g]
		next[g]++
	}
	return o
}

// record builds the columns of table.
func (s *sealer) record(table schemas.Table, mem memory.Allocator) arrow.Record {
	b := &builder{mem: mem, rows: s.rows, order: s.order}
	defer b.close()
	cols := make([]arrow.Array, len(table.Columns))
	for i, tc := range table.Columns {
		l := s.lanes[tc.Name]
		switch {
		case l != nil:
		case tc.Constant != "":
			l = s.constant(tc.Constant)
		case strings.HasPrefix(tc.Name, "_sluice_"):
			l = s.system(tc.Name)
		}
		cols[i] = b.array(tc.Type, l)
	}
	rec := array.NewRecord(table.Arrow(), cols, int64(s.rows))
	for _, col := range cols {
		col.Release()
	}
	return rec
}

// constant returns one text for every row.
func (s *sealer) constant(text string) *lane {
	l := &lane{typ: schemas.String, n: s.rows, ends: make([]int32, 1, s.rows+1), data: bytes.Repeat([]byte(text), s.rows)}
	for i := range s.rows {
		l.ends = append(l.ends, int32((i+1)*len(text)))
	}
	return l
}

// system returns the values of a system column, nil for one that is all null.
func (s *sealer) system(name string) *lane {
	l := &lane{typ: schemas.Int64, n: s.rows}
	switch name {
	case schemas.ColHash:
		l.fixed = s.hashes
	case schemas.ColRow:
		l.fixed = make([]int64, 0, s.rows)
		for _, p := range s.c.pages {
			for i := range p.rows {
				l.fixed = append(l.fixed, p.firstRow+int64(i))
			}
		}
	case schemas.ColExtractedAt:
		l.fixed = make([]int64, 0, s.rows)
		for _, p := range s.c.pages {
			for range p.rows {
				l.fixed = append(l.fixed, p.extractedAt)
			}
		}
	case schemas.ColDeletedAt:
		return s.deletedAt()
	default:
		return nil
	}
	return l
}

// deletedAt gives buried rows the time at which their page arrived.
func (s *sealer) deletedAt() *lane {
	if len(s.c.buried) == 0 {
		return nil
	}
	l := &lane{typ: schemas.Timestamp, n: len(s.c.buried), rows: s.c.buried}
	page, end := -1, 0 // the page that holds rows below end
	for _, row := range s.c.buried {
		for int(row) >= end {
			page++
			end += s.c.pages[page].rows
		}
		l.fixed = append(l.fixed, s.c.pages[page].extractedAt)
	}
	return l
}
