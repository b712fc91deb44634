//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package duck

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/duckdb/duckdb-go/v2"

	"github.com/sluice-etl/sluice/internal/clock"
)

// Available reports whether this binary has DuckDB.
const Available = true

// A read that meets a file which is being replaced fails and is repeated: a
// reader that globs while files are renamed opens a file more than once
// (measured: 102 errors and no wrong answer in 661 reads beside very fast
// renames).
const (
	attempts     = 3
	attemptPause = 200 * time.Millisecond
)

// Version returns DuckDB's version, such as v1.5.5.
func Version(ctx context.Context) string {
	db, err := Open(ctx, "")
	if err != nil {
		return ""
	}
	defer func() { _ = db.Close() }()
	var v string
	if err := db.conn.QueryRowContext(ctx, "SELECT library_version FROM pragma_version()").Scan(&v); err != nil {
		return ""
	}
	return v
}

// DB is one DuckDB in memory, for one goroutine.
type DB struct {
	pool *sql.DB
	conn *sql.Conn
}

// Open starts a DuckDB in memory and runs setup, an SQL script, in it.
// Timestamps print in UTC. Extensions are not fetched from the network
// unasked: what is linked in (parquet, json, icu) is there.
func Open(ctx context.Context, setup string) (*DB, error) {
	connector, err := duckdb.NewConnector("", nil)
	if err != nil {
		return nil, fmt.Errorf("open DuckDB: %w", err)
	}
	pool := sql.OpenDB(connector)
	conn, err := pool.Conn(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open DuckDB: %w", err), pool.Close())
	}
	db := &DB{pool: pool, conn: conn}
	const session = "SET autoinstall_known_extensions = false; SET TimeZone = 'UTC';"
	for _, script := range []string{session, setup} {
		if strings.TrimSpace(script) == "" {
			continue
		}
		err := db.repeat(ctx, func() error {
			_, err := conn.ExecContext(ctx, script)
			return queryError(err, 0)
		})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("set up DuckDB: %w", err), db.Close())
		}
	}
	return db, nil
}

// Close ends the database and frees its memory.
func (db *DB) Close() error {
	err := errors.Join(db.conn.Close(), db.pool.Close())
	if err != nil {
		return fmt.Errorf("close DuckDB: %w", err)
	}
	return nil
}

// Query runs the statements of text and returns what the last one gives, at
// most limit rows of it; 0 is all of them, in memory.
func (db *DB) Query(ctx context.Context, text string, limit int) (*Result, error) {
	last, err := db.prelude(ctx, text)
	if err != nil {
		return nil, err
	}
	var res *Result
	err = db.repeat(ctx, func() error {
		var err error
		res, err = db.read(ctx, last, limit)
		return err
	})
	return res, err
}

// Export runs the statements of text and writes what the last one, a query,
// gives to the file path, which it replaces. It returns the number of rows.
// The rows go from DuckDB to the file without passing through Go.
func (db *DB) Export(ctx context.Context, text, path string, f Format) (int64, error) {
	var options string
	switch f {
	case CSV:
		options = "FORMAT csv, HEADER true, USE_TMP_FILE false"
	case JSON:
		options = "FORMAT json, ARRAY true, USE_TMP_FILE false"
	case JSONL:
		options = "FORMAT json, USE_TMP_FILE false"
	case Parquet:
		options = "FORMAT parquet, COMPRESSION zstd, USE_TMP_FILE false"
	default:
		return 0, fmt.Errorf("export: unknown format %q", f)
	}
	last, err := db.prelude(ctx, text)
	if err != nil {
		return 0, err
	}
	if last.kind != duckdb.STATEMENT_TYPE_SELECT {
		return 0, &NotAQueryError{Statement: verb(last.text), Why: "returns no table to write out", Fix: "end the SQL with a query (SELECT, FROM, DESCRIBE, ...), or leave out -o and --format"}
	}
	replaced := ""
	if f == JSON || f == JSONL {
		replaced = isoTimes(last.columns)
	}
	var rows int64
	err = db.repeat(ctx, func() error {
		r, err := db.conn.ExecContext(ctx, "COPY (SELECT *"+replaced+" FROM (\n"+last.text+"\n)) TO '"+strings.ReplaceAll(path, "'", "''")+"' ("+options+")")
		if err != nil {
			return queryError(err, 1)
		}
		rows, err = r.RowsAffected()
		return err
	})
	return rows, err
}

