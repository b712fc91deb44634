package bigquery

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/schemas"
)

// edgeColumns are columns of every type beside the contract's.
func edgeColumns() []schemas.Column {
	return []schemas.Column{
		loadtest.Extra("a_bool", schemas.Bool), loadtest.Extra("a_date", schemas.Date), loadtest.Extra("a_float", schemas.Float64),
		loadtest.Extra("a_json", schemas.JSON), loadtest.Extra("a_time", schemas.Timestamp), loadtest.Extra("an_int", schemas.Int64),
	}
}

// edges are rows with values at the limits of their types.
func edges() []loadtest.Row {
	at := func(y int, m time.Month, d int) time.Time { return time.Date(y, m, d, 0, 0, 0, 0, time.UTC) }
	last := time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC)
	rows := []loadtest.Row{
		loadtest.Contact("least", at(1969, 12, 31), time.UnixMicro(-1).UTC(), "an_int", int64(math.MinInt64), "a_float", -math.MaxFloat64,
			"a_bool", false, "a_time", at(1, 1, 1), "a_date", at(1, 1, 1), "a_json", `{}`, "name", ""),
		loadtest.Contact("most", at(2026, 9, 1), last, "an_int", int64(math.MaxInt64), "a_float", math.MaxFloat64,
			"a_bool", true, "a_time", last, "a_date", at(9999, 12, 31), "a_json", `{"a": [1, "zwölf", null, {"b": true}]}`, "name", strings.Repeat("ß", 1000)),
		loadtest.Contact("odd", at(2026, 9, 2), at(2026, 9, 2).Add(123456*time.Microsecond), "an_int", int64(1)<<53+1, "a_float", 0.1,
			"a_time", time.UnixMicro(-123456789).UTC(), "a_date", at(1969, 12, 31), "a_json", `"text"`, "name", "tab\t\"quote\" \\ \n\r\u2028 \x01 \x7f 漢字 😀"),
		loadtest.Contact("nothing", at(2026, 10, 1), at(2026, 10, 1)),
	}
	return rows
}

