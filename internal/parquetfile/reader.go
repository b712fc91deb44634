package parquetfile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/file"
	"github.com/apache/arrow/go/v17/parquet/schema"
	second "github.com/xitongsys/parquet-go/parquet"
)

// DefaultBatchRows is the largest record Records.Next gives where ReadOptions
// does not say.
const DefaultBatchRows = 16384

// ErrDamaged marks a file that is not a whole Parquet file of the kind Writer
// makes.
var ErrDamaged = errors.New("damaged Parquet file")

// Reader reads a Parquet file written by Writer. Damaged files give errors
// wrapping ErrDamaged, never a panic. Its methods may be called from any
// goroutine; each Records belongs to one.
type Reader struct {
	path   string
	f      *os.File
	pq     *file.Reader
	mem    *boundedAllocator
	schema *arrow.Schema
	meta   map[string]string
	groups []int64 // rows
	rows   int64
}

// Open opens the file at path and reads its footer. The caller closes it.
func Open(path string) (*Reader, error) {
	registerCodec()
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open Parquet file: %w", err)
	}
	r := &Reader{path: path, f: f}
	if err := r.readFooter(); err != nil {
		_ = f.Close()
		return nil, err
	}
	return r, nil
}

// Close releases the file.
func (r *Reader) Close() error {
	if err := r.f.Close(); err != nil {
		return fmt.Errorf("close %s: %w", r.path, err)
	}
	return nil
}

// Schema returns the columns, descriptions in the fields' metadata.
func (r *Reader) Schema() *arrow.Schema { return r.schema }

// Rows returns the number of rows.
func (r *Reader) Rows() int64 { return r.rows }

// RowGroups returns the number of rows of each row group.
func (r *Reader) RowGroups() []int64 { return append([]int64(nil), r.groups...) }

// Metadata returns the value of a key of the file's metadata.
func (r *Reader) Metadata(key string) (string, bool) {
	v, ok := r.meta[key]
	return v, ok
}

// recovered turns a panic of the library into an error.
func (r *Reader) recovered(what string, err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%s of %s: %w: %v", what, r.path, ErrDamaged, p)
	}
}

func (r *Reader) damaged(format string, args ...any) error {
	return fmt.Errorf("read %s: %w: %s", r.path, ErrDamaged, fmt.Sprintf(format, args...))
}

// background is for decoding from memory, where the library asks for a context
// and nothing waits on it.
func background() context.Context {
	return context.Background() //nolint:forbidigo // see above
}

func (r *Reader) readFooter() (err error) {
	defer r.recovered("read footer", &err)
	info, err := r.f.Stat()
	if err != nil {
		return fmt.Errorf("stat %s: %w", r.path, err)
	}
	if err := checkFooter(background(), r.f, info.Size()); err != nil {
		return r.damaged("%v", err)
	}
	r.mem = &boundedAllocator{limit: maxPageMemory}
	props := parquet.NewReaderProperties(r.mem)
	// Page by page: else each column of a row group is in memory twice, as it
	// stands in the file, for as long as it is read.
	props.BufferedStreamEnabled, props.BufferSize = true, streamBuffer
	// A section hides the file's Close from the library.
	r.pq, err = file.NewParquetReader(io.NewSectionReader(r.f, 0, info.Size()), file.WithReadProps(props))
	if err != nil {
		return r.damaged("%v", err)
	}
	r.meta = make(map[string]string)
	if kv := r.pq.MetaData().KeyValueMetadata(); kv != nil {
		for i, k := range kv.Keys() {
			r.meta[k] = kv.Values()[i]
		}
	}
	if r.schema, err = arrowSchema(r.pq.MetaData().Schema, r.meta[metaColumns]); err != nil {
		return r.damaged("%v", err)
	}
	return r.checkFooter(info.Size())
}

// checkFooter refuses sizes that cannot be, before anything is allocated.
func (r *Reader) checkFooter(size int64) error {
	total, largest := int64(0), int64(0)
	for i := range r.pq.NumRowGroups() {
		g := r.pq.RowGroup(i)
		if g.NumRows() < 0 || g.NumRows() > 1<<31 {
			return r.damaged("row group %d says %d rows", i, g.NumRows())
		}
		if g.NumColumns() != r.schema.NumFields() {
			return r.damaged("row group %d has %d columns of %d", i, g.NumColumns(), r.schema.NumFields())
		}
		for c := range g.NumColumns() {
			m, err := g.MetaData().ColumnChunk(c)
			if err != nil {
				return r.damaged("row group %d, column %q: %v", i, r.schema.Field(c).Name, err)
			}
			start := m.DataPageOffset()
			if m.HasDictionaryPage() {
				start = min(start, m.DictionaryPageOffset())
			}
			n := m.TotalCompressedSize()
			if start < 0 || n < 0 || start > size || n > size-start {
				return r.damaged("row group %d, column %q lies outside of the file", i, r.schema.Field(c).Name)
			}
			largest = max(largest, m.TotalUncompressedSize())
			if m.NumValues() != g.NumRows() {
				return r.damaged("row group %d, column %q has %d values for %d rows", i, r.schema.Field(c).Name, m.NumValues(), g.NumRows())
			}
		}
		r.groups = append(r.groups, g.NumRows())
		total += g.NumRows()
	}
	// No page is larger than its chunk; decoders need a few times that.
	r.mem.limit = int(min(largest*8+1<<20, maxPageMemory))
	r.rows = r.pq.NumRows()
	if total != r.rows {
		return r.damaged("row groups hold %d rows, the footer says %d", total, r.rows)
	}
	return nil
}

