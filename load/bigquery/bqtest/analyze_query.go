package bqtest

import (
	"strconv"
	"strings"
)

// analyzed is a translated query.
type analyzed struct {
	sql  string
	cols []relCol // their sql is c1, c2, ... : the names of the columns in DuckDB
}

func (a *analyzer) query(q *query, outer *scope) (*analyzed, error) {
	known := len(a.ctes)
	defer func() { a.ctes = a.ctes[:known] }()
	var with []string
	for _, c := range q.with {
		sub, err := a.query(c.query, outer)
		if err != nil {
			return nil, err
		}
		e := cteEntry{name: c.name, sql: a.rename("w"), cols: sub.cols}
		a.ctes = append(a.ctes, e)
		with = append(with, e.sql+" AS ("+sub.sql+")")
	}
	out, err := a.bodyOf(q, outer)
	if err != nil {
		return nil, err
	}
	if len(with) > 0 {
		out.sql = "WITH " + strings.Join(with, ", ") + " " + out.sql
	}
	return out, nil
}

// bodyOf translates a query without its WITH.
func (a *analyzer) bodyOf(q *query, outer *scope) (*analyzed, error) {
	var out *analyzed
	var err error
	if q.body.sel != nil {
		if out, err = a.selectNode(q.body.sel, q.order, outer, q.limit == nil && q.offset == nil); err != nil {
			return nil, err
		}
	} else {
		if out, err = a.body(q.body, outer); err != nil {
			return nil, err
		}
		if len(q.order) > 0 {
			if err := a.orderOutput(q.order, out); err != nil {
				return nil, err
			}
		}
	}
	for _, l := range []struct {
		word string
		n    *node
	}{{" LIMIT ", q.limit}, {" OFFSET ", q.offset}} {
		if l.n == nil {
			continue
		}
		v, err := a.expr(l.n, nil)
		if err != nil {
			return nil, err
		}
		if v.typ.kind != "INT64" || !v.constant {
			return nil, queryError(l.n.pos, "LIMIT expects an integer literal or parameter")
		}
		out.sql += l.word + v.sql
	}
	return out, nil
}

// body translates a set operation.
func (a *analyzer) body(b *queryBody, outer *scope) (*analyzed, error) {
	if b.sel != nil {
		return a.selectNode(b.sel, nil, outer, true)
	}
	if b.nested != nil {
		sub, err := a.query(b.nested, outer)
		if err == nil {
			sub.sql = "(" + sub.sql + ")"
		}
		return sub, err
	}
	left, err := a.body(b.left, outer)
	if err != nil {
		return nil, err
	}
	right, err := a.body(b.right, outer)
	if err != nil {
		return nil, err
	}
	if len(left.cols) != len(right.cols) {
		return nil, queryError(b.pos, "Queries in %s have mismatched column count; query 1 has %d columns, query 2 has %d columns", b.op, len(left.cols), len(right.cols))
	}
	out := &analyzed{}
	var casts [2][]string
	for i := range left.cols {
		l, r := left.cols[i].val, right.cols[i].val
		t := supertype(l, r)
		if t == nil {
			return nil, queryError(b.pos, "Column %d in %s has incompatible types: %s, %s", i+1, b.op, l.typ, r.typ)
		}
		if b.op != "UNION ALL" && !t.groupable() {
			return nil, queryError(b.pos, "Column %d in %s has type that does not support set operation comparisons: %s", i+1, b.op, t)
		}
		name := "c" + strconv.Itoa(i+1)
		casts[0] = append(casts[0], plainCol(l, name).cast(t).sql+" AS "+name)
		casts[1] = append(casts[1], plainCol(r, name).cast(t).sql+" AS "+name)
		v := combine(t, name, l, r)
		v.constant = false
		if b.op != "UNION ALL" {
			mark(v.deps)
		}
		out.cols = append(out.cols, relCol{left.cols[i].name, v})
	}
	out.sql = "SELECT " + strings.Join(casts[0], ", ") + " FROM (" + left.sql + ") " + b.op +
		" SELECT " + strings.Join(casts[1], ", ") + " FROM (" + right.sql + ")"
	return out, nil
}

func plainCol(v val, name string) val {
	v.sql = name
	return v
}

// orderOutput orders the result of a set operation, by its columns alone.
func (a *analyzer) orderOutput(order []orderItem, out *analyzed) error {
	sc := &scope{rels: []*relation{{cols: out.cols}}}
	sql, err := a.orderBy(order, sc, out.cols)
	out.sql = "SELECT * FROM (" + out.sql + ")" + sql
	return err
}

// orderBy writes ORDER BY with NULL smallest, as GoogleSQL has it ("ORDER BY
// clause"): first when ascending, last when descending.
func (a *analyzer) orderBy(order []orderItem, sc *scope, cols []relCol) (string, error) {
	if len(order) == 0 {
		return "", nil
	}
	var parts []string
	for _, o := range order {
		var v val
		var err error
		if o.expr.kind == nInt && cols != nil {
			at, aerr := strconv.Atoi(o.expr.text)
			if aerr != nil || at < 1 || at > len(cols) {
				return "", queryError(o.expr.pos, "ORDER BY column number item is out of range. Column numbers must be between 1 and %d", len(cols))
			}
			v = plainCol(cols[at-1].val, strconv.Itoa(at))
		} else if v, err = a.expr(o.expr, sc); err != nil {
			return "", err
		}
		if !v.typ.orderable() && v.typ.kind != untyped {
			return "", queryError(o.expr.pos, "ORDER BY does not support expressions of type %s", v.typ)
		}
		mark(v.deps)
		parts = append(parts, orderItemSQL(v, o))
	}
	return " ORDER BY " + strings.Join(parts, ", "), nil
}

func orderItemSQL(v val, o orderItem) string {
	dir, nulls := " ASC", " NULLS FIRST"
	if o.desc {
		dir, nulls = " DESC", " NULLS LAST"
	}
	if o.nulls != "" {
		nulls = " NULLS " + o.nulls
	}
	return v.sql + dir + nulls
}

// selectNode translates a SELECT with the ORDER BY that follows it.
func (a *analyzer) selectNode(s *selectNode, order []orderItem, outer *scope, plain bool) (*analyzed, error) {
	t := &selecting{a: a, s: s, sc: &scope{parent: outer, windows: s.windows}}
	if s.from != nil {
		from, err := a.from(s.from, t.sc)
		if err != nil {
			return nil, err
		}
		t.sql = " FROM " + from
	}
	if s.where != nil {
		t.sc.noAgg = "WHERE"
		v, err := a.condition(s.where, t.sc, "WHERE")
		t.sc.noAgg = ""
		if err != nil {
			return nil, err
		}
		if v.agg || v.win {
			return nil, queryError(s.where.pos, "Aggregate and analytic functions not allowed in WHERE clause")
		}
		t.sql += " WHERE " + v.sql
		a.prune(s.where, t.sc, t.sc.rels)
	}
	if err := t.items(); err != nil {
		return nil, err
	}
	if err := t.group(); err != nil {
		return nil, err
	}
	return t.finish(order, plain)
}

// condition translates an expression that has to be BOOL.
func (a *analyzer) condition(n *node, sc *scope, clause string) (val, error) {
	v, err := a.expr(n, sc)
	if err != nil {
		return v, err
	}
	if v.typ.kind != "BOOL" && v.typ.kind != untyped {
		return v, queryError(n.pos, "%s clause should return type BOOL, but returns %s", clause, v.typ)
	}
	mark(v.deps)
	return v, nil
}
