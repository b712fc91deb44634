package duck

import "strings"

// Split cuts an SQL text into its statements, without their semicolons. Each
// statement is preceded by as many line breaks as the text before it had, so
// that the line numbers in DuckDB's messages are those of the whole text.
// Statements of nothing but blanks and comments are left out.
func Split(sql string) []string {
	var statements []string
	start, line, startLine := 0, 0, 0
	content := false
	flush := func(end int) {
		if content {
			statements = append(statements, strings.Repeat("\n", startLine)+sql[start:end])
		}
		content = false
	}
	for i := 0; i < len(sql); {
		n, kind := token(sql[i:])
		switch kind {
		case tokSemicolon:
			flush(i)
			start, startLine = i+n, line
		case tokText:
			content = true
		case tokBlank:
		}
		line += strings.Count(sql[i:i+n], "\n")
		i += n
	}
	flush(len(sql))
	return statements
}

// verb returns the first word of a statement, in capitals.
func verb(statement string) string {
	for i := 0; i < len(statement); {
		n, kind := token(statement[i:])
		if kind == tokText {
			return strings.ToUpper(statement[i : i+n])
		}
		i += n
	}
	return ""
}

type tokenKind int

const (
	tokBlank tokenKind = iota // white space and comments
	tokText
	tokSemicolon
)

// token measures the next token of s, which is not empty. Quoted strings and
// comments are one token; what is not closed runs to the end, for DuckDB to
// complain about.
func token(s string) (int, tokenKind) {
	switch c := s[0]; {
	case c == ';':
		return 1, tokSemicolon
	case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v':
		return 1, tokBlank
	case strings.HasPrefix(s, "--"):
		return until(s, 2, "\n"), tokBlank
	case strings.HasPrefix(s, "/*"):
		return blockComment(s), tokBlank
	case c == '"':
		return until(s, 1, `"`), tokText
	case c == '\'':
		return until(s, 1, `'`), tokText
	case (c == 'e' || c == 'E') && strings.HasPrefix(s[1:], "'"):
		return escapedString(s), tokText
	case c == '$':
		return dollarString(s), tokText
	case wordByte(c):
		// A whole word at once, so that the e of a name before a quote is not
		// taken for an escape string's.
		n := 1
		for n < len(s) && wordByte(s[n]) {
			n++
		}
		return n, tokText
	default:
		return 1, tokText
	}
}

func wordByte(c byte) bool {
	return c == '_' || c >= 0x80 || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// until returns the offset just after the first end at or after from. A
// doubled quote inside a string is the end of one string and the start of
// another, which comes to the same.
func until(s string, from int, end string) int {
	i := strings.Index(s[from:], end)
	if i < 0 {
		return len(s)
	}
	return from + i + len(end)
}

// blockComment measures a comment that may hold others, as in PostgreSQL.
func blockComment(s string) int {
	depth := 0
	for i := 0; i < len(s); {
		switch {
		case strings.HasPrefix(s[i:], "/*"):
			depth++
			i += 2
		case strings.HasPrefix(s[i:], "*/"):
			depth--
			i += 2
			if depth == 0 {
				return i
			}
		default:
			i++
		}
	}
	return len(s)
}

// escapedString measures E'...' with backslash escapes.
func escapedString(s string) int {
	for i := 2; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '\'':
			return i + 1
		}
	}
	return len(s)
}

// dollarString measures $tag$...$tag$, or the bare dollar of a parameter.
func dollarString(s string) int {
	i := 1
	for i < len(s) && s[i] != '$' && wordByte(s[i]) {
		i++
	}
	if i >= len(s) || s[i] != '$' {
		return 1
	}
	tag := s[:i+1]
	return until(s, len(tag), tag)
}
