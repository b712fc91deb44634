package bqtest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// settleError says that tables have changes that are due; applying them needs
// the lock that the statement holds.
type settleError struct{ refs []tableRef }

func (e *settleError) Error() string { return "changes are due" }

// retrySettled runs f under the server's lock, and again once the changes are
// applied that it found due.
func (r *session) retrySettled(f func() error) error {
	for range 2 {
		err := f()
		var sf *settleError
		if !errors.As(err, &sf) {
			return err
		}
		r.s.mu.Unlock()
		var failed error
		for _, ref := range sf.refs {
			applied, err := r.s.applyDue(r.ctx, ref)
			if failed = errors.Join(failed, err); applied {
				r.applied = append(r.applied, ref)
			}
		}
		r.s.mu.Lock()
		if failed != nil {
			return failed
		}
		r.settled = append(r.settled, sf.refs...)
	}
	return f()
}

// settleScans sees that the tables of a statement are as of now: changes that
// are due applied, expired partitions gone.
func (r *session) settleScans(scans []*scan) error {
	var due []tableRef
	for _, s := range scans {
		if r.s.hasCDC(s.t) && !slices.Contains(r.settled, s.t.ref) {
			due = append(due, s.t.ref)
		}
		if err := r.s.expire(r.ctx, s.t); err != nil {
			return err
		}
	}
	if due != nil {
		return &settleError{due}
	}
	return nil
}

// expire deletes partitions whose time has come: it is counted from the
// partition's own time ("Managing partitioned tables", "Set the partition
// expiration").
func (s *Server) expire(ctx context.Context, t *table) error {
	p := t.partitioning()
	if p == nil || p.expiry == 0 || t.owner != nil {
		return nil
	}
	sz, err := s.measure(ctx, s.db, t, true)
	if err != nil {
		return err
	}
	gone := slices.ContainsFunc(sz.parts, func(x partitionSize) bool { return !x.null && !s.now().Before(x.from.Add(p.expiry)) })
	if !gone {
		return nil
	}
	cut := literalSQL(ty("TIMESTAMP"), s.now().Add(-p.expiry))
	q := "DELETE FROM " + t.phys + " WHERE date_trunc('" + strings.ToLower(p.unit) + "', " + quoteName(p.column) + ") <= " + cut
	if _, err := s.db.ExecContext(ctx, q); err != nil {
		return fmt.Errorf("expire partitions of %s: %w", t.ref, err)
	}
	t.changed(s.now())
	return nil
}

// charge computes what a statement reads, and refuses it before it runs where
// that exceeds maximumBytesBilled.
func (r *session) charge(o *outcome, scans []*scan) error {
	if err := checkFilters(scans); err != nil {
		return err
	}
	read := slices.Clone(scans)
	for i, sc := range read {
		// A query that applies changes reads all of a partitioned table ("Stream table
		// updates with change data capture", limitations).
		if slices.Contains(r.applied, sc.t.ref) {
			all := *sc
			all.preds = nil
			read[i] = &all
		}
	}
	var err error
	if o.processed, o.billed, err = r.s.cost(r.ctx, r.conn, read, !r.tx); err != nil {
		return err
	}
	o.tables = refsOf(scans)
	return r.checkBilled(o)
}

func (r *session) checkBilled(o *outcome) error {
	if r.maxBilled > 0 && o.billed > r.maxBilled {
		return &apiError{status: http.StatusBadRequest, reason: "bytesBilledLimitExceeded", message: fmt.Sprintf(
			"Query exceeded limit for bytes billed: %d. %d or higher required.", r.maxBilled, o.billed)}
	}
	return nil
}

// execute runs a statement that reads or changes tables; the server's lock is
// held, and released only to wait.
func (r *session) execute(st stmt) error {
	known := len(r.out)
	err := r.retrySettled(func() error {
		r.out = r.out[:known]
		switch st := st.(type) {
		case *queryStmt:
			return r.runQuery(st)
		case *createStmt:
			return r.create(st)
		case *alterStmt:
			return r.alter(st)
		case *dropStmt:
			return r.drop(st)
		case *truncateStmt:
			return r.truncate(st)
		case *insertStmt:
			return r.insert(st)
		case *updateStmt:
			return r.update(st)
		case *deleteStmt:
			return r.deleteRows(st)
		case *mergeStmt:
			return r.merge(st)
		}
		return queryError(st.at(), "stand-in: statement is not known")
	})
	return asQuery(err)
}

