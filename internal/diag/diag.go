// Package diag carries faults found in files a person wrote: where each
// stands, what is wrong with it and what would be right, so that all of them
// can be shown at once.
package diag

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Severity says whether a diagnostic stops the work.
type Severity int

// The severities. Errors sort before warnings at one place.
const (
	Error   Severity = iota // the work cannot go on
	Warning                 // it goes on; the user should know
)

// String returns the word that the renderer prints.
func (s Severity) String() string {
	if s == Warning {
		return "warning"
	}
	return "error"
}

// Diagnostic is one fault. Summary, Detail and Hint hold no key or password.
type Diagnostic struct {
	Severity Severity
	Summary  string // what is wrong, one line, no full stop
	Detail   string // more about it, one or more lines; may be empty
	Hint     string // what to do, or what would be right; may be empty
	File     string // as the user named it; empty where no file is at fault
	Line     int    // from 1; 0 where the whole file is at fault
	Col      int    // in characters from 1; 0 where the whole line is at fault
	Snippet  string // the line as it stands in the file, secrets masked; may be empty
}

// Headline returns the diagnostic as one line: place, severity, summary.
func (d Diagnostic) Headline() string {
	return d.position() + d.Severity.String() + ": " + d.Summary
}

// position returns "file:line:col: ", as much of it as is known.
func (d Diagnostic) position() string {
	var b strings.Builder
	if d.File != "" {
		b.WriteString(d.File)
		if d.Line > 0 {
			fmt.Fprintf(&b, ":%d", d.Line)
			if d.Col > 0 {
				fmt.Fprintf(&b, ":%d", d.Col)
			}
		}
		b.WriteString(": ")
	}
	return b.String()
}

// List is what a check found.
type List []Diagnostic

// Sort orders the list by file, line, column and severity; equal places keep
// their order.
func (l List) Sort() {
	slices.SortStableFunc(l, func(a, b Diagnostic) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col), cmp.Compare(a.Severity, b.Severity))
	})
}

// HasErrors reports whether the list stops the work.
func (l List) HasErrors() bool {
	return slices.ContainsFunc(l, func(d Diagnostic) bool { return d.Severity == Error })
}

// Count returns how many errors and warnings the list holds.
func (l List) Count() (errors, warnings int) {
	for _, d := range l {
		if d.Severity == Warning {
			warnings++
		} else {
			errors++
		}
	}
	return errors, warnings
}

// Err returns the list as an error, nil where it holds no errors.
func (l List) Err() error {
	if !l.HasErrors() {
		return nil
	}
	return &ListError{List: l}
}

// ListError is a List that stops the work, as an error. A command that gets
// one renders its List.
type ListError struct{ List List }

// Error returns the errors, one a line.
func (e *ListError) Error() string {
	var lines []string
	for _, d := range e.List {
		if d.Severity == Error {
			lines = append(lines, d.Headline())
		}
	}
	return strings.Join(lines, "\n")
}
