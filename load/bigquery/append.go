package bigquery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// answerTimeout is how long the answer to an append may take before the
// connection counts as dead.
const answerTimeout = 5 * time.Minute

var (
	// errLostStream says that a stream is no good any more, and its rows have to
	// go to another.
	errLostStream = errors.New("the write stream is lost")
	// errUnknownColumn says that the service does not know of a column yet.
	errUnknownColumn = errors.New("the Storage Write API does not know of a column that was added")
)

// appender appends batches to one stream over one connection at a time, with
// several on their way. What is not answered when a connection breaks is sent
// again over the next.
type appender struct {
	r       *remote
	stream  string
	schema  *storagepb.AppendRowsRequest // the writer's schema, as the first request has it
	offsets bool                         // batches have offsets, so that none is appended twice
	window  int                          // batches on their way

	conn    storagepb.BigQueryWrite_AppendRowsClient
	hangUp  context.CancelFunc
	fresh   bool // nothing was sent on conn
	pending []*batch
	next    int64 // offset of the next batch
	tries   int   // since a batch was answered
}

// add sends a batch, and waits until there is room for another.
func (a *appender) add(ctx context.Context, b *batch) error {
	b.offset = a.next
	a.next += b.rows
	a.pending = append(a.pending, b)
	if a.conn == nil {
		if err := a.connect(ctx); err != nil {
			return a.mend(ctx, err)
		}
	} else if err := a.send(b); err != nil {
		return a.mend(ctx, a.cause(err))
	}
	for len(a.pending) >= a.window {
		if err := a.settle(ctx); err != nil {
			return err
		}
	}
	return nil
}

// flush waits until every batch is acknowledged.
func (a *appender) flush(ctx context.Context) error {
	for len(a.pending) > 0 {
		if err := a.settle(ctx); err != nil {
			return err
		}
	}
	return nil
}

// close ends the connection, whatever is on its way.
func (a *appender) close() {
	if a.conn != nil {
		_ = a.conn.CloseSend() // nothing that matters is on its way
		a.hangUp()
		a.conn = nil
	}
}

// connect opens a connection and sends what is pending.
func (a *appender) connect(ctx context.Context) error {
	// The header is by what the service finds the stream's region.
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(ctx, "x-goog-request-params", "write_stream="+url.QueryEscape(a.stream)))
	conn, err := a.r.write.AppendRows(ctx)
	if err != nil {
		cancel()
		return err
	}
	a.conn, a.hangUp, a.fresh = conn, cancel, true
	for _, b := range a.pending {
		if err := a.send(b); err != nil {
			return a.cause(err)
		}
	}
	return nil
}

// cause is why a connection cannot be sent to: the error of Send says only that
// it cannot. Answers that came before it are asked for again.
func (a *appender) cause(err error) error {
	if !errors.Is(err, io.EOF) {
		return err
	}
	for {
		if _, err := a.conn.Recv(); err != nil {
			return err
		}
	}
}

func (a *appender) send(b *batch) error {
	req := &storagepb.AppendRowsRequest{}
	if a.offsets {
		req.Offset = wrapperspb.Int64(b.offset)
	}
	if a.fresh {
		req.WriteStream, req.TraceId = a.stream, "sluice"
	}
	if b.arrow != nil {
		rows := &storagepb.AppendRowsRequest_ArrowData{Rows: &storagepb.ArrowRecordBatch{SerializedRecordBatch: b.arrow}}
		if a.fresh {
			rows.WriterSchema = a.schema.GetArrowRows().GetWriterSchema()
		}
		req.Rows = &storagepb.AppendRowsRequest_ArrowRows{ArrowRows: rows}
	} else {
		rows := &storagepb.AppendRowsRequest_ProtoData{Rows: &storagepb.ProtoRows{SerializedRows: b.proto}}
		if a.fresh {
			rows.WriterSchema = a.schema.GetProtoRows().GetWriterSchema()
		}
		req.Rows = &storagepb.AppendRowsRequest_ProtoRows{ProtoRows: rows}
	}
	a.fresh = false
	return a.conn.Send(req)
}

// settle waits for the answer to the oldest batch.
func (a *appender) settle(ctx context.Context) error {
	err := a.receive()
	if err == nil {
		a.pending[0] = nil
		a.pending, a.tries = a.pending[1:], 0
		return nil
	}
	return a.mend(ctx, err)
}

func (a *appender) receive() error {
	dead := time.AfterFunc(answerTimeout, a.hangUp)
	answer, err := a.conn.Recv()
	if !dead.Stop() {
		return status.Errorf(codes.DeadlineExceeded, "no answer to an append in %s", answerTimeout)
	}
	if err != nil {
		return err
	}
	return a.judge(answer, a.pending[0])
}

// judge says whether an answer acknowledges a batch.
func (a *appender) judge(answer *storagepb.AppendRowsResponse, b *batch) error {
	if rows := answer.GetRowErrors(); len(rows) > 0 {
		return &Error{
			Message: fmt.Sprintf("contact %s: BigQuery refuses the row: %s", b.name(rows[0].GetIndex()), rows[0].GetMessage()),
			hint:    "Declare the field that it names with another type, under another column name, or correct it at the source.",
		}
	}
	if e := answer.GetError(); e != nil {
		if codes.Code(e.GetCode()) == codes.AlreadyExists && a.offsets {
			return nil // by an attempt whose answer was lost: nobody else writes to the stream
		}
		return status.ErrorProto(e)
	}
	if at := answer.GetAppendResult().GetOffset(); a.offsets && (at == nil || at.GetValue() != b.offset) {
		return fmt.Errorf("%w: rows were appended at offset %d, want %d", errLostStream, at.GetValue(), b.offset)
	}
	return nil
}

// mend connects again after err, if that can help.
func (a *appender) mend(ctx context.Context, err error) error {
	for {
		a.close()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err = classified(err); !again(err) || a.tries+1 >= mostTries {
			return err
		}
		a.tries++
		if err := a.r.wait(ctx, a.tries); err != nil {
			return err
		}
		if err = a.connect(ctx); err == nil {
			return nil
		}
	}
}

// classified marks the errors that are answered otherwise than by sending
// again.
func classified(err error) error {
	if errors.Is(err, errLostStream) || errors.Is(err, errUnknownColumn) {
		return err
	}
	switch storageCode(err) {
	case storagepb.StorageError_SCHEMA_MISMATCH_EXTRA_FIELDS:
		return fmt.Errorf("%w: %w", errUnknownColumn, err)
	case storagepb.StorageError_STREAM_NOT_FOUND, storagepb.StorageError_STREAM_FINALIZED, storagepb.StorageError_INVALID_STREAM_STATE:
		return fmt.Errorf("%w: %w", errLostStream, err)
	default:
	}
	if grpcCode(err) == codes.OutOfRange { // what was acknowledged is not there
		return fmt.Errorf("%w: %w", errLostStream, err)
	}
	return err
}

// storageCode is the service's own code in an error's details.
func storageCode(err error) storagepb.StorageError_StorageErrorCode {
	var s interface{ GRPCStatus() *status.Status }
	if errors.As(err, &s) {
		for _, d := range s.GRPCStatus().Details() {
			if e, ok := d.(*storagepb.StorageError); ok {
				return e.GetCode()
			}
		}
	}
	return storagepb.StorageError_STORAGE_ERROR_CODE_UNSPECIFIED
}
