package load

import "errors"

// ErrForeign marks a destination that holds data Sluice did not write, or
// that another state wrote. Nothing was changed there.
var ErrForeign = errors.New("destination belongs to something else")

// ErrAhead marks a destination that already holds another package under the
// serial of the one given, as after state was restored from a backup. Nothing
// was changed there; skipping the package instead would lose its rows.
var ErrAhead = errors.New("destination is ahead of this state")

// ErrDestroying marks what is left of a table whose destruction was stopped:
// only destroying it again goes on.
var ErrDestroying = errors.New("table is being destroyed")
