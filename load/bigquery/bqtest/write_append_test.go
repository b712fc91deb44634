package bqtest

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

func TestTheFirstRequestOfAConnectionNamesStreamAndSchema(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("contacts", "id:STRING")
	name := ref.defaultStream()
	for _, tc := range []struct {
		req  *storagepb.AppendRowsRequest
		code codes.Code
		text string
	}{
		{protoReq("", idOnly, wire("a")), codes.InvalidArgument, "write_stream"},
		{protoReq(name, nil, wire("a")), codes.InvalidArgument, "writer_schema"},
		{&storagepb.AppendRowsRequest{WriteStream: name}, codes.InvalidArgument, "no rows"},
		{protoReq("contacts", idOnly, wire("a")), codes.InvalidArgument, "invalid stream name"},
		{protoReq(ref.path()+"/streams/none", idOnly, wire("a")), codes.NotFound, ""},
		{protoReq(tableRef{"test-project", "crm", "none"}.defaultStream(), idOnly, wire("a")), codes.NotFound, ""},
	} {
		st.connect(t.Context()).ended(tc.req, tc.code, tc.text)
	}
	c := st.connect(t.Context())
	c.refused(protoReq(name, idOnly), codes.InvalidArgument, "no rows")
	c.refused(at(protoReq("", nil, wire("a")), 0), codes.InvalidArgument, "offset is not allowed")
	c.ok(protoReq("", nil, wire("a")))
}

func TestDefaultStreamsShareAConnectionIfEachRequestSaysWhereItGoes(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	a, b := st.table("a", "id:STRING, n:INT64"), st.table("b", "id:STRING")
	c := st.connect(t.Context())
	c.ok(protoReq(a.defaultStream(), idOnly, wire("1")))
	c.ok(protoReq("", nil, wire("2")))
	c.ok(protoReq(b.defaultStream(), idOnly, wire("3")))
	c.ok(protoReq(b.defaultStream(), nil, wire("4")))
	c.ok(protoReq(a.defaultStream(), message("n:int64"), wire(5)))
	c.ended(protoReq("", nil, wire("6")), codes.InvalidArgument, "write_stream is needed")
	if diff := cmp.Diff([]string{"1 NULL", "2 NULL", "NULL 5"}, st.rows(a)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"3", "4"}, st.rows(b)); diff != "" {
		t.Error(diff)
	}

	c = st.connect(t.Context())
	c.ok(protoReq(a.defaultStream(), idOnly, wire("7")))
	c.ended(protoReq(b.defaultStream(), nil, wire("8")), codes.InvalidArgument, "writer_schema")
	c = st.connect(t.Context())
	c.ok(protoReq(a.defaultStream(), idOnly, wire("9")))
	c.ended(protoReq("", message("n:int64"), wire(9)), codes.InvalidArgument, "write_stream is needed")
	for _, names := range [][2]string{
		{a.defaultStream(), st.create(b, committed)}, {st.create(b, committed), a.defaultStream()}, {st.create(a, committed), st.create(b, committed)},
	} {
		c = st.connect(t.Context())
		c.ok(protoReq(names[0], idOnly, wire("x")))
		c.ended(protoReq(names[1], idOnly, wire("x")), codes.InvalidArgument, "default streams")
	}
}

func TestALaterSchemaOfAnExplicitStreamIsIgnored(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("contacts", "a:STRING, b:STRING")
	name := st.create(ref, committed)
	c := st.connect(t.Context())
	c.ok(protoReq(name, message("a:string"), wire("1")))
	c.ok(protoReq(name, message("b:string"), wire("2")))
	if diff := cmp.Diff([]string{"1 NULL", "2 NULL"}, st.rows(ref)); diff != "" {
		t.Fatal(diff)
	}
}

func TestARequestIsSmallerThan20MB(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("contacts", "id:STRING")
	sized := func(n int) *storagepb.AppendRowsRequest {
		req := protoReq(ref.defaultStream(), idOnly, wire(strings.Repeat("a", n)))
		return protoReq(ref.defaultStream(), idOnly, wire(strings.Repeat("a", 2*n-proto.Size(req))))
	}
	req := sized(19_999_999)
	if proto.Size(req) != 19_999_999 {
		t.Fatal(proto.Size(req))
	}
	st.connect(t.Context()).ok(req)
	st.connect(t.Context()).ended(sized(20_000_000), codes.InvalidArgument, "too large")
	if got := st.rows(ref); len(got) != 1 {
		t.Fatal(len(got))
	}
}

