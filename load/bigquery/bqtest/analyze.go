package bqtest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// analyzer gives the names and types of a statement their meaning and writes it
// in DuckDB's SQL. It refuses what GoogleSQL refuses; DuckDB sees only what the
// analyzer wrote.
type analyzer struct {
	s     *Server
	run   *session
	scans []*scan
	ctes  []cteEntry
	names int            // of relations given out
	args  map[string]val // of the table function whose body is analyzed, by lower case
	views []tableRef     // whose bodies are being analyzed
}

type cteEntry struct {
	name string
	sql  string // its name in DuckDB
	cols []relCol
}

// colRef is a stored column that a scan reads.
type colRef struct {
	scan *scan
	name string
}

// scan is one mention of a table in a statement.
type scan struct {
	t     *table
	used  map[string]bool
	preds []pred // that rows meet, of the partition column
	whole bool   // reads all columns: DML on it
}

// val is a translated expression.
type val struct {
	sql      string
	typ      *typ
	literal  bool // a literal or parameter, which coerces to more
	constant bool // needs no row
	agg      bool // has an aggregate
	win      bool // has a window function
	text     string
	deps     []colRef
	base     *colRef // the stored column that it is
	nonDet   bool
}

// relCol is a column of a relation.
type relCol struct {
	name string
	val  val
}

// relation is something in FROM.
type relation struct {
	alias string
	cols  []relCol
	row   *val // of UNNEST: the element itself
	table *table
}

// scope is what names can mean at a place.
type scope struct {
	parent  *scope
	rels    []*relation
	merged  []relCol       // of USING
	aliases map[string]val // of the SELECT list, by lower case; nil where they are not visible
	windows map[string]*window
	noAgg   string // the clause that allows no aggregates
}

func (a *analyzer) rename(prefix string) string {
	a.names++
	return prefix + strconv.Itoa(a.names)
}

// mark notes that stored columns are read.
func mark(deps []colRef) {
	for _, d := range deps {
		d.scan.used[d.name] = true
	}
}

// resolve finds what a path of names means.
func (a *analyzer) resolve(n *node, sc *scope) (val, error) {
	if sc != nil && sc.aliases != nil && len(n.path) == 1 {
		if v, ok := sc.aliases[strings.ToLower(n.path[0])]; ok {
			if v.sql == "" {
				return val{}, queryError(n.pos, "Column name %s is ambiguous", n.path[0])
			}
			return v, nil
		}
	}
	for s := sc; s != nil; s = s.parent {
		v, rest, err := s.lookup(n)
		if err != nil {
			return val{}, err
		}
		if v != nil && s != sc && s.noAgg == "MERGE" {
			// "Correlated subqueries within a when_clause, search_condition,
			// merge_update_clause or merge_insert_clause are not supported" ("Transform
			// data with data manipulation language", "Limitations").
			return val{}, queryError(n.pos, "Correlated subqueries are not supported in MERGE: %s", strings.Join(n.path, "."))
		}
		if v != nil {
			return a.fields(n, *v, rest)
		}
	}
	key := strings.ToLower(n.path[0])
	if v, ok := a.args[key]; ok {
		return a.fields(n, v, n.path[1:])
	}
	if v, ok := a.run.vars[key]; ok {
		return a.fields(n, val{sql: literalSQL(v.typ, v.value), typ: v.typ, constant: true}, n.path[1:])
	}
	return val{}, queryError(n.pos, "Unrecognized name: %s", strings.Join(n.path, "."))
}

// lookup finds a column, a relation or a column of a relation in one scope.
func (sc *scope) lookup(n *node) (*val, []string, error) {
	var found []val
	for _, c := range sc.merged {
		if strings.EqualFold(c.name, n.path[0]) {
			return &c.val, n.path[1:], nil
		}
	}
	for _, r := range sc.rels {
		for _, c := range r.cols {
			if strings.EqualFold(c.name, n.path[0]) {
				found = append(found, c.val)
			}
		}
	}
	if len(found) > 1 {
		return nil, nil, queryError(n.pos, "Column name %s is ambiguous", n.path[0])
	}
	if len(found) == 1 {
		return &found[0], n.path[1:], nil
	}
	for _, r := range sc.rels {
		if !strings.EqualFold(r.alias, n.path[0]) {
			continue
		}
		if len(n.path) == 1 {
			v := r.whole()
			return &v, nil, nil
		}
		v, err := r.column(n)
		return v, n.path[2:], err
	}
	return nil, nil, nil
}

// column finds a column of a relation, path[1].
func (r *relation) column(n *node) (*val, error) {
	var found *val
	for i := range r.cols {
		if strings.EqualFold(r.cols[i].name, n.path[1]) {
			if found != nil {
				return nil, queryError(n.pos, "Column name %s is ambiguous", n.path[1])
			}
			found = &r.cols[i].val
		}
	}
	if found == nil {
		return nil, queryError(n.pos, "Name %s not found inside %s", n.path[1], r.alias)
	}
	return found, nil
}