// Views lists the views and table macros that the setup made, by schema and name.
func (db *DB) Views(ctx context.Context) ([]View, error) {
	const list = `
SELECT schema_name, view_name, coalesce(comment, '') FROM duckdb_views() WHERE NOT internal
UNION ALL
SELECT schema_name, function_name || '(' || array_to_string(parameters, ', ') || ')', coalesce(comment, description, '')
FROM duckdb_functions() WHERE NOT internal AND function_type = 'table_macro'
ORDER BY 1, 2`
	rows, err := db.conn.QueryContext(ctx, list)
	if err != nil {
		return nil, fmt.Errorf("list views: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var views []View
	for rows.Next() {
		var v View
		if err := rows.Scan(&v.Schema, &v.Name, &v.Comment); err != nil {
			return nil, fmt.Errorf("list views: %w", err)
		}
		views = append(views, v)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list views: %w", err)
	}
	return views, nil
}

// statement is a statement that DuckDB has understood.
type statement struct {
	text    string
	kind    duckdb.StmtType
	columns []Column
}

// prelude runs all statements of text but the last, which it prepares.
func (db *DB) prelude(ctx context.Context, text string) (statement, error) {
	statements := Split(text)
	if len(statements) == 0 {
		return statement{}, ErrNoStatement
	}
	var s statement
	for i, one := range statements {
		err := db.repeat(ctx, func() error {
			var err error
			if s, err = db.prepare(ctx, one); err != nil || i == len(statements)-1 {
				return err
			}
			_, err = db.conn.ExecContext(ctx, one)
			return queryError(err, 0)
		})
		if err != nil {
			return statement{}, err
		}
	}
	return s, nil
}

// prepare has DuckDB parse and bind a statement, so that its complaints point
// into the text the user wrote, and refuses what writes files: the lake lies
// within reach of a COPY, and -o writes whole files or none.
func (db *DB) prepare(ctx context.Context, text string) (statement, error) {
	s := statement{text: text}
	// EXPORT is several statements to DuckDB, the first of which it runs while
	// preparing the last: its name is checked before, not its kind after.
	if v := verb(text); v == "COPY" || v == "EXPORT" {
		return statement{}, writes(v)
	}
	err := db.conn.Raw(func(driverConn any) error {
		conn, ok := driverConn.(*duckdb.Conn)
		if !ok {
			return fmt.Errorf("prepare statement: unexpected driver %T", driverConn)
		}
		prepared, err := conn.PrepareContext(ctx, text)
		if err != nil {
			return queryError(err, 0)
		}
		defer func() { _ = prepared.Close() }()
		stmt, ok := prepared.(*duckdb.Stmt)
		if !ok {
			return fmt.Errorf("prepare statement: unexpected statement %T", prepared)
		}
		if s.kind, err = stmt.StatementType(); err != nil {
			return fmt.Errorf("prepare statement: %w", err)
		}
		s.columns = columns(stmt)
		return nil
	})
	if err != nil {
		return statement{}, err
	}
	if s.kind == duckdb.STATEMENT_TYPE_COPY || s.kind == duckdb.STATEMENT_TYPE_EXPORT {
		return statement{}, writes(verb(text))
	}
	return s, nil
}

func writes(verb string) error {
	return &NotAQueryError{
		Statement: verb, Why: "is not allowed here",
		Fix: "give the query alone and write its result with -o FILE (csv, json, jsonl or parquet)",
	}
}

func columns(stmt *duckdb.Stmt) []Column {
	n, err := stmt.ColumnCount()
	if err != nil {
		return nil
	}
	cols := make([]Column, 0, n)
	for i := range n {
		name, err := stmt.ColumnName(i)
		if err != nil {
			return nil
		}
		t, err := stmt.ColumnType(i)
		if err != nil {
			return nil
		}
		cols = append(cols, Column{Name: name, Numeric: numeric(t), times: timesOf(t)})
	}
	return cols
}

func timesOf(t duckdb.Type) times {
	switch t {
	case duckdb.TYPE_TIMESTAMP_TZ:
		return instants
	case duckdb.TYPE_TIMESTAMP, duckdb.TYPE_TIMESTAMP_S, duckdb.TYPE_TIMESTAMP_MS:
		return localTimes
	default:
		return noTimes
	}
}

func numeric(t duckdb.Type) bool {
	switch t {
	case duckdb.TYPE_TINYINT, duckdb.TYPE_SMALLINT, duckdb.TYPE_INTEGER, duckdb.TYPE_BIGINT, duckdb.TYPE_HUGEINT,
		duckdb.TYPE_UTINYINT, duckdb.TYPE_USMALLINT, duckdb.TYPE_UINTEGER, duckdb.TYPE_UBIGINT, duckdb.TYPE_UHUGEINT,
		duckdb.TYPE_FLOAT, duckdb.TYPE_DOUBLE, duckdb.TYPE_DECIMAL:
		return true
	default:
		return false
	}
}

// read runs a prepared statement. A query is wrapped, so that DuckDB itself
// prints every value and stops at the limit; anything else runs as it stands.
func (db *DB) read(ctx context.Context, s statement, limit int) (*Result, error) {
	if s.kind != duckdb.STATEMENT_TYPE_SELECT {
		return db.rows(ctx, s.text, s.columns, limit, 0)
	}
	wrapped := "SELECT COLUMNS(*)::VARCHAR FROM (\n" + s.text + "\n)"
	if limit > 0 {
		wrapped += " LIMIT " + strconv.Itoa(limit+1)
	}
	res, err := db.rows(ctx, wrapped, s.columns, limit, 1)
	var qe *QueryError
	var de *duckdb.Error
	if errors.As(err, &qe) && errors.As(err, &de) && de.Type == duckdb.ErrorTypeParser {
		return db.rows(ctx, s.text, s.columns, limit, 0) // a query that cannot stand in brackets
	}
	return res, err
}

// rows reads a statement's rows; added is how many lines stand before the
// user's text in it.
func (db *DB) rows(ctx context.Context, text string, cols []Column, limit, added int) (*Result, error) {
	rows, err := db.conn.QueryContext(ctx, text)
	if err != nil {
		return nil, queryError(err, added)
	}
	defer func() { _ = rows.Close() }()
	names, err := rows.Columns()
	if err != nil {
		return nil, fmt.Errorf("read columns: %w", err)
	}
	if len(names) != len(cols) { // DuckDB could not tell the types before it ran
		cols = make([]Column, len(names))
		for i, name := range names {
			cols[i].Name = name
		}
	}
	res := &Result{Columns: cols}
	for rows.Next() {
		if limit > 0 && len(res.Rows) == limit {
			res.More = true
			break
		}
		row, err := scan(rows, len(cols))
		if err != nil {
			return nil, err
		}
		res.Rows = append(res.Rows, row)
	}
	if err := rows.Err(); err != nil {
		return nil, queryError(err, added)
	}
	return res, nil
}

func scan(rows *sql.Rows, n int) ([]Value, error) {
	cells := make([]any, n)
	into := make([]any, n)
	for i := range cells {
		into[i] = &cells[i]
	}
	if err := rows.Scan(into...); err != nil {
		return nil, fmt.Errorf("read row: %w", err)
	}
	row := make([]Value, n)
	for i, c := range cells {
		switch c := c.(type) {
		case nil:
			row[i].Null = true
		case string:
			row[i].Text = c
		case []byte:
			row[i].Text = string(c)
		default:
			row[i].Text = fmt.Sprint(c)
		}
	}
	return row, nil
}

// repeat runs read again while it fails as a read does whose file was
// replaced under it.
func (db *DB) repeat(ctx context.Context, read func() error) error {
	for n := 1; ; n++ {
		err := read()
		var qe *QueryError
		if err == nil || n == attempts || !errors.As(err, &qe) || !qe.transient {
			return err
		}
		if err := clock.Sleep(ctx, attemptPause); err != nil {
			return err
		}
	}
}

var linePosition = regexp.MustCompile(`(?m)^LINE (\d+):`)

// queryError turns DuckDB's error into ours, with the lines that a wrapper
// added taken off the position again.
func queryError(err error, added int) error {
	if err == nil {
		return nil
	}
	qe := &QueryError{Message: err.Error(), Err: err}
	var de *duckdb.Error
	if errors.As(err, &de) {
		qe.Message = de.Msg
		switch de.Type {
		case duckdb.ErrorTypeIO, duckdb.ErrorTypeInvalidInput, duckdb.ErrorTypeSerialization:
			qe.transient = true
		default:
		}
	}
	qe.Message = strings.TrimSpace(linePosition.ReplaceAllStringFunc(qe.Message, func(m string) string {
		n, convErr := strconv.Atoi(linePosition.FindStringSubmatch(m)[1])
		if convErr != nil || n <= added {
			return m
		}
		return "LINE " + strconv.Itoa(n-added) + ":"
	}))
	return qe
}
