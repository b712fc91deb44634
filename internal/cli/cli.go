// Package cli is the command line: flags into option structs, the stages wired
// together, and what comes of it shown. One file a command.
package cli

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/sluice-etl/sluice/internal/clock"
)

// Exit codes, as DESIGN section 1 gives them.
const (
	exitDone    = 0
	exitError   = 1
	exitPartial = 4 // some pipelines failed, others are done
)

// Program is the process as the command line sees it: nothing in this package
// reaches for globals of package os.
type Program struct {
	Args    []string // without the program's name
	Streams Streams
	// Env looks up an environment variable, as os.LookupEnv does.
	Env   func(string) (string, bool)
	Clock clock.Clock
}

// Streams are the process's streams and what is known of them.
type Streams struct {
	In  io.Reader
	Out io.Writer // results
	Err io.Writer // errors, progress, logs
	// InTerminal, OutTerminal and ErrTerminal report whether a person is at
	// the other end.
	InTerminal, OutTerminal, ErrTerminal bool
	// Width returns the terminal's width in columns, 0 where unknown. It may be
	// nil.
	Width func() int
}

func (s Streams) width() int {
	if s.Width == nil {
		return 0
	}
	return s.Width()
}

// SignalError is the cause a context is cancelled with when the process is told to
// stop. Code is the exit code that says so: 128 and the signal's number.
type SignalError struct {
	Name string
	Code int
}

func (s SignalError) Error() string { return "stopped by " + s.Name }

// app is one invocation.
type app struct {
	Program
	err     *screen
	file    string
	logs    string
	verbose bool
	log     *slog.Logger
	secrets *redactor
	buckets *buckets
}

// Main runs one invocation and returns its exit code. It returns when the
// command is done, or soon after ctx ends; a ctx whose cause is a SignalError gives
// that signal's code.
func Main(ctx context.Context, p Program) int {
	a := &app{Program: p, secrets: &redactor{w: p.Streams.Err}}
	a.err = &screen{w: a.secrets, width: p.Streams.width}
	a.buckets = a.newBuckets(ctx)
	root := a.root() //nolint:contextcheck // cobra hands ctx to the commands, which take it from there
	root.SetArgs(p.Args)
	err := root.ExecuteContext(ctx)
	if closeErr := a.buckets.close(); closeErr != nil {
		err = errors.Join(err, closeErr)
	}
	a.err.clear()
	return a.finish(ctx, err)
}

// finish shows err and turns it into an exit code.
func (a *app) finish(ctx context.Context, err error) int {
	if err == nil {
		return exitDone
	}
	var quiet *exitCodeError
	if !errors.As(err, &quiet) {
		a.show(err)
	}
	var sig SignalError
	if errors.As(context.Cause(ctx), &sig) {
		return sig.Code
	}
	if quiet != nil {
		return quiet.code
	}
	return exitError
}

// command fills in what all commands have in common.
func command(c *cobra.Command) *cobra.Command {
	c.SilenceErrors = true
	c.SilenceUsage = true
	c.DisableFlagsInUseLine = true
	return c
}
