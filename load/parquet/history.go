package parquet

import (
	"context"
	"errors"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/sluice-etl/sluice/internal/parquetfile"
)

// historyWriter spreads the versions of a package over files by the UTC day
// they were extracted on, a limited number of rows each.
type historyWriter struct {
	out     *output
	pkg     int64
	maxRows int64
	open    map[day]*outFile
	count   map[day]int // files begun
	done    []File
}

func newHistoryWriter(out *output, pkg, maxRows int64) *historyWriter {
	return &historyWriter{out: out, pkg: pkg, maxRows: maxRows, open: map[day]*outFile{}, count: map[day]int{}}
}

// write adds the rows of rec that idx names; extracted is the column of
// _sluice_extracted_at in rec.
func (h *historyWriter) write(ctx context.Context, mem memory.Allocator, rec arrow.Record, extracted int, idx []int32) error {
	times, ok := rec.Column(extracted).(*array.Timestamp)
	if !ok || times.NullN() > 0 {
		return errors.New("write history: rows without extraction time")
	}
	// Rows come in order of arrival, so a batch nearly always holds one day.
	for len(idx) > 0 {
		d := dayOf(int64(times.Value(int(idx[0]))))
		n := 1
		for n < len(idx) && dayOf(int64(times.Value(int(idx[n])))) == d {
			n++
		}
		if err := h.writeDay(ctx, mem, rec, d, idx[:n]); err != nil {
			return err
		}
		idx = idx[n:]
	}
	return nil
}

func (h *historyWriter) writeDay(ctx context.Context, mem memory.Allocator, rec arrow.Record, d day, idx []int32) error {
	for len(idx) > 0 {
		f := h.open[d]
		if f == nil {
			h.count[d]++
			var err error
			if f, err = h.out.create(historyPath(d, h.pkg, h.count[d])); err != nil {
				return err
			}
			h.open[d] = f
		}
		n := min(int64(len(idx)), h.maxRows-f.rows)
		rows, err := pick(mem, rec, idx[:n])
		if err != nil {
			return err
		}
		err = f.write(rows)
		rows.Release()
		if err != nil {
			return err
		}
		idx = idx[n:]
		if f.rows >= h.maxRows {
			if err := h.finish(ctx, d); err != nil {
				return err
			}
		}
	}
	return nil
}

// leastGroup is the least number of rows that a row group of history ends at
// where a month does.
const leastGroup = parquetfile.DefaultRowGroupRows / 2

// monthDone ends row groups where a month ends, if they are not small. The rows
// of a month go to current as well, and until it is written both hold the same
// memory; with a remainder of the month before, history would hold as much
// again. Whoever looks for one month finds it in fewer row groups, too.
func (h *historyWriter) monthDone() error {
	for _, f := range h.open {
		if f.w.Pending() < leastGroup {
			continue
		}
		if err := f.w.EndRowGroup(); err != nil {
			return explain("write file", f.path(), err)
		}
	}
	return nil
}

func (h *historyWriter) finish(ctx context.Context, d day) error {
	f := h.open[d]
	delete(h.open, d)
	file, err := f.finish(ctx)
	if err != nil {
		return err
	}
	h.done = append(h.done, file)
	return nil
}

// close finishes every open file.
func (h *historyWriter) close(ctx context.Context) error {
	for d := range h.open {
		if err := h.finish(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// abort drops every open file.
func (h *historyWriter) abort() {
	for d, f := range h.open {
		f.w.Abort()
		delete(h.open, d)
	}
}
