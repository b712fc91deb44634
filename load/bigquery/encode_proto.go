package bigquery

import (
	"encoding/binary"
	"fmt"
	"math"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/sluice-etl/sluice/schemas"
)

// The pseudo columns of change data capture ("Stream table updates with change
// data capture", "Specify changes to existing records" and "Manage the order").
const (
	colChangeType     = "_CHANGE_TYPE"
	colChangeSequence = "_CHANGE_SEQUENCE_NUMBER"
	changeUpsert      = "UPSERT"
)

// protoWriter makes messages of a table's rows, as upserts. The message has a
// field for each column, in table order from number 1, and then the two pseudo
// columns. A null is a field that is not there (proto2).
type protoWriter struct {
	table  schemas.Table
	schema *storagepb.AppendRowsRequest
	consts map[string][]byte // fields with one value for the package, encoded
	tail   protowire.Number  // of the first pseudo column
	upsert []byte
	buf    []byte
}

// newProtoWriter makes a writer for the rows of a package.
func newProtoWriter(table schemas.Table, runID string, serial int64) *protoWriter {
	optional := descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()
	row := &descriptorpb.DescriptorProto{Name: proto.String("Row")}
	w := &protoWriter{table: table, consts: map[string][]byte{}}
	number := protowire.Number(0)
	add := func(name string, t schemas.Type) {
		number++
		row.Field = append(row.Field, &descriptorpb.FieldDescriptorProto{
			Name: proto.String(name), Number: proto.Int32(int32(number)), Label: optional, Type: protoType(t).Enum(),
		})
		switch name {
		case schemas.ColRunID:
			w.consts[name] = protowire.AppendString(protowire.AppendTag(nil, number, protowire.BytesType), runID)
		case schemas.ColPackage:
			w.consts[name] = protowire.AppendVarint(protowire.AppendTag(nil, number, protowire.VarintType), uint64(serial)) //nolint:gosec // two's complement is meant
		case colChangeType:
			w.tail = number
			w.upsert = protowire.AppendString(protowire.AppendTag(nil, number, protowire.BytesType), changeUpsert)
		}
	}
	for _, c := range table.Columns {
		add(c.Name, c.Type)
	}
	add(colChangeType, schemas.String)
	add(colChangeSequence, schemas.String)
	w.schema = &storagepb.AppendRowsRequest{Rows: &storagepb.AppendRowsRequest_ProtoRows{
		ProtoRows: &storagepb.AppendRowsRequest_ProtoData{WriterSchema: &storagepb.ProtoSchema{ProtoDescriptor: row}},
	}}
	return w
}

// protoType is the type of a column's field ("Supported protocol buffer and
// Arrow data types": int64 of microseconds for TIMESTAMP and int32 of days for
// DATE are the preferred ones, string the only one for JSON).
func protoType(t schemas.Type) descriptorpb.FieldDescriptorProto_Type {
	switch t {
	case schemas.Int64, schemas.Timestamp:
		return descriptorpb.FieldDescriptorProto_TYPE_INT64
	case schemas.Float64:
		return descriptorpb.FieldDescriptorProto_TYPE_DOUBLE
	case schemas.Bool:
		return descriptorpb.FieldDescriptorProto_TYPE_BOOL
	case schemas.Date:
		return descriptorpb.FieldDescriptorProto_TYPE_INT32
	case schemas.String, schemas.JSON:
		return descriptorpb.FieldDescriptorProto_TYPE_STRING
	default:
		return descriptorpb.FieldDescriptorProto_TYPE_STRING
	}
}

// names are the columns that the service has to know of.
func (w *protoWriter) names() []string {
	out := make([]string, len(w.table.Columns))
	for i, c := range w.table.Columns {
		out[i] = c.Name
	}
	return out
}

// protoRecord encodes rows of one record.
type protoRecord struct {
	w      *protoWriter
	rec    arrow.Record
	fields []protoField
	change protowire.Number // of _sluice_change, 0 where the table has none
	// What orders the versions of a contact.
	updated, extracted *array.Timestamp
	row                *array.Int64
	serial             int64
}

type protoField struct {
	column arrow.Array // nil: a constant
	write  cellWriter  // with the tag; for a constant, of any row
}

