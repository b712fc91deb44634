package bqtest

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/bigquery"
	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"cloud.google.com/go/bigquery/storage/managedwriter"
	"cloud.google.com/go/bigquery/storage/managedwriter/adapt"
	bq "google.golang.org/api/bigquery/v2"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// handClock is a clock that tests move.
type handClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *handClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *handClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// stand is a server, its clock and clients.
type stand struct {
	t     *testing.T
	s     *Server
	clock *handClock
	conn  *grpc.ClientConn
	write storagepb.BigQueryWriteClient
}

func start(t *testing.T, o Options) *stand {
	t.Helper()
	c := &handClock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	o.Clock = c
	s, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	conn, err := grpc.NewClient(s.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &stand{t: t, s: s, clock: c, conn: conn, write: storagepb.NewBigQueryWriteClient(conn)}
}

// managed is the client that loaders use.
func (st *stand) managed(opts ...option.ClientOption) *managedwriter.Client {
	st.t.Helper()
	opts = append([]option.ClientOption{
		option.WithEndpoint(st.s.Addr()), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
	}, opts...)
	c, err := managedwriter.NewClient(st.t.Context(), st.s.Project(), opts...)
	if err != nil {
		st.t.Fatal(err)
	}
	st.t.Cleanup(func() { _ = c.Close() })
	return c
}

// client is the client of REST and SQL.
func (st *stand) client() *bigquery.Client {
	st.t.Helper()
	c, err := bigquery.NewClient(st.t.Context(), st.s.Project(), option.WithEndpoint(st.s.URL()), option.WithoutAuthentication())
	if err != nil {
		st.t.Fatal(err)
	}
	st.t.Cleanup(func() { _ = c.Close() })
	return c
}

// cols reads "id:STRING!, n:INT64": ! is REQUIRED.
func cols(spec string) []column {
	var columns []column
	for f := range strings.SplitSeq(spec, ",") {
		name, kind, _ := strings.Cut(strings.TrimSpace(f), ":")
		kind, required := strings.CutSuffix(kind, "!")
		columns = append(columns, column{name: name, kind: kind, required: required})
	}
	return columns
}

func (st *stand) table(name, spec string, key ...string) tableRef {
	st.t.Helper()
	ref := tableRef{st.s.Project(), "crm", name}
	s := st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.datasets["crm"] == nil {
		s.datasets["crm"] = &dataset{meta: &bq.Dataset{Location: "US"}, tables: map[string]*table{}}
	}
	t := &table{ref: ref, columns: cols(spec), meta: &bq.Table{}, created: s.now()}
	if len(key) > 0 {
		t.meta.TableConstraints = &bq.TableConstraints{PrimaryKey: &bq.TableConstraintsPrimaryKey{Columns: key}}
	}
	if err := s.createRows(st.t.Context(), t); err != nil {
		st.t.Fatal(err)
	}
	s.datasets["crm"].tables[name] = t
	return ref
}

// addColumn adds a column as ALTER TABLE does.
func (st *stand) addColumn(ref tableRef, spec string) {
	st.t.Helper()
	err := st.s.change(st.t.Context(), ref, func(conn *sql.Conn, t *table) error {
		for _, c := range cols(spec) {
			c.since = st.s.now()
			t.columns = append(t.columns, c)
			if _, err := conn.ExecContext(st.t.Context(), "ALTER TABLE "+t.phys+" ADD COLUMN "+c.name+" "+dataType(c.kind)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		st.t.Fatal(err)
	}
}

// rows are a table's, as text, in order of the first column.
func (st *stand) rows(ref tableRef) []string {
	st.t.Helper()
	if err := st.s.settle(st.t.Context(), ref); err != nil {
		st.t.Fatal(err)
	}
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	t, err := st.s.find(ref)
	if err != nil {
		st.t.Fatal(err)
	}
	var names []string
	for _, c := range t.columns {
		names = append(names, "coalesce("+quoteName(c.name)+"::VARCHAR, 'NULL')")
	}
	got, err := st.s.db.QueryContext(st.t.Context(), "SELECT concat_ws(' ', "+strings.Join(names, ", ")+") FROM "+t.phys+" ORDER BY 1")
	if err != nil {
		st.t.Fatal(err)
	}
	defer func() { _ = got.Close() }()
	list := []string{}
	for got.Next() {
		var s string
		if err := got.Scan(&s); err != nil {
			st.t.Fatal(err)
		}
		list = append(list, s)
	}
	if err := got.Err(); err != nil {
		st.t.Fatal(err)
	}
	return list
}

// create makes a stream.
func (st *stand) create(ref tableRef, kind storagepb.WriteStream_Type) string {
	st.t.Helper()
	r, err := st.write.CreateWriteStream(st.t.Context(), &storagepb.CreateWriteStreamRequest{
		Parent: ref.path(), WriteStream: &storagepb.WriteStream{Type: kind},
	})
	if err != nil {
		st.t.Fatal(err)
	}
	return r.GetName()
}

func (st *stand) finalize(name string) int64 {
	st.t.Helper()
	r, err := st.write.FinalizeWriteStream(st.t.Context(), &storagepb.FinalizeWriteStreamRequest{Name: name})
	if err != nil {
		st.t.Fatal(err)
	}
	return r.GetRowCount()
}

func (st *stand) commit(ref tableRef, names ...string) *storagepb.BatchCommitWriteStreamsResponse {
	st.t.Helper()
	r, err := st.write.BatchCommitWriteStreams(st.t.Context(), &storagepb.BatchCommitWriteStreamsRequest{Parent: ref.path(), WriteStreams: names})
	if err != nil {
		st.t.Fatal(err)
	}
	return r
}

// conversation is one connection of AppendRows.
type conversation struct {
	t *testing.T
	c storagepb.BigQueryWrite_AppendRowsClient
}

func (st *stand) connect(ctx context.Context) *conversation {
	st.t.Helper()
	c, err := st.write.AppendRows(ctx)
	if err != nil {
		st.t.Fatal(err)
	}
	return &conversation{t: st.t, c: c}
}

// try sends a request; err is of the answer or, with ended, of the connection.
func (c *conversation) try(req *storagepb.AppendRowsRequest) (answer *storagepb.AppendRowsResponse, ended error) {
	c.t.Helper()
	_ = c.c.Send(req) // a connection that has ended says why in Recv
	return c.c.Recv()
}

func (c *conversation) ok(req *storagepb.AppendRowsRequest) *storagepb.AppendRowsResponse {
	c.t.Helper()
	r, err := c.try(req)
	if err != nil {
		c.t.Fatal(err)
	}
	if e := r.GetError(); e != nil {
		c.t.Fatalf("%v %v", e, r.GetRowErrors())
	}
	return r
}

// refused wants an error in the answer.
func (c *conversation) refused(req *storagepb.AppendRowsRequest, code codes.Code, text string) *storagepb.AppendRowsResponse {
	c.t.Helper()
	r, err := c.try(req)
	if err != nil {
		c.t.Fatalf("the connection ended: %v", err)
	}
	all := fmt.Sprint(r.GetError().GetMessage(), r.GetRowErrors())
	if got := codes.Code(r.GetError().GetCode()); got != code || !strings.Contains(all, text) {
		c.t.Fatalf("got %s %q, want %s with %q", got, all, code, text)
	}
	return r
}

// ended wants the connection to end.
func (c *conversation) ended(req *storagepb.AppendRowsRequest, code codes.Code, text string) {
	c.t.Helper()
	_, err := c.try(req)
	wantStatus(c.t, err, code, text)
}

func wantStatus(t *testing.T, err error, code codes.Code, text string) {
	t.Helper()
	if status.Code(err) != code || !strings.Contains(fmt.Sprint(err), text) {
		t.Fatalf("got %v, want %s with %q", err, code, text)
	}
}

// storageCode is the code of the StorageError in a status.
func storageCode(st *status.Status) storagepb.StorageError_StorageErrorCode {
	for _, d := range st.Details() {
		if e, ok := d.(*storagepb.StorageError); ok {
			return e.GetCode()
		}
	}
	return 0
}

func wantStorage(t *testing.T, st *status.Status, code storagepb.StorageError_StorageErrorCode) {
	t.Helper()
	if got := storageCode(st); got != code {
		t.Fatalf("got StorageError %s, want %s (%v)", got, code, st)
	}
}

// message is a writer's schema: "id:string, n:int64!": ! is required in it.
func message(spec string) *descriptorpb.DescriptorProto {
	dp := &descriptorpb.DescriptorProto{Name: proto.String("Row")}
	for i, f := range strings.Split(spec, ",") {
		name, kind, _ := strings.Cut(strings.TrimSpace(f), ":")
		kind, required := strings.CutSuffix(kind, "!")
		kind, repeated := strings.CutSuffix(kind, "*")
		fd := &descriptorpb.FieldDescriptorProto{
			Name: proto.String(name), Number: proto.Int32(int32(i + 1)), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		}
		if required {
			fd.Label = descriptorpb.FieldDescriptorProto_LABEL_REQUIRED.Enum()
		}
		if repeated {
			fd.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
		}
		if n, ok := descriptorpb.FieldDescriptorProto_Type_value["TYPE_"+strings.ToUpper(kind)]; ok {
			fd.Type = descriptorpb.FieldDescriptorProto_Type(n).Enum()
		} else {
			fd.Type, fd.TypeName = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), proto.String(kind)
		}
		dp.Field = append(dp.Field, fd)
	}
	return dp
}

// wire encodes a row: values by field number, nil leaves one out.
func wire(values ...any) []byte {
	var b []byte
	for i, v := range values {
		n := protowire.Number(i + 1)
		switch v := v.(type) {
		case nil:
		case string:
			b = protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), v)
		case []byte:
			b = protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), v)
		case int:
			b = protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), uint64(v))
		case float64:
			b = protowire.AppendFixed64(protowire.AppendTag(b, n, protowire.Fixed64Type), math.Float64bits(v))
		default:
			panic(fmt.Sprintf("no wire form for %T", v))
		}
	}
	return b
}

// protoReq is a request; dp nil is none.
func protoReq(stream string, dp *descriptorpb.DescriptorProto, rows ...[]byte) *storagepb.AppendRowsRequest {
	data := &storagepb.AppendRowsRequest_ProtoData{Rows: &storagepb.ProtoRows{SerializedRows: rows}}
	if dp != nil {
		data.WriterSchema = &storagepb.ProtoSchema{ProtoDescriptor: dp}
	}
	return &storagepb.AppendRowsRequest{WriteStream: stream, Rows: &storagepb.AppendRowsRequest_ProtoRows{ProtoRows: data}}
}

// adapted is the descriptor that loaders make of a table's schema.
func adapted(t *testing.T, schema *storagepb.TableSchema) (*descriptorpb.DescriptorProto, protoreflect.MessageDescriptor) {
	t.Helper()
	d, err := adapt.StorageSchemaToProto2Descriptor(schema, "root")
	if err != nil {
		t.Fatal(err)
	}
	md, ok := d.(protoreflect.MessageDescriptor)
	if !ok {
		t.Fatalf("got %T", d)
	}
	dp, err := adapt.NormalizeDescriptor(md)
	if err != nil {
		t.Fatal(err)
	}
	return dp, md
}
