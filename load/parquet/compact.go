package parquet

import (
	"context"
	"fmt"
	"path"
	"path/filepath"
	"slices"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/parquetfile"
	"github.com/sluice-etl/sluice/schemas"
)

// Every package adds a file to the history of its day, however small: a table
// that is synced every five minutes gets 288 a day. Once a day is over, they
// are merged, as part of a commit and at most so many rows at a time.

// mergedPath is the n-th file of history that commit number merged for one day.
func mergedPath(dir string, number int64, n int) string {
	return path.Join(dir, fmt.Sprintf("merged-%08d-%04d.parquet", number, n))
}

// compact merges small files of history of days that are over, in a commit of
// its own, and returns the manifest in place. The merged files are published
// before the others go: a reader in between sees versions twice, never fails to
// see one, and the views count each once. recorded says that the commit is to
// be completed where an error is returned.
func (l *Loader) compact(ctx context.Context, m *Manifest) (next *Manifest, recorded bool, err error) {
	groups := l.smallFiles(m)
	if len(groups) == 0 {
		return m, false, nil
	}
	if next, err = l.mergeGroups(ctx, m, groups, inPlace{}); err != nil {
		return m, false, err
	}
	if err := flushStaging(l.o.FS, l.dir); err != nil {
		return m, false, err
	}
	recorded, err = l.publish(next)
	return next, recorded, err
}

// mergeGroups stages a file for each group and returns the manifest that would
// put them in the place of the group's.
func (l *Loader) mergeGroups(ctx context.Context, m *Manifest, groups [][]File, d desk) (*Manifest, error) {
	if err := makeDir(l.o.FS, filepath.Join(l.dir, stagingDir)); err != nil {
		return nil, err
	}
	copied := *m
	next := &copied
	next.Number, next.CreatedAt = m.Number+1, l.o.Clock.Now()
	next.Published, next.Removed, next.History = nil, nil, slices.Clone(m.History)
	out := l.newOutput(next)
	counts := map[string]int{} // by folder
	for _, group := range groups {
		dir := path.Dir(group[0].Path)
		counts[dir]++
		if err := d.bring(ctx, group); err != nil {
			return nil, err
		}
		merged, err := l.mergeFiles(ctx, next.Schema, out, group, mergedPath(dir, next.Number, counts[dir]))
		if err == nil {
			err = d.put(ctx, merged.Path)
		}
		if err != nil {
			return nil, fmt.Errorf("merge files of %s: %w", dir, err)
		}
		if err := d.drop(group); err != nil {
			return nil, err
		}
		next.Published = append(next.Published, merged.Path)
		for _, f := range group {
			next.Removed = append(next.Removed, f.Path)
		}
		next.History = append(next.History, merged)
	}
	next.History = slices.DeleteFunc(next.History, func(f File) bool { return slices.Contains(next.Removed, f.Path) })
	return next, nil
}

// publish records a staged commit and puts it in place. recorded says that,
// whatever stopped it, the next commit completes it.
func (l *Loader) publish(next *Manifest) (recorded bool, err error) {
	data, err := encodeManifest(next)
	if err != nil {
		return false, err
	}
	path := filepath.Join(l.dir, manifestsDir, manifestName(next.Number))
	if err := atomicfile.WriteFileOn(l.o.FS, path, data, fileMode); err != nil {
		// Only its flush may have failed: it may be there.
		return true, explain("write manifest", path, err)
	}
	return true, settle(l.o.FS, l.dir, next)
}

// newOutput writes files of the schema that m says.
func (l *Loader) newOutput(m *Manifest) *output {
	return &output{
		dir: l.dir, schema: m.Schema.Arrow(), plain: l.o.Plain, workers: l.o.Workers, fs: flushOnce{l.o.FS},
		// Others are removed for them: they are read back whatever the pipeline says.
		verify: parquetfile.VerifyFull,
		meta:   map[string]string{"sluice.pipeline": m.Pipeline, "sluice.table": m.Table},
		id:     m.Schema.Index(schemas.ColID), ids: map[month]bool{},
	}
}

// smallFiles chooses what to merge: of each day that is over, neighbouring files
// below half of the target, as many as make up one, until the work of a commit
// is found.
func (l *Loader) smallFiles(m *Manifest) (groups [][]File) {
	today := dayOf(l.o.Clock.Now().UnixMicro()).String()
	var group []File
	var rows, bytes, work int64
	end := func() {
		if len(group) > 1 && work+rows <= l.o.CompactRows {
			groups, work = append(groups, group), work+rows
		}
		group, rows, bytes = nil, 0, 0
	}
	for _, f := range slices.SortedFunc(slices.Values(m.History), byPath) {
		dir := path.Dir(f.Path)
		if len(group) > 0 && (dir != path.Dir(group[0].Path) || rows+f.Rows > l.o.CompactRows || bytes+f.Bytes > l.o.CompactBytes) {
			end()
		}
		if path.Base(dir) < dateKey+"="+today && f.Rows <= l.o.CompactRows/2 && f.Bytes <= l.o.CompactBytes/2 {
			group, rows, bytes = append(group, f), rows+f.Rows, bytes+f.Bytes
		}
	}
	end()
	return groups
}

// mergeFiles stages one file with the rows of several, in their order and in
// the schema of the table.
func (l *Loader) mergeFiles(ctx context.Context, table schemas.Table, out *output, files []File, rel string) (File, error) {
	fill := newFiller(l.mem)
	defer fill.release()
	m := &merge{dir: l.dir, mem: l.mem, table: table, schema: out.schema, fill: fill}
	to, err := out.create(rel, files...)
	if err != nil {
		return File{}, err
	}
	defer to.w.Abort()
	for _, f := range files {
		if err := l.mustBeWritten(f); err != nil {
			return File{}, err
		}
		if err := m.copyRows(ctx, f, to, allRows); err != nil {
			return File{}, fmt.Errorf("copy %s: %w", f.Path, err)
		}
	}
	return to.finish(ctx)
}

// mustBeWritten checks that a file is what was written: what is wrong in it
// would be right in one that is made from it.
func (l *Loader) mustBeWritten(f File) error {
	path := at(l.dir, f.Path)
	size, sum, err := parquetfile.Checksum(path)
	if err == nil && (size != f.Bytes || sum != f.SHA256) {
		err = fmt.Errorf("%w: %s has checksum %s, recorded was %s", parquetfile.ErrDamaged, path, sum, f.SHA256)
	}
	if err != nil {
		return unreadable(err)
	}
	return nil
}

// allRows names every row of a batch.
func allRows(rec arrow.Record) ([]int32, error) {
	idx := make([]int32, rec.NumRows())
	for i := range idx {
		idx[i] = int32(i) //nolint:gosec // a batch has batchRows rows at most
	}
	return idx, nil
}
