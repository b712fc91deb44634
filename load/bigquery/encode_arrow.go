package bigquery

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/sluice-etl/sluice/internal/parquetfile"
	"github.com/sluice-etl/sluice/schemas"
)

const (
	// targetBatch is the size of a request with several rows, in bytes.
	targetBatch = 4 << 20
	// mostBatch bounds the rows of a request. "The size of a single
	// AppendRowsRequest must be less than 20 MB in size" (storage.proto); the
	// first one has the writer's schema besides.
	mostBatch = 18_000_000
)

// The times that BigQuery has (Data types, "Timestamp type" and "Date type").
const (
	firstMicro = -62135596800000000 // 0001-01-01 00:00:00 UTC
	lastMicro  = 253402300799999999 // 9999-12-31 23:59:59.999999 UTC
	firstDay   = -719162
	lastDay    = 2932896
)

// batch is some rows as one request of AppendRows has them.
type batch struct {
	rows   int64
	offset int64 // of the first in the stream
	arrow  []byte
	proto  [][]byte
	name   func(i int64) string // of row i, for messages
}

// arrowWriter makes batches of records. Its schema is one for all parts of a
// package: parts that lack a column have nulls there.
type arrowWriter struct {
	schema  *arrow.Schema
	message []byte // the schema as one IPC message
	consts  map[string]arrow.Array
	mem     memory.Allocator
}

// newArrowWriter makes a writer for the rows of a package under an attempt.
func newArrowWriter(columns []schemas.Column, serial int64, m memo) (*arrowWriter, error) {
	w := &arrowWriter{mem: memory.DefaultAllocator, consts: map[string]arrow.Array{
		schemas.ColPackage: repeated(serial, arrow.PrimitiveTypes.Int64),
		colAttempt:         repeated(m.Attempt, arrow.PrimitiveTypes.Int64),
		colStagedAt:        repeated(m.StagedAt.UnixMicro(), arrow.FixedWidthTypes.Timestamp_us),
	}}
	var fields []arrow.Field
	for _, c := range columns {
		fields = append(fields, arrow.Field{Name: c.Name, Type: c.Type.Arrow(), Nullable: true})
	}
	for _, name := range []string{schemas.ColPackage, colAttempt, colStagedAt} {
		fields = append(fields, arrow.Field{Name: name, Type: w.consts[name].DataType()})
	}
	w.schema = arrow.NewSchema(fields, nil)
	// A writer writes the schema before anything else, even for no rows.
	var out messages
	if err := ipc.NewWriterWithPayloadWriter(&out, ipc.WithSchema(w.schema)).Close(); err != nil {
		return nil, fmt.Errorf("encode Arrow schema: %w", err)
	}
	if len(out.all) == 0 {
		return nil, errors.New("encode Arrow schema: no message")
	}
	w.message = out.all[0]
	return w, nil
}

// repeated is a column with one value, as long as the largest record.
func repeated(v int64, t arrow.DataType) arrow.Array {
	values := slices.Repeat([]int64{v}, parquetfile.DefaultBatchRows)
	data := array.NewData(t, parquetfile.DefaultBatchRows, []*memory.Buffer{nil, memory.NewBufferBytes(arrow.Int64Traits.CastToBytes(values))}, nil, 0, 0)
	defer data.Release()
	return array.MakeFromData(data)
}

// widen makes a part's record one of the writer's schema. The caller releases
// it.
func (w *arrowWriter) widen(rec arrow.Record) arrow.Record {
	n := int(rec.NumRows())
	columns := make([]arrow.Array, w.schema.NumFields())
	for i, f := range w.schema.Fields() {
		switch at := rec.Schema().FieldIndices(f.Name); {
		case w.consts[f.Name] != nil:
			columns[i] = array.NewSlice(w.consts[f.Name], 0, int64(n))
		case len(at) > 0:
			columns[i] = rec.Column(at[0])
			columns[i].Retain()
		default:
			columns[i] = array.MakeArrayOfNull(w.mem, f.Type, n)
		}
	}
	out := array.NewRecord(w.schema, columns, int64(n))
	for _, c := range columns {
		c.Release()
	}
	return out
}

// batches cuts a part's record into requests and gives them in order.
func (w *arrowWriter) batches(rec arrow.Record, f func(*batch) error) error {
	if err := checkTimes(rec); err != nil {
		return err
	}
	wide := w.widen(rec)
	defer wide.Release()
	for _, c := range cuts(wide, targetBatch) {
		if err := w.batch(wide, c[0], c[1], f); err != nil {
			return err
		}
	}
	return nil
}

// batch encodes the rows [from, to), in halves where they are too large.
func (w *arrowWriter) batch(rec arrow.Record, from, to int64, f func(*batch) error) error {
	part := rec.NewSlice(from, to)
	defer part.Release()
	var out messages
	enc := ipc.NewWriterWithPayloadWriter(&out, ipc.WithSchema(w.schema), ipc.WithAllocator(w.mem))
	if err := errors.Join(enc.Write(part), enc.Close()); err != nil {
		return fmt.Errorf("encode rows: %w", err)
	}
	if len(out.all) != 2 {
		return fmt.Errorf("encode rows: %d messages, want 2", len(out.all))
	}
	if data := out.all[1]; len(data) <= mostBatch {
		name := namer(rec, from)
		return f(&batch{rows: to - from, arrow: data, name: name})
	}
	if to-from == 1 {
		return tooLarge(contactOf(rec, from), int64(len(out.all[1])))
	}
	middle := from + (to-from)/2
	if err := w.batch(rec, from, middle, f); err != nil {
		return err
	}
	return w.batch(rec, middle, to, f)
}

