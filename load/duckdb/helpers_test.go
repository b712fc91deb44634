//go:build cgo

package duckdb_test

import (
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	_ "github.com/duckdb/duckdb-go/v2" // the judge

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/duckdb"
	"github.com/sluice-etl/sluice/load/loadtest"
)

func open(tb testing.TB, path string, change ...func(*duckdb.Options)) *duckdb.Loader {
	tb.Helper()
	o := duckdb.Options{Path: path, Table: "contacts", Clock: clock.Fixed(loadtest.Epoch), Wait: -1}
	for _, f := range change {
		f(&o)
	}
	l, err := duckdb.New(o)
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

func commit(tb testing.TB, l *duckdb.Loader, p load.Package) load.Result {
	tb.Helper()
	r, err := l.Commit(tb.Context(), p)
	if err != nil {
		tb.Fatalf("commit package %d: %v", p.Serial, err)
	}
	return r
}

// with opens the database as another program would and runs f.
func with(tb testing.TB, path string, f func(db *sql.DB)) {
	tb.Helper()
	db, err := sql.Open("duckdb", path)
	if err != nil {
		tb.Fatal(err)
	}
	f(db)
	if err := db.Close(); err != nil {
		tb.Fatal(err)
	}
}

// run executes statements in the database.
func run(tb testing.TB, path, text string) {
	tb.Helper()
	with(tb, path, func(db *sql.DB) {
		if _, err := db.Exec(text); err != nil {
			tb.Fatalf("%s: %v", text, err)
		}
	})
}

// query returns the rows of a query by column name.
func query(tb testing.TB, path, q string) []loadtest.Row {
	tb.Helper()
	var out []loadtest.Row
	with(tb, path+"?access_mode=READ_ONLY", func(db *sql.DB) { out = ask(tb, db, q) })
	return out
}

func ask(tb testing.TB, db *sql.DB, q string) []loadtest.Row {
	tb.Helper()
	out := []loadtest.Row{}
	rows, err := db.Query(q)
	if err != nil {
		tb.Fatalf("%s: %v", q, err)
	}
	defer func() { _ = rows.Close() }()
	cols, err := rows.Columns()
	if err != nil {
		tb.Fatal(err)
	}
	for rows.Next() {
		values, into := make([]any, len(cols)), make([]any, len(cols))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			tb.Fatal(err)
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
	if err := rows.Err(); err != nil {
		tb.Fatal(err)
	}
	return out
}

// lines prints the rows of queries, each a struct as text.
func lines(tb testing.TB, path string, queries ...string) []string {
	tb.Helper()
	var out []string
	with(tb, path+"?access_mode=READ_ONLY", func(db *sql.DB) {
		for _, q := range queries {
			for _, r := range ask(tb, db, "SELECT CAST(t AS VARCHAR) AS line FROM ("+q+") t") {
				out = append(out, fmt.Sprint(r["line"]))
			}
		}
	})
	return out
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// stored returns the rows of a stored table.
func stored(tb testing.TB, path, name string) []loadtest.Row {
	tb.Helper()
	if !exists(path) {
		return []loadtest.Row{}
	}
	return query(tb, path, "FROM _sluice."+name)
}

// snapshot is the content of every file below dir.
func snapshot(tb testing.TB, dir string) string {
	tb.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			fmt.Fprintln(&b, path)
			return err
		}
		data, err := os.ReadFile(path)
		fmt.Fprintf(&b, "%s %x\n", path, sha256.Sum256(data))
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		tb.Fatal(err)
	}
	return b.String()
}

func mkdir(tb testing.TB, dir string) {
	tb.Helper()
	if err := os.MkdirAll(dir, 0o750); err != nil {
		tb.Fatal(err)
	}
}

// hinted reports whether err has a hint with the word.
func hinted(err error, word string) bool {
	var h interface{ Hint() string }
	return errors.As(err, &h) && strings.Contains(h.Hint(), word)
}

// seeded prints its seed; SLUICE_DUCKDB_SEED repeats a run.
func seeded(tb testing.TB) *rand.Rand {
	tb.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("SLUICE_DUCKDB_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			tb.Fatal(err)
		}
	}
	tb.Logf("SLUICE_DUCKDB_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // a test's choices
}
