package bqtest

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// decoded is what a request holds: rows, and for change data capture what each
// of them does.
type decoded struct {
	batch
	changes []change
	bad     []*storagepb.RowError // of rows that could not be read; then nothing is appended
}

func (d *decoded) fail(row int, message string) {
	d.bad = append(d.bad, &storagepb.RowError{Index: int64(row), Code: storagepb.RowError_FIELDS_ERROR, Message: message})
}

// protoTypes are the types of a writer's fields that each kind takes, "Supported
// protocol buffer and Arrow data types", "Supported protocol buffer data types".
// Wrappers that the page leaves out are those that the Go client's adapt package
// generates for the kind.
var protoTypes = map[string]string{
	"BOOL":      "bool int32 int64 uint32 uint64 BoolValue",
	"BYTES":     "bytes string BytesValue",
	"DATE":      "int32 int64 string Int32Value",
	"DATETIME":  "string int64 Int64Value",
	"TIME":      "string int64 Int64Value",
	"FLOAT64":   "double float DoubleValue FloatValue",
	"INT64":     "int32 int64 uint32 enum Int32Value Int64Value UInt32Value",
	"JSON":      "string StringValue",
	"NUMERIC":   "int32 int64 uint32 uint64 double float string bytes BytesValue",
	"STRING":    "string enum StringValue",
	"TIMESTAMP": "int64 int32 uint32 Timestamp Int64Value",
}

// Pseudocolumns of change data capture, among the fields of a writer's schema.
const (
	changeTypeColumn     = "_CHANGE_TYPE"
	changeSequenceColumn = "_CHANGE_SEQUENCE_NUMBER"
)

// What a field of a writer's schema is for, besides a column's index.
const (
	forChangeType = -1 - iota
	forSequence
)

// protoField is a field of a writer's schema.
type protoField struct {
	desc    protoreflect.FieldDescriptor
	wrapped protoreflect.FieldDescriptor // the field "value" of a wrapper
	time    bool                         // a google.protobuf.Timestamp
	column  int                          // of the decoder's columns, or what else it is for
	index   int                          // of the decoder's order
}

// protoDecoder reads rows by a writer's schema.
type protoDecoder struct {
	fields  map[protowire.Number]*protoField
	order   []*protoField
	columns []column
	names   []string
	key     map[string]bool // lower-case names of the primary key
	cdc     bool
}

func schemaError(format string, args ...any) error {
	return status.Errorf(codes.InvalidArgument, format, args...)
}

// newProtoDecoder checks a writer's schema against a table's columns.
func newProtoDecoder(dp *descriptorpb.DescriptorProto, t writeTable) (*protoDecoder, error) {
	md, err := compile(dp)
	if err != nil {
		return nil, err
	}
	d := &protoDecoder{fields: map[protowire.Number]*protoField{}, key: map[string]bool{}}
	for _, k := range t.primaryKey {
		d.key[strings.ToLower(k)] = true
	}
	seen := map[string]bool{}
	sequence := false
	for i := range md.Fields().Len() {
		fd := md.Fields().Get(i)
		name := columnName(fd)
		if lower := strings.ToLower(name); seen[lower] {
			return nil, schemaError("Field %s is twice in the writer's schema.", name)
		} else {
			seen[lower] = true
		}
		f := &protoField{desc: fd, index: i}
		d.fields[fd.Number()], d.order = f, append(d.order, f)
		switch {
		case strings.EqualFold(name, changeTypeColumn):
			f.column, d.cdc = forChangeType, true
		case strings.EqualFold(name, changeSequenceColumn):
			f.column, sequence = forSequence, true
		default:
			at := findColumn(t.columns, name)
			if at < 0 {
				return nil, storageError(codes.InvalidArgument, storagepb.StorageError_SCHEMA_MISMATCH_EXTRA_FIELDS, t.ref.path(),
					"Input schema has more fields than BigQuery schema, extra fields: '%s'.", name)
			}
			f.column = len(d.columns)
			d.columns, d.names = append(d.columns, t.columns[at]), append(d.names, t.columns[at].name)
		}
		if err := f.check(d, name); err != nil {
			return nil, err
		}
	}
	if sequence && !d.cdc {
		return nil, schemaError("%s needs %s.", changeSequenceColumn, changeTypeColumn)
	}
	return d, missingRequired(t.columns, seen)
}

