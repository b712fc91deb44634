package bqtest

import (
	"encoding/json"
	"testing"

	"cloud.google.com/go/bigquery"
)

func TestExpressionsHaveTheValuesOfGoogleSQL(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for sql, want := range map[string]string{
		"7 / 2":                               "3.5",
		"DIV(7, 2) + MOD(-7, 2)":              "2",
		"LEAST(1, NULL, 2)":                   "null",
		"GREATEST(1, 2.5)":                    "2.5",
		"IF(NULL, 1, 2)":                      "2",
		"COALESCE(NULL, 'x')":                 `"x"`,
		"NULLIF(1, 1)":                        "null",
		"CASE 2 WHEN 1 THEN 'a' ELSE 'b' END": `"b"`,
		"1 IN (2, NULL)":                      "null",
		"CAST('nan' AS FLOAT64) = CAST('nan' AS FLOAT64)":                                    "false",
		"CAST(2.5 AS INT64)":                                                                 "3",
		"CAST(1e6 AS STRING)":                                                                `"1000000"`,
		"SAFE_CAST('1.5' AS INT64)":                                                          "null",
		"CAST(TIMESTAMP '2024-01-01 00:00:00.5+02' AS STRING)":                               `"2023-12-31 22:00:00.500+00"`,
		"TO_HEX(MD5('abc'))":                                                                 `"900150983cd24fb0d6963f7d28e17f72"`,
		"TO_HEX(SHA256(b'abc'))":                                                             `"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"`,
		"TIMESTAMP_DIFF('2024-01-02', TIMESTAMP '2024-01-01 01:00:00', DAY)":                 "0",
		"DATE_DIFF(DATE '2024-01-07', DATE '2024-01-06', WEEK)":                              "1",
		"DATE_DIFF(DATE '2024-02-01', DATE '2024-01-31', MONTH)":                             "1",
		"CAST(DATE(TIMESTAMP '2024-01-01', 'America/Bogota') AS STRING)":                     `"2023-12-31"`,
		"UNIX_MICROS(TIMESTAMP_TRUNC('2024-02-29 23:59:59.999999', MONTH))":                  "1706745600000000",
		"UNIX_SECONDS(TIMESTAMP_SUB('2024-01-01', INTERVAL 90 MINUTE))":                      "1704061800",
		"FORMAT_TIMESTAMP('%F %H:%M:%E6S', '2024-01-02 03:04:05.000006')":                    `"2024-01-02 03:04:05.000006"`,
		"EXTRACT(DAYOFWEEK FROM DATE '2024-06-16')":                                          "1",
		"JSON_VALUE('{\"a\": {\"b\": [1, \"x\"]}}', '$.a.b[1]')":                             `"x"`,
		"JSON_VALUE(JSON '{\"a\": {}}', '$.a')":                                              "null",
		`ARRAY_TO_STRING(JSON_VALUE_ARRAY('{"a": ["x\\\"y", 1.50, true]}', '$.a'), ' ')`:     `"x\"y 1.50 true"`,
		`(SELECT COUNTIF(x IS NULL) FROM UNNEST(JSON_VALUE_ARRAY(JSON '["x", null]')) AS x)`: "1",
		"ARRAY_LENGTH(JSON_VALUE_ARRAY('[]'))":                                               "0",
		`JSON_VALUE_ARRAY('[1, [2]]') IS NULL AND JSON_VALUE_ARRAY(JSON '{"a": null}', '$.a') IS NULL AND JSON_VALUE_ARRAY('"x"') IS NULL`: "true",
		"TO_JSON_STRING(STRUCT(1 AS a, 'q\"' AS b, [TRUE] AS c))":                                                                          `"{\"a\":1,\"b\":\"q\\\"\",\"c\":[true]}"`,
		"TO_JSON_STRING(9007199254740993)":                                           `"\"9007199254740993\""`,
		"FORMAT('%t-%t', CAST(NULL AS STRING), CAST(NULL AS DATE))":                  `"NULL-NULL"`,
		"FORMAT('%d%t', CAST(NULL AS INT64), 'x')":                                   "null",
		"FORMAT('%.2f %4d', 1.005, 7)":                                               `"1.00    7"`,
		"FORMAT('%05d %s %t', 42, 'x', TRUE)":                                        `"00042 x true"`,
		"(SELECT STRING_AGG(x, '|' ORDER BY x DESC) FROM UNNEST(['a', 'b']) AS x)":   `"b|a"`,
		"(SELECT COUNTIF(x > 1) FROM UNNEST([1, 2, 3]) AS x)":                        "2",
		"(SELECT BIT_XOR(x) FROM UNNEST([5, 3]) AS x)":                               "6",
		"[1, 2, 3][OFFSET(1)] + [1, 2][ORDINAL(1)]":                                  "3",
		"[1][SAFE_OFFSET(4)]":                                                        "null",
		"ARRAY(SELECT x * 2 FROM UNNEST([1, 2]) AS x WITH OFFSET o ORDER BY o DESC)": "[4,2]",
		"STRUCT(1, 'a') = STRUCT(1, 'a')":                                            "true",
		"SUBSTR('abc', -2, 1)":                                                       `"b"`,
		"'a' || NULL":                                                                "null",
		"REGEXP_EXTRACT('ab12', '[0-9]+')":                                           `"12"`,
		"CURRENT_TIMESTAMP() = TIMESTAMP '2024-06-15 12:00:00'":                      "true",
		"EXISTS(SELECT 1 FROM UNNEST([1]) AS x WHERE x = 2)":                         "false",
		"SAFE_DIVIDE(1, 0)":                                                          "null",
		"-9223372036854775808":                                                       "-9223372036854775808",
	} {
		got, err := json.Marshal(s.one("SELECT " + sql))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("%s is %s, want %s", sql, got, want)
		}
	}
}

