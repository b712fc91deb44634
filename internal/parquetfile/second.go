package parquetfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/xitongsys/parquet-go/parquet"
	"github.com/xitongsys/parquet-go/reader"
	"github.com/xitongsys/parquet-go/source"
)

// verifyContent compares footer and values, as the second implementation
// reads them.
func verifyContent(ctx context.Context, path string, want Stats, mode Mode) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("verify file: %w", err)
	}
	defer func() { _ = f.Close() }()
	v := &verifier{path: path, want: want, file: f}
	if info, err := f.Stat(); err != nil {
		return fmt.Errorf("verify %s: %w", path, err)
	} else {
		v.size = info.Size()
	}
	footer, err := v.open(ctx)
	if err != nil {
		return err
	}
	if err := v.checkFooter(footer.Footer); err != nil {
		return err
	}
	return v.columns(ctx, mode)
}

// verifier compares one file.
type verifier struct {
	path string
	want Stats
	file *os.File
	size int64
}

func (v *verifier) mismatch(group int, column, what string, want, got any) error {
	return &MismatchError{
		Path: v.path, RowGroup: group, Column: column, What: what,
		Want: fmt.Sprint(want), Got: fmt.Sprint(got),
	}
}

// open reads the footer with the second implementation.
func (v *verifier) open(ctx context.Context) (r *reader.ParquetReader, err error) {
	defer v.recovered("read footer", &err)
	if err := checkFooter(ctx, v.file, v.size); err != nil {
		return nil, fmt.Errorf("verify %s: %w: %w", v.path, ErrMismatch, err)
	}
	r, err = reader.NewParquetColumnReader(&cursor{r: v.file, size: v.size}, 1)
	if err != nil {
		return nil, fmt.Errorf("verify %s: read footer: %w: %w", v.path, ErrMismatch, err)
	}
	return r, nil
}

func (v *verifier) recovered(what string, err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("verify %s: %s: %w: second reader panicked: %v", v.path, what, ErrMismatch, p)
	}
}

