package parquetfile

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
)

// Stats says what a finished file holds, computed from the records given to
// Writer, never from what the Parquet library says it wrote. Verify needs the
// value that Finish returned: the exported fields alone do not carry the
// hashes of each row group.
type Stats struct {
	Rows    int64         `json:"rows"`
	Bytes   int64         `json:"bytes"`
	SHA256  string        `json:"sha256"` // of the file's bytes, hexadecimal
	Columns []ColumnStats `json:"columns"`

	schema *arrow.Schema
	groups []groupStats
}

// ColumnStats describes one column of a file. Min and Max may be personal
// data: keep them out of logs.
type ColumnStats struct {
	Name  string `json:"name"`
	Nulls int64  `json:"nulls"`
	// Min and Max are the smallest and largest value, printed: timestamps as
	// RFC 3339 in UTC, dates as YYYY-MM-DD, strings as they are. Both are
	// empty and HasRange is false where there is no value to compare (no rows,
	// all null, or all NaN).
	Min      string `json:"min"`
	Max      string `json:"max"`
	HasRange bool   `json:"has_range"`
	// Hash depends on every value, on which rows are null, and on the row each
	// value stands in.
	Hash uint64 `json:"hash"`
}

// Column returns the statistics of the column called name, false if there is
// none.
func (s Stats) Column(name string) (ColumnStats, bool) {
	for _, c := range s.Columns {
		if c.Name == name {
			return c, true
		}
	}
	return ColumnStats{}, false
}

// groupStats is one row group: what verification compares.
type groupStats struct {
	rows    int64
	columns []columnDigest
}

// summarize folds the row groups into one ColumnStats a column.
func summarize(schema *arrow.Schema, groups []groupStats) []ColumnStats {
	out := make([]ColumnStats, schema.NumFields())
	for i, f := range schema.Fields() {
		var total columnDigest
		hash := uint64(hashSeed)
		for _, g := range groups {
			d := g.columns[i]
			total.nulls += d.nulls
			total.span = total.span.merge(d.span)
			hash = mix(hash^d.hash, uint64(g.rows))
		}
		c := ColumnStats{Name: f.Name, Nulls: total.nulls, Hash: hash, HasRange: total.span.set}
		if total.span.set {
			c.Min = printValue(f.Type, total.span.min)
			c.Max = printValue(f.Type, total.span.max)
		}
		out[i] = c
	}
	return out
}

// printValue prints a bound of a column of type t.
func printValue(t arrow.DataType, v value) string {
	switch t.ID() {
	case arrow.STRING:
		return v.s
	case arrow.FLOAT64:
		return strconv.FormatFloat(v.f, 'g', -1, 64)
	case arrow.BOOL:
		return strconv.FormatBool(v.i != 0)
	case arrow.TIMESTAMP:
		return time.UnixMicro(v.i).UTC().Format("2006-01-02T15:04:05.999999Z07:00")
	case arrow.DATE32:
		return time.Unix(v.i*86400, 0).UTC().Format(time.DateOnly)
	default:
		return strconv.FormatInt(v.i, 10)
	}
}

// value holds one comparable value: s for strings, f for doubles, i for the
// rest (booleans as 0 and 1, dates as days, timestamps as microseconds).
type value struct {
	i int64
	f float64
	s string
}

// span is the range of a column's values, NaN left out.
type span struct {
	set      bool
	min, max value
}

func (s span) merge(o span) span {
	if !s.set || !o.set {
		if o.set {
			return o
		}
		return s
	}
	s.min = value{i: min(s.min.i, o.min.i), f: math.Min(s.min.f, o.min.f), s: min(s.min.s, o.min.s)}
	s.max = value{i: max(s.max.i, o.max.i), f: math.Max(s.max.f, o.max.f), s: max(s.max.s, o.max.s)}
	return s
}

// checkType refuses types the writer, the reader and the digests do not know.
func checkType(f arrow.Field) error {
	switch t := f.Type.(type) {
	case *arrow.StringType, *arrow.Int64Type, *arrow.Float64Type, *arrow.BooleanType, *arrow.Date32Type:
		return nil
	case *arrow.TimestampType:
		if t.Unit == arrow.Microsecond && t.TimeZone == "UTC" {
			return nil
		}
	}
	return fmt.Errorf("column %q: type %s is not one of string, int64, float64, bool, date32, timestamp[us, UTC]", f.Name, f.Type)
}
