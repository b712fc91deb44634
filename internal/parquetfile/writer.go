package parquetfile

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"sync"
	"sync/atomic"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/apache/arrow/go/v17/parquet/file"

	"github.com/sluice-etl/sluice/internal/atomicfile"
)

// ErrFinished is returned by writes after Finish or Abort.
var ErrFinished = errors.New("parquet file is finished")

// Writer writes one Parquet file. The calls come from one goroutine, in the
// order Write..., Finish, Publish; Abort may come at any point and does
// nothing after Publish, so it may be deferred. After an error every later
// call returns that error, and nothing is published.
type Writer struct {
	opts    Options
	path    string
	file    *atomicfile.File
	sink    *sink
	pq      *file.Writer // nil until the first row group says how to encode
	pending pending
	workers []*columnWorker
	groups  []groupStats
	rows    int64
	stats   Stats
	err     error // first error, kept
	done    bool  // finished or aborted
}

// Create starts the file that Publish will put at path. The directory must
// exist.
func Create(path string, o Options) (*Writer, error) {
	if err := o.normalize(); err != nil {
		return nil, fmt.Errorf("create %s: %w", path, err)
	}
	registerCodec()
	f, err := atomicfile.CreateOn(o.FS, path, o.Perm)
	if err != nil {
		return nil, err
	}
	return &Writer{
		opts: o,
		path: path,
		file: f,
		sink: &sink{file: f, sha: sha256.New()},
	}, nil
}

// Write appends the rows of rec, whose columns must be those of the schema in
// order, name and type. Rows gather until a row group is full, so records of
// any size are fine. Write may keep a reference to rec until then.
func (w *Writer) Write(rec arrow.Record) error {
	if err := w.usable(); err != nil {
		return err
	}
	if err := checkRecord(w.opts.Schema, rec); err != nil {
		return w.fail(err)
	}
	for from := int64(0); from < rec.NumRows(); {
		n := min(w.opts.RowGroupRows-w.pending.rows, rec.NumRows()-from)
		part := rec.NewSlice(from, from+n)
		err := w.pending.add(part)
		part.Release()
		if err != nil {
			return w.fail(err)
		}
		from += n
		if w.pending.rows == w.opts.RowGroupRows {
			if err := w.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// EndRowGroup closes the current row group early, so that the next row starts
// a new one. It does nothing where no row is pending.
func (w *Writer) EndRowGroup() error {
	if err := w.usable(); err != nil {
		return err
	}
	return w.flush()
}

// Rows returns the number of rows written so far.
func (w *Writer) Rows() int64 { return w.rows + w.pending.rows }

// Pending returns how many of them wait for their row group to end.
func (w *Writer) Pending() int64 { return w.pending.rows }

// TempPath returns where the file stands until Publish: what Verify reads.
func (w *Writer) TempPath() string { return w.file.TempPath() }

// Finish completes the file and flushes it to disk under TempPath. It
// publishes nothing.
func (w *Writer) Finish() (Stats, error) {
	if w.done && w.err == nil {
		return w.stats, nil
	}
	if err := w.usable(); err != nil {
		return Stats{}, err
	}
	if err := w.flush(); err != nil {
		return Stats{}, err
	}
	if err := w.guard("write footer", w.footer); err != nil {
		return Stats{}, err
	}
	if err := w.file.Finish(); err != nil {
		return Stats{}, w.fail(err)
	}
	w.done = true
	w.release()
	w.stats = Stats{
		Rows:    w.rows,
		Bytes:   w.file.Size(),
		SHA256:  hex.EncodeToString(w.sink.sha.Sum(nil)),
		Columns: summarize(w.opts.Schema, w.groups),
		schema:  w.opts.Schema,
		groups:  w.groups,
	}
	return w.stats, nil
}

// Publish puts the finished file in its place.
func (w *Writer) Publish() error {
	if w.err != nil {
		return w.err
	}
	if !w.done {
		return w.fail(fmt.Errorf("publish %s: %w", w.path, errors.New("the file is not finished")))
	}
	if err := w.file.Commit(); err != nil {
		return w.fail(err)
	}
	return nil
}

// Abort drops the file.
func (w *Writer) Abort() {
	w.done = true
	if w.err == nil && w.stats.schema == nil {
		w.err = fmt.Errorf("write %s: %w", w.path, ErrFinished)
	}
	w.release()
	w.file.Abort()
}

func (w *Writer) usable() error {
	if w.err != nil {
		return w.err
	}
	if w.done {
		return fmt.Errorf("write %s: %w", w.path, ErrFinished)
	}
	return nil
}

func (w *Writer) fail(err error) error {
	if w.err == nil {
		w.err = err
	}
	w.release()
	return w.err
}

func (w *Writer) release() {
	w.pending.clear()
	w.workers = nil
	w.pq = nil
}

// guard runs step, turns a panic of the library into an error, and reports
// what the sink met whatever step says: arrow v17 drops write errors in Close,
// in row-group flushes and for short writes, and panics on a nil pointer after
// some of them.
func (w *Writer) guard(what string, step func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errPanic, r)
		}
		if kept := w.file.Err(); kept != nil {
			err = w.fail(kept)
		} else if err != nil {
			err = w.fail(fmt.Errorf("%s of %s: %w", what, w.path, err))
		}
	}()
	return step()
}

