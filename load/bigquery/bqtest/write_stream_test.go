package bqtest

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	pending   = storagepb.WriteStream_PENDING
	committed = storagepb.WriteStream_COMMITTED
	buffered  = storagepb.WriteStream_BUFFERED
)

func (r tableRef) defaultStream() string { return r.path() + "/streams/_default" }

func at(req *storagepb.AppendRowsRequest, offset int64) *storagepb.AppendRowsRequest {
	req.Offset = wrapperspb.Int64(offset)
	return req
}

var idOnly = message("id:string")

func TestStreamsAreMadeForTablesThatExistAndOfTypesThatCanBeMade(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("contacts", "id:STRING!, n:INT64")
	for _, tc := range []struct {
		parent string
		kind   storagepb.WriteStream_Type
		code   codes.Code
		detail storagepb.StorageError_StorageErrorCode
	}{
		{ref.path() + "x", pending, codes.NotFound, storagepb.StorageError_TABLE_NOT_FOUND},
		{"crm.contacts", pending, codes.InvalidArgument, 0},
		{ref.defaultStream(), pending, codes.InvalidArgument, 0},
		{ref.path(), storagepb.WriteStream_TYPE_UNSPECIFIED, codes.InvalidArgument, 0},
	} {
		_, err := st.write.CreateWriteStream(t.Context(), &storagepb.CreateWriteStreamRequest{
			Parent: tc.parent, WriteStream: &storagepb.WriteStream{Type: tc.kind},
		})
		wantStatus(t, err, tc.code, "")
		wantStorage(t, status.Convert(err), tc.detail)
	}
}

func TestAStreamTellsItsTypeAndTheTablesSchemaWhereAskedFor(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("contacts", "id:STRING!, n:INT64, f:FLOAT64, j:JSON")
	get := func(name string, view storagepb.WriteStreamView) *storagepb.WriteStream {
		r, err := st.write.GetWriteStream(t.Context(), &storagepb.GetWriteStreamRequest{Name: name, View: view})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	st.clock.advance(time.Hour)
	created := st.create(ref, pending)
	r := get(created, storagepb.WriteStreamView_FULL)
	if r.GetType() != pending || r.GetCommitTime() != nil || r.GetLocation() != "US" || !r.GetCreateTime().AsTime().Equal(st.clock.Now()) {
		t.Error(r)
	}
	var got []string
	for _, f := range r.GetTableSchema().GetFields() {
		got = append(got, fmt.Sprint(f.GetName(), " ", f.GetType(), " ", f.GetMode()))
	}
	want := []string{"id STRING REQUIRED", "n INT64 NULLABLE", "f DOUBLE NULLABLE", "j JSON NULLABLE"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	r = get(ref.defaultStream(), storagepb.WriteStreamView_BASIC)
	if r.GetType() != committed || r.GetTableSchema() != nil || !r.GetCreateTime().AsTime().Equal(st.clock.Now().Add(-time.Hour)) {
		t.Error(r)
	}
	_, err := st.write.GetWriteStream(t.Context(), &storagepb.GetWriteStreamRequest{Name: ref.path() + "/streams/none"})
	wantStatus(t, err, codes.NotFound, "")
	wantStorage(t, status.Convert(err), storagepb.StorageError_STREAM_NOT_FOUND)
	_, err = st.write.GetWriteStream(t.Context(), &storagepb.GetWriteStreamRequest{Name: tableRef{"p", "d", "t"}.defaultStream()})
	wantStorage(t, status.Convert(err), storagepb.StorageError_TABLE_NOT_FOUND)
}

func TestAProjectCreatesSoManyStreamsInAnHour(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("contacts", "id:STRING")
	w, err := st.s.writeTable(ref)
	if err != nil {
		t.Fatal(err)
	}
	for range maxStreamsPerHour {
		if _, err := st.s.newStream(w, pending); err != nil {
			t.Fatal(err)
		}
	}
	_, err = st.s.newStream(w, pending)
	wantStatus(t, err, codes.ResourceExhausted, "CreateWriteStream requests")
	st.clock.advance(time.Hour)
	if _, err := st.s.newStream(w, pending); err != nil {
		t.Fatal(err)
	}
}

func TestOffsetsAreThoseOfTheEndOfTheStream(t *testing.T) {
	t.Parallel()
	for _, kind := range []storagepb.WriteStream_Type{pending, committed, buffered} {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			st := start(t, Options{})
			name := st.create(st.table("contacts", "id:STRING"), kind)
			c := st.connect(t.Context())
			r := c.ok(at(protoReq(name, idOnly, wire("a"), wire("b")), 0))
			if r.GetAppendResult().GetOffset().GetValue() != 0 || r.GetWriteStream() != name {
				t.Fatal(r)
			}
			for _, o := range []int64{0, 1} {
				r := c.refused(at(protoReq("", nil, wire("a"), wire("b")), o), codes.AlreadyExists, "")
				wantStorage(t, status.FromProto(r.GetError()), storagepb.StorageError_OFFSET_ALREADY_EXISTS)
			}
			r = c.refused(at(protoReq("", nil, wire("c")), 3), codes.OutOfRange, "")
			wantStorage(t, status.FromProto(r.GetError()), storagepb.StorageError_OFFSET_OUT_OF_RANGE)
			c.refused(at(protoReq("", nil, wire("c")), -1), codes.InvalidArgument, "")
			r = c.ok(protoReq("", nil, wire("c")))
			if r.GetAppendResult().GetOffset().GetValue() != 2 {
				t.Fatal(r)
			}
			// The offset is the stream's, not the connection's.
			r = st.connect(t.Context()).ok(at(protoReq(name, idOnly, wire("d")), 3))
			if r.GetAppendResult().GetOffset().GetValue() != 3 {
				t.Fatal(r)
			}
			if n := st.finalize(name); n != 4 {
				t.Fatalf("finalized at %d", n)
			}
		})
	}
}

