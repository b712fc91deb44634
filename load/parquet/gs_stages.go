package parquet

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/gcs"
	"github.com/sluice-etl/sluice/load"
)

// stagesKey marks the object of a table of stages as Sluice's; the value is the
// version of its format.
const stagesKey = "sluice-stages"

// stagesObject names the object of the table of stages.
func (l *GSLoader) stagesObject() string {
	return l.parent() + l.o.Stages + "/" + stagesName
}

// statStages returns the object of the table of stages, whose generation is
// gcs.Absent where there is none, and refuses what Sluice did not write.
func (l *GSLoader) statStages(ctx context.Context) (gcs.Object, error) {
	name := l.stagesObject()
	url := gcs.URL(l.bucket, name)
	o, err := l.o.Client.Stat(ctx, l.bucket, name)
	switch {
	case errors.Is(err, gcs.ErrNotExist):
		return gcs.Object{Generation: int64(gcs.Absent)}, nil
	case err != nil:
		return o, err
	case o.Metadata[stagesKey] == "":
		return o, foreign(url, "the object of the table of stages is none that sluice wrote", otherStages)
	case o.Metadata[stagesKey] != stagesVersion:
		return o, &Error{Message: "the table of stages has format " + o.Metadata[stagesKey] + ", this version of sluice knows " + stagesVersion, Path: url, hint: "Use the newer sluice that wrote it."}
	}
	return o, nil
}

// findStages notes whether there is a table of stages, for the views. One that
// is not ours is left to ReplaceStages to report.
func (l *GSLoader) findStages(ctx context.Context) error {
	l.local.stages = ""
	if l.o.Stages == "" {
		return nil
	}
	o, err := l.statStages(ctx)
	if errors.Is(err, load.ErrForeign) {
		return nil
	}
	if err == nil && o.Generation != int64(gcs.Absent) {
		l.local.stages = gcs.URL(l.bucket, l.stagesObject())
	}
	return err
}

// ReplaceStages implements load.StageKeeper. The views of the table follow with
// its next commit: views.sql changes with commits alone.
func (l *GSLoader) ReplaceStages(ctx context.Context, list load.StageList) error {
	if l.o.Stages == "" {
		return load.ErrNoStages
	}
	if err := errors.Join(ctx.Err(), list.Check()); err != nil {
		return err
	}
	if err := l.stagesFree(ctx); err != nil {
		return err
	}
	leave, err := l.enter(ctx, list.RunID)
	if err != nil {
		return err
	}
	path := filepath.Join(l.local.dir, stagesName)
	if err = l.local.writeStages(ctx, path, list); err == nil {
		err = l.putStages(ctx, path)
	}
	return errors.Join(err, leave())
}

// putStages uploads the file in place of what is there, once more where another
// run was faster.
func (l *GSLoader) putStages(ctx context.Context, path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return explain("read", path, err)
	}
	for try := 1; ; try++ {
		there, err := l.statStages(ctx)
		if err != nil {
			return err
		}
		_, err = l.o.Client.Put(ctx, l.bucket, l.stagesObject(), data, gcs.If(there.Generation), map[string]string{stagesKey: stagesVersion})
		if !errors.Is(err, gcs.ErrChanged) || try == mostRestarts {
			return err
		}
	}
}

// stagesFree is the function of that name, for a bucket.
func (l *GSLoader) stagesFree(ctx context.Context) error {
	if _, err := l.statStages(ctx); err != nil {
		return err
	}
	own := l.stagesObject()
	folder := strings.TrimSuffix(own, stagesName)
	return l.o.Client.Each(ctx, l.bucket, folder, func(o gcs.Object) error {
		if rel := strings.TrimPrefix(o.Name, folder); o.Name != own && rel != "" && !atomicfile.IsTemp(rel) {
			return foreign(gcs.URL(l.bucket, folder), "the folder for the table of stages holds "+rel+", which is none of it", otherStages)
		}
		return nil
	})
}
