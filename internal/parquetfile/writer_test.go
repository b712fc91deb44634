package parquetfile_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/sluice-etl/sluice/internal/parquetfile"
)

func TestRecordsOfAnySizeGiveTheSameFile(t *testing.T) {
	rec := contacts(contactSchema(), rand.New(rand.NewPCG(8, 9)), 0, 9000)
	_, want := write(t, parquetfile.Options{RowGroupRows: 3000}, rec)
	rnd := parquetfile.Seeded(t)
	for _, largest := range []int64{7, 5000, 20000} {
		var parts []arrow.Record
		for from := int64(0); from < rec.NumRows(); {
			to := min(from+rnd.Int64N(largest)+1, rec.NumRows())
			parts = append(parts, rec.NewSlice(from, to), rec.NewSlice(to, to)) // an empty one too
			from = to
		}
		_, got := write(t, parquetfile.Options{RowGroupRows: 3000}, parts...)
		if got.SHA256 != want.SHA256 || got.Bytes != want.Bytes || got.Rows != want.Rows {
			t.Errorf("records of up to %d rows: %d bytes, %d rows, want %d, %d", largest, got.Bytes, got.Rows, want.Bytes, want.Rows)
		}
		for i := range got.Columns {
			if got.Columns[i] != want.Columns[i] {
				t.Errorf("column %+v, want %+v", got.Columns[i], want.Columns[i])
			}
		}
	}
	_, got := write(t, parquetfile.Options{RowGroupRows: 3000, Workers: 5}, rec)
	if got.SHA256 != want.SHA256 {
		t.Error("the number of workers changes the file")
	}
}

func TestEncodingsFollowTheData(t *testing.T) {
	rec := contacts(contactSchema(), rand.New(rand.NewPCG(8, 9)), 0, 8000)
	path, _ := write(t, parquetfile.Options{}, rec)
	plain, _ := write(t, parquetfile.Options{Plain: true}, rec)
	db := duck(t)
	for column, want := range map[string]string{
		"id": "DELTA_LENGTH_BYTE_ARRAY", "phone": "DELTA_LENGTH_BYTE_ARRAY", "email": "DELTA_LENGTH_BYTE_ARRAY",
		"ai_customer_id": "DELTA_LENGTH_BYTE_ARRAY", "active_ticket_v2_id": "DELTA_LENGTH_BYTE_ARRAY",
		"platform": "DICTIONARY", "client_id": "DICTIONARY", "cf_customer_city": "DICTIONARY", "name": "DICTIONARY",
		"created_at": "DELTA_BINARY_PACKED", "updated_at": "DELTA_BINARY_PACKED", "_sluice_row": "DELTA_BINARY_PACKED",
		"_sluice_extracted_at": "DELTA_BINARY_PACKED", "_sluice_hash": "PLAIN",
	} {
		got := query[string](t, db, "SELECT encodings FROM parquet_metadata(?) WHERE path_in_schema = ?", path, column)
		if !strings.Contains(got, want) {
			t.Errorf("column %q is stored as %s, want %s", column, got, want)
		}
		if want != "DICTIONARY" && strings.Contains(got, "DICTIONARY") {
			t.Errorf("column %q has a dictionary: %s", column, got)
		}
	}
	if n := query[int64](t, db, "SELECT count(*) FROM parquet_metadata(?) WHERE encodings LIKE '%DELTA%' OR compression <> 'SNAPPY'", plain); n > 0 {
		t.Errorf("plain: %d columns use DELTA or another codec", n)
	}
	if n := query[int64](t, db, "SELECT count(*) FROM parquet_metadata(?) WHERE compression <> 'ZSTD'", path); n > 0 {
		t.Errorf("%d columns are not zstd", n)
	}
	if got := query[string](t, db, "SELECT repetition_type FROM parquet_schema(?) LIMIT 1", path); got != "REQUIRED" {
		t.Errorf("root is %s", got)
	}
}

