package bqtest

import (
	"slices"
	"strings"
)

// callExpr translates a function call.
func (a *analyzer) callExpr(n *node, sc *scope) (val, error) {
	if f, ok := aggregates[n.text]; ok {
		return a.aggregate(n, f, sc)
	}
	if slices.Contains(rankings, n.text) {
		return a.ranking(n, sc)
	}
	if c := n.call; c.over != nil || c.distinct || c.order != nil || c.limit != nil || c.having != "" || c.ignoreNulls {
		return val{}, queryError(n.pos, "Function %s is no aggregate or analytic function", n.text)
	}
	if v, ok, err := a.timeCall(n, sc); ok || err != nil {
		return v, err
	}
	if v, ok, err := a.specialCall(n, sc); ok || err != nil {
		return v, err
	}
	vals, err := a.exprs(n.kids, sc)
	if err != nil {
		return val{}, err
	}
	v, err := simpleCall(n, vals)
	if n.safe && err == nil {
		v.sql = "TRY(" + v.sql + ")"
	}
	return v, err
}

// specialCall translates functions whose types or laziness need more than a
// table.
func (a *analyzer) specialCall(n *node, sc *scope) (v val, ok bool, err error) {
	switch n.text {
	case "IF", "IFNULL", "COALESCE", "NULLIF", "LEAST", "GREATEST", "FORMAT", "TO_JSON_STRING", "TO_JSON", "IEEE_DIVIDE", "STRING", "FARM_FINGERPRINT":
	default:
		return val{}, false, nil
	}
	vals, err := a.exprs(n.kids, sc)
	if err != nil {
		return val{}, true, err
	}
	switch n.text {
	case "IF":
		if len(vals) != 3 || vals[0].typ.kind != "BOOL" && vals[0].typ.kind != untyped {
			return v, true, queryError(n.pos, "No matching signature for function IF for argument types: %s", typeList(vals))
		}
		v, err = choose(n, "function IF", vals[:1], vals[1:])
	case "IFNULL", "COALESCE":
		if len(vals) == 0 || n.text == "IFNULL" && len(vals) != 2 {
			return v, true, wrongArguments(n)
		}
		v, err = sameTyped(n, vals, func(s []string) string { return "coalesce(" + strings.Join(s, ", ") + ")" })
	case "NULLIF":
		if len(vals) != 2 {
			return v, true, wrongArguments(n)
		}
		var eq val
		if eq, err = compare(n.pos, "=", vals[0], vals[1]); err == nil {
			v, err = sameTyped(n, vals, func(s []string) string { return "(CASE WHEN " + eq.sql + " THEN NULL ELSE " + s[0] + " END)" })
		}
	case "LEAST", "GREATEST":
		v, err = extreme(n, vals)
	case "FORMAT":
		v, err = format(n, vals)
	case "TO_JSON_STRING", "TO_JSON":
		if len(vals) != 1 {
			return v, true, wrongArguments(n)
		}
		kind := map[string]string{"TO_JSON_STRING": "STRING", "TO_JSON": "JSON"}[n.text]
		v = combine(ty(kind), jsonText(vals[0].sql, vals[0].typ), vals...)
	case "STRING":
		v, err = stringCall(n, vals)
	case "IEEE_DIVIDE":
		v, err = ieeeDivide(n, vals)
	default:
		err = queryError(n.pos, "stand-in: function %s is not known", n.text)
	}
	return v, true, err
}

func ieeeDivide(n *node, vals []val) (val, error) {
	return simpleOf(n, overload{"FLOAT64,FLOAT64", "FLOAT64", "($1 / $2)"}, vals)
}

func simpleOf(n *node, o overload, vals []val) (val, error) {
	cast, generic, ok := o.match(n.pos, vals)
	if !ok {
		return val{}, queryError(n.pos, "No matching signature for function %s for argument types: %s", n.text, typeList(vals))
	}
	return o.apply(cast, generic), nil
}

// stringCall is STRING(timestamp[, zone]) and STRING(json).
func stringCall(n *node, vals []val) (val, error) {
	if len(vals) == 1 && vals[0].typ.kind == "JSON" {
		return combine(ty("STRING"), "bq_json_string("+vals[0].sql+")", vals...), nil
	}
	if len(vals) == 1 && (vals[0].typ.kind == "TIMESTAMP" || vals[0].typ.kind == "DATE") {
		return combine(ty("STRING"), castSQL(vals[0].sql, vals[0].typ, ty("STRING"), false), vals...), nil
	}
	return val{}, queryError(n.pos, "No matching signature for function STRING for argument types: %s", typeList(vals))
}

func sameTyped(n *node, vals []val, write func([]string) string) (val, error) {
	cast, t, err := unify(n.pos, "function "+n.text, vals...)
	if err != nil {
		return val{}, err
	}
	sqls := make([]string, len(cast))
	for i, c := range cast {
		sqls[i] = c.sql
	}
	return combine(t, write(sqls), vals...), nil
}

