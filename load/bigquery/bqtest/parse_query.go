package bqtest

import (
	"strings"
)

func (p *parser) query() (*query, error) {
	q := &query{pos: p.cur().pos}
	if p.accept("WITH") {
		if p.seen("RECURSIVE") {
			return nil, queryError(p.cur().pos, "stand-in: WITH RECURSIVE is not known")
		}
		for {
			c := cte{pos: p.cur().pos}
			var err error
			if c.name, err = p.name(); err != nil {
				return nil, err
			}
			if err := p.expect("AS", "("); err != nil {
				return nil, err
			}
			if c.query, err = p.query(); err != nil {
				return nil, err
			}
			if err := p.expect(")"); err != nil {
				return nil, err
			}
			q.with = append(q.with, c)
			if !p.accept(",") {
				break
			}
		}
	}
	var err error
	if q.body, err = p.setOperation(); err != nil {
		return nil, err
	}
	if p.seen("ORDER", "BY") {
		if q.order, err = p.orderBy(); err != nil {
			return nil, err
		}
	}
	if p.accept("LIMIT") {
		if q.limit, err = p.expr(); err != nil {
			return nil, err
		}
		if p.accept("OFFSET") {
			if q.offset, err = p.expr(); err != nil {
				return nil, err
			}
		}
	}
	return q, nil
}

// setOperation parses SELECTs with set operators between. Different operators
// need brackets ("Set operators", Query syntax).
func (p *parser) setOperation() (*queryBody, error) {
	left, err := p.queryPrimary()
	if err != nil {
		return nil, err
	}
	first := ""
	for {
		t := p.cur()
		var op string
		switch {
		case p.accept("UNION", "ALL"):
			op = "UNION ALL"
		case p.accept("UNION", "DISTINCT"):
			op = "UNION"
		case p.accept("INTERSECT", "DISTINCT"):
			op = "INTERSECT"
		case p.accept("EXCEPT", "DISTINCT"):
			op = "EXCEPT"
		case p.seen("UNION"), p.seen("INTERSECT"), p.seen("EXCEPT"):
			p.at++
			return nil, queryError(p.cur().pos, "Syntax error: Expected keyword ALL or keyword DISTINCT but got %s", p.cur().describe())
		default:
			return left, nil
		}
		if first != "" && first != op {
			return nil, queryError(t.pos, "Syntax error: Different set operations cannot be used in the same query without using parentheses for grouping")
		}
		first = op
		right, err := p.queryPrimary()
		if err != nil {
			return nil, err
		}
		left = &queryBody{pos: t.pos, op: op, left: left, right: right}
	}
}

func (p *parser) queryPrimary() (*queryBody, error) {
	t := p.cur()
	if p.accept("(") {
		q, err := p.query()
		if err != nil {
			return nil, err
		}
		return &queryBody{pos: t.pos, nested: q}, p.expect(")")
	}
	if !p.accept("SELECT") {
		return nil, queryError(t.pos, "Syntax error: Expected \"(\" or keyword SELECT or keyword WITH but got %s", t.describe())
	}
	s, err := p.selectNode(t.pos)
	return &queryBody{pos: t.pos, sel: s}, err
}

func (p *parser) selectNode(at pos) (*selectNode, error) {
	s := &selectNode{pos: at}
	if s.distinct = p.accept("DISTINCT"); !s.distinct {
		p.accept("ALL")
	}
	s.asStruct = p.accept("AS", "STRUCT")
	for {
		item, err := p.selectItem()
		if err != nil {
			return nil, err
		}
		s.items = append(s.items, item)
		if !p.accept(",") || p.seen("FROM") {
			break
		}
	}
	var err error
	if p.accept("FROM") {
		if s.from, err = p.from(); err != nil {
			return nil, err
		}
	}
	return s, p.selectClauses(s)
}

func (p *parser) selectClauses(s *selectNode) error {
	var err error
	if p.accept("WHERE") {
		if s.where, err = p.expr(); err != nil {
			return err
		}
	}
	if p.accept("GROUP", "BY") {
		if p.accept("ALL") {
			s.groupAll = true
		} else if s.group, err = p.exprs(); err != nil {
			return err
		}
	}
	if p.accept("HAVING") {
		if s.having, err = p.expr(); err != nil {
			return err
		}
	}
	if p.accept("QUALIFY") {
		if s.qualify, err = p.expr(); err != nil {
			return err
		}
	}
	if p.accept("WINDOW") {
		s.windows = map[string]*window{}
		for {
			name, err := p.name()
			if err != nil {
				return err
			}
			if err := p.expect("AS"); err != nil {
				return err
			}
			if s.windows[strings.ToLower(name)], err = p.window(); err != nil {
				return err
			}
			if !p.accept(",") {
				break
			}
		}
	}
	return nil
}

