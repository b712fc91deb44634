package parquetfile_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/sluice-etl/sluice/internal/parquetfile"
)

// contactSchema is shaped like a real table of contacts: 33 columns.
func contactSchema() *arrow.Schema {
	str, ts, b := arrow.BinaryTypes.String, arrow.FixedWidthTypes.Timestamp_us, arrow.FixedWidthTypes.Boolean
	i64, f64 := arrow.PrimitiveTypes.Int64, arrow.PrimitiveTypes.Float64
	opt := func(n string, t arrow.DataType) arrow.Field { return arrow.Field{Name: n, Type: t, Nullable: true} }
	req := func(n string, t arrow.DataType) arrow.Field { return arrow.Field{Name: n, Type: t} }
	fields := []arrow.Field{
		{
			Name: "id", Type: str,
			Metadata: arrow.NewMetadata([]string{"description"}, []string{"Contact's key, \"quoted\" ñ"}),
		},
		opt("name", str), opt("phone", str), opt("email", str), opt("platform", str),
		opt("last_message_at", ts), req("created_at", ts), req("updated_at", ts),
		opt("chat_status", str), opt("client_id", str), opt("ai_customer_id", str), opt("default_stage_id", str),
		opt("blocked", b), opt("is_chat_read", b),
		opt("active_ticket_v2_id", str), opt("active_ticket_v2_current_stage_id", str),
		opt("cf_customer_city", str), opt("cf_customer_plan", str), opt("cf_customer_rut", str),
		opt("cf_customer_company", str), opt("cf_customer_source", str), opt("cf_customer_language", str),
		opt("cf_customer_score", f64), opt("cf_customer_visits", i64), opt("cf_customer_birthday", arrow.FixedWidthTypes.Date32),
		opt("cf_ticket_priority", str), opt("cf_ticket_product", str), opt("cf_ticket_amount", f64), opt("cf_ticket_notes", str),
		req("_sluice_extracted_at", ts), req("_sluice_row", i64), opt("_sluice_deleted_at", ts), req("_sluice_hash", i64),
	}
	return arrow.NewSchema(fields, nil)
}

var (
	firstNames = []string{"María José", "Juan", "Ñandú", "Zoë", "José", "Łukasz", "陳", "Ana", "Pedro", "Constanza", "O'Higgins", "😀"}
	lastNames  = []string{"González", "Muñoz", "Rojas", "Díaz", "Pérez", "Soto", "Contreras", "Silva", "Martínez", "Sepúlveda"}
	platforms  = []string{"whatsapp", "web-whatsapp", "instagram", "webchat", "sms", "messenger", "tiktok", "voice", "playground"}
	cities     = []string{"Santiago", "Valparaíso", "Concepción", "La Serena", "Antofagasta", "Temuco", "Iquique", "Punta Arenas"}
	words      = []string{"cotización", "envío", "urgente", "pide", "llamar", "mañana", "descuento", "revisar", "contrato", "no", "responde", "hoy"}
)

func uuid(r *rand.Rand) string {
	return fmt.Sprintf("%08x-%04x-4%03x-a%03x-%012x", r.Uint32(), r.Uint32()&0xffff, r.Uint32()&0xfff, r.Uint32()&0xfff, r.Uint64()&0xffffffffffff)
}

