package run_test

import (
	"io/fs"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/sandbox"
)

// sharing is a disk that, as Windows, removes no log that is open.
type sharing struct {
	atomicfile.OS

	mu   sync.Mutex
	open map[string]bool
}

func (d *sharing) OpenLog(path string, create bool, perm fs.FileMode) (atomicfile.Log, error) {
	l, err := d.OS.OpenLog(path, create, perm)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open[path] = true
	return &sharedLog{Log: l, disk: d, path: path}, nil
}

func (d *sharing) Remove(path string) error {
	if d.held(path) {
		return &fs.PathError{Op: "remove", Path: path, Err: syscall.EBUSY}
	}
	return d.OS.Remove(path)
}

func (d *sharing) RemoveAll(path string) error {
	if d.held(path) {
		return &fs.PathError{Op: "remove", Path: path, Err: syscall.EBUSY}
	}
	return d.OS.RemoveAll(path)
}

func (d *sharing) held(path string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for p := range d.open {
		if strings.HasPrefix(p, path) {
			return true
		}
	}
	return false
}

type sharedLog struct {
	atomicfile.Log

	disk *sharing
	path string
}

func (l *sharedLog) Close() error {
	l.disk.mu.Lock()
	defer l.disk.mu.Unlock()
	delete(l.disk.open, l.path)
	return l.Log.Close()
}

func TestARunHasClosedItsJournalWhenItRemovesIt(t *testing.T) {
	w := newWorld(t, contacts(200))
	disk := &sharing{open: map[string]bool{}}
	e := run.Engine{Store: w.store, Clock: clock.System{}, SealRows: 50, Disk: disk}
	for range 3 {
		if _, err := e.Run(t.Context(), w.job()); err != nil {
			t.Fatal(err)
		}
		if len(disk.open) > 0 {
			t.Errorf("still open: %v", disk.open)
		}
		w.source.Mutate(sandbox.Mutation{Updates: 5, Creates: 1})
	}
	if _, err := e.Run(t.Context(), w.job()); err != nil {
		t.Fatal(err)
	}
	w.same("lake")
	w.tidy()
}
