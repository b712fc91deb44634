package bqtest

import (
	"net/http"
	"strings"

	bq "google.golang.org/api/bigquery/v2"
)

// target finds the table of a DML statement.
func (r *session) target(path []string, at pos) (*table, error) {
	t, err := r.table(path, at)
	if err != nil {
		return nil, err
	}
	if t.phys == "" {
		return nil, queryError(at, "%s is not allowed for this operation because it is currently a %s.", t.ref, t.meta.Type)
	}
	return t, nil
}

// columnsOf finds the columns that a list of names names, all if there is none.
func columnsOf(t *table, names []string, at pos) ([]*column, error) {
	var out []*column
	if names == nil {
		for i := range t.columns {
			out = append(out, &t.columns[i])
		}
		return out, nil
	}
	seen := map[string]bool{}
	for _, n := range names {
		c := t.column(n)
		if c == nil {
			return nil, queryError(at, "Column %s is not present in table %s", n, t.ref)
		}
		if seen[c.name] {
			return nil, queryError(at, "INSERT has columns with duplicate name: %s", n)
		}
		seen[c.name] = true
		out = append(out, c)
	}
	return out, nil
}

// assign gives a value the type of the column it goes to.
func assign(at pos, v val, c *column) (val, error) {
	if !v.typ.coerces(ty(c.kind), v.literal) {
		return v, queryError(at, "Value of type %s cannot be assigned to %s, which has type %s", v.typ, c.name, c.kind)
	}
	return coerce(at, v, ty(c.kind), "Value")
}

func (r *session) insert(st *insertStmt) error {
	t, err := r.target(st.path, st.pos)
	if err != nil {
		return err
	}
	cols, err := columnsOf(t, st.columns, st.pos)
	if err != nil {
		return err
	}
	a := &analyzer{s: r.s, run: r}
	var sql string
	if st.query != nil {
		sql, err = a.insertQuery(st, cols)
	} else {
		sql, err = a.insertValues(st.values, cols, nil)
	}
	if err != nil {
		return err
	}
	if err := r.settleScans(a.scans); err != nil {
		return err
	}
	o := r.outcome(st.stmtBase, "INSERT")
	o.target = &t.ref
	if err := r.charge(o, a.scans); err != nil || r.dryRun {
		return err
	}
	names := make([]string, len(cols))
	for i, c := range cols {
		names[i] = quoteName(c.name)
	}
	return r.write(t, false, func() error {
		last, err := r.s.lastRow(r.ctx, r.conn, t)
		if err != nil {
			return err
		}
		n, err := r.exec("INSERT INTO " + t.phys + " (" + strings.Join(names, ", ") + ") " + sql)
		if err != nil {
			return err
		}
		o.dml = &bq.DmlStatistics{InsertedRowCount: n}
		r.rowCount = n
		return r.s.checkAppended(r.ctx, r.conn, t, last)
	})
}

func (a *analyzer) insertQuery(st *insertStmt, cols []*column) (string, error) {
	sub, err := a.query(st.query, nil)
	if err != nil {
		return "", err
	}
	if len(sub.cols) != len(cols) {
		return "", queryError(st.pos, "Inserted row has wrong column count; Has %d, expected %d", len(sub.cols), len(cols))
	}
	list := make([]string, len(cols))
	for i, c := range cols {
		v := sub.cols[i].val
		mark(v.deps)
		if v.typ.kind != untyped && !v.typ.coerces(ty(c.kind), false) {
			return "", queryError(st.pos, "Query column %d has type %s which cannot be inserted into column %s, which has type %s", i+1, v.typ, c.name, c.kind)
		}
		list[i] = v.cast(ty(c.kind)).sql
	}
	return "SELECT " + strings.Join(list, ", ") + " FROM (" + sub.sql + ")", nil
}

func (a *analyzer) insertValues(rows [][]*node, cols []*column, sc *scope) (string, error) {
	out := make([]string, len(rows))
	for i, row := range rows {
		list, err := a.valueList(row, cols, sc)
		if err != nil {
			return "", err
		}
		sqls := make([]string, len(list))
		for k, v := range list {
			sqls[k] = v.sql
		}
		out[i] = "SELECT " + strings.Join(sqls, ", ")
	}
	return strings.Join(out, " UNION ALL "), nil
}

func (a *analyzer) valueList(row []*node, cols []*column, sc *scope) ([]val, error) {
	if len(row) != len(cols) {
		return nil, queryError(row[0].pos, "Inserted row has wrong column count; Has %d, expected %d", len(row), len(cols))
	}
	out := make([]val, len(cols))
	for i, n := range row {
		if n.kind == nDefault { // no column has a default value here
			out[i] = val{sql: "CAST(NULL AS " + dataType(cols[i].kind) + ")", typ: ty(cols[i].kind)}
			continue
		}
		v, err := a.expr(n, sc)
		if err != nil {
			return nil, err
		}
		if out[i], err = assign(n.pos, v, cols[i]); err != nil {
			return nil, err
		}
		mark(v.deps)
	}
	return out, nil
}

