package bqtest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// maxStreamsPerHour is how many streams a project may create in an hour ("Quotas
// and limits", "Storage Write API", CreateWriteStream requests).
const maxStreamsPerHour = 10_000

// writeState is what the Storage Write API keeps: its streams, and the tables
// with change data capture. mu guards the maps alone and is held across no
// other lock.
type writeState struct {
	mu      sync.Mutex
	streams map[string]*writeStream
	created []time.Time // streams of the last hour
	cdc     map[*table]*cdcTable
}

// writeService is google.cloud.bigquery.storage.v1.BigQueryWrite. Its rules are
// those of the comments in storage.proto and stream.proto unless a comment here
// names another page.
type writeService struct {
	storagepb.UnimplementedBigQueryWriteServer
	s *Server
}

var _ storagepb.BigQueryWriteServer = (*writeService)(nil)

func (s *Server) registerWrite(g *grpc.Server) {
	s.write.streams = map[string]*writeStream{}
	s.write.cdc = map[*table]*cdcTable{}
	storagepb.RegisterBigQueryWriteServer(g, &writeService{s: s})
}

// defaultStream is the name of the stream that every table has.
const defaultStream = "_default"

var (
	tablePath  = regexp.MustCompile(`^projects/([^/]+)/datasets/([^/]+)/tables/([^/]+)$`)
	streamPath = regexp.MustCompile(`^(projects/[^/]+/datasets/[^/]+/tables/[^/]+)/streams/([^/]+)$`)
)

func parseTablePath(name string) (tableRef, error) {
	m := tablePath.FindStringSubmatch(name)
	if m == nil {
		return tableRef{}, status.Errorf(codes.InvalidArgument, "invalid table name %q: want projects/{project}/datasets/{dataset}/tables/{table}", name)
	}
	return tableRef{m[1], m[2], m[3]}, nil
}

func parseStreamPath(name string) (ref tableRef, id string, err error) {
	m := streamPath.FindStringSubmatch(name)
	if m == nil {
		return tableRef{}, "", status.Errorf(codes.InvalidArgument, "invalid stream name %q: want projects/{project}/datasets/{dataset}/tables/{table}/streams/{stream}", name)
	}
	ref, err = parseTablePath(m[1])
	return ref, m[2], err
}

// unary runs a call with the faults that wait for it.
func unary[T any](ctx context.Context, s *Server, call string, work func() (*T, error)) (*T, error) {
	before, after := s.fault(ctx, call)
	if before != nil {
		return nil, asGRPC(before)
	}
	answer, err := work()
	if err != nil {
		return nil, asGRPC(err)
	}
	if err := after(); err != nil {
		return nil, asGRPC(err)
	}
	return answer, nil
}

// asGRPC makes an error of the store or of a fault one of gRPC. A connection
// that is cut reaches a client as UNAVAILABLE.
func asGRPC(err error) error {
	if errors.Is(err, errDropped) {
		return status.Error(codes.Unavailable, "error reading from server: EOF")
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return status.FromContextError(err).Err()
	}
	e := asAPI(err)
	switch e.status {
	case http.StatusNotFound:
		return status.Error(codes.NotFound, e.message)
	case http.StatusBadRequest:
		return status.Error(codes.InvalidArgument, e.message)
	case http.StatusNotImplemented:
		return status.Error(codes.Unimplemented, e.message)
	default:
		return status.Error(codes.Internal, e.message)
	}
}

// storageError is a status with a StorageError among its details, as the
// comment of StorageError says: "attached as error details in the returned rpc
// Status".
func storageError(code codes.Code, detail storagepb.StorageError_StorageErrorCode, entity, format string, args ...any) error {
	message := fmt.Sprintf(format, args...)
	st := status.New(code, message+" Entity: "+entity)
	with, err := st.WithDetails(&storagepb.StorageError{Code: detail, Entity: entity, ErrorMessage: message})
	if err != nil {
		return err
	}
	return with.Err()
}

func tableNotFound(ref tableRef) error {
	return storageError(codes.NotFound, storagepb.StorageError_TABLE_NOT_FOUND, ref.path(), "Table is not found in the system.")
}

func streamNotFound(name string) error {
	return storageError(codes.NotFound, storagepb.StorageError_STREAM_NOT_FOUND, name, "Stream is not found.")
}

// writeTable is a table as streams see it.
type writeTable struct {
	tableInfo
	ref   tableRef
	table *table // tells a table from another that was created under its name
}

// writeTable looks a table up; a view cannot be written to.
func (s *Server) writeTable(ref tableRef) (writeTable, error) {
	s.mu.Lock()
	t, err := s.find(ref)
	s.mu.Unlock()
	if err != nil {
		return writeTable{}, tableNotFound(ref)
	}
	info, err := s.tableInfo(ref)
	if err != nil {
		return writeTable{}, asGRPC(err)
	}
	w := writeTable{tableInfo: info, ref: ref, table: t}
	w.columns = s.visible(info)
	return w, nil
}

// visible gives the columns that the Storage Write API knows of: those added
// are known after a while ("Storage Write API", "Schema update detection": the
// service notices "on the order of minutes").
func (s *Server) visible(info tableInfo) []column {
	var known []column
	now := s.now()
	for _, c := range info.columns {
		if !c.since.After(info.created) || !now.Before(c.since.Add(s.opts.SchemaDelay)) {
			known = append(known, c)
		}
	}
	return known
}

