// Package atomicfile publishes files whole or not at all: written under a
// temporary name in the same directory, flushed, renamed, and the directory
// flushed. A reader sees the old file or the new one, never a part.
package atomicfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	tempPrefix  = ".tmp-"
	randomBytes = 8
)

// ErrFinished is returned by writes to a file that was committed or aborted.
var ErrFinished = errors.New("file is finished")

// File is a file under construction. It keeps the first write error for ever
// and reports it from every later call, because libraries drop such errors
// (arrow's Parquet writer returns nil from Close when the footer was not
// written). A File is used by one goroutine at a time.
//
// File has a Commit and no Close on purpose, so that no library that finds a
// Close method can end it early.
type File struct {
	fsys    FS
	path    string
	temp    Temp
	size    int64
	err     error // first error, kept
	closed  bool  // temp is closed
	settled bool  // published or aborted
}

var _ io.Writer = (*File)(nil)

// Create starts the file that Commit will publish as path. The directory must
// exist. The caller ends with Commit or Abort; Abort after Commit does nothing,
// so it may be deferred.
func Create(path string, perm fs.FileMode) (*File, error) {
	return CreateOn(OS{}, path, perm)
}

// CreateOn is Create on a filesystem of the caller's; nil means OS.
func CreateOn(fsys FS, path string, perm fs.FileMode) (*File, error) {
	if fsys == nil {
		fsys = OS{}
	}
	temp, err := fsys.OpenTemp(path, perm)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", path, WithoutPath(err))
	}
	return &File{fsys: fsys, path: path, temp: temp}, nil
}

// Write appends p. After a failure every later Write, and Commit, returns the
// first error; a write that took fewer bytes than given counts as one.
func (f *File) Write(p []byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	if f.closed {
		return 0, fmt.Errorf("write %s: %w", f.path, ErrFinished)
	}
	n, err := f.temp.Write(p)
	if n < 0 || n > len(p) {
		n, err = 0, fmt.Errorf("impossible count from write: %w", errors.Join(err, io.ErrShortWrite))
	}
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	f.size += int64(n)
	if err != nil {
		f.err = fmt.Errorf("write %s: %w", f.path, WithoutPath(err))
	}
	return n, f.err
}

// Err returns the first error the file met, nil if none.
func (f *File) Err() error { return f.err }

// Size returns the bytes written so far.
func (f *File) Size() int64 { return f.size }

// TempPath returns where the content stands until Commit.
func (f *File) TempPath() string { return f.temp.Name() }

// Finish flushes and closes the file under its temporary name without
// publishing it, so that it can be read back first. No write follows.
func (f *File) Finish() error {
	if f.closed {
		return f.err
	}
	f.closed = true
	if f.err != nil {
		f.closeQuietly()
		return f.err
	}
	if err := f.temp.Sync(); err != nil {
		f.err = fmt.Errorf("flush %s: %w", f.path, WithoutPath(err))
		f.closeQuietly()
		return f.err
	}
	if err := f.temp.Close(); err != nil {
		f.err = fmt.Errorf("close %s: %w", f.path, WithoutPath(err))
	}
	return f.err
}

// closeQuietly closes a file whose first error is already kept.
func (f *File) closeQuietly() {
	_ = f.temp.Close()
}

// Commit publishes the file: check for errors, flush, close, rename, flush the
// directory. On an error before the rename path is as it was and the temporary
// file is removed. If only the directory's flush fails, the new file stands in
// its place and may not survive a power cut: publish again.
func (f *File) Commit() error {
	if f.settled {
		return fmt.Errorf("commit %s: %w", f.path, errors.Join(ErrFinished, f.err))
	}
	if err := f.Finish(); err != nil {
		f.Abort()
		return err
	}
	if err := f.fsys.Rename(f.temp.Name(), f.path); err != nil {
		f.err = fmt.Errorf("publish %s: %w", f.path, WithoutPath(err))
		f.Abort()
		return f.err
	}
	f.settled = true
	if err := f.fsys.SyncDir(filepath.Dir(f.path)); err != nil {
		f.err = fmt.Errorf("flush directory of %s: %w", f.path, WithoutPath(err))
	}
	return f.err
}

// Abort drops the file. It does nothing after Commit or another Abort. A
// temporary file that cannot be removed is left to RemoveTemps.
func (f *File) Abort() {
	if f.settled {
		return
	}
	f.settled = true
	if !f.closed {
		f.closed = true
		f.closeQuietly()
	}
	_ = f.fsys.Remove(f.temp.Name())
}

// WriteFile publishes data as path, replacing what is there.
func WriteFile(path string, data []byte, perm fs.FileMode) error {
	return WriteFileOn(OS{}, path, data, perm)
}

// WriteFileOn is WriteFile on a filesystem of the caller's; nil means OS.
func WriteFileOn(fsys FS, path string, data []byte, perm fs.FileMode) error {
	f, err := CreateOn(fsys, path, perm)
	if err != nil {
		return err
	}
	defer f.Abort()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Commit()
}

// SyncDir makes renames and removals done in dir durable. On Windows it does
// nothing.
func SyncDir(dir string) error {
	if err := (OS{}).SyncDir(dir); err != nil {
		return fmt.Errorf("flush directory %s: %w", dir, WithoutPath(err))
	}
	return nil
}

// MakeDirs creates dir and what is missing above it, and makes each name
// durable in the folder that it stands in: a file that was flushed is gone
// after a power cut if its folder is. nil means OS.
func MakeDirs(fsys FS, dir string, perm fs.FileMode) error {
	if fsys == nil {
		fsys = OS{}
	}
	info, err := os.Stat(dir)
	if err == nil && info.IsDir() {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir && errors.Is(err, fs.ErrNotExist) {
		if err := MakeDirs(fsys, parent, perm); err != nil {
			return err
		}
	}
	// Another process may have made it meanwhile; a file in its place is an error.
	if err := os.Mkdir(dir, perm); err != nil {
		if info, statErr := os.Stat(dir); statErr != nil || !info.IsDir() {
			return err
		}
	}
	if err := fsys.SyncDir(parent); err != nil {
		return fmt.Errorf("flush directory %s: %w", parent, err)
	}
	return nil
}

// IsTemp reports whether base is a name that OpenTemp gives.
func IsTemp(base string) bool {
	rest, ok := strings.CutPrefix(base, tempPrefix)
	if !ok || len(rest) < 2*randomBytes+1 || rest[2*randomBytes] != '-' {
		return false
	}
	return strings.Trim(rest[:2*randomBytes], "0123456789abcdef") == ""
}

// RemoveTemps deletes what killed writers left in dir, not below it. The
// caller holds whatever lock keeps other writers out of dir: a file under
// construction looks the same. A missing dir is not an error.
func RemoveTemps(dir string) error {
	return RemoveTempsOn(OS{}, dir)
}

// RemoveTempsOn is RemoveTemps on a filesystem of the caller's; nil means OS.
// The directory is listed by the operating system in any case.
func RemoveTempsOn(fsys FS, dir string) error {
	if fsys == nil {
		fsys = OS{}
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", dir, err)
	}
	var errs []error
	for _, e := range entries {
		if !e.Type().IsRegular() || !IsTemp(e.Name()) {
			continue
		}
		err := fsys.Remove(filepath.Join(dir, e.Name()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove leftover: %w", err))
		}
	}
	return errors.Join(errs...)
}
