package bigquery

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/sluice-etl/sluice/schemas"
)

// writeBytes is how much is written at a time, at least.
const writeBytes = 256 << 10

// jsonWriter makes lines of newline-delimited JSON of records. Of the formats
// that a load job takes, this is the one of which the documentation says how
// each of our types is written ("Load JSON data", "Details of loading JSON
// data"): int64 as text, because numbers beyond 2^53 lose digits; timestamps and
// dates as text; JSON columns as raw JSON.
type jsonWriter struct {
	tail []byte // the constants and the end of a line
	buf  []byte
	keys map[string][]byte
}

func newJSONWriter(serial int64, m memo) *jsonWriter {
	tail := fmt.Sprintf(`"%s":"%d","%s":"%d","%s":"%s"}`+"\n",
		schemas.ColPackage, serial, colAttempt, m.Attempt, colStagedAt, timeText(m.StagedAt))
	return &jsonWriter{tail: []byte(tail), keys: map[string][]byte{}}
}

// cellWriter appends the value of a row, which is not null.
type cellWriter func(buf []byte, row int) []byte

// lines writes a record.
func (w *jsonWriter) lines(to io.Writer, rec arrow.Record, table schemas.Table) error {
	if err := checkTimes(rec); err != nil {
		return err
	}
	n := int(rec.NumCols())
	cells := make([]cellWriter, n)
	keys := make([][]byte, n)
	for i, c := range rec.Columns() {
		name := rec.ColumnName(i)
		if w.keys[name] == nil {
			w.keys[name] = append(appendText(nil, name), ':')
		}
		keys[i] = w.keys[name]
		isJSON := false
		if at := table.Index(name); at >= 0 {
			isJSON = table.Columns[at].Type == schemas.JSON
		}
		var err error
		if cells[i], err = jsonCell(c, isJSON); err != nil {
			return fmt.Errorf("encode column %s: %w", name, err)
		}
	}
	w.buf = w.buf[:0]
	for row := range int(rec.NumRows()) {
		w.buf = append(w.buf, '{')
		for i, c := range rec.Columns() {
			if c.IsNull(row) {
				continue // a member that is missing is null
			}
			w.buf = append(w.buf, keys[i]...)
			w.buf = append(cells[i](w.buf, row), ',')
		}
		w.buf = append(w.buf, w.tail...)
		if len(w.buf) >= writeBytes || row == int(rec.NumRows())-1 {
			if _, err := to.Write(w.buf); err != nil {
				return err
			}
			w.buf = w.buf[:0]
		}
	}
	return nil
}

func jsonCell(c arrow.Array, isJSON bool) (cellWriter, error) {
	switch a := c.(type) {
	case *array.String:
		if isJSON {
			return func(b []byte, row int) []byte { return appendRaw(b, a.Value(row)) }, nil
		}
		return func(b []byte, row int) []byte { return appendText(b, a.Value(row)) }, nil
	case *array.Int64:
		return func(b []byte, row int) []byte {
			return append(strconv.AppendInt(append(b, '"'), a.Value(row), 10), '"')
		}, nil
	case *array.Float64:
		return func(b []byte, row int) []byte { return appendFloat(b, a.Value(row)) }, nil
	case *array.Boolean:
		return func(b []byte, row int) []byte { return strconv.AppendBool(b, a.Value(row)) }, nil
	case *array.Timestamp:
		return func(b []byte, row int) []byte {
			return append(appendTime(append(b, '"'), time.UnixMicro(int64(a.Value(row)))), '"')
		}, nil
	case *array.Date32:
		return func(b []byte, row int) []byte {
			return append(a.Value(row).ToTime().UTC().AppendFormat(append(b, '"'), time.DateOnly), '"')
		}, nil
	default:
		return nil, fmt.Errorf("type %s is none of Sluice's", c.DataType())
	}
}

// appendFloat prints a number, or the text that casts to one that JSON does not
// have (Conversion functions, "CAST AS FLOAT64").
func appendFloat(b []byte, v float64) []byte {
	switch {
	case math.IsNaN(v):
		return append(b, `"NaN"`...)
	case math.IsInf(v, 1):
		return append(b, `"Infinity"`...)
	case math.IsInf(v, -1):
		return append(b, `"-Infinity"`...)
	default:
		return strconv.AppendFloat(b, v, 'g', -1, 64)
	}
}

// appendRaw copies JSON text without the line ends that it may have between
// tokens; within strings JSON has none.
func appendRaw(b []byte, s string) []byte {
	if !strings.ContainsAny(s, "\n\r") {
		return append(b, s...)
	}
	return append(b, strings.NewReplacer("\n", " ", "\r", " ").Replace(s)...)
}

// appendText quotes a string.
func appendText(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				b = append(append(b, s[from:i]...), "\ufffd"...)
				from = i + 1
			}
			i += size
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' && c != 0x7f {
			i++
			continue
		}
		b = append(b, s[from:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		i++
		from = i
	}
	return append(append(b, s[from:]...), '"')
}
