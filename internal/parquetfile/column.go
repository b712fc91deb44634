package parquetfile

import (
	"fmt"
	"slices"
	"unsafe"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/compress"
	"github.com/apache/arrow/go/v17/parquet/file"
)

const (
	// dictLimit is the largest dictionary page: where the sample was wrong
	// about a column, this bounds what the mistake costs.
	dictLimit = 32 << 10
	// pageBytes is the target size of a page before compression. The library
	// keeps two buffers of a page for every column until the row group ends;
	// pages of 1 MiB would save 0.4% of a file.
	pageBytes = 1 << 18
	// sampleRows is how many rows of the first row group decide an encoding.
	sampleRows = 2048
	// deltaMaxBits is the average bit width of a difference above which
	// DELTA_BINARY_PACKED saves less than zstd does on plain values.
	deltaMaxBits = 56
)

// writerProperties decides the encodings from the first row group, whose
// columns come in pieces; nil columns mean an empty file.
func writerProperties(o Options, columns [][]arrow.Array) (*parquet.WriterProperties, error) {
	codec := compress.Codecs.Zstd
	if o.Plain {
		codec = compress.Codecs.Snappy
	}
	props := []parquet.WriterProperty{
		parquet.WithCompression(codec),
		parquet.WithMaxRowGroupLength(o.RowGroupRows),
		parquet.WithDictionaryDefault(false),
		parquet.WithDictionaryPageSizeLimit(dictLimit),
		parquet.WithDataPageSize(16 * pageBytes), // a backstop: columnWorker ends pages itself
		parquet.WithRootRepetition(parquet.Repetitions.Required),
		parquet.WithCreatedBy("sluice, parquet-go version 17.0.0"),
	}
	for i, pieces := range columns {
		name := o.Schema.Field(i).Name
		e, err := chooseEncoding(pieces, o.Plain)
		if err != nil {
			return nil, fmt.Errorf("look at column %q: %w", name, err)
		}
		props = append(props, parquet.WithDictionaryFor(name, e.dictionary), parquet.WithEncodingFor(name, e.values))
	}
	return parquet.NewWriterProperties(props...), nil
}

// encoding is how a column is stored; values is ignored with a dictionary.
type encoding struct {
	dictionary bool
	values     parquet.Encoding
}

// chooseEncoding looks at a sample of a column's first row group. The name of
// a column says little about it: custom fields hold anything.
func chooseEncoding(pieces []arrow.Array, plain bool) (encoding, error) {
	switch first := pieces[0].(type) {
	case *array.String:
		switch {
		case stringsRepeat(pieces):
			return encoding{dictionary: true, values: parquet.Encodings.Plain}, nil
		case plain:
			return encoding{values: parquet.Encodings.Plain}, nil
		default:
			return encoding{values: parquet.Encodings.DeltaLengthByteArray}, nil
		}
	case *array.Float64:
		seen := make(map[float64]struct{})
		n := sample(pieces, func(a arrow.Array, i int) { seen[a.(*array.Float64).Value(i)] = struct{}{} })
		return encoding{dictionary: len(seen) <= n/4, values: parquet.Encodings.Plain}, nil
	case *array.Boolean:
		return encoding{values: parquet.Encodings.Plain}, nil
	default:
		// Differences need neighbours, and a column of integers is small.
		whole, err := join(pieces)
		if err != nil {
			return encoding{}, err
		}
		defer whole.Release()
		switch c := whole.(type) {
		case *array.Int64:
			return integerEncoding(c.Int64Values(), c, plain), nil
		case *array.Timestamp:
			return integerEncoding(c.TimestampValues(), c, plain), nil
		case *array.Date32:
			return integerEncoding(c.Date32Values(), c, plain), nil
		default:
			return encoding{}, fmt.Errorf("type %s is none of Sluice's", first.DataType())
		}
	}
}

// sample calls visit for up to twice sampleRows rows that are not null, spread
// over the column, and returns how many there were.
func sample(pieces []arrow.Array, visit func(a arrow.Array, i int)) int {
	rows := 0
	for _, a := range pieces {
		rows += a.Len()
	}
	n, step, at := 0, max(rows/sampleRows, 1), 0
	for _, a := range pieces {
		for ; at < a.Len(); at += step {
			if a.IsValid(at) {
				visit(a, at)
				n++
			}
		}
		at -= a.Len()
	}
	return n
}

// stringsRepeat reports whether a dictionary is worth having: the values of
// the sample repeat, and those seen fit the dictionary page.
func stringsRepeat(pieces []arrow.Array) bool {
	seen := make(map[string]struct{}, 64)
	size := 0
	n := sample(pieces, func(a arrow.Array, i int) {
		v := a.(*array.String).Value(i)
		if _, ok := seen[v]; !ok {
			seen[v] = struct{}{}
			size += len(v) + 4
		}
	})
	return len(seen) <= n/2 && size < dictLimit
}