// A column whose first row group says little about the next ones.
func TestAColumnMayChangeItsCharacter(t *testing.T) {
	s := arrow.NewSchema([]arrow.Field{
		{Name: "turns_unique", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "turns_constant", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "starts_null", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "ends_null", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "starts_null_number", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "ends_null_time", Type: arrow.FixedWidthTypes.Timestamp_us, Nullable: true},
		{Name: "turns_huge", Type: arrow.BinaryTypes.String, Nullable: true},
	}, nil)
	r := rand.New(rand.NewPCG(1, 1))
	b := array.NewRecordBuilder(memory.DefaultAllocator, s)
	defer b.Release()
	const rows = 24000
	str := func(i int, v string) { b.Field(i).(*array.StringBuilder).Append(v) }
	for row := range rows {
		late := row >= 8000
		if late {
			str(0, uuid(r))
			str(1, "always")
			str(2, uuid(r))
			b.Field(3).AppendNull()
			b.Field(4).(*array.Int64Builder).Append(int64(r.Uint64()))
			b.Field(5).AppendNull()
			str(6, strings.Repeat(uuid(r), 20))
		} else {
			str(0, "often")
			str(1, uuid(r))
			b.Field(2).AppendNull()
			str(3, strings.Repeat(uuid(r), 6))
			b.Field(4).AppendNull()
			b.Field(5).(*array.TimestampBuilder).Append(arrow.Timestamp(r.Int64()))
			str(6, "x")
		}
	}
	rec := b.NewRecord()
	// Groups that change character between them, and one that does within.
	for _, rows := range []int64{8000, 24000} {
		for _, plain := range []bool{false, true} {
			path, st := write(t, parquetfile.Options{RowGroupRows: rows, Plain: plain}, rec)
			if err := parquetfile.Verify(t.Context(), path, st, parquetfile.VerifyFull); err != nil {
				t.Fatal(err)
			}
			equal(t, rec, readAll(t, path, parquetfile.ReadOptions{}))
			db := duck(t)
			for i, f := range s.Fields() {
				judgeNulls(t, db, path, rec, i)
				if f.Type.ID() == arrow.STRING {
					got := query[int64](t, db, "SELECT coalesce(sum(length("+f.Name+")), 0)::BIGINT FROM read_parquet(?)", path)
					want := int64(0)
					for row := range int(rec.NumRows()) {
						if rec.Column(i).IsValid(row) {
							want += int64(len(rec.Column(i).(*array.String).Value(row)))
						}
					}
					if got != want {
						t.Errorf("column %q: DuckDB reads %d characters, written were %d", f.Name, got, want)
					}
				}
			}
		}
	}
}

func TestHugeValuesFit(t *testing.T) {
	s := arrow.NewSchema([]arrow.Field{{Name: "doc", Type: arrow.BinaryTypes.String, Nullable: true}}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, s)
	defer b.Release()
	r := rand.New(rand.NewPCG(4, 4))
	for i := range 3000 {
		switch {
		case i == 1023 || i == 1500 || i == 2047:
			b.Field(0).(*array.StringBuilder).Append(strings.Repeat(uuid(r), 600_000)) // 21 MB
		case i > 2500 || i%3 == 0:
			b.Field(0).AppendNull()
		default:
			b.Field(0).(*array.StringBuilder).Append(uuid(r))
		}
	}
	rec := b.NewRecord()
	path, st := write(t, parquetfile.Options{}, rec)
	if err := parquetfile.Verify(t.Context(), path, st, parquetfile.VerifyFull); err != nil {
		t.Fatal(err)
	}
	equal(t, rec, readAll(t, path, parquetfile.ReadOptions{}))
	db := duck(t)
	if got := query[int64](t, db, "SELECT sum(length(doc))::BIGINT FROM read_parquet(?)", path); got < 3*21_600_000 {
		t.Fatalf("DuckDB reads %d characters", got)
	}
}

