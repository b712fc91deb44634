package bqtest

import (
	"strconv"
	"strings"
)

func (a *analyzer) caseExpr(n *node, sc *scope) (val, error) {
	var conds, results []val
	var operand *val
	if n.kids[0] != nil {
		v, err := a.expr(n.kids[0], sc)
		if err != nil {
			return v, err
		}
		operand = &v
	}
	for i := 1; i+1 < len(n.kids); i += 2 {
		var cond val
		var err error
		if operand == nil {
			if cond, err = a.expr(n.kids[i], sc); err == nil && cond.typ.kind != "BOOL" && cond.typ.kind != untyped {
				err = queryError(n.kids[i].pos, "WHEN clause should return type BOOL, but returns %s", cond.typ)
			}
		} else if cond, err = a.expr(n.kids[i], sc); err == nil {
			cond, err = compare(n.kids[i].pos, "=", *operand, cond)
		}
		if err != nil {
			return val{}, err
		}
		then, err := a.expr(n.kids[i+1], sc)
		if err != nil {
			return val{}, err
		}
		conds, results = append(conds, cond), append(results, then)
	}
	if last := n.kids[len(n.kids)-1]; last != nil {
		v, err := a.expr(last, sc)
		if err != nil {
			return v, err
		}
		results = append(results, v)
	}
	return choose(n, "CASE", conds, results)
}

// choose writes CASE: one result a condition, and one more for ELSE.
func choose(n *node, what string, conds, results []val) (val, error) {
	cast, t, err := unify(n.pos, what, results...)
	if err != nil {
		return val{}, err
	}
	var b strings.Builder
	b.WriteString("CASE")
	for i, c := range conds {
		b.WriteString(" WHEN " + c.sql + " THEN " + cast[i].sql)
	}
	if len(cast) > len(conds) {
		b.WriteString(" ELSE " + cast[len(conds)].sql)
	}
	b.WriteString(" END")
	return combine(t, "("+b.String()+")", append(append([]val{}, conds...), cast...)...), nil
}

func (a *analyzer) array(n *node, sc *scope) (val, error) {
	vals, err := a.exprs(n.kids, sc)
	if err != nil {
		return val{}, err
	}
	var t *typ
	if n.typ != nil {
		t = n.typ.elem
	} else if t = supertype(vals...); t == nil {
		return val{}, queryError(n.pos, "Array elements of types {%s} do not have a common supertype", typeList(vals))
	}
	if t.kind == "ARRAY" {
		return val{}, queryError(n.pos, "Cannot construct array with element type ARRAY because nested arrays are not supported")
	}
	parts := make([]string, len(vals))
	lit := true
	for i, v := range vals {
		lit = lit && v.literal
		c, err := coerce(n.pos, v, t, "Array element")
		if err != nil {
			return val{}, err
		}
		parts[i] = c.sql
	}
	arr := &typ{kind: "ARRAY", elem: t}
	v := combine(arr, "CAST(["+strings.Join(parts, ", ")+"] AS "+arr.engine()+")", vals...)
	v.literal = lit && n.typ == nil
	return v, nil
}

func (a *analyzer) structExpr(n *node, sc *scope) (val, error) {
	vals, err := a.exprs(n.kids, sc)
	if err != nil {
		return val{}, err
	}
	t := &typ{kind: "STRUCT"}
	lit := true
	parts := make([]string, len(vals))
	for i, v := range vals {
		name := ""
		if n.names != nil {
			name = n.names[i]
		}
		if n.typ != nil {
			if len(n.typ.fields) != len(vals) {
				return val{}, queryError(n.pos, "STRUCT type has %d fields but constructor call has %d fields", len(n.typ.fields), len(vals))
			}
			if v, err = coerce(n.pos, v, n.typ.fields[i].typ, "Struct field "+strconv.Itoa(i+1)); err != nil {
				return val{}, err
			}
			name = n.typ.fields[i].name
		}
		if v.typ.kind == untyped {
			v.sql = "CAST(NULL AS BIGINT)"
		}
		lit = lit && v.literal
		t.fields = append(t.fields, field{name, v.typ})
		parts[i] = fieldName(i) + " := " + v.sql
	}
	v := combine(t, "struct_pack("+strings.Join(parts, ", ")+")", vals...)
	v.literal = lit && n.typ == nil
	return v, nil
}

func (a *analyzer) subquery(n *node, sc *scope) (val, error) {
	sub, err := a.query(n.query, sc)
	if err != nil {
		return val{}, err
	}
	if n.kind == nExists {
		return val{sql: "EXISTS (" + sub.sql + ")", typ: ty("BOOL")}, nil
	}
	if len(sub.cols) != 1 {
		what := map[nodeKind]string{nSubquery: "Scalar", nArrayQuery: "ARRAY"}[n.kind]
		return val{}, queryError(n.pos, "%s subquery cannot have more than one column unless using SELECT AS STRUCT to build STRUCT values", what)
	}
	v := sub.cols[0].val
	mark(v.deps)
	if n.kind == nSubquery {
		return val{sql: "(" + sub.sql + ")", typ: v.typ}, nil
	}
	if v.typ.kind == "ARRAY" {
		return val{}, queryError(n.pos, "Cannot use array subquery with column of type ARRAY because nested arrays are not supported")
	}
	t := &typ{kind: "ARRAY", elem: v.typ}
	return val{sql: "coalesce((SELECT list(c1) FROM (" + sub.sql + ")), [])", typ: t}, nil
}

func (a *analyzer) index(n *node, sc *scope) (val, error) {
	vals, err := a.exprs(n.kids, sc)
	if err != nil {
		return val{}, err
	}
	arr, i := vals[0], vals[1]
	if arr.typ.kind != "ARRAY" || i.typ.kind != "INT64" {
		return val{}, queryError(n.pos, "Element access using [%s()] is not supported on values of type %s", n.text, arr.typ)
	}
	from := "1"
	if strings.HasSuffix(n.text, "ORDINAL") {
		from = "0"
	}
	at := "(" + i.sql + " + " + from + ")"
	bounds := at + " < 1 OR " + at + " > len(" + arr.sql + ")"
	other := "error('Array index out of bounds')"
	if strings.HasPrefix(n.text, "SAFE") {
		other = "NULL"
	}
	return combine(arr.typ.elem, "CASE WHEN "+bounds+" THEN "+other+" ELSE "+arr.sql+"["+at+"] END", vals...), nil
}

func (a *analyzer) castExpr(n *node, sc *scope) (val, error) {
	v, err := a.expr(n.kids[0], sc)
	if err != nil {
		return v, err
	}
	if v.typ.kind == untyped {
		return combine(n.typ, "CAST(NULL AS "+n.typ.engine()+")", v), nil
	}
	if !castable(v.typ, n.typ) {
		return v, queryError(n.pos, "Invalid cast from %s to %s", v.typ, n.typ)
	}
	if v.literal && v.typ.kind == "STRING" && !n.safe && n.typ.kind != "BYTES" {
		if _, err := parseText(n.typ.kind, v.text); err != nil && v.text != "" {
			return v, queryError(n.pos, "Could not cast literal %q to type %s", v.text, n.typ)
		}
	}
	return combine(n.typ, castSQL(v.sql, v.typ, n.typ, n.safe), v), nil
}