// integerEncoding chooses between a dictionary, differences and plain values.
func integerEncoding[T ~int64 | ~int32](values []T, a arrow.Array, plain bool) encoding {
	seen := make(map[T]struct{}, 64)
	n := sample([]arrow.Array{a}, func(_ arrow.Array, i int) { seen[values[i]] = struct{}{} })
	few := len(seen) <= n/16
	_, isTime := a.(*array.Timestamp)
	switch {
	case few && (plain || !isTime):
		return encoding{dictionary: true, values: parquet.Encodings.Plain}
	case plain:
		return encoding{values: parquet.Encodings.Plain}
	case n == 0 || deltaBits(values, a) <= deltaMaxBits:
		return encoding{values: parquet.Encodings.DeltaBinaryPacked}
	default:
		return encoding{values: parquet.Encodings.Plain}
	}
}

// columnWorker writes one column of a row group at a time and keeps its
// buffers for the next.
type columnWorker struct {
	digest digester
	levels []int16
	ones   []int16
	int64s []int64
	int32s []int32
	floats []float64
	bools  []bool
	texts  []parquet.ByteArray
	dict   dictionary
}

// forget drops what refers to the column, which is about to be released: a
// single text would keep all of it.
func (w *columnWorker) forget() {
	clear(w.texts[:cap(w.texts)])
	clear(w.dict.entries[:cap(w.dict.entries)])
}

// run digests and encodes column i, and releases its pieces. It recovers here
// because a panic in a worker's goroutine would end the process.
func (w *columnWorker) run(group file.BufferedRowGroupWriter, i int, f arrow.Field, pieces []arrow.Array) (d columnDigest, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("column %q: %w: %v", f.Name, errPanic, r)
		} else if err != nil {
			err = fmt.Errorf("column %q: %w", f.Name, err)
		}
	}()
	a, err := join(pieces)
	releaseAll(pieces)
	if err != nil {
		return d, fmt.Errorf("gather rows: %w", err)
	}
	defer a.Release()
	defer w.forget()
	w.digest.reset(f.Type)
	if err := w.digest.array(a); err != nil {
		return d, err
	}
	cw, err := group.Column(i)
	if err != nil {
		return d, err
	}
	before := cw.CurrentEncoder().Encoding()
	if err := w.encode(cw, a, f.Nullable); err != nil {
		return d, err
	}
	if err := compressNow(cw, before); err != nil {
		return d, err
	}
	if got := cw.RowsWritten(); got != a.Len() {
		return d, fmt.Errorf("library took %d rows of %d", got, a.Len())
	}
	return w.digest.sum(), nil
}

func (w *columnWorker) encode(cw file.ColumnChunkWriter, a arrow.Array, nullable bool) error {
	levels := w.defLevels(a, nullable)
	switch c := cw.(type) {
	case *file.ByteArrayColumnChunkWriter:
		return w.encodeStrings(c, a.(*array.String), levels)
	case *file.Int64ColumnChunkWriter:
		var values []int64
		if t, ok := a.(*array.Timestamp); ok {
			values = arrow.Int64Traits.CastFromBytes(arrow.TimestampTraits.CastToBytes(t.TimestampValues()))
		} else {
			values = a.(*array.Int64).Int64Values()
		}
		values, w.int64s = valid(values, a, w.int64s)
		return writePages(c, values, levels)
	case *file.Int32ColumnChunkWriter:
		values := arrow.Int32Traits.CastFromBytes(arrow.Date32Traits.CastToBytes(a.(*array.Date32).Date32Values()))
		values, w.int32s = valid(values, a, w.int32s)
		return writePages(c, values, levels)
	case *file.Float64ColumnChunkWriter:
		var values []float64
		values, w.floats = valid(a.(*array.Float64).Float64Values(), a, w.floats)
		return writePages(c, values, levels)
	case *file.BooleanColumnChunkWriter:
		w.bools = w.bools[:0]
		b := a.(*array.Boolean)
		for i := range b.Len() {
			if b.IsValid(i) {
				w.bools = append(w.bools, b.Value(i))
			}
		}
		return writePages(c, w.bools, levels)
	default:
		return fmt.Errorf("unsupported column writer %T", cw)
	}
}

// pageWriter is the part of the library's typed column writers used here.
type pageWriter[T any] interface {
	file.ColumnChunkWriter
	WriteBatch(values []T, defLevels, repLevels []int16) (int64, error)
	FlushCurrentPage() error
}

// writePages writes the values that are not null, with the levels of all rows
// (nil for a required column), in pages of pageBytes.
//
// The pages are ended here and not by the library, because its DELTA encoders
// keep the last page's bit buffer until they get a value: a page of nulls
// alone, after one that held values, is cut from that buffer. So a page ends
// only where a value follows.
func writePages[T bool | int32 | int64 | float64](c pageWriter[T], values []T, levels []int16) error {
	perPage := pageBytes / max(int(unsafe.Sizeof(*new(T))), 1)
	if isDictionary(c) {
		perPage = len(values) + 1
	}
	for len(values) > perPage {
		n, rows := perPage, []int16(nil)
		if levels != nil {
			end := rowsOf(levels, perPage)
			rows, levels = levels[:end], levels[end:]
		}
		if err := endPage(c, values[:n], rows); err != nil {
			return err
		}
		values = values[n:]
	}
	return writeBatch(c, values, levels)
}

