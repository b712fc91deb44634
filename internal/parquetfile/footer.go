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
	if err := v.checkBound(g, f, "minimum of the footer", s.GetMinValue(), s.IsSetMinValue(), want.span, want.span.min); err != nil {
		return err
	}
	return v.checkBound(g, f, "maximum of the footer", s.GetMaxValue(), s.IsSetMaxValue(), want.span, want.span.max)
}

func (v *verifier) checkBound(g int, f arrow.Field, what string, got []byte, set bool, in span, want value) error {
	if !set {
		return nil // nothing to prune by: long strings have no bounds
	}
	if !in.set {
		return v.mismatch(g, f.Name, what, "none", "a value")
	}
	found, ok := decodeBound(f.Type, got)
	if !ok {
		return v.mismatch(g, f.Name, what, "a value of "+f.Type.String(), "not one")
	}
	if found != want && !(f.Type.ID() == arrow.FLOAT64 && found.f == want.f) {
		// Not the values: they may be personal data.
		return v.mismatch(g, f.Name, what, "the bound of the values", "another value")
	}
	return nil
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
