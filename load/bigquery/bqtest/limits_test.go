package bqtest

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/bigquery"
	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/pqarrow"
	"google.golang.org/grpc/codes"
)

// days makes rows of so many days.
const days = "SELECT 1 AS n, DATE_ADD(DATE '2000-01-01', INTERVAL x DAY) AS d FROM UNNEST(GENERATE_ARRAY(@from, @until)) AS x"

func numbers(from, until int64) func(*bigquery.Query) {
	return func(q *bigquery.Query) {
		q.Parameters = []bigquery.QueryParameter{{Name: "from", Value: from}, {Name: "until", Value: until}}
	}
}

func TestAStatementChangesUpTo4000PartitionsAndATableHasUpTo10000(t *testing.T) {
	t.Parallel()
	s := serve(t)
	const tooMany = "Too many partitions produced by query, allowed 4000"
	s.query("CREATE TABLE t (n INT64, d DATE) PARTITION BY d")
	s.refuse("INSERT INTO t "+days, tooMany, numbers(0, 4000))
	s.query("INSERT INTO t "+days, numbers(0, 3999))
	s.query("INSERT INTO t "+days, numbers(4000, 7999))
	s.refuse("CREATE TABLE made PARTITION BY d AS "+days, tooMany, numbers(0, 4000))
	s.refuse("UPDATE t SET n = 2 WHERE TRUE", tooMany)
	s.refuse("DELETE FROM t WHERE TRUE", tooMany)
	s.refuse("MERGE t USING (SELECT 1 AS n) AS s ON t.n = s.n WHEN MATCHED THEN DELETE", tooMany)
	// A row that moves changes the partition that it leaves, and that to which it goes.
	s.refuse("UPDATE t SET d = DATE_SUB(d, INTERVAL 4000 DAY) WHERE d < '2008-01-01'", tooMany)
	s.query("UPDATE t SET n = 2 WHERE d < '2008-01-01'")
	s.refuse("INSERT INTO t "+days, "Too many partitions", numbers(8000, 10_000))
	s.query("INSERT INTO t "+days, numbers(8000, 9999))
	if _, err := s.load("", `{"n": 1, "d": "1999-01-01"}`); err == nil || !strings.Contains(err.Error(), "can have 10000") {
		t.Errorf("a load of one more: %v", err)
	}
	if got := s.one("SELECT COUNT(DISTINCT d) FROM t"); got != int64(10_000) {
		t.Errorf("%v partitions", got)
	}
}