var errPanic = errors.New("parquet library panicked")

// start begins the file with encodings that suit the rows of the first row
// group, by column; nil: there are none.
func (w *Writer) start(first [][]arrow.Array) error {
	props, err := writerProperties(w.opts, first)
	if err != nil {
		return err
	}
	root, err := parquetSchema(w.opts.Schema)
	if err != nil {
		return err
	}
	kv, err := fileMetadata(w.opts)
	if err != nil {
		return err
	}
	w.pq = file.NewParquetWriter(w.sink, root, file.WithWriterProps(props), file.WithWriteMetadata(kv))
	for range min(w.opts.Workers, w.opts.Schema.NumFields()) {
		w.workers = append(w.workers, &columnWorker{})
	}
	return nil
}

// footer uses FlushWithFooter: Close returns nil whatever happens.
func (w *Writer) footer() error {
	if w.pq == nil {
		if err := w.start(nil); err != nil {
			return err
		}
	}
	if got := int64(w.pq.NumRows()); len(w.groups) == 0 && got != 0 {
		return fmt.Errorf("library counts %d rows in an empty file", got)
	}
	if err := w.pq.FlushWithFooter(); err != nil {
		return err
	}
	if got := int64(w.pq.NumRows()); got != w.rows {
		return fmt.Errorf("library counts %d rows, %d were written", got, w.rows)
	}
	return nil
}

// flush writes the pending rows as one row group.
func (w *Writer) flush() error {
	if w.pending.rows == 0 {
		return nil
	}
	return w.guard("write row group", func() error {
		rows := w.pending.rows
		columns := w.pending.take(w.opts.Schema.NumFields())
		defer func() {
			for _, pieces := range columns {
				releaseAll(pieces)
			}
		}()
		if w.pq == nil {
			if err := w.start(columns); err != nil {
				return err
			}
		}
		group := w.pq.AppendBufferedRowGroup()
		digests, err := w.encode(group, columns)
		if err != nil {
			return err
		}
		if err := group.Close(); err != nil {
			return err
		}
		w.rows += rows
		w.groups = append(w.groups, groupStats{rows: rows, columns: digests})
		return nil
	})
}

// encode writes the columns of one row group, several at once, and releases
// each when it is done. A column's pieces are joined only while it is encoded:
// all columns joined at once would double the memory of a row group. A column's
// pages stay in memory until it is closed, which writes them; columns are
// closed in their order as soon as they are done, so that the file does not
// depend on timing and few columns' buffers are alive.
func (w *Writer) encode(group file.BufferedRowGroupWriter, columns [][]arrow.Array) ([]columnDigest, error) {
	digests := make([]columnDigest, len(columns))
	errs := make([]error, len(columns))
	closer := columnCloser{group: group, done: make([]bool, len(columns))}
	var next atomic.Int64
	var wg sync.WaitGroup
	for _, worker := range w.workers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(columns); i = int(next.Add(1)) - 1 {
				digests[i], errs[i] = worker.run(group, i, w.opts.Schema.Field(i), columns[i])
				columns[i] = nil
				if errs[i] == nil {
					errs[i] = closer.finished(i)
				}
				if errs[i] != nil {
					next.Store(int64(len(columns))) // the others stop
					return
				}
			}
		})
	}
	wg.Wait()
	return digests, errors.Join(errs...)
}

// columnCloser closes columns in order.
type columnCloser struct {
	group file.BufferedRowGroupWriter
	mu    sync.Mutex
	done  []bool // encoded
	next  int    // first column that is not closed
}

// finished says that column i is encoded, and closes what is next in line. It
// recovers because it runs in a worker's goroutine.
func (c *columnCloser) finished(i int) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("close column %d: %w: %v", c.next, errPanic, r)
		}
	}()
	c.done[i] = true
	for c.next < len(c.done) && c.done[c.next] {
		cw, err := c.group.Column(c.next)
		if err != nil {
			return err
		}
		if err := cw.Close(); err != nil {
			return err
		}
		c.next++
	}
	return nil
}

