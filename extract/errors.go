package extract

import (
	"errors"
)

// ErrBadPage marks a body that is not a page of contacts. A Sink's Decode
// wraps it; the client then asks again.
var ErrBadPage = errors.New("not a page of contacts")
