package atomicfile

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// FS is what publishing a file asks of a filesystem. The zero OS is the real
// one; package faultfs fails on demand, so that a test can stop a writer at
// every operation and every byte.
//
// All calls block until the system has done them. Each may be called from any
// goroutine.
type FS interface {
	// OpenTemp creates a new file beside path, under a name IsTemp knows, with
	// the permissions perm before umask.
	OpenTemp(path string, perm fs.FileMode) (Temp, error)
	// Rename puts oldpath in the place of newpath, which may exist.
	Rename(oldpath, newpath string) error
	// Remove deletes a file.
	Remove(path string) error
	// SyncDir makes the renames and removals done in dir durable.
	SyncDir(dir string) error
}

// Disk is an FS that also keeps what is not published whole: logs, which grow
// in place, and folders that are dropped with all that is in them.
type Disk interface {
	FS
	// OpenLog opens path for writing at its end. With create it is a new file
	// of the permissions perm before umask, and one that exists an error.
	OpenLog(path string, create bool, perm fs.FileMode) (Log, error)
	// RemoveAll deletes path and all below it; none there is no error.
	RemoveAll(path string) error
}

// Log is a file that grows at its end. One goroutine at a time uses it.
type Log interface {
	io.WriteCloser
	// Truncate cuts off what stands past size.
	Truncate(size int64) error
	// Sync makes the content durable.
	Sync() error
}

// Temp is a file under construction. One goroutine at a time uses it.
type Temp interface {
	io.WriteCloser
	// Name returns the path the file was created under.
	Name() string
	// Sync makes the content durable.
	Sync() error
}

// OS is the operating system's filesystem.
type OS struct{}

var _ Disk = OS{}

// maxBase keeps prefix, random part and base within 255 bytes, the limit of
// common filesystems.
const maxBase = 200

// OpenTemp implements FS.
func (OS) OpenTemp(path string, perm fs.FileMode) (Temp, error) {
	dir, base := filepath.Split(path)
	if base == "" {
		return nil, fmt.Errorf("create file %q: the path names a directory", path)
	}
	if len(base) > maxBase {
		base = base[:maxBase]
	}
	for try := 0; ; try++ {
		var random [randomBytes]byte
		if _, err := rand.Read(random[:]); err != nil {
			return nil, fmt.Errorf("draw a random name: %w", err)
		}
		name := filepath.Join(dir, tempPrefix+hex.EncodeToString(random[:])+"-"+base)
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
		if errors.Is(err, fs.ErrExist) && try < 100 {
			continue
		}
		if err != nil {
			return nil, err
		}
		return f, nil
	}
}

// Rename implements FS. On Windows it fails while another process holds
// newpath open without sharing deletion; nothing is lost then: the old file
// stands and the error reaches the caller.
func (OS) Rename(oldpath, newpath string) error { return os.Rename(oldpath, newpath) }

// Remove implements FS.
func (OS) Remove(path string) error { return os.Remove(path) }

// SyncDir implements FS. On Windows it does nothing: directories cannot be
// flushed there, and NTFS journals the rename itself.
func (OS) SyncDir(dir string) error { return syncDir(dir) }

// OpenLog implements Disk.
func (OS) OpenLog(path string, create bool, perm fs.FileMode) (Log, error) {
	flags := os.O_WRONLY | os.O_APPEND
	if create {
		flags |= os.O_CREATE | os.O_EXCL
	}
	f, err := os.OpenFile(path, flags, perm)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// RemoveAll implements Disk.
func (OS) RemoveAll(path string) error { return os.RemoveAll(path) }
