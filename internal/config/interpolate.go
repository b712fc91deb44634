package config

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// interpolate fills in the variables of a scalar:
//
//	${NAME}           the variable; an error if it is not set
//	${NAME:-default}  the default if it is not set or empty
//	${each.key}       the account's key, see account
//	${each.value.X}   what for_each has for the account
//	$${               a literal ${
//
// The result is text: it is never read as YAML again. used says that there was
// a variable. Texts of a secret are noted, so that no output shows them.
func (r *reader) interpolate(v *value, k Key) (text string, used, ok bool) {
	ok = true
	var out, literal strings.Builder // literal: what the file itself says
	rest, offset := v.text, 0
	for {
		i := strings.Index(rest, "${")
		if i < 0 {
			out.WriteString(rest)
			literal.WriteString(rest)
			break
		}
		if i > 0 && rest[i-1] == '$' {
			out.WriteString(rest[:i-1] + "${")
			literal.WriteString(rest[:i-1] + "${")
			rest, offset = rest[i+2:], offset+i+2
			continue
		}
		out.WriteString(rest[:i])
		literal.WriteString(rest[:i])
		at := r.within(v, offset+i)
		end := strings.IndexByte(rest[i:], '}')
		if end < 0 {
			r.errorf(at, `close it with }, or write $${ for a literal "${"`, "a variable is not closed")
			return "", true, false
		}
		used = true
		name, fallback, hasFallback := strings.Cut(rest[i+2:i+end], ":-")
		value, good := "", false
		switch {
		case strings.HasPrefix(name, "each."):
			value, good = r.ofAccount(at, v, k, name, fallback, hasFallback)
		case r.mayLack(k, name, hasFallback):
			r.leaveOut(v)
		default:
			value, good = r.variable(at, name, fallback, hasFallback)
		}
		ok = ok && good
		if k.Type == SecretType {
			r.noteSecret(fallback)
			r.noteSecret(value)
			literal.WriteString(fallback)
		}
		out.WriteString(value)
		rest, offset = rest[i+end+1:], offset+i+end+1
	}
	if k.Type == SecretType {
		r.noteSecret(out.String())
		r.noteSecret(literal.String())
		if l := literal.String(); l != "" && l != sandboxKey {
			hint := fmt.Sprintf("write ${%s} and set that variable", k.variable())
			if !k.hook() {
				hint += fmt.Sprintf(", or name a file with %s_file", k.name())
			}
			r.warnf(v.pos, hint, "%s stands in the file as plain text", k.name())
		}
	}
	return out.String(), used, ok
}

// mayLack reports whether a variable is not set and need not be: see Offline.
func (r *reader) mayLack(k Key, name string, hasFallback bool) bool {
	if !r.offline || hasFallback || !strings.HasPrefix(k.Path, "sources.") && k.Path != hashKeyPath && k.Path != tokenPath && !k.hook() || !validVariable(name) {
		return false
	}
	_, set := r.env(name)
	return !set
}

// leaveOut notes that a value cannot be judged.
func (r *reader) leaveOut(v *value) {
	if r.unset == nil {
		r.unset = map[*value]bool{}
	}
	r.unset[v] = true
}

// variable looks up one variable.
func (r *reader) variable(at Pos, name, fallback string, hasFallback bool) (string, bool) {
	if !validVariable(name) {
		r.errorf(at, "a name has letters, digits and _ and does not begin with a digit; write ${NAME}, ${NAME:-default}, or $${ for a literal \"${\"", "this is not a variable's name")
		return "", false
	}
	if strings.Contains(fallback, "${") {
		r.errorf(at, "give the default as plain text", "the default of %s holds another variable", name)
		return "", false
	}
	val, set := r.env(name)
	switch {
	case hasFallback && val == "":
		return fallback, true
	case !set:
		r.errorf(at, "set it, or give a default: ${"+name+":-...}", "variable %s is not set", name)
		return "", false
	case !utf8.ValidString(val) || strings.ContainsRune(val, 0):
		r.errorf(at, "", "variable %s does not hold text", name)
		return "", false
	}
	return val, true
}

func validVariable(name string) bool {
	for i := range len(name) {
		c := name[i]
		switch {
		case c == '_', 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z':
		case '0' <= c && c <= '9' && i > 0:
		default:
			return false
		}
	}
	return name != ""
}

// within is where byte offset of a scalar's text stands. Quotes, escapes and
// folded lines move it, so the expression is looked for in the lines from the
// scalar's first on.
func (r *reader) within(v *value, offset int) Pos {
	before := strings.Count(v.text[:offset], "${")
	for n := v.pos.Line; n <= len(r.lines) && n <= v.pos.Line+100; n++ {
		line, from := r.line(n), 0
		if n == v.pos.Line {
			from = byteIndex(line, v.pos.Col)
		}
		for {
			i := strings.Index(line[from:], "${")
			if i < 0 {
				break
			}
			if before == 0 {
				return Pos{n, utf8.RuneCountInString(line[:from+i]) + 1}
			}
			before--
			from += i + 2
		}
	}
	return v.pos
}

// byteIndex is the byte at which column col (characters, from 1) begins.
func byteIndex(line string, col int) int {
	n := 1
	for i := range line {
		if n == col {
			return i
		}
		n++
	}
	return len(line)
}