func TestDescriptionsAndMetadataStandInTheFile(t *testing.T) {
	rec := contacts(contactSchema(), rand.New(rand.NewPCG(1, 2)), 0, 10)
	path, _ := write(t, parquetfile.Options{Metadata: map[string]string{"sluice.lineage": "abc", "sluice.package": "7"}}, rec)
	r, err := parquetfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	want := `Contact's key, "quoted" ñ`
	if f := r.Schema().Field(0); f.Metadata.FindKey("description") < 0 || f.Metadata.Values()[0] != want {
		t.Errorf("description is %v", f.Metadata)
	}
	if v, ok := r.Metadata("sluice.package"); !ok || v != "7" {
		t.Errorf("metadata is %q", v)
	}
	if _, ok := r.Metadata("nope"); ok {
		t.Error("metadata that is not there")
	}
	db := duck(t)
	if got := query[string](t, db, "SELECT decode(value) FROM parquet_kv_metadata(?) WHERE decode(key) = 'sluice.columns'", path); !strings.Contains(got, `Contact's key`) {
		t.Errorf("DuckDB finds %s", got)
	}
}

func TestStatsSayWhatTheFileHolds(t *testing.T) {
	rec := edges()
	_, st := write(t, parquetfile.Options{RowGroupRows: 7}, rec)
	if st.Rows != 60 || len(st.SHA256) != 64 || len(st.Columns) != 10 {
		t.Fatalf("%+v", st)
	}
	for name, want := range map[string][2]string{
		"i": {"-9223372036854775808", "9223372036854775807"},
		"f": {"-Inf", "+Inf"},
		"b": {"false", "true"},
		"t": {"0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"},
		"d": {"0001-01-01", "9999-12-31"},
	} {
		c, ok := st.Column(name)
		if !ok || !c.HasRange || c.Min != want[0] || c.Max != want[1] {
			t.Errorf("%+v, want %v", c, want)
		}
	}
	if c, _ := st.Column("nothing"); c.HasRange || c.Nulls != 60 || c.Min != "" || c.Max != "" {
		t.Errorf("%+v", c)
	}
	if c, _ := st.Column("s"); c.Min != "" || !c.HasRange {
		t.Errorf("the smallest string is empty: %+v", c)
	}
	if _, ok := st.Column("nope"); ok {
		t.Error("a column that is not there")
	}
}

func TestWriteRefusesRowsOfAnotherShape(t *testing.T) {
	field := func(n string, dt arrow.DataType, null bool) arrow.Field {
		return arrow.Field{Name: n, Type: dt, Nullable: null}
	}
	str, i64 := arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64
	want := arrow.NewSchema([]arrow.Field{field("a", str, false), field("b", i64, true)}, nil)
	for name, s := range map[string]*arrow.Schema{
		"fewer columns": arrow.NewSchema([]arrow.Field{field("a", str, false)}, nil),
		"another order": arrow.NewSchema([]arrow.Field{field("b", i64, true), field("a", str, false)}, nil),
		"another name":  arrow.NewSchema([]arrow.Field{field("a", str, false), field("c", i64, true)}, nil),
		"another type":  arrow.NewSchema([]arrow.Field{field("a", str, false), field("b", str, true)}, nil),
		"a null":        arrow.NewSchema([]arrow.Field{field("a", str, true), field("b", i64, true)}, nil),
	} {
		b := array.NewRecordBuilder(memory.DefaultAllocator, s)
		for i := range s.NumFields() {
			b.Field(i).AppendNull()
		}
		rec := b.NewRecord()
		path := filepath.Join(t.TempDir(), "f.parquet")
		w, err := parquetfile.Create(path, parquetfile.Options{Schema: want})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(rec); err == nil {
			t.Errorf("%s: no error", name)
		} else if _, err2 := w.Finish(); err2 == nil || err2.Error() != err.Error() {
			t.Errorf("%s: the error is not kept: %v", name, err2)
		}
		if err := w.Publish(); err == nil {
			t.Errorf("%s: published", name)
		}
		w.Abort()
		entries, _ := os.ReadDir(filepath.Dir(path))
		if len(entries) != 0 {
			t.Errorf("%s: left %v", name, entries)
		}
	}
}

