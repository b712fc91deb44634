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

	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/load"
)

var _ load.Destroyer = (*Loader)(nil)

// viewsHead is how every views.sql of ours begins.
const viewsHead = "-- Views over "

// goingError is what is left of a table whose destruction was stopped.
func goingError(place string) error {
	return &Error{
		Message: "the table is being destroyed: what is left there is no table any more", Path: place,
		hint: "Its destruction was stopped. Run `sluice destroy` again: it removes the rest.", going: true,
	}
}

// Destroy implements load.Destroyer. First _destroying.json is put into the
// folder, a manifest of all that goes: while it stands, nothing takes what is
// there for a table. Then the files go that it names, and those whose names only
// Sluice gives; then the manifests, and at last that file. Whatever else is in
// the folder stays, and then the folder does too.
func (l *Loader) Destroy(ctx context.Context, d load.Destruction) error {
	if err := errors.Join(ctx.Err(), checkDestruction(d)); err != nil {
		return err
	}
	if err := l.destroyTable(ctx, d.Lineage); err != nil {
		return err
	}
	if err := l.writeUnion(); err != nil {
		return err
	}
	if d.Stages && l.o.Stages != "" {
		return l.dropStages(ctx)
	}
	return nil
}

func checkDestruction(d load.Destruction) error {
	if d.Lineage == "" {
		return errors.New("destroy table: no lineage is given")
	}
	return nil
}

func (l *Loader) destroyTable(ctx context.Context, lineage string) error {
	m, err := l.going(lineage)
	if errors.Is(err, errVacant) {
		return l.dropFolder()
	}
	if err != nil || m == nil {
		return err
	}
	release, err := acquire(ctx, l.dir, "", l.o.LockWait, l.o.Clock)
	if err != nil {
		return err
	}
	if err := errors.Join(l.destroyLocked(lineage), release()); err != nil {
		return err
	}
	// The lock's file cannot go everywhere while it is held. Nobody takes it
	// meanwhile and finds a table.
	return l.dropFolder()
}

// going returns the manifest of all that is to go; nil where there is nothing
// of ours, and errVacant where there may be leftovers.
func (l *Loader) going(lineage string) (*Manifest, error) {
	marked, err := readManifest(filepath.Join(l.dir, goingName))
	if err == nil {
		return table{latest: marked}.ours(l.dir, lineage)
	}
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errNotDir) {
		return nil, explain("read", l.dir, err)
	}
	t, found, err := inspect(l.dir)
	switch {
	case errors.Is(err, load.ErrForeign) && t.latest == nil && t.pending == nil:
		return nil, nil // what somebody else wrote stays
	case err != nil:
		return nil, err
	case !found:
		return nil, errVacant
	}
	m, err := t.ours(l.dir, lineage)
	if err != nil {
		return nil, err
	}
	return goingManifest(m, t.latest), nil
}

// goingManifest names the files of the last commit, and of the one in place.
func goingManifest(m, latest *Manifest) *Manifest {
	out := *m
	out.Published, out.Removed, out.Results = nil, nil, []Committed{}
	if latest != nil && latest != m {
		for _, f := range []struct {
			to   *[]File
			more []File
		}{{&out.Current, latest.Current}, {&out.History, latest.History}} {
			*f.to = slices.Concat(*f.to, f.more)
			slices.SortFunc(*f.to, byPath)
			*f.to = slices.CompactFunc(*f.to, func(a, b File) bool { return a.Path == b.Path })
		}
	}
	return &out
}

func (l *Loader) destroyLocked(lineage string) error {
	m, err := l.going(lineage) // it may have changed before the lock was ours
	if err != nil || m == nil {
		if errors.Is(err, errVacant) {
			return nil
		}
		return err
	}
	if err := explain("clean", l.dir, atomicfile.RemoveTempsOn(l.o.FS, l.dir)); err != nil {
		return err
	}
	marker := filepath.Join(l.dir, goingName)
	if _, err := os.Lstat(marker); errors.Is(err, fs.ErrNotExist) {
		data, err := encodeManifest(m)
		if err != nil {
			return err
		}
		if err := atomicfile.WriteFileOn(l.o.FS, marker, data, fileMode); err != nil {
			return explain("write manifest", marker, err)
		}
	}
	if err := clearStaging(l.o.FS, l.dir); err != nil {
		return err
	}
	files, err := l.ownFiles(m)
	if err != nil {
		return err
	}
	if err := removeFiles(l.o.FS, l.dir, files); err != nil {
		return err
	}
	for _, dir := range []string{currentDir, historyDir, idsDir, runsDir} {
		if err := l.dropEmpty(filepath.Join(l.dir, dir)); err != nil {
			return err
		}
	}
	return l.dropManifests()
}