func TestQueriesAreRefusedWithTheServicesMessage(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.query("CREATE TABLE t (id STRING, n INT64, j JSON, f FLOAT64)")
	s.query("CREATE TABLE u (id STRING)")
	for sql, message := range map[string]string{
		"SELECT id = n FROM t":                                     "No matching signature for operator = for argument types: STRING, INT64 at [1:11]",
		"SELECT nope FROM t":                                       "Unrecognized name: nope at [1:8]",
		"SELECT id FROM t, u":                                      "Column name id is ambiguous",
		"SELECT n || 'x' FROM t":                                   "No matching signature for operator ||",
		"SELECT CAST(n AS DATE) FROM t":                            "Invalid cast from INT64 to DATE",
		"SELECT NO_SUCH(n) FROM t":                                 "Function not found: NO_SUCH at [1:8]",
		"SELECT list_sum([1])":                                     "Function not found: LIST_SUM",
		"SELECT n::STRING FROM t":                                  "Syntax error",
		"SELECT id FROM t GROUP BY j":                              "Grouping by expressions of type JSON is not allowed",
		"SELECT j = j FROM t":                                      "Equality is not defined for arguments of type JSON",
		"SELECT DISTINCT j FROM t":                                 "cannot be used in SELECT DISTINCT",
		"SELECT id FROM t ORDER BY j":                              "ORDER BY does not support expressions of type JSON",
		"SELECT id, COUNT(*) FROM t":                               "GROUP BY",
		"SELECT id FROM t WHERE COUNT(*) > 1":                      "not allowed",
		"SELECT id FROM t QUALIFY n = 1":                           "requires analytic function",
		"SELECT id FROM t WHERE n":                                 "WHERE clause should return type BOOL",
		"SELECT IF(n, 1, 2) FROM t":                                "No matching signature for function IF",
		"SELECT 1 UNION SELECT 2":                                  "Expected keyword ALL or keyword DISTINCT",
		"SELECT 1 UNION ALL SELECT 'a'":                            "incompatible types",
		"SELECT 1 / 0":                                             "division by zero",
		"SELECT 9223372036854775807 + 1":                           "verflow",
		"SELECT SUM(x) FROM UNNEST([9223372036854775807, 1]) AS x": "out of range",
		"SELECT [1][OFFSET(2)]":                                    "out of bounds",
		"SELECT CAST('1.5' AS INT64)":                              "Could not cast literal",
		"SELECT TIMESTAMP '2024-13-01'":                            "Invalid TIMESTAMP literal",
		"SELECT * FROM gone":                                       "Not found: Table test-project:ds.gone",
		"SELECT id AS hash FROM t":                                 "Unexpected keyword HASH",
		"SELECT ARRAY_AGG(x) FROM UNNEST([1, NULL]) AS x":          "null element",
		"SELECT 1 AS a, 2 AS a":                                    "Duplicate column names",
		"SELECT f FROM (SELECT 1 AS x)":                            "Unrecognized name: f",
		"SELECT ROW_NUMBER() FROM t":                               "without an OVER clause",
		"SELECT SUM(COUNT(*)) FROM t":                              "Aggregations of aggregations",
		"UPDATE t SET n = 1":                                       "UPDATE must have a WHERE clause",
		"DELETE FROM t":                                            "DELETE must have a WHERE clause",
		"UPDATE t SET n = 'a' WHERE TRUE":                          "cannot be assigned to n, which has type INT64",
		"INSERT INTO t (id) VALUES (1)":                            "cannot be assigned to id",
		"INSERT INTO t (id) SELECT 1":                              "cannot be inserted into column id",
		"INSERT INTO t (id, id) VALUES ('a', 'b')":                 "duplicate name",
		"CREATE TABLE t (id STRING)":                               "Already Exists: Table test-project:ds.t",
		"CREATE TABLE x AS SELECT 1":                               "must be named",
		"ALTER TABLE t ADD COLUMN r STRING NOT NULL":               "Cannot add required fields",
		"DROP VIEW t":                                              "currently a TABLE",
		"SELECT 'it''s'":                                           "Syntax error",
		"SELECT FROM t":                                            "Syntax error: Unexpected keyword FROM at [1:8]",
		"SELECT 1; SELECT nope":                                    "Unrecognized name: nope at [1:18]",
		"SELECT @p":                                                "Query parameter 'p' not found",
	} {
		s.refuse(sql, message)
	}
}

