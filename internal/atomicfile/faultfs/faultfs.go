// Package faultfs is an atomicfile.Disk that fails on demand, for tests: at the
// Nth operation or the Nth written byte, once or from then on. A test counts
// the operations and bytes of an undisturbed run, then repeats the run with a
// fault at each of them.
package faultfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"syscall"

	"github.com/sluice-etl/sluice/internal/atomicfile" //nolint:depguard // for tests alone: it fails where atomicfile would not
)

// The errors a disk gives. Any error may be injected.
var (
	ErrNoSpace error = syscall.ENOSPC // disk full
	ErrIO      error = syscall.EIO    // device error
	ErrKilled        = errors.New("process killed here")
)

// Fault says when to fail and how.
type Fault struct {
	// Op is the number of the operation that fails, counted from 1 over
	// OpenTemp, OpenLog, Write, Truncate, Sync, Close, Rename, Remove, RemoveAll
	// and SyncDir; 0: none.
	Op int
	// Byte is the number of bytes that can be written, over all files, before
	// the disk is full: the write that passes it is cut there; negative: no
	// limit. It counts only where LimitBytes is set.
	Byte int64
	// LimitBytes makes Byte count.
	LimitBytes bool
	// Err is the error given; nil means ErrNoSpace.
	Err error
	// Short makes a failing Write return its short count with a nil error,
	// which io.Writer forbids and some filesystems do. Other operations fail
	// with Err.
	Short bool
	// Sticky makes every operation after the first failure fail too, as after
	// a kill; else one operation fails and the next works again (for Byte:
	// once space was freed).
	Sticky bool
}

// FS counts operations and injects one Fault. Its methods may be called from
// any goroutine.
type FS struct {
	under atomicfile.Disk
	fault Fault

	mu     sync.Mutex
	ops    int
	bytes  int64
	failed bool
	trace  []string
}

var _ atomicfile.Disk = (*FS)(nil)

// New returns an FS over under (nil: the operating system) with one fault; the
// zero Fault only counts. Where under is no Disk, logs and folders are the
// operating system's.
func New(under atomicfile.FS, fault Fault) *FS {
	disk, ok := under.(atomicfile.Disk)
	if !ok {
		disk = withLogs{FS: under}
	}
	if under == nil {
		disk = atomicfile.OS{}
	}
	if fault.Err == nil {
		fault.Err = ErrNoSpace
	}
	return &FS{under: disk, fault: fault}
}

// withLogs makes an FS a Disk.
type withLogs struct{ atomicfile.FS }

func (withLogs) OpenLog(path string, create bool, perm fs.FileMode) (atomicfile.Log, error) {
	return atomicfile.OS{}.OpenLog(path, create, perm)
}

func (withLogs) RemoveAll(path string) error { return atomicfile.OS{}.RemoveAll(path) }

// DiskFull returns an FS whose disk takes n bytes and no more, for ever.
func DiskFull(n int64) *FS {
	return New(nil, Fault{LimitBytes: true, Byte: n, Sticky: true})
}

// Ops returns how many operations were asked for.
func (f *FS) Ops() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops
}

// Bytes returns how many bytes were written.
func (f *FS) Bytes() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.bytes
}

// Failed reports whether the fault has happened.
func (f *FS) Failed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

// Trace returns the operations in order, one line each: "rename a b".
func (f *FS) Trace() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.trace...)
}

// step counts an operation and returns the error it has to fail with.
func (f *FS) step(format string, args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ops++
	f.trace = append(f.trace, fmt.Sprintf(format, args...))
	if f.failed && f.fault.Sticky {
		return f.fault.Err
	}
	if f.fault.Op == f.ops {
		f.failed = true
		return f.fault.Err
	}
	return nil
}

// take returns how many of n bytes may be written.
func (f *FS) take(n int) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.fault.LimitBytes || (f.failed && !f.fault.Sticky) || f.bytes+int64(n) <= f.fault.Byte {
		f.bytes += int64(n)
		return n, nil
	}
	f.failed = true
	room := max(f.fault.Byte-f.bytes, 0)
	f.bytes += room
	return int(room), f.fault.Err
}

