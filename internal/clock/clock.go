// Package clock gives the time that reaches state, file names and rows.
package clock

import (
	"context"
	"time"
)

// Clock tells the time.
type Clock interface {
	// Now returns the current time in UTC.
	Now() time.Time
}

// System is the machine's clock.
type System struct{}

// Now returns the machine's time in UTC.
func (System) Now() time.Time { return time.Now().UTC() }

// Fixed is a Clock that stands still, for tests.
type Fixed time.Time

// Now returns the fixed time in UTC.
func (f Fixed) Now() time.Time { return time.Time(f).UTC() }

// Sleep waits for d, or until ctx ends, whose cause it then returns.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
