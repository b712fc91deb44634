//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package duck

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func open(t *testing.T, setup string) *DB {
	t.Helper()
	db, err := Open(t.Context(), setup)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func text(r *Result) [][]string {
	out := make([][]string, len(r.Rows))
	for i, row := range r.Rows {
		for _, v := range row {
			if v.Null {
				v.Text = "(null)"
			}
			out[i] = append(out[i], v.Text)
		}
	}
	return out
}

func TestQueryPrintsEveryTypeAsDuckDBDoes(t *testing.T) {
	t.Parallel()
	db := open(t, "")
	const q = `SELECT 1 AS a, NULL AS n, '' AS e, 1.10::DECIMAL(5,2) AS d, [1, NULL] AS l, {'y': 'ñ', 'x': 2} AS s,
		TIMESTAMPTZ '2024-03-01 12:00:00-05' AS tz, TIMESTAMP '2024-03-01 12:00:00.000001' AS ts, DATE '0001-01-01' AS day,
		uuid '00000000-0000-0000-0000-00000000000a' AS u, 170141183460469231731687303715884105727 AS h, 1e400::VARCHAR AS big, true AS b, 2 AS a`
	res, err := db.Query(t.Context(), q, 0)
	if err != nil {
		t.Fatal(err)
	}
	want := [][]string{{
		"1", "(null)", "", "1.10", "[1, NULL]", "{'y': ñ, 'x': 2}", "2024-03-01 17:00:00+00", "2024-03-01 12:00:00.000001", "0001-01-01",
		"00000000-0000-0000-0000-00000000000a", "170141183460469231731687303715884105727", "inf", "true", "2",
	}}
	if diff := cmp.Diff(want, text(res)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var numeric []string
	for _, c := range res.Columns {
		if c.Numeric {
			numeric = append(numeric, c.Name)
		}
	}
	if diff := cmp.Diff([]string{"a", "n", "d", "h", "a"}, numeric); diff != "" {
		t.Errorf("numeric columns (-want +got):\n%s", diff)
	}
}

func TestQueryReadsWhateverReturnsRows(t *testing.T) {
	t.Parallel()
	db := open(t, "CREATE VIEW v AS SELECT range AS i FROM range(5);")
	for sql, want := range map[string]string{
		"FROM v SELECT max(i)": "4",
		"DESCRIBE v":           "i",
		"SHOW TABLES":          "v",
		"SUMMARIZE v":          "i",
		"WITH x AS (FROM v) SELECT count(*) FROM x": "5",
		"VALUES ('a')":                                  "a",
		"SELECT 1 -- the end":                           "1",
		"PIVOT v ON i % 2 USING count(*)":               "",
		"EXPLAIN SELECT 1":                              "",
		"SET threads = 1; SELECT 'after';":              "after",
		"CREATE TEMP TABLE w AS FROM v; FROM w LIMIT 1": "0",
		"CALL pragma_version()":                         "",
		"PRAGMA database_list":                          "",
	} {
		res, err := db.Query(t.Context(), sql, 10)
		if err != nil {
			t.Errorf("%s: %v", sql, err)
			continue
		}
		if len(res.Rows) == 0 {
			t.Errorf("%s: no rows", sql)
			continue
		}
		if got := res.Rows[0][0].Text; want != "" && got != want {
			t.Errorf("%s: first value %q, want %q", sql, got, want)
		}
		if len(res.Columns) != len(res.Rows[0]) {
			t.Errorf("%s: %d columns, rows of %d", sql, len(res.Columns), len(res.Rows[0]))
		}
	}
}

func TestQueryStopsAtTheLimitAndSaysSo(t *testing.T) {
	t.Parallel()
	db := open(t, "")
	for _, tc := range []struct {
		limit, rows int
		more        bool
	}{{0, 10, false}, {9, 9, true}, {10, 10, false}, {11, 10, false}} {
		res, err := db.Query(t.Context(), "SELECT * FROM range(10) ORDER BY 1 DESC", tc.limit)
		if err != nil {
			t.Fatal(err)
		}
		if len(res.Rows) != tc.rows || res.More != tc.more || res.Rows[0][0].Text != "9" {
			t.Errorf("limit %d: %d rows, more %v, first %q", tc.limit, len(res.Rows), res.More, res.Rows[0][0].Text)
		}
	}
}

func TestErrorsPointIntoTheTextAsWritten(t *testing.T) {
	t.Parallel()
	db := open(t, "")
	for sql, want := range map[string]string{
		"SELEC 1": `Parser Error: syntax error at or near "SELEC"

LINE 1: SELEC 1
        ^`,
		"SELECT 1;\n\nSELECT 2,\n  nope": `LINE 4:   nope`,
		"SELECT * FROM contacts_":        "Catalog Error: Table with name contacts_ does not exist!",
		"SELECT 1;\nSELECT 'x'::INT":     "Conversion Error: Could not convert string 'x' to INT32",
	} {
		_, err := db.Query(t.Context(), sql, 10)
		var qe *QueryError
		if !errors.As(err, &qe) {
			t.Errorf("%s: got %v, want a QueryError", sql, err)
			continue
		}
		if !strings.Contains(qe.Message, want) {
			t.Errorf("%s: got\n%s\nwant\n%s", sql, qe.Message, want)
		}
	}
	if _, err := db.Query(t.Context(), " -- nothing\n", 0); !errors.Is(err, ErrNoStatement) {
		t.Errorf("no statement: got %v", err)
	}
}

func TestExportWritesEachFormat(t *testing.T) {
	t.Parallel()
	db := open(t, "CREATE VIEW v AS FROM (VALUES (1, 'a,\"b', NULL), (2, '', 'ñ')) AS t(id, s, n);")
	dir := filepath.Join(t.TempDir(), "it's")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	want := map[Format]string{
		CSV:   "id,s,n\n1,\"a,\"\"b\",\n2,\"\",ñ\n",
		JSON:  "[\n\t{\"id\":1,\"s\":\"a,\\\"b\",\"n\":null},\n\t{\"id\":2,\"s\":\"\",\"n\":\"ñ\"}\n]\n",
		JSONL: "{\"id\":1,\"s\":\"a,\\\"b\",\"n\":null}\n{\"id\":2,\"s\":\"\",\"n\":\"ñ\"}\n",
	}
	for _, f := range Formats() {
		path := filepath.Join(dir, "x."+string(f))
		n, err := db.Export(t.Context(), "-- all\nFROM v ORDER BY id; -- done", path, f)
		if err != nil || n != 2 {
			t.Errorf("%s: %d rows, %v", f, n, err)
			continue
		}
		if f == Parquet {
			res, err := db.Query(t.Context(), "SELECT count(*), sum(id), count(n) FROM '"+strings.ReplaceAll(path, "'", "''")+"'", 0)
			if err != nil {
				t.Error(err)
				continue
			}
			if diff := cmp.Diff([][]string{{"2", "3", "1"}}, text(res)); diff != "" {
				t.Errorf("parquet (-want +got):\n%s", diff)
			}
			continue
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
			continue
		}
		if diff := cmp.Diff(want[f], string(b)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", f, diff)
		}
	}
}

func TestExportTakesDescribeAndRefusesWhatHasNoTable(t *testing.T) {
	t.Parallel()
	db := open(t, "")
	path := filepath.Join(t.TempDir(), "x.csv")
	if n, err := db.Export(t.Context(), "DESCRIBE SELECT 1 AS a", path, CSV); err != nil || n != 1 {
		t.Errorf("DESCRIBE: %d rows, %v", n, err)
	}
	var no *NotAQueryError
	if _, err := db.Export(t.Context(), "EXPLAIN SELECT 1", path, CSV); !errors.As(err, &no) || no.Hint() == "" {
		t.Errorf("EXPLAIN: got %v", err)
	}
}

func TestStatementsThatWriteFilesAreRefused(t *testing.T) {
	t.Parallel()
	db := open(t, "")
	path := filepath.Join(t.TempDir(), "x.csv")
	for _, sql := range []string{
		"COPY (SELECT 1) TO '" + path + "'",
		"COPY (SELECT 1) TO '" + path + "'; SELECT 1",
		"/* so */ EXPORT DATABASE '" + path + "'",
	} {
		_, err := db.Query(t.Context(), sql, 0)
		var no *NotAQueryError
		if !errors.As(err, &no) {
			t.Errorf("%s: got %v", sql, err)
		}
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("something was written: %v", err)
	}
}

func TestAReadWhoseFileIsReplacedIsRepeated(t *testing.T) {
	t.Parallel()
	db := open(t, "")
	path := filepath.Join(t.TempDir(), "x.parquet")
	if err := os.WriteFile(path, []byte("half a file, no magic bytes at its end"), 0o600); err != nil {
		t.Fatal(err)
	}
	good := filepath.Join(t.TempDir(), "good.parquet")
	if _, err := db.Export(t.Context(), "SELECT 42 AS answer", good, Parquet); err != nil {
		t.Fatal(err)
	}
	// The file becomes whole while the first attempt's pause runs.
	swap := time.AfterFunc(attemptPause/2, func() { _ = os.Rename(good, path) })
	defer swap.Stop()
	res, err := db.Query(t.Context(), "SELECT answer FROM read_parquet('"+path+"')", 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := res.Rows[0][0].Text; got != "42" {
		t.Errorf("got %q", got)
	}
}

func TestAnEndedContextStopsAQuery(t *testing.T) {
	t.Parallel()
	db := open(t, "")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := db.Query(ctx, "SELECT sum(a.range * b.range) FROM range(100000000) a, range(1000000) b", 0)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestViewsAreListedWithTheirComments(t *testing.T) {
	t.Parallel()
	db := open(t, `CREATE SCHEMA s; CREATE VIEW s.v AS SELECT 1 AS a; COMMENT ON VIEW s.v IS 'one';
		CREATE MACRO s.since(days) AS TABLE SELECT days AS d; COMMENT ON MACRO TABLE s.since IS 'two';`)
	got, err := db.Views(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []View{{"s", "since(days)", "two"}, {"s", "v", "one"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestVersionNamesDuckDB(t *testing.T) {
	t.Parallel()
	if v := Version(t.Context()); !strings.HasPrefix(v, "v1.") {
		t.Errorf("got %q", v)
	}
}
