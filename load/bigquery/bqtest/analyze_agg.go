package bqtest

import (
	"slices"
	"strings"
)

// aggregate describes an aggregate function: args as in an overload, result a
// type or "T" for the argument's.
type aggregate struct {
	args   string // "T", "BOOL", "INT64", "number", "T,any"
	result string
	sql    string
}

var aggregates = map[string]aggregate{
	"COUNT": {"any", "INT64", "count"}, "COUNTIF": {"BOOL", "INT64", "count"},
	"SUM": {"number", "T", "sum"}, "AVG": {"number", "FLOAT64", "avg"},
	"MIN": {"order", "T", "min"}, "MAX": {"order", "T", "max"},
	"ANY_VALUE": {"any", "T", "any_value"},
	"BIT_XOR":   {"INT64", "INT64", "bit_xor"}, "BIT_AND": {"INT64", "INT64", "bit_and"}, "BIT_OR": {"INT64", "INT64", "bit_or"},
	"LOGICAL_AND": {"BOOL", "BOOL", "bool_and"}, "LOGICAL_OR": {"BOOL", "BOOL", "bool_or"},
	"STRING_AGG": {"STRING", "STRING", "string_agg"}, "ARRAY_AGG": {"any", "ARRAY<T>", "list"},
	"APPROX_COUNT_DISTINCT": {"any", "INT64", "approx_count_distinct"},
	"MAX_BY":                {"any,order", "T", "arg_max"}, "MIN_BY": {"any,order", "T", "arg_min"},
	"STDDEV": {"number", "FLOAT64", "stddev_samp"}, "VARIANCE": {"number", "FLOAT64", "var_samp"},
}

// rankings are the functions that exist only with OVER.
var rankings = []string{"ROW_NUMBER", "RANK", "DENSE_RANK", "PERCENT_RANK", "CUME_DIST", "NTILE", "LAG", "LEAD", "FIRST_VALUE", "LAST_VALUE", "NTH_VALUE"}

func (a *analyzer) aggregate(n *node, f aggregate, sc *scope) (val, error) {
	if sc == nil || sc.noAgg != "" && n.call.over == nil {
		return val{}, queryError(n.pos, "Aggregate function %s not allowed here", n.text)
	}
	if n.text == "COUNT" && len(n.kids) == 1 && n.kids[0].kind == nStar {
		return a.finishAggregate(n, f, sc, nil, "count(*)", ty("INT64"))
	}
	vals, err := a.exprs(n.kids, sc)
	if err != nil {
		return val{}, err
	}
	if err := checkAggregate(n, f, vals); err != nil {
		return val{}, err
	}
	t := aggregateType(f, vals[0].typ)
	args := vals[0].sql
	if vals[0].typ.kind == untyped {
		args = "CAST(NULL AS BIGINT)"
	}
	if n.text == "COUNTIF" { // of no rows, and of NULLs alone, 0 ("COUNTIF"), where count_if gives NULL
		args = "CASE WHEN " + args + " THEN 1 END"
	}
	for _, v := range vals[1:] {
		args += ", " + v.sql
	}
	if n.text == "STRING_AGG" && len(vals) == 1 {
		args += ", ','"
	}
	if n.call.distinct {
		if !vals[0].typ.groupable() {
			return val{}, queryError(n.pos, "Aggregate functions with DISTINCT cannot be used with arguments of type %s", vals[0].typ)
		}
		args = "DISTINCT " + args
	}
	inner := ""
	if len(n.call.order) > 0 {
		if inner, err = a.orderBy(n.call.order, sc, nil); err != nil {
			return val{}, err
		}
	}
	sql := f.sql + "(" + args + inner + ")"
	switch {
	case n.call.having != "":
		sql, err = a.havingExtreme(n, sc, vals[0])
	case n.text == "ARRAY_AGG" && n.call.ignoreNulls:
		sql += " FILTER (WHERE " + vals[0].sql + " IS NOT NULL)"
	case n.text == "ARRAY_AGG": // an ARRAY with NULL cannot be a result ("ARRAY_AGG")
		sql = "bq_no_nulls(" + sql + ")"
	}
	if err != nil {
		return val{}, err
	}
	return a.finishAggregate(n, f, sc, vals, sql, t)
}

func checkAggregate(n *node, f aggregate, vals []val) error {
	want := strings.Split(f.args, ",")
	bad := queryError(n.pos, "No matching signature for aggregate function %s for argument types: %s", n.text, typeList(vals))
	separated := n.text == "STRING_AGG" && len(vals) == 2 && vals[1].typ.kind == "STRING"
	if len(vals) != len(want) && !separated {
		return bad
	}
	for i, w := range want {
		t := vals[i].typ
		switch {
		case vals[i].agg && n.call.over == nil, vals[i].win:
			return queryError(n.pos, "Aggregations of aggregations are not allowed")
		case w == "any", t.kind == untyped:
		case w == "number":
			if !t.numeric() {
				return bad
			}
		case w == "order":
			if !t.orderable() {
				return bad
			}
		case t.kind != w:
			return bad
		}
	}
	return nil
}

func aggregateType(f aggregate, arg *typ) *typ {
	if arg.kind == untyped {
		arg = ty("INT64")
	}
	switch f.result {
	case "T":
		return arg
	case "ARRAY<T>":
		return &typ{kind: "ARRAY", elem: arg}
	default:
		return ty(f.result)
	}
}

