//go:build unix

package cli

import (
	"os/signal"
	"syscall"
)

// prepareProcess lets a test give the program a limit on file sizes: writes
// beyond it fail instead of ending the process.
func prepareProcess() { signal.Ignore(syscall.SIGXFSZ) }
