package bqtest

import (
	"context"
	"testing"
	"time"

	"cloud.google.com/go/bigquery"
	"cloud.google.com/go/civil"

	"github.com/sluice-etl/sluice/internal/clock"
)

func TestScriptsRunTheirStatementsInOrder(t *testing.T) {
	t.Parallel()
	s := serve(t)
	got := s.one(`DECLARE n INT64 DEFAULT 1; DECLARE a, b STRING;
		SET n = n + 1; SET (a, b) = ('x', 'y');
		CREATE TEMP TABLE w AS SELECT n AS v;
		IF n = 3 THEN SELECT 'no'; ELSEIF EXISTS (SELECT 1 FROM w WHERE v = 2) THEN SET n = 10; ELSE SET n = 20; END IF;
		BEGIN SELECT ERROR('boom'); EXCEPTION WHEN ERROR THEN SET a = @@error.message; END;
		SELECT FORMAT('%d %s', n, b);`)
	if got != "10 y" {
		t.Errorf("got %v", got)
	}
	s.refuse("SELECT * FROM w", "Not found")
	s.refuse("DECLARE n INT64; SET m = 1", "Undeclared variable: m")
	s.refuse("ASSERT (SELECT 1) = 2 AS 'they differ'", "they differ")
}

func TestAScriptHasItsStatementsAsChildJobs(t *testing.T) {
	t.Parallel()
	s := serve(t)
	_, status, err := s.try("CREATE TABLE t (n INT64); INSERT INTO t VALUES (1), (2); SELECT n FROM t")
	if err != nil {
		t.Fatal(err)
	}
	if status.Statistics.NumChildJobs != 3 {
		t.Errorf("%d child jobs", status.Statistics.NumChildJobs)
	}
}

func TestATransactionIsAllOrNothing(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.query("CREATE TABLE t (n INT64); CREATE TABLE u (n INT64)")
	s.refuse("BEGIN TRANSACTION; INSERT INTO t VALUES (1); ASSERT FALSE AS 'stop'; COMMIT TRANSACTION", "stop")
	s.query("BEGIN TRANSACTION; INSERT INTO t VALUES (2); ROLLBACK TRANSACTION")
	s.query("BEGIN; INSERT INTO t VALUES (3)") // without an end
	if got := s.one("SELECT COUNT(*) FROM t"); got != int64(0) {
		t.Errorf("%v rows", got)
	}
	s.query("BEGIN TRANSACTION; INSERT INTO t VALUES (4); INSERT INTO u SELECT n FROM t; CREATE TEMP TABLE x AS SELECT 1 AS n; COMMIT TRANSACTION")
	if got := s.one("SELECT COUNT(*) FROM t JOIN u USING (n)"); got != int64(1) {
		t.Errorf("%v rows", got)
	}
	s.refuse("BEGIN TRANSACTION; CREATE TABLE v (n INT64)", "not supported inside a transaction")
	s.refuse("COMMIT TRANSACTION", "no active transaction")
}

// run runs statements in a session.
func (r *session) run(sql string) error {
	list, err := parseScript(sql)
	if err != nil {
		return err
	}
	r.text = sql
	return r.script(list)
}

