package load

import "context"

// Lagging is a Lister whose List may lag behind what was committed, because
// the destination lets queries do so.
type Lagging interface {
	Lister
	// Settled returns the serial of the last package that every List from now on
	// shows wholly, at most the position; 0 for none. Of later packages it may
	// show some rows, or none. It blocks until answered or ctx ends.
	Settled(ctx context.Context, lineage string) (serial int64, err error)
}