func TestInATransactionRowsThatWereJustStreamedDoNotChange(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("contacts", "id:STRING, n:INT64")
	client := st.client()
	c := st.connect(t.Context())
	c.ok(protoReq(ref.defaultStream(), idOnly, wire("a"), wire("b")))
	run := func(sql string) error {
		_, err := client.Query(sql).Read(t.Context())
		return err
	}
	if err := run("INSERT INTO crm.contacts (id) VALUES ('c')"); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		"DELETE FROM crm.contacts WHERE id = 'a'", "UPDATE crm.contacts SET n = 1 WHERE id = 'a'", "TRUNCATE TABLE crm.contacts",
		"MERGE crm.contacts t USING (SELECT 'a' AS id) s ON t.id = s.id WHEN MATCHED THEN DELETE",
	} {
		if err := run("BEGIN TRANSACTION; " + sql + "; COMMIT TRANSACTION"); err == nil || !strings.Contains(err.Error(), "recently streamed") {
			t.Errorf("%s: %v", sql, err)
		}
	}
	for _, sql := range []string{
		"BEGIN TRANSACTION; DELETE FROM crm.contacts WHERE id = 'c'; COMMIT TRANSACTION", // not streamed
		"UPDATE crm.contacts SET n = 1 WHERE id = 'a'",                                   // not in a transaction
		"BEGIN TRANSACTION; DELETE FROM crm.contacts WHERE id = 'a'; COMMIT TRANSACTION", // not as it was streamed
	} {
		if err := run(sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
	st.clock.advance(30 * time.Minute)
	if err := run("BEGIN TRANSACTION; DELETE FROM crm.contacts WHERE id = 'b'; COMMIT TRANSACTION"); err != nil {
		t.Error(err)
	}
	if got := st.rows(ref); len(got) > 0 {
		t.Errorf("left: %v", got)
	}
}

func TestRowsAreStreamedIntoPartitionsOfTenYearsBackToOneAhead(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	client := st.client()
	if err := client.Dataset("crm").Create(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Query("CREATE TABLE crm.contacts (id STRING, d DATE) PARTITION BY DATE_TRUNC(d, MONTH)").Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	ref := tableRef{st.s.Project(), "crm", "contacts"}
	c := st.connect(t.Context())
	schema := message("id:string, d:string")
	c.ok(protoReq(ref.defaultStream(), schema, wire("a", "2016-03-02"), wire("b", "2027-03-01"), wire("c")))
	answer := c.refused(protoReq("", nil, wire("d", "2026-01-01"), wire("e", "2016-02-29"), wire("f", "2027-03-02")), codes.InvalidArgument, "row_errors")
	var bad []int64
	for _, e := range answer.GetRowErrors() {
		if e.GetCode() == storagepb.RowError_FIELDS_ERROR && strings.Contains(e.GetMessage(), "out of range") {
			bad = append(bad, e.GetIndex())
		}
	}
	if len(bad) != 2 || bad[0] != 1 || bad[1] != 2 {
		t.Errorf("bad rows: %v", answer.GetRowErrors())
	}
	if got := st.rows(ref); len(got) != 3 {
		t.Errorf("rows: %v", got)
	}
}

func TestATransactionHasOneTime(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	list, err := parseScript("BEGIN TRANSACTION; CREATE TEMP TABLE a AS SELECT CURRENT_TIMESTAMP() AS ts; COMMIT TRANSACTION")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := st.s.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	r := &session{s: st.s, ctx: t.Context(), conn: conn, text: strings.Repeat(" ", 200), vars: map[string]*variable{}, temps: map[string]*table{}}
	begun := st.clock.Now()
	for _, one := range list {
		if err := r.script([]stmt{one}); err != nil {
			t.Fatal(err)
		}
		if !r.now.Equal(begun) {
			t.Errorf("%T: it is %s, and the transaction began at %s", one, r.now, begun)
		}
		st.clock.advance(time.Second)
	}
}

func TestParquetIsLoadedByNameAndStrictly(t *testing.T) {
	t.Parallel()
	s := serve(t)
	file := func(name string) *bytes.Reader {
		schema := arrow.NewSchema([]arrow.Field{
			{Name: name, Type: arrow.BinaryTypes.String, Nullable: true},
			{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
			{Name: "ts", Type: &arrow.TimestampType{Unit: arrow.Microsecond, TimeZone: "UTC"}, Nullable: true},
		}, nil)
		b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
		defer b.Release()
		b.Field(0).(*array.StringBuilder).Append(`{"a": 1}`)
		b.Field(1).(*array.Int64Builder).Append(7)
		b.Field(2).(*array.TimestampBuilder).Append(1_704_067_200_000_001)
		rec := b.NewRecord()
		defer rec.Release()
		var out bytes.Buffer
		w, err := pqarrow.NewFileWriter(schema, &out, parquet.NewWriterProperties(), pqarrow.DefaultWriterProps())
		if err != nil || w.Write(rec) != nil || w.Close() != nil {
			t.Fatal("write Parquet", err)
		}
		return bytes.NewReader(out.Bytes())
	}
	s.query("CREATE TABLE t (ts TIMESTAMP, n INT64, j JSON)")
	if _, err := s.loadFrom(file("j"), "", bigquery.Parquet); err == nil || !strings.Contains(err.Error(), "Field j has type JSON") {
		t.Errorf("a column of JSON: %v", err)
	}
	s.query("DROP TABLE t; CREATE TABLE t (ts TIMESTAMP, n INT64, j STRING)")
	if _, err := s.loadFrom(file("J"), "", bigquery.Parquet); err != nil {
		t.Fatal(err)
	}
	if got := s.one("SELECT FORMAT('%d %d %s', n, UNIX_MICROS(ts), JSON_VALUE(j, '$.a')) FROM t"); got != "7 1704067200000001 1" {
		t.Errorf("got %v", got)
	}
	if _, err := s.loadFrom(file("more"), "", bigquery.Parquet); err == nil || !strings.Contains(err.Error(), "Cannot add fields (field: more)") {
		t.Errorf("a column that the table lacks: %v", err)
	}
	s.query("DROP TABLE t; CREATE TABLE t (n STRING, ts TIMESTAMP, j STRING)")
	if _, err := s.loadFrom(file("j"), "", bigquery.Parquet); err == nil || !strings.Contains(err.Error(), "Field n has type INT64") {
		t.Errorf("a column of another type: %v", err)
	}
	if _, err := s.loadFrom(strings.NewReader("PAR1"), "", bigquery.Parquet); err == nil {
		t.Error("half a file was loaded")
	}
	if got := s.one("SELECT COUNT(*) FROM t"); got != int64(0) {
		t.Errorf("%v rows", got)
	}
}
