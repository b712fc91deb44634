package atomicfile

import (
	"io/fs"
	"os"
)

// WithoutPath is err with the text of the system alone, for errors that name
// the file themselves: by the name that users know, not a temporary one, and
// once. What err is stays as it was.
func WithoutPath(err error) error {
	switch e := err.(type) { //nolint:errorlint // one that is wrapped says more, and keeps its text
	case *fs.PathError:
		return &pathless{text: e.Err.Error(), err: err}
	case *os.LinkError:
		return &pathless{text: e.Err.Error(), err: err}
	default:
		return err
	}
}

type pathless struct {
	text string
	err  error
}

func (e *pathless) Error() string { return e.text }

func (e *pathless) Unwrap() error { return e.err }
