package bqtest

import (
	"slices"
	"strings"
)

// parser is a recursive-descent parser for the part of GoogleSQL that the
// stand-in knows. Anything else is a syntax error.
type parser struct {
	src    string
	toks   []token
	at     int
	params int // positional parameters so far
}

// parseScript parses statements with semicolons between.
func parseScript(src string) ([]stmt, error) {
	toks, err := lex(src)
	if err != nil {
		return nil, err
	}
	p := &parser{src: src, toks: toks}
	list, err := p.statements()
	if err != nil {
		return nil, err
	}
	if p.cur().kind != tokEnd {
		return nil, p.unexpected()
	}
	if len(list) == 0 {
		return nil, queryError(p.cur().pos, "Syntax error: Unexpected end of statement")
	}
	return list, nil
}

// parseQuery parses one query, of a view.
func parseQuery(src string) (*query, error) {
	list, err := parseScript(src)
	if err != nil {
		return nil, err
	}
	q, ok := list[0].(*queryStmt)
	if !ok || len(list) != 1 {
		return nil, queryError(pos{1, 1}, "Syntax error: Expected a query")
	}
	return q.query, nil
}

func (p *parser) cur() token { return p.toks[p.at] }

func (p *parser) next() token {
	t := p.toks[p.at]
	if t.kind != tokEnd {
		p.at++
	}
	return t
}

func (p *parser) peekAt(n int) token {
	if p.at+n < len(p.toks) {
		return p.toks[p.at+n]
	}
	return p.toks[len(p.toks)-1]
}

func (t token) is(word string) bool {
	switch t.kind {
	case tokName:
		return strings.EqualFold(t.text, word)
	case tokSymbol:
		return t.text == word
	default:
		return false
	}
}

// seen says whether the words come next.
func (p *parser) seen(words ...string) bool {
	for i, w := range words {
		if !p.peekAt(i).is(w) {
			return false
		}
	}
	return true
}

// accept takes the words if they come next.
func (p *parser) accept(words ...string) bool {
	if !p.seen(words...) {
		return false
	}
	p.at += len(words)
	return true
}

func (p *parser) expect(words ...string) error {
	for _, w := range words {
		if !p.accept(w) {
			return queryError(p.cur().pos, "Syntax error: Expected %s but got %s", quoteWord(w), p.cur().describe())
		}
	}
	return nil
}

func quoteWord(w string) string {
	if isLetter(w[0]) {
		return "keyword " + w
	}
	return `"` + w + `"`
}

func (t token) describe() string {
	switch t.kind {
	case tokEnd:
		return "end of script"
	case tokName:
		if isReserved(t.text) {
			return "keyword " + strings.ToUpper(t.text)
		}
		return "identifier " + t.text
	case tokQuoted:
		return "identifier `" + t.text + "`"
	case tokInt:
		return "integer literal " + t.text
	case tokFloat:
		return "floating point literal " + t.text
	case tokString:
		return "string literal " + `"` + t.text + `"`
	default:
		return `"` + t.text + `"`
	}
}

func (p *parser) unexpected() error {
	return queryError(p.cur().pos, "Syntax error: Unexpected %s", p.cur().describe())
}

// name takes an identifier.
func (p *parser) name() (string, error) {
	t := p.cur()
	if t.kind == tokQuoted || t.kind == tokName && !isReserved(t.text) {
		p.at++
		return t.text, nil
	}
	return "", p.unexpected()
}

// names takes (a, b, ...).
func (p *parser) names() ([]string, error) {
	if err := p.expect("("); err != nil {
		return nil, err
	}
	var out []string
	for {
		n, err := p.name()
		if err != nil {
			return nil, err
		}
		out = append(out, n)
		if !p.accept(",") {
			return out, p.expect(")")
		}
	}
}

// tablePath takes the name of a table: parts with dots, of which the first may
// have dashes, and which may stand together in backquotes.
func (p *parser) tablePath() ([]string, error) {
	var out []string
	for {
		t := p.cur()
		switch {
		case t.kind == tokQuoted:
			p.at++
			out = append(out, strings.Split(t.text, ".")...)
		case t.kind == tokName && (len(out) > 0 || !isReserved(t.text)):
			p.at++
			text := t.text
			for len(out) == 0 && p.seen("-") && p.cur().begin == p.toks[p.at-1].end && p.peekAt(1).begin == p.cur().end &&
				(p.peekAt(1).kind == tokName || p.peekAt(1).kind == tokInt) {
				text += "-" + p.peekAt(1).text
				p.at += 2
			}
			out = append(out, text)
		default:
			return nil, p.unexpected()
		}
		if !p.accept(".") {
			if slices.Contains(out, "") {
				return nil, queryError(t.pos, "Invalid table name: %s", strings.Join(out, "."))
			}
			return out, nil
		}
	}
}

// alias takes [AS] name.
func (p *parser) alias() (string, error) {
	if p.accept("AS") {
		return p.name()
	}
	t := p.cur()
	if t.kind == tokQuoted || t.kind == tokName && !isReserved(t.text) {
		p.at++
		return t.text, nil
	}
	return "", nil
}

// typeName takes a type.
func (p *parser) typeName() (*typ, error) {
	t := p.next()
	if t.kind != tokName {
		p.at--
		return nil, p.unexpected()
	}
	name := strings.ToUpper(t.text)
	switch name {
	case "INT", "SMALLINT", "INTEGER", "BIGINT", "TINYINT", "BYTEINT":
		name = "INT64"
	case "BOOLEAN":
		name = "BOOL"
	case "DECIMAL":
		name = "NUMERIC"
	case "ARRAY":
		if err := p.expect("<"); err != nil {
			return nil, err
		}
		elem, err := p.typeName()
		if err != nil {
			return nil, err
		}
		return &typ{kind: "ARRAY", elem: elem}, p.closeAngle()
	case "STRUCT":
		return p.structType()
	}
	if !isScalarKind(name) {
		return nil, queryError(t.pos, "Type not found: %s", t.text)
	}
	if p.seen("(") {
		return nil, queryError(p.cur().pos, "stand-in: parameterized types are not known")
	}
	return &typ{kind: name}, nil
}

func (p *parser) structType() (*typ, error) {
	if err := p.expect("<"); err != nil {
		return nil, err
	}
	out := &typ{kind: "STRUCT"}
	for {
		var f field
		if n := p.peekAt(1); n.kind == tokName { // name type
			name, err := p.name()
			if err != nil {
				return nil, err
			}
			f.name = name
		}
		ft, err := p.typeName()
		if err != nil {
			return nil, err
		}
		f.typ = ft
		out.fields = append(out.fields, f)
		if !p.accept(",") {
			return out, p.closeAngle()
		}
	}
}

// closeAngle takes >, cutting >> in two.
func (p *parser) closeAngle() error {
	if p.cur().is(">>") {
		p.toks[p.at].text = ">"
		p.toks[p.at].begin++
		return nil
	}
	return p.expect(">")
}

// optionList takes OPTIONS (name = value, ...) if it comes next.
func (p *parser) optionList() ([]optionNode, error) {
	if !p.accept("OPTIONS") {
		return nil, nil
	}
	if err := p.expect("("); err != nil {
		return nil, err
	}
	var out []optionNode
	for !p.seen(")") {
		name, err := p.name()
		if err != nil {
			return nil, err
		}
		if err := p.expect("="); err != nil {
			return nil, err
		}
		v, err := p.expr()
		if err != nil {
			return nil, err
		}
		out = append(out, optionNode{name: strings.ToLower(name), value: v})
		if !p.accept(",") {
			break
		}
	}
	return out, p.expect(")")
}
