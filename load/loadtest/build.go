package loadtest

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/sluice-etl/sluice/internal/parquetfile"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

// Row is one row by column name. Values are string, int64, float64, bool,
// time.Time (UTC, microseconds; midnight for dates) or nil; an absent column
// is a null.
type Row map[string]any

// ID returns the row's id.
func (r Row) ID() string {
	id, _ := r[schemas.ColID].(string)
	return id
}

// With returns a copy of r with further values, given as name, value, ...
func (r Row) With(pairs ...any) Row {
	out := maps.Clone(r)
	for i := 0; i+1 < len(pairs); i += 2 {
		out[fmt.Sprint(pairs[i])] = pairs[i+1]
	}
	return out
}

// Contact returns a row with an id, created and updated at the given times.
func Contact(id string, created, updated time.Time, pairs ...any) Row {
	return Row{schemas.ColID: id, schemas.ColCreatedAt: created, schemas.ColUpdatedAt: updated}.With(pairs...)
}

// BaseColumns are the contract columns of the built packages: a cut of the
// contacts contract with every kind of column the views use.
func BaseColumns() []schemas.Column {
	str := func(name string) schemas.Column {
		return schemas.Column{Name: name, Type: schemas.String, Origin: schemas.FromContract, Source: name}
	}
	ts := func(name string) schemas.Column {
		c := str(name)
		c.Type = schemas.Timestamp
		return c
	}
	flag := func(name string) schemas.Column {
		c := str(name)
		c.Type = schemas.Bool
		return c
	}
	cols := []schemas.Column{
		str(schemas.ColID), str("name"), str("phone"), str("email"), str("platform"), ts("last_message_at"), str("chat_status"),
		ts(schemas.ColCreatedAt), ts(schemas.ColUpdatedAt), str("client_id"), str("ai_customer_id"), str("default_stage_id"),
		flag("blocked"), flag("is_chat_read"), str("active_ticket_v2_id"), str("active_ticket_v2_current_stage_id"),
	}
	cols[1].Description = "Name as the channel gives it"
	for i := range cols {
		switch cols[i].Name {
		case schemas.ColID, schemas.ColCreatedAt, schemas.ColUpdatedAt:
			cols[i].Required = true
		}
	}
	return cols
}

// Table returns the table of BaseColumns, extra columns by name, and the
// system columns.
func Table(extra ...schemas.Column) schemas.Table {
	extra = slices.Clone(extra)
	slices.SortFunc(extra, func(a, b schemas.Column) int { return cmp.Compare(a.Name, b.Name) })
	return schemas.Table{Columns: slices.Concat(BaseColumns(), extra, schemas.SystemColumns())}
}

// Extra returns a discovered column.
func Extra(name string, t schemas.Type) schemas.Column {
	return schemas.Column{Name: name, Type: t, Origin: schemas.Discovered, Source: name}
}

// Spec describes a package to build.
type Spec struct {
	Serial  int64
	Lineage string // default "lineage-a"
	RunID   string // default from Serial
	// Extracted is _sluice_extracted_at of rows that do not say. Default: an
	// hour past Epoch for each serial.
	Extracted time.Time
	// Extra columns of the table. A part without a value in one lacks it.
	Extra []schemas.Column
	// Renamed are the contract columns that the contract has renamed: other names
	// by those of BaseColumns, which Rows go by still. The columns of such a
	// package say what they are filled from, as those of a contract do.
	Renamed map[string]string
	// Rows in order of arrival: that is their _sluice_row. _sluice_hash is
	// computed from the exported columns unless a row has one.
	Rows []Row
	// PartRows splits Rows into parts of this size; 0: one part.
	PartRows int
	Coverage []byte
	Verify   load.Verify
}

// Epoch is the time the built packages begin at.
var Epoch = time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC)

// Build writes the parts of a package under a temporary directory.
func Build(tb testing.TB, s Spec) load.Package {
	tb.Helper()
	s.Lineage = cmp.Or(s.Lineage, "lineage-a")
	s.RunID = cmp.Or(s.RunID, fmt.Sprintf("run-%03d", s.Serial))
	if s.Extracted.IsZero() {
		s.Extracted = Epoch.Add(time.Duration(s.Serial) * time.Hour)
	}
	if s.PartRows <= 0 {
		s.PartRows = max(1, len(s.Rows))
	}
	p := load.Package{
		Serial: s.Serial, Lineage: s.Lineage, Pipeline: "nightly", RunID: s.RunID, SealedAt: s.Extracted.Add(time.Minute),
		Table: s.table(), Coverage: s.Coverage, Verify: s.Verify,
	}
	rows := make([]Row, len(s.Rows))
	for i, r := range s.Rows {
		r = maps.Clone(r)
		r[schemas.ColRow] = int64(i)
		if r[schemas.ColHash] == nil {
			r[schemas.ColHash] = Hash(r)
		}
		if r[schemas.ColExtractedAt] == nil {
			r[schemas.ColExtractedAt] = s.Extracted
		}
		rows[i] = s.renamed(r)
	}
	dir := tb.TempDir()
	for n, chunk := range slices.Collect(slices.Chunk(rows, s.PartRows)) {
		p.Parts = append(p.Parts, writePart(tb, filepath.Join(dir, fmt.Sprintf("part-%04d.parquet", n)), chunk, s))
	}
	return p
}

