package duckdb

import (
	"os"
	"syscall"
)

// errNotDir is the system's answer where a path goes through a file.
const errNotDir = syscall.ERROR_PATH_NOT_FOUND

// accessWritable has no cheap answer on Windows; the commit finds out.
func accessWritable(string, bool) error { return nil }

// keepOwner does nothing: a new file has the rights of its folder.
func keepOwner(string, os.FileInfo) {}
