package bqtest

import (
	"testing"

	"cloud.google.com/go/bigquery"
)

// costed has a table of three months with 10 rows each: id is 2+1 bytes, n and ts
// are 8.
func costed(t *testing.T) *service {
	t.Helper()
	s := serve(t)
	s.query("CREATE TABLE t (id STRING, n INT64, ts TIMESTAMP) PARTITION BY TIMESTAMP_TRUNC(ts, MONTH)")
	s.query("INSERT INTO t SELECT 'x', x, TIMESTAMP_ADD(m, INTERVAL x HOUR) FROM UNNEST(GENERATE_ARRAY(1, 10)) AS x, UNNEST([TIMESTAMP '2024-01-01', '2024-02-01', '2024-03-01']) AS m")
	s.query("CREATE TABLE s AS SELECT 'x' AS id, 5 AS n, TIMESTAMP '2024-02-01 05:00:00' AS ts")
	return s
}

func TestBytesProcessedAreThoseOfTheColumnsAndPartitionsRead(t *testing.T) {
	t.Parallel()
	s := costed(t)
	s.query("CREATE VIEW v AS SELECT * FROM ds.t")
	for sql, want := range map[string]int64{
		"SELECT 1":                        0,
		"SELECT COUNT(*) FROM t":          0,
		"SELECT n FROM t":                 30 * 8,
		"SELECT id FROM t":                30 * 3,
		"SELECT n FROM (SELECT * FROM t)": 30 * 8,
		"SELECT n FROM v":                 30 * 8,
		"SELECT a.n FROM t AS a JOIN t AS b ON a.n = b.n":                                 30 * 8,
		"SELECT n FROM t WHERE ts >= '2024-02-01' AND ts < '2024-03-01'":                  10 * 16,
		"SELECT n FROM v WHERE ts >= '2024-02-01' AND ts < '2024-03-01'":                  10 * 16,
		"SELECT n FROM t WHERE ts BETWEEN '2024-02-02' AND '2024-02-03'":                  10 * 16,
		"SELECT n FROM t WHERE ts < '2024-01-05' OR (ts >= '2024-03-01' AND n = 1)":       20 * 16,
		"SELECT n FROM t WHERE ts < '2024-01-05' OR n = 1":                                30 * 16,
		"SELECT n FROM t WHERE '2024-03-01' <= ts":                                        10 * 16,
		"SELECT n FROM t WHERE ts IN ('2024-01-01', TIMESTAMP '2024-02-01')":              20 * 16,
		"SELECT n FROM t WHERE ts > TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 106 DAY)": 10 * 16,
		"SELECT n FROM t WHERE ts IS NULL":                                                0,
		"SELECT n FROM t WHERE NOT ts < '2024-03-01'":                                     30 * 16,
		"SELECT n FROM t WHERE TIMESTAMP_TRUNC(ts, MONTH) = '2024-02-01'":                 30 * 16,
		"SELECT n FROM t WHERE ts = (SELECT MAX(ts) FROM s)":                              30*16 + 8,
		"SELECT t.n FROM t JOIN s ON t.ts = s.ts":                                         30*16 + 8,
		"SELECT n FROM t WHERE FALSE OR ts >= '2024-03-01'":                               30 * 16,
	} {
		if got := s.processed(sql); got != want {
			t.Errorf("%s processes %d bytes, want %d", sql, got, want)
		}
	}
}

func TestDMLProcessesAllColumnsOfThePartitionsItGoesThrough(t *testing.T) {
	t.Parallel()
	const row = 3 + 8 + 8
	for sql, want := range map[string]int64{
		"UPDATE t SET n = 0 WHERE ts >= '2024-03-01'":                   10*8 + 10*row,
		"DELETE FROM t WHERE ts >= '2024-03-01' AND n = 5":              10*16 + 10*row,
		"DELETE FROM t WHERE n = 5":                                     30*8 + 30*row,
		"INSERT INTO s SELECT id, n, ts FROM t WHERE ts < '2024-02-01'": 10 * row,
		"MERGE t USING s ON t.id = s.id AND t.ts >= '2024-02-01' AND t.ts < '2024-03-01' AND t.n = s.n WHEN MATCHED THEN UPDATE SET n = s.n": 10*row + 10*row + 11,
		"MERGE t USING s ON t.n = s.n WHEN MATCHED THEN DELETE":                                                                              30*8 + 30*row + 8,
		"MERGE t USING s ON t.n = s.n AND t.ts >= '2024-03-01' WHEN NOT MATCHED THEN INSERT (n) VALUES (s.n)":                                10*16 + 8,
		"MERGE t USING s ON t.n = s.n AND t.ts >= '2024-03-01' WHEN NOT MATCHED BY SOURCE THEN DELETE":                                       30*16 + 30*row + 8,
		"MERGE t USING s ON FALSE WHEN NOT MATCHED BY SOURCE AND t.ts >= '2024-03-01' THEN DELETE":                                           10*8 + 10*row,
	} {
		s := costed(t)
		if got := s.processed(sql); got != want {
			t.Errorf("%s processes %d bytes, want %d", sql, got, want)
		}
	}
}

