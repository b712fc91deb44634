package transform

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// The lexical layer: strict RFC 8259 over valid UTF-8, the same language as
// jsontext reads, which the tests hold it to. Every function takes the index
// of the first byte it looks at and returns the index after what it read, or
// -1 after noting the fault.

// scanner reads one body.
type scanner struct {
	b        []byte
	depth    int // of the value being read: 1 inside the outermost array
	maxDepth int
	open     []byte // brackets that skip has open, reused
	faultPos int
	faultMsg string
	// faultHint is what to do about it, where that is not to check the url.
	faultHint string
}

func (s *scanner) fail(pos int, msg string) int {
	if pos >= len(s.b) {
		pos, msg = len(s.b), "it ends in the middle"
	}
	s.faultPos, s.faultMsg = pos, msg
	return -1
}

// space skips white space. The result may be len(b).
func (s *scanner) space(i int) int {
	for i < len(s.b) {
		switch s.b[i] {
		case ' ', '\t', '\n', '\r':
			i++
		default:
			return i
		}
	}
	return i
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// special has the high bit set in the bytes of w that end the plain run of a
// string: quote, backslash, control characters. Its lowest set bit is exact;
// higher ones need not be.
func special(w uint64) uint64 {
	q := w ^ ('"' * ones)
	e := w ^ ('\\' * ones)
	return ((q-ones)&^q | (e-ones)&^e | (w-' '*ones)&^w) & highs
}

// str reads a string from the byte after its opening quote and returns the
// index of the closing quote, and whether it holds escapes.
func (s *scanner) str(i int) (end int, escaped bool) {
	b, start := s.b, i
	var seen uint64
	for ; i+8 <= len(b); i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		if m := special(w); m != 0 {
			seen |= w & (m&-m - 1)
			i += bits.TrailingZeros64(m) >> 3
			if b[i] != '"' {
				break
			}
			if seen&highs != 0 && !utf8.Valid(b[start:i]) {
				return s.fail(start, "a string is not UTF-8"), false
			}
			return i, false
		}
		seen |= w
	}
	return s.strSlow(start, i)
}

// strSlow goes on with a string that started at start, from i: at escapes, or
// close to the end of the body.
func (s *scanner) strSlow(start, i int) (end int, escaped bool) {
	b := s.b
	for i < len(b) {
		switch c := b[i]; {
		case c == '"':
			if !utf8.Valid(b[start:i]) {
				return s.fail(start, "a string is not UTF-8"), false
			}
			return i, escaped
		case c < ' ':
			return s.fail(i, "a string holds a control character"), false
		case c == '\\':
			escaped = true
			if i = s.escape(i + 1); i < 0 {
				return -1, false
			}
		default:
			i++
		}
	}
	return s.fail(i, ""), false
}

// escape reads an escape sequence from the byte after its backslash.
func (s *scanner) escape(i int) int {
	if i >= len(s.b) {
		return s.fail(i, "")
	}
	switch s.b[i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 1
	case 'u':
	default:
		return s.fail(i, "a string holds an unknown escape")
	}
	r, ok := hex4(s.b, i+1)
	if !ok {
		return s.fail(i, "a string holds a broken \\u escape")
	}
	i += 5
	if !utf16.IsSurrogate(r) {
		return i
	}
	if i+1 < len(s.b) && s.b[i] == '\\' && s.b[i+1] == 'u' {
		if r2, ok := hex4(s.b, i+2); ok && utf16.DecodeRune(r, r2) != utf8.RuneError {
			return i + 6
		}
	}
	return s.fail(i, "a string holds half a surrogate pair")
}