func (r *session) truncate(st *truncateStmt) error {
	t, err := r.target(st.path, st.pos)
	if err != nil {
		return err
	}
	o := r.outcome(st.stmtBase, "TRUNCATE_TABLE")
	o.target = &t.ref
	if r.dryRun {
		return nil
	}
	return r.write(t, true, func() error {
		if err := r.checkStreamed(t, "true"); err != nil {
			return err
		}
		n, err := r.exec("DELETE FROM " + t.phys)
		o.dml = &bq.DmlStatistics{DeletedRowCount: n}
		r.rowCount = n
		return err
	})
}

// rowID is the engine's number of a row, under a name that no column can have.
const rowID = `"row id"`

// mutable is the target of UPDATE, DELETE or MERGE: a relation with rowID.
func (a *analyzer) mutable(t *table, alias string) (string, *relation, *scan) {
	_, rel := a.scan(t)
	rel.alias = alias
	sc := a.scans[len(a.scans)-1]
	name := "r" + itoa(a.names)
	return "(SELECT rowid AS " + rowID + ", * FROM " + t.phys + ") AS " + name, rel, sc
}

func (rel *relation) engineName() string {
	name, _, _ := strings.Cut(rel.cols[0].val.sql, ".")
	return name
}

// set translates the assignments of UPDATE: a value for every column of the
// table, its own where it is not set.
func (a *analyzer) set(t *table, rel *relation, set []assignment, sc *scope) ([]string, error) {
	out := make([]string, len(t.columns))
	for i := range t.columns {
		out[i] = rel.cols[i].val.sql
	}
	seen := map[string]bool{}
	for _, s := range set {
		c := t.column(s.column)
		if c == nil {
			return nil, queryError(s.pos, "Unrecognized name: %s", s.column)
		}
		if seen[c.name] {
			return nil, queryError(s.pos, "Update item %s assigned more than once", s.column)
		}
		seen[c.name] = true
		list, err := a.valueList([]*node{s.value}, []*column{c}, sc)
		if err != nil {
			return nil, err
		}
		for i := range t.columns {
			if t.columns[i].name == c.name {
				out[i] = list[0].sql
			}
		}
	}
	return out, nil
}

// chargeChange is charge for a statement that updates or deletes: what it reads,
// and all columns of the partitions of the target that it goes through ("Query
// size calculation", "DML statements", BigQuery pricing). That is the most it can
// come to; which of them have changed is known only afterwards.
func (r *session) chargeChange(o *outcome, scans []*scan, target *scan) error {
	if err := r.charge(o, scans); err != nil {
		return err
	}
	whole := &scan{t: target.t, preds: target.preds, whole: true}
	all, _, err := r.s.cost(r.ctx, r.conn, []*scan{whole}, !r.tx)
	if err != nil {
		return err
	}
	o.processed += all
	if o.processed > 0 {
		o.billed = max(roundMB(o.processed), o.billed, minBilled*int64(len(o.tables)))
	}
	return r.checkBilled(o)
}

func (r *session) deleteRows(st *deleteStmt) error {
	t, err := r.target(st.path, st.pos)
	if err != nil {
		return err
	}
	a := &analyzer{s: r.s, run: r}
	from, rel, scanned := a.mutable(t, st.alias)
	sc := &scope{rels: []*relation{rel}, noAgg: "WHERE"}
	where, err := a.condition(st.where, sc, "WHERE")
	if err != nil {
		return err
	}
	a.prune(st.where, sc, sc.rels)
	if err := r.settleScans(a.scans); err != nil {
		return err
	}
	o := r.outcome(st.stmtBase, "DELETE")
	o.target = &t.ref
	if err := r.chargeChange(o, a.scans, scanned); err != nil || r.dryRun {
		return err
	}
	gone := "rowid IN (SELECT " + rowID + " FROM " + from + " WHERE " + where.sql + ")"
	return r.write(t, true, func() error {
		if err := r.checkStreamed(t, gone); err != nil {
			return err
		}
		if err := r.s.checkModified(r.ctx, r.conn, t, t.partitionsOf("", t.phys+" WHERE "+gone)); err != nil {
			return err
		}
		n, err := r.exec("DELETE FROM " + t.phys + " WHERE " + gone)
		o.dml = &bq.DmlStatistics{DeletedRowCount: n}
		r.rowCount = n
		return err
	})
}

