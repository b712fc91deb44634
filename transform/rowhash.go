package transform

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/zeebo/xxh3"
)

// columnSeed is what the values of a column are hashed with.
func columnSeed(name string) uint64 { return xxh3.HashString("sluice/row/1\x00" + name) }

// RowHash returns _sluice_hash of a row as Seal makes it: of all columns but
// Sluice's own, nulls not counting. It is for rows that are made of stored ones.
func RowHash(rec arrow.Record, row int) (int64, error) {
	var sum int64
	for i, f := range rec.Schema().Fields() {
		col := rec.Column(i)
		if strings.HasPrefix(f.Name, "_sluice_") || col.IsNull(row) {
			continue
		}
		var value []byte
		fixed := binary.LittleEndian.AppendUint64
		switch a := col.(type) {
		case *array.String:
			value = []byte(a.Value(row))
		case *array.Int64:
			value = fixed(nil, uint64(a.Value(row))) //nolint:gosec // its bits
		case *array.Timestamp:
			value = fixed(nil, uint64(a.Value(row))) //nolint:gosec // its bits
		case *array.Date32:
			value = fixed(nil, uint64(int64(a.Value(row)))) //nolint:gosec // its bits
		case *array.Float64:
			value = fixed(nil, math.Float64bits(a.Value(row)))
		case *array.Boolean:
			value = []byte{0}
			if a.Value(row) {
				value[0] = 1
			}
		default:
			return 0, fmt.Errorf("hash row: column %s is %s", f.Name, col.DataType())
		}
		sum += int64(xxh3.HashSeed(value, columnSeed(f.Name))) //nolint:gosec // its bits
	}
	return sum, nil
}