// checkRecord compares a record's columns with the schema's.
func checkRecord(want *arrow.Schema, rec arrow.Record) error {
	if int(rec.NumCols()) != want.NumFields() {
		return fmt.Errorf("write record: %d columns, the file has %d", rec.NumCols(), want.NumFields())
	}
	for i, f := range want.Fields() {
		if rec.ColumnName(i) != f.Name {
			return fmt.Errorf("write record: column %d is %q, the file has %q there", i, rec.ColumnName(i), f.Name)
		}
		c := rec.Column(i)
		if !arrow.TypeEqual(c.DataType(), f.Type) {
			return fmt.Errorf("write record: column %q is %s, the file has %s", f.Name, c.DataType(), f.Type)
		}
		if !f.Nullable && c.NullN() > 0 {
			return fmt.Errorf("write record: required column %q holds %d nulls", f.Name, c.NullN())
		}
		if int64(c.Len()) != rec.NumRows() {
			return fmt.Errorf("write record: column %q has %d values for %d rows", f.Name, c.Len(), rec.NumRows())
		}
	}
	return nil
}

// sink is the only writer the Parquet library gets. It has no Close method,
// and the file behind it keeps its first error.
type sink struct {
	file *atomicfile.File
	sha  hash.Hash
}

func (s *sink) Write(p []byte) (int, error) {
	n, err := s.file.Write(p)
	if err == nil {
		_, _ = s.sha.Write(p) // a hash's Write never fails
	}
	return n, err
}

// pending gathers rows until a row group is full.
type pending struct {
	records []arrow.Record
	rows    int64
	small   int // records at the end of the list that are small
	loose   int64
}

// Records below smallRecord rows are merged as they come, so that many small
// slices neither cost a pass each nor keep their large parents alive.
const (
	smallRecord  = 4096
	looseRecords = 512
	looseRows    = 16384
)

func (p *pending) add(rec arrow.Record) error {
	rec.Retain()
	p.records = append(p.records, rec)
	p.rows += rec.NumRows()
	if rec.NumRows() >= smallRecord {
		p.small, p.loose = 0, 0
		return nil
	}
	p.small++
	p.loose += rec.NumRows()
	if p.small < looseRecords && p.loose < looseRows {
		return nil
	}
	return p.merge()
}

// merge replaces the small records at the end of the list by one.
func (p *pending) merge() error {
	from := len(p.records) - p.small
	list := p.records[from:]
	columns := make([]arrow.Array, 0, list[0].NumCols())
	defer func() {
		for _, c := range columns {
			c.Release()
		}
	}()
	for i := range int(list[0].NumCols()) {
		c, err := concat(list, i)
		if err != nil {
			return fmt.Errorf("merge column %q: %w", list[0].ColumnName(i), err)
		}
		columns = append(columns, c)
	}
	merged := array.NewRecord(list[0].Schema(), columns, p.loose)
	for _, r := range list {
		r.Release()
	}
	clear(list)
	p.records = append(p.records[:from], merged)
	p.small, p.loose = 0, 0
	return nil
}

// take hands over the pending rows, the pieces of each column, and empties p.
// The caller releases the arrays.
func (p *pending) take(fields int) [][]arrow.Array {
	defer p.clear()
	columns := make([][]arrow.Array, fields)
	for i := range columns {
		columns[i] = make([]arrow.Array, 0, len(p.records))
		for _, r := range p.records {
			c := r.Column(i)
			c.Retain()
			columns[i] = append(columns[i], c)
		}
	}
	return columns
}

func (p *pending) clear() {
	for _, r := range p.records {
		r.Release()
	}
	*p = pending{}
}

// concat joins column i of the records; the caller releases the result.
func concat(records []arrow.Record, i int) (arrow.Array, error) {
	pieces := make([]arrow.Array, len(records))
	for j, r := range records {
		pieces[j] = r.Column(i)
	}
	return join(pieces)
}

// join makes one array of the pieces of a column; the caller releases it.
func join(pieces []arrow.Array) (arrow.Array, error) {
	if len(pieces) == 1 {
		pieces[0].Retain()
		return pieces[0], nil
	}
	return array.Concatenate(pieces, memory.DefaultAllocator)
}

func releaseAll(pieces []arrow.Array) {
	for _, a := range pieces {
		a.Release()
	}
}

func base64Encode(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
