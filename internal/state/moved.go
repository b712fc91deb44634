package state

import (
	"errors"
	"fmt"
)

// ErrMoved means that a pipeline is being given another name.
var ErrMoved = errors.New("pipeline is being renamed")

// MovedError is the document of a pipeline whose renaming was stopped on the
// way. Its packages may be under either name, so nothing reads it.
type MovedError struct {
	Pipeline string
	To       string
}

func (e *MovedError) Error() string {
	return fmt.Sprintf("read state of pipeline %s: it is being renamed to %s, and that was stopped on the way", e.Pipeline, e.To)
}

// Is makes errors.Is(err, ErrMoved) hold.
func (e *MovedError) Is(target error) bool { return target == ErrMoved }

// Hint says what to do.
func (e *MovedError) Hint() string {
	return fmt.Sprintf("finish it with: sluice state mv %s %s", shellQuote(PipelineAddress(e.Pipeline)), shellQuote(PipelineAddress(e.To)))
}

// moved says, as a *MovedError, that p is being renamed.
func (p *Pipeline) moved() error {
	if p.MovedTo == "" {
		return nil
	}
	return &MovedError{Pipeline: p.Pipeline, To: p.MovedTo}
}
