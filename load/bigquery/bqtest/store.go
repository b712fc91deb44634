package bqtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	bq "google.golang.org/api/bigquery/v2"
)

// tableRef names a table.
type tableRef struct{ project, dataset, table string }

func (r tableRef) String() string { return r.project + ":" + r.dataset + "." + r.table }

// path is the table's name in the Storage Write API.
func (r tableRef) path() string {
	return "projects/" + r.project + "/datasets/" + r.dataset + "/tables/" + r.table
}

// column is one column of a table.
type column struct {
	name        string
	kind        string // STRING, INT64, FLOAT64, BOOL, TIMESTAMP, DATE, DATETIME, TIME, JSON, BYTES, NUMERIC
	required    bool
	description string
	since       time.Time // when it was added
}

// dataset is a dataset and its tables by name.
type dataset struct {
	meta   *bq.Dataset
	tables map[string]*table
	etag   int64
}

// table is a table or a view of the catalog. Its rows are in DuckDB.
type table struct {
	ref     tableRef
	phys    string // the table of DuckDB that holds the rows; "" for a view
	columns []column
	meta    *bq.Table // the resource without schema, counts and etag
	created time.Time
	touched time.Time // last change of rows or resource
	etag    int64
	version int64    // grows with every change of rows
	owner   *session // the script whose transaction has updated or deleted rows, nil for none
	waiting int      // statements that wait for owner
	mutated int64    // grows with every update or deletion of rows by SQL

	sizes        *sizes // by partition, of sizesVersion
	sizesVersion int64
	streamed     *streamed // nil: not counted yet
	view         *view     // of a view or a table function
}

// tableInfo is what the Storage Write API needs to know of a table.
type tableInfo struct {
	columns      []column
	primaryKey   []string
	maxStaleness time.Duration
	expires      time.Time // zero: never
	created      time.Time
	location     string
	parts        *partitioning // nil: none
}

// batch is rows for one table: values are nil, string, int64, float64, bool,
// time.Time (UTC, microseconds; TIMESTAMP and DATETIME), civil.Date, civil.Time,
// []byte, *big.Rat (NUMERIC), and for JSON its text.
type batch struct {
	columns  []string
	rows     [][]any
	streamed time.Time // when the Storage Write API wrote them; zero: it did not
}

// dataType is DuckDB's type for the values of a kind. TIMESTAMP is UTC.
func dataType(kind string) string {
	switch kind {
	case "INT64":
		return "BIGINT"
	case "FLOAT64":
		return "DOUBLE"
	case "BOOL":
		return "BOOLEAN"
	case "TIMESTAMP", "DATETIME":
		return "TIMESTAMP"
	case "DATE":
		return "DATE"
	case "TIME":
		return "TIME"
	case "BYTES":
		return "BLOB"
	case "NUMERIC":
		return "DECIMAL(38,9)"
	default: // STRING, and JSON as its text
		return "VARCHAR"
	}
}

func quoteName(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// quoteText writes a literal; the engine's own cannot hold NUL.
func quoteText(s string) string {
	if before, after, ok := strings.Cut(s, "\x00"); ok {
		return "(" + quoteText(before) + " || chr(0) || " + quoteText(after) + ")"
	}
	return `'` + strings.ReplaceAll(s, `'`, `''`) + `'`
}

// find gives a table of the catalog; s.mu is held.
func (s *Server) find(ref tableRef) (*table, error) {
	d, err := s.findDataset(ref.project, ref.dataset)
	if err != nil {
		return nil, err
	}
	t := d.tables[ref.table]
	if t == nil || s.expired(t) {
		return nil, notFound("Table", ref.String())
	}
	return t, nil
}

func (s *Server) findDataset(project, name string) (*dataset, error) {
	if project != s.opts.Project {
		return nil, notFound("Project", project)
	}
	d := s.datasets[name]
	if d == nil {
		return nil, notFound("Dataset", project+":"+name)
	}
	return d, nil
}

// expired says whether a table's expiration time has come: it "will be deleted
// and their storage reclaimed" (REST v2, Table.expirationTime).
func (s *Server) expired(t *table) bool {
	return t.meta.ExpirationTime != 0 && s.now().UnixMilli() >= t.meta.ExpirationTime
}

// column finds a column by name; names do not distinguish case (Schemas, "Column
// names").
func (t *table) column(name string) *column {
	for i := range t.columns {
		if strings.EqualFold(t.columns[i].name, name) {
			return &t.columns[i]
		}
	}
	return nil
}

func (t *table) primaryKey() []string {
	if t.meta.TableConstraints == nil || t.meta.TableConstraints.PrimaryKey == nil {
		return nil
	}
	return t.meta.TableConstraints.PrimaryKey.Columns
}

// tableInfo describes a table as it is now.
func (s *Server) tableInfo(ref tableRef) (tableInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.find(ref)
	if err != nil {
		return tableInfo{}, err
	}
	if t.phys == "" {
		return tableInfo{}, invalid("%s is a view", ref)
	}
	info := tableInfo{
		columns: slices.Clone(t.columns), primaryKey: t.primaryKey(), created: t.created,
		location: s.datasets[ref.dataset].meta.Location, parts: t.partitioning(),
	}
	if t.meta.MaxStaleness != "" {
		if info.maxStaleness, err = parseStaleness(t.meta.MaxStaleness); err != nil {
			return tableInfo{}, err
		}
	}
	if t.meta.ExpirationTime != 0 {
		info.expires = time.UnixMilli(t.meta.ExpirationTime).UTC()
	}
	return info, nil
}

// insertRows appends batches to a table, all or none, visible at once. A column
// that a batch does not name is NULL in it.
func (s *Server) insertRows(ctx context.Context, ref tableRef, batches []batch) error {
	return s.change(ctx, ref, func(conn *sql.Conn, t *table) error {
		for _, b := range batches {
			if err := t.append(conn, b); err != nil {
				return err
			}
		}
		return nil
	})
}

// change runs f in a transaction of DuckDB that changes a table's rows, under
// the server's lock: f must call nothing that takes it.
func (s *Server) change(ctx context.Context, ref tableRef, f func(conn *sql.Conn, t *table) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.find(ref)
	if err != nil {
		return err
	}
	return s.changeTable(ctx, t, f)
}

func (s *Server) changeTable(ctx context.Context, t *table, f func(conn *sql.Conn, t *table) error) error {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("change %s: %w", t.ref, err)
	}
	defer func() { _ = conn.Close() }() // returns it to the pool
	if err := transact(ctx, conn, func() error { return f(conn, t) }); err != nil {
		return err
	}
	t.changed(s.now())
	return nil
}

