package bqtest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/bigquery"
	"github.com/google/go-cmp/cmp"
	bq "google.golang.org/api/bigquery/v2"
	"google.golang.org/api/iterator"
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
	s.refuse("INSERT INTO t (n) VALUES (1)", "Required field id cannot be null")
	m, err := s.ds.Table("t").Metadata(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if m.NumRows != 3 || m.NumBytes != 3*3+3*8+2*8 || m.TimePartitioning.Type != bigquery.MonthPartitioningType || m.TableConstraints.PrimaryKey.Columns[0] != "id" {
		t.Errorf("metadata %+v", m)
	}
}

func TestDatasetsAreCreatedChangedAndDeleted(t *testing.T) {
	t.Parallel()
	s := serve(t)
	ctx := t.Context()
	d := s.client.Dataset("other")
	if _, err := d.Metadata(ctx); codeOf(err) != 404 {
		t.Errorf("before: %v", err)
	}
	if err := d.Create(ctx, &bigquery.DatasetMetadata{Location: "EU", DefaultTableExpiration: time.Minute}); codeOf(err) != 400 {
		t.Errorf("an expiration of a minute: %v", err)
	}
	if err := d.Create(ctx, &bigquery.DatasetMetadata{Location: "EU", Labels: map[string]string{"a": "b"}}); err != nil {
		t.Fatal(err)
	}
	if err := d.Create(ctx, nil); codeOf(err) != 409 {
		t.Errorf("again: %v", err)
	}
	m, err := d.Metadata(ctx)
	if err != nil || m.Location != "EU" || m.Labels["a"] != "b" {
		t.Fatalf("%+v, %v", m, err)
	}
	var u bigquery.DatasetMetadataToUpdate
	u.Description = "x"
	u.DeleteLabel("a")
	n, err := d.Update(ctx, u, m.ETag)
	if err != nil || n.Description != "x" || len(n.Labels) != 0 {
		t.Errorf("%+v, %v", n, err)
	}
	if _, err := d.Update(ctx, u, m.ETag); codeOf(err) != 412 {
		t.Errorf("with an old etag: %v", err)
	}
	s.query("CREATE TABLE other.t (n INT64)")
	if err := d.Delete(ctx); codeOf(err) != 400 {
		t.Errorf("delete with a table: %v", err)
	}
	if err := d.DeleteWithContents(ctx); err != nil {
		t.Error(err)
	}
	if err := s.client.Dataset("no-dash").Create(ctx, nil); codeOf(err) != 400 {
		t.Errorf("a name with a dash: %v", err)
	}
	it := s.client.Datasets(ctx)
	if d, err := it.Next(); err != nil || d.DatasetID != "ds" {
		t.Errorf("%v, %v", d, err)
	}
	if _, err := it.Next(); err != iterator.Done { //nolint:errorlint // as documented
		t.Errorf("end: %v", err)
	}
}

// restFields are the columns of REST of a schema of nullable texts.
func restFields(schema bigquery.Schema) []*bq.TableFieldSchema {
	out := make([]*bq.TableFieldSchema, len(schema))
	for i, f := range schema {
		out[i] = &bq.TableFieldSchema{Name: f.Name, Type: string(f.Type)}
	}
	return out
}

