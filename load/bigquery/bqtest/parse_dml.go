package bqtest

import "strings"

func (p *parser) create(b *stmtBase) (stmt, error) {
	p.at++
	s := &createStmt{replace: p.accept("OR", "REPLACE")}
	s.temp = p.accept("TEMP") || p.accept("TEMPORARY")
	switch {
	case p.accept("TABLE", "FUNCTION"):
		s.what = "TABLE FUNCTION"
	case p.accept("TABLE"):
		s.what = "TABLE"
	case p.accept("VIEW"):
		s.what = "VIEW"
	case p.accept("SCHEMA"):
		s.what = "SCHEMA"
	default:
		return nil, p.unexpected()
	}
	s.ifNotExists = p.accept("IF", "NOT", "EXISTS")
	var err error
	if s.path, err = p.tablePath(); err != nil {
		return nil, err
	}
	if s.what == "TABLE FUNCTION" {
		err = p.functionParams(s)
	} else if s.what != "SCHEMA" {
		err = p.createColumns(s)
	}
	if err != nil {
		return nil, err
	}
	if err := p.createTail(s); err != nil {
		return nil, err
	}
	p.close(b)
	s.stmtBase = *b
	return s, nil
}

func (p *parser) functionParams(s *createStmt) error {
	if err := p.expect("("); err != nil {
		return err
	}
	for !p.seen(")") {
		c := columnDef{pos: p.cur().pos}
		var err error
		if c.name, err = p.name(); err != nil {
			return err
		}
		if c.typ, err = p.typeName(); err != nil {
			return err
		}
		s.params = append(s.params, c)
		if !p.accept(",") {
			break
		}
	}
	return p.expect(")")
}

// createColumns parses (column ..., PRIMARY KEY (...) NOT ENFORCED).
func (p *parser) createColumns(s *createStmt) error {
	if !p.accept("(") {
		return nil
	}
	s.hasColumns = true
	for !p.seen(")") {
		var err error
		if p.accept("PRIMARY", "KEY") {
			if s.primaryKey, err = p.names(); err != nil {
				return err
			}
			err = p.expect("NOT", "ENFORCED")
		} else if s.what == "VIEW" {
			c := columnDef{pos: p.cur().pos}
			if c.name, err = p.name(); err == nil {
				c.options, err = p.optionList()
			}
			s.columns = append(s.columns, c)
		} else {
			var c columnDef
			c, err = p.columnDef()
			s.columns = append(s.columns, c)
		}
		if err != nil {
			return err
		}
		if !p.accept(",") {
			break
		}
	}
	return p.expect(")")
}

func (p *parser) createTail(s *createStmt) error {
	var err error
	if s.what == "TABLE" && p.accept("LIKE") {
		if s.like, err = p.tablePath(); err != nil {
			return err
		}
	}
	if s.what == "TABLE" && p.accept("PARTITION", "BY") {
		if s.partition, err = p.expr(); err != nil {
			return err
		}
	}
	if s.what == "TABLE" && p.accept("CLUSTER", "BY") {
		for {
			n, err := p.name()
			if err != nil {
				return err
			}
			s.cluster = append(s.cluster, n)
			if !p.accept(",") {
				break
			}
		}
	}
	if s.options, err = p.optionList(); err != nil {
		return err
	}
	if s.what == "SCHEMA" {
		return nil
	}
	if p.accept("AS") {
		from := p.cur().begin
		if s.query, err = p.query(); err != nil {
			return err
		}
		s.body = p.src[from:p.toks[p.at-1].end]
	}
	if s.query == nil && (s.what != "TABLE" || !s.hasColumns && s.like == nil) {
		return queryError(p.cur().pos, "Syntax error: Expected keyword AS but got %s", p.cur().describe())
	}
	return nil
}

func (p *parser) insert(b *stmtBase) (stmt, error) {
	p.at++
	p.accept("INTO")
	s := &insertStmt{}
	var err error
	if s.path, err = p.tablePath(); err != nil {
		return nil, err
	}
	if p.seen("(") && !p.seen("(", "SELECT") && !p.seen("(", "WITH") {
		if s.columns, err = p.names(); err != nil {
			return nil, err
		}
	}
	if p.accept("VALUES") {
		for {
			row, err := p.valueRow()
			if err != nil {
				return nil, err
			}
			s.values = append(s.values, row)
			if !p.accept(",") {
				break
			}
		}
	} else if s.query, err = p.query(); err != nil {
		return nil, err
	}
	p.close(b)
	s.stmtBase = *b
	return s, nil
}

func (p *parser) valueRow() ([]*node, error) {
	if err := p.expect("("); err != nil {
		return nil, err
	}
	row, err := p.exprs()
	if err != nil {
		return nil, err
	}
	return row, p.expect(")")
}

