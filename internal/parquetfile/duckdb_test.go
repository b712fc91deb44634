package parquetfile_test

import (
	"database/sql"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	_ "github.com/duckdb/duckdb-go/v2"

	"github.com/sluice-etl/sluice/internal/parquetfile"
)

func duck(tb testing.TB) *sql.DB {
	tb.Helper()
	db, err := sql.Open("duckdb", "")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = db.Close() })
	if _, err := db.ExecContext(tb.Context(), "SET TimeZone='UTC'"); err != nil {
		tb.Logf("no time zones in this DuckDB: %v", err)
	}
	return db
}

func query[T any](t *testing.T, db *sql.DB, q string, args ...any) T {
	t.Helper()
	var v T
	if err := db.QueryRowContext(t.Context(), q, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", q, err)
	}
	return v
}

// judge has DuckDB read the file and compares every value, each column's null
// count three ways (footer, IS NULL, IS NOT NULL), and pruning by value.
func judge(t *testing.T, path string, want arrow.Record) {
	t.Helper()
	db := duck(t)
	if got := query[int64](t, db, "SELECT count(*) FROM read_parquet(?)", path); got != want.NumRows() {
		t.Fatalf("DuckDB counts %d rows, want %d", got, want.NumRows())
	}
	exprs := make([]string, want.NumCols())
	for i, f := range want.Schema().Fields() {
		name := `"` + strings.ReplaceAll(f.Name, `"`, `""`) + `"`
		exprs[i] = name
		switch f.Type.ID() {
		case arrow.TIMESTAMP:
			exprs[i] = "epoch_us(" + name + ")"
		case arrow.DATE32:
			exprs[i] = "CAST(" + name + " - DATE '1970-01-01' AS BIGINT)"
		default: // as it is
		}
	}
	rows, err := db.QueryContext(t.Context(), "SELECT "+strings.Join(exprs, ", ")+" FROM read_parquet(?)", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	cells := make([]any, want.NumCols())
	dest := make([]any, want.NumCols())
	for i := range cells {
		dest[i] = &cells[i]
	}
	row := 0
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			t.Fatal(err)
		}
		for i, c := range cells {
			if w := goValue(want.Column(i), row); !same(w, c) {
				t.Fatalf("row %d, column %q: DuckDB reads %#v, written was %#v", row, want.ColumnName(i), c, w)
			}
		}
		row++
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if int64(row) != want.NumRows() {
		t.Fatalf("DuckDB gave %d rows of %d", row, want.NumRows())
	}
	for i := range int(want.NumCols()) {
		judgeNulls(t, db, path, want, i)
	}
}

func judgeNulls(t *testing.T, db *sql.DB, path string, want arrow.Record, i int) {
	t.Helper()
	name := `"` + strings.ReplaceAll(want.ColumnName(i), `"`, `""`) + `"`
	nulls := int64(want.Column(i).NullN())
	if got := query[int64](t, db, "SELECT count(*) FROM read_parquet(?) WHERE "+name+" IS NULL", path); got != nulls {
		t.Errorf("column %s: IS NULL finds %d, written were %d", name, got, nulls)
	}
	if got := query[int64](t, db, "SELECT count("+name+") FROM read_parquet(?)", path); got != want.NumRows()-nulls {
		t.Errorf("column %s: count finds %d, written were %d", name, got, want.NumRows()-nulls)
	}
	footer := query[int64](t, db, "SELECT coalesce(sum(stats_null_count), 0)::BIGINT FROM parquet_metadata(?) WHERE path_in_schema = ?", path, want.ColumnName(i))
	if want.NumRows() > 0 && footer != nulls {
		t.Errorf("column %s: footer says %d nulls, written were %d", name, footer, nulls)
	}
}

// goValue gives a cell as DuckDB's driver gives it for judge's query.
func goValue(a arrow.Array, i int) any {
	if a.IsNull(i) {
		return nil
	}
	switch a := a.(type) {
	case *array.String:
		return a.Value(i)
	case *array.Int64:
		return a.Value(i)
	case *array.Float64:
		return a.Value(i)
	case *array.Boolean:
		return a.Value(i)
	case *array.Timestamp:
		return int64(a.Value(i))
	case *array.Date32:
		return int64(a.Value(i))
	}
	return fmt.Errorf("unknown array %T", a)
}

func same(a, b any) bool {
	fa, okA := a.(float64)
	fb, okB := b.(float64)
	if okA && okB {
		// DuckDB keeps the sign of zero and one NaN.
		return math.Float64bits(fa) == math.Float64bits(fb) || (math.IsNaN(fa) && math.IsNaN(fb))
	}
	return a == b
}