func TestAFinalizedStreamTakesNoRows(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("contacts", "id:STRING")
	name := st.create(ref, pending)
	c := st.connect(t.Context())
	c.ok(protoReq(name, idOnly, wire("a")))
	for range 2 {
		if n := st.finalize(name); n != 1 {
			t.Fatal(n)
		}
	}
	r := c.refused(protoReq("", nil, wire("b")), codes.InvalidArgument, "finalized")
	wantStorage(t, status.FromProto(r.GetError()), storagepb.StorageError_STREAM_FINALIZED)
	_, err := st.write.FinalizeWriteStream(t.Context(), &storagepb.FinalizeWriteStreamRequest{Name: ref.defaultStream()})
	wantStatus(t, err, codes.InvalidArgument, "_default")
}

func TestStreamsAreCommittedTogetherAndOnce(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("contacts", "id:STRING, n:INT64")
	other := st.table("others", "id:STRING")
	var names []string
	for i := range 3 {
		name := st.create(ref, pending)
		c := st.connect(t.Context())
		c.ok(protoReq(name, message("N:int64, id:string"), wire(i, "row"+strconv.Itoa(i)), wire(nil, "null"+strconv.Itoa(i))))
		names = append(names, name)
	}
	code := func(r *storagepb.BatchCommitWriteStreamsResponse, want map[string]storagepb.StorageError_StorageErrorCode) {
		t.Helper()
		got := map[string]storagepb.StorageError_StorageErrorCode{}
		for _, e := range r.GetStreamErrors() {
			got[e.GetEntity()] = e.GetCode()
		}
		if diff := cmp.Diff(want, got); diff != "" || r.GetCommitTime() != nil {
			t.Fatal(diff, r)
		}
		if rows := st.rows(ref); len(rows) > 0 {
			t.Fatalf("visible: %v", rows)
		}
	}
	st.finalize(names[0])
	st.finalize(names[1])
	ended := st.create(ref, committed)
	st.finalize(ended)
	missing := ref.path() + "/streams/none"
	code(st.commit(ref, append([]string{ended, missing}, names...)...), map[string]storagepb.StorageError_StorageErrorCode{
		names[2]: storagepb.StorageError_INVALID_STREAM_STATE,
		ended:    storagepb.StorageError_INVALID_STREAM_TYPE,
		missing:  storagepb.StorageError_STREAM_NOT_FOUND,
	})
	for _, req := range []*storagepb.BatchCommitWriteStreamsRequest{
		{Parent: ref.path()},
		{Parent: ref.path(), WriteStreams: []string{names[0], names[0]}},
		{Parent: other.path(), WriteStreams: []string{names[0]}},
		{Parent: "crm", WriteStreams: []string{names[0]}},
	} {
		_, err := st.write.BatchCommitWriteStreams(t.Context(), req)
		wantStatus(t, err, codes.InvalidArgument, "")
	}
	st.finalize(names[2])
	if r := st.commit(ref, names...); !r.GetCommitTime().AsTime().Equal(st.clock.Now()) || len(r.GetStreamErrors()) > 0 {
		t.Fatal(r)
	}
	want := []string{"null0 NULL", "null1 NULL", "null2 NULL", "row0 0", "row1 1", "row2 2"}
	if diff := cmp.Diff(want, st.rows(ref)); diff != "" {
		t.Fatal(diff)
	}
	r := st.commit(ref, names[1])
	if e := r.GetStreamErrors(); len(e) != 1 || e[0].GetCode() != storagepb.StorageError_STREAM_ALREADY_COMMITTED {
		t.Fatal(r)
	}
	if diff := cmp.Diff(want, st.rows(ref)); diff != "" {
		t.Fatal(diff)
	}
}