// columns are BaseColumns as the contract of the package has them.
func (s Spec) columns() []schemas.Column {
	cols := BaseColumns()
	for i := range cols {
		ref := schemas.FieldRef{Scope: schemas.ScopeContact, Key: cols[i].Name}
		if key, ok := strings.CutPrefix(ref.Key, schemas.TicketField+"_"); ok {
			ref = schemas.FieldRef{Scope: schemas.ScopeTicket, Key: key}
		}
		if len(s.Renamed) > 0 {
			cols[i].Source = ref.String()
		}
		cols[i].Name = cmp.Or(s.Renamed[cols[i].Name], cols[i].Name)
	}
	return cols
}

func (s Spec) table() schemas.Table {
	t := Table(s.Extra...)
	copy(t.Columns, s.columns())
	return t
}

func (s Spec) renamed(r Row) Row {
	out := Row{}
	for name, v := range r {
		out[cmp.Or(s.Renamed[name], name)] = v
	}
	return out
}

// Hash is a hash of the exported columns of r, independent of their order and
// of nulls.
func Hash(r Row) int64 {
	var sum uint64
	for name, v := range r {
		if v == nil || slices.ContainsFunc(schemas.SystemColumns(), func(c schemas.Column) bool { return c.Name == name }) {
			continue
		}
		h := fnv.New64a()
		_, _ = fmt.Fprintf(h, "%s\x00%T\x00%v", name, v, v) // a hash's Write never fails
		sum += h.Sum64()
	}
	return int64(sum) //nolint:gosec // all 64 bits are meant
}

func writePart(tb testing.TB, path string, rows []Row, s Spec) load.Part {
	tb.Helper()
	month := func(r Row) string { return timeOf(tb, r[schemas.ColCreatedAt]).Format("2006-01") }
	slices.SortStableFunc(rows, func(a, b Row) int { return cmp.Compare(month(a), month(b)) })
	cols := s.columns()
	for _, c := range s.Extra {
		if slices.ContainsFunc(rows, func(r Row) bool { return r[c.Name] != nil }) {
			cols = append(cols, c)
		}
	}
	cols = append(cols, schemas.StagedColumns()...)
	schema := schemas.Table{Columns: cols}.Arrow()
	rec := Record(tb, schema, rows)
	defer rec.Release()
	w, err := parquetfile.Create(path, parquetfile.Options{Schema: schema})
	if err != nil {
		tb.Fatal(err)
	}
	defer w.Abort()
	if err := w.Write(rec); err != nil {
		tb.Fatal(err)
	}
	stats, err := w.Finish()
	if err != nil {
		tb.Fatal(err)
	}
	if err := w.Publish(); err != nil {
		tb.Fatal(err)
	}
	return load.Part{Path: path, Rows: stats.Rows, Bytes: stats.Bytes}
}

// Record builds rows into a record. The caller releases it.
func Record(tb testing.TB, schema *arrow.Schema, rows []Row) arrow.Record {
	tb.Helper()
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	for _, r := range rows {
		for name := range r {
			if len(schema.FieldIndices(name)) == 0 && r[name] != nil {
				tb.Fatalf("row %s has a column %q that the table lacks", r.ID(), name)
			}
		}
		for i, f := range schema.Fields() {
			appendValue(tb, b.Field(i), r[f.Name])
		}
	}
	return b.NewRecord()
}

func appendValue(tb testing.TB, b array.Builder, v any) {
	tb.Helper()
	if v == nil {
		b.AppendNull()
		return
	}
	ok := true
	switch b := b.(type) {
	case *array.StringBuilder:
		var s string
		if s, ok = v.(string); ok {
			b.Append(s)
		}
	case *array.Int64Builder:
		switch n := v.(type) {
		case int64:
			b.Append(n)
		case int:
			b.Append(int64(n))
		default:
			ok = false
		}
	case *array.Float64Builder:
		var f float64
		if f, ok = v.(float64); ok {
			b.Append(f)
		}
	case *array.BooleanBuilder:
		var f bool
		if f, ok = v.(bool); ok {
			b.Append(f)
		}
	case *array.TimestampBuilder:
		b.Append(arrow.Timestamp(timeOf(tb, v).UnixMicro()))
	case *array.Date32Builder:
		b.Append(arrow.Date32FromTime(timeOf(tb, v)))
	default:
		ok = false
	}
	if !ok {
		tb.Fatalf("value %v (%T) does not fit %T", v, v, b)
	}
}

func timeOf(tb testing.TB, v any) time.Time {
	tb.Helper()
	t, ok := v.(time.Time)
	if !ok {
		tb.Fatalf("%v (%T) is no time.Time", v, v)
	}
	return t.UTC()
}
