package bqtest

import (
	"slices"
	"strconv"
	"strings"
)

// selecting is a SELECT while it is translated.
type selecting struct {
	a       *analyzer
	s       *selectNode
	sc      *scope
	sql     string // from FROM on
	out     []relCol
	exprs   []*node // of the outputs, nil for a column of *
	grouped bool
}

// items translates the SELECT list.
func (t *selecting) items() error {
	for _, item := range t.s.items {
		if item.star {
			if err := t.star(item); err != nil {
				return err
			}
			continue
		}
		v, err := t.a.expr(item.expr, t.sc)
		if err != nil {
			return err
		}
		name := item.alias
		if name == "" && item.expr.kind == nName {
			name = item.expr.path[len(item.expr.path)-1]
		}
		if name == "" && item.expr.kind == nField {
			name = item.expr.text
		}
		t.out, t.exprs = append(t.out, relCol{name, v}), append(t.exprs, item.expr)
	}
	for _, c := range t.out {
		if c.val.agg {
			t.grouped = true
		}
	}
	return nil
}

func (t *selecting) star(item selectItem) error {
	rels := t.sc.rels
	merged := t.sc.merged
	if item.of != nil {
		merged = nil
		i := slices.IndexFunc(rels, func(r *relation) bool { return strings.EqualFold(r.alias, item.of.path[0]) })
		if i < 0 {
			return queryError(item.pos, "Unrecognized name: %s", item.of.path[0])
		}
		rels = rels[i : i+1]
	}
	if len(rels) == 0 {
		return queryError(item.pos, "SELECT * must have a FROM clause")
	}
	except := map[string]bool{}
	for _, e := range item.except {
		except[strings.ToLower(e)] = false
	}
	add := func(c relCol) error {
		key := strings.ToLower(c.name)
		if _, skip := except[key]; skip {
			except[key] = true
			return nil
		}
		for _, r := range item.replace {
			if strings.EqualFold(r.alias, c.name) {
				v, err := t.a.expr(r.expr, t.sc)
				if err != nil {
					return err
				}
				c.val = v
			}
		}
		t.out, t.exprs = append(t.out, c), append(t.exprs, nil)
		return nil
	}
	using := map[string]bool{}
	for _, c := range merged {
		using[strings.ToLower(c.name)] = true
		if err := add(c); err != nil {
			return err
		}
	}
	for _, r := range rels {
		for _, c := range r.cols {
			if using[strings.ToLower(c.name)] {
				continue
			}
			if err := add(c); err != nil {
				return err
			}
		}
	}
	for name, met := range except {
		if !met {
			return queryError(item.pos, "Column %s in SELECT * EXCEPT list does not exist", name)
		}
	}
	return nil
}

// aliases are the names of the SELECT list for the clauses that see them.
func (t *selecting) aliases() map[string]val {
	out := map[string]val{}
	for i, c := range t.out {
		if c.name == "" || t.exprs[i] == nil || t.exprs[i].kind == nName && strings.EqualFold(t.exprs[i].path[len(t.exprs[i].path)-1], c.name) {
			continue
		}
		key := strings.ToLower(c.name)
		if _, twice := out[key]; twice {
			out[key] = val{}
			continue
		}
		out[key] = c.val
	}
	return out
}

// group translates GROUP BY, HAVING and QUALIFY.
func (t *selecting) group() error {
	var keys []string
	add := func(v val, at pos) error {
		if v.agg || v.win {
			return queryError(at, "Aggregate and analytic functions are not allowed in GROUP BY")
		}
		if !v.typ.groupable() && v.typ.kind != untyped {
			return queryError(at, "Grouping by expressions of type %s is not allowed", v.typ.kind)
		}
		mark(v.deps)
		if !v.constant { // DuckDB takes a literal for a place in the list
			keys = append(keys, v.sql)
		}
		return nil
	}
	if t.s.groupAll {
		t.grouped = true
		for _, c := range t.out {
			if c.val.agg || c.val.win {
				continue
			}
			if err := add(c.val, t.s.pos); err != nil {
				return err
			}
		}
	}
	for _, g := range t.s.group {
		t.grouped = true
		v, err := t.groupKey(g)
		if err != nil {
			return err
		}
		if err := add(v, g.pos); err != nil {
			return err
		}
	}
	if len(keys) > 0 {
		t.sql += " GROUP BY " + strings.Join(keys, ", ")
	} else if len(t.s.group) > 0 {
		t.sql += " GROUP BY ()"
	}
	return t.filters()
}

