// Package duck is DuckDB, embedded: in memory, over the Parquet that Sluice
// exported. Nothing else in the program needs cgo; a binary built without it
// has this package's functions return ErrUnavailable.
package duck

import (
	"errors"
	"fmt"
)

// ErrUnavailable says that this binary was built without DuckDB.
var ErrUnavailable = errors.New("this binary was built without DuckDB (CGO_ENABLED=0, or a platform DuckDB has no library for)")

// Column is one column of a result.
type Column struct {
	Name    string
	Numeric bool // aligns to the right
	times   times
}

// times says whether a column holds points in time, and of what kind.
type times int

const (
	noTimes    times = iota
	instants         // TIMESTAMPTZ
	localTimes       // TIMESTAMP, which has no timezone
)

// Value is one value of a result, as DuckDB prints it.
type Value struct {
	Text string
	Null bool
}

// Result is what a query returned.
type Result struct {
	Columns []Column
	Rows    [][]Value
	// More says that the query had more rows than the limit it was read with.
	More bool
}

// Format is a file format that Export writes.
type Format string

// The formats.
const (
	CSV     Format = "csv"     // RFC 4180 with a header; NULL is empty, an empty string is ""
	JSON    Format = "json"    // one array of objects; times of columns are ISO 8601
	JSONL   Format = "jsonl"   // one object a line
	Parquet Format = "parquet" // zstd
)

// Formats lists the formats in the order that help texts show them.
func Formats() []Format { return []Format{CSV, JSON, JSONL, Parquet} }

// View is a view or a table macro that queries can use.
type View struct {
	Schema  string
	Name    string // with its parameters, for a macro: active(days)
	Comment string
}

// QueryError is a statement that DuckDB refused or could not finish. Message
// is DuckDB's own, its line numbers those of the text the user wrote.
type QueryError struct {
	Message string
	Err     error
	// transient marks what a file replaced during the read looks like.
	transient bool
}

func (e *QueryError) Error() string { return e.Message }

func (e *QueryError) Unwrap() error { return e.Err }

// NotAQueryError is a statement that this package does not run, or whose
// result it cannot export.
type NotAQueryError struct {
	Statement string // COPY, EXPLAIN, ...
	Why       string
	Fix       string
}

func (e *NotAQueryError) Error() string { return fmt.Sprintf("%s %s", e.Statement, e.Why) }

// Hint says what to do instead.
func (e *NotAQueryError) Hint() string { return e.Fix }

// ErrNoStatement is an SQL text without a statement in it.
var ErrNoStatement = errors.New("the SQL holds no statement")
