package run

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/zeebo/xxh3"

	"github.com/sluice-etl/sluice/schemas"
)

// cellHasher gives cells hashes by which tables of different destinations
// compare: of the contact's id and the value, so that a value which moved to
// another contact is seen in a sum of hashes. A null has 0. What a destination
// may spell otherwise without changing it hashes alike: -0 as 0, every NaN as
// one, JSON by what it means.
type cellHasher struct {
	json map[string]bool // the columns of JSON
	buf  []byte
}

// hash sets out[i] to the hash of row i of a column.
func (h *cellHasher) hash(keys []idKey, name string, col arrow.Array, out []uint64) error {
	write, err := h.writer(name, col)
	if err != nil {
		return err
	}
	for i := range keys {
		if out[i] = 0; col.IsNull(i) {
			continue
		}
		h.buf = write(append(h.buf[:0], keys[i][:]...), i)
		out[i] = xxh3.Hash(h.buf)
	}
	return nil
}

// writer returns what appends the value of a row.
func (h *cellHasher) writer(name string, col arrow.Array) (func(b []byte, i int) []byte, error) {
	if name == schemas.ColDeletedAt { // when it was found deleted differs with the package that found it
		return func(b []byte, _ int) []byte { return append(b, 1) }, nil
	}
	fixed := binary.LittleEndian.AppendUint64
	switch a := col.(type) {
	case *array.String:
		if h.json[name] {
			return func(b []byte, i int) []byte { return appendCanonical(b, a.Value(i)) }, nil
		}
		return func(b []byte, i int) []byte { return append(b, a.Value(i)...) }, nil
	case *array.Int64:
		return func(b []byte, i int) []byte { return fixed(b, uint64(a.Value(i))) }, nil //nolint:gosec // its bits
	case *array.Timestamp:
		return func(b []byte, i int) []byte { return fixed(b, uint64(a.Value(i))) }, nil //nolint:gosec // its bits
	case *array.Date32:
		return func(b []byte, i int) []byte { return fixed(b, uint64(int64(a.Value(i)))) }, nil //nolint:gosec // its bits
	case *array.Float64:
		return func(b []byte, i int) []byte { return fixed(b, floatBits(a.Value(i))) }, nil
	case *array.Boolean:
		return func(b []byte, i int) []byte { return strconv.AppendBool(b, a.Value(i)) }, nil
	default:
		return nil, fmt.Errorf("column %s is %s", name, col.DataType())
	}
}

// floatBits are the bits of a number, with one zero and one NaN.
func floatBits(v float64) uint64 {
	switch {
	case v == 0:
		return 0
	case math.IsNaN(v):
		return math.Float64bits(math.NaN())
	default:
		return math.Float64bits(v)
	}
}

// appendCanonical spells JSON in one way: no white space, members sorted by
// name, of several with one name the first, strings unescaped and quoted again,
// numbers by value. That much BigQuery may change of a JSON it stores (Data
// types, "JSON type"). Text that is no JSON stays as it is.
func appendCanonical(b []byte, text string) []byte {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	out, err := canonicalValue(b, d)
	if err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			return out
		}
	}
	return append(b, text...)
}

func canonicalValue(b []byte, d *json.Decoder) ([]byte, error) {
	t, err := d.Token()
	if err != nil {
		return b, err
	}
	switch t := t.(type) {
	case json.Delim:
		if t == '[' {
			return canonicalArray(b, d)
		}
		return canonicalObject(b, d)
	case string:
		return strconv.AppendQuote(b, t), nil
	case json.Number:
		return canonicalNumber(b, string(t)), nil
	case bool:
		return strconv.AppendBool(b, t), nil
	default:
		return append(b, "null"...), nil
	}
}

func canonicalArray(b []byte, d *json.Decoder) (_ []byte, err error) {
	b = append(b, '[')
	for d.More() {
		if b, err = canonicalValue(b, d); err != nil {
			return b, err
		}
		b = append(b, ',')
	}
	_, err = d.Token()
	return append(b, ']'), err
}

func canonicalObject(b []byte, d *json.Decoder) ([]byte, error) {
	type member struct {
		name  string
		value []byte
	}
	var members []member
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return b, err
		}
		name, _ := t.(string)
		value, err := canonicalValue(nil, d)
		if err != nil {
			return b, err
		}
		members = append(members, member{name, value})
	}
	slices.SortStableFunc(members, func(x, y member) int { return strings.Compare(x.name, y.name) })
	b = append(b, '{')
	for i, m := range members {
		if i > 0 && m.name == members[i-1].name {
			continue
		}
		b = append(append(append(strconv.AppendQuote(b, m.name), ':'), m.value...), ',')
	}
	_, err := d.Token()
	return append(b, '}'), err
}

// canonicalNumber spells a number by its value: an integer of 64 bits, or the
// nearest float64.
func canonicalNumber(b []byte, text string) []byte {
	const exact = 1 << 53 // below it every integer is a float64 of its own
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return strconv.AppendInt(b, n, 10)
	}
	if n, err := strconv.ParseUint(text, 10, 64); err == nil {
		return strconv.AppendUint(b, n, 10)
	}
	f, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil:
		return append(b, text...)
	case f == math.Trunc(f) && math.Abs(f) < exact:
		return strconv.AppendInt(b, int64(f), 10)
	default:
		return strconv.AppendFloat(b, f, 'g', -1, 64)
	}
}