// between runs f while a script's transaction has changed t and is open, and then
// what the transaction goes on with.
func between(s *service, change string, f func(), then ...func(*session)) {
	s.t.Helper()
	if err := s.insertRows(context.Background(), tableRef{s.Project(), "ds", "gate"}, nil); err == nil {
		s.t.Fatal("gate is there")
	}
	conn, err := s.db.Conn(context.Background())
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	r := &session{
		s: s.Server, ctx: context.Background(), conn: conn, defaultDataset: "ds",
		vars: map[string]*variable{}, temps: map[string]*table{}, named: map[string]val{},
	}
	if err := r.run("BEGIN TRANSACTION;" + change); err != nil {
		s.t.Fatal(err)
	}
	f()
	for _, g := range then {
		g(r)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := r.endTransaction(true); err != nil {
		s.t.Fatal(err)
	}
}

// waits returns once so many statements wait for the transaction that has a table.
func (s *service) waits(name string, n int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	for {
		s.mu.Lock()
		waiting := s.datasets["ds"].tables[name].waiting
		s.mu.Unlock()
		if waiting >= n {
			return
		}
		if err := clock.Sleep(ctx, time.Millisecond); err != nil {
			s.t.Fatalf("no statement waits for %s: %v", name, err)
		}
	}
}

func TestOfTwoTransactionsThatChangeATableTheLaterIsAborted(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.query("CREATE TABLE t AS SELECT 1 AS n")
	between(s, "UPDATE t SET n = 2 WHERE TRUE", func() {
		s.refuse("BEGIN TRANSACTION; UPDATE t SET n = 3 WHERE TRUE; COMMIT TRANSACTION", "aborted due to concurrent update")
		s.query("BEGIN TRANSACTION; INSERT INTO t VALUES (7); COMMIT TRANSACTION") // appending conflicts with nothing
		if got := s.one("SELECT MIN(n) FROM t"); got != int64(1) {
			t.Errorf("a reader sees %v before the commit", got)
		}
	})
	if got := s.one("SELECT MIN(n) FROM t"); got != int64(2) {
		t.Errorf("a reader sees %v after the commit", got)
	}
}

func TestDMLOutsideOfTransactionsWaitsForOne(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.query("CREATE TABLE t AS SELECT 1 AS n")
	done := make(chan error, 1)
	between(s, "UPDATE t SET n = n + 1 WHERE TRUE", func() {
		go func() {
			_, _, err := s.try("UPDATE t SET n = n * 10 WHERE TRUE")
			done <- err
		}()
		s.waits("t", 1)
	})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := s.one("SELECT n FROM t"); got != int64(20) {
		t.Errorf("n is %v", got)
	}
}

func TestATableThatATransactionChangesIsNeitherReplacedDroppedNorRenamed(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.query("CREATE TABLE t AS SELECT 1 AS n")
	between(s, "UPDATE t SET n = 2 WHERE TRUE", func() {
		s.refuse("CREATE OR REPLACE TABLE t (m INT64)", "aborted due to concurrent update")
		s.refuse("DROP TABLE t", "is changed by a transaction")
		s.refuse("ALTER TABLE t RENAME TO u", "is changed by a transaction")
	})
	if got := s.one("SELECT n FROM t"); got != int64(2) {
		t.Errorf("n is %v", got)
	}
}

func TestATransactionIsAbortedIfRowsHaveChangedSinceItBegan(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.query("CREATE TABLE t AS SELECT 1 AS n; CREATE TABLE u AS SELECT 1 AS n")
	between(s, "INSERT INTO u VALUES (2)", func() {
		s.query("UPDATE t SET n = 2 WHERE TRUE")
	}, func(r *session) {
		if err := r.run("UPDATE u SET n = 3 WHERE TRUE"); err != nil {
			t.Errorf("another table: %v", err)
		}
		refuses(t, "the table", r.run("UPDATE t SET n = 3 WHERE TRUE"), "aborted due to concurrent update")
	})
	if got := s.one("SELECT n FROM t"); got != int64(2) {
		t.Errorf("n is %v", got)
	}
}

func TestAStatementThatWaitsCanBeCancelled(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.query("CREATE TABLE t AS SELECT 1 AS n")
	between(s, "UPDATE t SET n = 2 WHERE TRUE", func() {
		done := make(chan error, 1)
		go func() {
			_, _, err := s.try("UPDATE t SET n = 3 WHERE TRUE; SELECT 1", func(q *bigquery.Query) { q.JobID = "waits" })
			done <- err
		}()
		s.waits("t", 1)
		j, err := s.client.JobFromID(t.Context(), "waits")
		if err == nil {
			err = j.Cancel(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		refuses(t, "the job", <-done, "cancelled")
	})
	if got := s.one("SELECT n FROM t"); got != int64(2) {
		t.Errorf("n is %v", got)
	}
}

func TestParametersHaveTheirTypes(t *testing.T) {
	t.Parallel()
	s := serve(t)
	with := func(params ...bigquery.QueryParameter) func(*bigquery.Query) {
		return func(q *bigquery.Query) { q.Parameters = params }
	}
	at := time.Date(2024, 1, 2, 3, 4, 5, 6000, time.UTC)
	got := s.query("SELECT @s, @n + 1, @ts, @d, @l[OFFSET(1)], @f", with(
		bigquery.QueryParameter{Name: "s", Value: "it's \x00 ñ"}, bigquery.QueryParameter{Name: "n", Value: 41}, bigquery.QueryParameter{Name: "ts", Value: at},
		bigquery.QueryParameter{Name: "d", Value: civil.DateOf(at)}, bigquery.QueryParameter{Name: "l", Value: []string{"a", "b"}}, bigquery.QueryParameter{Name: "f", Value: 0.1}))[0]
	for i, want := range []bigquery.Value{"it's \x00 ñ", int64(42), at, civil.DateOf(at), "b", 0.1} {
		if got[i] != want {
			t.Errorf("parameter %d is %v, want %v", i, got[i], want)
		}
	}
	if got := s.one("SELECT ? || ?", with(bigquery.QueryParameter{Value: "a"}, bigquery.QueryParameter{Value: "b"})); got != "ab" {
		t.Errorf("got %v", got)
	}
	s.refuse("SELECT @n = 'a'", "No matching signature", with(bigquery.QueryParameter{Name: "n", Value: 1}))
}

func TestViewsAndTableFunctionsStandForTheirQueries(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.query("CREATE TABLE t AS SELECT x AS n FROM UNNEST([1, 2, 3]) AS x")
	s.query("CREATE VIEW v OPTIONS (description = 'odd ones') AS SELECT n, n * 2 AS twice FROM ds.t WHERE MOD(n, 2) = 1")
	s.query("CREATE OR REPLACE TABLE FUNCTION above(least INT64) AS SELECT n FROM ds.v WHERE n > least")
	if got := s.one("SELECT SUM(twice) FROM v"); got != int64(8) {
		t.Errorf("the view gives %v", got)
	}
	if got := s.one("SELECT n FROM above(1)"); got != int64(3) {
		t.Errorf("the function gives %v", got)
	}
	s.refuse("SELECT * FROM above('a')", "coerced to INT64")
	s.refuse("INSERT INTO v (n) VALUES (1)", "currently a VIEW")
	m, err := s.ds.Table("v").Metadata(t.Context())
	if err != nil || m.Type != bigquery.ViewTable || m.Description != "odd ones" || len(m.Schema) != 2 {
		t.Errorf("metadata %+v, %v", m, err)
	}
}

func TestInformationSchemaTellsOfTheTables(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.query("CREATE TABLE t (id STRING NOT NULL, ts TIMESTAMP, PRIMARY KEY (id) NOT ENFORCED) PARTITION BY DATE(ts) CLUSTER BY id")
	s.query("INSERT INTO t VALUES ('a', '2024-03-01'), ('b', '2024-03-01 10:00:00'), ('c', NULL)")
	for sql, want := range map[string]bigquery.Value{
		"SELECT STRING_AGG(partition_id || total_rows, ' ' ORDER BY partition_id) FROM ds.INFORMATION_SCHEMA.PARTITIONS":                                         nil,
		"SELECT STRING_AGG(FORMAT('%s:%d', partition_id, total_rows), ' ' ORDER BY partition_id) FROM ds.INFORMATION_SCHEMA.PARTITIONS":                          "20240301:2 __NULL__:1",
		"SELECT STRING_AGG(column_name || data_type || is_nullable || is_partitioning_column, ' ' ORDER BY ordinal_position) FROM ds.INFORMATION_SCHEMA.COLUMNS": "idSTRINGNONO tsTIMESTAMPYESYES",
		"SELECT column_name FROM ds.INFORMATION_SCHEMA.KEY_COLUMN_USAGE WHERE table_name = 't'":                                                                  "id",
		"SELECT table_type FROM ds.INFORMATION_SCHEMA.TABLES":                                                                                                    "BASE TABLE",
	} {
		if want == nil {
			s.refuse(sql, "No matching signature")
			continue
		}
		if got := s.one(sql); got != want {
			t.Errorf("%s is %v, want %v", sql, got, want)
		}
	}
}
