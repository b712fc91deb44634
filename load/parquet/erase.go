package parquet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

var _ load.Eraser = (*Loader)(nil)

// Erase implements load.Eraser, in a commit of its own: the files that hold the
// contact are replaced by others without it, those of which nothing is left are
// removed, and so are all earlier manifests. The months are chosen by their
// files of ids; of history, the ids of every file are read.
func (l *Loader) Erase(ctx context.Context, e load.Erasure) (load.Erased, error) {
	if e.ID == "" {
		return load.Erased{}, errors.New("erase contact: no id is given")
	}
	if err := ctx.Err(); err != nil {
		return load.Erased{}, err
	}
	t, found, err := inspect(l.dir)
	if err != nil || !found {
		return load.Erased{}, err
	}
	if _, err := t.ours(l.dir, e.Lineage); err != nil {
		return load.Erased{}, err
	}
	release, err := acquire(ctx, l.dir, "", l.o.LockWait, l.o.Clock)
	if err != nil {
		return load.Erased{}, err
	}
	out, err := l.eraseLocked(ctx, e)
	return out, errors.Join(err, release())
}

func (l *Loader) eraseLocked(ctx context.Context, e load.Erasure) (load.Erased, error) {
	t, found, err := inspect(l.dir) // it may have changed before the lock was ours
	if err != nil || !found {
		return load.Erased{}, err
	}
	m, err := l.complete(t, e.Lineage)
	if err != nil {
		return load.Erased{}, err
	}
	x := &erasure{l: l, id: e.ID, desk: inPlace{}}
	if err := errors.Join(x.find(ctx, m), x.readManifests()); err != nil || e.DryRun || !x.out.Any() {
		return x.out, err
	}
	next, err := x.stage(ctx, m)
	if err != nil {
		_ = clearStaging(l.o.FS, l.dir)
		return load.Erased{}, err
	}
	if _, err := l.publish(next); err != nil {
		return load.Erased{}, err
	}
	return x.out, clearStaging(l.o.FS, l.dir)
}

// erasure removes one contact.
type erasure struct {
	l    *Loader
	id   string
	desk desk
	out  load.Erased

	rows      map[string]int64 // of the contact, by file
	manifests []string         // in place, relative to the table
}

// find looks in which files the contact is.
func (x *erasure) find(ctx context.Context, m *Manifest) error {
	x.rows = map[string]int64{}
	current, err := x.mayHold(ctx, m.Current)
	if err != nil {
		return err
	}
	if err := x.countAll(ctx, current, &x.out.Current); err != nil {
		return err
	}
	return x.countAll(ctx, m.History, &x.out.History)
}

// mayHold returns those files of current in which the contact is by their files
// of ids, and those that have none.
func (x *erasure) mayHold(ctx context.Context, files []File) (out []File, err error) {
	small := make([]string, len(files))
	for i, f := range files {
		mo, err := monthOfPath(f.Path)
		if err != nil {
			return nil, err
		}
		small[i] = idsPath(mo)
	}
	if err := x.desk.bringSmall(ctx, small); err != nil {
		return nil, err
	}
	h := shortHash(x.id)
	for i, f := range files {
		hashes, ok, err := keptIDs(at(x.l.dir, small[i]), f)
		if err != nil {
			return nil, err
		}
		if _, held := slices.BinarySearch(hashes, h); held || !ok {
			out = append(out, f)
		}
	}
	return out, nil
}

// broughtAtOnce is how many files are brought together where they stand
// elsewhere.
const broughtAtOnce = 4

// countAll counts the contact's rows in files.
func (x *erasure) countAll(ctx context.Context, files []File, total *int64) error {
	for some := range slices.Chunk(files, broughtAtOnce) {
		if err := x.desk.bring(ctx, some); err != nil {
			return err
		}
		for _, f := range some {
			if err := x.count(ctx, f, total); err != nil {
				return err
			}
		}
		if err := x.desk.drop(some); err != nil {
			return err
		}
	}
	return nil
}

// readManifests looks which of the manifests name the contact.
func (x *erasure) readManifests() error {
	numbers, err := numberedManifests(x.l.dir)
	if err != nil {
		return explain("list", filepath.Join(x.l.dir, manifestsDir), err)
	}
	for _, n := range numbers {
		rel := path.Join(manifestsDir, manifestName(n))
		data, err := os.ReadFile(at(x.l.dir, rel))
		if err != nil {
			return explain("read manifest", at(x.l.dir, rel), err)
		}
		x.readManifest(rel, data)
	}
	return nil
}

func (x *erasure) readManifest(rel string, data []byte) {
	x.manifests = append(x.manifests, rel)
	if x.named(data) {
		x.out.Names++
	}
}

// named reports whether JSON has the contact's id for a text.
func (x *erasure) named(data []byte) bool {
	name, err := json.Marshal(x.id)
	return err == nil && bytes.Contains(data, name)
}

