package bigquery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"github.com/apache/arrow/go/v17/arrow"
	"google.golang.org/grpc/codes"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

const (
	// mostPolls bounds the wait for new columns: with the pauses of wait they
	// last about 15 minutes, where the service promises "the order of minutes".
	mostPolls = 33
	// mostStreams bounds how often a stream is begun anew.
	mostStreams = 4
)

// stageByStream writes the package's rows to pending streams, as Arrow batches,
// and commits these together. A note of their names is kept before the commit,
// so that whoever comes next asks the service what became of it.
func (r *remote) stageByStream(ctx context.Context, p load.Package, table schemas.Table, rows int64, m memo, usable bool) (memo, error) {
	if usable {
		err := r.commitStreams(ctx, p, m)
		if err == nil || !errors.Is(err, errLostStream) {
			return m, err
		}
	}
	var lost error
	for range mostAttempts {
		var err error
		if m, err = r.begin(ctx, p, Stream, rows, m); err != nil {
			return m, err
		}
		if m.Streams, err = r.writeStreams(ctx, p, table, m); err != nil {
			return m, err
		}
		if err := remember(ctx, p, m); err != nil {
			return m, err
		}
		if lost = r.commitStreams(ctx, p, m); !errors.Is(lost, errLostStream) {
			return m, lost
		}
	}
	return m, lost
}

// commitStreams makes the rows of an attempt's streams visible, unless they
// are. errLostStream says that they never will be.
func (r *remote) commitStreams(ctx context.Context, p load.Package, m memo) error {
	if len(m.Streams) == 0 {
		return nil
	}
	var refused string
	for try := 0; ; try++ {
		var answer *storagepb.BatchCommitWriteStreamsResponse
		err := r.retry(ctx, func(ctx context.Context) (err error) {
			answer, err = r.write.BatchCommitWriteStreams(ctx, &storagepb.BatchCommitWriteStreamsRequest{
				Parent: r.o.path(r.o.staging()), WriteStreams: m.Streams,
			})
			return err
		})
		if err != nil {
			return fmt.Errorf("commit streams: %w", err)
		}
		if answer.GetCommitTime() != nil {
			return nil
		}
		for _, e := range answer.GetStreamErrors() {
			refused = e.GetCode().String() + " " + e.GetErrorMessage()
		}
		committed, gone, err := r.states(ctx, m.Streams)
		switch {
		case err != nil:
			return err
		case committed > 0: // a commit is of all of them; its answer was lost
			return nil
		case gone > 0:
			// The service forgets streams, committed ones too.
			n, err := r.arrived(ctx, p, m)
			if err != nil || n == m.Rows {
				return err
			}
			return fmt.Errorf("%w: %s", errLostStream, refused)
		case try == 2:
			return fmt.Errorf("%w: commit refused: %s", errLostStream, refused)
		}
		if err := r.wait(ctx, try+1); err != nil {
			return err
		}
	}
}

// states asks what became of streams.
func (r *remote) states(ctx context.Context, streams []string) (committed, gone int, err error) {
	for _, name := range streams {
		var s *storagepb.WriteStream
		err := r.retry(ctx, func(ctx context.Context) (err error) {
			s, err = r.write.GetWriteStream(ctx, &storagepb.GetWriteStreamRequest{Name: name})
			return err
		})
		switch {
		case notFound(err):
			gone++
		case err != nil:
			return 0, 0, fmt.Errorf("ask for stream: %w", err)
		case s.GetCommitTime() != nil:
			committed++
		}
	}
	return committed, gone, nil
}

// writeStreams writes all rows to streams of their own and returns the names of
// those, finalized.
func (r *remote) writeStreams(ctx context.Context, p load.Package, table schemas.Table, m memo) ([]string, error) {
	parts := slices.DeleteFunc(slices.Clone(p.Parts), func(part load.Part) bool { return part.Rows == 0 })
	if len(parts) == 0 {
		return nil, nil
	}
	names, err := columnNames(parts, table)
	if err != nil {
		return nil, err
	}
	columns := stagedColumns(table, func(name string) bool { return names[name] })
	w, err := newArrowWriter(columns, p.Serial, m)
	if err != nil {
		return nil, err
	}
	width := min(r.o.InFlight, len(parts))
	streams := make([]string, width)
	var next atomic.Int64
	take := func() (load.Part, bool) {
		i := next.Add(1) - 1
		if i >= int64(len(parts)) {
			return load.Part{}, false
		}
		return parts[i], true
	}
	err = parallel(ctx, width, width, func(ctx context.Context, i int) error {
		s := &streamWriter{r: r, table: table, arrow: w, take: take, window: max(1, r.o.InFlight/width)}
		name, err := s.run(ctx)
		streams[i] = name
		return err
	})
	return slices.DeleteFunc(streams, func(s string) bool { return s == "" }), err
}

