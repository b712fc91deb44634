package bqtest

import "strings"

// statements parses up to a word that ends a block, or the end.
func (p *parser) statements() ([]stmt, error) {
	var out []stmt
	for {
		for p.accept(";") {
		}
		if p.cur().kind == tokEnd || p.seen("END") || p.seen("ELSE") || p.seen("ELSEIF") || p.seen("EXCEPTION") {
			return out, nil
		}
		s, err := p.statement()
		if err != nil {
			return nil, err
		}
		out = append(out, s)
		if !p.seen(";") && p.cur().kind != tokEnd {
			return nil, queryError(p.cur().pos, "Syntax error: Expected end of input but got %s", p.cur().describe())
		}
	}
}

func (p *parser) statement() (stmt, error) {
	t := p.cur()
	b := stmtBase{pos: t.pos, begin: t.begin}
	s, err := p.statementOf(&b)
	return s, err
}

// close notes where a statement ends.
func (p *parser) close(b *stmtBase) { b.end = p.toks[p.at-1].end }

func (p *parser) statementOf(b *stmtBase) (stmt, error) {
	switch {
	case p.seen("SELECT"), p.seen("WITH"), p.seen("("):
		q, err := p.query()
		p.close(b)
		return &queryStmt{*b, q}, err
	case p.seen("CREATE"):
		return p.create(b)
	case p.seen("ALTER"):
		return p.alter(b)
	case p.seen("DROP"):
		return p.drop(b)
	case p.accept("TRUNCATE", "TABLE"):
		path, err := p.tablePath()
		p.close(b)
		return &truncateStmt{*b, path}, err
	case p.seen("INSERT"):
		return p.insert(b)
	case p.seen("UPDATE"):
		return p.update(b)
	case p.seen("DELETE"):
		return p.deleteFrom(b)
	case p.seen("MERGE"):
		return p.merge(b)
	default:
		return p.scripting(b)
	}
}

// scripting parses the statements of the procedural language.
func (p *parser) scripting(b *stmtBase) (stmt, error) {
	t := p.cur()
	switch {
	case p.accept("DECLARE"):
		return p.declare(b)
	case p.accept("SET"):
		return p.set(b)
	case p.accept("IF"):
		return p.ifThen(b)
	case p.accept("ASSERT"):
		s := &assertStmt{}
		var err error
		if s.cond, err = p.expr(); err != nil {
			return nil, err
		}
		if p.accept("AS") {
			m := p.next()
			if m.kind != tokString {
				p.at--
				return nil, p.unexpected()
			}
			s.message = m.text
		}
		p.close(b)
		s.stmtBase = *b
		return s, nil
	case p.accept("RAISE"):
		s := &raiseStmt{}
		if p.accept("USING") {
			if err := p.expect("MESSAGE", "="); err != nil {
				return nil, err
			}
			var err error
			if s.message, err = p.expr(); err != nil {
				return nil, err
			}
		}
		p.close(b)
		s.stmtBase = *b
		return s, nil
	case p.accept("RETURN"):
		p.close(b)
		return &returnStmt{*b}, nil
	case p.seen("COMMIT"), p.seen("ROLLBACK"):
		return p.transaction(b)
	case p.seen("BEGIN", "TRANSACTION"), p.seen("BEGIN", ";"), p.seen("BEGIN") && p.peekAt(1).kind == tokEnd:
		return p.transaction(b)
	case p.accept("BEGIN"):
		return p.block(b)
	}
	return nil, queryError(t.pos, "Syntax error: Unexpected %s", t.describe())
}

func (p *parser) transaction(b *stmtBase) (stmt, error) {
	what := strings.ToUpper(p.next().text)
	p.accept("TRANSACTION")
	p.close(b)
	return &txStmt{*b, what}, nil
}

func (p *parser) block(b *stmtBase) (stmt, error) {
	s := &blockStmt{}
	var err error
	if s.body, err = p.statements(); err != nil {
		return nil, err
	}
	if p.accept("EXCEPTION") {
		if err := p.expect("WHEN"); err != nil {
			return nil, err
		}
		if !p.accept("ERROR") {
			return nil, p.unexpected()
		}
		if err := p.expect("THEN"); err != nil {
			return nil, err
		}
		s.handled = true
		if s.handler, err = p.statements(); err != nil {
			return nil, err
		}
	}
	if err := p.expect("END"); err != nil {
		return nil, err
	}
	p.close(b)
	s.stmtBase = *b
	return s, nil
}

