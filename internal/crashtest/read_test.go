//go:build unix

package crashtest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/sluice-etl/sluice/internal/crashtest"
	"github.com/sluice-etl/sluice/internal/sandbox"
)

// readings are what a reader found.
type readings struct {
	Reads  int    // answers, right ones
	Failed int    // reads that failed and were repeated
	Wrong  string // the first wrong answer
	Grown  int    // times that there were more contacts than before
}

// readLoop reads a table again and again until its standard input ends. A
// contact that stands there twice, or is missing and was there before, is a
// wrong answer; a read that fails is repeated.
func readLoop(o order) int {
	j, err := crashtest.NewJudge()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 3
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	dir := filepath.Join(o.Dir, o.Destinations[0], "contacts")
	var r readings
	var before []string
	for r.Wrong == "" {
		select {
		case <-done:
			return r.print()
		default:
		}
		ids, err := j.IDs(context.Background(), dir)
		switch lost := crashtest.Lost(before, ids); {
		case errors.Is(err, crashtest.ErrTwice):
			r.Wrong = err.Error()
		case err != nil:
			r.Failed++
		case len(lost) > 0:
			r.Wrong = fmt.Sprintf("%d contacts are missing that were there before: %s", len(lost), lost[0])
		default:
			r.Reads++
			if len(ids) > len(before) && before != nil {
				r.Grown++
			}
			before = ids
		}
	}
	return r.print()
}

func (r readings) print() int {
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		return 3
	}
	return 0
}

func TestAReaderInAnotherProcessNeverSeesAContactTwiceOrMissing(t *testing.T) {
	commits := 4
	if testing.Short() || raceEnabled {
		commits = 3
	}
	w := newWorld(t, adverse(120), envNumber(t, "SLUICE_CRASH_SEED", 1))
	sync := lake(order{Do: "sync"})[0]
	w.must(sync)
	reader := command(t, w.complete(order{Do: "read", Destinations: sync.Destinations}))
	stop, err := reader.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := reader.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for i := range commits {
		newColumns(w, i)
		w.source.Mutate(sandbox.Mutation{Updates: 40, Creates: 10})
		w.must(sync)
	}
	if err := errors.Join(stop.Close(), reader.cmd.Wait()); err != nil {
		t.Fatalf("the reader ended with %v: %s", err, reader.stderr.Bytes())
	}
	var r readings
	if err := json.Unmarshal(reader.stdout.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if r.Wrong != "" {
		t.Errorf("after %d reads a wrong answer: %s", r.Reads, r.Wrong)
	}
	if r.Reads < commits || r.Grown < 2 {
		t.Errorf("%d reads, of which %d found more than the one before, prove nothing", r.Reads, r.Grown)
	}
	t.Logf("%d reads during %d commits, %d repeated", r.Reads, commits, r.Failed)
}