func (t *selecting) groupKey(g *node) (val, error) {
	if g.kind == nInt {
		at, err := strconv.Atoi(g.text)
		if err != nil || at < 1 || at > len(t.out) {
			return val{}, queryError(g.pos, "GROUP BY column number item is out of range. Column numbers must be between 1 and %d", len(t.out))
		}
		return t.out[at-1].val, nil
	}
	if g.kind == nName && len(g.path) == 1 {
		stored, _, err := t.sc.lookup(g)
		if err != nil {
			return val{}, err
		}
		if v, ok := t.aliases()[strings.ToLower(g.path[0])]; ok {
			if stored != nil && stored.sql != v.sql {
				return val{}, queryError(g.pos, "stand-in: GROUP BY %s could be the alias or the column", g.path[0])
			}
			return v, nil
		}
	}
	return t.a.expr(g, t.sc)
}

// filters translates HAVING and QUALIFY, which see the names of the SELECT list.
func (t *selecting) filters() error {
	inner := *t.sc
	inner.aliases = t.aliases()
	if t.s.having != nil {
		v, err := t.a.condition(t.s.having, &inner, "HAVING")
		if err != nil {
			return err
		}
		if !t.grouped && !v.agg {
			return queryError(t.s.having.pos, "The HAVING clause requires GROUP BY or aggregation to be present")
		}
		t.grouped = true
		t.sql += " HAVING " + v.sql
	}
	if t.s.qualify == nil {
		return nil
	}
	v, err := t.a.condition(t.s.qualify, &inner, "QUALIFY")
	if err != nil {
		return err
	}
	if !v.win && !slices.ContainsFunc(t.out, func(c relCol) bool { return c.val.win }) {
		return queryError(t.s.qualify.pos, "The QUALIFY clause requires analytic function to be present")
	}
	t.sql += " QUALIFY " + v.sql
	return nil
}

// finish writes the SELECT. A column stays the stored column it is, for pruning
// by an outer condition, where that condition could as well stand here.
func (t *selecting) finish(order []orderItem, plain bool) (*analyzed, error) {
	movable := plain && !t.grouped && !t.s.distinct && t.s.qualify == nil &&
		!slices.ContainsFunc(t.out, func(c relCol) bool { return c.val.win })
	inner := *t.sc
	inner.aliases = t.aliases()
	var orderSQL string
	var err error
	if t.s.distinct {
		cols := slices.Clone(t.out)
		for i := range cols {
			if !cols[i].val.typ.groupable() {
				return nil, queryError(t.s.pos, "Column %s of type %s cannot be used in SELECT DISTINCT", cols[i].name, cols[i].val.typ)
			}
			mark(cols[i].val.deps)
			cols[i].val = plainCol(cols[i].val, "c"+strconv.Itoa(i+1))
		}
		orderSQL, err = t.a.orderBy(order, &scope{rels: []*relation{{cols: cols}}}, t.out)
	} else {
		orderSQL, err = t.a.orderBy(order, &inner, t.out)
	}
	if err != nil {
		return nil, err
	}
	out := &analyzed{}
	list := make([]string, len(t.out))
	for i, c := range t.out {
		name := "c" + strconv.Itoa(i+1)
		list[i] = c.val.sql + " AS " + name
		v := val{sql: name, typ: c.val.typ, deps: c.val.deps, literal: c.val.literal && c.val.typ.kind == untyped}
		if movable {
			v.base = c.val.base
		}
		out.cols = append(out.cols, relCol{c.name, v})
	}
	word := "SELECT "
	if t.s.distinct {
		word = "SELECT DISTINCT "
	}
	out.sql = word + strings.Join(list, ", ") + t.sql + orderSQL
	if t.s.asStruct {
		r := &relation{cols: out.cols}
		row := r.whole()
		out.sql = "SELECT " + row.sql + " AS c1 FROM (" + out.sql + ")"
		out.cols = []relCol{{"", val{sql: "c1", typ: row.typ, deps: row.deps}}}
	}
	return out, nil
}