// missingRequired refuses a writer's schema without a column that has to have a
// value.
func missingRequired(columns []column, seen map[string]bool) error {
	for _, c := range columns {
		if c.required && !seen[strings.ToLower(c.name)] {
			return schemaError("The required field %s is missing from the writer's schema.", c.name)
		}
	}
	return nil
}

// compile makes a descriptor usable. It "must be self contained": there is
// nothing to import from, the well-known types included, as the Go client's
// adapt package also notes. Rows have proto2 semantics (ProtoData.rows).
func compile(dp *descriptorpb.DescriptorProto) (md protoreflect.MessageDescriptor, err error) {
	if dp == nil {
		return nil, schemaError("The writer's schema has no proto_descriptor.")
	}
	file := &descriptorpb.FileDescriptorProto{
		Name: proto.String("writer.proto"), Syntax: proto.String("proto2"),
		MessageType: []*descriptorpb.DescriptorProto{dp},
	}
	fd, err := protodesc.NewFile(file, nil)
	if err != nil {
		return nil, schemaError("Invalid proto schema: %v", err)
	}
	return fd.Messages().Get(0), nil
}

// columnName is the field's name, or its option column_name (annotations.proto).
func columnName(fd protoreflect.FieldDescriptor) string {
	if o, ok := fd.Options().(*descriptorpb.FieldOptions); ok && o != nil && proto.HasExtension(o, storagepb.E_ColumnName) {
		if name, ok := proto.GetExtension(o, storagepb.E_ColumnName).(string); ok {
			return name
		}
	}
	return string(fd.Name())
}

// check decides whether the field's type fits what it is for.
func (f *protoField) check(d *protoDecoder, name string) error {
	kind := "STRING"
	if f.column >= 0 {
		kind = d.columns[f.column].kind
	}
	if f.desc.IsList() || f.desc.IsMap() {
		return schemaError("Field %s is repeated in the writer's schema, not in the table.", name)
	}
	of := f.desc.Kind().String()
	if m := f.desc.Message(); m != nil {
		of, _ = strings.CutPrefix(string(m.Name()), "google_protobuf_")
		if f.time = of == "Timestamp"; !f.time {
			f.wrapped = m.Fields().ByName("value")
			if m.Fields().Len() != 1 || f.wrapped == nil || f.wrapped.IsList() || f.wrapped.Number() != 1 {
				of = string(m.Name())
			}
		}
	}
	for _, ok := range strings.Fields(protoTypes[kind]) {
		if ok == of {
			return nil
		}
	}
	return schemaError("Field %s has type %s in the writer's schema, which %s does not take.", name, of, kind)
}

// decode reads rows. A bad row is told by its index, and none is appended.
func (d *protoDecoder) decode(rows [][]byte) *decoded {
	out := &decoded{batch: batch{columns: d.names, rows: make([][]any, len(rows))}}
	if d.cdc {
		out.changes = make([]change, len(rows))
	}
	for i, raw := range rows {
		values, ch, err := d.row(raw)
		if err != nil {
			out.fail(i, err.Error())
			continue
		}
		out.rows[i] = values
		if d.cdc {
			out.changes[i] = ch
		}
	}
	return out
}