// arrowSchema derives the Arrow schema from the Parquet schema; docs is the
// metaColumns metadata, for descriptions. A footer has no checksum: where both
// tell of a column they must agree, else a flipped bit renames it.
func arrowSchema(s *schema.Schema, docs string) (*arrow.Schema, error) {
	var described []columnDoc
	if docs != "" {
		if err := json.Unmarshal([]byte(docs), &described); err != nil {
			return nil, fmt.Errorf("decode column descriptions: %w", err)
		}
		if len(described) != s.Root().NumFields() {
			return nil, fmt.Errorf("%d columns, %d are described", s.Root().NumFields(), len(described))
		}
	}
	root := s.Root()
	fields := make([]arrow.Field, root.NumFields())
	for i := range fields {
		node, ok := root.Field(i).(*schema.PrimitiveNode)
		if !ok {
			return nil, fmt.Errorf("column %q is nested", root.Field(i).Name())
		}
		t, err := arrowType(node)
		if err != nil {
			return nil, err
		}
		f := arrow.Field{Name: node.Name(), Type: t, Nullable: node.RepetitionType() == parquet.Repetitions.Optional}
		if described != nil {
			d := described[i]
			if d.Name != f.Name || d.Type != f.Type.String() || d.Required == f.Nullable {
				return nil, fmt.Errorf("column %q (%s) is described as %q (%s)", f.Name, f.Type, d.Name, d.Type)
			}
			if d.Description != "" {
				f.Metadata = arrow.NewMetadata([]string{"description"}, []string{d.Description})
			}
		}
		fields[i] = f
	}
	return arrow.NewSchema(fields, nil), nil
}

func arrowType(n *schema.PrimitiveNode) (arrow.DataType, error) {
	if n.RepetitionType() == parquet.Repetitions.Repeated {
		return nil, fmt.Errorf("column %q is repeated", n.Name())
	}
	logical := n.LogicalType()
	plain := logical == nil || logical.IsNone()
	switch n.PhysicalType() {
	case parquet.Types.ByteArray:
		if _, ok := logical.(schema.StringLogicalType); ok {
			return arrow.BinaryTypes.String, nil
		}
	case parquet.Types.Int64:
		if plain {
			return arrow.PrimitiveTypes.Int64, nil
		}
		// The library gives values in one place and pointers in another.
		ts, ok := logical.(interface {
			IsAdjustedToUTC() bool
			TimeUnit() schema.TimeUnitType
		})
		if ok && n.ConvertedType() == schema.ConvertedTypes.TimestampMicros && ts.IsAdjustedToUTC() && ts.TimeUnit() == schema.TimeUnitMicros {
			return arrow.FixedWidthTypes.Timestamp_us, nil
		}
	case parquet.Types.Int32:
		if _, ok := logical.(schema.DateLogicalType); ok {
			return arrow.FixedWidthTypes.Date32, nil
		}
	case parquet.Types.Double:
		if plain {
			return arrow.PrimitiveTypes.Float64, nil
		}
	case parquet.Types.Boolean:
		if plain {
			return arrow.FixedWidthTypes.Boolean, nil
		}
	}
	return nil, fmt.Errorf("column %q: %s %s is no type of Sluice's", n.Name(), n.PhysicalType(), logical)
}

// streamBuffer is how much of a column is read ahead, bytes.
const streamBuffer = 32 << 10

// maxPageMemory bounds a page: a damaged page header may ask for 2 GiB.
const maxPageMemory = 1 << 30

// boundedAllocator refuses allocations that no page of ours needs.
type boundedAllocator struct {
	memory.GoAllocator
	limit int
}

func (b *boundedAllocator) Allocate(n int) []byte {
	if n > b.limit {
		panic(fmt.Errorf("page of %d bytes", n))
	}
	return b.GoAllocator.Allocate(n)
}

func (b *boundedAllocator) Reallocate(n int, buf []byte) []byte {
	if n > b.limit {
		panic(fmt.Errorf("page of %d bytes", n))
	}
	return b.GoAllocator.Reallocate(n, buf)
}

// ReadOptions says which part of a file to read.
type ReadOptions struct {
	// Columns names the columns of the records, in that order; nil means all,
	// in file order.
	Columns []string
	// From and To bound the rows: [From, To). To 0 means the end. Row groups
	// outside are not touched; in the first one, the rows before From are
	// decoded and dropped.
	From, To int64
	// BatchRows is the largest record; 0 means DefaultBatchRows. A record never
	// spans two row groups.
	BatchRows int64
}

