package bqtest

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	bq "google.golang.org/api/bigquery/v2"
)

// session runs the statements of one query job.
type session struct {
	s    *Server
	ctx  context.Context //nolint:containedctx // the job's
	conn *sql.Conn
	text string

	defaultDataset string
	vars           map[string]*variable // by lower case
	temps          map[string]*table    // by lower case
	named          map[string]val
	positional     []val
	maxBilled      int64
	dryRun         bool

	tx        bool
	snapped   map[*table]int64 // version that the transaction has seen
	changes   []*table         // with changes by the transaction
	mutations map[*table]bool  // updated or deleted from by the transaction
	settled   []tableRef
	applied   []tableRef // of settled: those to which changes were applied

	now          time.Time
	rowCount     int64
	errorMessage string
	out          []*outcome // of statements, in order
}

type variable struct {
	typ   *typ
	value any
}

// outcome is what one statement did.
type outcome struct {
	kind      string // SELECT, MERGE, ...: REST v2, JobStatistics2.statementType
	text      string
	begin     pos
	cols      []relCol
	rows      [][]any
	processed int64
	billed    int64
	tables    []tableRef
	dml       *bq.DmlStatistics
	target    *tableRef
	op        string // ddlOperationPerformed
}

// view is the query of a view or a table function.
type view struct {
	query  *query
	text   string
	params []columnDef // nil for a view
}

var errReturned = errors.New("RETURN")

// ref completes the path of a table.
func (r *session) ref(path []string, at pos) (tableRef, error) {
	switch len(path) {
	case 1:
		if r.defaultDataset == "" {
			return tableRef{}, &apiError{status: 400, reason: "invalid", location: path[0], message: "Table \"" + path[0] + "\" must be qualified with a dataset (e.g. dataset.table)."}
		}
		return tableRef{r.s.opts.Project, r.defaultDataset, path[0]}, nil
	case 2:
		return tableRef{r.s.opts.Project, path[0], path[1]}, nil
	case 3:
		return tableRef{path[0], path[1], path[2]}, nil
	}
	return tableRef{}, queryError(at, "Invalid table name: %s", strings.Join(path, "."))
}

// table finds a table; a temporary one comes before those of the default
// dataset.
func (r *session) table(path []string, at pos) (*table, error) {
	if len(path) == 1 {
		if t := r.temps[strings.ToLower(path[0])]; t != nil {
			return t, nil
		}
	}
	if len(path) == 2 && strings.EqualFold(path[0], "_SESSION") {
		if t := r.temps[strings.ToLower(path[1])]; t != nil {
			return t, nil
		}
	}
	ref, err := r.ref(path, at)
	if err != nil {
		return nil, err
	}
	return r.s.find(ref)
}

func (r *session) param(n *node) (val, error) {
	if n.text == "" {
		if len(n.kids) >= len(r.positional) {
			return val{}, queryError(n.pos, "Query parameter number %d is not defined", len(n.kids)+1)
		}
		return r.positional[len(n.kids)], nil
	}
	v, ok := r.named[strings.ToLower(n.text)]
	if !ok {
		return val{}, queryError(n.pos, "Query parameter '%s' not found", n.text)
	}
	return v, nil
}

// script runs statements one after the other.
func (r *session) script(list []stmt) error {
	for _, st := range list {
		if err := r.ctx.Err(); err != nil {
			return stopped()
		}
		if err := r.statement(st); err != nil {
			return err
		}
	}
	return nil
}

func stopped() *apiError {
	return &apiError{status: 499, reason: "stopped", message: "Job execution was cancelled: User requested cancellation"}
}

func (r *session) statement(st stmt) error {
	switch st := st.(type) {
	case *declareStmt:
		return r.declare(st)
	case *setStmt:
		return r.set(st)
	case *ifStmt:
		return r.ifThen(st)
	case *blockStmt:
		return r.block(st)
	case *assertStmt:
		v, err := r.evaluate(st.cond, ty("BOOL"))
		if err != nil {
			return err
		}
		if v != true {
			if st.message == "" {
				st.message = "Assertion failed"
			}
			return queryError(st.pos, "%s", st.message)
		}
		return nil
	case *raiseStmt:
		return r.raise(st)
	case *returnStmt:
		return errReturned
	case *txStmt:
		return r.transaction(st)
	}
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.tick()
	return r.execute(st)
}

// tick takes the time of a statement, which in a transaction is its start.
func (r *session) tick() {
	if !r.tx {
		r.now = r.s.now()
	}
}

