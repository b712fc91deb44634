package gcs

import (
	"context"
	"fmt"
	"time"
)

// overdueError says that the service did not answer in time.
type overdueError struct {
	after time.Duration
	what  string
}

func (e *overdueError) Error() string { return fmt.Sprintf("%s for %s", e.what, e.after) }

// Unwrap makes it the standard library's.
func (*overdueError) Unwrap() error { return context.DeadlineExceeded }

// bound gives a call its time.
func (*Client) bound(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, &overdueError{after: d, what: "no success"})
}

// watch ends the context once alive has not been called for d.
func (*Client) watch(ctx context.Context, d time.Duration) (watched context.Context, alive func(), cancel context.CancelFunc) {
	watched, end := context.WithCancelCause(ctx)
	timer := time.AfterFunc(d, func() { end(&overdueError{after: d, what: "nothing arrived"}) })
	return watched, func() { timer.Reset(d) }, func() {
		timer.Stop()
		end(context.Canceled)
	}
}

// uploadTime is how long an upload of so many bytes may take.
func (c *Client) uploadTime(size int64) time.Duration {
	return c.o.CallTimeout + time.Duration(size/uploadFloor)*time.Second
}
