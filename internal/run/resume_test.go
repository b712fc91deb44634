package run_test

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/internal/atomicfile"
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