func (p *parser) selectItem() (selectItem, error) {
	item := selectItem{pos: p.cur().pos}
	if p.accept("*") {
		item.star = true
		return item, p.starTail(&item)
	}
	if (p.cur().kind == tokQuoted || p.cur().kind == tokName && !isReserved(p.cur().text)) && p.peekAt(1).is(".") && p.peekAt(2).is("*") {
		item.star, item.of = true, &node{kind: nName, pos: item.pos, path: []string{p.cur().text}}
		p.at += 3
		return item, p.starTail(&item)
	}
	var err error
	if item.expr, err = p.expr(); err != nil {
		return item, err
	}
	item.alias, err = p.alias()
	return item, err
}

// starTail parses EXCEPT (...) and REPLACE (...) after *.
func (p *parser) starTail(item *selectItem) error {
	var err error
	if p.seen("EXCEPT", "(") {
		p.at++
		if item.except, err = p.names(); err != nil {
			return err
		}
	}
	if !p.accept("REPLACE") {
		return nil
	}
	if err := p.expect("("); err != nil {
		return err
	}
	for {
		r := selectItem{pos: p.cur().pos}
		if r.expr, err = p.expr(); err != nil {
			return err
		}
		if err := p.expect("AS"); err != nil {
			return err
		}
		if r.alias, err = p.name(); err != nil {
			return err
		}
		item.replace = append(item.replace, r)
		if !p.accept(",") {
			return p.expect(")")
		}
	}
}

func (p *parser) from() (*fromNode, error) {
	left, err := p.tableExpr()
	if err != nil {
		return nil, err
	}
	for {
		j := &fromNode{pos: p.cur().pos, left: left}
		switch {
		case p.accept(","), p.accept("CROSS", "JOIN"):
			j.join = "CROSS"
		case p.accept("JOIN"), p.accept("INNER", "JOIN"):
			j.join = "INNER"
		case p.seen("LEFT"), p.seen("RIGHT"), p.seen("FULL"):
			j.join = strings.ToUpper(p.next().text)
			p.accept("OUTER")
			if err := p.expect("JOIN"); err != nil {
				return nil, err
			}
		default:
			return left, nil
		}
		if j.right, err = p.tableExpr(); err != nil {
			return nil, err
		}
		if j.join != "CROSS" {
			if err := p.joinCondition(j); err != nil {
				return nil, err
			}
		}
		left = j
	}
}

func (p *parser) joinCondition(j *fromNode) error {
	var err error
	switch {
	case p.accept("ON"):
		j.on, err = p.expr()
	case p.accept("USING"):
		j.using, err = p.names()
	default:
		err = queryError(j.pos, "Syntax error: %s JOIN must have an immediately following ON or USING clause", j.join)
	}
	return err
}

func (p *parser) tableExpr() (*fromNode, error) {
	f := &fromNode{pos: p.cur().pos}
	var err error
	switch {
	case p.accept("UNNEST"):
		if f.unnest, err = p.bracketed(); err != nil {
			return nil, err
		}
		if f.alias, err = p.alias(); err != nil {
			return nil, err
		}
		if p.accept("WITH", "OFFSET") {
			if f.offsetAlias, err = p.alias(); err != nil {
				return nil, err
			}
			if f.offsetAlias == "" {
				f.offsetAlias = "offset"
			}
		}
		return f, nil
	case p.seen("(", "SELECT"), p.seen("(", "WITH"), p.seen("(", "("):
		p.at++
		if f.query, err = p.query(); err != nil {
			return nil, err
		}
		if err := p.expect(")"); err != nil {
			return nil, err
		}
	case p.accept("("):
		inner, err := p.from()
		if err != nil {
			return nil, err
		}
		return inner, p.expect(")")
	default:
		if f.path, err = p.tablePath(); err != nil {
			return nil, err
		}
		if p.accept("(") {
			f.isCall = true
			if !p.seen(")") {
				if f.args, err = p.exprs(); err != nil {
					return nil, err
				}
			}
			if err := p.expect(")"); err != nil {
				return nil, err
			}
		}
	}
	if p.seen("FOR", "SYSTEM_TIME") || p.seen("TABLESAMPLE") || p.seen("PIVOT") || p.seen("UNPIVOT") {
		return nil, queryError(p.cur().pos, "stand-in: %s is not known", strings.ToUpper(p.cur().text))
	}
	f.alias, err = p.alias()
	return f, err
}