// ownFiles names the files of the table but for manifests: those that m names,
// and those of the kinds that only Sluice has.
func (l *Loader) ownFiles(m *Manifest) (rels []string, err error) {
	for _, f := range slices.Concat(m.Current, m.History) {
		// Those whose folder is gone went when the destruction began.
		if _, err := os.Stat(filepath.Dir(at(l.dir, f.Path))); err == nil {
			rels = append(rels, f.Path)
		}
	}
	for dir, own := range map[string]func(name string) bool{
		idsDir:  isIDs,
		runsDir: isRunFile,
	} {
		entries, err := os.ReadDir(filepath.Join(l.dir, dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, explain("list", filepath.Join(l.dir, dir), err)
		}
		for _, e := range entries {
			if e.Type().IsRegular() && (own(e.Name()) || atomicfile.IsTemp(e.Name())) {
				rels = append(rels, path.Join(dir, e.Name()))
			}
		}
	}
	sql, err := os.ReadFile(filepath.Join(l.dir, viewsName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, explain("read", filepath.Join(l.dir, viewsName), err)
	}
	if err == nil && isViews(string(sql)) {
		rels = append(rels, viewsName)
	}
	return rels, nil
}

// isIDs reports whether a file of _ids has a name that idsPath gives.
func isIDs(name string) bool {
	mo, err := monthOfPath(path.Join(currentDir, strings.TrimSuffix(name, path.Ext(name)), currentFile))
	return err == nil && path.Base(idsPath(mo)) == name
}

// isViews reports whether a views.sql is ours, perhaps with changes.
func isViews(text string) bool { return strings.HasPrefix(text, viewsHead) }

// dropManifests removes the manifests and their folder.
func (l *Loader) dropManifests() error {
	dir := filepath.Join(l.dir, manifestsDir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return explain("list", dir, err)
	}
	var rels []string
	for _, e := range entries {
		if _, numbered := manifestNumber(e.Name()); numbered || e.Name() == latestName || atomicfile.IsTemp(e.Name()) {
			rels = append(rels, path.Join(manifestsDir, e.Name()))
		}
	}
	if err := removeFiles(l.o.FS, l.dir, rels); err != nil {
		return err
	}
	return l.dropEmpty(dir)
}

// dropEmpty removes a folder if it is there and empty.
func (l *Loader) dropEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) > 0 {
		return nil
	}
	if err != nil {
		return explain("list", dir, err)
	}
	if info, err := os.Lstat(dir); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return nil // it leads to a folder of somebody's choice
	}
	if err := l.o.FS.Remove(dir); err != nil {
		return explain("remove folder", dir, err)
	}
	return explain("flush folder", filepath.Dir(dir), l.o.FS.SyncDir(filepath.Dir(dir)))
}

// dropFolder removes the lock, the mark of the destruction and, if nothing else
// is in it, the folder of a table of which nothing else is left.
func (l *Loader) dropFolder() error {
	if info, err := os.Stat(l.dir); errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return nil
	}
	if err := l.dropManifests(); err != nil { // of a first commit that was stopped
		return err
	}
	for _, name := range []string{lockName, goingName} {
		path := filepath.Join(l.dir, name)
		if err := l.o.FS.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return explain("remove file", path, err)
		}
	}
	if err := l.o.FS.SyncDir(l.dir); err != nil {
		return explain("flush folder", l.dir, err)
	}
	return l.dropEmpty(l.dir)
}

// dropStages removes the table of stages, if it is ours.
func (l *Loader) dropStages(ctx context.Context) error {
	dir := filepath.Join(filepath.Dir(l.dir), l.o.Stages)
	path := filepath.Join(dir, stagesName)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	err := stagesOurs(path)
	if errors.Is(err, load.ErrForeign) {
		return nil // what somebody else wrote stays
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	there := err == nil
	if !there {
		if err := stagesFree(dir); errors.Is(err, load.ErrForeign) {
			return nil
		} else if err != nil {
			return err
		}
	}
	release, err := acquire(ctx, dir, "", l.o.LockWait, l.o.Clock)
	if err != nil {
		return err
	}
	err = explain("clean", dir, atomicfile.RemoveTempsOn(l.o.FS, dir))
	if err == nil && there {
		err = explain("remove file", path, l.o.FS.Remove(path))
	}
	if err := errors.Join(err, release()); err != nil {
		return err
	}
	lock := filepath.Join(dir, lockName)
	if err := l.o.FS.Remove(lock); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return explain("remove file", lock, err)
	}
	if err := l.o.FS.SyncDir(dir); err != nil {
		return explain("flush folder", dir, err)
	}
	return l.dropEmpty(dir)
}
