package bqtest

import (
	"testing"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// known says whether a stream is found.
func (st *stand) known(name string) bool {
	st.t.Helper()
	_, err := st.write.GetWriteStream(st.t.Context(), &storagepb.GetWriteStreamRequest{Name: name})
	if err != nil && status.Code(err) != codes.NotFound {
		st.t.Fatal(err)
	}
	return err == nil
}

func TestAPendingStreamIsCommittedFourHoursAfterItsEndAndADayAfterItsBeginAtTheLatest(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("contacts", "id:STRING")
	fill := func(id string) string {
		name := st.create(ref, pending)
		st.connect(t.Context()).ok(protoReq(name, idOnly, wire(id)))
		return name
	}
	want := func(name string, code storagepb.StorageError_StorageErrorCode) {
		t.Helper()
		got := storagepb.StorageError_STORAGE_ERROR_CODE_UNSPECIFIED
		if e := st.commit(ref, name).GetStreamErrors(); len(e) > 0 {
			got = e[0].GetCode()
		}
		if got != code {
			t.Errorf("got %s, want %s", got, code)
		}
	}
	inTime, late, endless := fill("in time"), fill("late"), fill("endless")
	st.finalize(inTime)
	st.clock.advance(time.Minute)
	st.finalize(late)
	st.clock.advance(4*time.Hour - 2*time.Minute)
	st.finalize(late) // again, which begins nothing anew
	want(inTime, storagepb.StorageError_STORAGE_ERROR_CODE_UNSPECIFIED)
	st.clock.advance(2 * time.Minute)
	want(late, storagepb.StorageError_STREAM_NOT_FOUND)
	want(inTime, storagepb.StorageError_STREAM_ALREADY_COMMITTED) // and known a day
	st.clock.advance(20*time.Hour - time.Minute - time.Second)
	if !st.known(endless) || !st.known(inTime) {
		t.Error("a stream is gone before its day is over")
	}
	st.finalize(endless)
	st.clock.advance(time.Second)
	want(endless, storagepb.StorageError_STREAM_NOT_FOUND)
	if st.known(inTime) {
		t.Error("a stream is known for longer than a day")
	}
	if got := st.rows(ref); len(got) != 1 || got[0] != "in time" {
		t.Errorf("rows: %v", got)
	}
}

func TestCommittedAndBufferedStreamsLiveForDaysAfterTheirLastUse(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for kind, life := range map[storagepb.WriteStream_Type]time.Duration{committed: 3 * day, buffered: 7 * day} {
		st := start(t, Options{})
		ref := st.table("contacts", "id:STRING")
		name, idle := st.create(ref, kind), st.create(ref, kind)
		c := st.connect(t.Context())
		st.clock.advance(life - time.Second)
		c.ok(protoReq(name, idOnly, wire("a")))
		if !st.known(idle) {
			t.Errorf("%s: gone before its time", kind)
		}
		st.clock.advance(time.Second)
		if st.known(idle) || !st.known(name) {
			t.Errorf("%s: the idle one is known: %v, the other: %v", kind, st.known(idle), st.known(name))
		}
		st.clock.advance(life - 2*time.Second)
		if kind == buffered {
			if _, err := st.write.FlushRows(t.Context(), &storagepb.FlushRowsRequest{WriteStream: name, Offset: wrapperspb.Int64(0)}); err != nil {
				t.Fatal(err)
			}
			st.clock.advance(life - time.Second)
		}
		if !st.known(name) {
			t.Errorf("%s: gone before its time after it was used", kind)
		}
		st.clock.advance(time.Second)
		c.refused(protoReq("", nil, wire("b")), codes.NotFound, "Stream is not found")
	}
}

func TestATableOfWhichAllRowsWereJustStreamedHasNoneOutsideTheBuffer(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("contacts", "id:STRING, n:INT64")
	st.connect(t.Context()).ok(protoReq(ref.defaultStream(), idOnly, wire("ab")))
	m, err := st.client().Dataset("crm").Table("contacts").Metadata(t.Context())
	if err != nil || m.StreamingBuffer == nil || m.StreamingBuffer.EstimatedRows != 1 || m.StreamingBuffer.EstimatedBytes != 4 || m.NumRows != 0 || m.NumBytes != 0 {
		t.Errorf("got %+v, %v", m, err)
	}
}

func TestRowsThatWereJustStreamedAreInTheStreamingBuffer(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("contacts", "id:STRING, n:INT64")
	table := st.client().Dataset("crm").Table("contacts")
	if _, err := st.client().Query("INSERT INTO crm.contacts VALUES ('old', 1)").Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	m, err := table.Metadata(t.Context())
	if err != nil || m.StreamingBuffer != nil || m.NumRows != 1 || m.NumBytes != 13 {
		t.Fatalf("before: %+v, %v", m, err)
	}
	began := st.clock.Now()
	c := st.connect(t.Context())
	c.ok(protoReq(ref.defaultStream(), idOnly, wire("ab")))
	st.clock.advance(time.Minute)
	c.ok(protoReq("", nil, wire("c")))
	if m, err = table.Metadata(t.Context()); err != nil || m.StreamingBuffer == nil {
		t.Fatalf("after: %+v, %v", m, err)
	}
	if b := m.StreamingBuffer; b.EstimatedRows != 2 || b.EstimatedBytes != 7 || !b.OldestEntryTime.Equal(began) || m.NumRows != 1 || m.NumBytes != 13 {
		t.Errorf("the buffer is %+v beside %d rows and %d bytes", b, m.NumRows, m.NumBytes)
	}
	st.clock.advance(29 * time.Minute)
	if m, err = table.Metadata(t.Context()); err != nil || m.StreamingBuffer.EstimatedRows != 1 || m.NumRows != 2 {
		t.Errorf("half an hour after the first: %+v, %v", m, err)
	}
	st.clock.advance(time.Minute)
	if m, err = table.Metadata(t.Context()); err != nil || m.StreamingBuffer != nil || m.NumRows != 3 {
		t.Errorf("half an hour after the last: %+v, %v", m, err)
	}
}