func (d *protoDecoder) row(raw []byte) ([]any, change, error) {
	values := make([]any, len(d.columns))
	set := make([]bool, len(d.order))
	var changeType, sequence any
	for len(raw) > 0 {
		num, typ, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return nil, change{}, fmt.Errorf("Invalid proto row: %w", protowire.ParseError(n)) //nolint:staticcheck // text of an answer
		}
		raw = raw[n:]
		f := d.fields[num]
		if f == nil {
			return nil, change{}, fmt.Errorf("field number %d is not in the writer's schema", num)
		}
		v, n, err := f.consume(typ, raw)
		if err != nil {
			return nil, change{}, fmt.Errorf("field %s: %w", f.desc.Name(), err)
		}
		raw = raw[n:]
		set[f.index] = true
		switch f.column {
		case forChangeType:
			changeType = v
		case forSequence:
			sequence = v
		default:
			if values[f.column], err = cell(d.columns[f.column].kind, v); err != nil {
				return nil, change{}, fmt.Errorf("field %s %w", f.desc.Name(), err)
			}
		}
	}
	for _, f := range d.order {
		if set[f.index] {
			continue
		}
		if err := d.unset(f, values); err != nil {
			return nil, change{}, err
		}
	}
	return d.finish(values, changeType, sequence)
}

// unset fills a field that a row leaves out: the default value of the field in
// the writer's schema, else NULL.
func (d *protoDecoder) unset(f *protoField, values []any) error {
	if f.desc.Cardinality() == protoreflect.Required {
		return fmt.Errorf("required field %s of the writer's schema is missing", f.desc.Name())
	}
	if f.column < 0 || !f.desc.HasDefault() {
		return nil
	}
	var err error
	if values[f.column], err = cell(d.columns[f.column].kind, defaultCell(f.desc, f.desc.Default())); err != nil {
		return fmt.Errorf("default of field %s %w", f.desc.Name(), err)
	}
	return nil
}

// finish checks a whole row: a REQUIRED column has to have a value, except in
// the row of a DELETE, which needs its key alone.
func (d *protoDecoder) finish(values []any, changeType, sequence any) ([]any, change, error) {
	ch := change{}
	if d.cdc {
		var err error
		if ch, err = parseChange(changeType, sequence); err != nil {
			return nil, change{}, err
		}
	}
	for i, c := range d.columns {
		inKey := d.cdc && d.key[strings.ToLower(c.name)]
		if values[i] == nil && (inKey || c.required && !ch.remove) {
			if inKey {
				return nil, change{}, fmt.Errorf("primary key column %s is NULL", c.name)
			}
			return nil, change{}, fmt.Errorf("required field %s is missing", c.name)
		}
	}
	return values, ch, nil
}

// consume reads the value of a field from the start of raw.
func (f *protoField) consume(typ protowire.Type, raw []byte) (v any, n int, err error) {
	if f.desc.Message() == nil {
		return consumeScalar(f.desc, typ, raw)
	}
	if typ != protowire.BytesType {
		return nil, 0, errors.New("wire type does not fit")
	}
	b, n := protowire.ConsumeBytes(raw)
	if n < 0 {
		return nil, 0, protowire.ParseError(n)
	}
	if f.time {
		v, err = consumeTime(b)
		return v, n, err
	}
	v = defaultCell(f.wrapped, f.wrapped.Default())
	for len(b) > 0 {
		num, typ, m := protowire.ConsumeTag(b)
		if m < 0 {
			return nil, 0, protowire.ParseError(m)
		}
		if num != 1 {
			return nil, 0, fmt.Errorf("field number %d is not in a wrapper", num)
		}
		b = b[m:]
		if v, m, err = consumeScalar(f.wrapped, typ, b); err != nil {
			return nil, 0, err
		}
		b = b[m:]
	}
	return v, n, nil
}