func tooLarge(id string, size int64) error {
	return &Error{
		Message: fmt.Sprintf("contact %s is too large for BigQuery: %d bytes, of at most %d in one request", id, size, mostBatch),
		hint:    "Use method load, which takes rows of up to 100 MB, or leave the field out of the contract.",
	}
}

// namer keeps the ids of a batch's rows, from row first on, for messages.
func namer(rec arrow.Record, first int64) func(i int64) string {
	at := rec.Schema().FieldIndices(schemas.ColID)
	if len(at) == 0 {
		return func(i int64) string { return fmt.Sprintf("in row %d", first+i) }
	}
	ids, ok := rec.Column(at[0]).(*array.String)
	if !ok {
		return func(i int64) string { return fmt.Sprintf("in row %d", first+i) }
	}
	return func(i int64) string {
		if first+i < 0 || first+i >= int64(ids.Len()) {
			return fmt.Sprintf("in row %d", first+i)
		}
		return ids.Value(int(first + i))
	}
}

func contactOf(rec arrow.Record, row int64) string { return namer(rec, row)(0) }

// cuts divides a record into runs of rows of about target bytes.
func cuts(rec arrow.Record, target int64) [][2]int64 {
	fixed := int64(0)
	var texts [][]int32
	for _, c := range rec.Columns() {
		switch a := c.(type) {
		case *array.String:
			texts = append(texts, a.ValueOffsets())
			fixed += 4
		case *array.Boolean:
			fixed++
		default:
			fixed += 8
		}
	}
	var out [][2]int64
	from, size := int64(0), int64(0)
	for i := range rec.NumRows() {
		row := fixed
		for _, offsets := range texts {
			if int(i)+1 < len(offsets) {
				row += int64(offsets[i+1] - offsets[i])
			}
		}
		if i > from && size+row > target {
			out = append(out, [2]int64{from, i})
			from, size = i, 0
		}
		size += row
	}
	if from < rec.NumRows() {
		out = append(out, [2]int64{from, rec.NumRows()})
	}
	return out
}

// checkTimes refuses times that BigQuery does not have, naming the contact.
func checkTimes(rec arrow.Record) error {
	for i, c := range rec.Columns() {
		row := -1
		switch a := c.(type) {
		case *array.Timestamp:
			row = outside(a.TimestampValues(), a, firstMicro, lastMicro)
		case *array.Date32:
			row = outside(a.Date32Values(), a, firstDay, lastDay)
		}
		if row >= 0 {
			return &Error{
				Message: fmt.Sprintf("contact %s: the time in %s is outside of the years 1 to 9999, which is all that BigQuery has", contactOf(rec, int64(row)), rec.ColumnName(i)),
				hint:    "Declare the field as a string in the contract under another column name, or correct it at the source.",
			}
		}
	}
	return nil
}

// outside returns the first row whose value is not within [first, last], -1 for
// none.
func outside[T ~int64 | ~int32](values []T, a arrow.Array, first, last int64) int {
	for i, v := range values {
		if (int64(v) < first || int64(v) > last) && a.IsValid(i) {
			return i
		}
	}
	return -1
}

// messages collects what an IPC writer writes as single messages: "IPC
// serialized Arrow schema", "IPC-serialized Arrow RecordBatch" (arrow.proto), no
// stream of both. It is an ipc.PayloadWriter.
type messages struct{ all [][]byte }

var _ ipc.PayloadWriter = (*messages)(nil)

// Start implements ipc.PayloadWriter.
func (m *messages) Start() error { return nil }

// Close implements ipc.PayloadWriter; the writer releases its payloads.
func (m *messages) Close() error { return nil }

// WritePayload implements ipc.PayloadWriter. A message is a marker, the length
// of its metadata, the metadata up to a multiple of 8, and the body (Arrow
// columnar format, "Encapsulated message format").
func (m *messages) WritePayload(p ipc.Payload) error {
	meta := p.Meta()
	defer meta.Release()
	padded := (meta.Len() + 7) &^ 7
	var body bytes.Buffer
	head := make([]byte, 8, 8+padded)
	binary.LittleEndian.PutUint32(head, 0xFFFFFFFF)
	binary.LittleEndian.PutUint32(head[4:], uint32(padded)) //nolint:gosec // of a schema
	head = append(head, meta.Bytes()...)
	head = append(head, make([]byte, padded-meta.Len())...)
	body.Write(head)
	if err := p.SerializeBody(&body); err != nil {
		return err
	}
	m.all = append(m.all, body.Bytes())
	return nil
}

// stagedColumns are the columns of a table that staged rows of the parts have,
// in table order.
func stagedColumns(table schemas.Table, has func(name string) bool) []schemas.Column {
	var out []schemas.Column
	for _, c := range table.Columns {
		if !constant(c.Name) && has(c.Name) {
			out = append(out, c)
		}
	}
	return out
}