func (r *session) outcome(b stmtBase, kind string) *outcome {
	o := &outcome{kind: kind, begin: b.pos, text: r.text[b.begin:max(b.begin, b.end)]}
	r.out = append(r.out, o)
	return o
}

func (r *session) runQuery(st *queryStmt) error {
	a := &analyzer{s: r.s, run: r}
	sub, err := a.query(st.query, nil)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	types := make([]*typ, len(sub.cols))
	for i := range sub.cols {
		c := &sub.cols[i]
		mark(c.val.deps)
		c.val.typ = c.val.typ.concrete()
		types[i] = c.val.typ
		if c.name == "" {
			continue
		}
		if key := strings.ToLower(c.name); seen[key] {
			return &apiError{status: http.StatusBadRequest, reason: "invalidQuery", location: "query", message: "Duplicate column names in the result are not supported when a destination table is present. Found duplicate(s): " + c.name}
		}
		seen[strings.ToLower(c.name)] = true
	}
	n := 0
	for i := range sub.cols { // names of nameless columns ("Query syntax", "Implicit aliases")
		if sub.cols[i].name == "" {
			sub.cols[i].name = "f" + itoa(n) + "_"
			n++
		}
	}
	if err := r.settleScans(a.scans); err != nil {
		return err
	}
	o := r.outcome(st.stmtBase, "SELECT")
	o.cols = sub.cols
	if err := r.charge(o, a.scans); err != nil || r.dryRun {
		return err
	}
	o.rows, err = r.fetch(sub.sql, types)
	return err
}

