package bqtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// writeStream is a stream that was created. Its mu is taken before the
// server's.
type writeStream struct {
	name    string
	kind    storagepb.WriteStream_Type
	t       writeTable // as it was when the stream was created
	created time.Time

	mu        sync.Mutex
	staging   string    // table of DuckDB with the rows that are not visible yet
	staged    bool      // staging exists
	length    int64     // rows, and the offset of the next one
	flushed   int64     // rows made visible by FlushRows
	size      int64     // bytes of the requests that brought them
	used      time.Time // of the last rows or flush
	finalized time.Time // zero: not
	committed time.Time // zero: not
}

// offsetColumn numbers the rows of a staging table. No column of a table can
// have a name with a blank.
const offsetColumn = "row offset"

var errReplaced = errors.New("another table was created under the name")

// changeWritten is change for a table that has to be the one it was.
func (s *Server) changeWritten(ctx context.Context, w writeTable, f func(conn *sql.Conn, t *table) error) error {
	err := s.change(ctx, w.ref, func(conn *sql.Conn, t *table) error {
		if t != w.table {
			return errReplaced
		}
		return f(conn, t)
	})
	var api *apiError
	if errors.As(err, &api) && api.reason == "notFound" {
		return tableNotFound(w.ref)
	}
	return err
}

// insert makes rows visible at once.
func (s *Server) insert(ctx context.Context, w writeTable, b batch) error {
	return s.changeWritten(ctx, w, func(conn *sql.Conn, t *table) error {
		b.streamed = s.now()
		if err := t.append(conn, b); err != nil {
			return err
		}
		return s.checkPartitions(ctx, conn, t)
	})
}

// append adds rows at the end of the stream; st.mu is held.
func (s *Server) appendTo(ctx context.Context, st *writeStream, b batch) error {
	if st.kind == storagepb.WriteStream_COMMITTED {
		if err := s.insert(ctx, st.t, b); err != nil {
			return err
		}
	} else if err := s.stage(ctx, st, b); err != nil {
		return err
	}
	st.length += int64(len(b.rows))
	return nil
}

// stage keeps rows in DuckDB, beside the table.
func (s *Server) stage(ctx context.Context, st *writeStream, b batch) error {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("stage rows: %w", err)
	}
	defer func() { _ = conn.Close() }() // returns it to the pool
	return transact(ctx, conn, func() error {
		if !st.staged {
			defs := []string{quoteName(offsetColumn) + " BIGINT"}
			for _, c := range st.t.columns {
				defs = append(defs, quoteName(c.name)+" "+dataType(c.kind))
			}
			if _, err := conn.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS "+st.staging+" ("+strings.Join(defs, ", ")+")"); err != nil {
				return fmt.Errorf("stage rows: %w", err)
			}
		}
		names := append(slices.Clone(b.columns), offsetColumn)
		rows := make([][]any, len(b.rows))
		for i, row := range b.rows {
			rows[i] = append(slices.Clip(row), st.length+int64(i))
		}
		if err := appendRows(conn, st.staging, names, rows); err != nil {
			return err
		}
		st.staged = true
		return nil
	})
}

// publish inserts the staged rows [from, until) into the table.
func (st *writeStream) publish(ctx context.Context, conn *sql.Conn, t *table, from, until int64, now time.Time) error {
	if !st.staged || from >= until {
		return nil
	}
	names := make([]string, len(st.t.columns))
	for i, c := range st.t.columns {
		names[i] = quoteName(c.name)
	}
	list := strings.Join(names, ", ")
	o := quoteName(offsetColumn)
	q := "INSERT INTO " + t.phys + " (" + list + ", " + quoteName(streamedColumn) + ") SELECT " + list + ", " + literalSQL(ty("TIMESTAMP"), now) + " FROM " + st.staging +
		" WHERE " + o + " >= " + strconv.FormatInt(from, 10) + " AND " + o + " < " + strconv.FormatInt(until, 10) + " ORDER BY " + o
	if _, err := conn.ExecContext(ctx, q); err != nil {
		return fmt.Errorf("publish rows of %s: %w", st.name, err)
	}
	return nil
}