func TestAnEmptyStreamCanBeCommitted(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("contacts", "id:STRING")
	name := st.create(ref, pending)
	if n := st.finalize(name); n != 0 {
		t.Fatal(n)
	}
	if r := st.commit(ref, name); r.GetCommitTime() == nil {
		t.Fatal(r)
	}
}

func TestCommittedAndDefaultStreamsAreVisibleAtOnceAndBufferedOnesWhenFlushed(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("contacts", "id:STRING")
	st.connect(t.Context()).ok(protoReq(st.create(ref, committed), idOnly, wire("a")))
	r := st.connect(t.Context()).ok(protoReq(ref.defaultStream(), idOnly, wire("b")))
	if r.GetAppendResult() == nil || r.GetAppendResult().GetOffset() != nil {
		t.Fatalf("an append to the default stream has no offset: %v", r)
	}
	name := st.create(ref, buffered)
	st.connect(t.Context()).ok(protoReq(name, idOnly, wire("c"), wire("d"), wire("e")))
	want := func(rows ...string) {
		t.Helper()
		if diff := cmp.Diff(rows, st.rows(ref)); diff != "" {
			t.Fatal(diff)
		}
	}
	want("a", "b")
	flush := func(name string, offset *wrapperspb.Int64Value) (*storagepb.FlushRowsResponse, error) {
		return st.write.FlushRows(t.Context(), &storagepb.FlushRowsRequest{WriteStream: name, Offset: offset})
	}
	for _, o := range []int64{1, 0} {
		if r, err := flush(name, wrapperspb.Int64(o)); err != nil || r.GetOffset() != 1 {
			t.Fatal(r, err)
		}
		want("a", "b", "c", "d")
	}
	_, err := flush(name, wrapperspb.Int64(3))
	wantStatus(t, err, codes.OutOfRange, "")
	wantStorage(t, status.Convert(err), storagepb.StorageError_OFFSET_OUT_OF_RANGE)
	_, err = flush(name, nil)
	wantStatus(t, err, codes.InvalidArgument, "")
	_, err = flush(ref.defaultStream(), wrapperspb.Int64(0))
	wantStatus(t, err, codes.InvalidArgument, "_default")
	_, err = flush(st.create(ref, pending), wrapperspb.Int64(0))
	wantStorage(t, status.Convert(err), storagepb.StorageError_INVALID_STREAM_TYPE)
	if _, err := flush(name, wrapperspb.Int64(2)); err != nil {
		t.Fatal(err)
	}
	want("a", "b", "c", "d", "e")
}

func TestTheStreamsOfATableThatWasReplacedAreGone(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("contacts", "id:STRING")
	name := st.create(ref, pending)
	c, d := st.connect(t.Context()), st.connect(t.Context())
	c.ok(protoReq(name, idOnly, wire("a")))
	d.ok(protoReq(ref.defaultStream(), idOnly, wire("b")))
	st.finalize(name)
	st.table("contacts", "id:STRING")
	c.refused(protoReq("", nil, wire("c")), codes.NotFound, "")
	d.refused(protoReq("", nil, wire("c")), codes.NotFound, "")
	if e := st.commit(ref, name).GetStreamErrors(); len(e) != 1 || e[0].GetCode() != storagepb.StorageError_STREAM_NOT_FOUND {
		t.Fatal(e)
	}
	_, err := st.write.FinalizeWriteStream(t.Context(), &storagepb.FinalizeWriteStreamRequest{Name: name})
	wantStorage(t, status.Convert(err), storagepb.StorageError_STREAM_NOT_FOUND)
	// Also where it is replaced between the look at it and the change.
	before, err := st.s.writeTable(ref)
	if err != nil {
		t.Fatal(err)
	}
	st.table("contacts", "id:STRING")
	if err := st.s.insert(t.Context(), before, batch{columns: []string{"id"}, rows: [][]any{{"d"}}}); !errors.Is(err, errReplaced) {
		t.Fatal(err)
	}
	if got := st.rows(ref); len(got) > 0 {
		t.Fatal(got)
	}
}