func (r *session) raise(st *raiseStmt) error {
	message := r.errorMessage
	if st.message != nil {
		v, err := r.evaluate(st.message, ty("STRING"))
		if err != nil {
			return err
		}
		message, _ = v.(string)
	}
	return queryError(st.pos, "%s", message)
}

// evaluate computes an expression outside of a query.
func (r *session) evaluate(n *node, want *typ) (any, error) {
	v, _, err := r.evaluateTyped(n, want)
	return v, err
}

func (r *session) evaluateTyped(n *node, want *typ) (any, *typ, error) {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.tick()
	st := &queryStmt{stmtBase: stmtBase{pos: n.pos}, query: &query{pos: n.pos, body: &queryBody{sel: &selectNode{pos: n.pos, items: []selectItem{{expr: n}}}}}}
	var out any
	var t *typ
	err := r.retrySettled(func() error {
		a := &analyzer{s: r.s, run: r}
		sub, err := a.query(st.query, nil)
		if err != nil {
			return err
		}
		if want != nil {
			v, err := coerce(n.pos, sub.cols[0].val, want, "Expression")
			if err != nil {
				return err
			}
			sub.cols[0].val = v
		}
		t = sub.cols[0].val.typ
		t = t.concrete()
		mark(sub.cols[0].val.deps)
		if err := r.settleScans(a.scans); err != nil {
			return err
		}
		o := &outcome{kind: "SELECT"}
		if err := r.charge(o, a.scans); err != nil {
			return err
		}
		rows, err := r.fetch("SELECT "+sub.cols[0].val.sql+" FROM ("+sub.sql+")", []*typ{t})
		if err != nil {
			return err
		}
		if len(a.scans) > 0 {
			o.cols, o.begin = sub.cols, n.pos
			r.out = append(r.out, o)
		}
		out = rows[0][0]
		return nil
	})
	return out, t, err
}

func (r *session) declare(st *declareStmt) error {
	t := st.typ
	var value any
	if st.value != nil {
		v, got, err := r.evaluateTyped(st.value, t)
		if err != nil {
			return err
		}
		t, value = got, v
	}
	if t == nil {
		return queryError(st.pos, "Syntax error: Expected a type or DEFAULT")
	}
	for _, n := range st.names {
		key := strings.ToLower(n)
		if r.vars[key] != nil {
			return queryError(st.pos, "Variable '%s' redeclaration", n)
		}
		r.vars[key] = &variable{t, value}
	}
	return nil
}

func (r *session) set(st *setStmt) error {
	var targets []*variable
	for _, n := range st.names {
		v := r.vars[strings.ToLower(n)]
		if v == nil {
			return queryError(st.pos, "Undeclared variable: %s", n)
		}
		targets = append(targets, v)
	}
	if len(targets) == 1 {
		v, err := r.evaluate(st.value, targets[0].typ)
		if err == nil {
			targets[0].value = v
		}
		return err
	}
	want := &typ{kind: "STRUCT"}
	for _, v := range targets {
		want.fields = append(want.fields, field{"", v.typ})
	}
	v, err := r.evaluate(st.value, want)
	if err != nil {
		return err
	}
	m, _ := v.(map[string]any)
	for i, t := range targets {
		t.value = m[fieldName(i)]
	}
	return nil
}

func (r *session) ifThen(st *ifStmt) error {
	for i, c := range st.conds {
		v, err := r.evaluate(c, ty("BOOL"))
		if err != nil {
			return err
		}
		if v == true {
			return r.script(st.thens[i])
		}
	}
	if len(st.thens) > len(st.conds) {
		return r.script(st.thens[len(st.conds)])
	}
	return nil
}

func (r *session) block(st *blockStmt) error {
	outer := r.vars
	r.vars = map[string]*variable{}
	for k, v := range outer {
		r.vars[k] = v
	}
	defer func() { r.vars = outer }()
	err := r.script(st.body)
	var e *apiError
	if !st.handled || !errors.As(err, &e) || e.reason == "stopped" {
		return err
	}
	r.errorMessage = e.message
	return r.script(st.handler)
}

// used lists the tables of scans.
func refsOf(scans []*scan) []tableRef {
	var out []tableRef
	for _, s := range scans {
		if !slices.Contains(out, s.t.ref) {
			out = append(out, s.t.ref)
		}
	}
	return out
}

func (r *session) tempName() string {
	return "_script" + strconv.FormatInt(r.s.nextSerial(), 10)
}