// FinalizeWriteStream ends a stream: no rows can be appended any more.
func (w *writeService) FinalizeWriteStream(ctx context.Context, req *storagepb.FinalizeWriteStreamRequest) (*storagepb.FinalizeWriteStreamResponse, error) {
	return unary(ctx, w.s, "FinalizeWriteStream", func() (*storagepb.FinalizeWriteStreamResponse, error) {
		_, id, err := parseStreamPath(req.GetName())
		if err != nil {
			return nil, err
		}
		if id == defaultStream {
			return nil, status.Error(codes.InvalidArgument, "Finalize is not supported on the '_default' stream.")
		}
		st, err := w.s.stream(req.GetName())
		if err != nil {
			return nil, err
		}
		st.mu.Lock()
		defer st.mu.Unlock()
		if st.finalized.IsZero() {
			st.finalized = w.s.now()
		}
		return &storagepb.FinalizeWriteStreamResponse{RowCount: st.length}, nil
	})
}

// FlushRows makes the rows of a BUFFERED stream visible up to an offset, that
// one included.
func (w *writeService) FlushRows(ctx context.Context, req *storagepb.FlushRowsRequest) (*storagepb.FlushRowsResponse, error) {
	return unary(ctx, w.s, "FlushRows", func() (*storagepb.FlushRowsResponse, error) {
		_, id, err := parseStreamPath(req.GetWriteStream())
		if err != nil {
			return nil, err
		}
		if id == defaultStream {
			return nil, status.Error(codes.InvalidArgument, "Flush is not supported on the '_default' stream.")
		}
		st, err := w.s.stream(req.GetWriteStream())
		if err != nil {
			return nil, err
		}
		st.mu.Lock()
		defer st.mu.Unlock()
		return w.s.flush(ctx, st, req)
	})
}

func (s *Server) flush(ctx context.Context, st *writeStream, req *storagepb.FlushRowsRequest) (*storagepb.FlushRowsResponse, error) {
	if st.kind != storagepb.WriteStream_BUFFERED {
		return nil, storageError(codes.InvalidArgument, storagepb.StorageError_INVALID_STREAM_TYPE, st.name, "Stream is not BUFFERED.")
	}
	if req.GetOffset() == nil || req.GetOffset().GetValue() < 0 {
		return nil, status.Error(codes.InvalidArgument, "FlushRows needs an offset.")
	}
	until := req.GetOffset().GetValue() + 1
	if until > st.length {
		return nil, storageError(codes.OutOfRange, storagepb.StorageError_OFFSET_OUT_OF_RANGE, st.name,
			"Offset %d is beyond the end of the stream, %d.", until-1, st.length)
	}
	st.used = s.now()
	if until > st.flushed {
		err := s.changeWritten(ctx, st.t, func(conn *sql.Conn, t *table) error {
			if err := st.publish(ctx, conn, t, st.flushed, until, s.now()); err != nil {
				return err
			}
			return s.checkPartitions(ctx, conn, t)
		})
		if err != nil {
			return nil, err
		}
		st.flushed = until
	}
	return &storagepb.FlushRowsResponse{Offset: st.flushed - 1}, nil
}

// BatchCommitWriteStreams makes the rows of PENDING streams visible, all or
// none.
func (w *writeService) BatchCommitWriteStreams(ctx context.Context, req *storagepb.BatchCommitWriteStreamsRequest) (*storagepb.BatchCommitWriteStreamsResponse, error) {
	return unary(ctx, w.s, "BatchCommitWriteStreams", func() (*storagepb.BatchCommitWriteStreamsResponse, error) {
		ref, err := parseTablePath(req.GetParent())
		if err != nil {
			return nil, err
		}
		names := slices.Clone(req.GetWriteStreams())
		slices.Sort(names) // the order in which streams are locked
		if len(names) == 0 {
			return nil, status.Error(codes.InvalidArgument, "BatchCommitWriteStreams needs write_streams.")
		}
		if len(names) > maxCommitStreams {
			return nil, status.Errorf(codes.InvalidArgument, "BatchCommitWriteStreams of %d streams, at most %d.", len(names), maxCommitStreams)
		}
		if len(slices.Compact(slices.Clone(names))) != len(names) {
			return nil, status.Error(codes.InvalidArgument, "A stream is named twice.")
		}
		for _, name := range names {
			of, _, err := parseStreamPath(name)
			if err != nil {
				return nil, err
			}
			if of != ref {
				return nil, status.Errorf(codes.InvalidArgument, "Stream %s does not belong to %s.", name, req.GetParent())
			}
		}
		t, err := w.s.writeTable(ref)
		if err != nil {
			return nil, err
		}
		return w.s.commit(ctx, t, names)
	})
}

