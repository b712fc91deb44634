package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"syscall"

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
	var sig SignalError
	text := err.Error()
	if errors.As(err, &sig) || !errors.Is(err, context.Canceled) {
		return text
	}
	return strings.ReplaceAll(text, context.Canceled.Error(), "stopped")
}

// hints collects what the errors in err's tree say is to be done. An error
// that wraps one other knows more than that one, so its hint stands for both;
// where several are joined, each may have its own, and theirs come before what
// is said of all of them.
func hints(err error) []string {
	var found []string
	add := func(text string) {
		if text = strings.TrimSpace(text); text != "" && !slices.Contains(found, text) {
			found = append(found, text)
		}
	}
	var walk func(error)
	walk = func(err error) {
		own, _ := err.(hinter) //nolint:errorlint // this is the walk that errors.As does, over all of the tree
		many, _ := err.(interface{ Unwrap() []error })
		if many != nil {
			for _, one := range many.Unwrap() {
				walk(one)
			}
		}
		switch {
		case own != nil && strings.TrimSpace(own.Hint()) != "":
			add(own.Hint())
		case err == duck.ErrUnavailable: //nolint:errorlint // as above
			add(unavailableHint)
		case many == nil && errors.Unwrap(err) != nil:
			walk(errors.Unwrap(err))
		}
	}
	walk(err)
	if len(found) == 0 {
		add(systemHint(err))
	}
	return found
}

// systemHint is what to do about a system error that nobody on the way up had
// a word for.
func systemHint(err error) string {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "the disk is full: free some space there, then run the same command again; what was kept so far is used"
	case errors.Is(err, syscall.EFBIG):
		return "the system limits the size of files (ulimit -f, or the file system): lift the limit, then run the same command again"
	case errors.Is(err, syscall.EROFS):
		return "the file system is mounted read-only: remount it, or choose another place"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return "too many files are open: raise the limit (ulimit -n), then run the same command again"
	case errors.Is(err, fs.ErrPermission):
		return "give the user who runs sluice the right to read and write there, or choose another place"
	default:
		return ""
	}
}

const unavailableHint = "`sluice query` needs DuckDB: build sluice with a C compiler and CGO_ENABLED=1 (`go build ./cmd/sluice`), or read the Parquet files with any other tool; each table's views.sql holds the same views. Everything else but DuckDB destinations works in this binary"

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
func (a *app) color() bool { return a.Streams.ErrTerminal && a.colours() }

// colours reports whether terminals are to be coloured.
func (a *app) colours() bool {
	if v, ok := a.Env("NO_COLOR"); ok && v != "" {
		return false
	}
	term, ok := a.Env("TERM")
	return !ok || term != "dumb"
}
