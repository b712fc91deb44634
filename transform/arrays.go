package transform

import (
	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/bitutil"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/sluice-etl/sluice/schemas"
)

// builder wraps lanes as Arrow arrays of rows elements.
type builder struct {
	mem   memory.Allocator
	rows  int
	order *order // nil where rows stay in place

	zeros *memory.Buffer // of all columns that are null throughout
	ends  []int32        // scratch
	next  []int32        // scratch
}

func (b *builder) close() {
	if b.zeros != nil {
		b.zeros.Release()
	}
}

// array returns l as an array of type t; a nil l is all null.
func (b *builder) array(t schemas.Type, l *lane) arrow.Array {
	var bufs []*memory.Buffer
	nulls := b.rows
	switch {
	case l == nil:
		bufs = b.null(t)
	case t == schemas.String || t == schemas.JSON:
		bufs = b.strings(l)
	case t == schemas.Bool:
		bufs = b.bools(l)
	case t == schemas.Date:
		bufs = b.dates(l)
	default:
		bufs = b.words(l)
	}
	if l != nil {
		nulls -= l.n
	}
	data := array.NewData(t.Arrow(), b.rows, bufs, nil, nulls, 0)
	for _, buf := range bufs {
		if buf != nil {
			buf.Release()
		}
	}
	defer data.Release()
	return array.MakeFromData(data)
}

// alloc returns a buffer of n bytes from mem, which may hold anything.
func (b *builder) alloc(n int) *memory.Buffer {
	buf := memory.NewResizableBuffer(b.mem)
	buf.Resize(n)
	return buf
}

// zeroed returns a buffer of n zeros from mem.
func (b *builder) zeroed(n int) *memory.Buffer {
	buf := b.alloc(n)
	clear(buf.Bytes())
	return buf
}

// null returns the buffers of a column without values.
func (b *builder) null(t schemas.Type) []*memory.Buffer {
	if b.zeros == nil {
		b.zeros = b.zeroed(8 * (b.rows + 1))
	}
	n := 2
	if t == schemas.String || t == schemas.JSON {
		n = 3
	}
	bufs := make([]*memory.Buffer, n)
	for i := range bufs {
		b.zeros.Retain()
		bufs[i] = b.zeros
	}
	return bufs
}

// full reports whether l has a value in every row, in order.
func (b *builder) full(l *lane) bool { return l.n == b.rows }

// place returns where row stands in the arrays.
func (b *builder) place(row int32) int32 {
	if b.order == nil {
		return row
	}
	return b.order.places[row]
}

// valid returns the validity bitmap of l, nil where nothing is null.
func (b *builder) valid(l *lane) *memory.Buffer {
	if b.full(l) {
		return nil
	}
	buf := b.zeroed(int(bitutil.BytesForBits(int64(b.rows))))
	bits := buf.Bytes()
	for i := range l.n {
		bitutil.SetBit(bits, int(b.place(l.rowOf(i))))
	}
	return buf
}

// words returns the buffers of a column of 8-byte values.
func (b *builder) words(l *lane) []*memory.Buffer {
	if b.full(l) && b.order == nil {
		return []*memory.Buffer{nil, l.lendFixed()}
	}
	buf := b.zeroed(8 * b.rows)
	out := arrow.Int64Traits.CastFromBytes(buf.Bytes())
	for i, v := range l.fixed[:l.n] {
		out[b.place(l.rowOf(i))] = v
	}
	return []*memory.Buffer{b.valid(l), buf}
}

func (b *builder) dates(l *lane) []*memory.Buffer {
	buf := b.zeroed(4 * b.rows)
	out := arrow.Int32Traits.CastFromBytes(buf.Bytes())
	for i, v := range l.fixed[:l.n] {
		out[b.place(l.rowOf(i))] = int32(v)
	}
	return []*memory.Buffer{b.valid(l), buf}
}

func (b *builder) bools(l *lane) []*memory.Buffer {
	buf := b.zeroed(int(bitutil.BytesForBits(int64(b.rows))))
	bits := buf.Bytes()
	for i, v := range l.bools[:l.n] {
		if v != 0 {
			bitutil.SetBit(bits, int(b.place(l.rowOf(i))))
		}
	}
	return []*memory.Buffer{b.valid(l), buf}
}

// strings returns the buffers of a column of text.
func (b *builder) strings(l *lane) []*memory.Buffer {
	switch {
	case b.order != nil:
		return b.gather(l)
	case b.full(l):
		offsets, data := l.lendText()
		return []*memory.Buffer{nil, offsets, data}
	}
	buf := b.alloc(4 * (b.rows + 1))
	spreadEnds(arrow.Int32Traits.CastFromBytes(buf.Bytes()), l)
	return []*memory.Buffer{b.valid(l), buf, l.lendData()}
}

// spreadEnds writes the offsets of all rows: a null is empty.
func spreadEnds(out []int32, l *lane) {
	row, end := 0, int32(0)
	for i := range l.n {
		for to := int(l.rowOf(i)); row <= to; row++ {
			out[row] = end
		}
		end = l.ends[i+1]
	}
	for ; row < len(out); row++ {
		out[row] = end
	}
}

// gather copies the texts of l into their places. It reads in order and
// writes to as many places as there are months, which caches like better than
// the opposite.
func (b *builder) gather(l *lane) []*memory.Buffer {
	ends := l.ends
	if !b.full(l) {
		if b.ends == nil {
			b.ends = make([]int32, b.rows+1)
		}
		spreadEnds(b.ends, l)
		ends = b.ends
	}
	if b.next == nil {
		b.next = make([]int32, len(b.order.first))
	}
	next := b.next // where the next text of each group goes
	clear(next)
	for row, g := range b.order.group {
		next[g] += ends[row+1] - ends[row]
	}
	var n int32
	for g, size := range next {
		next[g] = n
		n += size
	}
	offsets, data := b.alloc(4*(b.rows+1)), b.alloc(int(n))
	out, to := arrow.Int32Traits.CastFromBytes(offsets.Bytes()), data.Bytes()
	for row, g := range b.order.group {
		at := next[g]
		out[b.order.places[row]] = at
		next[g] = at + int32(copy(to[at:], l.data[ends[row]:ends[row+1]]))
	}
	out[b.rows] = n
	return []*memory.Buffer{b.valid(l), offsets, data}
}