// recordsOf reads the records of a package's parts; the test releases them.
func recordsOf(t *testing.T, p load.Package) []arrow.Record {
	t.Helper()
	var out []arrow.Record
	for _, part := range p.Parts {
		err := eachRecord(t.Context(), part, p.Table, nil, func(rec arrow.Record) error {
			rec.Retain()
			t.Cleanup(rec.Release)
			out = append(out, rec)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// text prints a value in the way that JSON lines have it.
func text(c arrow.Array, i int) string {
	switch a := c.(type) {
	case *array.Timestamp:
		return timeText(time.UnixMicro(int64(a.Value(i))))
	case *array.Date32:
		return a.Value(i).ToTime().Format(time.DateOnly)
	default:
		return c.ValueStr(i)
	}
}

func TestArrowBatchesHoldEveryRowOnceInOrder(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	columns := append(edgeColumns(), loadtest.Extra("only_elsewhere", schemas.String))
	var rows []loadtest.Row
	for i := range 3000 {
		row := loadtest.Contact(fmt.Sprintf("c%05d", i), loadtest.Epoch, loadtest.Epoch, "name", strings.Repeat("n", r.IntN(5000)), "an_int", r.Int64())
		if r.IntN(3) > 0 {
			row = row.With("a_bool", r.IntN(2) == 0, "a_json", fmt.Sprintf(`{"n":%d}`, i))
		}
		rows = append(rows, row)
	}
	p := loadtest.Build(t, loadtest.Spec{Serial: 7, Rows: rows, Extra: columns})
	m := memo{Attempt: 3, StagedAt: loadtest.Epoch}
	w, err := newArrowWriter(stagedColumns(p.Table, func(string) bool { return true }), p.Serial, m)
	if err != nil {
		t.Fatal(err)
	}
	n, batches := 0, 0
	for _, rec := range recordsOf(t, p) {
		at := 0
		err := w.batches(rec, func(b *batch) error {
			batches++
			if len(b.arrow) > targetBatch*5/4 {
				t.Errorf("batch of %d bytes", len(b.arrow))
			}
			got := decodeArrow(t, w.message, b.arrow)
			if got.NumRows() != b.rows {
				t.Fatalf("%d rows, batch says %d", got.NumRows(), b.rows)
			}
			for i := range int(b.rows) {
				if b.name(int64(i)) != text(rec.Column(0), at+i) {
					t.Fatalf("row %d is named %s", i, b.name(int64(i)))
				}
				compareRow(t, got, i, rec, at+i)
			}
			at += int(b.rows)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		n += at
	}
	if n != len(rows) || batches < 2 {
		t.Errorf("%d rows in %d batches, want %d in several", n, batches, len(rows))
	}
}

func decodeArrow(t *testing.T, schema, data []byte) arrow.Record {
	t.Helper()
	r, err := ipc.NewReader(io.MultiReader(bytes.NewReader(schema), bytes.NewReader(data)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Release)
	if !r.Next() {
		t.Fatal(r.Err())
	}
	return r.Record()
}

func compareRow(t *testing.T, got arrow.Record, i int, want arrow.Record, k int) {
	t.Helper()
	for j, f := range got.Schema().Fields() {
		value := got.Column(j).ValueStr(i)
		wanted := array.NullValueStr
		if at := want.Schema().FieldIndices(f.Name); len(at) > 0 {
			wanted = want.Column(at[0]).ValueStr(k)
		}
		switch f.Name {
		case schemas.ColPackage:
			wanted = "7"
		case colAttempt:
			wanted = "3"
		case colStagedAt:
			value, wanted = text(got.Column(j), i), timeText(loadtest.Epoch)
		}
		if value != wanted {
			t.Fatalf("row %d, column %s: %s, want %s", k, f.Name, value, wanted)
		}
	}
}

func TestARowTooLargeForARequestIsNamed(t *testing.T) {
	t.Parallel()
	rows := []loadtest.Row{
		loadtest.Contact("small", loadtest.Epoch, loadtest.Epoch),
		loadtest.Contact("huge", loadtest.Epoch, loadtest.Epoch, "name", strings.Repeat("n", mostBatch)),
	}
	p := loadtest.Build(t, loadtest.Spec{Serial: 1, Rows: rows})
	w, err := newArrowWriter(stagedColumns(p.Table, func(string) bool { return true }), 1, memo{})
	if err != nil {
		t.Fatal(err)
	}
	sent := int64(0)
	err = w.batches(recordsOf(t, p)[0], func(b *batch) error { sent += b.rows; return nil })
	var e *Error
	if !errors.As(err, &e) || !strings.Contains(e.Message, "contact huge") || e.Hint() == "" {
		t.Errorf("error %v", err)
	}
	if sent != 1 {
		t.Errorf("%d rows sent before it", sent)
	}
}

func TestTimesThatBigQueryDoesNotHaveAreNamed(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]time.Time{"a_time": time.UnixMicro(lastMicro + 1).UTC(), "a_date": time.Date(0, 12, 31, 0, 0, 0, 0, time.UTC)} {
		row := loadtest.Contact("late", loadtest.Epoch, loadtest.Epoch, name, value)
		p := loadtest.Build(t, loadtest.Spec{Serial: 1, Rows: []loadtest.Row{row}, Extra: edgeColumns()})
		err := checkTimes(recordsOf(t, p)[0])
		if err == nil || !strings.Contains(err.Error(), "contact late") || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestJSONLinesKeepEveryValue(t *testing.T) {
	t.Parallel()
	p := loadtest.Build(t, loadtest.Spec{Serial: 7, Rows: edges(), Extra: edgeColumns()})
	rec := recordsOf(t, p)[0]
	var out bytes.Buffer
	w := newJSONWriter(p.Serial, memo{Attempt: 3, StagedAt: loadtest.Epoch})
	if err := w.lines(&out, rec, p.Table); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != int(rec.NumRows()) {
		t.Fatalf("%d lines of %d rows", len(lines), rec.NumRows())
	}
	for i, line := range lines {
		var got map[string]json.RawMessage
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		for j, c := range rec.Columns() {
			name := rec.ColumnName(j)
			if c.IsNull(i) {
				if got[name] != nil {
					t.Errorf("row %d: %s is %s, want nothing", i, name, got[name])
				}
				continue
			}
			value := string(got[name])
			if name != "a_json" && value != "true" && value != "false" && name != "a_float" {
				if err := json.Unmarshal(got[name], &value); err != nil {
					t.Fatal(err)
				}
			}
			if want := text(c, i); value != want {
				t.Errorf("row %d: %s is %q, want %q", i, name, value, want)
			}
		}
		if string(got[schemas.ColPackage]) != `"7"` || string(got[colAttempt]) != `"3"` || string(got[colStagedAt]) != `"2026-09-01 00:00:00.000000+00:00"` {
			t.Errorf("row %d: constants %s", i, line)
		}
	}
}

func TestJSONTextWithLineEndsStaysOnOneLine(t *testing.T) {
	t.Parallel()
	if got := string(appendRaw(nil, "{\n\"a\":\r\n1}")); got != `{ "a":  1}` {
		t.Errorf("%q", got)
	}
	for v, want := range map[float64]string{math.Inf(1): `"Infinity"`, math.Inf(-1): `"-Infinity"`, 1e300: "1e+300"} {
		if got := string(appendFloat(nil, v)); got != want {
			t.Errorf("%g is %s, want %s", v, got, want)
		}
	}
	if got := string(appendFloat(nil, math.NaN())); got != `"NaN"` {
		t.Errorf("NaN is %s", got)
	}
}

func TestUpsertMessagesKeepEveryValue(t *testing.T) {
	t.Parallel()
	p := loadtest.Build(t, loadtest.Spec{Serial: 7, RunID: "run-x", Rows: edges(), Extra: edgeColumns()})
	rec := recordsOf(t, p)[0]
	w := newProtoWriter(p.Table, p.RunID, p.Serial)
	enc, err := w.record(rec, p.Serial)
	if err != nil {
		t.Fatal(err)
	}
	message := messageType(t, w.schema.GetProtoRows().GetWriterSchema().GetProtoDescriptor())
	for i := range int(rec.NumRows()) {
		row := dynamicpb.NewMessage(message)
		if err := proto.Unmarshal(enc.message(i, "update"), row); err != nil {
			t.Fatal(err)
		}
		if len(row.GetUnknown()) > 0 {
			t.Errorf("row %d: unknown fields", i)
		}
		got := map[string]string{}
		row.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			got[string(fd.Name())] = v.String()
			return true
		})
		want := map[string]string{
			schemas.ColRunID: "run-x", schemas.ColPackage: "7", schemas.ColChange: "update", colChangeType: "UPSERT",
			colChangeSequence: got[colChangeSequence],
		}
		for j, c := range rec.Columns() {
			if c.IsNull(i) {
				continue
			}
			switch a := c.(type) {
			case *array.Timestamp:
				want[rec.ColumnName(j)] = fmt.Sprint(int64(a.Value(i)))
			case *array.Date32:
				want[rec.ColumnName(j)] = fmt.Sprint(int32(a.Value(i)))
			case *array.Float64:
				want[rec.ColumnName(j)] = fmt.Sprint(a.Value(i))
			default:
				want[rec.ColumnName(j)] = c.ValueStr(i)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("row %d (-want +got):\n%s", i, diff)
		}
	}
}

func messageType(t *testing.T, row *descriptorpb.DescriptorProto) protoreflect.MessageDescriptor {
	t.Helper()
	f, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("row.proto"), Syntax: proto.String("proto2"), MessageType: []*descriptorpb.DescriptorProto{row},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return f.Messages().Get(0)
}

func TestSequenceNumbersOrderRowsAsTheContractDoes(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 2))
	type place struct{ updated, extracted, serial, row int64 }
	pick := func() int64 {
		return []int64{math.MinInt64, firstMicro, -1, 0, 1, 9, 10, 15, 16, lastMicro, math.MaxInt64, r.Int64() - r.Int64()}[r.IntN(12)]
	}
	var places []place
	for range 300 {
		places = append(places, place{pick(), pick(), r.Int64N(20), r.Int64N(20)})
	}
	number := func(p place) string { return string(appendSequence(nil, p.updated, p.extracted, p.serial, p.row)) }
	for _, a := range places {
		if n := number(a); len(n) != sequenceLength {
			t.Fatalf("%s has %d characters, want %d", n, len(n), sequenceLength)
		}
		for _, b := range places {
			want := slices.Compare([]int64{min(a.updated, a.extracted), a.extracted, a.serial, a.row}, []int64{min(b.updated, b.extracted), b.extracted, b.serial, b.row})
			if got := strings.Compare(number(a), number(b)); got != want {
				t.Fatalf("%v and %v compare as %d, want %d", a, b, got, want)
			}
		}
	}
}

func TestEncodersGiveBackTheirMemory(t *testing.T) {
	t.Parallel()
	p := loadtest.Build(t, loadtest.Spec{Serial: 7, Rows: edges(), Extra: edgeColumns()})
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	rec := recordsOf(t, p)[0]
	w, err := newArrowWriter(stagedColumns(p.Table, func(string) bool { return true }), 7, memo{})
	if err != nil {
		t.Fatal(err)
	}
	w.mem = mem
	if err := w.batches(rec, func(*batch) error { return nil }); err != nil {
		t.Fatal(err)
	}
	mem.AssertSize(t, 0)
}