func TestAQueryIsBilledInWholeMBAndFor10ATableAtLeast(t *testing.T) {
	t.Parallel()
	s := costed(t)
	s.query("CREATE TABLE large AS SELECT REPEAT('x', 1000000) AS x, 1 AS n FROM UNNEST(GENERATE_ARRAY(1, 11)) AS i")
	for sql, want := range map[string]int64{
		"SELECT n FROM t":                            10 << 20,
		"SELECT t.n FROM t JOIN large USING (n)":     20 << 20,
		"SELECT LENGTH(x) FROM large":                11 << 20, // of 11,000,022 bytes
		"SELECT COUNT(*) FROM large":                 0,
		"SELECT 1":                                   0,
		"UPDATE large SET n = 2 WHERE n = 1":         11 << 20,
		"SELECT n FROM t UNION ALL SELECT n FROM t ": 10 << 20,
	} {
		_, status, err := s.try(sql)
		if err != nil {
			t.Fatal(err)
		}
		if got := status.Statistics.Details.(*bigquery.QueryStatistics).TotalBytesBilled; got != want {
			t.Errorf("%s is billed %d, want %d", sql, got, want)
		}
	}
}

func TestAQueryThatAppliesChangesReadsAllPartitions(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	sv := &service{t, st.s, st.client(), st.client().Dataset("crm")}
	if err := sv.ds.Create(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	sv.query("CREATE TABLE crm.contacts (id STRING NOT NULL, d DATE, PRIMARY KEY (id) NOT ENFORCED) PARTITION BY DATE_TRUNC(d, MONTH)")
	sv.query("INSERT INTO crm.contacts VALUES ('a', '2026-01-01'), ('b', '2026-02-01')")
	const sql = "SELECT id FROM crm.contacts WHERE d >= '2026-02-01'"
	if got := sv.processed(sql); got != 3+8 {
		t.Errorf("before: %d bytes", got)
	}
	ref := tableRef{st.s.Project(), "crm", "contacts"}
	st.connect(t.Context()).ok(protoReq(ref.defaultStream(), message("id:string, d:string, _CHANGE_TYPE:string"), wire("c", "2026-01-02", "UPSERT")))
	if got := sv.processed(sql); got != 3*(3+8) {
		t.Errorf("a query that applies changes: %d bytes", got)
	}
	if got := sv.processed(sql); got != 3+8 {
		t.Errorf("the next: %d bytes", got)
	}
}

func TestAQueryBeyondMaximumBytesBilledIsRefusedBeforeItRuns(t *testing.T) {
	t.Parallel()
	s := costed(t)
	limit := func(n int64) func(*bigquery.Query) { return func(q *bigquery.Query) { q.MaxBytesBilled = n } }
	s.refuse("DELETE FROM t WHERE n = 5", "exceeded limit for bytes billed: 10485759. 10485760 or higher required", limit(10<<20-1))
	if got := s.one("SELECT COUNT(*) FROM t"); got != int64(30) {
		t.Errorf("%v rows are left", got)
	}
	s.query("DELETE FROM t WHERE n = 5", limit(10<<20))
}

func TestADryRunTellsBytesAndDoesNothing(t *testing.T) {
	t.Parallel()
	s := costed(t)
	q := s.client.Query("DELETE FROM ds.t WHERE ts >= '2024-03-01'")
	q.DryRun = true
	j, err := q.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := j.LastStatus().Statistics.TotalBytesProcessed; got != 10*8+10*19 {
		t.Errorf("%d bytes", got)
	}
	if got := s.one("SELECT COUNT(*) FROM t"); got != int64(30) {
		t.Errorf("%v rows are left", got)
	}
}

func TestATableMayRequireAFilterOnItsPartitions(t *testing.T) {
	t.Parallel()
	s := costed(t)
	s.query("ALTER TABLE t SET OPTIONS (require_partition_filter = TRUE)")
	s.refuse("SELECT n FROM t", "without a filter over column(s) 'ts'")
	s.refuse("SELECT n FROM t WHERE DATE(ts) = '2024-01-01'", "without a filter over column(s) 'ts'")
	s.query("SELECT n FROM t WHERE ts > '2024-01-01'")
	s.refuse("MERGE t USING s ON t.n = s.n WHEN MATCHED THEN DELETE", "without a filter over column(s) 'ts'")
	s.query("MERGE t USING s ON t.n = s.n AND t.ts >= '2024-02-01' WHEN MATCHED THEN DELETE")
}
