package transform

import (
	"math"
	"strconv"

	"github.com/sluice-etl/sluice/schemas"
)

// kindOfNumber says which types hold a JSON number exactly. int64 and float64
// are its values there, where they do.
func kindOfNumber(text []byte) (k schemas.Kinds, i int64, f float64) {
	if i, ok := parseInt(text); ok {
		if f := float64(i); f < 1<<63 && int64(f) == i {
			return schemas.KindInt, i, f
		}
		return schemas.KindLongInt, i, 0
	}
	f, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		return schemas.KindBigNumber, 0, 0
	}
	var buf [32]byte
	if sameDecimal(text, strconv.AppendFloat(buf[:0], f, 'e', -1, 64)) {
		return schemas.KindFloat, 0, f
	}
	return schemas.KindBigNumber, 0, 0
}

// parseInt reads an integer without point or exponent. "-0" is none: int64 has
// no negative zero.
func parseInt(b []byte) (int64, bool) {
	neg := b[0] == '-'
	if neg {
		b = b[1:]
	}
	if len(b) == 0 || len(b) > 19 || neg && b[0] == '0' {
		return 0, false
	}
	var u uint64 // 19 digits always fit
	for _, c := range b {
		if c -= '0'; c > 9 {
			return 0, false
		} else {
			u = u*10 + uint64(c)
		}
	}
	switch {
	case neg && u <= 1<<63:
		return -int64(u), true
	case !neg && u < 1<<63:
		return int64(u), true
	default:
		return 0, false
	}
}

// sameDecimal reports whether two JSON numbers are the same decimal, however
// they spell it: 1.10 and 1.1, 1e2 and 100. Where the shortest form of a
// float64 is the same decimal as the text, the float64 loses nothing of it.
func sameDecimal(a, b []byte) bool {
	da, ea, na := decimal(a)
	db, eb, nb := decimal(b)
	return na == nb && ea == eb && string(da) == string(db)
}

// decimal splits a number into its significant digits, without zeros at either
// end, and the exponent of ten that they are to be multiplied with.
func decimal(b []byte) (ds []byte, exp int64, neg bool) {
	if b[0] == '-' {
		neg, b = true, b[1:]
	}
	point := false
	var zeros int64 // trailing ones, not yet written
	i := 0
	for ; i < len(b) && b[i] != 'e' && b[i] != 'E'; i++ {
		switch c := b[i]; {
		case c == '.':
			point = true
			continue
		case c == '0' && len(ds) == 0:
		case c == '0':
			zeros++
		default:
			for ; zeros > 0; zeros-- {
				ds = append(ds, '0')
			}
			ds = append(ds, c)
		}
		if point {
			exp--
		}
	}
	if len(ds) == 0 {
		return nil, 0, neg
	}
	exp += zeros
	if i < len(b) {
		// More digits than fit an int64 never make a finite, non-zero float64.
		e, err := strconv.ParseInt(string(b[i+1:]), 10, 64)
		if err != nil {
			return ds, math.MaxInt64, neg
		}
		exp += e
	}
	return ds, exp, neg
}

// fits reports whether a declared column of type t holds a value. It takes no
// type but its own, and of a string what would be a value of its own without
// the quotes: "85" and "true", not " 85", "1,234.50" or "True".
func fits(t schemas.Type, kind uint8, text []byte) bool {
	switch t {
	case schemas.String:
		return kind == kindString
	case schemas.Bool:
		return kind == kindTrue || kind == kindFalse || kind == kindString && (string(text) == "true" || string(text) == "false")
	case schemas.Int64, schemas.Float64:
		return (kind == kindNumber || kind == kindString && isNumber(text)) && t.Fits(numberKind(text))
	case schemas.Date:
		_, ok := parseDate(text)
		return ok && kind == kindString
	case schemas.Timestamp:
		_, ok := parseTimestamp(text)
		return ok && kind == kindString
	case schemas.JSON:
		return kind != kindNone
	default:
		return false
	}
}

// isNumber reports whether text is a number as JSON writes it.
func isNumber(text []byte) bool {
	if len(text) == 0 || text[0] != '-' && text[0]-'0' > 9 {
		return false
	}
	s := scanner{b: text}
	return s.number(0) == len(text)
}

func numberKind(text []byte) schemas.Kinds {
	k, _, _ := kindOfNumber(text)
	return k
}
