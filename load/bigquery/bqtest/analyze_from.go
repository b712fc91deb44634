package bqtest

import (
	"slices"
	"strings"
)

// from translates a table expression and adds its relations to sc.
func (a *analyzer) from(f *fromNode, sc *scope) (string, error) {
	if f.join != "" {
		return a.join(f, sc)
	}
	var r *relation
	var sql string
	var err error
	switch {
	case f.unnest != nil:
		sql, r, err = a.unnest(f, sc)
	case f.query != nil:
		var sub *analyzed
		if sub, err = a.query(f.query, sc.parent); err == nil {
			sql, r = a.derived("("+sub.sql+")", sub.cols)
		}
	case f.isCall:
		sql, r, err = a.tableFunction(f, sc)
	default:
		sql, r, err = a.tableNamed(f)
	}
	if err != nil {
		return "", err
	}
	if f.alias != "" {
		r.alias = f.alias
	} else if len(f.path) > 0 {
		r.alias = f.path[len(f.path)-1]
	}
	if r.alias != "" && slices.ContainsFunc(sc.rels, func(o *relation) bool { return strings.EqualFold(o.alias, r.alias) }) {
		return "", queryError(f.pos, "Duplicate table alias %s in the same FROM clause", r.alias)
	}
	sc.rels = append(sc.rels, r)
	return sql, nil
}

// derived is a relation of a subquery.
func (a *analyzer) derived(sql string, cols []relCol) (string, *relation) {
	name := a.rename("r")
	r := &relation{cols: slices.Clone(cols)}
	for i := range r.cols {
		r.cols[i].val.sql = name + "." + r.cols[i].val.sql
	}
	return sql + " AS " + name, r
}

func (a *analyzer) join(f *fromNode, sc *scope) (string, error) {
	left, err := a.from(f.left, sc)
	if err != nil {
		return "", err
	}
	n := len(sc.rels)
	right, err := a.from(f.right, sc)
	if err != nil {
		return "", err
	}
	if f.join == "CROSS" {
		return left + " CROSS JOIN " + right, nil
	}
	if f.using != nil {
		on, err := a.using(f, sc, n)
		return left + " " + f.join + " JOIN " + right + " ON " + on, err
	}
	on, err := a.condition(f.on, sc, "ON")
	if err != nil {
		return "", err
	}
	if on.agg || on.win {
		return "", queryError(f.on.pos, "Aggregate and analytic functions not allowed in JOIN ON clause")
	}
	switch f.join {
	case "INNER":
		a.prune(f.on, sc, sc.rels)
	case "LEFT":
		a.prune(f.on, sc, sc.rels[n:])
	case "RIGHT":
		a.prune(f.on, sc, sc.rels[:n])
	}
	return left + " " + f.join + " JOIN " + right + " ON " + on.sql, nil
}

// using joins by equal columns, which become one.
func (a *analyzer) using(f *fromNode, sc *scope, n int) (string, error) {
	var on []string
	for _, name := range f.using {
		at := &node{pos: f.pos, path: []string{name}}
		l, _, err := (&scope{rels: sc.rels[:n], merged: sc.merged}).lookup(at)
		if err != nil {
			return "", err
		}
		r, _, err := (&scope{rels: sc.rels[n:]}).lookup(at)
		if err != nil {
			return "", err
		}
		if l == nil || r == nil {
			return "", queryError(f.pos, "Column %s in USING clause not found on both sides of join", name)
		}
		eq, err := compare(f.pos, "=", *l, *r)
		if err != nil {
			return "", err
		}
		mark(eq.deps)
		on = append(on, eq.sql)
		v := *l
		switch f.join {
		case "RIGHT":
			v = *r
		case "FULL":
			v = combine(l.typ, "coalesce("+l.sql+", "+r.sql+")", *l, *r)
		}
		sc.merged = slices.DeleteFunc(sc.merged, func(c relCol) bool { return strings.EqualFold(c.name, name) })
		sc.merged = append(sc.merged, relCol{name, v})
	}
	return strings.Join(on, " AND "), nil
}

