package bqtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"cloud.google.com/go/civil"
)

// Ranges of values ("Data types", "Timestamp type", "Date type"; "Supported
// protocol buffer and Arrow data types" for DATE as days).
const (
	minMicros = -62_135_596_800_000_000 // 0001-01-01 00:00:00 UTC
	maxMicros = 253_402_300_799_999_999 // 9999-12-31 23:59:59.999999 UTC
	minDay    = -719_162                // 0001-01-01
	maxDay    = 2_932_896               // 9999-12-31

	maxJSONDepth = 500 // "Quotas and limits", "Table limits"
)

// enumValue is a value of an enum of a writer's schema.
type enumValue struct {
	number int64
	name   string
}

// cell makes a writer's value one of a column's kind. Values are bool, int64,
// uint64, float64, string, []byte, enumValue, time.Time, *big.Rat and
// civil.Date; which of them fit a kind was decided from the schema before.
func cell(kind string, v any) (any, error) {
	if s, ok := v.(string); ok && !utf8.ValidString(s) {
		return nil, errors.New("is not valid UTF-8")
	}
	switch kind {
	case "BOOL":
		return boolCell(v)
	case "INT64":
		return intCell(v)
	case "FLOAT64":
		return v, nil
	case "STRING":
		if e, ok := v.(enumValue); ok {
			return e.name, nil
		}
		return v, nil
	case "JSON":
		return jsonCell(v)
	case "BYTES":
		if s, ok := v.(string); ok {
			return []byte(s), nil
		}
		return v, nil
	case "TIMESTAMP":
		return timestampCell(v)
	case "DATE":
		return dateCell(v)
	case "DATETIME":
		return datetimeCell(v)
	case "TIME":
		return timeCell(v)
	case "NUMERIC":
		return numericCell(v)
	default:
		return nil, fmt.Errorf("has type %s, which the stand-in does not have", kind)
	}
}

func boolCell(v any) (any, error) {
	if b, ok := v.(bool); ok {
		return b, nil
	}
	switch n, err := integer(v); {
	case err != nil:
		return nil, err
	case n != 0 && n != 1:
		return nil, fmt.Errorf("has %d for a BOOL", n)
	default:
		return n == 1, nil
	}
}

func integer(v any) (int64, error) {
	switch v := v.(type) {
	case int64:
		return v, nil
	case uint64:
		if v > math.MaxInt64 {
			return 0, fmt.Errorf("has %d, which is out of range", v)
		}
		return int64(v), nil
	case enumValue:
		return v.number, nil
	default:
		return 0, fmt.Errorf("has a %T for an integer", v)
	}
}

func intCell(v any) (any, error) { return integer(v) }

// jsonCell takes JSON as text. It has to be well-formed ("Data types", "JSON
// type"), at most 500 levels deep.
func jsonCell(v any) (any, error) {
	s, _ := v.(string)
	if !json.Valid([]byte(s)) {
		return nil, errors.New("is not valid JSON")
	}
	depth, inString := 0, false
	for i := 0; i < len(s); i++ {
		switch {
		case inString && s[i] == '\\':
			i++
		case s[i] == '"':
			inString = !inString
		case inString:
		case s[i] == '{' || s[i] == '[':
			if depth++; depth > maxJSONDepth {
				return nil, fmt.Errorf("is JSON of more than %d levels", maxJSONDepth)
			}
		case s[i] == '}' || s[i] == ']':
			depth--
		}
	}
	return s, nil
}

func timestampCell(v any) (any, error) {
	if t, ok := v.(time.Time); ok {
		if t.Nanosecond()%1000 != 0 {
			return nil, errors.New("has a part of a microsecond")
		}
		v = t.UnixMicro()
	}
	n, err := integer(v)
	if err != nil {
		return nil, err
	}
	if n < minMicros || n > maxMicros {
		return nil, fmt.Errorf("has %d microseconds, outside the range of TIMESTAMP", n)
	}
	return time.UnixMicro(n).UTC(), nil
}

func dateCell(v any) (any, error) {
	if s, ok := v.(string); ok {
		t, err := time.Parse("2006-1-2", s)
		if err != nil || t.Year() < 1 {
			return nil, fmt.Errorf("has %q for a DATE", s)
		}
		return civil.DateOf(t), nil
	}
	n, err := integer(v)
	if err != nil {
		return nil, err
	}
	if n < minDay || n > maxDay {
		return nil, fmt.Errorf("has day %d, outside the range of DATE", n)
	}
	return civil.DateOf(time.Unix(n*86400, 0).UTC()), nil
}

