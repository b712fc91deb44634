package crashtest

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/load/parquet"
)

// Leftovers returns what lies below root, a directory with state and tables,
// that no later run needs: temporary files, run directories, _staging, the
// names of lock holders that are gone, and DuckDB's by-products. Nothing may
// run meanwhile, and no package may wait for a destination.
func Leftovers(root string) (found []string, err error) {
	err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, parent := e.Name(), filepath.Base(filepath.Dir(path))
		switch {
		case atomicfile.IsTemp(name), name == "_staging", parent == "runs", strings.HasSuffix(name, ".holder"),
			strings.Contains(name, ".duckdb."), strings.HasSuffix(name, ".wal"):
			found = append(found, path+" is left")
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for leftovers: %w", err)
	}
	return found, nil
}

// Orphans returns how the files of a table differ from its manifest.
func Orphans(dir string) (found []string, err error) {
	m, err := parquet.OpenManifest(dir)
	if err != nil {
		return nil, fmt.Errorf("look for orphans: %w", err)
	}
	var named []string
	for _, f := range slices.Concat(m.Current, m.History) {
		named = append(named, f.Path)
	}
	slices.Sort(named)
	var there []string
	for _, sub := range []string{"current", "history"} {
		err := filepath.WalkDir(filepath.Join(dir, sub), func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			rel, err := filepath.Rel(dir, path)
			there = append(there, filepath.ToSlash(rel))
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("look for orphans: %w", err)
		}
	}
	slices.Sort(there)
	for _, path := range Lost(named, there) {
		found = append(found, fmt.Sprintf("the manifest names %s, which is not there", path))
	}
	for _, path := range Lost(there, named) {
		found = append(found, fmt.Sprintf("no manifest names %s", path))
	}
	return found, nil
}