func TestABadRowIsNamedAndNoneOfItsRequestIsAppended(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("contacts", "id:STRING!, n:INT64, d:DATE")
	name := st.create(ref, committed)
	schema := message("id:string, n:int64, d:int32")
	c := st.connect(t.Context())
	r := c.refused(at(protoReq(name, schema, wire("a"), wire(nil, 1), wire("b"), wire("c", 1, 2932897), []byte{0xff}), 0),
		codes.InvalidArgument, "row_errors")
	var got []string
	for _, e := range r.GetRowErrors() {
		got = append(got, fmt.Sprint(e.GetIndex(), " ", e.GetCode(), " ", e.GetMessage()))
	}
	want := []string{
		"1 FIELDS_ERROR required field id is missing",
		"3 FIELDS_ERROR field d has day 2932897, outside the range of DATE",
		"4 FIELDS_ERROR ",
	}
	if len(got) != 3 || got[0] != want[0] || got[1] != want[1] || !strings.HasPrefix(got[2], want[2]) {
		t.Fatal(got)
	}
	if rows := st.rows(ref); len(rows) > 0 {
		t.Fatal(rows)
	}
	c.ok(at(protoReq("", nil, wire("a"), wire("b")), 0)) // the connection goes on at the same offset
}

func TestMissingValuesAreInterpretedAsToldOrRefused(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("contacts", "id:STRING, n:INT64")
	type m = map[string]storagepb.AppendRowsRequest_MissingValueInterpretation
	with := func(v m) *storagepb.AppendRowsRequest {
		req := protoReq(ref.defaultStream(), idOnly, wire("a"))
		req.MissingValueInterpretations = v
		return req
	}
	c := st.connect(t.Context())
	c.ok(with(m{"ID": storagepb.AppendRowsRequest_NULL_VALUE, "n": storagepb.AppendRowsRequest_DEFAULT_VALUE}))
	c.refused(with(m{"id": storagepb.AppendRowsRequest_MISSING_VALUE_INTERPRETATION_UNSPECIFIED}), codes.InvalidArgument, "unspecified")
	c.refused(with(m{"x": storagepb.AppendRowsRequest_NULL_VALUE}), codes.InvalidArgument, "no column")
}

func TestAWritersSchemaFitsTheTable(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("contacts", "id:STRING!, n:INT64, f:FLOAT64, b:BOOL, t:TIMESTAMP, d:DATE, j:JSON, y:BYTES, x:NUMERIC")
	imported := message("id:string, n:.google.protobuf.Int64Value")
	for _, tc := range []struct {
		schema, text string
		detail       storagepb.StorageError_StorageErrorCode
	}{
		{"id:string, more:string", "extra fields: 'more'", storagepb.StorageError_SCHEMA_MISMATCH_EXTRA_FIELDS},
		{"n:int64", "required field id is missing", 0},
		{"id:string, ID:string", "", 0},
		{"id:string, n:int64*", "repeated", 0},
		{"id:int64", "does not take", 0},
		{"id:bytes", "does not take", 0},
		{"id:string, n:string", "does not take", 0},
		{"id:string, n:uint64", "does not take", 0},
		{"id:string, n:sint64", "does not take", 0},
		{"id:string, n:fixed64", "does not take", 0},
		{"id:string, n:double", "does not take", 0},
		{"id:string, f:int64", "does not take", 0},
		{"id:string, b:string", "does not take", 0},
		{"id:string, t:string", "does not take", 0},
		{"id:string, t:double", "does not take", 0},
		{"id:string, d:uint32", "does not take", 0},
		{"id:string, j:bytes", "does not take", 0},
		{"id:string, y:int64", "does not take", 0},
		{"id:string, x:bool", "does not take", 0},
	} {
		r := st.connect(t.Context()).refused(protoReq(ref.defaultStream(), message(tc.schema), wire("a")), codes.InvalidArgument, tc.text)
		wantStorage(t, status.FromProto(r.GetError()), tc.detail)
	}
	// A type that is not in the descriptor itself, the well-known ones included.
	c := st.connect(t.Context())
	c.refused(protoReq(ref.defaultStream(), imported, wire("a")), codes.InvalidArgument, "Invalid proto schema")
	c.refused(protoReq("", nil, wire("a")), codes.InvalidArgument, "Invalid proto schema")
	if rows := st.rows(ref); len(rows) > 0 {
		t.Fatal(rows)
	}
}