// fraction finds seconds with more digits than microseconds have.
var fraction = regexp.MustCompile(`\.\d{7,}$`)

// datetimeCell takes a DATETIME literal, or a number packed by the Java client's
// CivilTimeEncoder: year, month, day, hour, minute and second in 14, 4, 5, 5, 6
// and 6 bits, then 20 bits of microseconds.
func datetimeCell(v any) (any, error) {
	switch v := v.(type) {
	case time.Time:
		return timestampCell(v)
	case string:
		for _, layout := range []string{"2006-1-2 15:4:5", "2006-1-2T15:4:5", "2006-1-2"} {
			if t, err := time.Parse(layout, v); err == nil && t.Year() >= 1 && !fraction.MatchString(v) {
				return t, nil
			}
		}
		return nil, fmt.Errorf("has %q for a DATETIME", v)
	}
	n, err := integer(v)
	if err != nil {
		return nil, err
	}
	sec := n >> 20
	d := civil.DateTime{
		Date: civil.Date{Year: int(sec >> 26), Month: time.Month(sec >> 22 & 0xf), Day: int(sec >> 17 & 0x1f)},
		Time: unpackTime(n & (1<<37 - 1)),
	}
	if n < 0 || !d.IsValid() || d.Date.Year < 1 || d.Date.Year > 9999 {
		return nil, fmt.Errorf("has %d, which is no packed DATETIME", n)
	}
	return d.In(time.UTC), nil
}

// unpackTime reads hour, minute, second and microsecond in 5, 6, 6 and 20 bits.
func unpackTime(n int64) civil.Time {
	return civil.Time{Hour: int(n >> 32), Minute: int(n >> 26 & 0x3f), Second: int(n >> 20 & 0x3f), Nanosecond: int(n&0xfffff) * 1000}
}

func timeCell(v any) (any, error) {
	if s, ok := v.(string); ok {
		t, err := time.Parse("15:4:5", s)
		if err != nil || fraction.MatchString(s) {
			return nil, fmt.Errorf("has %q for a TIME", s)
		}
		return civil.TimeOf(t), nil
	}
	n, err := integer(v)
	if err != nil {
		return nil, err
	}
	t := unpackTime(n)
	if n < 0 || !t.IsValid() {
		return nil, fmt.Errorf("has %d, which is no packed TIME", n)
	}
	return t, nil
}

// decimal is a NUMERIC literal without an exponent.
var decimal = regexp.MustCompile(`^[+-]?(\d+(\.\d*)?|\.\d+)$`)

// numericCell takes a number, a literal, or the bytes of the Java client's
// BigDecimalByteStringEncoder: 10^9 times the value, little-endian two's
// complement. NUMERIC has 29 digits before and 9 after the point ("Data types",
// "Decimal types").
func numericCell(v any) (any, error) {
	r := new(big.Rat)
	switch v := v.(type) {
	case *big.Rat:
		r = v
	case string:
		if !decimal.MatchString(v) {
			return nil, fmt.Errorf("has %q for a NUMERIC", v)
		}
		r.SetString(v)
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, fmt.Errorf("has %v for a NUMERIC", v)
		}
		r.SetString(strconv.FormatFloat(v, 'g', -1, 64))
	case uint64:
		r.SetUint64(v)
	case []byte:
		r.SetFrac(littleEndian(v), big.NewInt(1e9))
	default:
		n, err := integer(v)
		if err != nil {
			return nil, err
		}
		r.SetInt64(n)
	}
	scaled := new(big.Rat).Mul(r, new(big.Rat).SetInt64(1e9))
	limit := new(big.Int).Exp(big.NewInt(10), big.NewInt(38), nil)
	if !scaled.IsInt() || scaled.Num().CmpAbs(limit) >= 0 {
		return nil, fmt.Errorf("has %s, which is no NUMERIC", r.RatString())
	}
	return r, nil
}

func littleEndian(b []byte) *big.Int {
	b = slices.Clone(b)
	slices.Reverse(b)
	n := new(big.Int).SetBytes(b)
	if len(b) > 0 && b[0] >= 0x80 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(len(b))*8))
	}
	return n
}

// findColumn finds a column by name, whatever its case ("Schemas", "Column names").
func findColumn(columns []column, name string) int {
	return slices.IndexFunc(columns, func(c column) bool { return strings.EqualFold(c.name, name) })
}