func TestTablesThatBreakARuleAreRefused(t *testing.T) {
	t.Parallel()
	s := serve(t)
	schema := bigquery.Schema{{Name: "id", Type: bigquery.StringFieldType}, {Name: "ts", Type: bigquery.TimestampFieldType}, {Name: "f", Type: bigquery.FloatFieldType}, {Name: "d", Type: bigquery.DateFieldType}}
	many := make(bigquery.Schema, 10_001)
	for i := range many {
		many[i] = &bigquery.FieldSchema{Name: fmt.Sprintf("c%d", i), Type: bigquery.StringFieldType}
	}
	var keys []string
	for i := range 17 {
		keys = append(keys, fmt.Sprintf("c%d", i))
	}
	named := func(names ...string) bigquery.Schema {
		var out bigquery.Schema
		for _, n := range names {
			out = append(out, &bigquery.FieldSchema{Name: n, Type: bigquery.StringFieldType})
		}
		return out
	}
	month := func(field string) *bigquery.TimePartitioning {
		return &bigquery.TimePartitioning{Type: bigquery.MonthPartitioningType, Field: field}
	}
	for i, c := range []struct {
		m    bigquery.TableMetadata
		want string
	}{
		{bigquery.TableMetadata{Schema: many}, "Too many"},
		{bigquery.TableMetadata{Schema: named("a", "A")}, "Duplicate field name"},
		{bigquery.TableMetadata{Schema: named("1a")}, "Invalid field name"},
		{bigquery.TableMetadata{Schema: named("a-b")}, "Invalid field name"},
		{bigquery.TableMetadata{Schema: named("_partition_x")}, "Invalid field name"},
		{bigquery.TableMetadata{Schema: named("_change_type")}, "Invalid field name"},
		{bigquery.TableMetadata{Schema: named(strings.Repeat("a", 301))}, "Invalid field name"},
		{bigquery.TableMetadata{Schema: schema, TimePartitioning: month("id")}, "can only be of type"},
		{bigquery.TableMetadata{Schema: schema, TimePartitioning: month("x")}, "cannot be found"},
		{bigquery.TableMetadata{Schema: schema, TimePartitioning: &bigquery.TimePartitioning{Type: bigquery.HourPartitioningType, Field: "d"}}, "can only be of type"},
		{bigquery.TableMetadata{Schema: schema, Clustering: &bigquery.Clustering{Fields: []string{"f"}}}, "not supported on field f"},
		{bigquery.TableMetadata{Schema: many[:10], Clustering: &bigquery.Clustering{Fields: []string{"c0", "c1", "c2", "c3", "c4"}}}, "1 to 4"},
		{bigquery.TableMetadata{Schema: many[:20], TableConstraints: &bigquery.TableConstraints{PrimaryKey: &bigquery.PrimaryKey{Columns: keys}}}, "1 to 16"},
		{bigquery.TableMetadata{Schema: schema, TableConstraints: &bigquery.TableConstraints{PrimaryKey: &bigquery.PrimaryKey{Columns: []string{"f"}}}}, "not allowed"},
		{bigquery.TableMetadata{Schema: schema, Labels: map[string]string{"Upper": "x"}}, "does not conform"},
		{bigquery.TableMetadata{Schema: schema, ExpirationTime: noon.Add(-time.Hour)}, "in the future"},
	} {
		err := s.ds.Table("t").Create(t.Context(), &c.m)
		if codeOf(err) != 400 || !strings.Contains(err.Error(), c.want) {
			t.Errorf("case %d: %v, want one with %q", i, err, c.want)
		}
	}
	// A table of 10,000 takes the engine seconds; the rule alone does not.
	if _, err := columnsOfSchema(restFields(many[:10_000]), noon); err != nil {
		t.Errorf("10,000 columns: %v", err)
	}
	if err := s.ds.Table("t").Create(t.Context(), &bigquery.TableMetadata{Schema: many[:100]}); err != nil {
		t.Error(err)
	}
	if err := s.ds.Table("t").Create(t.Context(), &bigquery.TableMetadata{Schema: schema}); codeOf(err) != 409 {
		t.Errorf("again: %v", err)
	}
}

func TestSchemasGainNullableColumnsAndLoseRequiredAndNothingElse(t *testing.T) {
	t.Parallel()
	s := serve(t)
	ctx := t.Context()
	tab := s.ds.Table("t")
	s.query("CREATE TABLE t (id STRING NOT NULL OPTIONS (description = 'key'), n INT64) PARTITION BY DATE_TRUNC(d, MONTH)", func(q *bigquery.Query) {
		q.Q = strings.Replace(q.Q, "n INT64)", "n INT64, d DATE)", 1)
	})
	s.query("INSERT INTO t (id, n) VALUES ('a', 1)")
	field := func(name string, kind bigquery.FieldType, required bool) *bigquery.FieldSchema {
		return &bigquery.FieldSchema{Name: name, Type: kind, Required: required}
	}
	id, n, d := field("id", bigquery.StringFieldType, true), field("n", bigquery.IntegerFieldType, false), field("d", bigquery.DateFieldType, false)
	update := func(sc bigquery.Schema, tag string) error {
		_, err := tab.Update(ctx, bigquery.TableMetadataToUpdate{Schema: sc}, tag)
		return err
	}
	for want, sc := range map[string]bigquery.Schema{
		"missing in new schema":             {id, d},
		"changed type from INTEGER to":      {id, field("N", bigquery.FloatFieldType, false), d},
		"from NULLABLE to REQUIRED":         {id, field("n", bigquery.IntegerFieldType, true), d},
		"Cannot add required fields":        {id, n, d, field("x", bigquery.StringFieldType, true)},
		"Duplicate field name":              {id, n, d, field("ID", bigquery.StringFieldType, false)},
		"stand-in: type GEOGRAPHY of field": {id, n, d, field("g", bigquery.GeographyFieldType, false)},
	} {
		if err := update(sc, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error with %q", err, want)
		}
	}
	m, err := tab.Metadata(ctx)
	if err != nil || m.Schema[0].Description != "key" || !m.Schema[0].Required {
		t.Fatalf("%+v, %v", m, err)
	}
	if err := update(bigquery.Schema{field("id", bigquery.StringFieldType, false), n, d, field("x", bigquery.JSONFieldType, false)}, m.ETag); err != nil {
		t.Fatal(err)
	}
	if err := update(bigquery.Schema{id, n, d}, m.ETag); codeOf(err) != 412 {
		t.Errorf("with an old etag: %v", err)
	}
	s.query("INSERT INTO t (n, x) VALUES (2, JSON '{\"a\": 1}')")
	if got := s.one("SELECT COUNT(*) FROM t WHERE id IS NULL AND JSON_VALUE(x, '$.a') = '1'"); got != int64(1) {
		t.Errorf("%v rows", got)
	}
	if _, err := tab.Update(ctx, bigquery.TableMetadataToUpdate{TimePartitioning: &bigquery.TimePartitioning{Type: bigquery.DayPartitioningType, Field: "d"}}, ""); err == nil || !strings.Contains(err.Error(), "Cannot change partitioning spec") {
		t.Errorf("another partitioning: %v", err)
	}
}