// CreateWriteStream creates a PENDING, COMMITTED or BUFFERED stream.
func (w *writeService) CreateWriteStream(ctx context.Context, req *storagepb.CreateWriteStreamRequest) (*storagepb.WriteStream, error) {
	return unary(ctx, w.s, "CreateWriteStream", func() (*storagepb.WriteStream, error) {
		ref, err := parseTablePath(req.GetParent())
		if err != nil {
			return nil, err
		}
		kind := req.GetWriteStream().GetType()
		switch kind {
		case storagepb.WriteStream_PENDING, storagepb.WriteStream_COMMITTED, storagepb.WriteStream_BUFFERED:
		default:
			return nil, status.Errorf(codes.InvalidArgument, "write_stream.type %s cannot be created", kind)
		}
		t, err := w.s.writeTable(ref)
		if err != nil {
			return nil, err
		}
		st, err := w.s.newStream(t, kind)
		if err != nil {
			return nil, err
		}
		return st.resource(true), nil
	})
}

func (s *Server) newStream(t writeTable, kind storagepb.WriteStream_Type) (*writeStream, error) {
	s.mu.Lock()
	serial := s.nextSerial()
	s.mu.Unlock()
	now := s.now()
	st := &writeStream{
		name: t.ref.path() + "/streams/Cig" + strconv.FormatInt(serial, 36), kind: kind,
		t: t, created: now, used: now, staging: "w" + strconv.FormatInt(serial, 10),
	}
	s.write.mu.Lock()
	defer s.write.mu.Unlock()
	for len(s.write.created) > 0 && now.Sub(s.write.created[0]) >= time.Hour {
		s.write.created = s.write.created[1:]
	}
	if len(s.write.created) >= maxStreamsPerHour {
		return nil, status.Error(codes.ResourceExhausted, "Exceeds 'CreateWriteStream requests' quota")
	}
	s.write.created = append(s.write.created, now)
	s.write.streams[st.name] = st
	return st, nil
}

// stream finds a stream that was created, that still lives, and whose table is
// still there; its lock must not be held.
func (s *Server) stream(name string) (*writeStream, error) {
	s.write.mu.Lock()
	st := s.write.streams[name]
	s.write.mu.Unlock()
	if st == nil || st.gone(s.now()) {
		return nil, streamNotFound(name)
	}
	if t, err := s.writeTable(st.t.ref); err != nil || t.table != st.t.table {
		return nil, streamNotFound(name)
	}
	return st, nil
}

// GetWriteStream describes a stream; the default one has the creation time of
// its table.
func (w *writeService) GetWriteStream(ctx context.Context, req *storagepb.GetWriteStreamRequest) (*storagepb.WriteStream, error) {
	return unary(ctx, w.s, "GetWriteStream", func() (*storagepb.WriteStream, error) {
		full := req.GetView() == storagepb.WriteStreamView_FULL
		ref, id, err := parseStreamPath(req.GetName())
		if err != nil {
			return nil, err
		}
		if id == defaultStream {
			t, err := w.s.writeTable(ref)
			if err != nil {
				return nil, err
			}
			st := &writeStream{name: req.GetName(), kind: storagepb.WriteStream_COMMITTED, t: t, created: t.created}
			return st.resource(full), nil
		}
		st, err := w.s.stream(req.GetName())
		if err != nil {
			return nil, err
		}
		st.mu.Lock()
		defer st.mu.Unlock()
		return st.resource(full), nil
	})
}

// resource is the stream as the API shows it; st.mu is held, or nobody else has st.
func (st *writeStream) resource(full bool) *storagepb.WriteStream {
	r := &storagepb.WriteStream{
		Name: st.name, Type: st.kind, CreateTime: timestamppb.New(st.created),
		WriteMode: storagepb.WriteStream_INSERT, Location: st.t.location,
	}
	switch {
	case st.kind == storagepb.WriteStream_COMMITTED:
		r.CommitTime = r.CreateTime
	case !st.committed.IsZero():
		r.CommitTime = timestamppb.New(st.committed)
	}
	if full {
		r.TableSchema = tableSchema(st.t.columns)
	}
	return r
}

var schemaTypes = map[string]storagepb.TableFieldSchema_Type{
	"STRING": storagepb.TableFieldSchema_STRING, "INT64": storagepb.TableFieldSchema_INT64,
	"FLOAT64": storagepb.TableFieldSchema_DOUBLE, "BOOL": storagepb.TableFieldSchema_BOOL,
	"TIMESTAMP": storagepb.TableFieldSchema_TIMESTAMP, "DATE": storagepb.TableFieldSchema_DATE,
	"DATETIME": storagepb.TableFieldSchema_DATETIME, "TIME": storagepb.TableFieldSchema_TIME,
	"JSON": storagepb.TableFieldSchema_JSON, "BYTES": storagepb.TableFieldSchema_BYTES,
	"NUMERIC": storagepb.TableFieldSchema_NUMERIC,
}

func tableSchema(columns []column) *storagepb.TableSchema {
	schema := &storagepb.TableSchema{}
	for _, c := range columns {
		f := &storagepb.TableFieldSchema{
			Name: c.name, Type: schemaTypes[c.kind], Mode: storagepb.TableFieldSchema_NULLABLE, Description: c.description,
		}
		if c.required {
			f.Mode = storagepb.TableFieldSchema_REQUIRED
		}
		schema.Fields = append(schema.Fields, f)
	}
	return schema
}
