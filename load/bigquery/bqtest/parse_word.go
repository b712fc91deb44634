package bqtest

import "strings"

// word parses an expression that begins with a word.
func (p *parser) word() (*node, error) {
	t := p.cur()
	upper := strings.ToUpper(t.text)
	following := p.peekAt(1)
	switch upper {
	case "NULL":
		p.at++
		return &node{kind: nNull, pos: t.pos}, nil
	case "TRUE", "FALSE":
		p.at++
		return &node{kind: nBool, pos: t.pos, text: upper}, nil
	case "CASE":
		return p.caseExpr()
	case "CAST", "SAFE_CAST":
		if following.is("(") {
			return p.castExpr()
		}
	case "EXTRACT":
		return p.extract()
	case "INTERVAL":
		return p.interval()
	case "EXISTS":
		p.at++
		if err := p.expect("("); err != nil {
			return nil, err
		}
		q, err := p.query()
		if err != nil {
			return nil, err
		}
		return &node{kind: nExists, pos: t.pos, query: q}, p.expect(")")
	case "ARRAY":
		return p.arrayWord()
	case "STRUCT":
		return p.structExpr()
	case "DEFAULT":
		p.at++
		return &node{kind: nDefault, pos: t.pos}, nil
	case "DATE", "TIMESTAMP", "DATETIME", "TIME", "NUMERIC", "JSON", "BIGNUMERIC", "DECIMAL":
		if following.kind == tokString {
			p.at += 2
			lit := &node{kind: nString, pos: following.pos, text: following.text}
			return &node{kind: nTyped, pos: t.pos, text: upper, kids: []*node{lit}}, nil
		}
	case "IF", "LEFT", "RIGHT", "GROUPING":
		if following.is("(") {
			return p.callExpr()
		}
	}
	if isReserved(t.text) {
		return nil, p.unexpected()
	}
	if following.is("(") || following.is(".") && p.peekAt(3).is("(") && strings.EqualFold(t.text, "SAFE") {
		return p.callExpr()
	}
	p.at++
	return &node{kind: nName, pos: t.pos, path: []string{t.text}}, nil
}

func (p *parser) caseExpr() (*node, error) {
	n := &node{kind: nCase, pos: p.next().pos, kids: []*node{nil}}
	var err error
	if !p.seen("WHEN") {
		if n.kids[0], err = p.expr(); err != nil {
			return nil, err
		}
	}
	for p.accept("WHEN") {
		cond, err := p.expr()
		if err != nil {
			return nil, err
		}
		if err := p.expect("THEN"); err != nil {
			return nil, err
		}
		then, err := p.expr()
		if err != nil {
			return nil, err
		}
		n.kids = append(n.kids, cond, then)
	}
	if len(n.kids) == 1 {
		return nil, p.unexpected()
	}
	var last *node
	if p.accept("ELSE") {
		if last, err = p.expr(); err != nil {
			return nil, err
		}
	}
	n.kids = append(n.kids, last)
	return n, p.expect("END")
}

func (p *parser) castExpr() (*node, error) {
	t := p.next()
	n := &node{kind: nCast, pos: t.pos, safe: strings.EqualFold(t.text, "SAFE_CAST")}
	p.at++
	x, err := p.expr()
	if err != nil {
		return nil, err
	}
	n.kids = []*node{x}
	if err := p.expect("AS"); err != nil {
		return nil, err
	}
	if n.typ, err = p.typeName(); err != nil {
		return nil, err
	}
	return n, p.expect(")")
}

func (p *parser) extract() (*node, error) {
	n := &node{kind: nExtract, pos: p.next().pos}
	if err := p.expect("("); err != nil {
		return nil, err
	}
	part, err := p.datePart()
	if err != nil {
		return nil, err
	}
	n.text = part
	if err := p.expect("FROM"); err != nil {
		return nil, err
	}
	x, err := p.expr()
	if err != nil {
		return nil, err
	}
	n.kids = []*node{x}
	if p.accept("AT", "TIME", "ZONE") {
		zone, err := p.expr()
		if err != nil {
			return nil, err
		}
		n.kids = append(n.kids, zone)
	}
	return n, p.expect(")")
}