// extreme: LEAST and GREATEST are NULL where an argument is ("LEAST",
// Mathematical functions); the engine's ignore NULL. NaN wins.
func extreme(n *node, vals []val) (val, error) {
	if len(vals) == 0 {
		return val{}, wrongArguments(n)
	}
	v, err := sameTyped(n, vals, func(s []string) string {
		nulls := strings.Join(s, " IS NULL OR ") + " IS NULL"
		return "(CASE WHEN " + nulls + " THEN NULL ELSE " + strings.ToLower(n.text) + "(" + strings.Join(s, ", ") + ") END)"
	})
	if err == nil && !v.typ.orderable() {
		err = queryError(n.pos, "No matching signature for function %s for argument types: %s", n.text, typeList(vals))
	}
	if err == nil && v.typ.kind == "FLOAT64" && n.text == "LEAST" {
		parts := make([]string, len(vals))
		for i, x := range vals {
			parts[i] = "isnan(" + x.cast(v.typ).sql + ")"
		}
		v.sql = "(CASE WHEN " + strings.Join(parts, " OR ") + " THEN CAST('nan' AS DOUBLE) ELSE " + v.sql + " END)"
	}
	return v, err
}

// format writes FORMAT of a literal format string by the engine's printf.
func format(n *node, vals []val) (val, error) {
	if len(vals) == 0 || vals[0].typ.kind != "STRING" || n.kids[0].kind != nString {
		return val{}, queryError(n.pos, "stand-in: FORMAT needs a literal format string")
	}
	text, next := n.kids[0].text, 1
	args := []string{}
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '%' {
			out.WriteByte(text[i])
			continue
		}
		from := i
		for i++; i < len(text) && strings.IndexByte("0123456789.", text[i]) >= 0; i++ {
		}
		if i == len(text) {
			return val{}, queryError(n.pos, "Invalid FORMAT string: %q", text)
		}
		if text[i] == '%' {
			out.WriteString("%%")
			continue
		}
		if next >= len(vals) {
			return val{}, queryError(n.pos, "Too few arguments to FORMAT for pattern %q", text)
		}
		verb, sql, err := formatArg(n, text[i], vals[next])
		if err != nil {
			return val{}, err
		}
		if next++; text[i] != 'd' && text[i] != 'f' && i > from+1 {
			return val{}, queryError(n.pos, "stand-in: width and precision of FORMAT %%%c are not known", text[i])
		}
		out.WriteString(text[from:i] + verb)
		args = append(args, ", "+sql)
	}
	if next != len(vals) {
		return val{}, queryError(n.pos, "Too many arguments to FORMAT for pattern %q", text)
	}
	return combine(ty("STRING"), "printf("+quoteText(out.String())+strings.Join(args, "")+")", vals...), nil
}

// formatArg writes an argument of FORMAT for the engine. Of the verbs there are d,
// s, f and t, whose text is the engine's; t of NULL is NULL as text, and any other
// NULL makes the whole text NULL ("Format elements", FORMAT).
func formatArg(n *node, verb byte, v val) (string, string, error) {
	switch kind := v.typ.kind; {
	case verb == 's' && kind == "STRING", verb == 'd' && kind == "INT64", verb == 'f' && kind == "FLOAT64":
		return string(verb), v.sql, nil
	case verb == 't' && kind != "ARRAY" && kind != "STRUCT" && kind != "BYTES" && kind != untyped:
		sql := v.sql
		if kind != "STRING" && kind != "JSON" {
			sql = castSQL(v.sql, v.typ, ty("STRING"), false)
		}
		return "s", "coalesce(" + sql + ", 'NULL')", nil
	case strings.IndexByte("dsft", verb) < 0:
		return "", "", queryError(n.pos, "stand-in: FORMAT %%%c is not known", verb)
	}
	return "", "", queryError(n.pos, "Invalid type for argument to FORMAT; Expected %%%c, Got %s", verb, v.typ)
}

// jsonText writes a value as JSON ("JSON encodings", JSON functions): INT64
// beyond 2^53 and NUMERIC of more digits, NaN and infinities as strings.
func jsonText(sql string, t *typ) string {
	null := "coalesce("
	switch t.kind {
	case "INT64":
		return null + "CASE WHEN abs(CAST(" + sql + " AS HUGEINT)) > 9007199254740992 THEN '\"' || " + sql + " || '\"' ELSE CAST(" + sql + " AS VARCHAR) END, 'null')"
	case "FLOAT64":
		return null + "bq_json_float(" + sql + "), 'null')"
	case "BOOL":
		return null + "CAST(" + sql + " AS VARCHAR), 'null')"
	case "NUMERIC":
		return null + "bq_print_numeric(" + sql + "), 'null')"
	case "JSON":
		return null + sql + ", 'null')"
	case "BYTES":
		return null + "'\"' || to_base64(" + sql + ") || '\"', 'null')"
	case "TIMESTAMP":
		return null + "bq_json_timestamp(" + sql + "), 'null')"
	case "DATE", "TIME":
		return null + "'\"' || CAST(" + sql + " AS VARCHAR) || '\"', 'null')"
	case "DATETIME":
		return null + "'\"' || replace(CAST(" + sql + " AS VARCHAR), ' ', 'T') || '\"', 'null')"
	case "ARRAY":
		return "('[' || array_to_string(list_transform(coalesce(" + sql + ", []), lambda x: " + jsonText("x", t.elem) + "), ',') || ']')"
	case "STRUCT":
		parts := make([]string, len(t.fields))
		for i, f := range t.fields {
			parts[i] = quoteText(jsonQuote(f.name)+":") + " || " + jsonText("struct_extract("+sql+", '"+fieldName(i)+"')", f.typ)
		}
		return "(CASE WHEN " + sql + " IS NULL THEN 'null' ELSE '{' || " + strings.Join(parts, " || ',' || ") + " || '}' END)"
	case untyped:
		return "'null'"
	default:
		return null + "bq_json_quote(" + sql + "), 'null')"
	}
}