// whole is the row of a relation as a STRUCT.
func (r *relation) whole() val {
	if r.row != nil {
		return *r.row
	}
	v := val{typ: ty("STRUCT")}
	parts := make([]string, len(r.cols))
	for i, c := range r.cols {
		parts[i] = fieldName(i) + " := " + c.val.sql
		v.typ.fields = append(v.typ.fields, field{c.name, c.val.typ})
		v.deps = append(v.deps, c.val.deps...)
	}
	v.sql = "struct_pack(" + strings.Join(parts, ", ") + ")"
	return v
}

// fields takes fields of a STRUCT, one after the other.
func (a *analyzer) fields(n *node, v val, path []string) (val, error) {
	for _, name := range path {
		if v.typ.kind != "STRUCT" {
			if v.typ.kind == "JSON" {
				return val{}, queryError(n.pos, "stand-in: field access on JSON is not known")
			}
			return val{}, queryError(n.pos, "Cannot access field %s on a value with type %s", name, v.typ)
		}
		at := slices.IndexFunc(v.typ.fields, func(f field) bool { return strings.EqualFold(f.name, name) })
		if at < 0 {
			return val{}, queryError(n.pos, "Field name %s does not exist in %s", name, v.typ)
		}
		v.sql, v.typ, v.base = "struct_extract("+v.sql+", '"+fieldName(at)+"')", v.typ.fields[at].typ, nil
	}
	return v, nil
}

// combine makes a value of others: what holds for one of them holds for it.
func combine(t *typ, sql string, of ...val) val {
	v := val{sql: sql, typ: t, constant: true}
	for _, o := range of {
		v.constant = v.constant && o.constant
		v.agg = v.agg || o.agg
		v.win = v.win || o.win
		v.nonDet = v.nonDet || o.nonDet
		v.deps = append(v.deps, o.deps...)
	}
	return v
}

// cast gives v as to, for a coercion that is allowed.
func (v val) cast(to *typ) val {
	if v.typ.same(to) {
		return v
	}
	out := v
	out.typ, out.base = to, nil
	if v.typ.kind == "STRING" { // a literal
		out.sql = castSQL(v.sql, v.typ, to, false)
		return out
	}
	out.sql = "CAST(" + v.sql + " AS " + to.engine() + ")"
	return out
}

// coerce gives v as to, or an error that begins with what.
func coerce(p pos, v val, to *typ, what string) (val, error) {
	if !v.typ.coerces(to, v.literal) {
		return val{}, queryError(p, "%s has type %s which cannot be coerced to %s", what, v.typ, to)
	}
	if v.literal && v.typ.kind == "STRING" && to.kind != "STRING" {
		if _, err := parseText(to.kind, v.text); err != nil {
			return val{}, queryError(p, "Could not cast literal %q to type %s", v.text, to)
		}
	}
	return v.cast(to), nil
}

// supertype finds the type that all of some values coerce to ("Conversion
// rules", "Supertypes").
func supertype(vals ...val) *typ {
	var best *typ
	for _, v := range vals {
		if v.typ.kind == untyped {
			continue
		}
		if best == nil {
			best = v.typ
			continue
		}
		if v.typ.coerces(best, v.literal) {
			continue
		}
		best = v.typ
	}
	if best == nil {
		return ty("INT64") // what an untyped NULL is
	}
	if best.kind == "STRUCT" {
		return superStruct(best, vals)
	}
	for _, candidate := range []*typ{best, ty("FLOAT64")} {
		if !slices.ContainsFunc(vals, func(v val) bool { return !v.typ.coerces(candidate, v.literal) }) {
			return candidate
		}
	}
	return nil
}

// superStruct is the supertype of STRUCTs, field by field, with the names of
// the first that has any.
func superStruct(best *typ, vals []val) *typ {
	out := &typ{kind: "STRUCT"}
	for i := range best.fields {
		var of []val
		name := ""
		for _, v := range vals {
			if v.typ.kind == untyped {
				continue
			}
			if v.typ.kind != "STRUCT" || len(v.typ.fields) != len(best.fields) {
				return nil
			}
			of = append(of, val{typ: v.typ.fields[i].typ, literal: v.literal})
			if name == "" {
				name = v.typ.fields[i].name
			}
		}
		t := supertype(of...)
		if t == nil {
			return nil
		}
		out.fields = append(out.fields, field{name, t})
	}
	return out
}

// unify casts values to their supertype.
func unify(p pos, what string, vals ...val) ([]val, *typ, error) {
	t := supertype(vals...)
	if t == nil {
		return nil, nil, queryError(p, "No matching signature for %s for argument types: %s", what, typeList(vals))
	}
	out := make([]val, len(vals))
	for i, v := range vals {
		var err error
		if out[i], err = coerce(p, v, t, "Value"); err != nil {
			return nil, nil, err
		}
	}
	return out, t, nil
}

func typeList(vals []val) string {
	parts := make([]string, len(vals))
	for i, v := range vals {
		parts[i] = v.typ.String()
	}
	return strings.Join(parts, ", ")
}

// constant evaluates an expression that needs no row.
func (a *analyzer) constant(v val) (any, error) {
	var out any
	row := a.run.conn.QueryRowContext(a.run.ctx, "SELECT "+v.sql) //nolint:gosec // written by the analyzer
	if err := row.Scan(&out); err != nil {
		return nil, asQuery(fmt.Errorf("evaluate constant: %w", err))
	}
	return plainValue(out), nil
}