// unnest makes a relation of an array, which may use what stands left of it.
func (a *analyzer) unnest(f *fromNode, sc *scope) (string, *relation, error) {
	v, err := a.expr(f.unnest, sc)
	if err != nil {
		return "", nil, err
	}
	if v.typ.kind != "ARRAY" {
		return "", nil, queryError(f.pos, "Values referenced in UNNEST must be arrays. UNNEST contains expression of type %s", v.typ)
	}
	mark(v.deps)
	name := a.rename("r")
	elem := val{sql: name + ".c1", typ: v.typ.elem}
	r := &relation{row: &elem}
	if elem.typ.kind == "STRUCT" {
		for i, fl := range elem.typ.fields {
			r.cols = append(r.cols, relCol{fl.name, val{sql: "struct_extract(" + elem.sql + ", '" + fieldName(i) + "')", typ: fl.typ}})
		}
	} else {
		r.cols = []relCol{{f.alias, elem}}
	}
	sql := "(SELECT unnest(" + v.sql + ") AS c1, generate_subscripts(" + v.sql + ", 1) - 1 AS c2) AS " + name
	if f.offsetAlias != "" {
		r.cols = append(r.cols, relCol{f.offsetAlias, val{sql: name + ".c2", typ: ty("INT64")}})
	}
	return sql, r, nil
}

// tableNamed is a WITH query, a table, a view or a part of INFORMATION_SCHEMA.
func (a *analyzer) tableNamed(f *fromNode) (string, *relation, error) {
	if len(f.path) == 1 {
		for i := len(a.ctes) - 1; i >= 0; i-- {
			if strings.EqualFold(a.ctes[i].name, f.path[0]) {
				sql, r := a.derived(a.ctes[i].sql, a.ctes[i].cols)
				return sql, r, nil
			}
		}
	}
	if sub, err := a.informationSchema(f); sub != nil || err != nil {
		if err != nil {
			return "", nil, err
		}
		sql, r := a.derived("("+sub.sql+")", sub.cols)
		return sql, r, nil
	}
	t, err := a.run.table(f.path, f.pos)
	if err != nil {
		return "", nil, err
	}
	if t.view != nil {
		if t.view.params != nil {
			return "", nil, queryError(f.pos, "Table-valued function %s must be called with an argument list", t.ref)
		}
		return a.viewBody(f, t, nil)
	}
	sql, r := a.scan(t)
	return sql, r, nil
}

// scan is a mention of a stored table.
func (a *analyzer) scan(t *table) (string, *relation) {
	sc := &scan{t: t, used: map[string]bool{}}
	a.scans = append(a.scans, sc)
	name := a.rename("r")
	r := &relation{table: t}
	for _, c := range t.columns {
		ref := colRef{sc, c.name}
		r.cols = append(r.cols, relCol{c.name, val{sql: name + "." + quoteName(c.name), typ: ty(c.kind), deps: []colRef{ref}, base: &ref}})
	}
	return t.phys + " AS " + name, r
}

// viewBody puts the query of a view, or of a table function, in its place.
func (a *analyzer) viewBody(f *fromNode, t *table, args map[string]val) (string, *relation, error) {
	if slices.Contains(a.views, t.ref) {
		return "", nil, queryError(f.pos, "View %s refers to itself", t.ref)
	}
	a.views = append(a.views, t.ref)
	saved, ctes := a.args, a.ctes
	a.args, a.ctes = args, nil
	sub, err := a.query(t.view.query, nil)
	a.args, a.ctes = saved, ctes
	a.views = a.views[:len(a.views)-1]
	if err != nil {
		return "", nil, queryError(f.pos, "Error in view %s: %v", t.ref, err)
	}
	for i := range sub.cols {
		sub.cols[i].name = t.columns[i].name
	}
	sql, r := a.derived("("+sub.sql+")", sub.cols)
	return sql, r, nil
}

func (a *analyzer) tableFunction(f *fromNode, sc *scope) (string, *relation, error) {
	t, err := a.run.table(f.path, f.pos)
	if err != nil {
		return "", nil, err
	}
	if t.view == nil || t.view.params == nil {
		return "", nil, queryError(f.pos, "Table-valued function not found: %s", strings.Join(f.path, "."))
	}
	if len(f.args) != len(t.view.params) {
		return "", nil, queryError(f.pos, "No matching signature for table-valued function %s: expected %d arguments, got %d", strings.Join(f.path, "."), len(t.view.params), len(f.args))
	}
	args := map[string]val{}
	for i, p := range t.view.params {
		v, err := a.expr(f.args[i], sc.parent)
		if err != nil {
			return "", nil, err
		}
		if v, err = coerce(f.args[i].pos, v, p.typ, "Argument"); err != nil {
			return "", nil, err
		}
		v.literal = false
		args[strings.ToLower(p.name)] = v
	}
	return a.viewBody(f, t, args)
}
