package transform

import (
	"sync"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// A sealed record takes over the memory of the columns that need no
// rearranging. When it is released, the memory goes back to the column that it
// came from, which is about to need as much again; meanwhile the column grows
// new memory. At most one set waits per column: the rest is garbage.

// spare is memory that waits for its column.
type spare struct {
	mu     sync.Mutex
	data   []byte
	ends   []int32
	micros []int64
}

// lease gives memory back when the buffer around it is released. It poses as
// the allocator that the buffer came from.
type lease struct {
	to     *spare
	data   []byte
	ends   []int32
	micros []int64
}

var _ memory.Allocator = (*lease)(nil)

// Allocate is never called: the buffer is not resizable.
func (*lease) Allocate(size int) []byte { return make([]byte, size) }

// Reallocate is never called: the buffer is not resizable.
func (*lease) Reallocate(size int, _ []byte) []byte { return make([]byte, size) }

// Free takes the memory back.
func (l *lease) Free([]byte) {
	l.to.mu.Lock()
	defer l.to.mu.Unlock()
	if cap(l.data) > cap(l.to.data) {
		l.to.data = l.data[:0]
	}
	if cap(l.ends) > cap(l.to.ends) {
		l.to.ends = l.ends[:0]
	}
	if cap(l.micros) > cap(l.to.micros) {
		l.to.micros = l.micros[:0]
	}
	l.data, l.ends, l.micros = nil, nil, nil
}

// lend wraps bytes, which is memory of the lease, or of nobody if from is nil.
func lend(from *column, bytes []byte, l lease) *memory.Buffer {
	if from == nil {
		return memory.NewBufferBytes(bytes)
	}
	l.to = &from.spare
	from.lent = true
	return memory.NewBufferWithAllocator(bytes, &l)
}

func (l *lane) lendFixed() *memory.Buffer {
	fixed := l.fixed[:l.n]
	if l.owner != nil {
		l.owner.micros = nil
	}
	return lend(l.owner, arrow.Int64Traits.CastToBytes(fixed), lease{micros: fixed})
}

func (l *lane) lendData() *memory.Buffer {
	data := l.data[:l.ends[l.n]]
	if l.owner != nil {
		l.owner.data = nil
	}
	return lend(l.owner, data, lease{data: data})
}

func (l *lane) lendText() (offsets, data *memory.Buffer) {
	data = l.lendData()
	ends := l.ends[:l.n+1]
	if l.owner != nil {
		l.owner.ends = nil
	}
	return lend(l.owner, arrow.Int32Traits.CastToBytes(ends), lease{ends: ends}), data
}

// reset empties the column.
func (c *column) reset() {
	c.n, c.kind, c.sparse, c.mixed = 0, kindNone, false, false
	c.rows, c.kinds, c.data, c.micros = c.rows[:0], c.kinds[:0], c.data[:0], c.micros[:0]
	c.ends = append(c.ends[:0], 0)
	c.setMark()
}

// recycle takes back what a released record had of the column, if the column
// is empty.
func (c *column) recycle() {
	if !c.lent || c.n > 0 {
		return
	}
	c.spare.mu.Lock()
	defer c.spare.mu.Unlock()
	if cap(c.spare.data) > cap(c.data) {
		c.data, c.spare.data = c.spare.data, nil
	}
	if cap(c.spare.ends) > cap(c.ends) {
		c.ends, c.spare.ends = append(c.spare.ends[:0], 0), nil
	}
	if cap(c.spare.micros) > cap(c.micros) {
		c.micros, c.spare.micros = c.spare.micros, nil
	}
}
