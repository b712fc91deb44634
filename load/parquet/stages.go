package parquet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/parquetfile"
	"github.com/sluice-etl/sluice/load"
)

var (
	_ load.StageKeeper = (*Loader)(nil)
	_ load.StageKeeper = (*GSLoader)(nil)
)

// stagesName is the one file of a table of stages.
const stagesName = "stages.parquet"

// metaStages marks such a file as Sluice's, in the file's metadata; the value is
// the version of its format.
const (
	metaStages    = "sluice.stages"
	stagesVersion = "1"
)

// StagesFile returns the file of the table of stages of a destination's
// directory (absolute), empty where there is none.
func StagesFile(root, table string) string {
	path := filepath.Join(root, table, stagesName)
	if info, err := os.Stat(path); table == "" || err != nil || !info.Mode().IsRegular() {
		return ""
	}
	return path
}

// viewsFor returns the options of the table's views, as m describes it.
func (l *Loader) viewsFor(m *Manifest) ViewsOptions {
	o := ViewsFor(l.dir, m)
	o.Root, o.Timezone, o.Stages = l.root, l.o.Timezone, l.stages
	if l.stages == "" && l.root == l.dir {
		o.Stages = StagesFile(filepath.Dir(l.dir), l.o.Stages)
	}
	return o
}

// ReplaceStages implements load.StageKeeper.
func (l *Loader) ReplaceStages(ctx context.Context, list load.StageList) error {
	if l.o.Stages == "" {
		return load.ErrNoStages
	}
	if err := errors.Join(ctx.Err(), list.Check()); err != nil {
		return err
	}
	dir := filepath.Join(filepath.Dir(l.dir), l.o.Stages)
	path := filepath.Join(dir, stagesName)
	if err := stagesFree(dir); err != nil {
		return err
	}
	if err := atomicfile.MakeDirs(l.o.FS, dir, dirMode); err != nil {
		return explain("create folder", dir, err)
	}
	// Another pipeline of the source may be writing it too.
	release, err := acquire(ctx, dir, list.RunID, l.o.LockWait, l.o.Clock)
	if err != nil {
		return err
	}
	err = explain("clean", dir, atomicfile.RemoveTempsOn(l.o.FS, dir)) // of what a killed process left
	if err == nil {
		err = l.writeStages(ctx, path, list)
	}
	if err := errors.Join(err, release()); err != nil {
		return err
	}
	if err := l.refreshViews(ctx, list.RunID); err != nil {
		return err
	}
	return l.writeUnion()
}

// stagesFree refuses a folder with anything but a table of stages.
func stagesFree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return explain("list", dir, err)
	}
	for _, e := range entries {
		switch {
		case e.Name() == stagesName:
			if err := stagesOurs(filepath.Join(dir, stagesName)); err != nil {
				return err
			}
		case e.Name() != lockName && !atomicfile.IsTemp(e.Name()):
			return foreign(dir, "the folder for the table of stages holds "+e.Name()+", which is none of it", otherStages)
		}
	}
	return nil
}

const otherStages = "Give the pipeline another name for it (stages: NAME), write stages: off, or move it away."

// stagesOurs refuses a file that Sluice did not write.
func stagesOurs(path string) error {
	r, err := parquetfile.Open(path)
	if err != nil {
		var sys *fs.PathError
		if errors.As(err, &sys) {
			return explain("read", path, err)
		}
		return foreign(path, "the file of the table of stages is no Parquet file", otherStages)
	}
	version, ours := r.Metadata(metaStages)
	if err := r.Close(); err != nil {
		return explain("read", path, err)
	}
	if !ours {
		return foreign(path, "the file of the table of stages is none that sluice wrote", otherStages)
	}
	if version != stagesVersion {
		return &Error{Message: fmt.Sprintf("the table of stages has format %s, this version of sluice knows %s", version, stagesVersion), Path: path, hint: "Use the newer sluice that wrote it."}
	}
	return nil
}

// writeStages publishes the file, read back before.
func (l *Loader) writeStages(ctx context.Context, path string, list load.StageList) error {
	rec := list.Record(l.mem)
	defer rec.Release()
	w, err := parquetfile.Create(path, parquetfile.Options{
		Schema: rec.Schema(), Plain: l.o.Plain, FS: l.o.FS, Perm: fileMode, Metadata: map[string]string{metaStages: stagesVersion},
	})
	if err != nil {
		return explain("create file", path, err)
	}
	defer w.Abort()
	if rec.NumRows() > 0 {
		if err := w.Write(rec); err != nil {
			return explain("write file", path, err)
		}
	}
	stats, err := w.Finish()
	if err != nil {
		return explain("write file", path, err)
	}
	if err := parquetfile.Verify(ctx, w.TempPath(), stats, parquetfile.VerifyFull); err != nil {
		return fmt.Errorf("verify %s before publishing it: %w", path, err)
	}
	return explain("write file", path, w.Publish())
}

// refreshViews writes views.sql where it does not say what it should. A commit
// that is recorded and not in place wholly brings its own, and the next call
// corrects that.
func (l *Loader) refreshViews(ctx context.Context, runID string) (err error) {
	if _, found, err := inspect(l.dir); err != nil || !found {
		return err
	}
	release, err := acquire(ctx, l.dir, runID, l.o.LockWait, l.o.Clock)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	t, _, err := inspect(l.dir)
	if err != nil || t.latest == nil || t.pending != nil || len(t.latest.Schema.Columns) == 0 {
		return err
	}
	if err := atomicfile.RemoveTempsOn(l.o.FS, l.dir); err != nil { // of what a killed process left
		return explain("clean", l.dir, err)
	}
	path := filepath.Join(l.dir, viewsName)
	sql := []byte(Views(l.viewsFor(t.latest)))
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return explain("read", path, err)
	}
	if bytes.Equal(old, sql) {
		return nil
	}
	return explain("write file", path, atomicfile.WriteFileOn(l.o.FS, path, sql, fileMode))
}

// withoutStages are the views as they were written before there was a table of
// stages: they are sound, and the next commit replaces them.
func withoutStages(o ViewsOptions) []byte {
	o.Stages = ""
	return []byte(Views(o))
}