func TestCreateRefusesOptionsThatCannotBe(t *testing.T) {
	f := func(n string, dt arrow.DataType) *arrow.Schema {
		return arrow.NewSchema([]arrow.Field{{Name: n, Type: dt}}, nil)
	}
	str := arrow.BinaryTypes.String
	for name, o := range map[string]parquetfile.Options{
		"no schema":     {},
		"no columns":    {Schema: arrow.NewSchema(nil, nil)},
		"no name":       {Schema: f("", str)},
		"dot":           {Schema: f("a.b", str)},
		"list":          {Schema: f("a", arrow.ListOf(str))},
		"uint":          {Schema: f("a", arrow.PrimitiveTypes.Uint64)},
		"milliseconds":  {Schema: f("a", arrow.FixedWidthTypes.Timestamp_ms)},
		"no zone":       {Schema: f("a", &arrow.TimestampType{Unit: arrow.Microsecond})},
		"twice":         {Schema: arrow.NewSchema([]arrow.Field{{Name: "a", Type: str}, {Name: "a", Type: str}}, nil)},
		"negative rows": {Schema: f("a", str), RowGroupRows: -1},
		"too many rows": {Schema: f("a", str), RowGroupRows: 1 << 21},
	} {
		dir := t.TempDir()
		if _, err := parquetfile.Create(filepath.Join(dir, "f.parquet"), o); err == nil {
			t.Errorf("%s: no error", name)
		}
		if entries, _ := os.ReadDir(dir); len(entries) != 0 {
			t.Errorf("%s: left %v", name, entries)
		}
	}
	if _, err := parquetfile.Create(filepath.Join(t.TempDir(), "no", "f.parquet"), parquetfile.Options{Schema: f("a", str)}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

func TestCallsOutOfOrderAreRefused(t *testing.T) {
	rec := smallRecord(10)
	path := filepath.Join(t.TempDir(), "f.parquet")
	create := func() *parquetfile.Writer {
		w, err := parquetfile.Create(path, parquetfile.Options{Schema: rec.Schema()})
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	w := create()
	if err := w.Publish(); err == nil {
		t.Error("published before Finish")
	}
	w.Abort()
	w = create()
	w.Abort()
	if err := w.Write(rec); !errors.Is(err, parquetfile.ErrFinished) {
		t.Errorf("write after Abort: %v", err)
	}
	if _, err := w.Finish(); !errors.Is(err, parquetfile.ErrFinished) {
		t.Errorf("Finish after Abort: %v", err)
	}
	if err := w.Publish(); err == nil {
		t.Error("published after Abort")
	}
	w = create()
	if err := w.Write(rec); err != nil {
		t.Fatal(err)
	}
	st, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(rec); !errors.Is(err, parquetfile.ErrFinished) {
		t.Errorf("write after Finish: %v", err)
	}
	if again, err := w.Finish(); err != nil || again.SHA256 != st.SHA256 {
		t.Errorf("second Finish: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Error("the file is there before Publish")
	}
	if err := parquetfile.Verify(t.Context(), w.TempPath(), st, parquetfile.VerifyFull); err != nil {
		t.Error(err)
	}
	if err := w.Publish(); err != nil {
		t.Fatal(err)
	}
	w.Abort()
	if _, err := os.Stat(path); err != nil {
		t.Error("Abort after Publish removed the file")
	}
}

func TestRowGroupsCanBeEndedEarly(t *testing.T) {
	rec := smallRecord(100)
	w, err := parquetfile.Create(filepath.Join(t.TempDir(), "f.parquet"), parquetfile.Options{Schema: rec.Schema(), RowGroupRows: 60})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	for _, n := range []int64{10, 0, 100} {
		part := rec.NewSlice(0, n)
		if err := w.Write(part); err != nil {
			t.Fatal(err)
		}
		if err := w.EndRowGroup(); err != nil {
			t.Fatal(err)
		}
	}
	if w.Rows() != 110 {
		t.Fatalf("%d rows", w.Rows())
	}
	st, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	if err := parquetfile.Verify(t.Context(), w.TempPath(), st, parquetfile.VerifyFull); err != nil {
		t.Fatal(err)
	}
	r, err := parquetfile.Open(w.TempPath())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if got := fmt.Sprint(r.RowGroups()); got != "[10 60 40]" {
		t.Fatalf("row groups of %s", got)
	}
}