func (r *session) update(st *updateStmt) error {
	t, err := r.target(st.path, st.pos)
	if err != nil {
		return err
	}
	a := &analyzer{s: r.s, run: r}
	from, rel, scanned := a.mutable(t, st.alias)
	sc := &scope{rels: []*relation{rel}, noAgg: "UPDATE"}
	if st.from != nil {
		more, err := a.from(st.from, sc)
		if err != nil {
			return err
		}
		from += ", " + more
	}
	where, err := a.condition(st.where, sc, "WHERE")
	if err != nil {
		return err
	}
	a.prune(st.where, sc, sc.rels)
	values, err := a.set(t, rel, st.set, sc)
	if err != nil {
		return err
	}
	if err := r.settleScans(a.scans); err != nil {
		return err
	}
	o := r.outcome(st.stmtBase, "UPDATE")
	o.target = &t.ref
	if err := r.chargeChange(o, a.scans, scanned); err != nil || r.dryRun {
		return err
	}
	c := changeSet{r: r, t: t, sql: "SELECT " + rel.engineName() + "." + rowID + " AS rid, 0 AS act" + numbered(values) + " FROM " + from + " WHERE " + where.sql, actions: []string{"UPDATE"}}
	return r.write(t, true, func() error { return c.apply(o) })
}

func numbered(values []string) string {
	var b strings.Builder
	for i, v := range values {
		b.WriteString(", " + v + " AS v" + itoa(i))
	}
	return b.String()
}

// changeSet is what UPDATE and MERGE do to a table: sql gives rid (NULL for a new
// row), act (an index of actions) and a value for each column.
type changeSet struct {
	r       *session
	t       *table
	sql     string
	actions []string
}

func (c *changeSet) apply(o *outcome) error {
	name := "m" + itoa(int(c.r.s.nextSerial()))
	if _, err := c.r.exec("CREATE TEMP TABLE " + name + " AS " + c.sql); err != nil {
		return err
	}
	byAction := map[string][]string{}
	for i, a := range c.actions {
		byAction[a] = append(byAction[a], itoa(i))
	}
	where := func(actions ...string) string {
		list := []string{"-1"}
		for _, a := range actions {
			list = append(list, byAction[a]...)
		}
		return " WHERE act IN (" + strings.Join(list, ", ") + ")"
	}
	counts, err := c.r.fetch("SELECT (SELECT count(*) FROM "+name+where("INSERT")+"), (SELECT count(*) FROM "+name+where("UPDATE")+"), (SELECT count(*) FROM "+
		name+where("DELETE")+"), (SELECT count(*) - count(DISTINCT rid) FROM "+name+where("UPDATE", "DELETE")+")", []*typ{ty("INT64"), ty("INT64"), ty("INT64"), ty("INT64")})
	if err != nil {
		return err
	}
	count := func(i int) int64 { n, _ := counts[0][i].(int64); return n }
	if count(3) > 0 {
		return &apiError{status: http.StatusBadRequest, reason: "invalidQuery", location: "query", message: "UPDATE/MERGE must match at most one source row for each target row"}
	}
	if err := c.check(name, where); err != nil {
		return err
	}
	values := make([]string, len(c.t.columns))
	for i := range c.t.columns {
		values[i] = "v" + itoa(i)
	}
	for _, q := range []string{
		"DELETE FROM " + c.t.phys + " WHERE rowid IN (SELECT rid FROM " + name + where("UPDATE", "DELETE") + ")",
		"INSERT INTO " + c.t.phys + " (" + c.t.columnList() + ") SELECT " + strings.Join(values, ", ") + " FROM " + name + where("UPDATE", "INSERT"),
		"DROP TABLE " + name,
	} {
		if _, err := c.r.exec(q); err != nil {
			return err
		}
	}
	o.dml = &bq.DmlStatistics{InsertedRowCount: count(0), UpdatedRowCount: count(1), DeletedRowCount: count(2)}
	c.r.rowCount = count(0) + count(1) + count(2)
	return c.r.s.checkPartitions(c.r.ctx, c.r.conn, c.t)
}

// check refuses changes of rows that were just streamed, and of too many
// partitions: those that rows leave, and those that they come to.
func (c *changeSet) check(name string, where func(...string) string) error {
	gone := "rowid IN (SELECT rid FROM " + name + where("UPDATE", "DELETE") + ")"
	if err := c.r.checkStreamed(c.t, gone); err != nil {
		return err
	}
	p := c.t.partitioning()
	if p == nil {
		return nil
	}
	value := ""
	for i, col := range c.t.columns {
		if strings.EqualFold(col.name, p.column) {
			value = "v" + itoa(i)
		}
	}
	return c.r.s.checkModified(c.r.ctx, c.r.conn, c.t,
		c.t.partitionsOf("", c.t.phys+" WHERE "+gone)+" UNION ALL "+c.t.partitionsOf(value, name+where("UPDATE", "INSERT")))
}
