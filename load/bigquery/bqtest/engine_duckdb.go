//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package bqtest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/big"
	"time"

	"cloud.google.com/go/civil"
	"github.com/duckdb/duckdb-go/v2"
)

// openEngine starts a DuckDB in memory with the functions that translated
// queries use.
func openEngine(ctx context.Context, o Options) (*sql.DB, error) {
	connector, err := duckdb.NewConnector("", func(c driver.ExecerContext) error {
		for _, q := range []string{"SET autoinstall_known_extensions = false", "SET TimeZone = 'UTC'", "SET preserve_insertion_order = true"} {
			if _, err := c.ExecContext(ctx, q, nil); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("open DuckDB: %w", err)
	}
	db := sql.OpenDB(connector)
	// Statements of tests plan for longer than they run: a second thread costs a
	// sixth more and gains nothing.
	setup := []string{"SET threads = 1"}
	if o.Dir != "" {
		setup = append(setup, "SET temp_directory = "+quoteText(o.Dir))
	}
	for _, q := range append(setup, engineMacros()...) {
		if _, err := db.ExecContext(ctx, q); err != nil {
			return nil, errors.Join(fmt.Errorf("set up DuckDB: %s: %w", q, err), db.Close())
		}
	}
	if err := registerFunctions(ctx, db); err != nil {
		return nil, errors.Join(fmt.Errorf("set up DuckDB: %w", err), db.Close())
	}
	return db, nil
}

// appendRows adds the rows of one batch to a table, within the transaction that
// conn is in. It is DuckDB's appender: an INSERT of values costs 20 times that.
func appendRows(conn *sql.Conn, table string, columns []string, rows [][]any) error {
	return conn.Raw(func(c any) error {
		dc, ok := c.(driver.Conn)
		if !ok {
			return fmt.Errorf("append rows: connection is a %T", c)
		}
		a, err := duckdb.NewAppenderWithColumns(dc, "", "main", table, columns)
		if err != nil {
			return fmt.Errorf("append rows: %w", err)
		}
		values := make([]driver.Value, len(columns))
		for _, row := range rows {
			for i, v := range row {
				values[i] = engineValue(v)
			}
			if err := a.AppendRow(values...); err != nil {
				return errors.Join(fmt.Errorf("append rows: %w", err), a.Close())
			}
		}
		if err := a.Close(); err != nil {
			return fmt.Errorf("append rows: %w", err)
		}
		return nil
	})
}

// engineValue is a value of a batch as DuckDB's appender takes it.
func engineValue(v any) driver.Value {
	switch v := v.(type) {
	case civil.Date:
		return v.In(time.UTC)
	case civil.Time:
		return time.Date(1970, 1, 1, v.Hour, v.Minute, v.Second, v.Nanosecond, time.UTC)
	case *big.Rat:
		scaled := new(big.Rat).Mul(v, new(big.Rat).SetInt64(1e9))
		return duckdb.Decimal{Width: 38, Scale: 9, Value: new(big.Int).Quo(scaled.Num(), scaled.Denom())}
	default:
		return v
	}
}

// plainValue is a value that DuckDB returned, of the kinds of a batch.
func plainValue(v any) any {
	switch v := v.(type) {
	case duckdb.Decimal:
		return new(big.Rat).SetFrac(v.Value, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(v.Scale)), nil))
	case *big.Int: // HUGEINT
		return v.String()
	default:
		return v
	}
}
