package parquet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"github.com/sluice-etl/sluice/internal/clock"
)

// lockRetry is how often a waiting commit asks for the lock again.
const lockRetry = 50 * time.Millisecond

// Holder is who holds a table's lock, as written in the lock file.
type Holder struct {
	PID   int       `json:"pid"`
	Host  string    `json:"host"`
	RunID string    `json:"run_id"` // empty: it reads the table
	Since time.Time `json:"since"`
}

// LockedError says that another process is working on the table.
type LockedError struct {
	Path   string
	Holder Holder // zero where the file does not tell
}

// Error names the holder and since when.
func (e *LockedError) Error() string {
	h := e.Holder
	switch since := h.Since.Format(time.RFC3339); {
	case h.PID == 0:
		return fmt.Sprintf("table is locked by another process (%s)", e.Path)
	case h.RunID == "":
		return fmt.Sprintf("table is locked by another process (%s): process %d on %s reads it, since %s", e.Path, h.PID, h.Host, since)
	default:
		return fmt.Sprintf("table is locked by another commit (%s): process %d on %s, run %s, since %s", e.Path, h.PID, h.Host, h.RunID, since)
	}
}

// Hint returns what to do about it.
func (e *LockedError) Hint() string {
	return "Wait for that run to end and run again. The lock ends with its process; there is nothing to remove."
}

// acquire takes the kernel's lock on the table for this process's life or
// until release. The file stays: removing it would let two processes lock two
// different files of one name.
func acquire(ctx context.Context, dir, runID string, wait time.Duration, clk clock.Clock) (release func() error, err error) {
	path := filepath.Join(dir, lockName)
	fl := flock.New(path, flock.SetPermissions(fileMode))
	ok, err := fl.TryLock()
	if err == nil && !ok && wait > 0 {
		waiting, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		ok, err = fl.TryLockContext(waiting, lockRetry)
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			err = nil
		}
	}
	if err != nil {
		return nil, explain("lock table", path, err)
	}
	if !ok {
		return nil, &LockedError{Path: path, Holder: readHolder(path)}
	}
	// Who holds it is a courtesy to the next one who asks; the lock itself is
	// the kernel's, so a failure here is none of the commit.
	host, _ := os.Hostname()
	if data, err := json.Marshal(Holder{PID: os.Getpid(), Host: host, RunID: runID, Since: clk.Now()}); err == nil {
		_ = os.WriteFile(path, append(data, '\n'), fileMode)
	}
	return fl.Unlock, nil
}

func readHolder(path string) Holder {
	var h Holder
	data, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(data, &h) != nil {
		return Holder{}
	}
	return h
}
