package bqtest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"cloud.google.com/go/bigquery/storage/managedwriter"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// staleness sets the table's max_staleness.
func (st *stand) staleness(ref tableRef, interval string) {
	st.t.Helper()
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	t, err := st.s.find(ref)
	if err != nil {
		st.t.Fatal(err)
	}
	t.meta.MaxStaleness = interval
}

func (st *stand) want(ref tableRef, rows ...string) {
	st.t.Helper()
	if diff := cmp.Diff(append([]string{}, rows...), st.rows(ref)); diff != "" {
		st.t.Fatal(diff)
	}
}

var changes = message("id:string, n:int64, _CHANGE_TYPE:string, _CHANGE_SEQUENCE_NUMBER:string")

func upsert(id string, n int, seq any) []byte { return wire(id, n, "UPSERT", seq) }
func remove(id string, seq any) []byte        { return wire(id, nil, "DELETE", seq) }

func TestTheManagedClientUpsertsAndDeletes(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("contacts", "id:STRING!, name:STRING!, n:INT64", "id")
	// The columns besides the key are NULLABLE in the descriptor, so that a
	// DELETE can leave them out.
	schema := tableSchema(cols("id:STRING!, name:STRING, n:INT64, _CHANGE_TYPE:STRING, _CHANGE_SEQUENCE_NUMBER:STRING"))
	dp, md := adapted(t, schema)
	stream, err := st.managed().NewManagedStream(t.Context(), managedwriter.WithDestinationTable(ref.path()),
		managedwriter.WithType(managedwriter.DefaultStream), managedwriter.WithSchemaDescriptor(dp))
	if err != nil {
		t.Fatal(err)
	}
	write := func(fields ...map[string]any) {
		t.Helper()
		var rows [][]byte
		for _, f := range fields {
			m := dynamicpb.NewMessage(md)
			for name, v := range f {
				m.Set(md.Fields().ByName(protoreflect.Name(name)), protoreflect.ValueOf(v))
			}
			raw, err := proto.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			rows = append(rows, raw)
		}
		result, err := stream.AppendRows(t.Context(), rows)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := result.GetResult(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	type f = map[string]any
	const kind, seq = "_CHANGE_TYPE", "_CHANGE_SEQUENCE_NUMBER"
	write(
		f{"id": "100", "name": "Charlie", "n": int64(2000), kind: "UPSERT", seq: "1"},
		f{"id": "101", "name": "Tal", "n": int64(3000), kind: "UPSERT", seq: "1"},
	)
	st.want(ref, "100 Charlie 2000", "101 Tal 3000")
	write(
		f{"id": "100", kind: "DELETE", seq: "2"},
		f{"id": "101", "name": "Tal", kind: "UPSERT", seq: "2"},
		f{"id": "105", "name": "Izumi", "n": int64(6000), kind: "UPSERT", seq: "2"},
	)
	st.want(ref, "101 Tal NULL", "105 Izumi 6000")
}

func TestTheLargestSequenceNumberWinsInWhateverOrderChangesCome(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	for _, tc := range []struct{ larger, smaller string }{
		{"7B", "77"},
		{"FFF/ABC", "FFF/B"},
		{"ABC", "BA/FFFFFFFF"},
		{"FFF/ABC", "ABC"},
		{"ffffffffffffffff/0/0/1", "FFFFFFFFFFFFFFFF"},
		{"8000000000000000", "7fffffffffffffff"}, // unsigned
		{"10", "9"},
		{"00000000000000ff", "fe"},
	} {
		for _, order := range []string{"ascending", "descending"} {
			for _, together := range []bool{true, false} {
				t.Run(fmt.Sprint(tc.larger, " ", order, " ", together), func(t *testing.T) {
					st.t = t
					ref := st.table("contacts", "id:STRING!, n:INT64", "id")
					rows := [][]byte{upsert("a", 1, tc.smaller), upsert("a", 2, tc.larger)}
					if order == "descending" {
						rows[0], rows[1] = rows[1], rows[0]
					}
					c := st.connect(t.Context())
					c.ok(protoReq(ref.defaultStream(), changes, rows[0]))
					if !together {
						st.rows(ref) // applies it
					}
					c.ok(protoReq("", nil, rows[1]))
					st.want(ref, "a 2")
				})
			}
		}
	}
}

func TestTheLaterOfEqualOrUnnumberedChangesWins(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	for _, seq := range []any{"A", nil} {
		for _, together := range []bool{true, false} {
			ref := st.table("contacts", "id:STRING!, n:INT64", "id")
			c := st.connect(t.Context())
			for n := range 4 {
				c.ok(protoReq(ref.defaultStream(), changes, upsert("a", n, seq), upsert("b", n, seq)))
				if !together {
					st.rows(ref)
				}
			}
			c.ok(protoReq(ref.defaultStream(), changes, remove("b", seq)))
			st.want(ref, "a 3")
		}
	}
}

func TestADeleteBeatsOlderChangesForTwoDays(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("contacts", "id:STRING!, n:INT64", "id")
	c := st.connect(t.Context())
	c.ok(protoReq(ref.defaultStream(), changes, remove("a", "5"), upsert("b", 9, "5")))
	st.want(ref, "b 9")
	st.clock.advance(deleteWindow)
	c.ok(protoReq("", nil, upsert("a", 1, "4"), upsert("b", 1, "4")))
	st.want(ref, "b 9")
	c.ok(protoReq("", nil, upsert("a", 1, "4"))) // again, changes having been applied meanwhile
	st.want(ref, "b 9")
	st.clock.advance(time.Microsecond)
	c.ok(protoReq("", nil, upsert("c", 1, "1")))
	st.rows(ref)
	c.ok(protoReq("", nil, upsert("a", 1, "4"), upsert("b", 1, "4")))
	st.want(ref, "a 1", "b 9", "c 1")
}

func TestRowsThatWereThereAreReplaced(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("contacts", "id:STRING!, n:INT64, m:INT64", "id")
	st.connect(t.Context()).ok(protoReq(ref.defaultStream(), message("id:string, m:int64"), wire("a", 1), wire("b", 2)))
	st.connect(t.Context()).ok(protoReq(ref.defaultStream(), changes, upsert("a", 5, "0"), remove("c", "0")))
	st.want(ref, "a 5 NULL", "b NULL 2")
}

func TestACompositeKeyIsOne(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("contacts", "k:INT64!, id:STRING!, n:INT64", "ID", "k")
	schema := message("id:string, n:int64, _CHANGE_TYPE:string, k:int64")
	c := st.connect(t.Context())
	c.ok(protoReq(ref.defaultStream(), schema, wire("a", 1, "UPSERT", 1), wire("a", 2, "UPSERT", 2), wire("b", 3, "UPSERT", 1)))
	c.ok(protoReq("", nil, wire("a", nil, "DELETE", 2), wire("b", 4, "UPSERT", 1)))
	st.want(ref, "1 a 1", "1 b 4")
	c.refused(protoReq("", nil, wire("a", nil, "DELETE", nil)), codes.InvalidArgument, "primary key column k is NULL")
}

func TestChangesAreSeenWhenMaxStalenessHasPassed(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("contacts", "id:STRING!, n:INT64", "id")
	st.staleness(ref, "0-0 0 0:10:0")
	c := st.connect(t.Context())
	c.ok(protoReq(ref.defaultStream(), changes, upsert("a", 1, "1")))
	st.clock.advance(5 * time.Minute)
	c.ok(protoReq("", nil, upsert("b", 1, "1")))
	st.want(ref)
	st.clock.advance(5*time.Minute - time.Microsecond)
	st.want(ref)
	st.clock.advance(time.Microsecond)
	st.want(ref, "a 1", "b 1")
	w, err := st.s.writeTable(ref)
	if err != nil {
		t.Fatal(err)
	}
	if got := st.s.appliedUntil(w.table); !got.Equal(st.clock.Now()) {
		t.Errorf("watermark %s", got)
	}
	c.ok(protoReq("", nil, remove("a", "2")))
	st.clock.advance(9 * time.Minute)
	st.want(ref, "a 1", "b 1")
	st.staleness(ref, "0-0 0 0:9:0")
	st.want(ref, "b 1")
}

func TestChangesTakeColumnsThatWereAdded(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("contacts", "id:STRING!, n:INT64", "id")
	c := st.connect(t.Context())
	c.ok(protoReq(ref.defaultStream(), changes, upsert("a", 1, "1"), upsert("b", 1, "1")))
	st.addColumn(ref, "m:FLOAT64")
	schema := message("id:string, m:double, _CHANGE_TYPE:string, _CHANGE_SEQUENCE_NUMBER:string")
	c.ok(protoReq(ref.defaultStream(), schema, wire("a", 0.5, "UPSERT", "2")))
	st.want(ref, "a NULL 0.5", "b 1 NULL")
}

func TestChangeDataCaptureIsRefusedWhereItIsNotSupported(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("contacts", "id:STRING!, n:INT64", "id")
	keyless := st.table("keyless", "id:STRING!, n:INT64")
	loose := st.table("loose", "id:STRING, n:INT64", "id")
	var wide, key []string
	for i := range maxKeyColumns + 1 {
		key = append(key, fmt.Sprintf("k%d", i))
		wide = append(wide, fmt.Sprintf("k%d:INT64", i))
	}
	many := st.table("many", strings.Join(wide, ", ")+", id:STRING!, n:INT64", key...)
	columns := []string{"id:STRING!", "n:INT64"}
	for len(columns) <= maxCDCColumns {
		columns = append(columns, fmt.Sprintf("c%d:INT64", len(columns)))
	}
	broad := st.table("broad", strings.Join(columns, ", "), "id")
	row := upsert("a", 1, "1")
	for name, tc := range map[string]struct {
		req  *storagepb.AppendRowsRequest
		text string
	}{
		"a pending stream":               {protoReq(st.create(ref, pending), changes, row), "_default"},
		"a committed stream":             {protoReq(st.create(ref, committed), changes, row), "_default"},
		"no primary key":                 {protoReq(keyless.defaultStream(), changes, row), "primary key"},
		"a primary key of 17 columns":    {protoReq(many.defaultStream(), changes, row), "at most 16"},
		"2,001 columns":                  {protoReq(broad.defaultStream(), changes, row), "at most 2000"},
		"no key in the schema":           {protoReq(loose.defaultStream(), message("n:int64, _CHANGE_TYPE:string"), wire(1, "UPSERT")), "key column id is missing"},
		"a sequence without a type":      {protoReq(ref.defaultStream(), message("id:string, _CHANGE_SEQUENCE_NUMBER:string"), wire("a", "1")), "needs _CHANGE_TYPE"},
		"a number for the sequence":      {protoReq(ref.defaultStream(), message("id:string, _CHANGE_TYPE:string, _CHANGE_SEQUENCE_NUMBER:int64"), wire("a", "UPSERT", 1)), "does not take"},
		"an INSERT":                      {protoReq(ref.defaultStream(), changes, wire("a", 1, "INSERT", "1")), "not a valid CHANGE_TYPE"},
		"upsert in lower case":           {protoReq(ref.defaultStream(), changes, wire("a", 1, "upsert", "1")), "not a valid CHANGE_TYPE"},
		"no type":                        {protoReq(ref.defaultStream(), changes, wire("a", 1)), "not a valid CHANGE_TYPE"},
		"NULL in the key":                {protoReq(ref.defaultStream(), changes, wire(nil, 1, "UPSERT", "1")), "is NULL"},
		"NULL in the key of a DELETE":    {protoReq(ref.defaultStream(), changes, wire(nil, 1, "DELETE", "1")), "is NULL"},
		"a sequence of five sections":    {protoReq(ref.defaultStream(), changes, upsert("a", 1, "1/2/3/4/5")), "CHANGE_SEQUENCE_NUMBER"},
		"a section of 17 digits":         {protoReq(ref.defaultStream(), changes, upsert("a", 1, "12345678901234567")), "CHANGE_SEQUENCE_NUMBER"},
		"a sequence that is not hex":     {protoReq(ref.defaultStream(), changes, upsert("a", 1, "g")), "CHANGE_SEQUENCE_NUMBER"},
		"an empty section":               {protoReq(ref.defaultStream(), changes, upsert("a", 1, "1//2")), "CHANGE_SEQUENCE_NUMBER"},
		"an empty sequence":              {protoReq(ref.defaultStream(), changes, upsert("a", 1, "")), "CHANGE_SEQUENCE_NUMBER"},
		"rows with and without sequence": {protoReq(ref.defaultStream(), changes, row, upsert("b", 1, nil)), "mixed"},
	} {
		t.Run(name, func(t *testing.T) {
			c := st.connect(t.Context())
			c.t = t
			c.refused(tc.req, codes.InvalidArgument, tc.text)
		})
	}
	for _, ref := range []tableRef{ref, keyless, loose, many, broad} {
		if rows := st.rows(ref); len(rows) > 0 {
			t.Error(ref, rows)
		}
	}
	for _, order := range [][2]string{{"c", "p"}, {"p", "c"}} {
		reqs := map[string]*storagepb.AppendRowsRequest{
			"c": protoReq(ref.defaultStream(), changes, row), "p": protoReq(ref.defaultStream(), message("id:string"), wire("z")),
		}
		c := st.connect(t.Context())
		c.ok(reqs[order[0]])
		c.refused(reqs[order[1]], codes.InvalidArgument, "mixed in one connection")
	}
	c := st.connect(t.Context())
	c.refused(protoReq(ref.defaultStream(), changes, upsert("b", 1, nil)), codes.InvalidArgument, "mixed")
	c.ok(protoReq(ref.defaultStream(), changes, upsert("b", 1, "1")))
}

func TestATableIsActiveWithCDCFromItsFirstChange(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("contacts", "id:STRING!, n:INT64", "id")
	active := func() bool {
		st.s.mu.Lock()
		defer st.s.mu.Unlock()
		t, err := st.s.find(ref)
		if err != nil {
			st.t.Fatal(err)
		}
		return st.s.hasCDC(t)
	}
	st.connect(t.Context()).ok(protoReq(ref.defaultStream(), idOnly, wire("a")))
	if active() {
		t.Error("active without a change")
	}
	c := st.connect(t.Context())
	c.refused(protoReq(ref.defaultStream(), changes, wire("a")), codes.InvalidArgument, "CHANGE_TYPE")
	if active() {
		t.Error("active after a change that was refused")
	}
	c.ok(protoReq(ref.defaultStream(), changes, upsert("a", 1, "1")))
	if !active() {
		t.Error("not active after a change")
	}
	st.table("contacts", "id:STRING!, n:INT64", "id")
	if active() {
		t.Error("a table that was made anew is active")
	}
	st.want(ref)
}