// columnNames are the columns that any of the parts has.
func columnNames(parts []load.Part, table schemas.Table) (map[string]bool, error) {
	names := map[string]bool{}
	for _, part := range parts {
		f, err := openPart(part, table)
		if err != nil {
			return nil, err
		}
		for _, field := range f.Schema().Fields() {
			names[field.Name] = true
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// streamWriter writes parts to one stream.
type streamWriter struct {
	r      *remote
	table  schemas.Table
	arrow  *arrowWriter
	take   func() (load.Part, bool)
	window int
	mine   []load.Part // taken so far
}

// run writes as many parts as there are to take, and returns the stream's name;
// "" where there were none left. A stream that is lost is begun anew: its rows
// are visible to nobody.
func (s *streamWriter) run(ctx context.Context) (string, error) {
	for n := 1; ; n++ {
		name, err := s.try(ctx)
		switch {
		case errors.Is(err, errLostStream) && n < mostStreams:
		case errors.Is(err, errUnknownColumn) && n < mostPolls:
		case errors.Is(err, errUnknownColumn):
			return "", s.r.tooLate(s.r.o.staging(), nil, err)
		default:
			return name, err
		}
		if err := s.r.wait(ctx, n); err != nil {
			return "", err
		}
	}
}

func (s *streamWriter) try(ctx context.Context) (string, error) {
	if len(s.mine) == 0 {
		part, ok := s.take()
		if !ok {
			return "", nil
		}
		s.mine = append(s.mine, part)
	}
	name, err := s.r.openStream(ctx, s.arrow.schema)
	if err != nil {
		return "", err
	}
	a := &appender{r: s.r, stream: name, offsets: true, window: s.window, schema: arrowSchema(s.arrow.message)}
	defer a.close()
	for k := 0; ; k++ {
		if k == len(s.mine) {
			part, ok := s.take()
			if !ok {
				break
			}
			s.mine = append(s.mine, part)
		}
		err := eachRecord(ctx, s.mine[k], s.table, nil, func(rec arrow.Record) error {
			return s.arrow.batches(rec, func(b *batch) error { return a.add(ctx, b) })
		})
		if err != nil {
			return "", err
		}
	}
	if err := a.flush(ctx); err != nil {
		return "", err
	}
	return name, s.r.finalize(ctx, name, a.next)
}

func arrowSchema(message []byte) *storagepb.AppendRowsRequest {
	return &storagepb.AppendRowsRequest{Rows: &storagepb.AppendRowsRequest_ArrowRows{
		ArrowRows: &storagepb.AppendRowsRequest_ArrowData{WriterSchema: &storagepb.ArrowSchema{SerializedSchema: message}},
	}}
}

// openStream creates a pending stream that knows of all columns. A stream has
// the columns that its table had, as far as the service had noticed, when it
// was created ("Storage Write API", "Schema update detection").
func (r *remote) openStream(ctx context.Context, schema *arrow.Schema) (string, error) {
	for poll := 1; ; poll++ {
		var s *storagepb.WriteStream
		err := r.retry(ctx, func(ctx context.Context) (err error) {
			s, err = r.write.CreateWriteStream(ctx, &storagepb.CreateWriteStreamRequest{
				Parent: r.o.path(r.o.staging()), WriteStream: &storagepb.WriteStream{Type: storagepb.WriteStream_PENDING},
			})
			return err
		})
		if err != nil && !notFound(err) { // a table that was made a moment ago
			return "", fmt.Errorf("create stream: %w", err)
		}
		var missing []string
		if err == nil {
			if missing = unknownColumns(s.GetTableSchema(), fieldNames(schema)); len(missing) == 0 {
				return s.GetName(), nil
			}
		}
		if poll == mostPolls {
			return "", r.tooLate(r.o.staging(), missing, err)
		}
		if err := r.wait(ctx, poll); err != nil {
			return "", err
		}
	}
}

func (r *remote) tooLate(table string, missing []string, err error) error {
	what := "the Storage Write API does not know of the table yet"
	if len(missing) > 0 {
		what = "the Storage Write API does not know yet of new columns: " + strings.Join(missing, ", ")
	}
	return &Error{Message: what, Table: r.o.place(table), Err: err, hint: "It notices new tables and columns after some minutes. Run again later; what is to be committed is kept."}
}

func fieldNames(schema *arrow.Schema) []string {
	names := make([]string, schema.NumFields())
	for i, f := range schema.Fields() {
		names[i] = f.Name
	}
	return names
}

// unknownColumns are those of names that a stream's schema lacks; none where
// the service does not show it.
func unknownColumns(schema *storagepb.TableSchema, names []string) []string {
	if schema == nil {
		return nil
	}
	known := map[string]bool{}
	for _, f := range schema.GetFields() {
		known[strings.ToLower(f.GetName())] = true
	}
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return known[strings.ToLower(name)] })
}

// finalize ends a stream that should have so many rows. Every append was
// acknowledged before, so a stream that an attempt with a lost answer has ended
// has them too.
func (r *remote) finalize(ctx context.Context, name string, rows int64) error {
	var answer *storagepb.FinalizeWriteStreamResponse
	err := r.retry(ctx, func(ctx context.Context) (err error) {
		answer, err = r.write.FinalizeWriteStream(ctx, &storagepb.FinalizeWriteStreamRequest{Name: name})
		return err
	})
	switch {
	case storageCode(err) == storagepb.StorageError_STREAM_FINALIZED:
		return nil
	case notFound(err), grpcCode(err) == codes.OutOfRange && err != nil:
		return fmt.Errorf("%w: %w", errLostStream, err)
	case err != nil:
		return fmt.Errorf("finalize stream: %w", err)
	case answer.GetRowCount() != rows:
		return fmt.Errorf("%w: it has %d rows of %d", errLostStream, answer.GetRowCount(), rows)
	}
	return nil
}
