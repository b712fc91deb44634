// Command sluice exports contacts to Parquet, without skipping one.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // pipelines name time zones, and not every machine has their data

	"golang.org/x/term"

	"github.com/sluice-etl/sluice/internal/cli"
	"github.com/sluice-etl/sluice/internal/clock"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	limitMemory(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		stopped := cause(<-signals)
		cancel(stopped)
		<-signals // a second one does not wait for anything
		os.Exit(stopped.Code)
	}()
	return cli.Main(ctx, cli.Program{
		Args: os.Args[1:],
		Streams: cli.Streams{
			In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
			InTerminal: isTerminal(os.Stdin), OutTerminal: isTerminal(os.Stdout), ErrTerminal: isTerminal(os.Stderr),
			Width: width,
		},
		Env:   os.LookupEnv,
		Clock: clock.System{},
	})
}

func cause(s os.Signal) cli.SignalError {
	if s == syscall.SIGTERM {
		return cli.SignalError{Name: "SIGTERM", Code: 128 + 15}
	}
	return cli.SignalError{Name: "Ctrl-C", Code: 128 + 2}
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// width asks the terminal that results or progress go to.
func width() int {
	for _, f := range []*os.File{os.Stdout, os.Stderr} {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
			return w
		}
	}
	return 0
}