// checkFooter compares counts, schema and the statistics that readers prune
// by.
func (v *verifier) checkFooter(m *parquet.FileMetaData) (err error) {
	defer v.recovered("check footer", &err)
	if m.GetNumRows() != v.want.Rows {
		return v.mismatch(-1, "", "number of rows", v.want.Rows, m.GetNumRows())
	}
	if len(m.GetRowGroups()) != len(v.want.groups) {
		return v.mismatch(-1, "", "number of row groups", len(v.want.groups), len(m.GetRowGroups()))
	}
	if err := v.checkSchema(m.GetSchema()); err != nil {
		return err
	}
	for g, want := range v.want.groups {
		got := m.GetRowGroups()[g]
		if got.GetNumRows() != want.rows {
			return v.mismatch(g, "", "number of rows", want.rows, got.GetNumRows())
		}
		if len(got.GetColumns()) != v.want.schema.NumFields() {
			return v.mismatch(g, "", "number of columns", v.want.schema.NumFields(), len(got.GetColumns()))
		}
		for i, c := range got.GetColumns() {
			if err := v.checkChunk(g, v.want.schema.Field(i), c.GetMetaData(), want.rows, want.columns[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkSchema compares names, types and nullability with the schema written.
func (v *verifier) checkSchema(got []*parquet.SchemaElement) error {
	fields := v.want.schema.Fields()
	if len(got) != len(fields)+1 {
		return v.mismatch(-1, "", "number of columns", len(fields), len(got)-1)
	}
	for i, f := range fields {
		e := got[i+1]
		rep := parquet.FieldRepetitionType_REQUIRED
		if f.Nullable {
			rep = parquet.FieldRepetitionType_OPTIONAL
		}
		if e.GetRepetitionType() != rep {
			return v.mismatch(-1, f.Name, "repetition", rep, e.GetRepetitionType())
		}
		typ, converted := secondType(f.Type)
		if e.GetType() != typ {
			return v.mismatch(-1, f.Name, "physical type", typ, e.GetType())
		}
		if converted != nil && (!e.IsSetConvertedType() || e.GetConvertedType() != *converted) {
			return v.mismatch(-1, f.Name, "logical type", *converted, e.ConvertedType)
		}
	}
	return nil
}

func secondType(t arrow.DataType) (parquet.Type, *parquet.ConvertedType) {
	converted := func(c parquet.ConvertedType) *parquet.ConvertedType { return &c }
	switch t.ID() {
	case arrow.STRING:
		return parquet.Type_BYTE_ARRAY, converted(parquet.ConvertedType_UTF8)
	case arrow.TIMESTAMP:
		return parquet.Type_INT64, converted(parquet.ConvertedType_TIMESTAMP_MICROS)
	case arrow.DATE32:
		return parquet.Type_INT32, converted(parquet.ConvertedType_DATE)
	case arrow.FLOAT64:
		return parquet.Type_DOUBLE, nil
	case arrow.BOOL:
		return parquet.Type_BOOLEAN, nil
	default:
		return parquet.Type_INT64, nil
	}
}

// columns compares the values of all columns, several at once.
func (v *verifier) columns(ctx context.Context, mode Mode) error {
	groups := make([]int, 0, len(v.want.groups))
	for g := range v.want.groups {
		groups = append(groups, g)
	}
	if mode == VerifySample && len(groups) > 1 {
		// The file's own hash draws the row group: every run another, and the
		// same one when it is repeated.
		pick := int(v.want.SHA256[0]+v.want.SHA256[1]) % len(groups)
		groups = groups[pick : pick+1]
	}
	n := v.want.schema.NumFields()
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, DefaultWorkers)
	for w := range errs {
		wg.Go(func() {
			errs[w] = v.work(ctx, groups, n, &next)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (v *verifier) work(ctx context.Context, groups []int, n int, next *atomic.Int64) error {
	r, err := v.open(ctx)
	if err != nil {
		return err
	}
	all := r.Footer.RowGroups
	var d digester
	for {
		job := int(next.Add(1)) - 1
		if job >= len(groups)*n {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("verify %s: %w", v.path, err)
		}
		g, c := groups[job/n], job%n
		// The reader walks all row groups of its footer: with one of them in
		// it, it reads that one and stops at its end.
		r.Footer.RowGroups = all[g : g+1]
		if err := v.column(ctx, r, &d, g, c); err != nil {
			next.Store(int64(len(groups) * n)) // the other worker stops
			return err
		}
	}
}

// verifyBatch is how many values the second reader decodes at once: it takes
// more than a hundred bytes for each.
const verifyBatch = 8192

// column reads one column of one row group and compares it.
func (v *verifier) column(ctx context.Context, r *reader.ParquetReader, d *digester, g, c int) (err error) {
	field, want := v.want.schema.Field(c), v.want.groups[g]
	defer v.recovered(fmt.Sprintf("row group %d, column %q", g, field.Name), &err)
	m := r.Footer.RowGroups[0].GetColumns()[c].GetMetaData()
	bounds := chunkBounds{
		start: m.GetDataPageOffset(), size: m.GetTotalCompressedSize(),
		uncompressed: m.GetTotalUncompressedSize(), rows: want.rows, codec: m.GetCodec(),
	}
	if m.IsSetDictionaryPageOffset() {
		bounds.start, bounds.dictionary = m.GetDictionaryPageOffset(), true
	}
	if _, err := checkPages(ctx, v.file, bounds, nil); err != nil {
		return v.mismatch(g, field.Name, "a page", "whole", err)
	}
	clear(r.ColumnBuffers) // each holds a decoded column
	d.reset(field.Type)
	for d.rows <= want.rows { // until nothing follows: a value too many is a fault as well
		values, _, _, err := r.ReadColumnByIndex(int64(c), verifyBatch)
		if err != nil {
			return fmt.Errorf("verify %s: row group %d, column %q: %w: %w", v.path, g, field.Name, ErrMismatch, err)
		}
		if len(values) == 0 {
			break
		}
		if err := digestValues(d, values); err != nil {
			return v.mismatch(g, field.Name, "a value", field.Type, err)
		}
	}
	if d.rows != want.rows {
		return v.mismatch(g, field.Name, "number of values", want.rows, d.rows)
	}
	got := d.sum()
	if got.nulls != want.columns[c].nulls {
		return v.mismatch(g, field.Name, "number of nulls", want.columns[c].nulls, got.nulls)
	}
	if got.hash != want.columns[c].hash {
		return v.mismatch(g, field.Name, "hash of the values in their rows",
			fmt.Sprintf("%016x", want.columns[c].hash), fmt.Sprintf("%016x", got.hash))
	}
	return nil
}

// digestValues digests what the second reader decoded.
func digestValues(d *digester, values []any) error {
	for _, v := range values {
		switch v := v.(type) {
		case nil:
			d.null()
		case string:
			d.text(v)
		case int64:
			d.integer(v, 8)
		case int32:
			d.integer(int64(v), 4)
		case float64:
			d.double(v)
		case bool:
			i := int64(0)
			if v {
				i = 1
			}
			d.integer(i, 1)
		default:
			return fmt.Errorf("%T", v)
		}
	}
	return nil
}

// cursor is a read position in a file, as the second reader wants it: it opens
// the file again for every column and never closes it.
type cursor struct {
	r    io.ReaderAt
	size int64
	pos  int64
}

var _ source.ParquetFile = (*cursor)(nil)

var errReadOnly = errors.New("read only")

func (c *cursor) Read(p []byte) (int, error) {
	if c.pos >= c.size {
		return 0, io.EOF
	}
	n, err := c.r.ReadAt(p[:min(int64(len(p)), c.size-c.pos)], c.pos)
	c.pos += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

func (c *cursor) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += c.pos
	case io.SeekEnd:
		offset += c.size
	}
	if offset < 0 {
		return 0, errors.New("seek before the start")
	}
	c.pos = offset
	return offset, nil
}

func (c *cursor) Write([]byte) (int, error) { return 0, errReadOnly }

func (c *cursor) Close() error { return nil }

func (c *cursor) Open(string) (source.ParquetFile, error) {
	return &cursor{r: c.r, size: c.size}, nil
}

func (c *cursor) Create(string) (source.ParquetFile, error) { return nil, errReadOnly }
