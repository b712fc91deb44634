package bqtest

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"

	storage "cloud.google.com/go/bigquery/storage/apiv1"
	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/decimal128"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// messages keeps IPC messages, each encapsulated.
type messages struct{ list [][]byte }

func (*messages) Start() error { return nil }
func (*messages) Close() error { return nil }

func (m *messages) WritePayload(p ipc.Payload) error {
	meta := bytes.Clone(p.Meta().Bytes())
	for len(meta)%8 != 0 {
		meta = append(meta, 0)
	}
	b := bytes.NewBuffer(binary.LittleEndian.AppendUint32([]byte{0xff, 0xff, 0xff, 0xff}, uint32(len(meta))))
	b.Write(meta)
	err := p.SerializeBody(b)
	m.list = append(m.list, b.Bytes())
	return err
}

func schemaMessage(t *testing.T, schema *arrow.Schema) []byte {
	t.Helper()
	var m messages
	if err := ipc.NewWriterWithPayloadWriter(&m, ipc.WithSchema(schema)).Close(); err != nil {
		t.Fatal(err)
	}
	return m.list[0]
}

func batchMessage(t *testing.T, rec arrow.Record, opts ...ipc.Option) []byte {
	t.Helper()
	var m messages
	w := ipc.NewWriterWithPayloadWriter(&m, append(opts, ipc.WithSchema(rec.Schema()))...)
	if err := w.Write(rec); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return m.list[len(m.list)-1]
}

// record reads rows from JSON.
func record(t *testing.T, schema *arrow.Schema, rows string) arrow.Record {
	t.Helper()
	rec, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, bytes.NewReader([]byte(rows)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rec.Release)
	return rec
}

func arrowReq(stream string, schema, rows []byte) *storagepb.AppendRowsRequest {
	data := &storagepb.AppendRowsRequest_ArrowData{Rows: &storagepb.ArrowRecordBatch{SerializedRecordBatch: rows}}
	if schema != nil {
		data.WriterSchema = &storagepb.ArrowSchema{SerializedSchema: schema}
	}
	return &storagepb.AppendRowsRequest{WriteStream: stream, Rows: &storagepb.AppendRowsRequest_ArrowRows{ArrowRows: data}}
}

func fieldsOf(types ...any) *arrow.Schema {
	var fields []arrow.Field
	for i := 0; i < len(types); i += 2 {
		fields = append(fields, arrow.Field{Name: types[i].(string), Type: types[i+1].(arrow.DataType), Nullable: true}) //nolint:forcetypeassert // of the test
	}
	return arrow.NewSchema(fields, nil)
}

