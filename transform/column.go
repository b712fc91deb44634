package transform

import (
	"bytes"

	"github.com/sluice-etl/sluice/schemas"
)

// Kinds of stored value. true and false have no text.
const (
	kindNone uint8 = iota
	kindString
	kindNumber // text: the number as served
	kindTrue
	kindFalse
	kindNested // text: the object or array as served
)

// column holds the values that one field had in the rows of a chunk, without
// the nulls: an absent field costs nothing. Values stand in row order.
//
// Types settle late, when the chunk is sealed, so a column keeps the text of
// its values and their kinds; that of a declared timestamp, which the walk
// needs at once, keeps microseconds.
type column struct {
	ref  schemas.FieldRef
	decl *schemas.ContractColumn // nil for a discovered field
	time bool                    // values are in micros, not in data
	// hidden values are for filters and the walk alone.
	hidden bool
	// misfit marks the text beside another column, which is no field itself.
	misfit bool

	n      int     // number of values
	sparse bool    // rows is in use; else value i is that of row i
	rows   []int32 // the row of each value

	data   []byte
	ends   []int32 // ends[i] and ends[i+1] bound the text of value i in data
	micros []int64

	kind  uint8   // of all values, unless mixed
	mixed bool    // kinds is in use
	kinds []uint8 // the kind of each value

	// bad holds the text of values that have no place here; nil until needed.
	bad *column
	// rank is that of the place that the last value came from (custom fields).
	rank int

	mark  mark  // where the tentative page starts
	spare spare // memory that a sealed record gives back
	lent  bool  // something has been given away
}

// mark is a state of a column to go back to.
type mark struct {
	n     int
	bytes int32
	kind  uint8
	mixed bool
}

func newColumn(ref schemas.FieldRef, decl *schemas.ContractColumn) *column {
	c := &column{ref: ref, decl: decl, ends: []int32{0}}
	// A custom field may stand in several places, which are compared as text.
	custom := ref.Scope == schemas.ScopeCFCustomer || ref.Scope == schemas.ScopeCFTicket
	c.time = decl != nil && decl.Type == schemas.Timestamp && !custom
	return c
}

// setMark makes the present state the one that rollback returns to.
func (c *column) setMark() {
	c.mark = mark{n: c.n, bytes: c.ends[len(c.ends)-1], kind: c.kind, mixed: c.mixed}
}

// rollback forgets the values added since setMark.
func (c *column) rollback() {
	if c.n == c.mark.n {
		return
	}
	c.truncate(c.mark.n)
	c.kind, c.mixed = c.mark.kind, c.mark.mixed
}

// truncate keeps the first n values.
func (c *column) truncate(n int) {
	c.n = n
	if c.time {
		c.micros = c.micros[:n]
	} else {
		c.ends = c.ends[:n+1]
		c.data = c.data[:c.ends[n]]
	}
	if c.sparse {
		c.rows = c.rows[:n]
	}
	if c.mixed {
		c.kinds = c.kinds[:n]
	}
	if n == 0 {
		c.sparse, c.mixed, c.kind = false, false, kindNone
	}
}

// at notes that the next value is that of row.
func (c *column) at(row int32) {
	if c.sparse {
		c.rows = append(c.rows, row)
	} else if c.n != int(row) {
		c.spread(row)
	}
}

// spread starts rows at the first gap.
func (c *column) spread(row int32) {
	c.sparse = true
	c.rows = c.rows[:0]
	for i := range c.n {
		c.rows = append(c.rows, int32(i))
	}
	c.rows = append(c.rows, row)
}

// mix notes the kind of the next value where it is not that of all the others.
func (c *column) mix(kind uint8) {
	if c.n == 0 {
		c.kind = kind
		return
	}
	if !c.mixed {
		c.mixed = true
		c.kinds = c.kinds[:0]
		for range c.n {
			c.kinds = append(c.kinds, c.kind)
		}
	}
	c.kinds = append(c.kinds, kind)
}

// put adds a value with its text.
func (c *column) put(row int32, kind uint8, text []byte) {
	c.data = append(c.data, text...)
	c.end(row, kind)
}