func (p *parser) declare(b *stmtBase) (stmt, error) {
	s := &declareStmt{}
	for {
		n, err := p.name()
		if err != nil {
			return nil, err
		}
		s.names = append(s.names, n)
		if !p.accept(",") {
			break
		}
	}
	var err error
	if !p.seen("DEFAULT") {
		if s.typ, err = p.typeName(); err != nil {
			return nil, err
		}
	}
	if p.accept("DEFAULT") {
		if s.value, err = p.expr(); err != nil {
			return nil, err
		}
	}
	p.close(b)
	s.stmtBase = *b
	return s, nil
}

func (p *parser) set(b *stmtBase) (stmt, error) {
	s := &setStmt{}
	var err error
	if p.seen("(") {
		s.names, err = p.names()
	} else {
		var n string
		n, err = p.name()
		s.names = []string{n}
	}
	if err != nil {
		return nil, err
	}
	if err := p.expect("="); err != nil {
		return nil, err
	}
	s.value, err = p.expr()
	p.close(b)
	s.stmtBase = *b
	return s, err
}

func (p *parser) ifThen(b *stmtBase) (stmt, error) {
	s := &ifStmt{}
	for {
		cond, err := p.expr()
		if err != nil {
			return nil, err
		}
		if err := p.expect("THEN"); err != nil {
			return nil, err
		}
		body, err := p.statements()
		if err != nil {
			return nil, err
		}
		s.conds, s.thens = append(s.conds, cond), append(s.thens, body)
		if !p.accept("ELSEIF") {
			break
		}
	}
	if p.accept("ELSE") {
		body, err := p.statements()
		if err != nil {
			return nil, err
		}
		s.thens = append(s.thens, body)
	}
	if err := p.expect("END", "IF"); err != nil {
		return nil, err
	}
	p.close(b)
	s.stmtBase = *b
	return s, nil
}

func (p *parser) drop(b *stmtBase) (stmt, error) {
	p.at++
	s := &dropStmt{}
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
	s.ifExists = p.accept("IF", "EXISTS")
	var err error
	s.path, err = p.tablePath()
	s.cascade = p.accept("CASCADE")
	p.close(b)
	s.stmtBase = *b
	return s, err
}

func (p *parser) alter(b *stmtBase) (stmt, error) {
	p.at++
	if err := p.expect("TABLE"); err != nil {
		return nil, err
	}
	s := &alterStmt{ifExists: p.accept("IF", "EXISTS")}
	var err error
	if s.path, err = p.tablePath(); err != nil {
		return nil, err
	}
	for {
		a, err := p.alterAction()
		if err != nil {
			return nil, err
		}
		s.actions = append(s.actions, a)
		if !p.accept(",") {
			break
		}
	}
	p.close(b)
	s.stmtBase = *b
	return s, nil
}

func (p *parser) alterAction() (alterAction, error) {
	var a alterAction
	var err error
	switch {
	case p.accept("ADD", "COLUMN"):
		a.what = "ADD COLUMN"
		a.ifNotExists = p.accept("IF", "NOT", "EXISTS")
		a.column, err = p.columnDef()
	case p.accept("ADD", "PRIMARY", "KEY"):
		a.what = "ADD PRIMARY KEY"
		if a.names, err = p.names(); err != nil {
			return a, err
		}
		err = p.expect("NOT", "ENFORCED")
	case p.accept("DROP", "PRIMARY", "KEY"):
		a.what = "DROP PRIMARY KEY"
		a.ifNotExists = p.accept("IF", "EXISTS")
	case p.accept("RENAME", "TO"):
		a.what = "RENAME TO"
		var name string
		name, err = p.name()
		a.names = []string{name}
	case p.seen("SET", "OPTIONS"):
		p.at++
		a.what = "SET OPTIONS"
		a.options, err = p.optionList()
	case p.accept("ALTER", "COLUMN"):
		a.what = "DROP NOT NULL"
		if a.column.name, err = p.name(); err != nil {
			return a, err
		}
		if p.seen("SET", "OPTIONS") {
			p.at++
			a.what = "COLUMN OPTIONS"
			a.column.options, err = p.optionList()
			return a, err
		}
		err = p.expect("DROP", "NOT", "NULL")
	default:
		err = p.unexpected()
	}
	return a, err
}

func (p *parser) columnDef() (columnDef, error) {
	c := columnDef{pos: p.cur().pos}
	var err error
	if c.name, err = p.name(); err != nil {
		return c, err
	}
	if c.typ, err = p.typeName(); err != nil {
		return c, err
	}
	c.required = p.accept("NOT", "NULL")
	c.options, err = p.optionList()
	return c, err
}
