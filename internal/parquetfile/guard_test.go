package parquetfile_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/atomicfile/faultfs"
	"github.com/sluice-etl/sluice/internal/parquetfile"
)

// memFS is a filesystem in memory: thousands of faults a second.
type memFS struct {
	files map[string]*bytes.Buffer
	temps int
}

type memTemp struct {
	*bytes.Buffer
	name string
}

func newMemFS() *memFS { return &memFS{files: make(map[string]*bytes.Buffer)} }

func (m *memFS) OpenTemp(path string, _ fs.FileMode) (atomicfile.Temp, error) {
	m.temps++
	name := fmt.Sprintf("%s.tmp%d", path, m.temps)
	m.files[name] = new(bytes.Buffer)
	return &memTemp{m.files[name], name}, nil
}

func (m *memFS) Rename(from, to string) error {
	m.files[to] = m.files[from]
	delete(m.files, from)
	return nil
}

func (m *memFS) Remove(path string) error {
	delete(m.files, path)
	return nil
}

func (m *memFS) SyncDir(string) error { return nil }

func (t *memTemp) Name() string { return t.name }
func (t *memTemp) Sync() error  { return nil }
func (t *memTemp) Close() error { return nil }

// smallRecord holds every type, nulls, and a dictionary column.
func smallRecord(n int) arrow.Record {
	s := arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.BinaryTypes.String},
		{Name: "platform", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "at", Type: arrow.FixedWidthTypes.Timestamp_us},
		{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "x", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		{Name: "b", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
		{Name: "d", Type: arrow.FixedWidthTypes.Date32, Nullable: true},
	}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, s)
	defer b.Release()
	for i := range n {
		b.Field(0).(*array.StringBuilder).Append(fmt.Sprintf("contact-%d", i*7919%1000))
		b.Field(2).(*array.TimestampBuilder).Append(arrow.Timestamp(1_700_000_000_000_000 + int64(i)*1_000_003))
		if i%5 == 3 {
			for _, c := range []int{1, 3, 4, 5, 6} {
				b.Field(c).AppendNull()
			}
			continue
		}
		b.Field(1).(*array.StringBuilder).Append(platforms[i%3])
		b.Field(3).(*array.Int64Builder).Append(int64(i) * int64(i))
		b.Field(4).(*array.Float64Builder).Append(float64(i) / 3)
		b.Field(5).(*array.BooleanBuilder).Append(i%2 == 0)
		b.Field(6).(*array.Date32Builder).Append(arrow.Date32(19000 + i))
	}
	return b.NewRecord()
}

// guardRecord has few columns, for a sweep over every byte of the file.
func guardRecord(n int) arrow.Record {
	rec := smallRecord(n)
	defer rec.Release()
	s := arrow.NewSchema(rec.Schema().Fields()[:3], nil)
	return array.NewRecord(s, rec.Columns()[:3], rec.NumRows())
}

// publish runs the whole life of a file.
func publish(fsys atomicfile.FS, rec arrow.Record) error {
	w, err := parquetfile.Create("f.parquet", parquetfile.Options{Schema: rec.Schema(), RowGroupRows: 40, FS: fsys})
	if err != nil {
		return err
	}
	defer w.Abort()
	if err := w.Write(rec); err != nil {
		return err
	}
	if _, err := w.Finish(); err != nil {
		return err
	}
	return w.Publish()
}

func TestEveryPointWhereTheDiskIsFullGivesAnErrorAndNoFile(t *testing.T) {
	rec := guardRecord(90)
	clean := newMemFS()
	if err := publish(clean, rec); err != nil {
		t.Fatal(err)
	}
	size := int64(clean.files["f.parquet"].Len())
	// The first kind of fault is tried at every byte, the others at every
	// seventh; with SLUICE_SOAK set, all at every byte.
	first, others := int64(1), int64(7)
	if raceEnabled {
		first, others = 17, 31
	}
	if os.Getenv("SLUICE_SOAK") != "" {
		first, others = 1, 1
	}
	points := 0
	for _, fault := range []faultfs.Fault{
		{Sticky: true},              // the disk stays full
		{},                          // space is freed at once: later writes succeed
		{Short: true},               // short counts without an error, once
		{Short: true, Sticky: true}, // and for ever
	} {
		fault.LimitBytes = true
		step := others
		if fault.Sticky && !fault.Short {
			step = first
		}
		for n := int64(0); n < size; n += step {
			fault.Byte = n
			mem := newMemFS()
			err := publish(faultfs.New(mem, fault), rec)
			points++
			if err == nil {
				t.Fatalf("disk full after %d of %d bytes (%+v): no error", n, size, fault)
			}
			if !fault.Short && !errors.Is(err, faultfs.ErrNoSpace) {
				t.Fatalf("disk full after %d bytes: the error hides it: %v", n, err)
			}
			if fault.Short && !errors.Is(err, io.ErrShortWrite) && !errors.Is(err, faultfs.ErrNoSpace) {
				t.Fatalf("short write after %d bytes: the error hides it: %v", n, err)
			}
			if _, ok := mem.files["f.parquet"]; ok {
				t.Fatalf("disk full after %d bytes: a file was published", n)
			}
		}
	}
	t.Logf("%d points, file of %d bytes", points, size)

	mem := newMemFS()
	if err := publish(faultfs.New(mem, faultfs.Fault{LimitBytes: true, Byte: size, Sticky: true}), rec); err != nil {
		t.Fatalf("the file fits exactly: %v", err)
	}
	if !bytes.Equal(mem.files["f.parquet"].Bytes(), clean.files["f.parquet"].Bytes()) {
		t.Fatal("the same rows gave another file")
	}
}

