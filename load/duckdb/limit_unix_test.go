//go:build cgo && !windows

package duckdb_test

import (
	"os/signal"
	"syscall"
)

// limitFiles makes writes beyond a size fail as on a full disk.
func limitFiles(bytes uint64) error {
	signal.Ignore(syscall.SIGXFSZ)
	return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: bytes, Max: bytes})
}
