package bqtest

import (
	"os"
	"strings"
	"testing"
)

func TestStatementsThatBreakARuleAreRefusedAndChangeNothing(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("testdata/refused.txt")
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t)
	s.query(`CREATE TABLE t (id STRING, n INT64, j JSON, f FLOAT64, ts TIMESTAMP, d DATE, b BOOL, y BYTES);
		CREATE TABLE u (id STRING NOT NULL, n INT64, PRIMARY KEY (id) NOT ENFORCED);
		CREATE TABLE p (n INT64, ts TIMESTAMP) PARTITION BY TIMESTAMP_TRUNC(ts, MONTH);
		CREATE VIEW v AS SELECT id FROM ds.t; CREATE TABLE FUNCTION above(least INT64) AS SELECT n FROM ds.t WHERE n > least;
		INSERT INTO t (id, n) VALUES ('a', 1)`)
	for i, line := range strings.Split(string(b), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		sql, message, ok := strings.Cut(line, " => ")
		if !ok {
			t.Fatalf("line %d has no message", i+1)
		}
		s.refuse(sql, message)
	}
	if got := s.one("SELECT STRING_AGG(id || n) FROM (SELECT id, CAST(n AS STRING) AS n FROM t)"); got != "a1" {
		t.Errorf("t has %v", got)
	}
}
