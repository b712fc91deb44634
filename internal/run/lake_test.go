package run_test

import (
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/sluice-etl/sluice/internal/parquetfile"
	"github.com/sluice-etl/sluice/schemas"
)

// alive returns the ids of current that are not deleted.
func (w *world) alive(name string) map[string]bool {
	w.t.Helper()
	files, err := filepath.Glob(filepath.Join(w.dir, name, "contacts", "current", "*", "*.parquet"))
	if err != nil {
		w.t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, f := range files {
		read(w.t, f, schemas.ColDeletedAt, func(id string, col arrow.Array, i int) {
			if col.IsNull(i) {
				ids[id] = true
			}
		})
	}
	return ids
}

// readTimes returns updated_at by id.
func readTimes(tb testing.TB, path string) map[string]int64 {
	tb.Helper()
	times := map[string]int64{}
	read(tb, path, schemas.ColUpdatedAt, func(id string, col arrow.Array, i int) {
		times[id] = int64(col.(*array.Timestamp).Value(i))
	})
	return times
}

// read calls each for every row of a file, with one of its columns.
func read(tb testing.TB, path, column string, each func(id string, col arrow.Array, i int)) {
	tb.Helper()
	r, err := parquetfile.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	records, err := r.Read(parquetfile.ReadOptions{Columns: []string{schemas.ColID, column}})
	if err != nil {
		tb.Fatal(err)
	}
	for {
		rec, err := records.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			tb.Fatal(err)
		}
		ids := rec.Column(0).(*array.String)
		for i := range int(rec.NumRows()) {
			each(strings.Clone(ids.Value(i)), rec.Column(1), i)
		}
		rec.Release()
	}
}
