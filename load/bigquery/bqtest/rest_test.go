package bqtest

import (
	"testing"

	"cloud.google.com/go/bigquery"
	"github.com/google/go-cmp/cmp"
)

func TestRowsAreCreatedMergedAndRead(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.query("CREATE TABLE t (id STRING NOT NULL, n INT64, ts TIMESTAMP, PRIMARY KEY (id) NOT ENFORCED) PARTITION BY TIMESTAMP_TRUNC(ts, MONTH) CLUSTER BY id")
	s.query("INSERT INTO t VALUES ('a', 1, '2024-01-01'), ('b', 2, TIMESTAMP '2024-02-01 10:00:00+02')")
	s.query(`MERGE ds.t AS t USING (SELECT 'b' AS id, 20 AS n UNION ALL SELECT 'c', 3) AS s ON t.id = s.id
		WHEN MATCHED AND s.n > t.n THEN UPDATE SET n = s.n WHEN NOT MATCHED THEN INSERT (id, n) VALUES (s.id, s.n)`)
	got := s.query("SELECT id, n, UNIX_MICROS(ts) FROM t ORDER BY id")
	want := [][]bigquery.Value{{"a", int64(1), int64(1704067200000000)}, {"b", int64(20), int64(1706774400000000)}, {"c", int64(3), nil}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