func TestColumnsAreSeenByNewStreamsAfterAWhile(t *testing.T) {
	t.Parallel()
	st := start(t, Options{SchemaDelay: 5 * time.Minute})
	ref := st.table("contacts", "id:STRING")
	old := st.create(ref, committed)
	both := message("id:string, n:int64")
	c, d := st.connect(t.Context()), st.connect(t.Context())
	c.ok(protoReq(old, idOnly, wire("a")))
	d.ok(protoReq(ref.defaultStream(), idOnly, wire("b")))
	st.clock.advance(time.Minute)
	st.addColumn(ref, "n:INT64")
	early := st.create(ref, committed)
	st.clock.advance(5*time.Minute - time.Microsecond)
	extra := func(name string) {
		t.Helper()
		r := st.connect(t.Context()).refused(protoReq(name, both, wire("x", 1)), codes.InvalidArgument, "extra fields")
		wantStorage(t, status.FromProto(r.GetError()), storagepb.StorageError_SCHEMA_MISMATCH_EXTRA_FIELDS)
	}
	extra(early)
	extra(ref.defaultStream())
	if r := c.ok(protoReq("", nil, wire("c"))); r.GetUpdatedSchema() != nil {
		t.Fatal(r)
	}
	st.clock.advance(time.Microsecond)
	for _, c := range []*conversation{c, d} {
		for _, fields := range []int{2, 0} { // told once
			if r := c.ok(protoReq("", nil, wire("d"))); len(r.GetUpdatedSchema().GetFields()) != fields {
				t.Fatal(r)
			}
		}
	}
	extra(early) // keeps the schema it was created with
	extra(old)
	st.connect(t.Context()).ok(protoReq(st.create(ref, committed), both, wire("e", 2)))
	d.ok(protoReq(ref.defaultStream(), both, wire("f", 3)))
	want := []string{"a NULL", "b NULL", "c NULL", "d NULL", "d NULL", "d NULL", "d NULL", "e 2", "f 3"}
	if diff := cmp.Diff(want, st.rows(ref)); diff != "" {
		t.Fatal(diff)
	}
}

func TestForgottenStreamsAreNotFoundAndTheirRowsLost(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("contacts", "id:STRING")
	name := st.create(ref, pending)
	c := st.connect(t.Context())
	c.ok(protoReq(name, idOnly, wire("a")))
	if diff := cmp.Diff([]string{name}, st.s.ForgetStreams()); diff != "" {
		t.Fatal(diff)
	}
	r := c.refused(protoReq("", nil, wire("b")), codes.NotFound, "")
	wantStorage(t, status.FromProto(r.GetError()), storagepb.StorageError_STREAM_NOT_FOUND)
	if e := st.commit(ref, name).GetStreamErrors(); len(e) != 1 || e[0].GetCode() != storagepb.StorageError_STREAM_NOT_FOUND {
		t.Fatal(e)
	}
	c.refused(protoReq("", nil, wire("b")), codes.NotFound, "")
	if got := st.rows(ref); len(got) > 0 {
		t.Fatal(got)
	}
}

func TestStreamsAreWrittenAndCommittedSideBySide(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("contacts", "id:STRING, n:INT64", "id")
	changed := st.table("changed", "id:STRING, n:INT64", "id")
	const writers, requests = 8, 5
	var g sync.WaitGroup
	failed := make(chan error, writers)
	for w := range writers {
		name := st.create(ref, pending)
		c, d := st.connect(t.Context()), st.connect(t.Context())
		g.Go(func() {
			for n := range requests {
				for _, x := range []struct {
					c   *conversation
					req *storagepb.AppendRowsRequest
				}{
					{c, at(protoReq(name, idOnly, wire(fmt.Sprint(w, "-", n))), int64(n))},
					{d, protoReq(changed.defaultStream(), changes, upsert(strconv.Itoa(n), w, strconv.Itoa(w)))},
				} {
					if r, err := x.c.try(x.req); err != nil || r.GetError() != nil {
						failed <- fmt.Errorf("%v %w", r, err)
						return
					}
				}
			}
			_, err := st.write.FinalizeWriteStream(t.Context(), &storagepb.FinalizeWriteStreamRequest{Name: name})
			if err == nil {
				_, err = st.write.BatchCommitWriteStreams(t.Context(), &storagepb.BatchCommitWriteStreamsRequest{Parent: ref.path(), WriteStreams: []string{name}})
			}
			failed <- errors.Join(err, st.s.settle(t.Context(), changed))
		})
	}
	g.Wait()
	close(failed)
	for err := range failed {
		if err != nil {
			t.Fatal(err)
		}
	}
	if n := len(st.rows(ref)); n != writers*requests {
		t.Fatal(n)
	}
	st.want(changed, "0 7", "1 7", "2 7", "3 7", "4 7")
}
