package parquetfile

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"strings"
	"unsafe"

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
	least  uint64 // prefix of span.min.s
	most   uint64 // prefix of span.max.s
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

// textSpan widens the range to hold s. Most values are decided by their first
// eight bytes.
func (d *digester) textSpan(s string) {
	p := prefix(s)
	if !d.span.set {
		d.span = span{set: true, min: value{s: s}, max: value{s: s}}
		d.least, d.most = p, p
		return
	}
	if p <= d.least && (p < d.least || s < d.span.min.s) {
		d.span.min.s, d.least = s, p
	}
	if p >= d.most && (p > d.most || s > d.span.max.s) {
		d.span.max.s, d.most = s, p
	}
}

// prefix returns the first eight bytes of s as a number that orders as they
// do; shorter strings count as padded with zeroes, so equal prefixes say
// nothing.
func prefix(s string) uint64 {
	if len(s) >= 8 {
		_ = s[7]
		return uint64(s[7]) | uint64(s[6])<<8 | uint64(s[5])<<16 | uint64(s[4])<<24 |
			uint64(s[3])<<32 | uint64(s[2])<<40 | uint64(s[1])<<48 | uint64(s[0])<<56
	}
	v := uint64(0)
	for i := range len(s) {
		v |= uint64(s[i]) << (56 - 8*i)
	}
	return v
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
	nulls, valid := a.NullN() > 0, validityOf(a)
	for i, v := range values {
		if nulls && valid.bit(i) == 0 {
			d.null()
		} else {
			d.integer(int64(v), width)
		}
	}
}

// strings feeds the values' bytes in runs as long as they lie side by side,
// which is the whole buffer unless a null has bytes of its own.
func (d *digester) strings(a *array.String) {
	if a.Len() == 0 {
		return
	}
	offsets := a.ValueOffsets()
	base := offsets[0]
	bytes := a.ValueBytes()
	text := unsafe.String(unsafe.SliceData(bytes), len(bytes)) // a view; sum copies what it keeps
	d.flushValues()
	run := base
	nulls, valid := a.NullN() > 0, validityOf(a)
	for i := range a.Len() {
		from, to := offsets[i], offsets[i+1]
		if nulls && valid.bit(i) == 0 {
			d.null()
			if from != to {
				_, _ = d.values.WriteString(text[run-base : from-base])
				run = to
			}
			continue
		}
		d.addShape(uint32(to - from))
		d.textSpan(text[from-base : to-base])
		d.rows++
	}
	_, _ = d.values.WriteString(text[run-base:])
}
