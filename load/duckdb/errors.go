package duckdb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/sluice-etl/sluice/internal/duck"
	"github.com/sluice-etl/sluice/load"
)

// Error is a failure the user can do something about.
type Error struct {
	Message string
	Path    string
	Err     error
	hint    string
}

// Error returns what failed, where, and the cause.
func (e *Error) Error() string {
	s := e.Message
	if e.Path != "" {
		s += " (" + e.Path + ")"
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Hint returns what to do about it.
func (e *Error) Hint() string { return e.hint }

// sentence is an error as a plan's effect.
func (e *Error) sentence() string {
	return strings.ToUpper(e.Message[:1]) + e.Message[1:] + ". " + e.hint
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// foreign reports a database that is not ours to write.
func foreign(path, what, hint string) error {
	return &Error{Message: what, Path: path, Err: load.ErrForeign, hint: hint}
}

const (
	otherPlace = "Give the destination another path, or move what is there away."
	otherName  = "Give the pipeline another table name or the destination another path, or rename what is there."
	startAnew  = "Restore the file from a backup, or move it away and run with --full."
)

// explain adds to an error of DuckDB or of the system what the user can do.
// DuckDB's errors are told apart by their words: it has no finer codes.
func explain(doing, path string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	var known interface{ Hint() string }
	if errors.As(err, &known) {
		return err
	}
	var used *duck.InUseError
	text := err.Error()
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(text, w) {
				return true
			}
		}
		return false
	}
	var hint string
	switch {
	case errors.As(err, &used):
		return &inUseError{used}
	case errors.Is(err, syscall.ENOSPC), has("No space left", "Could not write all bytes", "could not write all bytes", "Disk quota exceeded", "File too large"):
		hint = "The disk is full, or files may not grow there. Free some space beside the database and run again: nothing was stored, or all of it."
	case has("max_temp_directory_size", "failed to offload"):
		hint = "The merge needed more memory than memory_limit and found no room to spill beside the database. Free some space there, or raise the destination's memory_limit."
	case has("Out of Memory"):
		hint = "Raise the destination's memory_limit: a table of many columns needs more."
	case errors.Is(err, syscall.EROFS), has("Read-only file system"):
		hint = "The file system is mounted read-only. Remount it, or give the destination another path."
	case errors.Is(err, fs.ErrPermission), has("Permission denied"):
		hint = "Give this user the right to write there, or give the destination another path."
	case errors.Is(err, errNotDir), has("Is a directory", "Not a directory"):
		hint = "The path has to lead to a file in a folder. " + otherPlace
	case isDamage(err):
		hint = "The database is damaged, or a newer DuckDB wrote it. " + startAnew
	default:
		return fmt.Errorf("%s (%s): %w", doing, path, err)
	}
	return &Error{Message: "cannot " + doing, Path: path, Err: err, hint: hint}
}

// isDamage reports whether an error of DuckDB says that a file is not what it
// wrote.
func isDamage(err error) bool {
	for _, w := range []string{"Serialization Error", "Corrupt", "corrupt", "checksum", "Checksum", "Failed to deserialize", "database has been invalidated"} {
		if strings.Contains(err.Error(), w) {
			return true
		}
	}
	return false
}

// inUseError is a database that stayed held for as long as the call waited.
type inUseError struct{ *duck.InUseError }

// Hint says how the database comes free.
func (e *inUseError) Hint() string {
	return "DuckDB lets one process write a file, and nobody else read it meanwhile. Close the other program's connection (a DuckDB shell, a notebook, a dashboard) and run again; what is to be committed is kept."
}

// Unwrap returns the *duck.InUseError.
func (e *inUseError) Unwrap() error { return e.InUseError }
