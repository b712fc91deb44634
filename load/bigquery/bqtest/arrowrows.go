package bqtest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"google.golang.org/grpc/codes"
)

// arrowDecoder reads rows of record batches.
type arrowDecoder struct {
	message []byte // the schema's
	schema  *arrow.Schema
	columns []column // by field
	names   []string
}

// newArrowDecoder checks an Arrow schema against a table's columns. What the
// service takes is the schema as one IPC message (ArrowSchema, "IPC serialized
// Arrow schema"), no stream of messages.
func newArrowDecoder(message []byte, t writeTable) (*arrowDecoder, error) {
	if err := oneMessage(message, ipc.MessageSchema); err != nil {
		return nil, invalidArgument("Invalid Arrow schema: %v", err)
	}
	schema, err := arrowSchema(message)
	if err != nil {
		return nil, invalidArgument("Invalid Arrow schema: %v", err)
	}
	d := &arrowDecoder{message: message, schema: schema}
	seen := map[string]bool{}
	for _, f := range schema.Fields() {
		lower := strings.ToLower(f.Name)
		if seen[lower] {
			return nil, invalidArgument("Field %s is twice in the writer's schema.", f.Name)
		}
		seen[lower] = true
		if lower == strings.ToLower(changeTypeColumn) || lower == strings.ToLower(changeSequenceColumn) {
			// "The Apache Arrow format isn't supported" (change data capture, "Prerequisites").
			return nil, invalidArgument("Change data capture does not take Arrow: %s.", f.Name)
		}
		at := findColumn(t.columns, f.Name)
		if at < 0 {
			return nil, storageError(codes.InvalidArgument, storagepb.StorageError_SCHEMA_MISMATCH_EXTRA_FIELDS, t.ref.path(),
				"Input schema has more fields than BigQuery schema, extra fields: '%s'.", f.Name)
		}
		if c := t.columns[at]; !arrowFits(c.kind, f.Type) {
			return nil, invalidArgument("Field %s has type %s in the writer's schema, which %s does not take.", f.Name, f.Type, c.kind)
		}
		d.columns, d.names = append(d.columns, t.columns[at]), append(d.names, t.columns[at].name)
	}
	return d, missingRequired(t.columns, seen)
}

// arrowFits is the table of "Supported protocol buffer and Arrow data types",
// "Supported Apache Arrow data types". It says is_signed = false of integers;
// signed ones are what the service's own samples write, and are taken too.
func arrowFits(kind string, t arrow.DataType) bool {
	switch kind {
	case "BOOL":
		return t.ID() == arrow.BOOL
	case "BYTES":
		return t.ID() == arrow.BINARY
	case "DATE":
		return t.ID() == arrow.DATE32 || t.ID() == arrow.STRING || t.ID() == arrow.INT32
	case "DATETIME", "TIMESTAMP":
		ts, ok := t.(*arrow.TimestampType)
		return ok && ts.Unit == arrow.Microsecond && ts.TimeZone == map[string]string{"TIMESTAMP": "UTC"}[kind]
	case "FLOAT64":
		return t.ID() == arrow.FLOAT32 || t.ID() == arrow.FLOAT64
	case "INT64":
		return arrow.IsInteger(t.ID())
	case "JSON", "STRING":
		return t.ID() == arrow.STRING
	case "NUMERIC":
		return t.ID() == arrow.DECIMAL128
	default:
		return false
	}
}

// oneMessage checks that data is one encapsulated IPC message of a kind:
// continuation, length of the metadata, metadata, body.
func oneMessage(data []byte, kind ipc.MessageType) (err error) {
	defer recovered(&err)
	r := ipc.NewMessageReader(bytes.NewReader(data))
	defer r.Release()
	m, err := r.Message()
	if err != nil {
		return fmt.Errorf("no IPC message: %w", err)
	}
	if m.Type() != kind {
		return fmt.Errorf("a %s message where %s is wanted", m.Type(), kind)
	}
	if binary.LittleEndian.Uint32(data) != 0xFFFFFFFF {
		return errors.New("no continuation marker")
	}
	if size := 8 + int64(binary.LittleEndian.Uint32(data[4:])) + m.BodyLen(); size != int64(len(data)) {
		return fmt.Errorf("%d bytes follow the message", int64(len(data))-size)
	}
	return nil
}

// batchHeader reads from the metadata of a record batch how many columns it has,
// and whether its body is compressed: the fields nodes and compression of
// RecordBatch, which is the field header of Message (Arrow's Message.fbs, in the
// layout of FlatBuffers). Arrow's reader reads a batch by whatever schema it has.
func batchHeader(metadata []byte) (columns int, compressed bool, err error) {
	defer recovered(&err)
	u32 := func(at uint32) uint32 { return binary.LittleEndian.Uint32(metadata[at:]) }
	field := func(table, n uint32) uint32 { // 0: not set
		vtable := table - u32(table)
		if 4+2*n >= uint32(binary.LittleEndian.Uint16(metadata[vtable:])) {
			return 0
		}
		return uint32(binary.LittleEndian.Uint16(metadata[vtable+4+2*n:]))
	}
	message := u32(0)
	header := message + field(message, 2)
	header += u32(header)
	if at := field(header, 1); at != 0 {
		columns = int(u32(header + at + u32(header+at)))
	}
	return columns, field(header, 3) != 0, nil
}