// datePart takes a part such as DAY or WEEK(MONDAY).
func (p *parser) datePart() (string, error) {
	name, err := p.name()
	if err != nil {
		return "", err
	}
	name = strings.ToUpper(name)
	if name == "WEEK" && p.accept("(") {
		day, err := p.name()
		if err != nil {
			return "", err
		}
		return "WEEK(" + strings.ToUpper(day) + ")", p.expect(")")
	}
	return name, nil
}

func (p *parser) interval() (*node, error) {
	n := &node{kind: nInterval, pos: p.next().pos}
	x, err := p.expr()
	if err != nil {
		return nil, err
	}
	n.kids = []*node{x}
	n.text, err = p.datePart()
	return n, err
}

func (p *parser) arrayWord() (*node, error) {
	t := p.next()
	if p.accept("(") {
		q, err := p.query()
		if err != nil {
			return nil, err
		}
		return &node{kind: nArrayQuery, pos: t.pos, query: q}, p.expect(")")
	}
	var elem *typ
	if p.accept("<") {
		var err error
		if elem, err = p.typeName(); err != nil {
			return nil, err
		}
		if err := p.closeAngle(); err != nil {
			return nil, err
		}
	}
	return p.array(elem)
}

func (p *parser) array(elem *typ) (*node, error) {
	n := &node{kind: nArray, pos: p.cur().pos}
	if elem != nil {
		n.typ = &typ{kind: "ARRAY", elem: elem}
	}
	if err := p.expect("["); err != nil {
		return nil, err
	}
	if p.accept("]") {
		return n, nil
	}
	list, err := p.exprs()
	if err != nil {
		return nil, err
	}
	n.kids = list
	return n, p.expect("]")
}

func (p *parser) structExpr() (*node, error) {
	n := &node{kind: nStruct, pos: p.next().pos}
	if p.seen("<") {
		t, err := p.structType()
		if err != nil {
			return nil, err
		}
		n.typ = t
	}
	if err := p.expect("("); err != nil {
		return nil, err
	}
	for !p.seen(")") {
		x, err := p.expr()
		if err != nil {
			return nil, err
		}
		name := ""
		if p.accept("AS") {
			if name, err = p.name(); err != nil {
				return nil, err
			}
		} else if x.kind == nName {
			name = x.path[len(x.path)-1]
		}
		n.kids, n.names = append(n.kids, x), append(n.names, name)
		if !p.accept(",") {
			break
		}
	}
	return n, p.expect(")")
}

// partArgs are the functions whose last argument is a date part, by its place.
var partArgs = map[string]int{
	"TIMESTAMP_TRUNC": 1, "DATE_TRUNC": 1, "DATETIME_TRUNC": 1, "TIMESTAMP_DIFF": 2, "DATE_DIFF": 2, "DATETIME_DIFF": 2, "LAST_DAY": 1,
}

func (p *parser) callExpr() (*node, error) {
	t := p.next()
	n := &node{kind: nCall, pos: t.pos, text: strings.ToUpper(t.text), call: &call{}}
	if n.text == "SAFE" && p.accept(".") {
		n.safe = true
		n.text = strings.ToUpper(p.next().text)
	}
	if err := p.expect("("); err != nil {
		return nil, err
	}
	n.call.distinct = p.accept("DISTINCT")
	if err := p.callArgs(n); err != nil {
		return nil, err
	}
	if err := p.callTail(n.call); err != nil {
		return nil, err
	}
	if err := p.expect(")"); err != nil {
		return nil, err
	}
	if p.accept("OVER") {
		w, err := p.window()
		if err != nil {
			return nil, err
		}
		n.call.over = w
	}
	return n, nil
}

