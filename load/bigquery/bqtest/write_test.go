package bqtest

import (
	"testing"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"cloud.google.com/go/bigquery/storage/managedwriter"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

func TestThePendingStreamsOfTheManagedClientAppearWhenCommitted(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("contacts", "id:STRING!, n:INT64")
	client := st.managed()
	dp, md := adapted(t, tableSchema(cols("id:STRING!, n:INT64")))
	stream, err := client.NewManagedStream(t.Context(), managedwriter.WithDestinationTable(ref.path()),
		managedwriter.WithType(managedwriter.PendingStream), managedwriter.WithSchemaDescriptor(dp))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		row := dynamicpb.NewMessage(md)
		row.Set(md.Fields().ByName("id"), protoreflect.ValueOfString(string(rune('a'+i))))
		row.Set(md.Fields().ByName("n"), protoreflect.ValueOfInt64(int64(i)))
		raw, err := proto.Marshal(row)
		if err != nil {
			t.Fatal(err)
		}
		result, err := stream.AppendRows(t.Context(), [][]byte{raw}, managedwriter.WithOffset(int64(i)))
		if err != nil {
			t.Fatal(err)
		}
		if o, err := result.GetResult(t.Context()); err != nil || o != int64(i) {
			t.Fatalf("offset %d, %v", o, err)
		}
	}
	if n, err := stream.Finalize(t.Context()); err != nil || n != 3 {
		t.Fatalf("finalize: %d, %v", n, err)
	}
	if got := st.rows(ref); len(got) > 0 {
		t.Fatalf("visible before the commit: %v", got)
	}
	r, err := client.BatchCommitWriteStreams(t.Context(), &storagepb.BatchCommitWriteStreamsRequest{
		Parent: ref.path(), WriteStreams: []string{stream.StreamName()},
	})
	if err != nil || r.GetCommitTime() == nil {
		t.Fatalf("%v, %v", r, err)
	}
	if diff := cmp.Diff([]string{"a 0", "b 1", "c 2"}, st.rows(ref)); diff != "" {
		t.Fatal(diff)
	}
}
