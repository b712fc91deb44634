package parquet

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
)

// desk is where files of a table are worked on, for those that stand elsewhere.
// Its methods are called from one goroutine and block until done or ctx ends.
type desk interface {
	// bring sees to it that files are there, as they were written.
	bring(ctx context.Context, files []File) error
	// bringSmall does so for those of the other files that exist.
	bringSmall(ctx context.Context, rels []string) error
	// put takes a staged file that is finished.
	put(ctx context.Context, rel string) error
	// drop says that files are not needed for now.
	drop(files []File) error
}

// inPlace is the desk of a table whose files are there.
type inPlace struct{}

var _ desk = inPlace{}

func (inPlace) bring(context.Context, []File) error        { return nil }
func (inPlace) bringSmall(context.Context, []string) error { return nil }
func (inPlace) put(context.Context, string) error          { return nil }
func (inPlace) drop([]File) error                          { return nil }

// shelf is where the files of a table are that verification looks at.
type shelf interface {
	// bring sees to it that a file is below the loader's folder, as it is, if it
	// exists; drop says that it is not needed for now.
	bring(ctx context.Context, rel string) error
	drop(rel string) error
	// each calls f for every file below a folder of the table.
	each(ctx context.Context, top string, f func(rel string)) error
}

// onDisk is the shelf of a table whose files are there.
type onDisk struct{ dir string }

var _ shelf = onDisk{}

func (onDisk) bring(context.Context, string) error { return nil }
func (onDisk) drop(string) error                   { return nil }

func (s onDisk) each(_ context.Context, top string, f func(rel string)) error {
	err := filepath.WalkDir(filepath.Join(s.dir, top), func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() || d.Name() == ".DS_Store" {
			return err
		}
		rel, err := filepath.Rel(s.dir, path)
		if err == nil {
			f(filepath.ToSlash(rel))
		}
		return err
	})
	return explain("list", filepath.Join(s.dir, top), err)
}
