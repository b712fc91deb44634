package run_test

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/sandbox"
	"github.com/sluice-etl/sluice/internal/state"
)

// noState is a disk that takes everything but the state of a pipeline.
type noState struct{ atomicfile.OS }

func (d noState) OpenTemp(path string, perm fs.FileMode) (atomicfile.Temp, error) {
	if strings.Contains(path, "pipeline.") {
		return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.EIO}
	}
	return d.OS.OpenTemp(path, perm)
}

func TestARunThatGoesOnBringsWhatChangedSinceItWasStopped(t *testing.T) {
	w := newWorld(t, contacts(400))
	job := w.job()
	job.Lookback = time.Second // with an hour, the next run would read it again anyhow
	w.mustRun(job)
	for _, full := range []bool{false, true} {
		job.Full = full
		w.source.Mutate(sandbox.Mutation{Updates: 7, Creates: 2})
		good := w.store
		w.store = w.open(state.WithFS(noState{}))
		_, err := w.run(t.Context(), job) // everything is read, and no package made of it
		var unsaved *state.EmergencyError
		if !errors.As(err, &unsaved) {
			t.Fatalf("got %v", err)
		}
		w.store = good
		w.source.Mutate(sandbox.Mutation{Updates: 5, Creates: 1})
		w.mustRun(job)
		w.same("lake")
		w.tidy()
	}
}

func TestWhatShowsLateBehindTheNewestRowIsNotLost(t *testing.T) {
	o := contacts(2000)
	// Half of the changes show 40 requests after the others of their time: some
	// from before the full read when its windows have been read.
	o.UpdatesPerRequest, o.LateShare, o.LateRequests = 2, 0.5, 40
	o.ClockStep = 100 * time.Millisecond
	w := newWorld(t, o)
	client, err := extract.NewClient(w.job().Source, clock.System{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for range 25 {
		if _, err := client.Page(t.Context(), extract.Query{Days: 1, Limit: 1}, func([]byte, extract.PageInfo) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	w.mustRun(w.job())
	w.mustRun(w.job())
	late, still := w.source.Stats().Late, time.Now()
	w.source.Each(func(c sandbox.Contact) bool {
		if c.UpdatedAt.After(still) {
			still = c.UpdatedAt
		}
		return true
	})
	for shown := w.source.Stats().Pages + 60; w.source.Stats().Pages < shown; {
		w.mustRun(w.job())
	}
	w.mustRun(w.job())
	stored, looked := w.stored("lake"), 0
	w.source.Each(func(c sandbox.Contact) bool {
		if c.UpdatedAt.Before(still) {
			looked++
			if want := c.UpdatedAt.Truncate(time.Millisecond).UnixMicro(); stored[c.ID] != want {
				t.Errorf("%s is stored as of %d, the source says %d", c.ID, stored[c.ID], want)
			}
		}
		return true
	})
	if late < 10 || looked < 100 {
		t.Errorf("%d changes were late, %d contacts compared: this test shows nothing", late, looked)
	}
	w.tidy()
}

func TestARunThatWasStoppedUnderAnotherLookbackIsReadAnew(t *testing.T) {
	w := newWorld(t, contacts(1500))
	job := w.job()
	job.Lookback = time.Second
	ctx, cancel := context.WithCancel(t.Context())
	w.afterPage = func(pages int64) {
		if pages >= 8 {
			cancel()
		}
	}
	var interrupted *run.InterruptedError
	if _, err := w.run(ctx, job); !errors.As(err, &interrupted) || interrupted.Staged == 0 {
		t.Fatalf("got %v", err)
	}
	w.afterPage = nil
	// What was final a second ago is not by an hour, and the record names the
	// lookback under which all of it was read.
	job.Lookback = time.Hour
	before := w.source.Stats().Pages
	got := evidenceIn(t, w.mustRun(job).Coverage)
	if n := w.source.Stats().Pages - before; got.Resumed || n < 15 {
		t.Errorf("it went on: %v, with %d pages of 15", got.Resumed, n)
	}
	w.same("lake")
	w.tidy()
}

// unflushedState is a disk on which the state of a pipeline is renamed into
// place, and the folder's flush fails.
type unflushedState struct {
	atomicfile.OS
	fails *bool
}

func (d unflushedState) SyncDir(dir string) error {
	if *d.fails && strings.HasSuffix(dir, "state") {
		return &fs.PathError{Op: "sync", Path: dir, Err: syscall.EIO}
	}
	return d.OS.SyncDir(dir)
}

// State then names the package, however little is in it.
func TestAnEmptyPackageThatStateMayNameIsKept(t *testing.T) {
	w := newWorld(t, contacts(30))
	job := w.job()
	job.Lookback = time.Second
	w.mustRun(job)
	fails := true
	w.store = w.open(state.WithFS(unflushedState{fails: &fails}))
	_, err := w.run(t.Context(), job)
	var unsaved *state.EmergencyError
	if !errors.As(err, &unsaved) {
		t.Fatalf("got %v", err)
	}
	fails = false
	w.store = w.open()
	queue := w.state().Destination("lake").Queue
	t.Logf("what waits is %+v", queue)
	w.mustRun(job)
	w.same("lake")
	w.tidy()
	if queue = w.state().Destination("lake").Queue; len(queue) > 0 {
		t.Errorf("%+v still waits", queue)
	}
}
