package run_test

import (
	"context"
	"errors"
	"io/fs"
	"syscall"
	"testing"

	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/run"
)

// noJournal is a disk on which no journal of before can be opened.
type noJournal struct{ atomicfile.OS }

func (d noJournal) OpenLog(path string, create bool, perm fs.FileMode) (atomicfile.Log, error) {
	if !create {
		return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.EIO}
	}
	return d.OS.OpenLog(path, create, perm)
}

func TestARunWhoseJournalCannotBeOpenedSaysSoAndTheNextGoesOn(t *testing.T) {
	w := newWorld(t, contacts(1500))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w.afterPage = func(pages int64) {
		if pages >= 9 {
			cancel()
		}
	}
	var interrupted *run.InterruptedError
	if _, err := w.run(ctx, w.job()); !errors.As(err, &interrupted) || interrupted.Staged == 0 {
		t.Fatalf("got %v", err)
	}
	w.afterPage = nil
	e := run.Engine{Store: w.store, Clock: clock.System{}, SealRows: 500, Disk: noJournal{}}
	if _, err := e.Run(t.Context(), w.job()); !errors.Is(err, syscall.EIO) {
		t.Fatalf("got %v", err)
	}
	w.mustRun(w.job())
	w.same("lake")
	w.tidy()
}