func TestDuckDBReadsEveryValueOfContacts(t *testing.T) {
	rec := contacts(contactSchema(), rand.New(rand.NewPCG(3, 4)), 0, 3000)
	for _, plain := range []bool{false, true} {
		path, st := write(t, parquetfile.Options{RowGroupRows: 1300, Plain: plain}, rec)
		judge(t, path, rec)
		if err := parquetfile.Verify(t.Context(), path, st, parquetfile.VerifyFull); err != nil {
			t.Fatal(err)
		}
	}
}

// edges holds the values at the limits of each type.
func edges() arrow.Record {
	strs := []string{
		"", " ", "\x00", "a\x00b", "ñ", "😀", "e\u0301", "\u202e", "null", "NULL", "NaN", "\n\r\t\"'\\", "\ufeff",
		strings.Repeat("x", 5000), strings.Repeat("ü", 70000), "\U0010ffff", "\u007f\u0080", "zz",
	}
	ints := []int64{0, 1, -1, math.MaxInt64, math.MinInt64, math.MaxInt64, math.MinInt64 + 1, math.MaxInt32, math.MinInt32, 1 << 53, -(1<<53 + 1), 42}
	floats := []float64{
		0, math.Copysign(0, -1), 1, -1, math.MaxFloat64, -math.MaxFloat64, math.SmallestNonzeroFloat64, math.Inf(1), math.Inf(-1),
		math.NaN(), 0.1, 1e-300, math.Pi,
	}
	stamps := []time.Time{
		time.Unix(0, 0), time.Date(1969, 12, 31, 23, 59, 59, 999999000, time.UTC), time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC), time.Date(2024, 2, 29, 12, 0, 0, 1000, time.UTC), time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	days := []int32{0, -1, 1, 2932896, -719162, 19000, -25567, 7}
	s := arrow.NewSchema([]arrow.Field{
		{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "i", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "f", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		{Name: "b", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
		{Name: "t", Type: arrow.FixedWidthTypes.Timestamp_us, Nullable: true},
		{Name: "d", Type: arrow.FixedWidthTypes.Date32, Nullable: true},
		{Name: "nothing", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "never", Type: arrow.FixedWidthTypes.Timestamp_us, Nullable: true},
		{Name: "required", Type: arrow.PrimitiveTypes.Int64},
		{Name: "odd \"name\", ñ/😀 'x'; --", Type: arrow.BinaryTypes.String},
	}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, s)
	defer b.Release()
	for row := range 60 {
		if row%7 == 3 {
			for c := range 6 {
				b.Field(c).AppendNull()
			}
		} else {
			b.Field(0).(*array.StringBuilder).Append(strs[row%len(strs)])
			b.Field(1).(*array.Int64Builder).Append(ints[row%len(ints)])
			b.Field(2).(*array.Float64Builder).Append(floats[row%len(floats)])
			b.Field(3).(*array.BooleanBuilder).Append(row%3 == 0)
			b.Field(4).(*array.TimestampBuilder).Append(arrow.Timestamp(stamps[row%len(stamps)].UnixMicro()))
			b.Field(5).(*array.Date32Builder).Append(arrow.Date32(days[row%len(days)]))
		}
		b.Field(6).AppendNull()
		b.Field(7).AppendNull()
		b.Field(8).(*array.Int64Builder).Append(ints[row%len(ints)])
		b.Field(9).(*array.StringBuilder).Append(strs[(row*5)%len(strs)])
	}
	return b.NewRecord()
}

func TestValuesAtTheLimitsSurviveEveryReader(t *testing.T) {
	rec := edges()
	for _, plain := range []bool{false, true} {
		for _, group := range []int64{1, 9, 60, 0} {
			path, st := write(t, parquetfile.Options{RowGroupRows: group, Plain: plain}, rec)
			if err := parquetfile.Verify(t.Context(), path, st, parquetfile.VerifyFull); err != nil {
				t.Fatalf("plain %v, groups of %d: %v", plain, group, err)
			}
			got := readAll(t, path, parquetfile.ReadOptions{})
			for i := range int(rec.NumCols()) {
				for row := range int(rec.NumRows()) {
					if w, g := goValue(rec.Column(i), row), goValue(got.Column(i), row); !same(w, g) {
						t.Fatalf("plain %v, groups of %d, row %d, column %q: %#v, want %#v", plain, group, row, rec.ColumnName(i), g, w)
					}
				}
			}
			judge(t, path, rec)
		}
	}
}

func TestPruningByBoundsLosesNoRow(t *testing.T) {
	rec := edges()
	path, _ := write(t, parquetfile.Options{RowGroupRows: 5}, rec)
	db := duck(t)
	for row := range int(rec.NumRows()) {
		if v, ok := goValue(rec.Column(0), row).(string); ok {
			all := query[int64](t, db, "SELECT count(*) FROM (SELECT s || '' AS s FROM read_parquet(?)) WHERE s = ?", path, v)
			if got := query[int64](t, db, "SELECT count(*) FROM read_parquet(?) WHERE s = ?", path, v); got != all || got == 0 {
				t.Errorf("s = %.20q finds %d rows of %d", v, got, all)
			}
		}
		if v, ok := goValue(rec.Column(1), row).(int64); ok {
			if got := query[int64](t, db, "SELECT count(*) FROM read_parquet(?) WHERE i = ?", path, v); got == 0 {
				t.Errorf("i = %d finds nothing", v)
			}
		}
		if v, ok := goValue(rec.Column(2), row).(float64); ok {
			if got := query[int64](t, db, "SELECT count(*) FROM read_parquet(?) WHERE f = ?", path, v); got == 0 {
				t.Errorf("f = %v finds nothing", v)
			}
			if got := query[int64](t, db, "SELECT count(*) FROM read_parquet(?) WHERE f >= ?", path, v); got == 0 {
				t.Errorf("f >= %v finds nothing", v)
			}
		}
		if v, ok := goValue(rec.Column(4), row).(int64); ok {
			if got := query[int64](t, db, "SELECT count(*) FROM read_parquet(?) WHERE t = make_timestamptz(?)", path, v); got == 0 {
				t.Errorf("t = %d finds nothing", v)
			}
		}
	}
}

func TestFilesOfAnySizeAreReadByAll(t *testing.T) {
	wide := make([]arrow.Field, 300)
	for i := range wide {
		wide[i] = arrow.Field{Name: fmt.Sprintf("c%03d", i), Type: []arrow.DataType{arrow.BinaryTypes.String, arrow.PrimitiveTypes.Int64, arrow.FixedWidthTypes.Boolean}[i%3], Nullable: i%2 == 0}
	}
	narrow := arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.BinaryTypes.String},
		{Name: "at", Type: arrow.FixedWidthTypes.Timestamp_us},
		{Name: "maybe", Type: arrow.BinaryTypes.String, Nullable: true},
	}, nil)
	group := parquetfile.DefaultRowGroupRows
	var o parquetfile.Options
	if raceEnabled {
		group = 4096
		o.RowGroupRows = int64(group)
	}
	for _, c := range []struct {
		name   string
		schema *arrow.Schema
		rows   int
		groups int
	}{
		{"no rows", narrow, 0, 0},
		{"one row", narrow, 1, 1},
		{"one row group exactly", narrow, group, 1},
		{"one row more", narrow, group + 1, 2},
		{"300 columns", arrow.NewSchema(wide, nil), 500, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			rec := filled(c.schema, c.rows)
			path, st := write(t, o, rec)
			if err := parquetfile.Verify(t.Context(), path, st, parquetfile.VerifyFull); err != nil {
				t.Fatal(err)
			}
			equal(t, rec, readAll(t, path, parquetfile.ReadOptions{}))
			r, err := parquetfile.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = r.Close() }()
			if len(r.RowGroups()) != c.groups || r.Rows() != int64(c.rows) {
				t.Fatalf("%d rows in groups of %v", r.Rows(), r.RowGroups())
			}
			db := duck(t)
			if got := query[int64](t, db, "SELECT count(*) FROM read_parquet(?)", path); got != int64(c.rows) {
				t.Fatalf("DuckDB counts %d", got)
			}
			if got := query[int64](t, db, "SELECT count(*) FROM (DESCRIBE SELECT * FROM read_parquet('"+path+"'))"); got != int64(c.schema.NumFields()) {
				t.Fatalf("DuckDB sees %d columns", got)
			}
			if c.rows <= 500 {
				judge(t, path, rec)
			}
		})
	}
}

// filled makes rows that differ from each other.
func filled(s *arrow.Schema, rows int) arrow.Record {
	b := array.NewRecordBuilder(memory.DefaultAllocator, s)
	defer b.Release()
	for row := range rows {
		for i, f := range s.Fields() {
			if f.Nullable && (row+i)%4 == 1 {
				b.Field(i).AppendNull()
				continue
			}
			switch c := b.Field(i).(type) {
			case *array.StringBuilder:
				c.Append(fmt.Sprintf("%d-%d", i, row))
			case *array.Int64Builder:
				c.Append(int64(row * i))
			case *array.TimestampBuilder:
				c.Append(arrow.Timestamp(row) * 1_000_000)
			case *array.BooleanBuilder:
				c.Append(row%3 == 0)
			}
		}
	}
	return b.NewRecord()
}