// fetch runs a translated query. Rows of an ORDER BY come in its order.
func (r *session) fetch(sql string, types []*typ) ([][]any, error) {
	rows, err := r.conn.QueryContext(r.ctx, sql)
	if err != nil {
		return nil, asQuery(err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	var out [][]any
	dest := make([]any, len(types))
	for rows.Next() {
		row := make([]any, len(types))
		for i := range row {
			dest[i] = &row[i]
		}
		if err := rows.Scan(dest...); err != nil {
			return nil, asQuery(err)
		}
		for i := range row {
			row[i] = plainTyped(row[i], types[i])
		}
		out = append(out, row)
	}
	return out, asQuery(rows.Err())
}

// plainTyped makes the engine's value one of this package, all the way down.
func plainTyped(v any, t *typ) any {
	switch x := v.(type) {
	case []any:
		for i := range x {
			x[i] = plainTyped(x[i], t.elem)
		}
		return x
	case map[string]any:
		for i, f := range t.fields {
			x[fieldName(i)] = plainTyped(x[fieldName(i)], f.typ)
		}
		return x
	case time.Time:
		return x.UTC()
	}
	return plainValue(v)
}

// transaction runs BEGIN, COMMIT and ROLLBACK TRANSACTION ("Multi-statement
// transactions").
func (r *session) transaction(st *txStmt) error {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	switch {
	case st.what == "BEGIN" && r.tx:
		return queryError(st.pos, "Transaction is already in progress")
	case st.what != "BEGIN" && !r.tx:
		return queryError(st.pos, "There is no active transaction")
	case r.dryRun:
		return nil
	}
	o := r.outcome(st.stmtBase, st.what+"_TRANSACTION")
	o.kind = map[string]string{"BEGIN": "BEGIN_TRANSACTION", "COMMIT": "COMMIT_TRANSACTION", "ROLLBACK": "ROLLBACK_TRANSACTION"}[st.what]
	if st.what != "BEGIN" {
		return r.endTransaction(st.what == "COMMIT")
	}
	// The engine takes its snapshot with the first read, not with BEGIN.
	for _, q := range []string{"BEGIN TRANSACTION", "SELECT count(*) FROM duckdb_tables()"} {
		if _, err := r.conn.ExecContext(context.WithoutCancel(r.ctx), q); err != nil {
			return fmt.Errorf("begin transaction: %w", err)
		}
	}
	// CURRENT_TIMESTAMP and its like are the transaction's start until it ends
	// ("Date/time functions in transactions").
	r.now = r.s.now()
	r.tx, r.snapped = true, map[*table]int64{}
	for _, d := range r.s.datasets {
		for _, t := range d.tables {
			r.snapped[t] = t.mutated
		}
	}
	return nil
}

// endTransaction commits or rolls back, and lets the statements go on that wait
// for it; the server's lock is held.
func (r *session) endTransaction(commit bool) error {
	word := "ROLLBACK"
	if commit {
		word = "COMMIT"
	}
	_, err := r.conn.ExecContext(context.WithoutCancel(r.ctx), word)
	for _, t := range r.changes {
		if t.owner == r {
			t.owner = nil
		}
		if commit && err == nil {
			t.changed(r.s.now())
		}
	}
	for t := range r.mutations {
		if commit && err == nil {
			t.mutated++
		}
	}
	if err != nil && commit {
		_, _ = r.conn.ExecContext(context.WithoutCancel(r.ctx), "ROLLBACK") // where the failed COMMIT has not ended it
	}
	r.tx, r.changes, r.mutations = false, nil, nil
	r.s.idle.Broadcast()
	if err != nil {
		return fmt.Errorf("%s transaction: %w", strings.ToLower(word), err)
	}
	return nil
}

// acquire makes way for changing rows of t. A transaction that has updated or
// deleted rows keeps others from doing so: other transactions are cancelled,
// DML outside of transactions waits ("Multi-statement transactions",
// "Transaction concurrency"). Appending conflicts with nothing.
func (r *session) acquire(t *table, mutates bool) error {
	if !mutates {
		return nil
	}
	if r.s.hasCDC(t) {
		return &apiError{status: http.StatusBadRequest, reason: "invalidQuery", location: "query", message: "DML statements that change rows are not supported over table " + t.ref.String() + ", which has change data capture active"}
	}
	aborted := &apiError{status: http.StatusBadRequest, reason: "invalidQuery", location: "query", message: "Transaction is aborted due to concurrent update against table " + t.ref.String()}
	for t.owner != nil && t.owner != r {
		if r.tx {
			return aborted
		}
		if r.ctx.Err() != nil {
			return stopped()
		}
		if t.waiting >= orDefault(r.s.opts.Limits.WaitingDML, maxWaitingDML) {
			return &apiError{status: http.StatusBadRequest, reason: "resourcesExceeded", message: "Resources exceeded during query execution: Too many DML statements outstanding against table " + t.ref.String() + fmt.Sprintf(", limit is %d", t.waiting)}
		}
		t.waiting++
		r.s.idle.Wait()
		t.waiting--
	}
	if !r.tx {
		return nil
	}
	if seen, ok := r.snapped[t]; ok && seen != t.mutated {
		return aborted
	}
	t.owner = r
	return nil
}

// write runs f, which changes rows of t, in the transaction of the script or in
// one of its own.
func (r *session) write(t *table, mutates bool, f func() error) error {
	if err := r.acquire(t, mutates); err != nil {
		return err
	}
	if err := r.s.update(t.ref, true); err != nil {
		return err
	}
	if !r.tx {
		if err := transact(r.ctx, r.conn, f); err != nil {
			return err
		}
		t.changed(r.s.now())
		if mutates {
			t.mutated++
		}
		return nil
	}
	if err := r.another(t); err != nil {
		return err
	}
	r.changes = append(r.changes, t) // a statement that fails leaves the table too
	if err := f(); err != nil {
		return err
	}
	if mutates {
		if r.mutations == nil {
			r.mutations = map[*table]bool{}
		}
		r.mutations[t] = true
	}
	return nil
}

// another refuses to change one table more than a transaction can
// ("Multi-statement transactions", "Limitations").
func (r *session) another(t *table) error {
	tables := map[*table]bool{t: true}
	for _, c := range r.changes {
		tables[c] = true
	}
	if len(tables) > maxTransactionTabs {
		return &apiError{status: http.StatusBadRequest, reason: "invalidQuery", location: "query", message: fmt.Sprintf("A transaction can change at most %d tables", maxTransactionTabs)}
	}
	return nil
}

// exec executes a translated statement and counts its rows.
func (r *session) exec(sql string) (int64, error) {
	res, err := r.conn.ExecContext(r.ctx, sql)
	if err != nil {
		return 0, requiredError(err)
	}
	return res.RowsAffected()
}

// requiredError words a violated REQUIRED as the service does.
func requiredError(err error) error {
	_, rest, ok := strings.Cut(err.Error(), "NOT NULL constraint failed: ")
	if !ok {
		return asQuery(err)
	}
	_, name, _ := strings.Cut(rest, ".")
	name, _, _ = strings.Cut(name, "\n")
	return &apiError{status: http.StatusBadRequest, reason: "invalidQuery", location: "query", message: "Required field " + name + " cannot be null"}
}
