package transform

import (
	"encoding/binary"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/zeebo/xxh3"

	"github.com/sluice-etl/sluice/schemas"
)

// lane is a column with its type settled: values, still without the nulls.
type lane struct {
	typ  schemas.Type
	n    int
	rows []int32 // the row of each value; nil: value i is that of row i

	ends  []int32 // string, json: as in column
	data  []byte
	fixed []int64 // the others but bool; float64 as its bits
	bools []uint8 // 0 or 1

	owner *column // whose memory ends, data and fixed are; nil for the garbage collector's
}

// rowList returns the row of each value, nil where value i is that of row i.
func (c *column) rowList() []int32 {
	if c.sparse {
		return c.rows[:c.n]
	}
	return nil
}

// textLane returns the texts of c as a string column.
func textLane(c *column) *lane {
	return &lane{typ: schemas.String, n: c.n, rows: c.rowList(), ends: c.ends, data: c.data, owner: c}
}

// observed returns the kinds of all values.
func (c *column) observed() schemas.Kinds {
	var k schemas.Kinds
	if !c.mixed && c.kind != kindNumber {
		return kindsOf(c.kind, nil)
	}
	for i := range c.n {
		k |= kindsOf(c.kindOf(i), c.text(i))
	}
	return k
}

func kindsOf(kind uint8, text []byte) schemas.Kinds {
	switch kind {
	case kindString:
		return schemas.KindString
	case kindTrue, kindFalse:
		return schemas.KindBool
	case kindNested:
		return schemas.KindNested
	case kindNumber:
		return numberKind(text)
	default:
		return 0
	}
}

// holds reports whether a column of type t takes a value of col. A declared
// column takes its own type alone; a discovered one what Type.Fits says.
func (c *column) holds(t schemas.Type, kind uint8, text []byte) bool {
	if c.decl != nil {
		return fits(t, kind, text)
	}
	return t.Fits(kindsOf(kind, text))
}

// whole reports whether all values of c have one kind whose text is what a
// column of type t stores.
func (c *column) whole(t schemas.Type) bool {
	if c.mixed {
		return false
	}
	switch t {
	case schemas.String:
		return c.kind == kindString || c.decl == nil && c.kind == kindNumber
	case schemas.JSON:
		return c.kind == kindNested || c.kind == kindNumber
	default:
		return false
	}
}

// convert gives the values of c the type t. Those that it does not hold come
// back as text, nil if there are none.
func convert(c *column, t schemas.Type) (good *lane, bad *column) {
	if c.time {
		return &lane{typ: t, n: c.n, rows: c.rowList(), fixed: c.micros, owner: c}, nil
	}
	if c.whole(t) {
		return &lane{typ: t, n: c.n, rows: c.rowList(), ends: c.ends, data: c.data, owner: c}, nil
	}
	if t == schemas.Bool && !slices.ContainsFunc(c.kindList(), notBool) {
		return c.boolLane(), nil
	}
	good = &lane{typ: t, ends: []int32{0}}
	rows := make([]int32, 0, c.n)
	for i := range c.n {
		kind, text := c.kindOf(i), c.text(i)
		if !c.holds(t, kind, text) {
			if bad == nil {
				bad = newColumn(c.ref, nil)
				bad.misfit = true
			}
			bad.put(c.rowOf(i), kind, c.source(i))
			continue
		}
		rows = append(rows, c.rowOf(i))
		good.add(kind, text, c.source(i))
	}
	good.n = len(rows)
	if c.sparse || good.n < c.n {
		good.rows = rows
	}
	return good, bad
}

// kindList returns the kinds that occur, at least once each.
func (c *column) kindList() []uint8 {
	if c.mixed {
		return c.kinds[:c.n]
	}
	return []uint8{c.kind}
}

func notBool(kind uint8) bool { return kind != kindTrue && kind != kindFalse }

// boolLane returns the values of c, which are all true or false.
func (c *column) boolLane() *lane {
	l := &lane{typ: schemas.Bool, n: c.n, rows: c.rowList(), bools: make([]uint8, c.n)}
	for i := range l.bools {
		if c.kindOf(i) == kindTrue {
			l.bools[i] = 1
		}
	}
	return l
}

