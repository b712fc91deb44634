package parquetfile

import (
	"math/bits"

	"github.com/apache/arrow/go/v17/arrow"
)

// deltaBits estimates the average bits a value takes in DELTA_BINARY_PACKED,
// from a few miniblocks of 32 differences spread over the column.
func deltaBits[T ~int64 | ~int32](values []T, a arrow.Array) int {
	const (
		block  = 32
		blocks = 32
	)
	total, n := 0, 0
	step := max(len(values)/blocks, block+1)
	for from := 0; from < len(values); from += step {
		var lo, hi, prev int64
		count := 0
		for i := from; i < min(from+block+1, len(values)); i++ {
			if a.IsNull(i) {
				continue
			}
			v := int64(values[i])
			if count > 0 {
				d := v - prev
				if count == 1 {
					lo, hi = d, d
				}
				lo, hi = min(lo, d), max(hi, d)
			}
			prev = v
			count++
		}
		if count > 1 {
			total += bits.Len64(uint64(hi - lo))
			n++
		}
	}
	if n == 0 {
		return 0
	}
	return total / n
}