// contacts returns rows [from, from+n) of a generated table.
func contacts(s *arrow.Schema, r *rand.Rand, from, n int) arrow.Record {
	b := array.NewRecordBuilder(memory.DefaultAllocator, s)
	defer b.Release()
	const epoch = int64(1_640_995_200_000_000) // 2022-01-01
	stages := make([]string, 40)
	for i := range stages {
		stages[i] = uuid(r)
	}
	str := func(i int, v string, null bool) {
		if null {
			b.Field(i).AppendNull()
		} else {
			b.Field(i).(*array.StringBuilder).Append(v)
		}
	}
	ts := func(i int, v int64, null bool) {
		if null {
			b.Field(i).AppendNull()
		} else {
			b.Field(i).(*array.TimestampBuilder).Append(arrow.Timestamp(v))
		}
	}
	for row := from; row < from+n; row++ {
		name := firstNames[r.IntN(len(firstNames))] + " " + lastNames[r.IntN(len(lastNames))]
		created := epoch + int64(row)*94_000_000 + r.Int64N(90_000)*1000
		updated := created + r.Int64N(90*86400*1000)*1000
		ticket := r.IntN(3) == 0
		str(0, uuid(r), false)
		str(1, name, r.IntN(50) == 0)
		str(2, fmt.Sprintf("+569%08d", r.IntN(1e8)), r.IntN(10) == 0)
		str(3, fmt.Sprintf("user%d@example%d.cl", r.IntN(1e7), r.IntN(500)), r.IntN(3) == 0)
		str(4, platforms[r.IntN(len(platforms))], false)
		ts(5, updated-r.Int64N(3600_000)*1000, r.IntN(20) == 0)
		ts(6, created, false)
		ts(7, updated, false)
		str(8, []string{"UNATTENDED", "ATTENDED", "CLOSED"}[r.IntN(3)], false)
		str(9, stages[0], false)
		str(10, uuid(r), false)
		str(11, stages[1+r.IntN(5)], r.IntN(9) == 0)
		b.Field(12).(*array.BooleanBuilder).Append(r.IntN(100) == 0)
		b.Field(13).(*array.BooleanBuilder).Append(r.IntN(2) == 0)
		str(14, uuid(r), !ticket)
		str(15, stages[r.IntN(len(stages))], !ticket)
		str(16, cities[r.IntN(len(cities))], r.IntN(4) == 0)
		str(17, []string{"free", "pro", "enterprise", ""}[r.IntN(4)], r.IntN(2) == 0)
		str(18, fmt.Sprintf("%d.%03d.%03d-%d", 5+r.IntN(20), r.IntN(1000), r.IntN(1000), r.IntN(10)), r.IntN(2) == 0)
		str(19, lastNames[r.IntN(len(lastNames))]+" "+cities[r.IntN(len(cities))]+" SpA", r.IntN(5) < 3)
		str(20, []string{"ads", "organic", "referral"}[r.IntN(3)], r.IntN(3) == 0)
		str(21, "es", r.IntN(8) == 0)
		if r.IntN(3) == 0 {
			b.Field(22).AppendNull()
			b.Field(23).AppendNull()
			b.Field(24).AppendNull()
		} else {
			b.Field(22).(*array.Float64Builder).Append(math.Round(r.Float64()*1000) / 10)
			b.Field(23).(*array.Int64Builder).Append(r.Int64N(300))
			b.Field(24).(*array.Date32Builder).Append(arrow.Date32(r.IntN(20000)))
		}
		str(25, []string{"low", "mid", "high"}[r.IntN(3)], !ticket)
		str(26, fmt.Sprintf("SKU-%04d", r.IntN(3000)), !ticket)
		if ticket {
			b.Field(27).(*array.Float64Builder).Append(float64(r.IntN(1e8)) / 100)
		} else {
			b.Field(27).AppendNull()
		}
		note := ""
		for range r.IntN(12) {
			note += words[r.IntN(len(words))] + " "
		}
		str(28, note, !ticket)
		ts(29, epoch+int64(row/1000)*250_000+1e14, false)
		b.Field(30).(*array.Int64Builder).Append(int64(row))
		ts(31, 0, true)
		b.Field(32).(*array.Int64Builder).Append(int64(r.Uint64()))
	}
	return b.NewRecord()
}

// write writes the records to a new file and returns it and its Stats.
func write(t *testing.T, o parquetfile.Options, recs ...arrow.Record) (string, parquetfile.Stats) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f.parquet")
	if o.Schema == nil {
		o.Schema = recs[0].Schema()
	}
	w, err := parquetfile.Create(path, o)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	for _, r := range recs {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	st, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Publish(); err != nil {
		t.Fatal(err)
	}
	return path, st
}

// readAll reads a file whole; the caller releases the record.
func readAll(t *testing.T, path string, o parquetfile.ReadOptions) arrow.Record {
	t.Helper()
	r, err := parquetfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	recs, err := r.Read(o)
	if err != nil {
		t.Fatal(err)
	}
	return drain(t, recs)
}