// count counts the contact's rows in a file.
func (x *erasure) count(ctx context.Context, f File, total *int64) (err error) {
	c := &cursor{path: at(x.l.dir, f.Path), columns: []string{schemas.ColID}, want: f.Rows}
	defer func() { err = errors.Join(err, c.close()) }()
	if err := c.open(); err != nil {
		return err
	}
	var n int64
	err = c.take(ctx, f.Rows, func(rec arrow.Record) error {
		others, err := x.others(rec)
		n += rec.NumRows() - int64(len(others))
		return err
	})
	if n > 0 {
		x.rows[f.Path] = n
		x.out.Files++
		*total += n
	}
	return err
}

// others names the rows of a batch that are not the contact's.
func (x *erasure) others(rec arrow.Record) ([]int32, error) {
	found := rec.Schema().FieldIndices(schemas.ColID)
	if len(found) != 1 {
		return nil, errors.New("column id is missing")
	}
	ids, ok := rec.Column(found[0]).(*array.String)
	if !ok {
		return nil, errors.New("column id is of another type")
	}
	idx := make([]int32, 0, ids.Len())
	for i := range ids.Len() {
		if ids.Value(i) != x.id {
			idx = append(idx, int32(i)) //nolint:gosec // a batch has batchRows rows at most
		}
	}
	return idx, nil
}

// stage writes the files without the contact, and returns the manifest that
// would put them in place.
func (x *erasure) stage(ctx context.Context, m *Manifest) (*Manifest, error) {
	if err := makeDir(x.l.o.FS, filepath.Join(x.l.dir, stagingDir)); err != nil {
		return nil, err
	}
	copied := *m
	next := &copied
	next.Number, next.CreatedAt = m.Number+1, x.l.o.Clock.Now()
	next.Published, next.Removed = nil, nil
	out := x.l.newOutput(next)
	fill := newFiller(x.l.mem)
	defer fill.release()
	w := &merge{dir: x.l.dir, mem: x.l.mem, table: m.Schema, schema: out.schema, fill: fill, out: out}
	var err error
	if next.Current, err = x.rewrite(ctx, w, m.Current, next); err != nil {
		return nil, err
	}
	if next.History, err = x.rewrite(ctx, w, m.History, next); err != nil {
		return nil, err
	}
	if err := w.describeIDs(next); err != nil {
		return nil, err
	}
	next.Results = x.unnamed(m.Results)
	next.Removed = append(next.Removed, x.manifests...)
	if err := x.l.stageViews(next); err != nil {
		return nil, err
	}
	return next, flushStaging(x.l.o.FS, x.l.dir)
}

// rewrite stages those of files that hold the contact, and returns what files
// become.
func (x *erasure) rewrite(ctx context.Context, w *merge, files []File, next *Manifest) ([]File, error) {
	out := []File{}
	for _, f := range files {
		if x.rows[f.Path] > 0 {
			var err error
			if f, err = x.rewriteFile(ctx, w, f); err != nil {
				return nil, fmt.Errorf("erase contact from %s: %w", f.Path, err)
			}
			if f.Rows == 0 {
				next.Removed = append(next.Removed, f.Path)
				if mo, err := monthOfPath(f.Path); err == nil {
					next.Removed = append(next.Removed, idsPath(mo))
				}
				continue
			}
			next.Published = append(next.Published, f.Path)
		}
		out = append(out, f)
	}
	return out, nil
}

// rewriteFile stages a file of the same name without the contact; nothing
// where it has no other rows.
func (x *erasure) rewriteFile(ctx context.Context, w *merge, f File) (File, error) {
	if err := x.desk.bring(ctx, []File{f}); err != nil {
		return f, err
	}
	written, err := x.withoutContact(ctx, w, f)
	if err == nil && written.Rows > 0 {
		err = x.desk.put(ctx, f.Path)
	}
	if err != nil {
		return f, err
	}
	return written, x.desk.drop([]File{f})
}

func (x *erasure) withoutContact(ctx context.Context, w *merge, f File) (File, error) {
	if err := x.l.mustBeWritten(f); err != nil {
		return f, err
	}
	if x.rows[f.Path] == f.Rows {
		return File{Path: f.Path}, nil
	}
	to, err := w.out.create(f.Path, f)
	if err != nil {
		return f, err
	}
	defer to.w.Abort()
	if mo, err := monthOfPath(f.Path); err == nil {
		to.month, to.hashes = mo, []uint64{}
	}
	if err := w.copyRows(ctx, f, to, x.others); err != nil {
		return f, err
	}
	written, err := to.finish(ctx)
	if err == nil && written.Rows != f.Rows-x.rows[f.Path] {
		err = fmt.Errorf("%d rows are left of %d, of which %d are the contact's", written.Rows, f.Rows, x.rows[f.Path])
	}
	return written, err
}

// unnamed returns the results without the contact's id.
func (x *erasure) unnamed(results []Committed) []Committed {
	out := slices.Clone(results)
	for i := range out {
		ids := slices.DeleteFunc(slices.Clone(out[i].Result.MovedIDs), func(id string) bool { return id == x.id })
		if len(ids) == 0 {
			ids = nil
		}
		out[i].Result.MovedIDs = ids
	}
	return out
}