// havingExtreme is ANY_VALUE(x HAVING MAX y).
func (a *analyzer) havingExtreme(n *node, sc *scope, x val) (string, error) {
	if n.text != "ANY_VALUE" {
		return "", queryError(n.pos, "stand-in: HAVING %s is known only for ANY_VALUE", n.call.having)
	}
	by, err := a.expr(n.call.havingArg, sc)
	if err != nil {
		return "", err
	}
	mark(by.deps)
	f := map[string]string{"MAX": "arg_max_null", "MIN": "arg_min_null"}[n.call.having]
	return f + "(" + x.sql + ", " + by.sql + ")", nil
}

// finishAggregate adds OVER and LIMIT and gives the result its type.
func (a *analyzer) finishAggregate(n *node, f aggregate, sc *scope, vals []val, sql string, t *typ) (val, error) {
	v := combine(t, "", vals...)
	v.constant, v.literal = false, false
	if n.call.over != nil {
		over, err := a.over(n.call.over, sc, true)
		if err != nil {
			return val{}, err
		}
		sql += over.sql
		v.deps = append(v.deps, over.deps...)
		v.win = true
	} else {
		v.agg = true
	}
	if n.call.limit != nil {
		if n.text != "ARRAY_AGG" || n.call.limit.kind != nInt {
			return val{}, queryError(n.pos, "stand-in: LIMIT is known only for ARRAY_AGG")
		}
		sql = "list_slice(" + sql + ", 1, " + n.call.limit.text + ")"
	}
	switch {
	case n.text == "SUM" && t.kind == "INT64": // the engine sums INT64 in 128 bits; beyond 64 is an error
		sql = "CAST(" + sql + " AS BIGINT)"
	case t.kind == "NUMERIC":
		sql = "CAST(" + sql + " AS DECIMAL(38,9))"
	}
	v.sql = sql
	return v, nil
}

func (a *analyzer) ranking(n *node, sc *scope) (val, error) {
	if n.call.over == nil {
		return val{}, queryError(n.pos, "Analytic function %s cannot be called without an OVER clause", n.text)
	}
	if sc == nil || sc.noAgg != "" {
		return val{}, queryError(n.pos, "Analytic function not allowed in %s clause", map[bool]string{true: "this", false: "WHERE"}[sc == nil])
	}
	vals, err := a.exprs(n.kids, sc)
	if err != nil {
		return val{}, err
	}
	t := ty("INT64")
	args := make([]string, len(vals))
	for i, v := range vals {
		args[i] = v.sql
	}
	want := 0
	switch n.text {
	case "PERCENT_RANK", "CUME_DIST":
		t = ty("FLOAT64")
	case "LAG", "LEAD", "FIRST_VALUE", "LAST_VALUE", "NTH_VALUE":
		want = 1
		if len(vals) > 0 {
			t = vals[0].typ
		}
	case "NTILE":
		want = 1
	}
	if len(vals) < want || want == 0 && len(vals) > 0 || len(vals) > 3 {
		return val{}, wrongArguments(n)
	}
	if n.call.ignoreNulls {
		args[len(args)-1] += " IGNORE NULLS"
	}
	framed := slices.Contains([]string{"FIRST_VALUE", "LAST_VALUE", "NTH_VALUE"}, n.text)
	over, err := a.over(n.call.over, sc, framed)
	if err != nil {
		return val{}, err
	}
	if !framed && n.text != "ROW_NUMBER" && len(n.call.over.order) == 0 && n.call.over.name == "" {
		return val{}, queryError(n.pos, "Window ORDER BY is required for analytic function %s", strings.ToLower(n.text))
	}
	v := combine(t, strings.ToLower(n.text)+"("+strings.Join(args, ", ")+")"+over.sql, vals...)
	v.deps = append(v.deps, over.deps...)
	v.constant, v.win, v.agg = false, true, v.agg || over.agg
	return v, nil
}

// over writes a window.
func (a *analyzer) over(w *window, sc *scope, framed bool) (val, error) {
	if w.name != "" {
		named := sc.windows[strings.ToLower(w.name)]
		if named == nil {
			return val{}, queryError(pos{1, 1}, "Unrecognized window alias %s", w.name)
		}
		w = named
	}
	var v val
	var parts []string
	if len(w.partition) > 0 {
		keys, err := a.exprs(w.partition, sc)
		if err != nil {
			return v, err
		}
		list := make([]string, len(keys))
		for i, k := range keys {
			if !k.typ.groupable() || k.typ.kind == "FLOAT64" {
				return v, queryError(w.partition[i].pos, "Partitioning by expressions of type %s is not allowed", k.typ)
			}
			list[i] = k.sql
			v.deps, v.agg = append(v.deps, k.deps...), v.agg || k.agg
		}
		parts = append(parts, "PARTITION BY "+strings.Join(list, ", "))
	}
	var order []string
	for _, o := range w.order {
		k, err := a.expr(o.expr, sc)
		if err != nil {
			return v, err
		}
		if !k.typ.orderable() {
			return v, queryError(o.expr.pos, "ORDER BY does not support expressions of type %s", k.typ)
		}
		order = append(order, orderItemSQL(k, o))
		v.deps, v.agg = append(v.deps, k.deps...), v.agg || k.agg
	}
	if len(order) > 0 {
		parts = append(parts, "ORDER BY "+strings.Join(order, ", "))
	}
	if w.frame != "" {
		if !framed {
			return v, queryError(pos{1, 1}, "Window framing clause is not allowed for this analytic function")
		}
		parts = append(parts, w.frame)
	}
	v.sql = " OVER (" + strings.Join(parts, " ") + ")"
	return v, nil
}