// consumeTime reads a google.protobuf.Timestamp.
func consumeTime(b []byte) (any, error) {
	var seconds, nanos int64
	for len(b) > 0 {
		num, typ, m := protowire.ConsumeTag(b)
		if m < 0 || typ != protowire.VarintType || num > 2 {
			return nil, errors.New("is no Timestamp")
		}
		v, k := protowire.ConsumeVarint(b[m:])
		if k < 0 {
			return nil, protowire.ParseError(k)
		}
		if num == 1 {
			seconds = int64(v)
		} else {
			nanos = int64(v)
		}
		b = b[m+k:]
	}
	if seconds < minMicros/1_000_000 || seconds > maxMicros/1_000_000 || nanos < 0 || nanos >= 1e9 {
		return nil, errors.New("is outside the range of TIMESTAMP")
	}
	return time.Unix(seconds, nanos).UTC(), nil
}

func consumeScalar(fd protoreflect.FieldDescriptor, typ protowire.Type, raw []byte) (any, int, error) {
	switch fd.Kind() {
	case protoreflect.StringKind, protoreflect.BytesKind:
		if typ != protowire.BytesType {
			return nil, 0, errors.New("wire type does not fit")
		}
		b, n := protowire.ConsumeBytes(raw)
		if n < 0 {
			return nil, 0, protowire.ParseError(n)
		}
		if fd.Kind() == protoreflect.StringKind {
			return string(b), n, nil
		}
		return append([]byte{}, b...), n, nil
	case protoreflect.DoubleKind:
		if typ != protowire.Fixed64Type {
			return nil, 0, errors.New("wire type does not fit")
		}
		v, n := protowire.ConsumeFixed64(raw)
		return math.Float64frombits(v), n, parseError(n)
	case protoreflect.FloatKind:
		if typ != protowire.Fixed32Type {
			return nil, 0, errors.New("wire type does not fit")
		}
		v, n := protowire.ConsumeFixed32(raw)
		return float64(math.Float32frombits(v)), n, parseError(n)
	default:
		if typ != protowire.VarintType {
			return nil, 0, errors.New("wire type does not fit")
		}
		v, n := protowire.ConsumeVarint(raw)
		if n < 0 {
			return nil, 0, protowire.ParseError(n)
		}
		x, err := varint(fd, v)
		return x, n, err
	}
}

func parseError(n int) error {
	if n < 0 {
		return protowire.ParseError(n)
	}
	return nil
}

func varint(fd protoreflect.FieldDescriptor, v uint64) (any, error) {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return v != 0, nil
	case protoreflect.Int32Kind:
		return int64(int32(v)), nil //nolint:gosec // as protobuf reads a varint of the type
	case protoreflect.Uint32Kind:
		return uint64(uint32(v)), nil //nolint:gosec // as protobuf reads a varint of the type
	case protoreflect.Uint64Kind:
		return v, nil
	case protoreflect.EnumKind:
		e := fd.Enum().Values().ByNumber(protoreflect.EnumNumber(v)) //nolint:gosec // as protobuf reads a varint of the type
		if e == nil {
			return nil, fmt.Errorf("has %d, which is not in the enum", v)
		}
		return enumValue{number: int64(e.Number()), name: string(e.Name())}, nil
	default:
		return int64(v), nil //nolint:gosec // as protobuf reads a varint of the type
	}
}

// defaultCell makes a default value one of those that cell takes.
func defaultCell(fd protoreflect.FieldDescriptor, v protoreflect.Value) any {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return v.Bool()
	case protoreflect.StringKind:
		return v.String()
	case protoreflect.BytesKind:
		return append([]byte{}, v.Bytes()...)
	case protoreflect.DoubleKind, protoreflect.FloatKind:
		return v.Float()
	case protoreflect.Uint32Kind, protoreflect.Uint64Kind:
		return v.Uint()
	case protoreflect.EnumKind:
		e := fd.Enum().Values().ByNumber(v.Enum())
		return enumValue{number: int64(v.Enum()), name: string(e.Name())}
	default:
		return v.Int()
	}
}

func (d *protoDecoder) read(req *storagepb.AppendRowsRequest) (*decoded, error) {
	return d.decode(req.GetProtoRows().GetRows().GetSerializedRows()), nil
}
