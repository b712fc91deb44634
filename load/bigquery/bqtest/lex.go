package bqtest

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// pos is a place in the text of a query, from 1.
type pos struct{ line, col int }

func (p pos) String() string { return fmt.Sprintf("[%d:%d]", p.line, p.col) }

// Kinds of tokens ("Lexical structure and syntax", GoogleSQL reference).
type tokenKind int

const (
	tokEnd    tokenKind = iota
	tokName             // an identifier or keyword as it stands
	tokQuoted           // an identifier in backquotes
	tokInt
	tokFloat
	tokString
	tokBytes
	tokParam  // @name, or ? with an empty text
	tokSystem // @@name
	tokSymbol
)

// token is one token: text is its value, for names as written.
type token struct {
	kind  tokenKind
	text  string
	pos   pos
	begin int // in the query's text
	end   int
}

// reserved words cannot be names ("Reserved keywords", GoogleSQL reference).
const reservedWords = ` ALL AND ANY ARRAY AS ASC ASSERT_ROWS_MODIFIED AT BETWEEN BY CASE CAST COLLATE CONTAINS CREATE CROSS CUBE CURRENT DEFAULT DEFINE DESC DISTINCT ELSE END ENUM ESCAPE EXCEPT EXCLUDE EXISTS EXTRACT FALSE FETCH FOLLOWING FOR FROM FULL GRAPH_TABLE GROUP GROUPING GROUPS HASH HAVING IF IGNORE IN INNER INTERSECT INTERVAL INTO IS JOIN LATERAL LEFT LIKE LIMIT LOOKUP MERGE NATURAL NEW NO NOT NULL NULLS OF ON OR ORDER OUTER OVER PARTITION PRECEDING PROTO QUALIFY RANGE RECURSIVE RESPECT RIGHT ROLLUP ROWS SELECT SET SOME STRUCT TABLESAMPLE THEN TO TREAT TRUE UNBOUNDED UNION UNNEST USING WHEN WHERE WINDOW WITH WITHIN `

func isReserved(word string) bool {
	return strings.Contains(reservedWords, " "+strings.ToUpper(word)+" ")
}

// lexer cuts a query into tokens.
type lexer struct {
	src       string
	at        int
	line, bol int // line number, and where the line begins
	out       []token
}

func lex(src string) ([]token, error) {
	l := &lexer{src: src, line: 1}
	if !utf8.ValidString(src) {
		return nil, queryError(pos{1, 1}, "Syntax error: Query string is not valid UTF-8")
	}
	for {
		if err := l.space(); err != nil {
			return nil, err
		}
		if l.at >= len(src) {
			l.out = append(l.out, token{kind: tokEnd, pos: l.pos(), begin: l.at, end: l.at})
			return l.out, nil
		}
		t := token{pos: l.pos(), begin: l.at}
		if err := l.token(&t); err != nil {
			return nil, err
		}
		t.end = l.at
		l.out = append(l.out, t)
	}
}

func (l *lexer) pos() pos {
	return pos{l.line, utf8.RuneCountInString(l.src[l.bol:l.at]) + 1}
}

func (l *lexer) peek(s string) bool { return strings.HasPrefix(l.src[l.at:], s) }

// skip moves on by n bytes, counting lines.
func (l *lexer) skip(n int) {
	for i := l.at; i < l.at+n; i++ {
		if l.src[i] == '\n' {
			l.line++
			l.bol = i + 1
		}
	}
	l.at += n
}

// space skips white space and comments.
func (l *lexer) space() error {
	for l.at < len(l.src) {
		switch {
		case strings.IndexByte(" \t\r\n\f\v", l.src[l.at]) >= 0:
			l.skip(1)
		case l.src[l.at] == '#', l.peek("--"):
			n := strings.IndexByte(l.src[l.at:], '\n')
			if n < 0 {
				n = len(l.src) - l.at
			}
			l.skip(n)
		case l.peek("/*"):
			n := strings.Index(l.src[l.at+2:], "*/")
			if n < 0 {
				return queryError(l.pos(), "Syntax error: Unclosed comment")
			}
			l.skip(n + 4)
		default:
			return nil
		}
	}
	return nil
}

func isLetter(c byte) bool { return c == '_' || c|32 >= 'a' && c|32 <= 'z' }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }

func (l *lexer) token(t *token) error {
	c := l.src[l.at]
	switch {
	case c == '`':
		return l.quoted(t)
	case l.stringPrefix() >= 0:
		return l.text(t)
	case isLetter(c):
		t.kind, t.text = tokName, l.word()
		return nil
	case isDigit(c), c == '.' && l.at+1 < len(l.src) && isDigit(l.src[l.at+1]) && !l.afterName():
		return l.number(t)
	case c == '@':
		t.kind = tokParam
		l.skip(1)
		if l.peek("@") {
			t.kind = tokSystem
			l.skip(1)
		}
		if t.text = l.word(); t.text == "" {
			return queryError(t.pos, "Syntax error: Unexpected %q", "@")
		}
		return nil
	case c == '?':
		t.kind = tokParam
		l.skip(1)
		return nil
	}
	for _, s := range []string{"<=>", "<=", ">=", "<>", "!=", "||", "<<", ">>", "=>", "|>"} {
		if l.peek(s) {
			t.kind, t.text = tokSymbol, s
			l.skip(len(s))
			return nil
		}
	}
	if strings.IndexByte("()[]{},;.+-*/=<>&|^~:$", c) >= 0 {
		t.kind, t.text = tokSymbol, string(c)
		l.skip(1)
		return nil
	}
	r, _ := utf8.DecodeRuneInString(l.src[l.at:])
	return queryError(t.pos, "Syntax error: Illegal input character %q", string(r))
}