func TestTheGeneratedClientAppendsArrowToAPendingStream(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("contacts", "id:STRING!, n:INT64, f:FLOAT64, b:BOOL, at:TIMESTAMP, d:DATE, j:JSON, y:BYTES, x:NUMERIC, l:DATETIME")
	client, err := storage.NewBigQueryWriteClient(t.Context(), option.WithEndpoint(st.s.Addr()), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	stream, err := client.CreateWriteStream(t.Context(), &storagepb.CreateWriteStreamRequest{
		Parent: ref.path(), WriteStream: &storagepb.WriteStream{Type: pending},
	})
	if err != nil {
		t.Fatal(err)
	}
	schema := fieldsOf("ID", arrow.BinaryTypes.String, "n", arrow.PrimitiveTypes.Int64, "f", arrow.PrimitiveTypes.Float64,
		"b", arrow.FixedWidthTypes.Boolean, "at", arrow.FixedWidthTypes.Timestamp_us, "d", arrow.FixedWidthTypes.Date32,
		"j", arrow.BinaryTypes.String, "y", arrow.BinaryTypes.Binary, "x", &arrow.Decimal128Type{Precision: 10, Scale: 2},
		"l", &arrow.TimestampType{Unit: arrow.Microsecond})
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	b.Field(0).(*array.StringBuilder).AppendValues([]string{"a", "é"}, nil)
	b.Field(1).(*array.Int64Builder).AppendValues([]int64{math.MaxInt64, math.MinInt64}, nil)
	b.Field(2).(*array.Float64Builder).AppendValues([]float64{0.5, math.Inf(1)}, nil)
	b.Field(3).(*array.BooleanBuilder).AppendValues([]bool{true, false}, nil)
	b.Field(4).(*array.TimestampBuilder).AppendValues([]arrow.Timestamp{1, -1}, nil)
	b.Field(5).(*array.Date32Builder).AppendValues([]arrow.Date32{0, 1}, nil)
	b.Field(6).(*array.StringBuilder).AppendValues([]string{"{}", ""}, []bool{true, false})
	b.Field(7).(*array.BinaryBuilder).AppendValues([][]byte{{1}, nil}, []bool{true, false})
	b.Field(8).(*array.Decimal128Builder).AppendValues([]decimal128.Num{decimal128.FromI64(-125), decimal128.FromI64(1)}, nil)
	b.Field(9).(*array.TimestampBuilder).AppendValues([]arrow.Timestamp{2, 3}, nil)
	rec := b.NewRecord()
	defer rec.Release()

	conn, err := client.AppendRows(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range [][]byte{schemaMessage(t, schema), nil} {
		if err := conn.Send(at(arrowReq(stream.GetName(), s, batchMessage(t, rec)), int64(2*i))); err != nil {
			t.Fatal(err)
		}
		r, err := conn.Recv()
		if err != nil || r.GetError() != nil || r.GetAppendResult().GetOffset().GetValue() != int64(2*i) {
			t.Fatal(r, err)
		}
	}
	if n := st.finalize(stream.GetName()); n != 4 {
		t.Fatal(n)
	}
	st.commit(ref, stream.GetName())
	first := `a 9223372036854775807 0.5 true 1970-01-01 00:00:00.000001 1970-01-01 {} \x01 -1.250000000 1970-01-01 00:00:00.000002`
	second := `é -9223372036854775808 inf false 1969-12-31 23:59:59.999999 1970-01-02 NULL NULL 0.010000000 1970-01-01 00:00:00.000003`
	if diff := cmp.Diff([]string{first, first, second, second}, st.rows(ref)); diff != "" {
		t.Fatal(diff)
	}
}

func TestArrowIsTakenAsBareMessagesOnly(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("contacts", "id:STRING")
	schema := fieldsOf("id", arrow.BinaryTypes.String)
	rec := record(t, schema, `[{"id":"a"}]`)
	s, r := schemaMessage(t, schema), batchMessage(t, rec)
	var file bytes.Buffer
	w := ipc.NewWriter(&file, ipc.WithSchema(schema))
	if err := w.Write(rec); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	stream := file.Bytes()
	end := []byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}
	why := map[string]string{
		"the schema as the rows": "is wanted", "the rows as the schema": "is wanted", "rows without the continuation": "no continuation marker",
		"rows and an end": "8 bytes follow", "nothing for rows": "no IPC message",
	}
	for name, tc := range map[string]struct{ schema, rows []byte }{
		"a stream as the rows":          {s, stream},
		"a stream as the schema":        {stream, r},
		"the schema as the rows":        {s, s},
		"the rows as the schema":        {r, r},
		"rows and an end":               {s, append(bytes.Clone(r), end...)},
		"a schema and an end":           {append(bytes.Clone(s), end...), r},
		"rows cut short":                {s, r[:len(r)-1]},
		"a schema cut short":            {s[:len(s)-9], r},
		"nothing for rows":              {s, nil},
		"nothing for a schema":          {[]byte{}, r},
		"rows without the continuation": {s, r[4:]},
		"rows of two batches":           {s, append(bytes.Clone(r), r...)},
		"noise":                         {s, bytes.Repeat([]byte{0xff, 0xff, 0xff, 0xff, 8, 0, 0, 0}, 4)},
		"a compressed batch":            {s, batchMessage(t, rec, ipc.WithZstd())},
		"a batch of other columns":      {s, batchMessage(t, record(t, fieldsOf("id", arrow.BinaryTypes.String, "n", arrow.PrimitiveTypes.Int64), `[{"id":"a","n":1}]`))},
	} {
		t.Run(name, func(t *testing.T) {
			c := st.connect(t.Context())
			c.t = t
			c.refused(arrowReq(ref.defaultStream(), tc.schema, tc.rows), codes.InvalidArgument, "Arrow")
			c.refused(arrowReq(ref.defaultStream(), tc.schema, tc.rows), codes.InvalidArgument, why[name])
		})
	}
	changed := schemaMessage(t, fieldsOf("id", arrow.BinaryTypes.String, "_CHANGE_TYPE", arrow.BinaryTypes.String))
	st.connect(t.Context()).refused(arrowReq(ref.defaultStream(), changed, r), codes.InvalidArgument, "does not take Arrow")
	if rows := st.rows(ref); len(rows) > 0 {
		t.Fatal(rows)
	}
	st.connect(t.Context()).ok(arrowReq(ref.defaultStream(), s, r))
}

func TestArrowTypesFitTheirColumns(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("contacts", "id:STRING!, n:INT64, f:FLOAT64, at:TIMESTAMP, l:DATETIME, d:DATE, o:TIME, y:BYTES")
	for _, tc := range []struct {
		name string
		t    arrow.DataType
		rows string // "" is refused
	}{
		{"n", arrow.PrimitiveTypes.Int8, `-1`},
		{"n", arrow.PrimitiveTypes.Uint64, `1`},
		{"n", arrow.PrimitiveTypes.Float64, ""},
		{"n", arrow.BinaryTypes.String, ""},
		{"f", arrow.PrimitiveTypes.Float32, `0.5`},
		{"f", arrow.PrimitiveTypes.Int64, ""},
		{"at", arrow.FixedWidthTypes.Timestamp_us, `"2026-03-01 00:00:00.000001"`},
		{"at", arrow.FixedWidthTypes.Timestamp_ms, ""},
		{"at", arrow.FixedWidthTypes.Timestamp_ns, ""},
		{"at", &arrow.TimestampType{Unit: arrow.Microsecond}, ""},
		{"at", arrow.PrimitiveTypes.Int64, ""},
		{"l", &arrow.TimestampType{Unit: arrow.Microsecond}, `"2026-03-01 00:00:00.000001"`},
		{"l", arrow.FixedWidthTypes.Timestamp_us, ""},
		{"d", arrow.FixedWidthTypes.Date32, `"2026-03-01"`},
		{"d", arrow.PrimitiveTypes.Int32, `1`},
		{"d", arrow.BinaryTypes.String, `"2026-03-01"`},
		{"d", arrow.FixedWidthTypes.Date64, ""},
		{"o", arrow.FixedWidthTypes.Time64us, ""},
		{"y", arrow.BinaryTypes.Binary, `"YQ=="`},
		{"y", arrow.BinaryTypes.LargeBinary, ""},
		{"y", arrow.BinaryTypes.String, ""},
		{"id", arrow.BinaryTypes.LargeString, ""},
		{"id", &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.BinaryTypes.String}, ""},
		{"more", arrow.BinaryTypes.String, ""},
		{"_CHANGE_TYPE", arrow.BinaryTypes.String, ""},
		{"ID", arrow.BinaryTypes.String, ""},
	} {
		schema := fieldsOf("id", arrow.BinaryTypes.String, tc.name, tc.t)
		if tc.name == "id" {
			schema = fieldsOf("id", tc.t)
		}
		rows := []byte("none")
		if tc.rows != "" {
			rows = batchMessage(t, record(t, schema, `[{"id":"x","`+tc.name+`":`+tc.rows+`}]`))
		}
		r, err := st.connect(t.Context()).try(arrowReq(ref.defaultStream(), schemaMessage(t, schema), rows))
		if err != nil {
			t.Fatal(err)
		}
		refused := r.GetError() != nil && r.GetError().GetMessage() != "" && !bytes.Contains([]byte(r.GetError().GetMessage()), []byte("record batch"))
		if refused != (tc.rows == "") {
			t.Errorf("%s from %s: %v", tc.name, tc.t, r)
		}
		if tc.name == "more" {
			wantStorage(t, status.FromProto(r.GetError()), storagepb.StorageError_SCHEMA_MISMATCH_EXTRA_FIELDS)
		}
	}
	s := fieldsOf("n", arrow.PrimitiveTypes.Int64)
	st.connect(t.Context()).refused(arrowReq(ref.defaultStream(), schemaMessage(t, s), nil), codes.InvalidArgument, "required field id")
}

func TestABadRowOfARecordBatchIsNamed(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("contacts", "id:STRING!, j:JSON, n:INT64")
	schema := fieldsOf("id", arrow.BinaryTypes.String, "j", arrow.BinaryTypes.String, "n", arrow.PrimitiveTypes.Uint64)
	rec := record(t, schema, `[{"id":"a"},{"j":"{","n":9223372036854775808},{"id":"c","j":"{"},{"id":"d","n":9223372036854775808}]`)
	r := st.connect(t.Context()).refused(arrowReq(ref.defaultStream(), schemaMessage(t, schema), batchMessage(t, rec)), codes.InvalidArgument, "row_errors")
	got := map[int64]string{}
	for _, e := range r.GetRowErrors() {
		got[e.GetIndex()] = e.GetMessage()
	}
	want := map[int64]string{
		1: "field id is required and missing", 2: "field j is not valid JSON", 3: "field n has 9223372036854775808, which is out of range",
	}
	if diff := cmp.Diff(want, got); diff != "" || len(st.rows(ref)) > 0 {
		t.Fatal(diff)
	}
}