// recovered makes a panic of the Arrow reader, which trusts its input, an error.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("malformed: %v", p)
	}
}

func arrowSchema(message []byte) (schema *arrow.Schema, err error) {
	defer recovered(&err)
	r, err := ipc.NewReader(bytes.NewReader(message))
	if err != nil {
		return nil, err
	}
	defer r.Release()
	return r.Schema(), nil
}

func (d *arrowDecoder) read(req *storagepb.AppendRowsRequest) (out *decoded, err error) {
	data := req.GetArrowRows().GetRows().GetSerializedRecordBatch()
	if err := oneMessage(data, ipc.MessageRecordBatch); err != nil {
		return nil, invalidArgument("Invalid Arrow record batch: %v", err)
	}
	columns, compressed, err := batchHeader(data[8:])
	switch {
	case err != nil:
	case compressed:
		err = errors.New("its body is compressed, which nothing says the service takes")
	case columns != len(d.columns):
		err = fmt.Errorf("it has %d columns, its schema %d", columns, len(d.columns))
	default:
		out, err = d.decode(data)
	}
	if err != nil {
		return nil, invalidArgument("Invalid Arrow record batch: %v", err)
	}
	return out, nil
}

func (d *arrowDecoder) decode(data []byte) (out *decoded, err error) {
	defer recovered(&err)
	r, err := ipc.NewReader(io.MultiReader(bytes.NewReader(d.message), bytes.NewReader(data)), ipc.WithSchema(d.schema))
	if err != nil {
		return nil, err
	}
	defer r.Release()
	rec, err := r.Read()
	if err != nil {
		return nil, err
	}
	n := int(rec.NumRows())
	out = &decoded{batch: batch{columns: d.names, rows: make([][]any, n)}}
	cells := make([]any, n*len(d.columns))
	failed := map[int]bool{}
	for i := range out.rows {
		out.rows[i] = cells[i*len(d.columns) : (i+1)*len(d.columns) : (i+1)*len(d.columns)]
	}
	for j, c := range d.columns {
		col := rec.Column(j)
		if col.Len() != n {
			return nil, fmt.Errorf("column %s has %d values of %d", c.name, col.Len(), n)
		}
		for i := range n {
			v, err := arrowCell(c, col, i)
			if err != nil {
				if !failed[i] {
					out.fail(i, fmt.Sprintf("field %s %v", c.name, err))
				}
				failed[i] = true
				continue
			}
			out.rows[i][j] = v
		}
	}
	return out, nil
}

func arrowCell(c column, col arrow.Array, i int) (any, error) {
	if col.IsNull(i) {
		if c.required {
			return nil, errors.New("is required and missing")
		}
		return nil, nil
	}
	v, err := arrowValue(col, i)
	if err != nil {
		return nil, err
	}
	return cell(c.kind, v)
}

// arrowValue makes a value one of those that cell takes.
func arrowValue(col arrow.Array, i int) (any, error) {
	switch a := col.(type) {
	case *array.Boolean:
		return a.Value(i), nil
	case *array.String:
		return strings.Clone(a.Value(i)), nil
	case *array.Binary:
		return bytes.Clone(a.Value(i)), nil
	case *array.Int8:
		return int64(a.Value(i)), nil
	case *array.Int16:
		return int64(a.Value(i)), nil
	case *array.Int32:
		return int64(a.Value(i)), nil
	case *array.Int64:
		return a.Value(i), nil
	case *array.Uint8:
		return uint64(a.Value(i)), nil
	case *array.Uint16:
		return uint64(a.Value(i)), nil
	case *array.Uint32:
		return uint64(a.Value(i)), nil
	case *array.Uint64:
		return a.Value(i), nil
	case *array.Float32:
		return float64(a.Value(i)), nil
	case *array.Float64:
		return a.Value(i), nil
	case *array.Date32:
		return int64(a.Value(i)), nil
	case *array.Timestamp:
		return time.UnixMicro(int64(a.Value(i))).UTC(), nil
	case *array.Decimal128:
		scale := a.DataType().(*arrow.Decimal128Type).Scale //nolint:forcetypeassert // the type of the array
		if scale < 0 || scale > 9 {
			return nil, fmt.Errorf("has scale %d, which NUMERIC does not", scale)
		}
		return new(big.Rat).SetFrac(a.Value(i).BigInt(), new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil)), nil
	default:
		return nil, fmt.Errorf("has an array of %s", col.DataType())
	}
}
