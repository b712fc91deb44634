package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/internal/diag"
	"github.com/sluice-etl/sluice/internal/duck"
)

// hinter is an error that knows what the user can do.
type hinter interface {
	error
	Hint() string
}

// userError is a message for the user with what to do about it.
type userError struct {
	message string
	hint    string
	err     error
}

func (e *userError) Error() string {
	if e.err == nil {
		return e.message
	}
	if e.message == "" {
		return e.err.Error()
	}
	return e.message + ": " + e.err.Error()
}

// Hint says what to do.
func (e *userError) Hint() string { return e.hint }

func (e *userError) Unwrap() error { return e.err }

// usageError is a command line that makes no sense.
type usageError struct {
	command string
	err     error
}

func (e *usageError) Error() string { return e.err.Error() }

// Hint says where the right usage stands.
func (e *usageError) Hint() string { return fmt.Sprintf("see `%s --help`", e.command) }

func (e *usageError) Unwrap() error { return e.err }

// exitCodeError ends the program with a code; what is to say has been said.
type exitCodeError struct {
	code int
	err  error
}

func (e *exitCodeError) Error() string { return e.err.Error() }

func (e *exitCodeError) Unwrap() error { return e.err }

// show writes one error to stderr: what, where, what was expected, what to do.
func (a *app) show(err error) {
	a.showAs("error", err)
}

func (a *app) showAs(word string, err error) {
	var list *diag.ListError
	if errors.As(err, &list) {
		list.List.Sort()
		_ = list.List.Render(a.err, a.color()) // nowhere is left to report that stderr fails
		return
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", word, indentRest(message(err)))
	for _, hint := range hints(err) {
		for _, line := range wrapText(hint, 78) {
			fmt.Fprintf(&b, "  %s\n", line)
		}
	}
	_, _ = io.WriteString(a.err, visible(b.String()))
}

// message is the text of err, with Go's own words for common ends of a context
// replaced by ours.
func message(err error) string {
	var sig Signal
	text := err.Error()
	if errors.As(err, &sig) || !errors.Is(err, context.Canceled) {
		return text
	}
	return strings.ReplaceAll(text, context.Canceled.Error(), "stopped")
}

// hints collects what the errors in err's tree say is to be done, the most
// specific first.
func hints(err error) []string {
	var found []string
	var walk func(error)
	walk = func(err error) {
		if err == nil {
			return
		}
		switch e := err.(type) { //nolint:errorlint // this is the walk that errors.As does, over all of the tree
		case interface{ Unwrap() error }:
			walk(e.Unwrap())
		case interface{ Unwrap() []error }:
			for _, one := range e.Unwrap() {
				walk(one)
			}
		}
		if h, ok := err.(hinter); ok { //nolint:errorlint // as above
			if text := strings.TrimSpace(h.Hint()); text != "" && !slices.Contains(found, text) {
				found = append(found, text)
			}
		}
		if err == duck.ErrUnavailable { //nolint:errorlint // as above
			found = append(found, unavailableHint)
		}
	}
	walk(err)
	return found
}

const unavailableHint = "`sluice query` needs DuckDB: build sluice with a C compiler and CGO_ENABLED=1 (`go build ./cmd/sluice`), or read the Parquet files with any other tool; each table's views.sql holds the same views. Everything else works in this binary"

// indentRest indents all lines but the first, so that a message of several
// lines reads as one block.
func indentRest(s string) string {
	s = strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\n  ")
	return strings.ReplaceAll(s, "\n  \n", "\n\n")
}

// wrapText breaks s at blanks into lines of at most width columns. Line breaks
// in s stay; a word longer than a line is not cut, so that it can be copied.
func wrapText(s string, width int) []string {
	var lines []string
	for para := range strings.SplitSeq(s, "\n") {
		line := ""
		for word := range strings.FieldsSeq(para) {
			switch {
			case line == "":
				line = word
			case displayWidth(line)+1+displayWidth(word) > width:
				lines = append(lines, line)
				line = word
			default:
				line += " " + word
			}
		}
		lines = append(lines, line)
	}
	return lines
}

// color reports whether stderr takes colours.
func (a *app) color() bool {
	if !a.Streams.ErrTerminal {
		return false
	}
	if v, ok := a.Env("NO_COLOR"); ok && v != "" {
		return false
	}
	term, ok := a.Env("TERM")
	return !ok || term != "dumb"
}
