package bqtest

import (
	"fmt"
	"strconv"
	"strings"
)

// expr translates an expression; sc is nil where no column can be named.
func (a *analyzer) expr(n *node, sc *scope) (val, error) {
	switch n.kind {
	case nName:
		return a.resolve(n, sc)
	case nInt, nFloat, nString, nBytes, nNull, nBool, nTyped:
		return literal(n)
	case nParam:
		return a.run.param(n)
	case nSystem:
		return a.system(n)
	case nBinary:
		return a.binary(n, sc)
	case nUnary:
		return a.unary(n, sc)
	case nIs:
		return a.is(n, sc)
	case nBetween:
		return a.between(n, sc)
	case nIn:
		return a.in(n, sc)
	case nLike:
		return a.like(n, sc)
	case nCase:
		return a.caseExpr(n, sc)
	case nCast:
		return a.castExpr(n, sc)
	case nCall:
		return a.callExpr(n, sc)
	case nExtract:
		return a.extract(n, sc)
	case nInterval:
		return val{}, queryError(n.pos, "stand-in: an INTERVAL is known only as an argument of date functions")
	case nArray:
		return a.array(n, sc)
	case nStruct, nTuple:
		return a.structExpr(n, sc)
	case nSubquery, nArrayQuery, nExists:
		return a.subquery(n, sc)
	case nIndex:
		return a.index(n, sc)
	case nField:
		v, err := a.expr(n.kids[0], sc)
		if err != nil {
			return v, err
		}
		return a.fields(n, v, []string{n.text})
	default:
		return val{}, queryError(n.pos, "Syntax error: Unexpected expression")
	}
}

