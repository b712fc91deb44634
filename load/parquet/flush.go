package parquet

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"sync"

	"github.com/sluice-etl/sluice/internal/atomicfile"
)

// flushesAtOnce is how many flushes a commit waits for at a time. A flush waits
// for the disk: with several under way it has them in one go, and the next file
// is made meanwhile. Of the first commit of a table of forty months they were
// more than half of the time, one after the other.
const flushesAtOnce = 4

// flushLater publishes into the staging directory and flushes files while
// others are made. A staged file counts for nothing before the numbered
// manifest, and wait, which says that all of them are on disk, comes before it.
type flushLater struct {
	flushOnce
	slots chan struct{}
	mu    sync.Mutex
	errs  []error
	all   sync.WaitGroup
}

func newFlushLater(fsys atomicfile.FS) *flushLater {
	return &flushLater{flushOnce: flushOnce{fsys}, slots: make(chan struct{}, flushesAtOnce)}
}

// OpenTemp implements atomicfile.FS.
func (f *flushLater) OpenTemp(path string, perm fs.FileMode) (atomicfile.Temp, error) {
	t, err := f.flushOnce.OpenTemp(path, perm)
	if err != nil || runtime.GOOS == "windows" { // where an open file cannot be renamed
		return t, err
	}
	return &lateTemp{Temp: t, to: f, path: path}, nil
}

// wait returns once every file closed so far is on disk, or was not to be
// brought there.
func (f *flushLater) wait() error {
	f.all.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	return errors.Join(f.errs...)
}

// lateTemp is a file whose flush is asked for when it is and done once it is
// closed.
type lateTemp struct {
	atomicfile.Temp
	to      *flushLater
	path    string
	flushes bool
}

// Sync has the file flushed once it is closed.
func (t *lateTemp) Sync() error {
	t.flushes = true
	return nil
}

// Close closes a file at once that was not to be flushed; else it blocks while
// flushesAtOnce others are under way.
func (t *lateTemp) Close() error {
	if !t.flushes {
		return t.Temp.Close()
	}
	t.to.slots <- struct{}{}
	t.to.all.Go(func() {
		defer func() { <-t.to.slots }()
		err := t.Temp.Sync()
		if closing := t.Temp.Close(); err == nil {
			err = closing
		}
		if err != nil {
			t.to.mu.Lock()
			defer t.to.mu.Unlock()
			t.to.errs = append(t.to.errs, explain("flush file", t.path, fmt.Errorf("flush %s: %w", t.path, err)))
		}
	})
	return nil
}

// syncFolders makes the names in folders durable, several folders at once.
func syncFolders(fsys atomicfile.FS, folders map[string]bool) error {
	slots := make(chan struct{}, flushesAtOnce)
	errs := make([]error, len(folders))
	var all sync.WaitGroup
	n := 0
	for d := range folders {
		to := &errs[n]
		n++
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			*to = explain("flush folder", d, fsys.SyncDir(d))
		})
	}
	all.Wait()
	return errors.Join(errs...)
}