func (p *parser) callArgs(n *node) error {
	if n.text == "COUNT" && p.seen("*") {
		n.kids = []*node{{kind: nStar, pos: p.next().pos}}
		return nil
	}
	partAt, hasPart := partArgs[n.text]
	for !p.seen(")") && !p.seen("ORDER", "BY") && !p.seen("LIMIT") && !p.seen("IGNORE") && !p.seen("RESPECT") {
		var x *node
		var err error
		switch {
		case hasPart && len(n.kids) == partAt:
			x = &node{kind: nString, pos: p.cur().pos}
			x.text, err = p.datePart()
		case p.cur().kind == tokName && p.peekAt(1).is("=>"):
			name := strings.ToLower(p.next().text)
			p.at++
			if x, err = p.expr(); err == nil {
				if n.call.named == nil {
					n.call.named = map[string]*node{}
				}
				n.call.named[name] = x
			}
			x = nil
		default:
			x, err = p.expr()
		}
		if err != nil {
			return err
		}
		if x != nil {
			n.kids = append(n.kids, x)
		}
		if !p.accept(",") {
			return nil
		}
	}
	return nil
}

// callTail parses what may follow the arguments of an aggregate.
func (p *parser) callTail(c *call) error {
	var err error
	if p.accept("IGNORE", "NULLS") {
		c.ignoreNulls = true
	} else if p.accept("RESPECT", "NULLS") {
		c.ignoreNulls = false
	}
	if p.accept("HAVING") {
		if c.having = strings.ToUpper(p.next().text); c.having != "MAX" && c.having != "MIN" {
			p.at--
			return p.unexpected()
		}
		if c.havingArg, err = p.expr(); err != nil {
			return err
		}
	}
	if p.seen("ORDER", "BY") {
		if c.order, err = p.orderBy(); err != nil {
			return err
		}
	}
	if p.accept("LIMIT") {
		if c.limit, err = p.expr(); err != nil {
			return err
		}
	}
	return nil
}

func (p *parser) window() (*window, error) {
	w := &window{}
	if !p.seen("(") {
		name, err := p.name()
		w.name = name
		return w, err
	}
	p.at++
	var err error
	if p.accept("PARTITION", "BY") {
		if w.partition, err = p.exprs(); err != nil {
			return nil, err
		}
	}
	if p.seen("ORDER", "BY") {
		if w.order, err = p.orderBy(); err != nil {
			return nil, err
		}
	}
	if p.seen("ROWS") || p.seen("RANGE") {
		if w.frame, err = p.frame(); err != nil {
			return nil, err
		}
	}
	return w, p.expect(")")
}

func (p *parser) frame() (string, error) {
	out := strings.ToUpper(p.next().text)
	if !p.accept("BETWEEN") {
		b, err := p.frameBound()
		return out + " " + b, err
	}
	lo, err := p.frameBound()
	if err != nil {
		return "", err
	}
	if err := p.expect("AND"); err != nil {
		return "", err
	}
	hi, err := p.frameBound()
	return out + " BETWEEN " + lo + " AND " + hi, err
}

func (p *parser) frameBound() (string, error) {
	switch {
	case p.accept("CURRENT", "ROW"):
		return "CURRENT ROW", nil
	case p.accept("UNBOUNDED", "PRECEDING"):
		return "UNBOUNDED PRECEDING", nil
	case p.accept("UNBOUNDED", "FOLLOWING"):
		return "UNBOUNDED FOLLOWING", nil
	case p.cur().kind == tokInt && (p.peekAt(1).is("PRECEDING") || p.peekAt(1).is("FOLLOWING")):
		n, side := p.next().text, p.next().text
		return n + " " + strings.ToUpper(side), nil
	default:
		return "", p.unexpected()
	}
}

func (p *parser) orderBy() ([]orderItem, error) {
	if err := p.expect("ORDER", "BY"); err != nil {
		return nil, err
	}
	var out []orderItem
	for {
		x, err := p.expr()
		if err != nil {
			return nil, err
		}
		item := orderItem{expr: x}
		if p.accept("DESC") {
			item.desc = true
		} else {
			p.accept("ASC")
		}
		if p.accept("NULLS", "FIRST") {
			item.nulls = "FIRST"
		} else if p.accept("NULLS", "LAST") {
			item.nulls = "LAST"
		}
		out = append(out, item)
		if !p.accept(",") {
			return out, nil
		}
	}
}
