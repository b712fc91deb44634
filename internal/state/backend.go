package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/sluice-etl/sluice/internal/atomicfile"
)

// version tells one content of a stored document from those before and after
// it: an object's generation. 0 is a document that does not exist; files, which
// a kernel's lock guards, have no other.
type version int64

// errMoved means that a document is no longer of the version that was to be
// replaced.
var errMoved = errors.New("the document was replaced meanwhile")

// backend keeps documents by name, each whole or not at all. Its methods block
// until done or ctx ends and may be called from any goroutine.
type backend interface {
	// load returns a document and its version; fs.ErrNotExist where there is
	// none.
	load(ctx context.Context, name string) ([]byte, version, error)
	// save replaces the document of version v, or fails with errMoved where it
	// is of another one by now. The caller holds the store's lock of it, which
	// keeps out the other processes of this machine. After any other error the
	// document may be the old one or the new one, and is whole.
	save(ctx context.Context, name string, data []byte, v version) error
	// remove deletes the document of version v, under the same lock and with
	// the same errors; one that is not there counts as deleted.
	remove(ctx context.Context, name string, v version) error
	// list returns the names that begin with prefix, in no order.
	list(ctx context.Context, prefix string) ([]string, error)
}

// files is the backend on the local disk: one file a document.
type files struct {
	dir  string
	fsys atomicfile.FS
}

var _ backend = (*files)(nil)

func (f *files) path(name string) string { return filepath.Join(f.dir, filepath.FromSlash(name)) }

func (f *files) load(_ context.Context, name string) ([]byte, version, error) {
	data, err := readBounded(f.path(name))
	return data, 0, err
}

// save relies on the lock: nobody else has replaced the file since it was
// loaded under it.
func (f *files) save(_ context.Context, name string, data []byte, _ version) error {
	path := f.path(name)
	dir := filepath.Dir(path)
	if err := atomicfile.MakeDirs(f.fsys, dir, dirPerm); err != nil {
		return &AccessError{Op: "create state directory", Path: dir, Err: err}
	}
	removeTemps(path)
	if err := atomicfile.WriteFileOn(f.fsys, path, data, filePerm); err != nil {
		return &AccessError{Op: "write state", Path: path, Err: err}
	}
	return nil
}

func (f *files) remove(_ context.Context, name string, _ version) error {
	path := f.path(name)
	err := f.fsys.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = f.fsys.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return &AccessError{Op: "remove state", Path: path, Err: err}
	}
	return nil
}

func (f *files) list(_ context.Context, prefix string) ([]string, error) {
	below, _ := path.Split(prefix)
	dir := f.path(below)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &AccessError{Op: "list state directory", Path: dir, Err: err}
	}
	var names []string
	for _, e := range entries {
		if name := below + e.Name(); strings.HasPrefix(name, prefix) && !atomicfile.IsTemp(e.Name()) {
			names = append(names, name)
		}
	}
	return names, nil
}

// removeTemps deletes what killed writers of one file left. The caller holds
// the lock that keeps other writers of it out. What cannot be deleted stays:
// it harms nobody.
func removeTemps(path string) {
	dir, base := filepath.Split(path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if atomicfile.IsTemp(e.Name()) && strings.HasSuffix(e.Name(), "-"+base) {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// readBounded reads a document, refusing what is no regular file or too large.
func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err != nil {
		return nil, &AccessError{Op: "read state", Path: path, Err: err}
	}
	if !info.Mode().IsRegular() {
		return nil, &CorruptError{Path: path, Reason: "it is not a regular file"}
	}
	if info.Size() > maxDocument {
		return nil, tooLarge(path, info.Size())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, &AccessError{Op: "read state", Path: path, Err: err}
	}
	return data, nil
}

func tooLarge(path string, size int64) error {
	return &CorruptError{Path: path, Reason: fmt.Sprintf("it has %d bytes, more than any state (%d)", size, maxDocument)}
}
