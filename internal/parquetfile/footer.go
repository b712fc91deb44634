package parquetfile

import (
	"encoding/binary"
	"math"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/xitongsys/parquet-go/parquet"
)

// checkChunk compares the footer's entry for one column of one row group with
// what was written: a wrong null count or bound makes readers skip rows
// without a word.
func (v *verifier) checkChunk(g int, f arrow.Field, m *parquet.ColumnMetaData, rows int64, want columnDigest) error {
	if m == nil {
		return v.mismatch(g, f.Name, "metadata", "an entry", "nothing")
	}
	start := m.GetDataPageOffset()
	if m.IsSetDictionaryPageOffset() {
		start = min(start, m.GetDictionaryPageOffset())
	}
	if n := m.GetTotalCompressedSize(); start < 0 || n < 0 || start > v.size || n > v.size-start {
		return v.mismatch(g, f.Name, "place in the file", "inside of it", "outside")
	}
	if m.GetNumValues() != rows {
		return v.mismatch(g, f.Name, "number of values", rows, m.GetNumValues())
	}
	s := m.GetStatistics()
	if s == nil {
		return nil
	}
	if s.IsSetNullCount() && s.GetNullCount() != want.nulls {
		return v.mismatch(g, f.Name, "null count of the footer", want.nulls, s.GetNullCount())
	}
	b := bound{group: g, field: f, in: want.span}
	b.what, b.got, b.set, b.want = "minimum of the footer", s.GetMinValue(), s.IsSetMinValue(), want.span.min
	if err := v.checkBound(b); err != nil {
		return err
	}
	b.what, b.got, b.set, b.want = "maximum of the footer", s.GetMaxValue(), s.IsSetMaxValue(), want.span.max
	return v.checkBound(b)
}

// bound is one bound of a footer.
type bound struct {
	group int
	field arrow.Field
	what  string
	got   []byte
	set   bool
	in    span  // of the values written
	want  value // this end of it
}

func (v *verifier) checkBound(b bound) error {
	if !b.set {
		return nil // nothing to prune by: long strings have no bounds
	}
	name := b.field.Name
	if !b.in.set {
		return v.mismatch(b.group, name, b.what, "none", "a value")
	}
	found, ok := decodeBound(b.field.Type, b.got)
	if !ok {
		return v.mismatch(b.group, name, b.what, "a value of "+b.field.Type.String(), "not one")
	}
	if b.field.Type.ID() == arrow.FLOAT64 {
		ok = sameDouble(found.f, b.want.f)
	} else {
		ok = found == b.want
	}
	if !ok {
		// Not the values: they may be personal data.
		return v.mismatch(b.group, name, b.what, "the bound of the values", "another value")
	}
	return nil
}

// sameDouble allows what arrow v17 writes where every value is infinite: the
// largest finite value, a bound that is too wide and loses nothing. Zeroes of
// either sign are one value to a bound.
func sameDouble(found, want float64) bool {
	if math.IsInf(want, 0) && found == math.Copysign(math.MaxFloat64, want) {
		return true
	}
	return found == want
}

// decodeBound decodes a bound of a footer (plain encoding without a length).
func decodeBound(t arrow.DataType, b []byte) (value, bool) {
	switch t.ID() {
	case arrow.STRING:
		return value{s: string(b)}, true
	case arrow.BOOL:
		if len(b) != 1 {
			return value{}, false
		}
		return value{i: int64(b[0])}, true
	case arrow.DATE32:
		if len(b) != 4 {
			return value{}, false
		}
		return value{i: int64(int32(binary.LittleEndian.Uint32(b)))}, true
	case arrow.FLOAT64:
		if len(b) != 8 {
			return value{}, false
		}
		return value{f: math.Float64frombits(binary.LittleEndian.Uint64(b))}, true
	default:
		if len(b) != 8 {
			return value{}, false
		}
		return value{i: int64(binary.LittleEndian.Uint64(b))}, true
	}
}