func TestAFieldMayHaveAnotherCaseThanItsColumn(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("contacts", "Id:STRING!, createdAt:TIMESTAMP")
	st.connect(t.Context()).ok(protoReq(ref.defaultStream(), message("CREATEDAT:int64, iD:string"), wire(1, "a")))
	if diff := cmp.Diff([]string{"a 1970-01-01 00:00:00.000001"}, st.rows(ref)); diff != "" {
		t.Fatal(diff)
	}
}

func TestInjectedFaultsMeetSingleRequestsAndCalls(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("contacts", "id:STRING")
	name := st.create(ref, pending)
	first := func(o int64, id string) *storagepb.AppendRowsRequest { return at(protoReq(name, idOnly, wire(id)), o) }

	st.s.Inject(Fault{Call: "AppendRows", Skip: 1, Code: codes.Unavailable})
	c := st.connect(t.Context())
	c.ok(first(0, "a"))
	c.ended(first(1, "b"), codes.Unavailable, "injected")

	st.s.Inject(Fault{Call: "AppendRows", After: true, Drop: true})
	st.connect(t.Context()).ended(first(1, "b"), codes.Unavailable, "EOF")
	st.connect(t.Context()).refused(first(1, "b"), codes.AlreadyExists, "")

	st.s.Inject(Fault{Call: "AppendRows.response", Code: codes.Aborted})
	st.s.Inject(Fault{Call: "AppendRows.response", Code: codes.ResourceExhausted})
	c = st.connect(t.Context())
	c.refused(first(2, "c"), codes.Aborted, "")
	c.refused(first(2, "c"), codes.ResourceExhausted, "")
	c.ok(first(2, "c"))

	if n := st.s.Calls()["AppendRows"]; n != 7 {
		t.Errorf("counted %d requests", n)
	}
	st.s.Inject(Fault{Call: "FinalizeWriteStream", Code: codes.Internal})
	_, err := st.write.FinalizeWriteStream(t.Context(), &storagepb.FinalizeWriteStreamRequest{Name: name})
	wantStatus(t, err, codes.Internal, "injected")
	if n := st.finalize(name); n != 3 {
		t.Fatal(n)
	}
	commit := &storagepb.BatchCommitWriteStreamsRequest{Parent: ref.path(), WriteStreams: []string{name}}
	st.s.Inject(Fault{Call: "BatchCommitWriteStreams", Code: codes.Unavailable})
	_, err = st.write.BatchCommitWriteStreams(t.Context(), commit)
	wantStatus(t, err, codes.Unavailable, "injected")
	if rows := st.rows(ref); len(rows) > 0 {
		t.Fatal(rows)
	}
	called := 0
	st.s.Inject(Fault{Call: "BatchCommitWriteStreams", After: true, Drop: true, Delay: time.Millisecond, OnCall: func() { called++ }})
	_, err = st.write.BatchCommitWriteStreams(t.Context(), commit)
	wantStatus(t, err, codes.Unavailable, "EOF")
	if diff := cmp.Diff([]string{"a", "b", "c"}, st.rows(ref)); diff != "" || called != 1 {
		t.Fatal(diff, called)
	}
	for _, call := range []string{"CreateWriteStream", "GetWriteStream", "FlushRows"} {
		st.s.Inject(Fault{Call: call, Code: codes.PermissionDenied})
	}
	_, err = st.write.CreateWriteStream(t.Context(), &storagepb.CreateWriteStreamRequest{})
	wantStatus(t, err, codes.PermissionDenied, "")
	_, err = st.write.GetWriteStream(t.Context(), &storagepb.GetWriteStreamRequest{})
	wantStatus(t, err, codes.PermissionDenied, "")
	_, err = st.write.FlushRows(t.Context(), &storagepb.FlushRowsRequest{})
	wantStatus(t, err, codes.PermissionDenied, "")
}

func TestFormatsDoNotMixOnOneConnection(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("contacts", "id:STRING")
	c := st.connect(t.Context())
	c.ok(protoReq(ref.defaultStream(), idOnly, wire("a")))
	c.ended(&storagepb.AppendRowsRequest{WriteStream: ref.defaultStream(), Rows: &storagepb.AppendRowsRequest_ArrowRows{
		ArrowRows: &storagepb.AppendRowsRequest_ArrowData{Rows: &storagepb.ArrowRecordBatch{SerializedRecordBatch: bytes.Repeat([]byte{1}, 8)}},
	}}, codes.InvalidArgument, "same format")
}
