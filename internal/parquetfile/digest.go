package parquetfile

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/zeebo/xxh3"
)

const (
	hashSeed  = 0x9e3779b97f4a7c15 // any odd constant: the golden ratio
	nullShape = math.MaxUint32     // in place of a length; no value is that long
)

// mix is the multiply-and-fold step of wyhash.
func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^hashSeed, b^0xe7037ed1a0b428db)
	return hi ^ lo
}

// columnDigest is what is remembered of one column of one row group.
type columnDigest struct {
	nulls int64
	span  span
	hash  uint64
}

// digester reduces one column of one row group, given in row order in pieces
// of any size. It feeds two streams: the bytes of the values that are not
// null, and the shape. For strings the shape is the length of each row's value
// (nullShape for null); for fixed-width types it is the row number of each
// null. Both together fix the value of every row, so a column that is shifted,
// shortened, or has "" for null gives another hash. Hashing whole streams
// instead of values costs next to nothing.
//
// The streams are defined on values, not on a library's buffers: the writer's
// side feeds Arrow arrays, the verifier's side what another library decoded.
type digester struct {
	typ    arrow.Type
	rows   int64
	nulls  int64
	span   span
	values xxh3.Hasher
	shape  xxh3.Hasher
	buf    []byte // pending bytes of values
	shapes []byte // pending bytes of shape
}

const digestChunk = 16 << 10

func (d *digester) reset(t arrow.DataType) {
	d.typ = t.ID()
	d.rows, d.nulls, d.span = 0, 0, span{}
	d.values.Reset()
	d.shape.Reset()
	if d.buf == nil {
		d.buf = make([]byte, 0, digestChunk+64)
		d.shapes = make([]byte, 0, digestChunk+64)
	}
	d.buf, d.shapes = d.buf[:0], d.shapes[:0]
}

func (d *digester) sum() columnDigest {
	d.flushValues()
	d.flushShapes()
	h := mix(d.values.Sum64(), d.shape.Sum64())
	h = mix(h^uint64(d.rows), uint64(d.nulls)<<1|1)
	s := d.span
	s.min.s, s.max.s = strings.Clone(s.min.s), strings.Clone(s.max.s)
	return columnDigest{nulls: d.nulls, span: s, hash: h}
}

func (d *digester) flushValues() {
	if len(d.buf) > 0 {
		_, _ = d.values.Write(d.buf) // a Hasher's Write never fails
		d.buf = d.buf[:0]
	}
}

func (d *digester) flushShapes() {
	if len(d.shapes) > 0 {
		_, _ = d.shape.Write(d.shapes)
		d.shapes = d.shapes[:0]
	}
}

func (d *digester) addShape(v uint32) {
	d.shapes = binary.LittleEndian.AppendUint32(d.shapes, v)
	if len(d.shapes) >= digestChunk {
		d.flushShapes()
	}
}

// null counts a row without a value.
func (d *digester) null() {
	if d.typ == arrow.STRING {
		d.addShape(nullShape)
	} else {
		d.addShape(uint32(d.rows))
	}
	d.rows++
	d.nulls++
}

// integer counts a row of an integer, timestamp or date column; width is 8 or
// 4 bytes, 1 for booleans.
func (d *digester) integer(v int64, width int) {
	switch width {
	case 8:
		d.buf = binary.LittleEndian.AppendUint64(d.buf, uint64(v))
	case 4:
		d.buf = binary.LittleEndian.AppendUint32(d.buf, uint32(v))
	default:
		d.buf = append(d.buf, byte(v))
	}
	if len(d.buf) >= digestChunk {
		d.flushValues()
	}
	if !d.span.set {
		d.span = span{set: true, min: value{i: v}, max: value{i: v}}
	} else if v < d.span.min.i {
		d.span.min.i = v
	} else if v > d.span.max.i {
		d.span.max.i = v
	}
	d.rows++
}

func (d *digester) double(v float64) {
	d.buf = binary.LittleEndian.AppendUint64(d.buf, math.Float64bits(v))
	if len(d.buf) >= digestChunk {
		d.flushValues()
	}
	d.rows++
	if v != v { // NaN has no place in an order
		return
	}
	if !d.span.set {
		d.span = span{set: true, min: value{f: v}, max: value{f: v}}
		return
	}
	d.span.min.f = math.Min(d.span.min.f, v)
	d.span.max.f = math.Max(d.span.max.f, v)
}

// text counts a row of a string column. The caller may hand in a view: what is
// kept of it is copied by sum, so it has to stay unchanged until then.
func (d *digester) text(s string) {
	if len(s) >= digestChunk {
		d.flushValues()
		_, _ = d.values.WriteString(s)
	} else {
		d.buf = append(d.buf, s...)
		if len(d.buf) >= digestChunk {
			d.flushValues()
		}
	}
	d.addShape(uint32(len(s)))
	d.textSpan(s)
	d.rows++
}

func (d *digester) textSpan(s string) {
	if !d.span.set {
		d.span = span{set: true, min: value{s: s}, max: value{s: s}}
	} else if s < d.span.min.s {
		d.span.min.s = s
	} else if s > d.span.max.s {
		d.span.max.s = s
	}
}

// array digests an Arrow array.
func (d *digester) array(arr arrow.Array) error {
	switch a := arr.(type) {
	case *array.String:
		d.strings(a)
	case *array.Int64:
		digestInts(d, a.Int64Values(), a, 8)
	case *array.Timestamp:
		digestInts(d, a.TimestampValues(), a, 8)
	case *array.Date32:
		digestInts(d, a.Date32Values(), a, 4)
	case *array.Float64:
		for i, v := range a.Float64Values() {
			if a.NullN() > 0 && a.IsNull(i) {
				d.null()
			} else {
				d.double(v)
			}
		}
	case *array.Boolean:
		for i := range a.Len() {
			if a.IsNull(i) {
				d.null()
				continue
			}
			v := int64(0)
			if a.Value(i) {
				v = 1
			}
			d.integer(v, 1)
		}
	default:
		return fmt.Errorf("digest column: unsupported array %T", arr)
	}
	return nil
}

func digestInts[T ~int64 | ~int32](d *digester, values []T, a arrow.Array, width int) {
	if a.NullN() == 0 {
		for _, v := range values {
			d.integer(int64(v), width)
		}
		return
	}
	for i, v := range values {
		if a.IsNull(i) {
			d.null()
		} else {
			d.integer(int64(v), width)
		}
	}
}

func (d *digester) strings(a *array.String) {
	if a.NullN() == 0 {
		for i := range a.Len() {
			d.text(a.Value(i))
		}
		return
	}
	for i := range a.Len() {
		if a.IsNull(i) {
			d.null()
		} else {
			d.text(a.Value(i))
		}
	}
}
