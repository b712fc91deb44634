package parquet_test

import (
	"database/sql"
	"fmt"
	"math/big"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	_ "github.com/duckdb/duckdb-go/v2" // the judge

	"github.com/sluice-etl/sluice/load/loadtest"
)

// duck opens DuckDB in memory.
func duck(tb testing.TB) *sql.DB {
	tb.Helper()
	db, err := sql.Open("duckdb", "")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := db.Close(); err != nil {
			tb.Error(err)
		}
	})
	return db
}

// query returns the rows of a query by column name.
func query(tb testing.TB, db *sql.DB, q string, args ...any) []loadtest.Row {
	tb.Helper()
	out, err := tryQuery(db, q, args...)
	if err != nil {
		tb.Fatalf("%s: %v", q, err)
	}
	return out
}

func tryQuery(db *sql.DB, q string, args ...any) ([]loadtest.Row, error) {
	rows, err := db.Query(q, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	cols, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	out := []loadtest.Row{}
	for rows.Next() {
		values := make([]any, len(cols))
		into := make([]any, len(cols))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		r := loadtest.Row{}
		for i, c := range cols {
			switch v := values[i].(type) {
			case time.Time:
				r[c] = v.UTC()
			case *big.Int:
				r[c] = v.Int64()
			case int32:
				r[c] = int64(v)
			default:
				r[c] = v
			}
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

// bareGlob reads current as any analyst would.
func bareGlob(dir string) string {
	return fmt.Sprintf("SELECT * FROM '%s'", strings.ReplaceAll(filepath.Join(dir, "current", "**", "*.parquet"), "'", "''"))
}

func historyGlob(dir string) string {
	return fmt.Sprintf("SELECT * EXCLUDE extracted_date FROM read_parquet('%s', union_by_name=true, hive_partitioning=true)", strings.ReplaceAll(filepath.Join(dir, "history", "**", "*.parquet"), "'", "''"))
}

// lines prints a map in order.
func lines(m map[string]string) []string {
	out := make([]string, 0, len(m))
	for k, v := range m {
		out = append(out, k+" "+v)
	}
	slices.Sort(out)
	return out
}
