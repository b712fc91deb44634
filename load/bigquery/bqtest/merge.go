package bqtest

import (
	"slices"
	"strings"
)

// merging is a MERGE while it is translated.
type merging struct {
	a      *analyzer
	st     *mergeStmt
	t      *table
	rel    *relation // the target
	source *relation
	scan   *scan // of the target
	both   *scope
	onlyT  *scope
	onlyS  *scope
	acts   []string // conditions, in order
	what   []string
	values [][]string // by clause, then column
}

func (r *session) merge(st *mergeStmt) error {
	t, err := r.target(st.path, st.pos)
	if err != nil {
		return err
	}
	a := &analyzer{s: r.s, run: r}
	m := &merging{a: a, st: st, t: t}
	sql, err := m.translate()
	if err != nil {
		return err
	}
	if err := r.settleScans(a.scans); err != nil {
		return err
	}
	o := r.outcome(st.stmtBase, "MERGE")
	o.target = &t.ref
	// Only INSERT clauses: as a query ("DML statements", BigQuery pricing).
	inserts := !slices.ContainsFunc(m.what, func(w string) bool { return w != "INSERT" })
	if inserts {
		err = r.charge(o, a.scans)
	} else {
		err = r.chargeChange(o, a.scans, m.scan)
	}
	if err != nil || r.dryRun {
		return err
	}
	c := changeSet{r: r, t: t, sql: sql, actions: m.what}
	return r.write(t, !inserts, func() error { return c.apply(o) })
}

const rowPresent = `"row present"`

func (m *merging) translate() (string, error) {
	target, rel, scanned := m.a.mutable(m.t, m.st.alias)
	m.rel, m.scan = rel, scanned
	m.onlyS = &scope{noAgg: "MERGE"}
	source, err := m.a.from(m.st.source, m.onlyS)
	if err != nil {
		return "", err
	}
	m.source = m.onlyS.rels[0]
	m.onlyT = &scope{rels: []*relation{rel}, noAgg: "MERGE"}
	m.both = &scope{rels: []*relation{rel, m.source}, noAgg: "MERGE"}
	if strings.EqualFold(rel.alias, m.source.alias) {
		return "", queryError(m.st.pos, "Duplicate table alias %s in the same FROM clause", rel.alias)
	}
	on, err := m.a.condition(m.st.on, m.both, "ON")
	if err != nil {
		return "", err
	}
	for _, w := range m.st.whens {
		if err := m.when(w); err != nil {
			return "", err
		}
	}
	m.prune()
	tid := rel.engineName() + "." + rowID
	sname := source[strings.LastIndex(source, " ")+1:]
	source = "(SELECT *, 1 AS " + rowPresent + " FROM " + source + ") AS " + sname
	inner := "SELECT " + tid + " AS rid, CASE"
	state := map[string]string{
		"MATCHED":               tid + " IS NOT NULL AND " + sname + "." + rowPresent + " IS NOT NULL",
		"NOT MATCHED":           tid + " IS NULL",
		"NOT MATCHED BY SOURCE": sname + "." + rowPresent + " IS NULL",
	}
	conds := make([]string, len(m.acts))
	for i, c := range m.acts {
		conds[i] = " WHEN " + state[m.st.whens[i].match] + " AND (" + c + ") THEN "
		inner += conds[i] + itoa(i)
	}
	inner += " END AS act"
	for k := range m.t.columns {
		inner += ", CASE"
		for i := range m.acts {
			inner += conds[i] + m.values[i][k]
		}
		inner += " END AS v" + itoa(k)
	}
	join := map[[2]bool]string{{false, false}: "INNER", {true, false}: "RIGHT", {false, true}: "LEFT", {true, true}: "FULL"}[[2]bool{m.has("NOT MATCHED"), m.has("NOT MATCHED BY SOURCE")}]
	return "SELECT * FROM (" + inner + " FROM " + target + " " + join + " JOIN " + source + " ON " + on.sql + ") WHERE act IS NOT NULL", nil
}

func (m *merging) has(match string) bool {
	return slices.ContainsFunc(m.st.whens, func(w mergeWhen) bool { return w.match == match })
}

// scopeOf is what a clause can name: the rows there are.
func (m *merging) scopeOf(match string) *scope {
	switch match {
	case "NOT MATCHED":
		return m.onlyS
	case "NOT MATCHED BY SOURCE":
		return m.onlyT
	default:
		return m.both
	}
}

func (m *merging) when(w mergeWhen) error {
	sc := m.scopeOf(w.match)
	cond := "true"
	if w.cond != nil {
		v, err := m.a.condition(w.cond, sc, "WHEN")
		if err != nil {
			return err
		}
		cond = v.sql
	}
	var values []string
	var err error
	switch w.action {
	case "DELETE":
		values = make([]string, len(m.t.columns))
		for i := range values {
			values[i] = "NULL"
		}
	case "UPDATE":
		values, err = m.a.set(m.t, m.rel, w.set, sc)
	default:
		values, err = m.insertValues(w, sc)
	}
	m.acts, m.what, m.values = append(m.acts, cond), append(m.what, w.action), append(m.values, values)
	return err
}

func (m *merging) insertValues(w mergeWhen, sc *scope) ([]string, error) {
	cols, err := columnsOf(m.t, w.columns, w.pos)
	if err != nil {
		return nil, err
	}
	row := w.values
	if w.row {
		row = nil
		for _, c := range m.source.cols {
			row = append(row, &node{kind: nName, pos: w.pos, path: []string{c.name}})
		}
		if len(row) == 0 {
			return nil, queryError(w.pos, "INSERT ROW needs a source with columns")
		}
	}
	list, err := m.a.valueList(row, cols, sc)
	if err != nil {
		return nil, err
	}
	out := make([]string, len(m.t.columns))
	for i, c := range m.t.columns {
		out[i] = "NULL"
		for k := range cols {
			if cols[k].name == c.name {
				out[i] = list[k].sql
			}
		}
	}
	return out, nil
}

// prune: of the target, a clause needs the partitions that the ON condition and
// its own condition leave; WHEN NOT MATCHED BY SOURCE those that its own leaves,
// and WHEN NOT MATCHED those that ON leaves ("Updating partitioned table data
// using DML", "Pruning partitions when using a MERGE statement").
func (m *merging) prune() {
	part := m.t.partitioning()
	if part != nil {
		on := m.a.predicate(m.st.on, m.both, m.scan)
		var clauses []pred
		named := on != nil
		for _, w := range m.st.whens {
			var own pred
			if w.cond != nil && w.match != "NOT MATCHED" {
				own = m.a.predicate(w.cond, m.scopeOf(w.match), m.scan)
			}
			named = named || own != nil
			clauses = append(clauses, func(p partition) bool {
				if w.match != "NOT MATCHED BY SOURCE" && on != nil && !on(p) {
					return false
				}
				return own == nil || own(p)
			})
		}
		if named {
			m.scan.preds = append(m.scan.preds, func(p partition) bool {
				return slices.ContainsFunc(clauses, func(c pred) bool { return c(p) })
			})
		}
	}
	if !m.has("NOT MATCHED") { // source rows without a partner do not matter
		m.a.prune(m.st.on, m.both, []*relation{m.source})
	}
}
