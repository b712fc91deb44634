package parquetfile_test

import (
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/sluice-etl/sluice/internal/parquetfile"
)

func drain(t *testing.T, recs *parquetfile.Records) arrow.Record {
	t.Helper()
	var all []arrow.Record
	rows := int64(0)
	for {
		rec, err := recs.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rec)
		rows += rec.NumRows()
	}
	columns := make([]arrow.Array, recs.Schema().NumFields())
	for i := range columns {
		parts := make([]arrow.Array, len(all))
		for j := range all {
			parts[j] = all[j].Column(i)
		}
		if len(parts) == 0 {
			columns[i] = array.MakeArrayOfNull(memory.DefaultAllocator, recs.Schema().Field(i).Type, 0)
			continue
		}
		c, err := array.Concatenate(parts, memory.DefaultAllocator)
		if err != nil {
			t.Fatal(err)
		}
		columns[i] = c
	}
	return array.NewRecord(recs.Schema(), columns, rows)
}

func equal(t *testing.T, want, got arrow.Record) {
	t.Helper()
	if want.NumRows() != got.NumRows() || want.NumCols() != got.NumCols() {
		t.Fatalf("%d x %d, want %d x %d", got.NumRows(), got.NumCols(), want.NumRows(), want.NumCols())
	}
	for i := range int(want.NumCols()) {
		if want.ColumnName(i) != got.ColumnName(i) {
			t.Fatalf("column %d is %q, want %q", i, got.ColumnName(i), want.ColumnName(i))
		}
		if !array.Equal(want.Column(i), got.Column(i)) {
			t.Fatalf("column %q differs", want.ColumnName(i))
		}
	}
}

func TestContactsComeBackAsTheyWereWritten(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	rec := contacts(contactSchema(), r, 0, 6000)
	for _, plain := range []bool{false, true} {
		path, st := write(t, parquetfile.Options{RowGroupRows: 2500, Plain: plain}, rec)
		t.Logf("plain=%v: %d bytes, %.1f a row", plain, st.Bytes, float64(st.Bytes)/float64(st.Rows))
		equal(t, rec, readAll(t, path, parquetfile.ReadOptions{}))
		if err := parquetfile.Verify(t.Context(), path, st, parquetfile.VerifyFull); err != nil {
			t.Fatal(err)
		}
		if err := parquetfile.Verify(t.Context(), path, st, parquetfile.VerifySample); err != nil {
			t.Fatal(err)
		}
	}
}