// add appends a value that fits.
func (l *lane) add(kind uint8, text, source []byte) {
	switch l.typ {
	case schemas.Int64:
		_, i, _ := kindOfNumber(text)
		l.fixed = append(l.fixed, i)
	case schemas.Float64:
		_, _, f := kindOfNumber(text)
		l.fixed = append(l.fixed, int64(math.Float64bits(f)))
	case schemas.Date:
		days, _ := parseDate(text)
		l.fixed = append(l.fixed, days)
	case schemas.Timestamp:
		us, _ := parseTimestamp(text)
		l.fixed = append(l.fixed, us)
	case schemas.Bool:
		v := uint8(0)
		if kind == kindTrue || kind == kindString && string(text) == "true" {
			v = 1
		}
		l.bools = append(l.bools, v)
	case schemas.JSON:
		l.data = appendJSON(l.data, kind, text)
		l.ends = append(l.ends, int32(len(l.data)))
	default:
		l.data = append(l.data, source...)
		l.ends = append(l.ends, int32(len(l.data)))
	}
}

// mergeTexts returns the texts of a and b, either of which may be nil, in row
// order; in a row that has both, a line each.
func mergeTexts(a, b *column) *column {
	switch {
	case b == nil || b.n == 0:
		return a
	case a == nil || a.n == 0:
		return b
	}
	out := newColumn(a.ref, nil)
	out.misfit = true
	for i, j := 0, 0; i < a.n || j < b.n; {
		if j == b.n || i < a.n && a.rowOf(i) <= b.rowOf(j) {
			out.note(a.rowOf(i), a.kindOf(i), a.text(i))
			i++
			continue
		}
		out.note(b.rowOf(j), b.kindOf(j), b.text(j))
		j++
	}
	return out
}

// appendJSON appends a value as JSON text.
func appendJSON(dst []byte, kind uint8, text []byte) []byte {
	switch kind {
	case kindString:
		return appendQuoted(dst, text)
	case kindTrue:
		return append(dst, "true"...)
	case kindFalse:
		return append(dst, "false"...)
	default:
		return append(dst, text...)
	}
}

// appendQuoted appends text, valid UTF-8, as a JSON string. It is never longer
// than any other way to write it in JSON.
func appendQuoted(dst, text []byte) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for _, b := range text {
		switch {
		case b == '"' || b == '\\':
			dst = append(dst, '\\', b)
		case b >= ' ' || b >= utf8.RuneSelf:
			dst = append(dst, b)
		case b == '\n':
			dst = append(dst, '\\', 'n')
		case b == '\r':
			dst = append(dst, '\\', 'r')
		case b == '\t':
			dst = append(dst, '\\', 't')
		case b == '\b':
			dst = append(dst, '\\', 'b')
		case b == '\f':
			dst = append(dst, '\\', 'f')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[b>>4], hex[b&15])
		}
	}
	return append(dst, '"')
}

// hash computes _sluice_hash. This is a stored format: rows of other runs are
// compared by it, so it may never change.
//
//	hash = sum mod 2^64, over the exported columns that are not null in the
//	       row, of xxh3_64(value, seed = xxh3_64("sluice/row/1" 00 column name))
//
// where value is the text of string and json columns, one byte 0 or 1 of bool,
// and 8 bytes, little-endian, of the others: int64, the bits of float64,
// microseconds of timestamp, days of date. The order of columns and columns
// that are null do not change it; system columns have no part in it.
func (s *sealer) hash() {
	s.hashes = make([]int64, s.rows)
	sums := s.hashes
	for name, l := range s.lanes {
		seed := columnSeed(name)
		switch {
		case l.bools != nil:
			of := [2]int64{int64(xxh3.HashSeed([]byte{0}, seed)), int64(xxh3.HashSeed([]byte{1}, seed))}
			for i, v := range l.bools[:l.n] {
				sums[l.rowOf(i)] += of[v]
			}
		case l.fixed != nil:
			var buf [8]byte
			for i, v := range l.fixed[:l.n] {
				binary.LittleEndian.PutUint64(buf[:], uint64(v))
				sums[l.rowOf(i)] += int64(xxh3.HashSeed(buf[:], seed))
			}
		default:
			from := l.ends[0]
			for i, to := range l.ends[1 : l.n+1] {
				sums[l.rowOf(i)] += int64(xxh3.HashSeed(l.data[from:to], seed))
				from = to
			}
		}
	}
}

func (l *lane) rowOf(i int) int32 {
	if l.rows != nil {
		return l.rows[i]
	}
	return int32(i)
}
