//go:build !windows

package parquet

import (
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"
)

// errNotDir is the system's answer where a path goes through a file.
const errNotDir = syscall.ENOTDIR

// accessWritable asks whether this process may create files in dir; unlike the
// permission bits it knows read-only mounts.
func accessWritable(dir string) error {
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return &fs.PathError{Op: "access", Path: dir, Err: err}
	}
	return nil
}
