package parquet

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/sluice-etl/sluice/load"
)

// Error is a failure the user can do something about.
type Error struct {
	Message string
	Path    string
	Err     error
	hint    string
	going   bool // it is load.ErrDestroying, in words of its own
}

// Error returns what failed, where, and the cause.
func (e *Error) Error() string {
	s := e.Message
	if e.Path != "" {
		s += " (" + e.Path + ")"
	}
	if e.Err != nil {
		s += ": " + e.cause()
	}
	return s
}

// cause is the system's word alone where there is one: the layers in between
// would name the path two and three times over.
func (e *Error) cause() string {
	var errno syscall.Errno
	if e.Path != "" && errors.As(e.Err, &errno) {
		return errno.Error()
	}
	return e.Err.Error()
}

// Hint returns what to do about it.
func (e *Error) Hint() string { return e.hint }

// sentence is an error as a plan's effect.
func (e *Error) sentence() string {
	return strings.ToUpper(e.Message[:1]) + e.Message[1:] + ". " + e.hint
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is makes errors.Is(err, load.ErrDestroying) hold.
func (e *Error) Is(target error) bool { return e.going && target == load.ErrDestroying }

// foreign reports a directory that is not ours to write.
func foreign(dir, what, hint string) error {
	return &Error{Message: what, Path: dir, Err: load.ErrForeign, hint: hint}
}

// explain adds to a system error what the user can do. Errors that already
// carry a hint, and those that are no system errors, pass through.
func explain(doing, path string, err error) error {
	if err == nil {
		return nil
	}
	var known interface{ Hint() string }
	if errors.As(err, &known) {
		return err
	}
	var hint string
	switch {
	case errors.Is(err, syscall.ENOSPC):
		hint = "The disk is full. Free some space there."
	case errors.Is(err, syscall.EROFS):
		hint = "The file system is mounted read-only. Remount it, or give the destination another path."
	case errors.Is(err, fs.ErrPermission):
		hint = "Give this user the right to write there, or give the destination another path."
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, fs.ErrExist):
		hint = "A file stands where a folder is needed. Move it away, or give the destination another path."
	default:
		return fmt.Errorf("%s %s: %w", doing, path, err)
	}
	return &Error{Message: "cannot " + doing, Path: path, Err: err, hint: hint}
}
