package bqtest

import (
	"context"
	"errors"
	"io"
	"slices"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// maxAppendBytes is what a request has to be smaller than: "The size of a single
// AppendRowsRequest must be less than 20 MB in size." The stricter reading of MB
// is taken.
const maxAppendBytes = 20_000_000

// decoder reads the rows of requests by one writer's schema.
type decoder interface {
	read(req *storagepb.AppendRowsRequest) (*decoded, error)
}

// appendConn is one connection of AppendRows.
type appendConn struct {
	s *Server

	started  bool
	arrow    bool   // the format of the first request
	name     string // write_stream of the last request that had one
	switched bool   // requests have gone to more than one, or by more than one schema

	id     string
	t      writeTable   // as of the writer's schema
	st     *writeStream // nil for a default stream
	schema proto.Message
	dec    decoder
	decErr error                 // what is wrong with the writer's schema
	told   []column              // columns that the client knows of
	modes  map[tableRef]cdcState // how rows of each table have come on this connection
}

// cdcState is whether rows are changes.
type cdcState bool

// AppendRows appends what each request holds and answers each, in their order.
// Faults of "AppendRows" end the connection; those of "AppendRows.response" are
// errors in an answer, and the connection goes on.
func (w *writeService) AppendRows(conn storagepb.BigQueryWrite_AppendRowsServer) error {
	ctx := conn.Context()
	c := &appendConn{s: w.s, modes: map[tableRef]cdcState{}}
	for {
		req, err := conn.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		before, after := w.s.fault(ctx, "AppendRows")
		if before != nil {
			return asGRPC(before)
		}
		answer, err := c.answer(ctx, req)
		if err != nil {
			return asGRPC(err)
		}
		if err := after(); err != nil {
			return asGRPC(err)
		}
		if err := conn.Send(answer); err != nil {
			return err
		}
	}
}

// answer handles a request. An error ends the connection: of what the first
// request has to have, and of a request that is too large.
func (c *appendConn) answer(ctx context.Context, req *storagepb.AppendRowsRequest) (*storagepb.AppendRowsResponse, error) {
	if proto.Size(req) >= maxAppendBytes {
		return nil, status.Errorf(codes.InvalidArgument, "AppendRows request too large: %d, limit %d", proto.Size(req), maxAppendBytes)
	}
	if err := c.route(req); err != nil {
		return nil, err
	}
	answer := &storagepb.AppendRowsResponse{WriteStream: c.name}
	before, after := c.s.fault(ctx, "AppendRows.response")
	if before == nil {
		before = c.append(ctx, req, answer)
	}
	if before == nil {
		before = after()
	}
	if before != nil {
		st, _ := status.FromError(asGRPC(before))
		answer.Response = &storagepb.AppendRowsResponse_Error{Error: st.Proto()}
	}
	return answer, nil
}

func invalidArgument(format string, args ...any) error {
	return status.Errorf(codes.InvalidArgument, format, args...)
}

// writerSchema gives the schema of a request, nil for none, and its format.
func writerSchema(req *storagepb.AppendRowsRequest) (schema proto.Message, arrow bool, err error) {
	switch rows := req.GetRows().(type) {
	case *storagepb.AppendRowsRequest_ProtoRows:
		if s := rows.ProtoRows.GetWriterSchema(); s != nil {
			schema = s
		}
		return schema, false, nil
	case *storagepb.AppendRowsRequest_ArrowRows:
		if s := rows.ArrowRows.GetWriterSchema(); s != nil {
			schema = s
		}
		return schema, true, nil
	default:
		return nil, false, invalidArgument("The request has no rows.")
	}
}

// route finds out where a request goes and by which schema. write_stream and
// writer_schema have to be in the first request, and in all that follow once the
// connection has switched; only default streams can be switched between, or have
// their schema changed (AppendRowsRequest.write_stream, ProtoData.writer_schema).
func (c *appendConn) route(req *storagepb.AppendRowsRequest) error {
	schema, arrow, err := writerSchema(req)
	if err != nil {
		return err
	}
	name := req.GetWriteStream()
	switch {
	case !c.started && name == "":
		return invalidArgument("The first request of a connection needs write_stream.")
	case !c.started && schema == nil:
		return invalidArgument("The first request of a connection needs writer_schema.")
	case !c.started:
		c.started, c.arrow = true, arrow
		return c.open(name, schema)
	case arrow != c.arrow:
		return invalidArgument("Requests must have data in the same format as the first one of the connection.")
	case name == "" && c.switched:
		return invalidArgument("write_stream is needed in all requests of a connection that changed its destination or schema.")
	}
	changed := schema != nil && !proto.Equal(schema, c.schema)
	if name == "" || name == c.name {
		switch {
		case !changed || c.st != nil:
			return nil // the schema of an explicit stream is that of the first request
		case name == "":
			return invalidArgument("write_stream is needed where the writer's schema changes.")
		}
		c.switched = true
		return c.open(name, schema)
	}
	if schema == nil {
		return invalidArgument("writer_schema is needed with a new destination.")
	}
	if c.st != nil {
		return invalidArgument("Only default streams can share a connection.")
	}
	c.switched = true
	return c.open(name, schema)
}

// open makes a stream the connection's.
func (c *appendConn) open(name string, schema proto.Message) error {
	ref, id, err := parseStreamPath(name)
	if err != nil {
		return err
	}
	var st *writeStream
	var t writeTable
	if id == defaultStream {
		if t, err = c.s.writeTable(ref); err != nil {
			return err
		}
	} else {
		if st, err = c.s.stream(name); err != nil {
			return err
		}
		if c.switched {
			return invalidArgument("Only default streams can share a connection.")
		}
		t = st.t
	}
	c.name, c.id, c.st, c.t, c.schema, c.told = name, id, st, t, schema, t.columns
	c.dec, c.decErr = c.decoder(schema)
	return nil
}

// decoder compiles a writer's schema, and applies what it may be used for.
func (c *appendConn) decoder(schema proto.Message) (decoder, error) {
	switch schema := schema.(type) {
	case *storagepb.ArrowSchema:
		d, err := newArrowDecoder(schema.GetSerializedSchema(), c.t)
		if err != nil {
			return nil, err
		}
		return d, nil
	case *storagepb.ProtoSchema:
		d, err := newProtoDecoder(schema.GetProtoDescriptor(), c.t)
		if err != nil {
			return nil, err
		}
		if d.cdc {
			if err := c.cdcAllowed(d); err != nil {
				return nil, err
			}
		}
		if was, ok := c.modes[c.t.ref]; ok && was != cdcState(d.cdc) {
			return nil, invalidArgument("The given value is not a valid CHANGE_TYPE: changes and other rows are mixed in one connection.")
		}
		c.modes[c.t.ref] = cdcState(d.cdc)
		return d, nil
	default:
		return nil, invalidArgument("The request has no writer_schema.")
	}
}

// append handles the rows of a request; what it returns is the error in the
// answer.
func (c *appendConn) append(ctx context.Context, req *storagepb.AppendRowsRequest, answer *storagepb.AppendRowsResponse) error {
	if c.decErr != nil {
		return c.decErr
	}
	for name, v := range req.GetMissingValueInterpretations() {
		if v == storagepb.AppendRowsRequest_MISSING_VALUE_INTERPRETATION_UNSPECIFIED {
			return invalidArgument("missing_value_interpretations of %s is unspecified.", name)
		}
		if findColumn(c.t.columns, name) < 0 {
			return invalidArgument("missing_value_interpretations names %s, which is no column.", name)
		}
	}
	now, err := c.s.writeTable(c.t.ref)
	if err != nil {
		return err
	}
	if now.table != c.t.table {
		return tableNotFound(c.t.ref)
	}
	if c.st == nil {
		err = c.appendDefault(ctx, req, answer)
	} else {
		err = c.appendStream(ctx, req, answer)
	}
	if err == nil && !sameColumns(now.columns, c.told) {
		answer.UpdatedSchema, c.told = tableSchema(now.columns), now.columns
	}
	return err
}

func sameColumns(a, b []column) bool {
	return slices.EqualFunc(a, b, func(a, b column) bool {
		return a.name == b.name && a.kind == b.kind && a.required == b.required
	})
}

func (c *appendConn) appendDefault(ctx context.Context, req *storagepb.AppendRowsRequest, answer *storagepb.AppendRowsResponse) error {
	if req.GetOffset() != nil {
		return invalidArgument("offset is not allowed for the '_default' stream.")
	}
	rows, err := c.rows(req, answer)
	if err != nil {
		return err
	}
	if rows.changes != nil {
		err = c.s.appendChanges(ctx, c.t, rows)
	} else {
		err = c.s.insert(ctx, c.t, rows.batch)
	}
	if err != nil {
		return err
	}
	answer.Response = &storagepb.AppendRowsResponse_AppendResult_{AppendResult: &storagepb.AppendRowsResponse_AppendResult{}}
	return nil
}

func (c *appendConn) appendStream(ctx context.Context, req *storagepb.AppendRowsRequest, answer *storagepb.AppendRowsResponse) error {
	st, err := c.s.stream(c.name) // it may have been forgotten since
	if err != nil {
		return err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.finalized.IsZero() {
		return storageError(codes.InvalidArgument, storagepb.StorageError_STREAM_FINALIZED, st.name, "Stream is finalized.")
	}
	if o := req.GetOffset(); o != nil {
		switch {
		case o.GetValue() < 0:
			return invalidArgument("offset %d is negative.", o.GetValue())
		case o.GetValue() < st.length:
			return storageError(codes.AlreadyExists, storagepb.StorageError_OFFSET_ALREADY_EXISTS, st.name,
				"The offset is within stream, expected offset %d, received %d.", st.length, o.GetValue())
		case o.GetValue() > st.length:
			return storageError(codes.OutOfRange, storagepb.StorageError_OFFSET_OUT_OF_RANGE, st.name,
				"The offset is beyond stream, expected offset %d, received %d.", st.length, o.GetValue())
		}
	}
	rows, err := c.rows(req, answer)
	if err != nil {
		return err
	}
	at := st.length
	if err := c.s.appendTo(ctx, st, rows.batch); err != nil {
		return err
	}
	st.size, st.used = st.size+int64(proto.Size(req)), c.s.now()
	answer.Response = &storagepb.AppendRowsResponse_AppendResult_{
		AppendResult: &storagepb.AppendRowsResponse_AppendResult{Offset: wrapperspb.Int64(at)},
	}
	return nil
}

// rows reads a request's rows; where some are bad the answer names them.
func (c *appendConn) rows(req *storagepb.AppendRowsRequest, answer *storagepb.AppendRowsResponse) (*decoded, error) {
	d, err := c.dec.read(req)
	if err != nil {
		return nil, err
	}
	if len(d.bad) == 0 {
		d.bad = outOfRange(&d.batch, c.t.parts, c.s.now())
	}
	if len(d.bad) > 0 {
		answer.RowErrors = d.bad
		return nil, invalidArgument("Errors found while processing rows. Please refer to the row_errors field for details.")
	}
	if len(d.rows) == 0 {
		return nil, invalidArgument("The request has no rows.")
	}
	return d, nil
}