func TestNullsComeFirstInAscendingOrderAndLastInDescending(t *testing.T) {
	t.Parallel()
	s := serve(t)
	if got := s.query("SELECT x FROM UNNEST([2, NULL, 1]) AS x ORDER BY x"); got[0][0] != nil || got[2][0] != int64(2) {
		t.Errorf("ascending %v", got)
	}
	if got := s.query("SELECT x FROM UNNEST([2, NULL, 1]) AS x ORDER BY x DESC"); got[0][0] != int64(2) || got[2][0] != nil {
		t.Errorf("descending %v", got)
	}
}

func TestQueriesJoinGroupAndQualify(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.query("CREATE TABLE a AS SELECT 1 AS k, 'x' AS v UNION ALL SELECT 2, 'y' UNION ALL SELECT 2, 'z'")
	s.query("CREATE TABLE b AS SELECT 2 AS k, 10 AS n UNION ALL SELECT 3, 20")
	for sql, want := range map[string]string{
		"SELECT * FROM a JOIN b USING (k) ORDER BY v":                                                          `[[2,"y",10],[2,"z",10]]`,
		"SELECT k, n FROM a FULL JOIN b USING (k) WHERE v IS NULL OR v = 'x' ORDER BY k":                       `[[1,null],[3,20]]`,
		"SELECT k, COUNT(*) AS c FROM a GROUP BY k HAVING c > 1":                                               `[[2,2]]`,
		"SELECT v FROM a WHERE TRUE QUALIFY ROW_NUMBER() OVER (PARTITION BY k ORDER BY v DESC) = 1 ORDER BY 1": `[["x"],["z"]]`,
		"WITH w AS (SELECT k FROM a) SELECT SUM(k) FROM w":                                                     `[[5]]`,
		"SELECT * EXCEPT (v) FROM a WHERE v IN (SELECT v FROM a WHERE k = 1)":                                  `[[1]]`,
		"SELECT a.v FROM a WHERE EXISTS (SELECT 1 FROM b WHERE b.k = a.k) ORDER BY v":                          `[["y"],["z"]]`,
		"SELECT DISTINCT k FROM a ORDER BY k DESC":                                                             `[[2],[1]]`,
		"(SELECT 1 AS x) UNION ALL SELECT 2.5 ORDER BY x DESC":                                                 `[[2.5],[1]]`,
		"SELECT k, SUM(COUNT(*)) OVER () FROM a GROUP BY k ORDER BY k":                                         `[[1,3],[2,3]]`,
	} {
		got, err := json.Marshal(s.query(sql))
		if err != nil || string(got) != want {
			t.Errorf("%s gives %s (%v), want %s", sql, got, err, want)
		}
	}
}

func TestAMergeThatMatchesARowTwiceFailsAndChangesNothing(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.query("CREATE TABLE t AS SELECT 'a' AS id, 1 AS n")
	s.refuse("MERGE t USING UNNEST(['a', 'a']) AS x ON t.id = x WHEN MATCHED THEN UPDATE SET n = 2", "at most one source row")
	s.refuse("UPDATE t SET n = x FROM UNNEST([1, 2]) AS x WHERE TRUE", "at most one source row")
	if got := s.one("SELECT n FROM t"); got != int64(1) {
		t.Errorf("n is %v", got)
	}
}

func TestEveryClauseOfAMergeApplies(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.query("CREATE TABLE t AS SELECT x AS id, 'old' AS v FROM UNNEST([1, 2, 3, 4]) AS x")
	_, status, err := s.try(`MERGE t USING (SELECT * FROM UNNEST([STRUCT(1 AS id, 'new' AS v), (2, NULL), (9, 'new')])) AS s ON t.id = s.id
		WHEN MATCHED AND s.v IS NULL THEN DELETE WHEN MATCHED THEN UPDATE SET v = s.v
		WHEN NOT MATCHED THEN INSERT ROW WHEN NOT MATCHED BY SOURCE AND t.id = 3 THEN DELETE WHEN NOT MATCHED BY SOURCE THEN UPDATE SET v = 'kept'`)
	if err != nil {
		t.Fatal(err)
	}
	stats := status.Statistics.Details.(*bigquery.QueryStatistics)
	if d := stats.DMLStats; d.InsertedRowCount != 1 || d.UpdatedRowCount != 2 || d.DeletedRowCount != 2 || stats.NumDMLAffectedRows != 5 {
		t.Errorf("statistics %+v, %d rows", d, stats.NumDMLAffectedRows)
	}
	got, _ := json.Marshal(s.query("SELECT id, v FROM t ORDER BY id"))
	if want := `[[1,"new"],[4,"kept"],[9,"new"]]`; string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
