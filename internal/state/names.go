package state

import (
	"fmt"
	"strconv"
	"strings"
)

// escape turns a pipeline's name into one path element: lower-case letters,
// digits, "_" and "-" stand for themselves, every other byte is %XX, so that
// no two names share a file, also where the filesystem ignores case, and a
// name can be read back.
func escape(name string) string {
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		if 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '_' || c == '-' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	return b.String()
}

// unescape is the inverse of escape; ok is false for what escape never makes.
func unescape(s string) (name string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		c, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", false
		}
		b.WriteByte(byte(c))
		i += 2
	}
	return b.String(), s != "" && escape(b.String()) == s
}