// assignments parses a = x, b = y of SET; a name may be qualified by alias.
func (p *parser) assignments(alias string) ([]assignment, error) {
	if err := p.expect("SET"); err != nil {
		return nil, err
	}
	var out []assignment
	for {
		a := assignment{pos: p.cur().pos}
		var err error
		if a.column, err = p.name(); err != nil {
			return nil, err
		}
		if p.accept(".") {
			if !strings.EqualFold(a.column, alias) {
				return nil, queryError(a.pos, "stand-in: fields of a STRUCT cannot be set")
			}
			if a.column, err = p.name(); err != nil {
				return nil, err
			}
		}
		if err := p.expect("="); err != nil {
			return nil, err
		}
		if a.value, err = p.expr(); err != nil {
			return nil, err
		}
		out = append(out, a)
		if !p.accept(",") {
			return out, nil
		}
	}
}

func (p *parser) target() (path []string, alias string, err error) {
	if path, err = p.tablePath(); err != nil {
		return nil, "", err
	}
	if alias, err = p.alias(); alias == "" {
		alias = path[len(path)-1]
	}
	return path, alias, err
}

func (p *parser) update(b *stmtBase) (stmt, error) {
	p.at++
	s := &updateStmt{}
	var err error
	if s.path, s.alias, err = p.target(); err != nil {
		return nil, err
	}
	if s.set, err = p.assignments(s.alias); err != nil {
		return nil, err
	}
	if p.accept("FROM") {
		if s.from, err = p.from(); err != nil {
			return nil, err
		}
	}
	s.where, err = p.whereOf("UPDATE")
	p.close(b)
	s.stmtBase = *b
	return s, err
}

// whereOf parses the WHERE that UPDATE and DELETE must have (DML syntax).
func (p *parser) whereOf(what string) (*node, error) {
	if !p.accept("WHERE") {
		return nil, queryError(p.cur().pos, "%s must have a WHERE clause", what)
	}
	return p.expr()
}

func (p *parser) deleteFrom(b *stmtBase) (stmt, error) {
	p.at++
	p.accept("FROM")
	s := &deleteStmt{}
	var err error
	if s.path, s.alias, err = p.target(); err != nil {
		return nil, err
	}
	s.where, err = p.whereOf("DELETE")
	p.close(b)
	s.stmtBase = *b
	return s, err
}

func (p *parser) merge(b *stmtBase) (stmt, error) {
	p.at++
	p.accept("INTO")
	s := &mergeStmt{}
	var err error
	if s.path, s.alias, err = p.target(); err != nil {
		return nil, err
	}
	if err := p.expect("USING"); err != nil {
		return nil, err
	}
	if s.source, err = p.tableExpr(); err != nil {
		return nil, err
	}
	if err := p.expect("ON"); err != nil {
		return nil, err
	}
	if s.on, err = p.expr(); err != nil {
		return nil, err
	}
	for p.seen("WHEN") {
		w, err := p.mergeWhen(s.alias)
		if err != nil {
			return nil, err
		}
		s.whens = append(s.whens, w)
	}
	if len(s.whens) == 0 {
		return nil, queryError(p.cur().pos, "Syntax error: Expected keyword WHEN but got %s", p.cur().describe())
	}
	p.close(b)
	s.stmtBase = *b
	return s, nil
}

func (p *parser) mergeWhen(alias string) (mergeWhen, error) {
	w := mergeWhen{pos: p.next().pos, match: "MATCHED"}
	if p.accept("NOT") {
		w.match = "NOT MATCHED"
	}
	if err := p.expect("MATCHED"); err != nil {
		return w, err
	}
	if p.accept("BY", "SOURCE") {
		w.match += " BY SOURCE"
	} else {
		p.accept("BY", "TARGET")
	}
	var err error
	if p.accept("AND") {
		if w.cond, err = p.expr(); err != nil {
			return w, err
		}
	}
	if err := p.expect("THEN"); err != nil {
		return w, err
	}
	switch {
	case w.match != "NOT MATCHED" && p.accept("DELETE"):
		w.action = "DELETE"
	case w.match != "NOT MATCHED" && p.accept("UPDATE"):
		w.action = "UPDATE"
		w.set, err = p.assignments(alias)
	case w.match == "NOT MATCHED" && p.accept("INSERT"):
		w.action = "INSERT"
		err = p.mergeInsert(&w)
	default:
		err = p.unexpected()
	}
	return w, err
}

func (p *parser) mergeInsert(w *mergeWhen) error {
	var err error
	if p.seen("(") {
		if w.columns, err = p.names(); err != nil {
			return err
		}
	}
	if p.accept("ROW") {
		w.row = true
		return nil
	}
	if err := p.expect("VALUES"); err != nil {
		return err
	}
	w.values, err = p.valueRow()
	return err
}