// transact runs f in a transaction that is rolled back if f fails.
func transact(ctx context.Context, conn *sql.Conn, f func() error) error {
	// Beginning and ending are not interrupted: a connection would go back to the
	// pool within a transaction.
	whole := context.WithoutCancel(ctx)
	if _, err := conn.ExecContext(whole, "BEGIN TRANSACTION"); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if err := f(); err != nil {
		_, rerr := conn.ExecContext(whole, "ROLLBACK")
		return errors.Join(err, rerr)
	}
	if _, err := conn.ExecContext(whole, "COMMIT"); err != nil {
		_, _ = conn.ExecContext(whole, "ROLLBACK") // where the failed COMMIT has not ended it
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

func (t *table) changed(now time.Time) {
	t.version++
	t.touched = now
}

// append adds rows, in a transaction of conn. Fields of mode REQUIRED have to be
// there (Schemas, "Modes").
func (t *table) append(conn *sql.Conn, b batch) error {
	names := make([]string, len(b.columns))
	required := map[int]string{}
	for i, name := range b.columns {
		c := t.column(name)
		if c == nil {
			return invalid("no such field: %s.", name)
		}
		if names[i] = c.name; c.required {
			required[i] = c.name
		}
	}
	for _, c := range t.columns {
		if c.required && !slices.Contains(names, c.name) {
			return invalid("Missing required field: %s.", c.name)
		}
	}
	for r, row := range b.rows {
		for i, name := range required {
			if row[i] == nil {
				return invalid("Missing required field: %s. (row %d)", name, r)
			}
		}
	}
	rows := b.rows
	if !b.streamed.IsZero() {
		names = append(slices.Clip(names), streamedColumn)
		rows = make([][]any, len(b.rows))
		for i, row := range b.rows {
			rows[i] = append(slices.Clip(row), b.streamed)
		}
	}
	return appendRows(conn, t.phys, names, rows)
}

// columnList names the table's columns for the engine.
func (t *table) columnList() string {
	names := make([]string, len(t.columns))
	for i, c := range t.columns {
		names[i] = quoteName(c.name)
	}
	return strings.Join(names, ", ")
}

// createRows makes the DuckDB table that holds the rows of t.
func (s *Server) createRows(ctx context.Context, t *table, on ...*sql.Conn) error {
	t.phys = "t" + strconv.FormatInt(s.nextSerial(), 10)
	defs := make([]string, len(t.columns), len(t.columns)+1)
	for i, c := range t.columns {
		defs[i] = quoteName(c.name) + " " + dataType(c.kind)
		if c.required {
			defs[i] += " NOT NULL"
		}
	}
	defs = append(defs, quoteName(streamedColumn)+" TIMESTAMP")
	q := "CREATE TABLE " + t.phys + " (" + strings.Join(defs, ", ") + ")"
	var err error
	if len(on) > 0 { // in a script's transaction
		_, err = on[0].ExecContext(ctx, q)
	} else {
		_, err = s.db.ExecContext(ctx, q)
	}
	if err != nil {
		return fmt.Errorf("create table: %w", err)
	}
	return nil
}

func (s *Server) dropRows(ctx context.Context, t *table) error {
	if t.phys == "" {
		return nil
	}
	if _, err := s.db.ExecContext(ctx, "DROP TABLE "+t.phys); err != nil {
		return fmt.Errorf("drop table: %w", err)
	}
	return nil
}
