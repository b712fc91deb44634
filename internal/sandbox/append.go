package sandbox

import "unicode/utf8"

const hexDigits = "0123456789abcdef"

// append appends the UUID in its usual form.
func (u uuid) append(dst []byte) []byte {
	for k, b := range u {
		if k == 4 || k == 6 || k == 8 || k == 10 {
			dst = append(dst, '-')
		}
		dst = append(dst, hexDigits[b>>4], hexDigits[b&15])
	}
	return dst
}

func (u uuid) String() string { return string(u.append(make([]byte, 0, 36))) }

// parseUUID reads the usual form, in either case.
func parseUUID(s string) (u uuid, ok bool) {
	if len(s) != 36 {
		return uuid{}, false
	}
	n := 0
	for k := 0; k < len(s); k++ {
		if k == 8 || k == 13 || k == 18 || k == 23 {
			if s[k] != '-' {
				return uuid{}, false
			}
			continue
		}
		d, valid := hexValue(s[k])
		if !valid {
			return uuid{}, false
		}
		u[n/2] = u[n/2]<<4 | d
		n++
	}
	return u, true
}

func hexValue(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	default:
		return 0, false
	}
}

// appendString appends s as a JSON string, escaping what JSON.stringify does.
// Invalid UTF-8, which only a client can send in, becomes U+FFFD.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	if plain(s) { // nearly always
		return append(append(dst, s...), '"')
	}
	start := 0
	for k := 0; k < len(s); {
		c := s[k]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[k:])
			if r == utf8.RuneError && size == 1 {
				dst = append(append(dst, s[start:k]...), "\ufffd"...)
				start = k + 1
			}
			k += size
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			k++
			continue
		}
		dst = append(dst, s[start:k]...)
		dst = appendEscape(dst, c)
		k++
		start = k
	}
	return append(append(dst, s[start:]...), '"')
}

// plain reports whether s stands in JSON as it is.
func plain(s string) bool {
	beyond := byte(0)
	for k := range len(s) {
		c := s[k]
		if c < ' ' || c == '"' || c == '\\' {
			return false
		}
		beyond |= c
	}
	return beyond < utf8.RuneSelf || utf8.ValidString(s)
}

func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	default:
		return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
	}
}

const (
	microsPerSecond = 1_000_000
	microsPerDay    = 86_400 * microsPerSecond
)

// appendTime appends a quoted timestamp in UTC, cut to milliseconds, as the
// endpoint prints it. The year must have four digits.
func appendTime(dst []byte, micros int64) []byte {
	days := micros / microsPerDay
	rest := micros % microsPerDay
	if rest < 0 {
		days, rest = days-1, rest+microsPerDay
	}
	year, month, day := civil(days)
	ms := rest / 1000
	seconds := ms / 1000
	h, m, s, f := seconds/3600, seconds/60%60, seconds%60, ms%1000
	return append(dst, '"',
		byte('0'+year/1000), byte('0'+year/100%10), byte('0'+year/10%10), byte('0'+year%10), '-',
		byte('0'+month/10), byte('0'+month%10), '-', byte('0'+day/10), byte('0'+day%10), 'T',
		byte('0'+h/10), byte('0'+h%10), ':', byte('0'+m/10), byte('0'+m%10), ':', byte('0'+s/10), byte('0'+s%10), '.',
		byte('0'+f/100), byte('0'+f/10%10), byte('0'+f%10), 'Z', '"')
}

// civil turns days since 1970 into a date (Howard Hinnant, "chrono-Compatible
// Low-Level Date Algorithms", civil_from_days).
func civil(days int64) (year, month, day int64) {
	days += 719_468
	era := days / 146_097
	if days < 0 {
		era = (days - 146_096) / 146_097
	}
	ofEra := days - era*146_097
	yearOfEra := (ofEra - ofEra/1460 + ofEra/36_524 - ofEra/146_096) / 365
	ofYear := ofEra - (365*yearOfEra + yearOfEra/4 - yearOfEra/100)
	shifted := (5*ofYear + 2) / 153
	day = ofYear - (153*shifted+2)/5 + 1
	month = shifted + 3
	if month > 12 {
		month -= 12
	}
	year = yearOfEra + era*400
	if month <= 2 {
		year++
	}
	return year, month, day
}
