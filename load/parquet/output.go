package parquet

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/parquetfile"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

// output writes the Parquet files of one commit into the staging directory.
type output struct {
	hashKey string // id of the package's; empty for none

	dir     string // the table's
	schema  *arrow.Schema
	plain   bool
	workers int
	fs      atomicfile.FS
	verify  parquetfile.Mode
	meta    map[string]string
	id      int            // column of the ids
	ids     map[month]bool // whose file of ids is staged
}

// outFile is a Parquet file under construction.
type outFile struct {
	out  *output
	rel  string
	w    *parquetfile.Writer
	rows int64
	// Of a file of current: its month, and hashes of the ids in it, which are
	// staged beside it. nil: of history.
	month  month
	hashes []uint64

	hashKeys []string // as File has them
}

// create begins a file, into which rows of other files go as well.
func (o *output) create(rel string, from ...File) (*outFile, error) {
	hashKeys := hashKeysOf(o.hashKey, from)
	path := filepath.Join(o.dir, stagingDir, stagedName(rel))
	w, err := parquetfile.Create(path, parquetfile.Options{
		Schema: o.schema, Plain: o.plain, Workers: o.workers, FS: o.fs, Perm: fileMode, Metadata: withHashKeys(o.meta, hashKeys),
	})
	if err != nil {
		return nil, explain("create file", path, err)
	}
	return &outFile{out: o, rel: rel, w: w, hashKeys: hashKeys}, nil
}

// path is where the file will stand.
func (f *outFile) path() string { return filepath.Join(f.out.dir, f.rel) }

func (f *outFile) write(rec arrow.Record) error {
	f.rows += rec.NumRows()
	if f.hashes != nil {
		var err error
		if f.hashes, err = appendHashes(f.hashes, rec.Column(f.out.id)); err != nil {
			return fmt.Errorf("write file %s: %w", f.rel, err)
		}
	}
	if err := f.w.Write(rec); err != nil {
		return explain("write file", f.path(), err)
	}
	return nil
}

// finish completes the file, reads it back as asked and stages it.
func (f *outFile) finish(ctx context.Context) (File, error) {
	defer f.w.Abort()
	stats, err := f.w.Finish()
	if err != nil {
		return File{}, explain("write file", f.path(), err)
	}
	if stats.Rows != f.rows {
		return File{}, fmt.Errorf("write %s: %d rows written, %d given", f.rel, stats.Rows, f.rows)
	}
	if err := parquetfile.Verify(ctx, f.w.TempPath(), stats, f.out.verify); err != nil {
		return File{}, fmt.Errorf("verify %s before publishing it: %w", f.rel, err)
	}
	if err := f.w.Publish(); err != nil {
		return File{}, explain("write file", f.path(), err)
	}
	if f.hashes != nil {
		if err := f.out.stageIDs(f.month, stats.SHA256, f.hashes); err != nil {
			return File{}, err
		}
	}
	return File{
		Path: f.rel, Rows: stats.Rows, Bytes: stats.Bytes, SHA256: stats.SHA256, HashKeys: f.hashKeys,
		CreatedAt:   rangeOf(stats, schemas.ColCreatedAt),
		UpdatedAt:   rangeOf(stats, schemas.ColUpdatedAt),
		ExtractedAt: rangeOf(stats, schemas.ColExtractedAt),
	}, nil
}

func rangeOf(s parquetfile.Stats, column string) *Range {
	c, ok := s.Column(column)
	if !ok || !c.HasRange {
		return nil
	}
	from, err1 := time.Parse(time.RFC3339Nano, c.Min)
	to, err2 := time.Parse(time.RFC3339Nano, c.Max)
	if err1 != nil || err2 != nil {
		return nil // a year beyond 9999; the ranges are a help, not a record
	}
	return &Range{Min: from, Max: to}
}

func verifyMode(v load.Verify) (parquetfile.Mode, error) {
	switch v {
	case load.VerifyFull, "":
		return parquetfile.VerifyFull, nil
	case load.VerifySample:
		return parquetfile.VerifySample, nil
	case load.VerifyOff:
		return parquetfile.VerifyOff, nil
	default:
		return "", fmt.Errorf("check package: verification level %q is none of full, sample, off", v)
	}
}
