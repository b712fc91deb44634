package parquet

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/internal/gcs"
)

// archiveRuns packs the coverage records of the oldest runs, as the local
// loader does and by its code: they are fetched, packed, and removed once the
// archive is uploaded. An archive has a number of its own and is never replaced
// or removed, so that of two who pack at once one is refused.
func (l *GSLoader) archiveRuns(ctx context.Context, m *Manifest) error {
	loose, archives, err := l.runRecords(ctx, m)
	if err != nil || len(loose) < l.o.ArchiveRuns {
		return err
	}
	if err := l.wipe(); err != nil {
		return err
	}
	for _, dir := range []string{runsDir, stagingDir} {
		if err := os.MkdirAll(at(l.local.dir, dir), dirMode); err != nil {
			return explain("create folder", at(l.local.dir, dir), err)
		}
	}
	loose = loose[:l.o.ArchiveRuns]
	if err := l.fetchRecords(ctx, slices.Concat(loose, archives[max(0, len(archives)-1):])); err != nil {
		return err
	}
	if err := l.local.archiveRuns(m); err != nil {
		return err
	}
	if err := l.uploadArchive(ctx, archives); err != nil {
		return err
	}
	// What the local side has removed is in an archive.
	return atOnce(ctx, l.o.Transfers, loose, func(ctx context.Context, o gcs.Object) error {
		if _, err := os.Stat(l.recordPath(o)); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return l.o.Client.Delete(ctx, l.bucket, o.Name, gcs.If(o.Generation))
	})
}

// runRecords lists the records that may be packed and the archives, oldest
// first.
func (l *GSLoader) runRecords(ctx context.Context, m *Manifest) (loose, archives []gcs.Object, err error) {
	keep := make(map[string]bool, len(m.Results))
	for _, c := range m.Results {
		keep[c.RunID+runSuffix] = true
	}
	err = l.o.Client.Each(ctx, l.bucket, l.name(runsDir)+"/", func(o gcs.Object) error {
		name := path.Base(o.Name)
		if _, ok := archiveNumber(name); ok {
			archives = append(archives, o)
		} else if strings.HasSuffix(name, runSuffix) && !keep[name] {
			loose = append(loose, o)
		}
		return nil
	})
	return loose, archives, err
}

// recordPath is the local place of an object of _sluice_runs.
func (l *GSLoader) recordPath(o gcs.Object) string {
	return filepath.Join(l.local.dir, runsDir, path.Base(o.Name))
}

func (l *GSLoader) fetchRecords(ctx context.Context, records []gcs.Object) error {
	return atOnce(ctx, l.o.Transfers, records, func(ctx context.Context, o gcs.Object) error {
		data, _, err := l.o.Client.Get(ctx, l.bucket, o.Name)
		if err != nil {
			return err
		}
		return explain("write file", l.recordPath(o), os.WriteFile(l.recordPath(o), data, fileMode))
	})
}

// uploadArchive uploads the archive that was made, if one was.
func (l *GSLoader) uploadArchive(ctx context.Context, archives []gcs.Object) error {
	newest := int64(0)
	if len(archives) > 0 {
		newest, _ = archiveNumber(path.Base(archives[len(archives)-1].Name))
	}
	name := archiveName(newest + 1)
	from := filepath.Join(l.local.dir, runsDir, name)
	if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	_, err := l.o.Client.Upload(ctx, l.bucket, l.name(path.Join(runsDir, name)), from, gcs.Absent, nil)
	return err
}