func TestEveryFailingOperationGivesAnError(t *testing.T) {
	rec := smallRecord(100)
	count := faultfs.New(newMemFS(), faultfs.Fault{})
	if err := publish(count, rec); err != nil {
		t.Fatal(err)
	}
	trace := count.Trace()
	for op := 1; op <= count.Ops(); op++ {
		for _, sticky := range []bool{false, true} {
			mem := newMemFS()
			err := publish(faultfs.New(mem, faultfs.Fault{Op: op, Err: faultfs.ErrIO, Sticky: sticky}), rec)
			if !errors.Is(err, faultfs.ErrIO) {
				t.Fatalf("%s fails: error is %v", trace[op-1], err)
			}
			_, there := mem.files["f.parquet"]
			if last := op == count.Ops(); there != last {
				t.Fatalf("%s fails: file published: %v", trace[op-1], there)
			}
			if !sticky && len(mem.files) > 1 {
				t.Fatalf("%s fails: a temporary file is left", trace[op-1])
			}
		}
	}
	t.Logf("%d operations", count.Ops())
}

// cutWriter is a disk that is full after n bytes, as the library sees it
// without the guard.
type cutWriter struct {
	left  int
	fails int
}

func (c *cutWriter) Write(p []byte) (int, error) {
	if len(p) <= c.left {
		c.left -= len(p)
		return len(p), nil
	}
	n := c.left
	c.left = 0
	c.fails++
	return n, faultfs.ErrNoSpace
}

// Were this to find nothing, the sweeps above would prove nothing: they test
// a guard, and this shows what it guards against.
func TestTheLibraryAloneReportsSuccessOnAFullDisk(t *testing.T) {
	values := make([]string, 200)
	for i := range values {
		values[i] = fmt.Sprintf("contact-%d", i*7919%1000)
	}
	whole := &cutWriter{left: 1 << 30}
	if err := bareLibrary(whole, values, 10, 1<<20); err != nil {
		t.Fatal(err)
	}
	size := 1<<30 - whole.left
	silent := 0
	for n := range size {
		w := &cutWriter{left: n}
		if err := bareLibrary(w, values, 10, 1<<20); err == nil && w.fails > 0 {
			silent++
		}
	}
	t.Logf("%d of %d points silent", silent, size)
	if silent == 0 {
		t.Fatal("the library reports every full disk: the guard may go")
	}
}

func TestAFullDiskLeavesTheOldFileAndNoLeftovers(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f.parquet")
	old := []byte("what stood there before")
	if err := os.WriteFile(path, old, 0o600); err != nil {
		t.Fatal(err)
	}
	rec := smallRecord(5000)
	w, err := parquetfile.Create(path, parquetfile.Options{Schema: rec.Schema(), FS: faultfs.DiskFull(3000), RowGroupRows: 1000})
	if err != nil {
		t.Fatal(err)
	}
	first := w.Write(rec)
	if !errors.Is(first, faultfs.ErrNoSpace) {
		t.Fatalf("error is %v", first)
	}
	for range 3 {
		if err := w.Write(rec); !errors.Is(err, faultfs.ErrNoSpace) {
			t.Fatalf("a later write: %v", err)
		}
	}
	if _, err := w.Finish(); !errors.Is(err, faultfs.ErrNoSpace) {
		t.Fatalf("finish: %v", err)
	}
	if err := w.Publish(); !errors.Is(err, faultfs.ErrNoSpace) {
		t.Fatalf("publish: %v", err)
	}
	w.Abort()
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, old) {
		t.Fatalf("old file: %q, %v", got, err)
	}
	// The disk fails for ever, so Abort could not remove the temporary file.
	if err := atomicfile.RemoveTemps(dir); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%v, %v", entries, err)
	}
}
