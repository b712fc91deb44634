package bqtest

import (
	"strings"
)

// Operator precedence ("Operator precedence", GoogleSQL reference), loosest
// first: OR, AND, NOT, comparisons, |, ^, &, shifts, + -, * / ||, unary.

func (p *parser) expr() (*node, error) { return p.orExpr() }

func (p *parser) orExpr() (*node, error) {
	return p.chain(p.andExpr, "OR")
}

func (p *parser) andExpr() (*node, error) {
	return p.chain(p.notExpr, "AND")
}

// chain parses operators of one level, from left to right.
func (p *parser) chain(sub func() (*node, error), ops ...string) (*node, error) {
	left, err := sub()
	if err != nil {
		return nil, err
	}
	for {
		t := p.cur()
		op := ""
		for _, o := range ops {
			if t.is(o) {
				op = o
			}
		}
		if op == "" {
			return left, nil
		}
		p.at++
		right, err := sub()
		if err != nil {
			return nil, err
		}
		left = &node{kind: nBinary, pos: t.pos, text: op, kids: []*node{left, right}}
	}
}

func (p *parser) notExpr() (*node, error) {
	t := p.cur()
	if !p.accept("NOT") {
		return p.comparison()
	}
	x, err := p.notExpr()
	if err != nil {
		return nil, err
	}
	return &node{kind: nUnary, pos: t.pos, text: "NOT", kids: []*node{x}}, nil
}

// comparison is not associative: a = b = c is an error.
func (p *parser) comparison() (*node, error) {
	left, err := p.bitOr()
	if err != nil {
		return nil, err
	}
	t := p.cur()
	for _, op := range []string{"=", "<", ">", "<=", ">=", "!=", "<>"} {
		if t.kind == tokSymbol && t.text == op {
			p.at++
			right, err := p.bitOr()
			if err != nil {
				return nil, err
			}
			if op == "<>" {
				op = "!="
			}
			return &node{kind: nBinary, pos: t.pos, text: op, kids: []*node{left, right}}, nil
		}
	}
	if t.is("IS") {
		return p.isExpr(left)
	}
	not := p.seen("NOT") && (p.peekAt(1).is("IN") || p.peekAt(1).is("LIKE") || p.peekAt(1).is("BETWEEN"))
	if not {
		p.at++
	}
	switch {
	case p.accept("BETWEEN"):
		lo, err := p.bitOr()
		if err != nil {
			return nil, err
		}
		if err := p.expect("AND"); err != nil {
			return nil, err
		}
		hi, err := p.bitOr()
		if err != nil {
			return nil, err
		}
		return &node{kind: nBetween, pos: t.pos, not: not, kids: []*node{left, lo, hi}}, nil
	case p.accept("LIKE"):
		right, err := p.bitOr()
		if err != nil {
			return nil, err
		}
		return &node{kind: nLike, pos: t.pos, not: not, kids: []*node{left, right}}, nil
	case p.accept("IN"):
		return p.inExpr(t.pos, left, not)
	}
	return left, nil
}

func (p *parser) isExpr(left *node) (*node, error) {
	t := p.next()
	n := &node{kind: nIs, pos: t.pos, not: p.accept("NOT"), kids: []*node{left}}
	switch {
	case p.accept("NULL"):
		n.text = "NULL"
	case p.accept("TRUE"):
		n.text = "TRUE"
	case p.accept("FALSE"):
		n.text = "FALSE"
	case p.accept("DISTINCT", "FROM"):
		n.text = "DISTINCT FROM"
		right, err := p.bitOr()
		if err != nil {
			return nil, err
		}
		n.kids = append(n.kids, right)
	default:
		return nil, p.unexpected()
	}
	return n, nil
}

func (p *parser) inExpr(at pos, left *node, not bool) (*node, error) {
	n := &node{kind: nIn, pos: at, not: not, kids: []*node{left}}
	if p.accept("UNNEST") {
		n.text = "UNNEST"
		x, err := p.bracketed()
		n.kids = append(n.kids, x)
		return n, err
	}
	if err := p.expect("("); err != nil {
		return nil, err
	}
	if p.seen("SELECT") || p.seen("WITH") {
		q, err := p.query()
		if err != nil {
			return nil, err
		}
		n.query = q
		return n, p.expect(")")
	}
	list, err := p.exprs()
	if err != nil {
		return nil, err
	}
	n.kids = append(n.kids, list...)
	return n, p.expect(")")
}

func (p *parser) bracketed() (*node, error) {
	if err := p.expect("("); err != nil {
		return nil, err
	}
	x, err := p.expr()
	if err != nil {
		return nil, err
	}
	return x, p.expect(")")
}