func (a *analyzer) exprs(list []*node, sc *scope) ([]val, error) {
	out := make([]val, len(list))
	for i, n := range list {
		var err error
		if out[i], err = a.expr(n, sc); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// literal gives the value of a literal.
func literal(n *node) (val, error) {
	v := val{literal: true, constant: true}
	switch n.kind {
	case nInt:
		i, err := strconv.ParseInt(n.text, 0, 64)
		if base10 := strings.TrimPrefix(n.text, "-"); err == nil && !strings.HasPrefix(strings.ToLower(base10), "0x") {
			i, err = strconv.ParseInt(n.text, 10, 64)
		}
		if err != nil {
			return v, queryError(n.pos, "Invalid integer literal: %s", n.text)
		}
		v.sql, v.typ = literalSQL(ty("INT64"), i), ty("INT64")
	case nFloat:
		f, err := strconv.ParseFloat(n.text, 64)
		if err != nil {
			return v, queryError(n.pos, "Invalid floating point literal: %s", n.text)
		}
		v.sql, v.typ = literalSQL(ty("FLOAT64"), f), ty("FLOAT64")
	case nString:
		v.sql, v.typ, v.text = quoteText(n.text), ty("STRING"), n.text
	case nBytes:
		v.sql, v.typ = literalSQL(ty("BYTES"), []byte(n.text)), ty("BYTES")
	case nNull:
		v.sql, v.typ = "NULL", ty(untyped)
	case nBool:
		v.sql, v.typ = strings.ToLower(n.text), ty("BOOL")
	default:
		kind := n.text
		if kind == "DECIMAL" {
			kind = "NUMERIC"
		}
		if !isScalarKind(kind) {
			return v, queryError(n.pos, "stand-in: type %s is not known", kind)
		}
		x, err := parseText(kind, n.kids[0].text)
		if err != nil {
			return v, queryError(n.pos, "Invalid %s literal", kind)
		}
		v.sql, v.typ, v.literal = literalSQL(ty(kind), x), ty(kind), false
	}
	return v, nil
}

func (a *analyzer) system(n *node) (val, error) {
	switch strings.ToLower(n.text) {
	case "row_count":
		return val{sql: "CAST(" + strconv.FormatInt(a.run.rowCount, 10) + " AS BIGINT)", typ: ty("INT64"), constant: true}, nil
	case "error":
		return val{sql: "struct_pack(f0 := " + quoteText(a.run.errorMessage) + ")", constant: true, typ: &typ{kind: "STRUCT", fields: []field{{"message", ty("STRING")}}}}, nil
	}
	return val{}, queryError(n.pos, "Unrecognized name: @@%s", n.text)
}

func (a *analyzer) binary(n *node, sc *scope) (val, error) {
	vals, err := a.exprs(n.kids, sc)
	if err != nil {
		return val{}, err
	}
	l, r := vals[0], vals[1]
	switch n.text {
	case "AND", "OR":
		for _, v := range vals {
			if v.typ.kind != "BOOL" && v.typ.kind != untyped {
				return val{}, noOperator(n, vals)
			}
		}
		return combine(ty("BOOL"), "("+l.sql+" "+n.text+" "+r.sql+")", l, r), nil
	case "=", "!=", "<", ">", "<=", ">=":
		return compare(n.pos, n.text, l, r)
	case "||":
		return concat(n, l, r)
	case "+", "-", "*", "/":
		return a.arithmetic(n, sc, l, r)
	default: // bits
		if l.typ.kind == "INT64" && r.typ.kind == "INT64" {
			sql := "(" + l.sql + " " + n.text + " " + r.sql + ")"
			if n.text == "^" {
				sql = "xor(" + l.sql + ", " + r.sql + ")"
			}
			return combine(l.typ, sql, l, r), nil
		}
		return val{}, noOperator(n, vals)
	}
}

func noOperator(n *node, vals []val) error {
	return queryError(n.pos, "No matching signature for operator %s for argument types: %s", n.text, typeList(vals))
}

// compare writes a comparison. STRING and INT64 have none ("Comparison
// operators"); STRUCTs have = and != only; NaN is equal to nothing.
func compare(at pos, op string, l, r val) (val, error) {
	t := supertype(l, r)
	name := &node{pos: at, text: op}
	if t == nil {
		return val{}, noOperator(name, []val{l, r})
	}
	equality := op == "=" || op == "!="
	if !t.groupable() || !equality && !t.orderable() {
		return val{}, queryError(at, "%s is not defined for arguments of type %s", map[bool]string{true: "Equality", false: "Less than"}[equality], t)
	}
	for i, v := range []*val{&l, &r} {
		c, err := coerce(at, *v, t, "Argument "+strconv.Itoa(i+1))
		if err != nil {
			return val{}, err
		}
		*v = c
	}
	sql := "(" + l.sql + " " + op + " " + r.sql + ")"
	switch {
	case t.kind == "FLOAT64" && op == "!=":
		sql = "(" + sql + " OR isnan(" + l.sql + ") OR isnan(" + r.sql + "))"
	case t.kind == "FLOAT64":
		sql = "(" + sql + " AND NOT isnan(" + l.sql + ") AND NOT isnan(" + r.sql + "))"
	case t.kind == "STRUCT":
		parts := make([]string, len(t.fields))
		for i, f := range t.fields {
			field := func(v val) val {
				return val{sql: "struct_extract(" + v.sql + ", '" + fieldName(i) + "')", typ: f.typ}
			}
			eq, err := compare(at, "=", field(l), field(r))
			if err != nil {
				return val{}, err
			}
			parts[i] = eq.sql
		}
		if sql = "(" + strings.Join(parts, " AND ") + ")"; op == "!=" {
			sql = "(NOT " + sql + ")"
		}
	}
	return combine(ty("BOOL"), sql, l, r), nil
}

func concat(n *node, l, r val) (val, error) {
	both := []val{l, r}
	t := supertype(l, r)
	if t == nil || t.kind != "STRING" && t.kind != "BYTES" && t.kind != "ARRAY" {
		return val{}, noOperator(n, both)
	}
	both, _, err := unify(n.pos, "operator ||", l, r)
	if err != nil {
		return val{}, err
	}
	sql := "(" + both[0].sql + " || " + both[1].sql + ")"
	if t.kind == "ARRAY" {
		sql = "CASE WHEN " + both[0].sql + " IS NULL OR " + both[1].sql + " IS NULL THEN NULL ELSE list_concat(" + both[0].sql + ", " + both[1].sql + ") END"
	}
	return combine(t, sql, l, r), nil
}

// arithmetic: / gives FLOAT64 (or NUMERIC), and dividing by zero and leaving
// INT64 or FLOAT64 are errors ("Arithmetic operators").
func (a *analyzer) arithmetic(n *node, sc *scope, l, r val) (val, error) {
	if n.text == "+" || n.text == "-" {
		if l.typ.kind == "DATE" && r.typ.kind == "INT64" {
			return combine(l.typ, "CAST("+l.sql+" "+n.text+" CAST("+r.sql+" AS INTEGER) AS DATE)", l, r), nil
		}
	}
	t := supertype(l, r)
	if t == nil || !t.numeric() {
		return val{}, noOperator(n, []val{l, r})
	}
	if n.text == "/" && t.kind == "INT64" {
		t = ty("FLOAT64")
	}
	for _, v := range []*val{&l, &r} {
		c, err := coerce(n.pos, *v, t, "Operand")
		if err != nil {
			return val{}, err
		}
		*v = c
	}
	sql := "(" + l.sql + " " + n.text + " " + r.sql + ")"
	switch {
	case t.kind == "NUMERIC" && n.text == "/":
		sql = "CAST(CASE WHEN " + r.sql + " = 0 THEN error('division by zero: " + "NUMERIC') ELSE CAST(" + l.sql + " AS DOUBLE) / CAST(" + r.sql + " AS DOUBLE) END AS DECIMAL(38,9))"
	case t.kind == "NUMERIC":
		sql = "CAST(" + sql + " AS DECIMAL(38,9))"
	case t.kind == "FLOAT64":
		sql = map[string]string{"+": "bq_add", "-": "bq_sub", "*": "bq_mul", "/": "bq_div"}[n.text] + "(" + l.sql + ", " + r.sql + ")"
	}
	return combine(t, sql, l, r), nil
}

func (a *analyzer) unary(n *node, sc *scope) (val, error) {
	v, err := a.expr(n.kids[0], sc)
	if err != nil {
		return v, err
	}
	switch n.text {
	case "()":
		return v, nil
	case "NOT":
		if v.typ.kind != "BOOL" && v.typ.kind != untyped {
			return v, noOperator(n, []val{v})
		}
		return combine(ty("BOOL"), "(NOT "+v.sql+")", v), nil
	case "~":
		if v.typ.kind != "INT64" {
			return v, noOperator(n, []val{v})
		}
	default:
		if !v.typ.numeric() {
			return v, noOperator(n, []val{v})
		}
	}
	return combine(v.typ, "("+n.text+v.sql+")", v), nil
}

func (a *analyzer) is(n *node, sc *scope) (val, error) {
	vals, err := a.exprs(n.kids, sc)
	if err != nil {
		return val{}, err
	}
	not := ""
	if n.not {
		not = "NOT "
	}
	if n.text == "DISTINCT FROM" {
		both, t, err := unify(n.pos, "operator IS DISTINCT FROM", vals...)
		if err != nil {
			return val{}, err
		}
		if !t.groupable() {
			return val{}, queryError(n.pos, "IS DISTINCT FROM is not defined for arguments of type %s", t)
		}
		return combine(ty("BOOL"), "("+both[0].sql+" IS "+not+"DISTINCT FROM "+both[1].sql+")", vals...), nil
	}
	if n.text != "NULL" && vals[0].typ.kind != "BOOL" && vals[0].typ.kind != untyped {
		return val{}, queryError(n.pos, "No matching signature for operator IS %s for argument types: %s", n.text, vals[0].typ)
	}
	return combine(ty("BOOL"), "("+vals[0].sql+" IS "+not+n.text+")", vals...), nil
}

func (a *analyzer) between(n *node, sc *scope) (val, error) {
	vals, err := a.exprs(n.kids, sc)
	if err != nil {
		return val{}, err
	}
	lo, err := compare(n.pos, ">=", vals[0], vals[1])
	if err != nil {
		return val{}, err
	}
	hi, err := compare(n.pos, "<=", vals[0], vals[2])
	if err != nil {
		return val{}, err
	}
	sql := "(" + lo.sql + " AND " + hi.sql + ")"
	if n.not {
		sql = "(NOT " + sql + ")"
	}
	return combine(ty("BOOL"), sql, vals...), nil
}

func (a *analyzer) in(n *node, sc *scope) (val, error) {
	not := ""
	if n.not {
		not = "NOT "
	}
	vals, err := a.exprs(n.kids, sc)
	if err != nil {
		return val{}, err
	}
	left := vals[0]
	var list string
	switch {
	case n.query != nil:
		sub, err := a.query(n.query, sc)
		if err != nil {
			return val{}, err
		}
		if len(sub.cols) != 1 {
			return val{}, queryError(n.pos, "Subquery of type IN must have only one output column")
		}
		both, _, err := unify(n.pos, "operator IN", left, sub.cols[0].val)
		if err != nil {
			return val{}, err
		}
		mark(sub.cols[0].val.deps)
		out := combine(ty("BOOL"), "("+both[0].sql+" "+not+"IN (SELECT "+both[1].sql+" FROM ("+sub.sql+")))", left)
		out.constant = false
		return out, nil
	case n.text == "UNNEST":
		if vals[1].typ.kind != "ARRAY" {
			return val{}, queryError(n.pos, "Second argument of IN UNNEST must be an array but was %s", vals[1].typ)
		}
		elem := val{sql: "x", typ: vals[1].typ.elem, literal: vals[1].literal}
		both, _, err := unify(n.pos, "operator IN UNNEST", left, elem)
		if err != nil {
			return val{}, err
		}
		return combine(ty("BOOL"), "("+both[0].sql+" "+not+"IN (SELECT "+both[1].sql+" FROM (SELECT unnest("+vals[1].sql+") AS x)))", vals...), nil
	}
	vals, t, err := unify(n.pos, "operator IN", vals...)
	if err != nil {
		return val{}, err
	}
	if !t.groupable() {
		return val{}, queryError(n.pos, "IN is not defined for arguments of type %s", t)
	}
	for _, v := range vals[1:] {
		list += ", " + v.sql
	}
	return combine(ty("BOOL"), "("+vals[0].sql+" "+not+"IN ("+list[2:]+"))", vals...), nil
}

func (a *analyzer) like(n *node, sc *scope) (val, error) {
	vals, err := a.exprs(n.kids, sc)
	if err != nil {
		return val{}, err
	}
	for _, v := range vals {
		if v.typ.kind != "STRING" && v.typ.kind != untyped {
			n.text = "LIKE"
			return val{}, noOperator(n, vals)
		}
	}
	not := ""
	if n.not {
		not = "NOT "
	}
	return combine(ty("BOOL"), fmt.Sprintf(`(%s %sLIKE %s ESCAPE '\')`, vals[0].sql, not, vals[1].sql), vals...), nil
}