// end adds a value whose text has been appended to data.
func (c *column) end(row int32, kind uint8) {
	c.at(row)
	if kind != c.kind || c.mixed {
		c.mix(kind)
	}
	c.ends = append(c.ends, int32(len(c.data)))
	c.n++
}

// putTime adds a timestamp.
func (c *column) putTime(row int32, micros int64) {
	c.at(row)
	c.micros = append(c.micros, micros)
	c.n++
}

// rowOf returns the row of value i.
func (c *column) rowOf(i int) int32 {
	if c.sparse {
		return c.rows[i]
	}
	return int32(i)
}

// has reports whether the last value is that of row, the row being read.
func (c *column) has(row int32) bool { return c.n > 0 && c.rowOf(c.n-1) == row }

// text returns the text of value i.
func (c *column) text(i int) []byte { return c.data[c.ends[i]:c.ends[i+1]] }

// kindOf returns the kind of value i.
func (c *column) kindOf(i int) uint8 {
	if c.mixed {
		return c.kinds[i]
	}
	return c.kind
}

// source returns the text of value i as a column of text shows it.
func (c *column) source(i int) []byte {
	switch c.kindOf(i) {
	case kindTrue:
		return []byte("true")
	case kindFalse:
		return []byte("false")
	default:
		return c.text(i)
	}
}

// note adds text to the misfit value of row, and says of what kind it was. Two
// in one row, which only custom fields that stand in several places can give,
// share it, a line each.
func (c *column) note(row int32, kind uint8, text []byte) {
	if c.n > 0 && c.rowOf(c.n-1) == row {
		c.data = append(append(c.data, '\n'), text...)
		c.ends[c.n] = int32(len(c.data))
		return
	}
	c.put(row, kind, text)
}

// contest decides between the value that row has and another one, from a place
// of the given rank, that has just been put after it: the lower rank stays,
// the earlier one among equals. A loser that differs goes to bad.
func (c *column) contest(row int32, rank int) (lostKind uint8, lost []byte, differ bool) {
	old, last := c.n-2, c.n-1
	differ = c.kindOf(old) != c.kindOf(last) || !bytes.Equal(c.text(old), c.text(last))
	if rank >= c.rank {
		lostKind, lost = c.kindOf(last), bytes.Clone(c.source(last))
		c.truncate(last)
		return lostKind, lost, differ
	}
	lostKind, lost = c.kindOf(old), bytes.Clone(c.source(old))
	kind, text := c.kindOf(last), bytes.Clone(c.text(last))
	c.truncate(old)
	c.put(row, kind, text)
	c.rank = rank
	return lostKind, lost, differ
}

// size returns about how many bytes the values take.
func (c *column) size() int64 {
	n := len(c.data) + 8*len(c.micros) + len(c.kinds)
	if !c.time {
		n += 4 * c.n
	}
	if c.sparse {
		n += 4 * c.n
	}
	return int64(n)
}

// run is a range of rows.
type run struct{ from, to int32 }

// compact keeps, of the values of the tentative page, those of the rows in
// kept, and numbers these rows on from base. kept ascends.
func (c *column) compact(kept []run, base int32) {
	w, src := c.mark.n, c.mark.n
	var bytes int32
	if !c.time {
		bytes = c.ends[w]
	}
	next := base
	for _, r := range kept {
		from := c.search(src, r.from)
		to := c.search(from, r.to)
		if c.sparse {
			for i := from; i < to; i++ {
				c.rows[w+i-from] = c.rows[i] - r.from + next
			}
		}
		if c.mixed {
			copy(c.kinds[w:], c.kinds[from:to])
		}
		if c.time {
			copy(c.micros[w:], c.micros[from:to])
		} else if to > from {
			first := c.ends[from]
			copy(c.data[bytes:], c.data[first:c.ends[to]])
			for i := from; i < to; i++ {
				c.ends[w+1+i-from] = c.ends[i+1] - first + bytes
			}
			bytes = c.ends[w+to-from]
		}
		w += to - from
		src = to
		next += r.to - r.from
	}
	c.truncate(w)
}

// search returns the first value from i on whose row is not before row.
func (c *column) search(i int, row int32) int {
	if !c.sparse {
		return max(i, min(int(row), c.n))
	}
	for i < c.n && c.rows[i] < row {
		i++
	}
	return i
}
