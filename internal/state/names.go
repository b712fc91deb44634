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

// FileName is a pipeline's name as a part of file names: itself, but for the
// brackets and quotes of one that is for an account, which Windows refuses.
func FileName(pipeline string) string { return escape(pipeline) }

// Typed is a pipeline's name as one would type it for a command: what is for one
// account is NAME.ACCOUNT, which no shell takes apart.
func Typed(pipeline string) string {
	base, rest, _ := strings.Cut(pipeline, `["`)
	if account, ok := strings.CutSuffix(rest, `"]`); ok {
		return base + "." + account
	}
	return pipeline
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