// rowsOf returns how many rows hold the first n values.
func rowsOf(levels []int16, n int) int {
	for i, l := range levels {
		if n == 0 {
			return i
		}
		n -= int(l)
	}
	return len(levels)
}

// endPage writes values and ends the page, unless the library has, past its
// own limit: it panics on an empty page.
func endPage[T any](c pageWriter[T], values []T, levels []int16) error {
	if err := writeBatch(c, values, levels); err != nil {
		return err
	}
	if c.CurrentEncoder().EstimatedDataEncodedSize() == 0 {
		return nil
	}
	return c.FlushCurrentPage()
}

func isDictionary(c file.ColumnChunkWriter) bool {
	return c.CurrentEncoder().Encoding() == parquet.Encodings.PlainDict
}

// compressNow ends the last page here, where columns run side by side, and not
// in the row group's Close, one column after the other. It leaves alone what
// may be empty, which the library panics on: a dictionary that grew too large
// has just written its pages, and a page of nulls has no bytes.
func compressNow(cw file.ColumnChunkWriter, before parquet.Encoding) error {
	enc := cw.CurrentEncoder()
	if enc.Encoding() != before || enc.EstimatedDataEncodedSize() == 0 {
		return nil
	}
	return cw.(interface{ FlushCurrentPage() error }).FlushCurrentPage()
}

// writeBatch hands values to the library and checks what it says it took.
func writeBatch[T any](c pageWriter[T], values []T, levels []int16) error {
	n, err := c.WriteBatch(values, levels, nil)
	if err == nil && n != int64(len(values)) {
		err = fmt.Errorf("library took %d values of %d", n, len(values))
	}
	return err
}

// defLevels returns 1 for each value and 0 for each null, nil for a required
// column. The slice is valid until the next call.
func (w *columnWorker) defLevels(a arrow.Array, nullable bool) []int16 {
	if !nullable {
		return nil
	}
	n := a.Len()
	if a.NullN() == 0 {
		for len(w.ones) < n {
			w.ones = append(w.ones, 1)
		}
		return w.ones[:n]
	}
	w.levels = slices.Grow(w.levels[:0], n)[:n]
	v := validityOf(a)
	for i := range w.levels {
		w.levels[i] = int16(v.bit(i))
	}
	return w.levels
}

// validity is an array's bitmap, read without a call for every row.
type validity struct {
	bits   []byte
	offset int
}

func validityOf(a arrow.Array) validity {
	return validity{bits: a.NullBitmapBytes(), offset: a.Data().Offset()}
}

// bit returns 1 where row i has a value. The array must hold nulls.
func (v validity) bit(i int) byte {
	i += v.offset
	return v.bits[i>>3] >> (i & 7) & 1
}

// valid returns the values that are not null, and the buffer for next time.
func valid[T any](values []T, a arrow.Array, buf []T) (dense, keep []T) {
	if a.NullN() == 0 {
		return values, buf
	}
	buf = slices.Grow(buf[:0], len(values))
	v := validityOf(a)
	for i, x := range values {
		if v.bit(i) != 0 {
			buf = append(buf, x)
		}
	}
	return buf, buf
}

// encodeStrings does for strings, whose sizes differ, what writePages does for
// the rest.
func (w *columnWorker) encodeStrings(c *file.ByteArrayColumnChunkWriter, a *array.String, levels []int16) error {
	w.texts = w.texts[:0]
	if a.Len() == 0 {
		return nil
	}
	from, size := 0, 0 // first row and bytes of the page
	last := lastValid(a)
	bytes, offsets := a.ValueBytes(), a.ValueOffsets()
	dictionary := isDictionary(c)
	if dictionary && w.dict.build(a) {
		return w.dict.write(c, a, levels)
	}
	nulls, valid := a.NullN() > 0, validityOf(a)
	for i := range last + 1 {
		if nulls && valid.bit(i) == 0 {
			continue
		}
		v := bytes[offsets[i]-offsets[0] : offsets[i+1]-offsets[0]]
		w.texts = append(w.texts, v)
		size += len(v) + 1
		var err error
		switch {
		case i == last || size < pageBytes:
			continue
		case dictionary: // its pages hold small numbers: one will do
			err = writeBatch(c, w.texts, part(levels, from, i+1))
		default:
			err = endPage(c, w.texts, part(levels, from, i+1))
		}
		if err != nil {
			return err
		}
		from, size = i+1, 0
		w.texts = w.texts[:0]
	}
	return writeBatch(c, w.texts, part(levels, from, a.Len()))
}

func part(levels []int16, from, to int) []int16 {
	if levels == nil {
		return nil
	}
	return levels[from:to]
}

// lastValid returns the last row that is not null, -1 if there is none.
func lastValid(a arrow.Array) int {
	i := a.Len() - 1
	for i >= 0 && a.IsNull(i) {
		i--
	}
	return i
}
