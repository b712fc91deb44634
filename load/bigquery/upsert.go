package bigquery

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"github.com/apache/arrow/go/v17/arrow"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

// upsert sends full rows of the package to the table's default stream, those
// whose numbers rows gives, each with the change that it makes (insert, update
// or delete: a tombstone is a row too). It returns once all are acknowledged.
// Doing it again changes nothing: a row's sequence number is its place in the
// order of load.Loader, and of two rows with one, either is the same row.
func (r *remote) upsert(ctx context.Context, p load.Package, table schemas.Table, rows func(each func(row int64, change string) error) error) error {
	wanted, err := choices(p, rows)
	if err != nil || wanted.rows == 0 {
		return err
	}
	w := newProtoWriter(table, p.RunID, p.Serial)
	stream := r.o.path(r.o.Table) + "/streams/_default"
	for poll := 1; ; poll++ {
		missing, err := r.unknownTo(ctx, stream, w.names())
		if err == nil && len(missing) == 0 {
			err = r.upsertAll(ctx, p, table, w, stream, wanted)
			if !errors.Is(err, errUnknownColumn) {
				return explain("upsert rows", r.o.place(r.o.Table), err)
			}
		}
		if err != nil && !errors.Is(err, errUnknownColumn) && !notFound(err) {
			return explain("upsert rows", r.o.place(r.o.Table), err)
		}
		if poll == mostPolls {
			return r.tooLate(r.o.Table, missing, err)
		}
		if err := r.wait(ctx, poll); err != nil {
			return err
		}
	}
}

// mostRows bounds the numbers of rows: far more than a run reads.
const mostRows = 1 << 33

// chosen are the rows of a package that are to be sent, a byte for each row that
// its run has read: numbers grow from 0, and some are of rows that were not kept.
type chosen struct {
	rows    int
	changes []byte // place in names by row number; 0: not to be sent
	names   []string
}

// choices collects the rows that are to be sent.
func choices(p load.Package, rows func(each func(row int64, change string) error) error) (*chosen, error) {
	size := int64(0)
	for _, part := range p.Parts {
		size += part.Rows
	}
	c := &chosen{changes: make([]byte, size), names: []string{"", "insert", "update", "delete"}}
	return c, rows(func(row int64, change string) error {
		name := slices.Index(c.names, change)
		switch {
		case row < 0 || row >= mostRows:
			return damaged(fmt.Errorf("a row has the number %d", row))
		case name < 1:
			return fmt.Errorf("row %d has the change %q, which is none of %v", row, change, c.names[1:])
		case row >= int64(len(c.changes)):
			c.changes = append(c.changes, make([]byte, row+1-int64(len(c.changes)))...)
		}
		if c.changes[row] == 0 {
			c.rows++
		}
		c.changes[row] = byte(name)
		return nil
	})
}

// change is the change that a row makes; false: it is not to be sent.
func (c *chosen) change(row int64) (string, bool) {
	if row < 0 || row >= int64(len(c.changes)) || c.changes[row] == 0 {
		return "", false
	}
	return c.names[c.changes[row]], true
}

// unknownTo are the columns of names that a stream does not know of.
func (r *remote) unknownTo(ctx context.Context, stream string, names []string) ([]string, error) {
	var s *storagepb.WriteStream
	err := r.retry(ctx, func(ctx context.Context) (err error) {
		s, err = r.write.GetWriteStream(ctx, &storagepb.GetWriteStreamRequest{Name: stream, View: storagepb.WriteStreamView_FULL})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ask for stream: %w", err)
	}
	return unknownColumns(s.GetTableSchema(), names), nil
}

func (r *remote) upsertAll(ctx context.Context, p load.Package, table schemas.Table, w *protoWriter, stream string, wanted *chosen) error {
	a := &appender{r: r, stream: stream, window: r.o.InFlight, schema: w.schema}
	defer a.close()
	sent := 0
	for _, part := range p.Parts {
		err := eachRecord(ctx, part, table, nil, func(rec arrow.Record) error {
			n, err := r.upsertRecord(ctx, a, w, rec, p.Serial, wanted)
			sent += n
			return err
		})
		if err != nil {
			return err
		}
	}
	if sent != wanted.rows {
		return damaged(fmt.Errorf("%d of %d rows are in the parts, or some twice", sent, wanted.rows))
	}
	return a.flush(ctx)
}

// upsertRecord sends the wanted rows of a record and returns their number.
func (r *remote) upsertRecord(ctx context.Context, a *appender, w *protoWriter, rec arrow.Record, serial int64, wanted *chosen) (int, error) {
	enc, err := w.record(rec, serial)
	if err != nil {
		return 0, err
	}
	sent, size := 0, 0
	var b batch
	var ids []string
	send := func() error {
		if b.rows == 0 {
			return nil
		}
		out, names := b, ids
		out.name = func(i int64) string {
			if i < 0 || i >= int64(len(names)) {
				return fmt.Sprintf("in row %d of a request", i)
			}
			return names[i]
		}
		b, ids, size = batch{}, nil, 0
		return a.add(ctx, &out)
	}
	for i := range int(rec.NumRows()) {
		change, ok := wanted.change(enc.row.Value(i))
		if !ok {
			continue
		}
		message := enc.message(i, change)
		n := protowire.SizeBytes(len(message)) + 1
		if n > mostBatch {
			return sent, tooLarge(contactOf(rec, int64(i)), int64(n))
		}
		if size+n > targetBatch {
			if err := send(); err != nil {
				return sent, err
			}
		}
		b.proto, b.rows, size = append(b.proto, message), b.rows+1, size+n
		ids = append(ids, contactOf(rec, int64(i)))
		sent++
	}
	return sent, send()
}