func (p *parser) exprs() ([]*node, error) {
	var out []*node
	for {
		x, err := p.expr()
		if err != nil {
			return nil, err
		}
		out = append(out, x)
		if !p.accept(",") {
			return out, nil
		}
	}
}

func (p *parser) bitOr() (*node, error)  { return p.chain(p.bitXor, "|") }
func (p *parser) bitXor() (*node, error) { return p.chain(p.bitAnd, "^") }
func (p *parser) bitAnd() (*node, error) { return p.chain(p.shift, "&") }
func (p *parser) shift() (*node, error)  { return p.chain(p.sum, "<<", ">>") }
func (p *parser) sum() (*node, error)    { return p.chain(p.product, "+", "-") }
func (p *parser) product() (*node, error) {
	return p.chain(p.unary, "*", "/", "||")
}

func (p *parser) unary() (*node, error) {
	t := p.cur()
	for _, op := range []string{"-", "+", "~"} {
		if !p.accept(op) {
			continue
		}
		x, err := p.unary()
		if err != nil {
			return nil, err
		}
		if op == "-" && x.kind == nInt && x.pos.line == p.toks[p.at-1].pos.line { // -9223372036854775808 is one literal
			return &node{kind: nInt, pos: t.pos, text: negate(x.text)}, nil
		}
		return &node{kind: nUnary, pos: t.pos, text: op, kids: []*node{x}}, nil
	}
	return p.postfix()
}

func negate(s string) string {
	if rest, ok := strings.CutPrefix(s, "-"); ok {
		return rest
	}
	return "-" + s
}

func (p *parser) postfix() (*node, error) {
	x, err := p.primary()
	if err != nil {
		return nil, err
	}
	for {
		t := p.cur()
		switch {
		case p.accept("."):
			f := p.next()
			if f.kind != tokName && f.kind != tokQuoted {
				p.at--
				return nil, p.unexpected()
			}
			if x.kind == nName {
				x.path = append(x.path, f.text)
				continue
			}
			x = &node{kind: nField, pos: t.pos, text: f.text, kids: []*node{x}}
		case p.accept("["):
			if x, err = p.index(t.pos, x); err != nil {
				return nil, err
			}
		default:
			return x, nil
		}
	}
}

func (p *parser) index(at pos, x *node) (*node, error) {
	n := &node{kind: nIndex, pos: at, text: "OFFSET", kids: []*node{x}}
	for _, w := range []string{"OFFSET", "ORDINAL", "SAFE_OFFSET", "SAFE_ORDINAL"} {
		if p.seen(w, "(") {
			p.at++
			n.text = w
			i, err := p.bracketed()
			if err != nil {
				return nil, err
			}
			n.kids = append(n.kids, i)
			return n, p.expect("]")
		}
	}
	i, err := p.expr()
	if err != nil {
		return nil, err
	}
	n.kids = append(n.kids, i)
	return n, p.expect("]")
}

// primary parses what has no operator of its own.
func (p *parser) primary() (*node, error) {
	t := p.cur()
	literals := map[tokenKind]nodeKind{tokInt: nInt, tokFloat: nFloat, tokString: nString, tokBytes: nBytes, tokSystem: nSystem}
	if kind, ok := literals[t.kind]; ok {
		p.at++
		return &node{kind: kind, pos: t.pos, text: t.text}, nil
	}
	switch t.kind {
	case tokParam:
		p.at++
		n := &node{kind: nParam, pos: t.pos, text: t.text}
		if t.text == "" {
			n.kids = make([]*node, p.params) // its number
			p.params++
		}
		return n, nil
	case tokSymbol:
		if t.text == "(" {
			return p.brackets()
		}
		if t.text == "[" {
			return p.array(nil)
		}
		return nil, p.unexpected()
	case tokName:
		return p.word()
	case tokQuoted:
		if p.peekAt(1).is("(") {
			return p.callExpr()
		}
		p.at++
		return &node{kind: nName, pos: t.pos, path: []string{t.text}}, nil
	default:
		return nil, p.unexpected()
	}
}

// brackets parses (query), (a, b) or (expression).
func (p *parser) brackets() (*node, error) {
	t := p.next()
	if p.seen("SELECT") || p.seen("WITH") {
		q, err := p.query()
		if err != nil {
			return nil, err
		}
		return &node{kind: nSubquery, pos: t.pos, query: q}, p.expect(")")
	}
	list, err := p.exprs()
	if err != nil {
		return nil, err
	}
	if err := p.expect(")"); err != nil {
		return nil, err
	}
	if len(list) == 1 {
		if list[0].kind == nName { // (a).b is a field, not a path
			return &node{kind: nUnary, pos: t.pos, text: "()", kids: list}, nil
		}
		return list[0], nil
	}
	return &node{kind: nTuple, pos: t.pos, kids: list}, nil
}
