package parquet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/sluice-etl/sluice/internal/atomicfile"
)

// makeDir creates a directory below the table and makes its entry durable.
func makeDir(fsys atomicfile.FS, dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return explain("create folder", dir, err)
	}
	return explain("flush folder", filepath.Dir(dir), fsys.SyncDir(filepath.Dir(dir)))
}

// clearStaging drops what an interrupted commit staged. The caller holds the
// lock and has rolled a pending manifest forward.
func clearStaging(fsys atomicfile.FS, dir string) error {
	staging := filepath.Join(dir, stagingDir)
	entries, err := os.ReadDir(staging)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return explain("list", staging, err)
	}
	for _, e := range entries {
		if err := fsys.Remove(filepath.Join(staging, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return explain("remove leftover", filepath.Join(staging, e.Name()), err)
		}
	}
	return explain("remove folder", staging, fsys.Remove(staging))
}

// flushOnce publishes into the staging directory without flushing it after
// every file: nothing there counts before the numbered manifest, so one flush
// before that one will do. A table of forty months saves forty of them.
type flushOnce struct{ atomicfile.FS }

// SyncDir does nothing; see flushStaging.
func (flushOnce) SyncDir(string) error { return nil }

// flushStaging makes the names of all staged files durable.
func flushStaging(fsys atomicfile.FS, dir string) error {
	staging := filepath.Join(dir, stagingDir)
	return explain("flush folder", staging, fsys.SyncDir(staging))
}

// settle makes m's table the one in place: it moves what is still staged,
// makes the moves durable, removes what m takes away and repoints latest.json.
// It may be stopped anywhere and called again.
func settle(fsys atomicfile.FS, dir string, m *Manifest) error {
	sizes := map[string]int64{}
	for _, files := range [][]File{m.Current, m.History} {
		for _, f := range files {
			sizes[f.Path] = f.Bytes
		}
	}
	if err := makeFolders(fsys, dir, m.Published); err != nil {
		return err
	}
	touched := map[string]bool{}
	for _, rel := range m.Published {
		from, to := filepath.Join(dir, stagingDir, stagedName(rel)), at(dir, rel)
		if _, err := os.Stat(from); err == nil {
			if err := fsys.Rename(from, to); err != nil {
				return explain("publish", to, err)
			}
		} else if err := mustStand(to, rel, sizes, m); err != nil {
			return err
		}
		for d := path.Dir(rel); d != "."; d = path.Dir(d) {
			touched[at(dir, d)] = true
		}
	}
	if len(m.Published) > 0 {
		touched[dir] = true
	}
	if err := syncFolders(fsys, touched); err != nil {
		return err
	}
	if err := removeFiles(fsys, dir, m.Removed); err != nil {
		return err
	}
	data, err := encodeManifest(m)
	if err != nil {
		return err
	}
	latest := filepath.Join(dir, manifestsDir, latestName)
	return explain("write manifest", latest, atomicfile.WriteFileOn(fsys, latest, data, fileMode))
}

// makeFolders makes the folders that files are to be moved to, and makes them
// durable before anything is: a file that was moved to a folder which a power
// cut takes away would be in neither place. Of many new folders, each one that
// they stand in is flushed once.
func makeFolders(fsys atomicfile.FS, dir string, rels []string) error {
	grown := map[string]bool{}
	for _, rel := range rels {
		for d := path.Dir(rel); d != "."; d = path.Dir(d) {
			if _, err := os.Stat(at(dir, d)); errors.Is(err, fs.ErrNotExist) {
				grown[at(dir, path.Dir(d))] = true
			}
		}
		if to := filepath.Dir(at(dir, rel)); len(grown) > 0 {
			if err := os.MkdirAll(to, dirMode); err != nil {
				return explain("create folder", to, err)
			}
		}
	}
	return syncFolders(fsys, grown)
}

// removeFiles removes files of the table, and their folders where nothing else
// is in them.
func removeFiles(fsys atomicfile.FS, dir string, rels []string) error {
	folders := map[string]bool{}
	for _, rel := range rels {
		if err := fsys.Remove(at(dir, rel)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return explain("remove file", at(dir, rel), err)
		}
		folders[path.Dir(rel)] = true
	}
	for rel := range folders {
		d := at(dir, rel)
		entries, err := os.ReadDir(d)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			d = filepath.Dir(d)
		case err != nil:
			return explain("list", d, err)
		case len(entries) == 0:
			if err := fsys.Remove(d); err != nil {
				return explain("remove folder", d, err)
			}
			d = filepath.Dir(d)
		}
		if err := fsys.SyncDir(d); err != nil {
			return explain("flush folder", d, err)
		}
	}
	return nil
}

// mustStand checks that a file that is no longer staged was moved before.
func mustStand(to, rel string, sizes map[string]int64, m *Manifest) error {
	info, err := os.Stat(to)
	want, sized := sizes[rel]
	if err == nil && (!sized || info.Size() == want) {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("it has %d bytes, the manifest says %d", info.Size(), want)
	}
	return &Error{
		Message: fmt.Sprintf("commit %d of package %d was interrupted and cannot be completed: a file is neither staged nor in place", m.Number, m.Package),
		Path:    to, Err: err,
		hint: "Something else removed or changed files of this table. Restore its folder from a backup, or move it away and run with --full.",
	}
}

// pruneManifests drops numbered manifests that are older than the last ones.
// Nothing depends on them, so a failure is left to the next commit.
func pruneManifests(fsys atomicfile.FS, dir string, latest int64) {
	numbers, err := numberedManifests(dir)
	if err != nil {
		return
	}
	for _, n := range numbers {
		if n <= latest-keepManifests {
			_ = fsys.Remove(filepath.Join(dir, manifestsDir, manifestName(n)))
		}
	}
}
