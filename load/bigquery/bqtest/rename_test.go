package bqtest

import "testing"

func TestATableIsRenamedWithinItsDataset(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.query("CREATE TABLE t (n INT64) OPTIONS (description = 'mine'); INSERT INTO t VALUES (1); CREATE TABLE u (n INT64); CREATE VIEW v AS SELECT * FROM ds.t")
	s.refuse("ALTER TABLE t RENAME TO u", "Already Exists")
	s.refuse("ALTER TABLE missing RENAME TO w", "Not found")
	s.query("DROP TABLE u; ALTER TABLE t RENAME TO u")
	s.refuse("SELECT * FROM t", "Not found")
	s.refuse("SELECT * FROM v", "Not found")
	if got := s.one("SELECT n FROM u"); got != int64(1) {
		t.Errorf("got %v", got)
	}
	s.query("ALTER TABLE u RENAME TO t")
	if got := s.one("SELECT n FROM v"); got != int64(1) {
		t.Errorf("the view shows %v", got)
	}
	s.refuse("BEGIN TRANSACTION; ALTER TABLE t RENAME TO u", "not supported inside a transaction")
}

func TestATableIsNotReplacedByOneWithOtherPartitions(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.query("CREATE TABLE t (ts TIMESTAMP) PARTITION BY TIMESTAMP_TRUNC(ts, MONTH) CLUSTER BY ts")
	for _, as := range []string{"", "PARTITION BY TIMESTAMP_TRUNC(ts, DAY) CLUSTER BY ts", "PARTITION BY TIMESTAMP_TRUNC(ts, MONTH)"} {
		s.refuse("CREATE OR REPLACE TABLE t (ts TIMESTAMP) "+as, "Cannot replace a table with a different partitioning spec")
	}
	s.query("CREATE OR REPLACE TABLE t (ts TIMESTAMP, n INT64) PARTITION BY TIMESTAMP_TRUNC(ts, MONTH) CLUSTER BY ts")
	if got := s.one("SELECT COUNT(n) FROM t"); got != int64(0) {
		t.Errorf("got %v", got)
	}
}
