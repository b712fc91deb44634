package parquetfile_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/sluice-etl/sluice/internal/parquetfile"
)

func TestAnyRangeAndColumnsCanBeRead(t *testing.T) {
	rec := contacts(contactSchema(), rand.New(rand.NewPCG(5, 6)), 0, 3000)
	path, _ := write(t, parquetfile.Options{RowGroupRows: 700}, rec)
	r, err := parquetfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if !r.Schema().Equal(rec.Schema()) {
		t.Fatalf("schema is\n%s\nwant\n%s", r.Schema(), rec.Schema())
	}
	if !slices.Equal(r.RowGroups(), []int64{700, 700, 700, 700, 200}) {
		t.Fatalf("row groups of %v", r.RowGroups())
	}
	rnd := parquetfile.Seeded(t)
	for range 60 {
		o := parquetfile.ReadOptions{BatchRows: 1 + rnd.Int64N(900)}
		o.From = rnd.Int64N(3000)
		o.To = o.From + 1 + rnd.Int64N(3000-o.From)
		names := []string{"name", "created_at", "id", "blocked", "cf_customer_score", "cf_customer_birthday", "_sluice_row", "_sluice_deleted_at"}
		rnd.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		o.Columns = names[:1+rnd.IntN(len(names))]
		fields := make([]arrow.Field, len(o.Columns))
		columns := make([]arrow.Array, len(o.Columns))
		for i, n := range o.Columns {
			at := rec.Schema().FieldIndices(n)[0]
			fields[i] = rec.Schema().Field(at)
			columns[i] = array.NewSlice(rec.Column(at), o.From, o.To)
		}
		want := array.NewRecord(arrow.NewSchema(fields, nil), columns, o.To-o.From)
		recs, err := r.Read(o)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, want, drain(t, recs))
	}
}

func TestRecordsStayValidAfterTheReaderIsClosed(t *testing.T) {
	rec := smallRecord(500)
	path, _ := write(t, parquetfile.Options{RowGroupRows: 100}, rec)
	equal(t, rec, readAll(t, path, parquetfile.ReadOptions{BatchRows: 33})) // readAll closes first
}

func TestReadRefusesWhatIsNotThere(t *testing.T) {
	path, _ := write(t, parquetfile.Options{}, smallRecord(10))
	r, err := parquetfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	for _, o := range []parquetfile.ReadOptions{
		{From: -1}, {From: 11}, {To: 11}, {From: 5, To: 4}, {Columns: []string{"id", "nope"}},
	} {
		if _, err := r.Read(o); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
	recs, err := r.Read(parquetfile.ReadOptions{From: 10})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := recs.Next(); !errors.Is(err, io.EOF) {
			t.Fatalf("past the end: %v", err)
		}
	}
	if _, err := parquetfile.Open(path + ".gone"); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("no file: %v", err)
	}
}

// tryRead reads a file whole and returns what it holds as text, or the error.
func tryRead(path string) (string, error) {
	r, err := parquetfile.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = r.Close() }()
	recs, err := r.Read(parquetfile.ReadOptions{BatchRows: 64})
	if err != nil {
		return "", err
	}
	var text strings.Builder
	for {
		rec, err := recs.Next()
		if errors.Is(err, io.EOF) {
			return text.String(), nil
		}
		if err != nil {
			return "", err
		}
		for i := range int(rec.NumCols()) {
			fmt.Fprintln(&text, rec.ColumnName(i), rec.Column(i))
		}
		rec.Release()
	}
}

func TestADamagedFileGivesAnErrorOrTheRightValues(t *testing.T) {
	path, _ := write(t, parquetfile.Options{RowGroupRows: 150}, smallRecord(400))
	want, err := tryRead(path)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rnd := parquetfile.Seeded(t)
	tries, harmless := 1000, 0
	if raceEnabled {
		tries = 200
	}
	bad := filepath.Join(t.TempDir(), "bad.parquet")
	for range tries {
		b := slices.Clone(whole)
		at, bit := rnd.IntN(len(b)), byte(1<<rnd.IntN(8))
		b[at] ^= bit
		if err := parquetfile.Overwrite(bad, b); err != nil {
			t.Fatal(err)
		}
		got, err := tryRead(bad)
		switch {
		case err != nil:
			if !errors.Is(err, parquetfile.ErrDamaged) {
				t.Fatalf("byte %d, bit %d: %v", at, bit, err)
			}
		case got == want:
			harmless++
		default:
			t.Errorf("byte %d of %d, bit %d reads as other values", at, len(b), bit)
		}
	}
	t.Logf("%d flipped bits: %d errors, %d harmless", tries, tries-harmless, harmless)
}

func TestWhatIsNoParquetFileIsRefused(t *testing.T) {
	path, _ := write(t, parquetfile.Options{RowGroupRows: 150}, smallRecord(400))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rnd := parquetfile.Seeded(t)
	bad := filepath.Join(t.TempDir(), "bad.parquet")
	try := func(name string, b []byte) {
		t.Helper()
		if err := parquetfile.Overwrite(bad, b); err != nil {
			t.Fatal(err)
		}
		if _, err := tryRead(bad); !errors.Is(err, parquetfile.ErrDamaged) {
			t.Fatalf("%s: %v", name, err)
		}
	}
	for n := 0; n < len(whole); n += max(1, len(whole)/300) {
		try(fmt.Sprintf("cut to %d bytes", n), whole[:n])
	}
	for range 300 {
		b := make([]byte, rnd.IntN(4000))
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		if len(b) > 20 && rnd.IntN(2) == 0 {
			copy(b, "PAR1")
			copy(b[len(b)-4:], "PAR1")
			b[len(b)-5], b[len(b)-6] = 0, 0 // a footer that may fit
		}
		try("random bytes", b)
	}
	try("CSV", []byte(strings.Repeat("id,name\n1,Ana\n", 100)))
}

func TestWriterAndReaderReleaseWhatTheyTake(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	build := func(n int) arrow.Record {
		b := array.NewRecordBuilder(mem, arrow.NewSchema([]arrow.Field{{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true}}, nil))
		defer b.Release()
		for i := range n {
			b.Field(0).(*array.StringBuilder).Append(fmt.Sprint(i))
		}
		return b.NewRecord()
	}
	for _, end := range []string{"publish", "abort", "fail", "nothing"} {
		rec := build(1000)
		w, err := parquetfile.Create(filepath.Join(t.TempDir(), "f.parquet"), parquetfile.Options{Schema: rec.Schema(), RowGroupRows: 300})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(rec); err != nil {
			t.Fatal(err)
		}
		for i := range int64(500) {
			one := rec.NewSlice(i, i+1)
			if err := w.Write(one); err != nil {
				t.Fatal(err)
			}
			one.Release()
		}
		rec.Release()
		switch end {
		case "publish":
			if _, err := w.Finish(); err != nil {
				t.Fatal(err)
			}
			if err := w.Publish(); err != nil {
				t.Fatal(err)
			}
		case "fail":
			other := smallRecord(3)
			if err := w.Write(other); err == nil {
				t.Fatal("other columns were taken")
			}
			other.Release()
		}
		w.Abort()
	}
}