// afterName says whether the last token is a name: in a.1b the dot is a path's.
func (l *lexer) afterName() bool {
	n := len(l.out)
	return n > 0 && (l.out[n-1].kind == tokName || l.out[n-1].kind == tokQuoted) && l.out[n-1].end == l.at
}

func (l *lexer) word() string {
	i := l.at
	for i < len(l.src) && (isLetter(l.src[i]) || isDigit(l.src[i])) {
		i++
	}
	w := l.src[l.at:i]
	l.skip(i - l.at)
	return w
}

func (l *lexer) quoted(t *token) error {
	n := strings.IndexByte(l.src[l.at+1:], '`')
	if n < 0 {
		return queryError(t.pos, "Syntax error: Unclosed identifier literal")
	}
	if n == 0 {
		return queryError(t.pos, "Syntax error: Invalid empty identifier")
	}
	text, err := unescape(l.src[l.at+1:l.at+1+n], false)
	if err != nil {
		return queryError(t.pos, "Syntax error: %v", err)
	}
	t.kind, t.text = tokQuoted, text
	l.skip(n + 2)
	return nil
}

func (l *lexer) number(t *token) error {
	i := l.at
	t.kind = tokInt
	if l.peek("0x") || l.peek("0X") {
		for i += 2; i < len(l.src) && strings.IndexByte("0123456789abcdefABCDEF", l.src[i]) >= 0; i++ {
		}
	} else {
		for ; i < len(l.src); i++ {
			c := l.src[i]
			exp := i > l.at && (c == '+' || c == '-') && l.src[i-1]|32 == 'e'
			if c == '.' || c|32 == 'e' {
				t.kind = tokFloat
			} else if !isDigit(c) && !exp {
				break
			}
		}
	}
	t.text = l.src[l.at:i]
	l.skip(i - l.at)
	if l.at < len(l.src) && isLetter(l.src[l.at]) {
		return queryError(l.pos(), "Syntax error: Missing whitespace between literal and alias")
	}
	if t.kind == tokFloat {
		if _, err := strconv.ParseFloat(t.text, 64); err != nil {
			return queryError(t.pos, "Invalid floating point literal: %s", t.text)
		}
	}
	return nil
}

// stringPrefix gives how many letters stand before the quote of a string
// literal that begins here, -1 if none does.
func (l *lexer) stringPrefix() int {
	for n := 0; n <= 2 && l.at+n < len(l.src); n++ {
		c := l.src[l.at+n]
		if c == '\'' || c == '"' {
			return n
		}
		if c|32 != 'r' && c|32 != 'b' {
			return -1
		}
	}
	return -1
}

func (l *lexer) text(t *token) error {
	n := l.stringPrefix()
	prefix := strings.ToLower(l.src[l.at : l.at+n])
	raw := strings.Contains(prefix, "r")
	if t.kind = tokString; strings.Contains(prefix, "b") {
		t.kind = tokBytes
	}
	l.skip(n)
	quote := l.src[l.at : l.at+1]
	if l.peek(strings.Repeat(quote, 3)) {
		quote = strings.Repeat(quote, 3)
	}
	l.skip(len(quote))
	for i := l.at; i < len(l.src); i++ {
		switch {
		case l.src[i] == '\\':
			i++
		case l.src[i] == '\n' && len(quote) == 1:
			return queryError(t.pos, "Syntax error: Unclosed string literal")
		case strings.HasPrefix(l.src[i:], quote):
			t.text = l.src[l.at:i]
			l.skip(i + len(quote) - l.at)
			if raw {
				return nil
			}
			var err error
			if t.text, err = unescape(t.text, t.kind == tokBytes); err != nil {
				return queryError(t.pos, "Syntax error: %v", err)
			}
			return nil
		}
	}
	return queryError(t.pos, "Syntax error: Unclosed string literal")
}

// unescape resolves escape sequences ("Escape sequences", Lexical structure).
func unescape(s string, bytes bool) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		if i++; i == len(s) {
			return "", fmt.Errorf("illegal escape sequence: \\")
		}
		if k := strings.IndexByte("abfnrtv\\?\"'`", s[i]); k >= 0 {
			b.WriteByte("\a\b\f\n\r\t\v\\?\"'`"[k])
			continue
		}
		digits, base, from := 0, 16, i+1
		switch s[i] {
		case 'x', 'X':
			digits = 2
		case 'u':
			digits = 4
		case 'U':
			digits = 8
		case '0', '1', '2', '3':
			digits, base, from = 3, 8, i
		}
		if digits == 0 || from+digits > len(s) {
			return "", fmt.Errorf("illegal escape sequence: \\%c", s[i])
		}
		v, err := strconv.ParseUint(s[from:from+digits], base, 32)
		if err != nil || v > utf8.MaxRune || v >= 0xd800 && v < 0xe000 {
			return "", fmt.Errorf("illegal escape sequence: \\%s", s[i:from+digits])
		}
		if i = from + digits - 1; bytes {
			b.WriteByte(byte(v))
		} else {
			b.WriteRune(rune(v))
		}
	}
	return b.String(), nil
}