func hex4(b []byte, i int) (rune, bool) {
	if i+4 > len(b) {
		return 0, false
	}
	var r rune
	for _, c := range b[i : i+4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// unescape appends the text of a string that str has accepted.
func unescape(dst, raw []byte) []byte {
	for i := 0; i < len(raw); {
		c := raw[i]
		if c != '\\' {
			dst = append(dst, c)
			i++
			continue
		}
		switch c = raw[i+1]; c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			r, _ := hex4(raw, i+2)
			i += 6
			if utf16.IsSurrogate(r) {
				low, _ := hex4(raw, i+2)
				r = utf16.DecodeRune(r, low)
				i += 6
			}
			dst = utf8.AppendRune(dst, r)
			continue
		}
		dst = append(dst, c)
		i += 2
	}
	return dst
}

// number reads a number.
func (s *scanner) number(i int) int {
	b := s.b
	if b[i] == '-' {
		i++
	}
	switch {
	case i >= len(b):
		return s.fail(i, "")
	case b[i] == '0':
		i++
	case b[i] >= '1' && b[i] <= '9':
		i = digits(b, i)
	default:
		return s.fail(i, "a number has no digits")
	}
	if i < len(b) && b[i] == '.' {
		j := digits(b, i+1)
		if j == i+1 {
			return s.fail(j, "a number ends in its point")
		}
		i = j
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		j := digits(b, i)
		if j == i {
			return s.fail(j, "a number has an empty exponent")
		}
		i = j
	}
	return i
}

func digits(b []byte, i int) int {
	for i < len(b) && b[i]-'0' < 10 {
		i++
	}
	return i
}

// word reads one of the literal names.
func (s *scanner) word(i int, want string) int {
	if len(s.b)-i >= len(want) && string(s.b[i:i+len(want)]) == want {
		return i + len(want)
	}
	for j := range len(want) {
		if i+j >= len(s.b) || s.b[i+j] != want[j] {
			return s.fail(i+j, "there is no such value")
		}
	}
	return i + len(want)
}

// scalar reads a value that is neither object nor array.
func (s *scanner) scalar(i int) int {
	if i >= len(s.b) {
		return s.fail(i, "")
	}
	switch c := s.b[i]; {
	case c == '"':
		end, _ := s.str(i + 1)
		if end < 0 {
			return -1
		}
		return end + 1
	case c == 't':
		return s.word(i, "true")
	case c == 'f':
		return s.word(i, "false")
	case c == 'n':
		return s.word(i, "null")
	case c == '-' || c-'0' < 10:
		return s.number(i)
	default:
		return s.fail(i, "there is no value where one is due")
	}
}

// skip reads any value, validating all of it. It keeps its own stack, so that
// depth costs a byte a level and never the goroutine's stack.
func (s *scanner) skip(i int) int {
	s.open = s.open[:0]
	for {
		var done bool
		if i, done = s.skipStart(i); i < 0 {
			return -1
		}
		for done {
			if len(s.open) == 0 {
				return i
			}
			if i, done = s.skipNext(i); i < 0 {
				return -1
			}
		}
	}
}

// skipStart reads a scalar or an empty container (done), or enters a container
// up to its first value.
func (s *scanner) skipStart(i int) (next int, done bool) {
	if i >= len(s.b) {
		return s.fail(i, ""), false
	}
	c := s.b[i]
	if c != '{' && c != '[' {
		return s.scalar(i), true
	}
	if s.depth+len(s.open) >= s.maxDepth {
		return s.fail(i, "it is nested too deep"), false
	}
	i = s.space(i + 1)
	if i < len(s.b) && s.b[i] == c+2 { // '{'+2 is '}', '['+2 is ']'
		return i + 1, true
	}
	s.open = append(s.open, c)
	if c == '{' {
		return s.skipKey(i), false
	}
	return i, false
}

// skipNext goes on after a value inside a container: to the next value, or out
// of the container (done).
func (s *scanner) skipNext(i int) (next int, done bool) {
	c := s.open[len(s.open)-1]
	i = s.space(i)
	switch {
	case i < len(s.b) && s.b[i] == ',':
		i = s.space(i + 1)
		if c == '{' {
			return s.skipKey(i), false
		}
		return i, false
	case i < len(s.b) && s.b[i] == c+2:
		s.open = s.open[:len(s.open)-1]
		return i + 1, true
	default:
		return s.fail(i, "a comma or closing bracket is missing"), false
	}
}

// skipKey reads a key and its colon, up to the value.
func (s *scanner) skipKey(i int) int {
	_, _, _, i = s.key(i)
	return i
}

// key reads a key and its colon and returns where its text stands, whether it
// holds escapes, and where the value starts.
func (s *scanner) key(i int) (from, to int, escaped bool, next int) {
	if i >= len(s.b) || s.b[i] != '"' {
		return 0, 0, false, s.fail(i, "a key is missing")
	}
	from = i + 1
	to, escaped = s.str(from)
	if to < 0 {
		return 0, 0, false, -1
	}
	i = s.space(to + 1)
	if i >= len(s.b) || s.b[i] != ':' {
		return 0, 0, false, s.fail(i, "a colon is missing")
	}
	return from, to, escaped, s.space(i + 1)
}
