package parquet

import (
	"fmt"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/bitutil"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// pick returns the rows of rec that idx names, which ascend. Neighbouring rows
// are a slice of rec's own memory; otherwise the values are copied. The caller
// releases the result.
func pick(mem memory.Allocator, rec arrow.Record, idx []int32) (arrow.Record, error) {
	if n := len(idx); n == 0 || int(idx[n-1]-idx[0]) == n-1 {
		if n == 0 {
			return rec.NewSlice(0, 0), nil
		}
		return rec.NewSlice(int64(idx[0]), int64(idx[0])+int64(n)), nil
	}
	cols := make([]arrow.Array, 0, rec.NumCols())
	defer func() {
		for _, c := range cols {
			c.Release()
		}
	}()
	for i, col := range rec.Columns() {
		c, err := gather(mem, col, idx)
		if err != nil {
			return nil, fmt.Errorf("copy column %s: %w", rec.ColumnName(i), err)
		}
		cols = append(cols, c)
	}
	return array.NewRecord(rec.Schema(), cols, int64(len(idx))), nil
}

// gather copies the values of col at idx.
func gather(mem memory.Allocator, col arrow.Array, idx []int32) (arrow.Array, error) {
	n := len(idx)
	valid, nulls := gatherValid(mem, col, idx)
	bufs := []*memory.Buffer{valid}
	switch a := col.(type) {
	case *array.Int64:
		bufs = append(bufs, gatherFixed(mem, arrow.Int64Traits.CastFromBytes, arrow.Int64Traits.BytesRequired(n), a.Int64Values(), idx))
	case *array.Float64:
		bufs = append(bufs, gatherFixed(mem, arrow.Float64Traits.CastFromBytes, arrow.Float64Traits.BytesRequired(n), a.Float64Values(), idx))
	case *array.Timestamp:
		bufs = append(bufs, gatherFixed(mem, arrow.TimestampTraits.CastFromBytes, arrow.TimestampTraits.BytesRequired(n), a.TimestampValues(), idx))
	case *array.Date32:
		bufs = append(bufs, gatherFixed(mem, arrow.Date32Traits.CastFromBytes, arrow.Date32Traits.BytesRequired(n), a.Date32Values(), idx))
	case *array.Boolean:
		b := newBuffer(mem, int(bitutil.BytesForBits(int64(n))))
		clear(b.Bytes())
		for k, i := range idx {
			if a.Value(int(i)) {
				bitutil.SetBit(b.Bytes(), k)
			}
		}
		bufs = append(bufs, b)
	case *array.String:
		offsets, data, err := gatherStrings(mem, a, idx)
		if err != nil {
			if valid != nil {
				valid.Release()
			}
			return nil, err
		}
		bufs = append(bufs, offsets, data)
	default:
		if valid != nil {
			valid.Release()
		}
		return nil, fmt.Errorf("type %s is none that tables have", col.DataType())
	}
	data := array.NewData(col.DataType(), n, bufs, nil, nulls, 0)
	defer data.Release()
	for _, b := range bufs {
		if b != nil {
			b.Release()
		}
	}
	return array.MakeFromData(data), nil
}

func newBuffer(mem memory.Allocator, size int) *memory.Buffer {
	b := memory.NewResizableBuffer(mem)
	b.Resize(size)
	return b
}

func gatherValid(mem memory.Allocator, col arrow.Array, idx []int32) (*memory.Buffer, int) {
	if col.NullN() == 0 {
		return nil, 0
	}
	b := newBuffer(mem, int(bitutil.BytesForBits(int64(len(idx)))))
	clear(b.Bytes())
	nulls := 0
	for k, i := range idx {
		if col.IsValid(int(i)) {
			bitutil.SetBit(b.Bytes(), k)
		} else {
			nulls++
		}
	}
	return b, nulls
}

func gatherFixed[T any](mem memory.Allocator, cast func([]byte) []T, size int, from []T, idx []int32) *memory.Buffer {
	b := newBuffer(mem, size)
	to := cast(b.Bytes())
	for k, i := range idx {
		to[k] = from[i]
	}
	return b
}

func gatherStrings(mem memory.Allocator, a *array.String, idx []int32) (offsets, data *memory.Buffer, err error) {
	total := 0
	for _, i := range idx {
		total += a.ValueLen(int(i))
	}
	if total > 1<<31-1 {
		return nil, nil, fmt.Errorf("%d bytes of text in %d rows do not fit one batch", total, len(idx))
	}
	offsets, data = newBuffer(mem, arrow.Int32Traits.BytesRequired(len(idx)+1)), newBuffer(mem, total)
	to, out := arrow.Int32Traits.CastFromBytes(offsets.Bytes()), data.Bytes()
	at := 0
	to[0] = 0
	for k, i := range idx {
		at += copy(out[at:], a.Value(int(i)))
		to[k+1] = int32(at)
	}
	return offsets, data, nil
}
