//go:build !windows

package duckdb

import (
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// errNotDir is the system's answer where a path goes through a file.
const errNotDir = syscall.ENOTDIR

// accessWritable asks whether this process may write to path, and create files
// in it where it is a folder; unlike the permission bits the system knows
// read-only mounts. The file is not opened: closing it again would end the
// locks that this process holds on it.
func accessWritable(path string, dir bool) error {
	mode := uint32(unix.W_OK)
	if dir {
		mode |= unix.X_OK
	}
	if err := unix.Access(path, mode); err != nil {
		return &fs.PathError{Op: "access", Path: path, Err: err}
	}
	return nil
}

// keepOwner gives a file the owner and group of another, where this user may:
// a table erased from by an administrator stays its owner's.
func keepOwner(path string, as os.FileInfo) {
	if st, ok := as.Sys().(*syscall.Stat_t); ok {
		_ = os.Lchown(path, int(st.Uid), int(st.Gid))
	}
}
