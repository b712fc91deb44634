package parquetfile

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/file"
)

// columnReader decodes one column of one row group into Arrow arrays. It calls
// the library's column reader itself: pqarrow starts goroutines whose panics
// nobody can recover from. The arrays share no memory with it.
type columnReader struct {
	cr    file.ColumnChunkReader
	field arrow.Field
	*readScratch
}

// readScratch is what decoding a batch of a column needs meanwhile. The columns
// of a file share one: half a megabyte each adds up where many files are open.
type readScratch struct {
	levels []int16 // of the column being read; nil for a required one
	buf    []int16
	texts  []parquet.ByteArray
	bools  []bool
}

// skip drops n rows. The library's own Skip decodes into memory that the
// collector does not know to hold pointers.
func (c *columnReader) skip(n int) error {
	a, err := c.read(n)
	if err == nil {
		a.Release()
	}
	return err
}

// read decodes the next n rows.
func (c *columnReader) read(n int) (arrow.Array, error) {
	c.level(n, c.field.Nullable)
	switch cr := c.cr.(type) {
	case *file.ByteArrayColumnChunkReader:
		return c.strings(cr, n)
	case *file.Int64ColumnChunkReader:
		values := make([]int64, n)
		return c.fixed(n, arrow.Int64Traits.CastToBytes(values), func() (int64, int, error) {
			return cr.ReadBatch(int64(n), values, c.levels, nil)
		}, func(valid []byte) { spread(values, valid) })
	case *file.Int32ColumnChunkReader:
		values := make([]int32, n)
		return c.fixed(n, arrow.Int32Traits.CastToBytes(values), func() (int64, int, error) {
			return cr.ReadBatch(int64(n), values, c.levels, nil)
		}, func(valid []byte) { spread(values, valid) })
	case *file.Float64ColumnChunkReader:
		values := make([]float64, n)
		return c.fixed(n, arrow.Float64Traits.CastToBytes(values), func() (int64, int, error) {
			return cr.ReadBatch(int64(n), values, c.levels, nil)
		}, func(valid []byte) { spread(values, valid) })
	case *file.BooleanColumnChunkReader:
		return c.booleans(cr, n)
	default:
		return nil, fmt.Errorf("unsupported column reader %T", cr)
	}
}

// level provides n levels, none for a required column.
func (s *readScratch) level(n int, nullable bool) {
	s.levels = nil
	if nullable {
		s.buf = slices.Grow(s.buf[:0], n)[:n]
		s.levels = s.buf
	}
}

// check compares what ReadBatch gave with what was asked, because it ends
// early without an error on a damaged page. It returns the number of nulls.
func (c *columnReader) check(n int, rows int64, values int, err error) (nulls int, _ error) {
	if err == nil {
		err = c.cr.Err()
	}
	if err != nil {
		return 0, err
	}
	if rows != int64(n) {
		return 0, fmt.Errorf("column ends %d rows early", int64(n)-rows)
	}
	for _, l := range c.levels {
		if l == 0 {
			nulls++
		}
	}
	if values != n-nulls {
		return 0, fmt.Errorf("%d values for %d rows with %d nulls", values, n, nulls)
	}
	return nulls, nil
}

// validity returns the bitmap of the levels, nil where there is no null.
func (c *columnReader) validity(n, nulls int) []byte {
	if nulls == 0 {
		return nil
	}
	return bitmap(c.levels[:n])
}

// fixed reads a fixed-width column whose values stand in data.
func (c *columnReader) fixed(n int, data []byte, read func() (int64, int, error), spread func(valid []byte)) (arrow.Array, error) {
	rows, values, err := read()
	nulls, err := c.check(n, rows, values, err)
	if err != nil {
		return nil, err
	}
	valid := c.validity(n, nulls)
	if valid != nil {
		spread(valid)
	}
	return c.array(n, nulls, valid, data), nil
}

// spread moves values that stand densely at the front to the rows where valid
// has a bit, from the back, and zeroes the others.
func spread[T any](values []T, valid []byte) {
	from := 0
	for i := range values {
		if valid[i>>3]&(1<<(i&7)) != 0 {
			from++
		}
	}
	var zero T
	for i := len(values) - 1; i >= 0; i-- {
		if valid[i>>3]&(1<<(i&7)) != 0 {
			from--
			values[i] = values[from]
		} else {
			values[i] = zero
		}
	}
}

func (c *columnReader) array(n, nulls int, buffers ...[]byte) arrow.Array {
	bufs := make([]*memory.Buffer, len(buffers))
	for i, b := range buffers {
		if b != nil || i > 0 {
			bufs[i] = memory.NewBufferBytes(b)
		}
	}
	data := array.NewData(c.field.Type, n, bufs, nil, nulls, 0)
	defer data.Release()
	return array.MakeFromData(data)
}

func (c *columnReader) booleans(cr *file.BooleanColumnChunkReader, n int) (arrow.Array, error) {
	c.bools = slices.Grow(c.bools[:0], n)[:n]
	rows, values, err := cr.ReadBatch(int64(n), c.bools, c.levels, nil)
	nulls, err := c.check(n, rows, values, err)
	if err != nil {
		return nil, err
	}
	valid := c.validity(n, nulls)
	if valid != nil {
		spread(c.bools, valid)
	}
	bits := make([]byte, (n+7)/8)
	for i, v := range c.bools {
		if v {
			bits[i>>3] |= 1 << (i & 7)
		}
	}
	return c.array(n, nulls, valid, bits), nil
}

func (c *columnReader) strings(cr *file.ByteArrayColumnChunkReader, n int) (arrow.Array, error) {
	c.texts = slices.Grow(c.texts[:0], n)[:n]
	defer clear(c.texts) // they hold the library's pages
	rows, values, err := cr.ReadBatch(int64(n), c.texts, c.levels, nil)
	nulls, err := c.check(n, rows, values, err)
	if err != nil {
		return nil, err
	}
	total := 0
	for _, t := range c.texts[:values] {
		total += len(t)
	}
	if total > math.MaxInt32 {
		return nil, errors.New("more than 2 GiB of text in one batch")
	}
	offsets := make([]int32, n+1)
	data := make([]byte, 0, total)
	next := 0
	for i := range n {
		if c.levels == nil || c.levels[i] != 0 {
			data = append(data, c.texts[next]...)
			next++
		}
		offsets[i+1] = int32(len(data))
	}
	return c.array(n, nulls, c.validity(n, nulls), arrow.Int32Traits.CastToBytes(offsets), data), nil
}
