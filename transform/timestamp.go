package transform

import "encoding/binary"

// Range of timestamps, in microseconds: years 1 to 9999 (UTC), which every
// destination holds.
const (
	minMicros = -62135596800 * 1_000_000
	maxMicros = 253402300800*1_000_000 - 1
)

// parseTimestamp reads an RFC 3339 time, strictly: the date must exist, the
// offset is needed, letters are upper case, the fraction has one to nine
// digits. The result is microseconds since 1970 UTC, rounded down.
func parseTimestamp(b []byte) (micros int64, ok bool) {
	if len(b) < 20 {
		return 0, false
	}
	day, ok1 := parseDate(b[:10])
	h, ok2 := two(b[11], b[12])
	m, ok3 := two(b[14], b[15])
	s, ok4 := two(b[17], b[18])
	if !ok1 || !ok2 || !ok3 || !ok4 || b[10] != 'T' || b[13] != ':' || b[16] != ':' || h > 23 || m > 59 || s > 59 {
		return 0, false
	}
	micros = ((day*24+h)*60+m)*60 + s
	i, frac := 19, int64(0)
	if b[i] == '.' {
		scale := int64(100_000)
		for i++; i < len(b) && b[i]-'0' < 10; i++ {
			frac += int64(b[i]-'0') * scale
			scale /= 10
		}
		if n := i - 20; n < 1 || n > 9 || i == len(b) {
			return 0, false
		}
	}
	switch zone := b[i:]; {
	case len(zone) == 1 && zone[0] == 'Z':
	case len(zone) == 6 && (zone[0] == '+' || zone[0] == '-') && zone[3] == ':':
		zh, ok1 := two(zone[1], zone[2])
		zm, ok2 := two(zone[4], zone[5])
		if !ok1 || !ok2 || zh > 23 || zm > 59 {
			return 0, false
		}
		offset := zh*3600 + zm*60
		if zone[0] == '-' {
			offset = -offset
		}
		micros -= offset
	default:
		return 0, false
	}
	micros = micros*1_000_000 + frac
	return micros, micros >= minMicros && micros <= maxMicros
}

// parseDate reads YYYY-MM-DD, years 1 to 9999, as days since 1970.
func parseDate(b []byte) (days int64, ok bool) {
	if len(b) != 10 || b[4] != '-' || b[7] != '-' {
		return 0, false
	}
	c, ok1 := two(b[0], b[1])
	y, ok2 := two(b[2], b[3])
	m, ok3 := two(b[5], b[6])
	d, ok4 := two(b[8], b[9])
	y += c * 100
	if !ok1 || !ok2 || !ok3 || !ok4 || y < 1 || m < 1 || m > 12 || d < 1 || d > daysIn(y, m) {
		return 0, false
	}
	return daysFromCivil(y, m, d), true
}

func two(a, b byte) (int64, bool) {
	a, b = a-'0', b-'0'
	return int64(a)*10 + int64(b), a < 10 && b < 10
}

func daysIn(y, m int64) int64 {
	switch m {
	case 2:
		if y%4 == 0 && (y%100 != 0 || y%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	default:
		return 31
	}
}

// daysFromCivil counts days since 1970-01-01 in the proleptic Gregorian
// calendar, for years from 1 (Howard Hinnant's days_from_civil).
func daysFromCivil(y, m, d int64) int64 {
	if m <= 2 {
		y--
		m += 12
	}
	era := y / 400
	yoe := y - era*400
	doy := (153*(m-3)+2)/5 + d - 1
	return era*146097 + yoe*365 + yoe/4 - yoe/100 + doy - 719468
}

// civilMonth returns the month that holds day, as months since year 0, and the
// first days of it and of the next (Howard Hinnant's civil_from_days).
func civilMonth(day int64) (month, from, to int64) {
	z := day + 719468
	era := z / 146097
	doe := z - era*146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	mp := (5*(doe-(365*yoe+yoe/4-yoe/100)) + 2) / 153 // from March
	y, m := yoe+era*400, mp+3
	if m > 12 {
		y, m = y+1, m-12
	}
	from = daysFromCivil(y, m, 1)
	return y*12 + m - 1, from, from + daysIn(y, m)
}

// fixed24 reads "YYYY-MM-DDTHH:MM:SS.mmmZ", the form that the endpoint prints,
// eight bytes at a time; anything else is for parseTimestamp.
func fixed24(b []byte) (micros int64, ok bool) {
	_ = b[23]
	w0 := binary.LittleEndian.Uint64(b)
	w1 := binary.LittleEndian.Uint64(b[8:])
	w2 := binary.LittleEndian.Uint64(b[16:])
	// Punctuation in its places, digits everywhere else.
	const (
		p0, m0 = 0x2d00002d00000000, 0xff0000ff00000000 // ....-..-
		p1, m1 = 0x00003a0000540000, 0x0000ff0000ff0000 // ..T..:..
		p2, m2 = 0x5a0000002e00003a, 0xff000000ff0000ff // :..  .  ...Z
	)
	if w0&m0 != p0 || w1&m1 != p1 || w2&m2 != p2 {
		return 0, false
	}
	const zeros = 0x3030303030303030
	d0, d1, d2 := (w0&^m0|zeros&m0)^zeros, (w1&^m1|zeros&m1)^zeros, (w2&^m2|zeros&m2)^zeros
	// A byte above 9 gets its high bit by adding 0x76.
	if (d0|d1|d2|(d0+0x7676767676767676)|(d1+0x7676767676767676)|(d2+0x7676767676767676))&highs != 0 {
		return 0, false
	}
	at := func(w uint64, i int) int64 { return int64(w >> (8 * i) & 0xff) }
	y := at(d0, 0)*1000 + at(d0, 1)*100 + at(d0, 2)*10 + at(d0, 3)
	mo := at(d0, 5)*10 + at(d0, 6)
	d := at(d1, 0)*10 + at(d1, 1)
	h := at(d1, 3)*10 + at(d1, 4)
	mi := at(d1, 6)*10 + at(d1, 7)
	s := at(d2, 1)*10 + at(d2, 2)
	ms := at(d2, 4)*100 + at(d2, 5)*10 + at(d2, 6)
	if y < 1 || mo < 1 || mo > 12 || d < 1 || d > daysIn(y, mo) || h > 23 || mi > 59 || s > 59 {
		return 0, false
	}
	return ((((daysFromCivil(y, mo, d)*24+h)*60+mi)*60+s)*1000 + ms) * 1000, true
}