func TestPartitionsAndTablesExpire(t *testing.T) {
	t.Parallel()
	clk := &handClock{now: noon}
	s := serve(t, func(o *Options) { o.Clock = clk })
	ctx := t.Context()
	d := s.client.Dataset("short")
	if err := d.Create(ctx, &bigquery.DatasetMetadata{DefaultPartitionExpiration: 40 * 24 * time.Hour, DefaultTableExpiration: time.Hour}); err != nil {
		t.Fatal(err)
	}
	s.query("CREATE TABLE short.p (ts TIMESTAMP) PARTITION BY DATE(ts); CREATE TABLE short.plain (n INT64)")
	m, err := d.Table("p").Metadata(ctx)
	if err != nil || m.TimePartitioning.Expiration != 40*24*time.Hour || !m.ExpirationTime.IsZero() {
		t.Fatalf("%+v, %v", m, err)
	}
	if m, err := d.Table("plain").Metadata(ctx); err != nil || !m.ExpirationTime.Equal(noon.Add(time.Hour)) {
		t.Errorf("%+v, %v", m, err)
	}
	s.query("INSERT INTO short.p VALUES ('2024-05-06 13:00:00'), ('2024-05-07 13:00:00'), (NULL)")
	if got := s.one("SELECT COUNT(*) FROM short.p"); got != int64(2) {
		t.Errorf("%v rows are left, want that of 40 days ago and that without time", got)
	}
	if _, err := d.Table("p").Update(ctx, bigquery.TableMetadataToUpdate{TimePartitioning: &bigquery.TimePartitioning{Type: bigquery.DayPartitioningType, Field: "ts"}}, ""); err != nil {
		t.Fatal(err)
	}
	clk.advance(time.Hour - time.Millisecond)
	s.query("SELECT * FROM short.plain")
	clk.advance(time.Millisecond)
	if _, err := d.Table("plain").Metadata(ctx); codeOf(err) != 404 {
		t.Errorf("after its time: %v", err)
	}
	s.refuse("SELECT * FROM short.plain", "Not found")
	s.query("CREATE TABLE short.plain (n INT64)") // the name is free
}

func TestCellsPrintAsTheServicePrintsThem(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.query("CREATE TABLE t (s STRING, i INT64, f FLOAT64, b BOOL, ts TIMESTAMP, d DATE, j JSON, y BYTES, n NUMERIC)")
	s.query(`INSERT INTO t VALUES ('ñ', -9223372036854775808, CAST('-inf' AS FLOAT64), TRUE, '9999-12-31 23:59:59.999999', '0001-01-01', JSON '{"b": [1, null]}', b'\x00\xff', 1.5),
		(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)`)
	it := s.ds.Table("t").Read(context.Background())
	var got []string
	for {
		var row []bigquery.Value
		if it.Next(&row) != nil {
			break
		}
		got = append(got, fmt.Sprint(row))
	}
	want := []string{
		`[ñ -9223372036854775808 -Inf true 9999-12-31 23:59:59.999999 +0000 UTC 0001-01-01 {"b":[1,null]} [0 255] 3/2]`,
		"[<nil> <nil> <nil> <nil> <nil> <nil> <nil> <nil> <nil>]",
	}
	if diff := cmp.Diff(want, got); diff != "" || it.TotalRows != 2 {
		t.Errorf("%d rows (-want +got):\n%s", it.TotalRows, diff)
	}
}

func TestTableDataComesInPages(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.query("CREATE TABLE t AS SELECT x AS n FROM UNNEST(GENERATE_ARRAY(1, 25)) AS x")
	it := s.ds.Table("t").Read(t.Context())
	it.PageInfo().MaxSize = 10
	var got []int64
	for {
		var row []bigquery.Value
		if it.Next(&row) != nil {
			break
		}
		got = append(got, row[0].(int64))
	}
	if len(got) != 25 || !slices.IsSorted(got) || s.Calls()["tabledata.list"] != 3 {
		t.Errorf("%d rows in %d pages", len(got), s.Calls()["tabledata.list"])
	}
}
