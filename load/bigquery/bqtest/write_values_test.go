package bqtest

import (
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// nest puts a well-known type into a message, as the adapt package does.
func nest(dp *descriptorpb.DescriptorProto, types ...proto.Message) *descriptorpb.DescriptorProto {
	for _, m := range types {
		md := m.ProtoReflect().Descriptor()
		n := protodesc.ToDescriptorProto(md)
		n.Name = proto.String(strings.ReplaceAll(string(md.FullName()), ".", "_"))
		dp.NestedType = append(dp.NestedType, n)
	}
	return dp
}

func marshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestValuesBecomeThoseOfTheirColumns(t *testing.T) {
	t.Parallel()
	packedDateTime := (2026<<26|3<<22|4<<17|5<<12|6<<6|7)<<20 | 8
	packedTime := 5<<32 | 6<<26 | 7<<20 | 8
	const refused = "refused"
	st := start(t, Options{})
	for i, tc := range []struct {
		column, field string
		value         any
		want          string
	}{
		{"BOOL", "bool", 1, "true"},
		{"BOOL", "int32", 0, "false"},
		{"BOOL", "int64", 2, refused},
		{"INT64", "int64", math.MaxInt64, "9223372036854775807"},
		{"INT64", "int64", math.MinInt64, "-9223372036854775808"},
		{"INT64", "int32", -1, "-1"},
		{"INT64", "uint32", 4294967295, "4294967295"},
		{"FLOAT64", "double", 0.1, "0.1"},
		{"FLOAT64", "double", math.Inf(-1), "-inf"},
		{"FLOAT64", "double", math.NaN(), "nan"},
		{"STRING", "string", "hé\x00✓", "hé\x00✓"},
		{"STRING", "string", "\xff", refused},
		{"STRING", "string", "", ""},
		{"BYTES", "bytes", []byte{0xff, 0}, `\xFF\x00`},
		{"BYTES", "string", "ab", "ab"},
		{"JSON", "string", `{"a":[1,"]\"[",null]}`, `{"a":[1,"]\"[",null]}`},
		{"JSON", "string", `{"a":}`, refused},
		{"JSON", "string", "", refused},
		{"JSON", "string", strings.Repeat("[", 500) + strings.Repeat("]", 500), strings.Repeat("[", 500) + strings.Repeat("]", 500)},
		{"JSON", "string", strings.Repeat("[", 501) + strings.Repeat("]", 501), refused},
		{"TIMESTAMP", "int64", -1, "1969-12-31 23:59:59.999999"},
		{"TIMESTAMP", "int64", minMicros, "0001-01-01 00:00:00"},
		{"TIMESTAMP", "int64", minMicros - 1, refused},
		{"TIMESTAMP", "int64", maxMicros, "9999-12-31 23:59:59.999999"},
		{"TIMESTAMP", "int64", maxMicros + 1, refused},
		{"TIMESTAMP", "uint32", 1, "1970-01-01 00:00:00.000001"},
		{"DATE", "int32", minDay, "0001-01-01"},
		{"DATE", "int32", minDay - 1, refused},
		{"DATE", "int64", maxDay, "9999-12-31"},
		{"DATE", "int64", maxDay + 1, refused},
		{"DATE", "string", "2026-03-04", "2026-03-04"},
		{"DATE", "string", "2026-02-30", refused},
		{"DATETIME", "string", "2026-03-04T05:06:07.000008", "2026-03-04 05:06:07.000008"},
		{"DATETIME", "string", "2026-03-04 05:06:07.0000008", refused},
		{"DATETIME", "int64", packedDateTime, "2026-03-04 05:06:07.000008"},
		{"DATETIME", "int64", packedDateTime | 0xf<<42, refused},
		{"TIME", "string", "05:06:07.000008", "05:06:07.000008"},
		{"TIME", "string", "24:00:00", refused},
		{"TIME", "int64", packedTime, "05:06:07.000008"},
		{"TIME", "int64", 24 << 32, refused},
		{"NUMERIC", "string", "-1.25", "-1.250000000"},
		{"NUMERIC", "string", "0.0000000001", refused},
		{"NUMERIC", "string", strings.Repeat("9", 29), strings.Repeat("9", 29) + ".000000000"},
		{"NUMERIC", "string", "1" + strings.Repeat("0", 29), refused},
		{"NUMERIC", "string", "1e3", refused},
		{"NUMERIC", "double", 0.1, "0.100000000"},
		{"NUMERIC", "double", math.Inf(1), refused},
		{"NUMERIC", "int64", -7, "-7.000000000"},
		{"NUMERIC", "bytes", []byte{0x00, 0x36, 0x65, 0xc4}, "-1.000000000"},
		{"INT64", "google_protobuf_Int64Value", &wrapperspb.Int64Value{Value: 7}, "7"},
		{"INT64", "google_protobuf_Int64Value", &wrapperspb.Int64Value{}, "0"},
		{"BOOL", "google_protobuf_BoolValue", &wrapperspb.BoolValue{}, "false"},
		{"STRING", "google_protobuf_StringValue", &wrapperspb.StringValue{Value: "x"}, "x"},
		{"TIMESTAMP", "google_protobuf_Int64Value", &wrapperspb.Int64Value{Value: 1}, "1970-01-01 00:00:00.000001"},
		{"TIMESTAMP", "google_protobuf_Timestamp", &timestamppb.Timestamp{Seconds: 1, Nanos: 2000}, "1970-01-01 00:00:01.000002"},
		{"TIMESTAMP", "google_protobuf_Timestamp", &timestamppb.Timestamp{Seconds: 1, Nanos: 2001}, refused},
		{"TIMESTAMP", "google_protobuf_Timestamp", &timestamppb.Timestamp{Seconds: maxMicros/1_000_000 + 1}, refused},
		{"STRING", "google_protobuf_Int64Value", &wrapperspb.Int64Value{}, refused},
		{"TIMESTAMP", "google_protobuf_Duration", &durationpb.Duration{}, refused},
	} {
		ref := st.table("t"+strconv.Itoa(i), "v:"+tc.column)
		schema, value := message("v:"+tc.field), tc.value
		if m, ok := value.(proto.Message); ok {
			schema, value = nest(schema, m), marshal(t, m)
		}
		req := protoReq(ref.defaultStream(), schema, wire(value))
		r, err := st.connect(t.Context()).try(req)
		if err != nil {
			t.Fatal(err)
		}
		got := refused
		if code := codes.Code(r.GetError().GetCode()); code == codes.OK {
			got = strings.Join(st.rows(ref), ",")
		} else if code != codes.InvalidArgument {
			t.Error(r)
		}
		if got != tc.want {
			t.Errorf("%s from %s %.40v: got %.200q, want %.200q (%v)", tc.column, tc.field, tc.value, got, tc.want, r)
		}
	}
}

func TestEnumsAreNumbersOrNames(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("contacts", "id:STRING, n:INT64")
	schema := message("id:enum, n:enum")
	schema.EnumType = []*descriptorpb.EnumDescriptorProto{{Name: proto.String("E"), Value: []*descriptorpb.EnumValueDescriptorProto{
		{Name: proto.String("NONE"), Number: proto.Int32(0)}, {Name: proto.String("SOME"), Number: proto.Int32(5)},
	}}}
	for _, f := range schema.GetField() {
		f.TypeName = proto.String("E")
	}
	c := st.connect(t.Context())
	c.ok(protoReq(ref.defaultStream(), schema, wire(5, 5)))
	c.refused(protoReq("", nil, wire(4)), codes.InvalidArgument, "not in the enum")
	if diff := cmp.Diff([]string{"SOME 5"}, st.rows(ref)); diff != "" {
		t.Fatal(diff)
	}
}

func TestAFieldThatARowLeavesOutIsTheSchemasDefaultElseNull(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("contacts", "id:STRING, n:INT64, f:FLOAT64")
	schema := message("id:string!, n:int64, f:double")
	schema.Field[1].DefaultValue = proto.String("7")
	c := st.connect(t.Context())
	c.ok(protoReq(ref.defaultStream(), schema, wire("a"), wire("b", 0)))
	c.refused(protoReq("", nil, wire(nil, 1)), codes.InvalidArgument, "required field id of the writer's schema")
	c.refused(protoReq("", nil, wire("a", 1, 1.5, 4)), codes.InvalidArgument, "field number 4")
	c.refused(protoReq("", nil, wire("a", "1")), codes.InvalidArgument, "wire type")
	if diff := cmp.Diff([]string{"a 7 NULL", "b 0 NULL"}, st.rows(ref)); diff != "" {
		t.Fatal(diff)
	}
}
