package bqtest

import (
	"context"
	"errors"
	"strings"

	bq "google.golang.org/api/bigquery/v2"
)

// permanent refuses DDL on permanent entities in a transaction ("Multi-statement
// transactions", "Supported statements").
func (r *session) permanent(at pos) error {
	if r.tx {
		return queryError(at, "DDL statements that affect permanent entities are not supported inside a transaction")
	}
	return nil
}

func (r *session) create(st *createStmt) error {
	if st.what == "SCHEMA" {
		return r.createSchema(st)
	}
	if st.temp {
		return r.createTemp(st)
	}
	if err := r.permanent(st.pos); err != nil {
		return err
	}
	ref, err := r.ref(st.path, st.pos)
	if err != nil {
		return err
	}
	d, err := r.s.findDataset(ref.project, ref.dataset)
	if err != nil {
		return err
	}
	kind := "CREATE_" + strings.ReplaceAll(st.what, " ", "_")
	if st.query != nil && st.what == "TABLE" {
		kind += "_AS_SELECT"
	}
	old := d.tables[ref.table]
	if old != nil && r.s.expired(old) {
		old = nil
	}
	if old != nil && st.ifNotExists {
		o := r.outcome(st.stmtBase, kind)
		o.target, o.op = &ref, "SKIP"
		return nil
	}
	if old != nil && !st.replace {
		return duplicate(map[bool]string{true: "Routine", false: "Table"}[st.what == "TABLE FUNCTION"], ref.String())
	}
	t, o, err := r.build(st, d, ref, kind)
	if err != nil || r.dryRun {
		return err
	}
	o.op = "CREATE"
	if old != nil {
		if o.op = "REPLACE"; old.owner != nil && old.owner != r {
			return queryError(st.pos, "Transaction is aborted due to concurrent update against table %s", ref)
		}
		if err := sameSpec(st.pos, old, t.meta); err != nil {
			return err
		}
		if err := r.s.dropRows(r.ctx, old); err != nil {
			return err
		}
	}
	d.tables[ref.table] = t
	return nil
}

// build makes the table or view of a CREATE statement.
func (r *session) build(st *createStmt, d *dataset, ref tableRef, kind string) (*table, *outcome, error) {
	m := &bq.Table{TableReference: &bq.TableReference{ProjectId: ref.project, DatasetId: ref.dataset, TableId: ref.table}}
	if err := r.tableOptions(st.options, m, st.what != "TABLE"); err != nil {
		return nil, nil, err
	}
	if st.what != "TABLE" {
		t, err := r.buildView(st, ref, m)
		if err != nil {
			return nil, nil, err
		}
		o := r.outcome(st.stmtBase, kind)
		o.target = &ref
		return t, o, nil
	}
	sql, cols, o, err := r.createSource(st, kind)
	if err != nil {
		return nil, nil, err
	}
	o.target = &ref
	m.Schema = &bq.TableSchema{Fields: schemaFields(cols)}
	if err := r.tableClauses(st, m, cols); err != nil {
		return nil, nil, err
	}
	if r.dryRun {
		return nil, o, nil
	}
	if err := r.s.update(ref, false); err != nil {
		return nil, nil, err
	}
	t, err := r.s.newTable(r.ctx, d, m)
	if err == nil && sql != "" {
		err = r.fill(t, sql)
	}
	return t, o, err
}

