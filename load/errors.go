package load

import "errors"

// ErrForeign marks a destination that holds data Sluice did not write, or
// that another state wrote. Nothing was changed there.
var ErrForeign = errors.New("destination belongs to something else")
