package parquet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/sluice-etl/sluice/internal/parquetfile"
	"github.com/sluice-etl/sluice/schemas"
)

// batchRows is the size of the batches read and copied. Larger ones no longer
// gain and cost memory for every open file.
const batchRows = parquetfile.DefaultBatchRows

// cursor reads a file from front to back, in steps the caller chooses. It
// opens the file at the first step that needs it.
type cursor struct {
	path    string
	columns []string // nil: all
	want    int64    // rows the file has to have: more of them must not be passed over in silence
	// batchRows is the most rows of a batch; 0: batchRows.
	batchRows int64

	reader *parquetfile.Reader
	rows   *parquetfile.Records
	batch  arrow.Record // the rest of it is unread
	behind int64        // rows to pass over before the next step
}

func (c *cursor) open() error {
	if c.reader != nil {
		return nil
	}
	r, err := parquetfile.Open(c.path)
	if err != nil {
		return unreadable(err)
	}
	if r.Rows() != c.want {
		err := fmt.Errorf("%w: %s holds %d rows, recorded were %d", parquetfile.ErrDamaged, c.path, r.Rows(), c.want)
		return errors.Join(unreadable(err), r.Close())
	}
	c.reader = r
	return nil
}

// schema returns the schema of what take gives.
func (c *cursor) schema() (*arrow.Schema, error) {
	if err := c.open(); err != nil {
		return nil, err
	}
	if c.columns == nil {
		return c.reader.Schema(), nil
	}
	fields := make([]arrow.Field, 0, len(c.columns))
	for _, name := range c.columns {
		found := c.reader.Schema().FieldIndices(name)
		if len(found) != 1 {
			return nil, unreadable(fmt.Errorf("%w: %s has no column %s", parquetfile.ErrDamaged, c.path, name))
		}
		fields = append(fields, c.reader.Schema().Field(found[0]))
	}
	return arrow.NewSchema(fields, nil), nil
}

// skip passes over n rows, reading them only if a later step needs it.
func (c *cursor) skip(n int64) { c.behind += n }

// take gives the next n rows to each, in batches that are valid during the call.
func (c *cursor) take(ctx context.Context, n int64, each func(arrow.Record) error) error {
	if n == 0 {
		return nil
	}
	if err := c.open(); err != nil {
		return err
	}
	behind := c.behind
	c.behind = 0
	if c.rows == nil {
		rows, err := c.reader.Read(parquetfile.ReadOptions{Columns: c.columns, From: behind, BatchRows: cmp.Or(c.batchRows, batchRows)})
		if err != nil {
			return err
		}
		c.rows, behind = rows, 0
	}
	if err := c.step(ctx, behind, nil); err != nil {
		return err
	}
	return c.step(ctx, n, each)
}

func (c *cursor) step(ctx context.Context, n int64, each func(arrow.Record) error) error {
	for n > 0 {
		if c.batch == nil || c.batch.NumRows() == 0 {
			if err := c.next(ctx); err != nil {
				return err
			}
			continue
		}
		k := min(n, c.batch.NumRows())
		if each != nil {
			piece := c.batch.NewSlice(0, k)
			err := each(piece)
			piece.Release()
			if err != nil {
				return err
			}
		}
		rest := c.batch.NewSlice(k, c.batch.NumRows())
		c.batch.Release()
		c.batch = rest
		n -= k
	}
	return nil
}

func (c *cursor) next(ctx context.Context) error {
	c.drop()
	if err := ctx.Err(); err != nil {
		return err
	}
	rec, err := c.rows.Next()
	if errors.Is(err, io.EOF) {
		return unreadable(fmt.Errorf("%w: %s ended early", parquetfile.ErrDamaged, c.path))
	}
	if err != nil {
		return unreadable(err)
	}
	c.batch = rec
	return nil
}

func (c *cursor) drop() {
	if c.batch != nil {
		c.batch.Release()
		c.batch = nil
	}
}

func (c *cursor) close() error {
	c.drop()
	if c.reader == nil {
		return nil
	}
	r := c.reader
	c.reader, c.rows = nil, nil
	return r.Close()
}

// keyColumns are what the merge compares.
var keyColumns = []string{schemas.ColID, schemas.ColUpdatedAt, schemas.ColExtractedAt, schemas.ColRow, schemas.ColHash, schemas.ColDeletedAt}

// keyReader gives ids and keys out of records that hold keyColumns, in any
// order.
type keyReader struct{ id, updated, extracted, row, hash, deleted int }

func newKeyReader(s *arrow.Schema) (keyReader, error) {
	var k keyReader
	for _, c := range []struct {
		name string
		to   *int
		typ  arrow.Type
	}{
		{schemas.ColID, &k.id, arrow.STRING},
		{schemas.ColUpdatedAt, &k.updated, arrow.TIMESTAMP},
		{schemas.ColExtractedAt, &k.extracted, arrow.TIMESTAMP},
		{schemas.ColRow, &k.row, arrow.INT64},
		{schemas.ColHash, &k.hash, arrow.INT64},
		{schemas.ColDeletedAt, &k.deleted, arrow.TIMESTAMP},
	} {
		found := s.FieldIndices(c.name)
		if len(found) != 1 || s.Field(found[0]).Type.ID() != c.typ {
			return k, fmt.Errorf("column %s is missing or of another type", c.name)
		}
		*c.to = found[0]
	}
	return k, nil
}

// each calls f for every row of rec; the id is valid during the call.
func (k keyReader) each(rec arrow.Record, f func(id string, key key)) error {
	ids, ok1 := rec.Column(k.id).(*array.String)
	updated, ok2 := rec.Column(k.updated).(*array.Timestamp)
	extracted, ok3 := rec.Column(k.extracted).(*array.Timestamp)
	row, ok4 := rec.Column(k.row).(*array.Int64)
	hash, ok5 := rec.Column(k.hash).(*array.Int64)
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 {
		return errors.New("key columns have other types than declared")
	}
	if ids.NullN()+updated.NullN()+extracted.NullN()+row.NullN()+hash.NullN() > 0 {
		return errors.New("a row has no id, updated_at, _sluice_extracted_at, _sluice_row or _sluice_hash")
	}
	deleted := rec.Column(k.deleted)
	for i := range int(rec.NumRows()) {
		read := int64(extracted.Value(i))
		f(ids.Value(i), key{
			counts: min(int64(updated.Value(i)), read), extracted: read,
			row: row.Value(i), hash: hash.Value(i), deleted: deleted.IsValid(i),
		})
	}
	return nil
}