func (s *Server) commit(ctx context.Context, t writeTable, names []string) (*storagepb.BatchCommitWriteStreamsResponse, error) {
	answer := &storagepb.BatchCommitWriteStreamsResponse{}
	var streams []*writeStream
	var size int64
	for _, name := range names {
		st, err := s.stream(name)
		if err != nil {
			answer.StreamErrors = append(answer.StreamErrors, &storagepb.StorageError{
				Code: storagepb.StorageError_STREAM_NOT_FOUND, Entity: name, ErrorMessage: "Stream is not found.",
			})
			continue
		}
		st.mu.Lock()
		defer st.mu.Unlock()
		streams, size = append(streams, st), size+st.size
		if e := st.uncommittable(); e != nil {
			answer.StreamErrors = append(answer.StreamErrors, e)
		}
	}
	if len(answer.GetStreamErrors()) > 0 {
		return answer, nil
	}
	if limit := orDefault(s.opts.Limits.PendingBytes, maxPendingBytes); size > limit {
		return nil, status.Errorf(codes.ResourceExhausted, "Exceeds 'Pending stream bytes' quota: %d, limit %d", size, limit)
	}
	err := s.changeWritten(ctx, t, func(conn *sql.Conn, to *table) error {
		for _, st := range streams {
			if err := st.publish(ctx, conn, to, 0, st.length, s.now()); err != nil {
				return err
			}
			if st.staged {
				if _, err := conn.ExecContext(ctx, "DROP TABLE "+st.staging); err != nil {
					return fmt.Errorf("drop rows of %s: %w", st.name, err)
				}
			}
		}
		return s.checkPartitions(ctx, conn, to)
	})
	if err != nil {
		return nil, err
	}
	now := s.now()
	for _, st := range streams {
		st.committed, st.staged = now, false
	}
	answer.CommitTime = timestamppb.New(now)
	return answer, nil
}

// uncommittable says why a stream cannot be committed; st.mu is held. Streams
// "must be finalized before commit and cannot be committed multiple times".
func (st *writeStream) uncommittable() *storagepb.StorageError {
	e := &storagepb.StorageError{Entity: st.name}
	switch {
	case st.kind != storagepb.WriteStream_PENDING:
		e.Code, e.ErrorMessage = storagepb.StorageError_INVALID_STREAM_TYPE, "Stream is not PENDING."
	case !st.committed.IsZero():
		e.Code, e.ErrorMessage = storagepb.StorageError_STREAM_ALREADY_COMMITTED, "Stream is already committed."
	case st.finalized.IsZero():
		e.Code, e.ErrorMessage = storagepb.StorageError_INVALID_STREAM_STATE, "Stream is not finalized."
	default:
		return nil
	}
	return e
}

// How long streams live. Of a pending one "after the stream is finalized and
// before it is committed, the data can remain in the buffer for up to 4 hours.
// Pending streams must be committed within 24 hours" ("Batch load data using the
// Storage Write API"); of the others it is counted from the last traffic ("Stream
// data using the Storage Write API", "Use committed type for exactly-once").
const (
	pendingLife   = 24 * time.Hour
	finalizedLife = 4 * time.Hour
	committedLife = 3 * 24 * time.Hour
	bufferedLife  = 7 * 24 * time.Hour
)

// gone says whether the stream's time is over. No page tells how long a stream is
// known that was committed; here as long as one that was not.
func (st *writeStream) gone(now time.Time) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	switch st.kind {
	case storagepb.WriteStream_COMMITTED:
		return now.Sub(st.used) >= committedLife
	case storagepb.WriteStream_BUFFERED:
		return now.Sub(st.used) >= bufferedLife
	default:
		waits := !st.finalized.IsZero() && st.committed.IsZero()
		return now.Sub(st.created) >= pendingLife || waits && now.Sub(st.finalized) >= finalizedLife
	}
}

// ForgetStreams drops all streams that were created, as the service does with
// those of some age: their names are not found any more, committed or not, and
// rows that are not visible are lost. It returns the names, in order.
func (s *Server) ForgetStreams() []string {
	s.write.mu.Lock()
	defer s.write.mu.Unlock()
	names := slices.Sorted(maps.Keys(s.write.streams))
	clear(s.write.streams)
	return names
}
