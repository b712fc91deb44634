package run

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluice-etl/sluice/internal/quarantine"
)

// Dropping says which records set aside Engine.DropAside removes.
type Dropping struct {
	Run    string    // those of one run; empty: of all
	Before time.Time // those that were set aside before it; zero: at any time
}

// Has reports whether a record is among those meant.
func (d Dropping) Has(rec quarantine.Record) bool {
	return (d.Run == "" || rec.RunID == d.Run) && (d.Before.IsZero() || rec.At.Before(d.Before))
}

// DropAside removes records that were set aside, for good, and returns how
// many. It keeps retries of the pipeline out meanwhile. Stopped on the way, the
// same call does the rest.
func (e *Engine) DropAside(ctx context.Context, pipeline string, d Dropping) (n int64, err error) {
	unlock, err := e.Store.LockRun(ctx, pipeline, kindRetry)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	store := e.quarantine(pipeline)
	files, err := store.Files()
	if err != nil {
		return 0, err
	}
	for _, file := range files {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		dropped := int64(0)
		err := store.Rewrite(file, func(rec *quarantine.Record) bool {
			if d.Has(*rec) {
				dropped++
				return false
			}
			return true
		})
		if err != nil {
			return n, fmt.Errorf("drop records set aside: %w", err)
		}
		n += dropped
	}
	return n, nil
}