// OpenTemp implements atomicfile.FS.
func (f *FS) OpenTemp(path string, perm fs.FileMode) (atomicfile.Temp, error) {
	if err := f.step("open %s", path); err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	t, err := f.under.OpenTemp(path, perm)
	if err != nil {
		return nil, err
	}
	return &temp{Temp: t, file: file{under: t, name: t.Name(), fs: f}}, nil
}

// Rename implements atomicfile.FS.
func (f *FS) Rename(oldpath, newpath string) error {
	if err := f.step("rename %s %s", oldpath, newpath); err != nil {
		return &fs.PathError{Op: "rename", Path: newpath, Err: err}
	}
	return f.under.Rename(oldpath, newpath)
}

// Remove implements atomicfile.FS.
func (f *FS) Remove(path string) error {
	if err := f.step("remove %s", path); err != nil {
		return &fs.PathError{Op: "remove", Path: path, Err: err}
	}
	return f.under.Remove(path)
}

// SyncDir implements atomicfile.FS.
func (f *FS) SyncDir(dir string) error {
	if err := f.step("syncdir %s", dir); err != nil {
		return &fs.PathError{Op: "sync", Path: dir, Err: err}
	}
	return f.under.SyncDir(dir)
}

// OpenLog implements atomicfile.Disk.
func (f *FS) OpenLog(path string, create bool, perm fs.FileMode) (atomicfile.Log, error) {
	if err := f.step("openlog %s", path); err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	l, err := f.under.OpenLog(path, create, perm)
	if err != nil {
		return nil, err
	}
	return &grown{Log: l, file: file{under: l, name: path, fs: f}}, nil
}

// RemoveAll implements atomicfile.Disk.
func (f *FS) RemoveAll(path string) error {
	if err := f.step("removeall %s", path); err != nil {
		return &fs.PathError{Op: "removeall", Path: path, Err: err}
	}
	return f.under.RemoveAll(path)
}

// temp is a file under construction.
type temp struct {
	atomicfile.Temp
	file
}

func (t *temp) Write(p []byte) (int, error) { return t.write(p) }
func (t *temp) Sync() error                 { return t.sync() }
func (t *temp) Close() error                { return t.close() }

// grown is a log.
type grown struct {
	atomicfile.Log
	file
}

func (g *grown) Write(p []byte) (int, error) { return g.write(p) }
func (g *grown) Sync() error                 { return g.sync() }
func (g *grown) Close() error                { return g.close() }

func (g *grown) Truncate(size int64) error {
	if err := g.fs.step("truncate %s %d", g.name, size); err != nil {
		return &fs.PathError{Op: "truncate", Path: g.name, Err: err}
	}
	return g.Log.Truncate(size)
}

// file is what all open files have in common.
type file struct {
	under interface {
		io.WriteCloser
		Sync() error
	}
	name string
	fs   *FS
}

func (t *file) write(p []byte) (int, error) {
	if err := t.fs.step("write %s %d", t.name, len(p)); err != nil {
		n := len(p) / 2
		if t.fs.sticky() {
			n = 0
		}
		return t.cut(p[:n], err)
	}
	n, err := t.fs.take(len(p))
	if err != nil {
		return t.cut(p[:n], err)
	}
	return t.under.Write(p)
}

// cut writes what still fits and fails.
func (t *file) cut(p []byte, fault error) (int, error) {
	n, err := t.under.Write(p)
	if err != nil {
		return n, err
	}
	if t.fs.fault.Short {
		return n, nil
	}
	return n, &fs.PathError{Op: "write", Path: t.name, Err: fault}
}

func (f *FS) sticky() bool { return f.fault.Sticky }

func (t *file) sync() error {
	if err := t.fs.step("sync %s", t.name); err != nil {
		return &fs.PathError{Op: "sync", Path: t.name, Err: err}
	}
	return t.under.Sync()
}

// close closes the file in any case, so that tests leak no descriptors.
func (t *file) close() error {
	fault := t.fs.step("close %s", t.name)
	err := t.under.Close()
	if fault != nil {
		return &fs.PathError{Op: "close", Path: t.name, Err: fault}
	}
	return err
}