func (r *session) buildView(st *createStmt, ref tableRef, m *bq.Table) (*table, error) {
	m.View = &bq.ViewDefinition{Query: st.body}
	params := st.params
	if st.what == "TABLE FUNCTION" && params == nil {
		params = []columnDef{}
	}
	t := &table{ref: ref, meta: m, created: r.now, touched: r.now, etag: r.s.nextSerial()}
	if err := r.s.makeView(r.ctx, t, params); err != nil {
		return nil, err
	}
	if st.columns == nil {
		return t, nil
	}
	if len(st.columns) != len(t.columns) {
		return nil, queryError(st.pos, "The number of columns in the column definition list does not match the query")
	}
	for i, c := range st.columns {
		t.columns[i].name = c.name
		if err := r.columnOptions(c.options, &t.columns[i].description); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// fill writes the rows of a new table, as a job that writes to it: it counts as
// one, by this reading of "Table modifications per day", and has the limits of
// partitions.
func (r *session) fill(t *table, sql string) error {
	err := transact(r.ctx, r.conn, func() error {
		if _, err := r.exec("INSERT INTO " + t.phys + " (" + t.columnList() + ") " + sql); err != nil {
			return err
		}
		if err := r.s.checkAppended(r.ctx, r.conn, t, -1); err != nil {
			return err
		}
		return r.s.countModified(r.ctx, r.conn, t, 0, -1)
	})
	if err != nil {
		return errors.Join(err, r.s.dropRows(context.WithoutCancel(r.ctx), t))
	}
	t.changed(r.now)
	return nil
}

// createSource gives the columns of a new table, and the rows' query.
func (r *session) createSource(st *createStmt, kind string) (string, []column, *outcome, error) {
	var cols []column
	for _, c := range st.columns {
		if !isScalarKind(c.typ.kind) {
			return "", nil, nil, queryError(c.pos, "stand-in: columns of type %s are not known", c.typ)
		}
		col := column{name: c.name, kind: c.typ.kind, required: c.required}
		if err := r.columnOptions(c.options, &col.description); err != nil {
			return "", nil, nil, err
		}
		cols = append(cols, col)
	}
	if st.like != nil {
		t, err := r.target(st.like, st.pos)
		if err != nil {
			return "", nil, nil, err
		}
		cols = append(cols, t.columns...)
	}
	a := &analyzer{s: r.s, run: r}
	sql := ""
	if st.query != nil {
		sub, err := a.query(st.query, nil)
		if err != nil {
			return "", nil, nil, err
		}
		if sql, cols, err = a.createColumns(st, sub, cols); err != nil {
			return "", nil, nil, err
		}
		if err := r.settleScans(a.scans); err != nil {
			return "", nil, nil, err
		}
	}
	o := r.outcome(st.stmtBase, kind)
	return sql, cols, o, r.charge(o, a.scans)
}

func (a *analyzer) createColumns(st *createStmt, sub *analyzed, cols []column) (string, []column, error) {
	if cols != nil && len(cols) != len(sub.cols) {
		return "", nil, queryError(st.pos, "The number of columns in the column definition list does not match the number of columns produced by the query")
	}
	declared := cols != nil
	list := make([]string, len(sub.cols))
	for i, c := range sub.cols {
		mark(c.val.deps)
		c.val.typ = c.val.typ.concrete()
		if !declared {
			if c.name == "" {
				return "", nil, queryError(st.pos, "CREATE TABLE columns must be named, but column %d has no name", i+1)
			}
			if !isScalarKind(c.val.typ.kind) {
				return "", nil, queryError(st.pos, "stand-in: columns of type %s are not known", c.val.typ)
			}
			cols = append(cols, column{name: c.name, kind: c.val.typ.kind})
		}
		v, err := assign(st.pos, c.val, &cols[i])
		if err != nil {
			return "", nil, err
		}
		list[i] = v.sql
	}
	return "SELECT " + strings.Join(list, ", ") + " FROM (" + sub.sql + ")", cols, nil
}

// createTemp makes a table that lives as long as the script.
func (r *session) createTemp(st *createStmt) error {
	if st.what != "TABLE" || len(st.path) != 1 {
		return queryError(st.pos, "stand-in: only CREATE TEMP TABLE name is known")
	}
	key := strings.ToLower(st.path[0])
	if old := r.temps[key]; old != nil {
		if st.ifNotExists {
			r.outcome(st.stmtBase, "CREATE_TABLE").op = "SKIP"
			return nil
		}
		if !st.replace {
			return duplicate("Table", st.path[0])
		}
	}
	kind := "CREATE_TABLE"
	if st.query != nil {
		kind += "_AS_SELECT"
	}
	sql, cols, o, err := r.createSource(st, kind)
	if err != nil {
		return err
	}
	ref := tableRef{r.s.opts.Project, r.tempName(), st.path[0]}
	m := &bq.Table{TableReference: &bq.TableReference{ProjectId: ref.project, DatasetId: ref.dataset, TableId: ref.table}, Type: "TABLE"}
	if err := r.tableClauses(st, m, cols); err != nil {
		return err
	}
	if cols, err = columnsOfSchema(schemaFields(cols), r.now); err != nil {
		return err
	}
	if err := checkTable(m, cols); err != nil {
		return err
	}
	t := &table{ref: ref, columns: cols, meta: m, created: r.now}
	o.target, o.op = &ref, "CREATE"
	if err := r.s.createRows(r.ctx, t, r.conn); err != nil {
		return err
	}
	if sql != "" && !r.dryRun {
		if _, err := r.exec("INSERT INTO " + t.phys + " (" + t.columnList() + ") " + sql); err != nil {
			return err
		}
	}
	r.temps[key] = t
	return nil
}

func (r *session) createSchema(st *createStmt) error {
	if err := r.permanent(st.pos); err != nil {
		return err
	}
	name := st.path[len(st.path)-1]
	if r.s.datasets[name] != nil {
		if st.ifNotExists {
			return nil
		}
		return duplicate("Dataset", r.s.opts.Project+":"+name)
	}
	if len(st.options) > 0 {
		return queryError(st.pos, "stand-in: OPTIONS of CREATE SCHEMA are not known")
	}
	r.outcome(st.stmtBase, "CREATE_SCHEMA").op = "CREATE"
	if r.dryRun {
		return nil
	}
	_, err := r.s.addDataset(&bq.Dataset{DatasetReference: &bq.DatasetReference{ProjectId: r.s.opts.Project, DatasetId: name}})
	return err
}

func (r *session) drop(st *dropStmt) error {
	if st.what == "SCHEMA" {
		return queryError(st.pos, "stand-in: DROP SCHEMA is not known")
	}
	o := r.outcome(st.stmtBase, "DROP_"+strings.ReplaceAll(st.what, " ", "_"))
	o.op = "DROP"
	if len(st.path) == 1 && r.temps[strings.ToLower(st.path[0])] != nil {
		t := r.temps[strings.ToLower(st.path[0])]
		delete(r.temps, strings.ToLower(st.path[0]))
		_, err := r.exec("DROP TABLE " + t.phys)
		return err
	}
	if err := r.permanent(st.pos); err != nil {
		return err
	}
	t, err := r.table(st.path, st.pos)
	if err != nil {
		if e := asAPI(err); st.ifExists && e.reason == "notFound" {
			o.op = "SKIP"
			return nil
		}
		return err
	}
	o.target = &t.ref
	want := map[string]string{"TABLE": "TABLE", "VIEW": "VIEW", "TABLE FUNCTION": "TABLE_FUNCTION"}[st.what]
	if t.meta.Type != want {
		return queryError(st.pos, "%s is not allowed for this operation because it is currently a %s.", t.ref, t.meta.Type)
	}
	if r.dryRun {
		return nil
	}
	return r.s.removeTable(r.ctx, t)
}

func (r *session) alter(st *alterStmt) error {
	if err := r.permanent(st.pos); err != nil {
		return err
	}
	t, err := r.target(st.path, st.pos)
	if err != nil {
		if st.ifExists && asAPI(err).reason == "notFound" {
			return nil
		}
		return err
	}
	o := r.outcome(st.stmtBase, "ALTER_TABLE")
	o.target, o.op = &t.ref, "ALTER"
	if len(st.actions) > 0 && st.actions[0].what == "RENAME TO" {
		return r.rename(st, t)
	}
	m, err := clone(t.meta)
	if err != nil {
		return err
	}
	m.Schema = &bq.TableSchema{Fields: schemaFields(t.columns)}
	for _, a := range st.actions {
		if err := r.alterAction(a, t, m, st.pos); err != nil {
			return err
		}
	}
	if r.dryRun {
		return nil
	}
	if err := r.s.update(t.ref, false); err != nil {
		return err
	}
	return r.s.changeTableMeta(r.ctx, t, m)
}

func (r *session) alterAction(a alterAction, t *table, m *bq.Table, at pos) error {
	switch a.what {
	case "ADD COLUMN":
		if t.column(a.column.name) != nil {
			if a.ifNotExists {
				return nil
			}
			return queryError(at, "Column already exists: %s", a.column.name)
		}
		c := column{name: a.column.name, kind: a.column.typ.kind, required: a.column.required}
		if err := r.columnOptions(a.column.options, &c.description); err != nil {
			return err
		}
		m.Schema.Fields = append(m.Schema.Fields, schemaFields([]column{c})...)
	case "ADD PRIMARY KEY":
		if t.primaryKey() != nil {
			return queryError(at, "Table already has a primary key")
		}
		m.TableConstraints = &bq.TableConstraints{PrimaryKey: &bq.TableConstraintsPrimaryKey{Columns: a.names}}
	case "DROP PRIMARY KEY":
		if t.primaryKey() == nil && !a.ifNotExists {
			return queryError(at, "Table %s has no primary key", t.ref)
		}
		m.TableConstraints = nil
	case "SET OPTIONS":
		return r.tableOptions(a.options, m, false)
	default:
		for _, f := range m.Schema.Fields {
			if !strings.EqualFold(f.Name, a.column.name) {
				continue
			}
			if a.what == "DROP NOT NULL" {
				f.Mode = "NULLABLE"
				return nil
			}
			return r.columnOptions(a.column.options, &f.Description)
		}
		return queryError(at, "Column not found: %s", a.column.name)
	}
	return nil
}