// record prepares the encoding of a part's record.
func (w *protoWriter) record(rec arrow.Record, serial int64) (*protoRecord, error) {
	out := &protoRecord{w: w, rec: rec, serial: serial}
	for i, c := range w.table.Columns {
		number := protowire.Number(i + 1)
		if fixed := w.consts[c.Name]; fixed != nil {
			out.fields = append(out.fields, protoField{write: func(b []byte, _ int) []byte { return append(b, fixed...) }})
			continue
		}
		if c.Name == schemas.ColChange {
			out.change = number
			continue
		}
		at := rec.Schema().FieldIndices(c.Name)
		if len(at) == 0 {
			continue
		}
		write, err := protoCell(rec.Column(at[0]), number)
		if err != nil {
			return nil, fmt.Errorf("encode column %s: %w", c.Name, err)
		}
		out.fields = append(out.fields, protoField{column: rec.Column(at[0]), write: write})
	}
	var ok [3]bool
	out.updated, ok[0] = columnOf[*array.Timestamp](rec, schemas.ColUpdatedAt)
	out.extracted, ok[1] = columnOf[*array.Timestamp](rec, schemas.ColExtractedAt)
	out.row, ok[2] = columnOf[*array.Int64](rec, schemas.ColRow)
	if ok != [3]bool{true, true, true} {
		return nil, damaged(fmt.Errorf("a record lacks %s, %s or %s", schemas.ColUpdatedAt, schemas.ColExtractedAt, schemas.ColRow))
	}
	return out, checkTimes(rec)
}

func columnOf[A arrow.Array](rec arrow.Record, name string) (a A, ok bool) {
	if at := rec.Schema().FieldIndices(name); len(at) > 0 {
		a, ok = rec.Column(at[0]).(A)
	}
	return a, ok
}

// protoCell returns what appends a column's field, tag and value.
func protoCell(c arrow.Array, number protowire.Number) (cellWriter, error) {
	tag := func(t protowire.Type) []byte { return protowire.AppendTag(nil, number, t) }
	varint := tag(protowire.VarintType)
	switch a := c.(type) {
	case *array.String:
		tag := tag(protowire.BytesType)
		return func(b []byte, i int) []byte { return protowire.AppendString(append(b, tag...), a.Value(i)) }, nil
	case *array.Int64:
		return func(b []byte, i int) []byte {
			return protowire.AppendVarint(append(b, varint...), uint64(a.Value(i))) //nolint:gosec // two's complement is meant
		}, nil
	case *array.Timestamp:
		return func(b []byte, i int) []byte {
			return protowire.AppendVarint(append(b, varint...), uint64(a.Value(i))) //nolint:gosec // two's complement is meant
		}, nil
	case *array.Date32:
		return func(b []byte, i int) []byte {
			return protowire.AppendVarint(append(b, varint...), uint64(int64(a.Value(i)))) //nolint:gosec // sign-extended, as int32 fields are
		}, nil
	case *array.Float64:
		tag := tag(protowire.Fixed64Type)
		return func(b []byte, i int) []byte {
			return binary.LittleEndian.AppendUint64(append(b, tag...), math.Float64bits(a.Value(i)))
		}, nil
	case *array.Boolean:
		return func(b []byte, i int) []byte {
			return protowire.AppendVarint(append(b, varint...), protowire.EncodeBool(a.Value(i)))
		}, nil
	default:
		return nil, fmt.Errorf("type %s is none of Sluice's", c.DataType())
	}
}

// message encodes row i as an upsert that makes the given change. The slice is
// the caller's.
func (p *protoRecord) message(i int, change string) []byte {
	b := p.w.buf[:0]
	for _, f := range p.fields {
		if f.column == nil || f.column.IsValid(i) {
			b = f.write(b, i)
		}
	}
	if p.change > 0 {
		b = protowire.AppendString(protowire.AppendTag(b, p.change, protowire.BytesType), change)
	}
	b = append(b, p.w.upsert...)
	b = protowire.AppendTag(b, p.w.tail+1, protowire.BytesType)
	b = protowire.AppendVarint(b, sequenceLength)
	b = appendSequence(b, int64(p.updated.Value(i)), int64(p.extracted.Value(i)), p.serial, p.row.Value(i))
	p.w.buf = b
	return append(make([]byte, 0, len(b)), b...)
}

// sequenceLength is four sections of 16 digits, and what stands between them.
const sequenceLength = 4*16 + 3

// appendSequence prints the place of a row in the order of load.Loader. The
// service compares sequence numbers section by section, each being up to 16
// hexadecimal digits, of which it takes up to four ("Stream table updates with
// change data capture", "Custom ordering"). The times are moved so that those
// before 1970 come first.
func appendSequence(b []byte, updated, extracted, serial, row int64) []byte {
	const digits = "0123456789ABCDEF"
	for i, v := range [4]uint64{order(min(updated, extracted)), order(extracted), uint64(serial), uint64(row)} { //nolint:gosec // neither is negative
		if i > 0 {
			b = append(b, '/')
		}
		for shift := 60; shift >= 0; shift -= 4 {
			b = append(b, digits[v>>shift&15])
		}
	}
	return b
}

// order maps integers to natural numbers in their order.
func order(v int64) uint64 { return uint64(v) ^ 1<<63 } //nolint:gosec // see above