// Read prepares to read records.
func (r *Reader) Read(o ReadOptions) (*Records, error) {
	if o.To == 0 {
		o.To = r.rows
	}
	if o.BatchRows <= 0 {
		o.BatchRows = DefaultBatchRows
	}
	if o.From < 0 || o.From > o.To || o.To > r.rows {
		return nil, fmt.Errorf("read %s: rows %d to %d of %d", r.path, o.From, o.To, r.rows)
	}
	s := &Records{r: r, next: o.From, to: o.To, batch: o.BatchRows, schema: r.schema}
	if o.Columns == nil {
		for i := range r.schema.NumFields() {
			s.columns = append(s.columns, i)
		}
		return s, nil
	}
	fields := make([]arrow.Field, 0, len(o.Columns))
	for _, name := range o.Columns {
		at := r.schema.FieldIndices(name)
		if len(at) == 0 {
			return nil, fmt.Errorf("read %s: no column %q", r.path, name)
		}
		s.columns = append(s.columns, at[0])
		fields = append(fields, r.schema.Field(at[0]))
	}
	s.schema = arrow.NewSchema(fields, nil)
	return s, nil
}

// Records reads one range of rows, in order. It is not safe for concurrent
// use.
type Records struct {
	r       *Reader
	schema  *arrow.Schema
	columns []int
	batch   int64
	next    int64 // next row to give
	to      int64
	err     error

	group    int // index of the next row group to open
	groupEnd int64
	readers  []*columnReader
	decoding readScratch
	scratch  []byte
}

// Schema returns the schema of the records.
func (s *Records) Schema() *arrow.Schema { return s.schema }

// Next returns the next record, which the caller releases, or io.EOF after the
// last. After an error it returns that error for ever.
func (s *Records) Next() (rec arrow.Record, err error) {
	if s.err != nil {
		return nil, s.err
	}
	defer func() {
		if err != nil {
			s.err, s.readers = err, nil
		}
	}()
	defer s.r.recovered("read rows", &err)
	if s.next >= s.to {
		return nil, io.EOF
	}
	if s.next >= s.groupEnd {
		if err := s.open(); err != nil {
			return nil, err
		}
	}
	n := min(s.batch, s.groupEnd-s.next, s.to-s.next)
	columns := make([]arrow.Array, 0, len(s.readers))
	defer func() {
		for _, c := range columns {
			c.Release()
		}
	}()
	for _, c := range s.readers {
		a, err := c.read(int(n))
		if err != nil {
			return nil, s.r.damaged("column %q, rows %d to %d: %v", c.field.Name, s.next, s.next+n, err)
		}
		columns = append(columns, a)
	}
	s.next += n
	return array.NewRecord(s.schema, columns, n), nil
}

// checkPages checks the page headers of a column before the library sees them.
func (s *Records) checkPages(group *file.RowGroupReader, column int) error {
	m, err := group.MetaData().ColumnChunk(column)
	if err != nil {
		return err
	}
	b := chunkBounds{
		start: m.DataPageOffset(), size: m.TotalCompressedSize(),
		uncompressed: m.TotalUncompressedSize(), rows: group.NumRows(),
		codec: second.CompressionCodec(m.Compression()), // the numbers are the format's
	}
	if m.HasDictionaryPage() {
		b.start, b.dictionary = m.DictionaryPageOffset(), true
	}
	s.scratch, err = checkPages(background(), s.r.f, b, s.scratch)
	return err
}

// open moves to the row group that holds row s.next.
func (s *Records) open() error {
	start := s.groupEnd
	for s.group < len(s.r.groups) && start+s.r.groups[s.group] <= s.next {
		start += s.r.groups[s.group]
		s.group++
	}
	if s.group == len(s.r.groups) {
		return s.r.damaged("no row group holds row %d", s.next)
	}
	group := s.r.pq.RowGroup(s.group)
	s.group++
	s.groupEnd = start + group.NumRows()
	s.readers = s.readers[:0]
	for i, c := range s.columns {
		if err := s.checkPages(group, c); err != nil {
			return s.r.damaged("column %q: %v", s.schema.Field(i).Name, err)
		}
		cr, err := group.Column(c)
		if err != nil {
			return s.r.damaged("column %q: %v", s.schema.Field(i).Name, err)
		}
		reader := &columnReader{cr: cr, field: s.schema.Field(i), readScratch: &s.decoding}
		for skip := s.next - start; skip > 0; {
			n := min(skip, DefaultBatchRows)
			if err := reader.skip(int(n)); err != nil {
				return s.r.damaged("column %q: %v", s.schema.Field(i).Name, err)
			}
			skip -= n
		}
		s.readers = append(s.readers, reader)
	}
	s.scratch = nil // as large as the largest column; the next row group is far away
	return nil
}
