package run_test

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/internal/atomicfile"
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
