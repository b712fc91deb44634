package parquet_test

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/load/loadtest"
)

// lagging is a disk that notes which files are not flushed, and what they were
// when a manifest was begun.
type lagging struct {
	atomicfile.OS
	fail string // part of the name of files that cannot be flushed; empty: none

	mu       sync.Mutex
	unsynced map[string]bool
	early    []string // begun before all was flushed
	flushed  int
}

var errFlush = errors.New("the disk is gone")

func (l *lagging) OpenTemp(path string, perm fs.FileMode) (atomicfile.Temp, error) {
	t, err := l.OS.OpenTemp(path, perm)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if filepath.Base(filepath.Dir(path)) == "_manifests" && len(l.unsynced) > 0 {
		l.early = append(l.early, path)
	}
	l.unsynced[t.Name()] = true
	return laggingTemp{t, l, path}, nil
}

type laggingTemp struct {
	atomicfile.Temp
	disk *lagging
	path string
}

func (t laggingTemp) Sync() error {
	if t.disk.fail != "" && strings.Contains(t.path, t.disk.fail) {
		return errFlush
	}
	err := t.Temp.Sync()
	t.disk.mu.Lock()
	defer t.disk.mu.Unlock()
	delete(t.disk.unsynced, t.Name())
	t.disk.flushed++
	return err
}

func manyMonths() []loadtest.Row {
	var rows []loadtest.Row
	for month := 1; month <= 9; month++ {
		rows = append(rows, contact(string(rune('a'+month)), month, month))
	}
	return rows
}

func TestAManifestComesAfterEverythingStagedIsOnDisk(t *testing.T) {
	disk := &lagging{unsynced: map[string]bool{}}
	commit(t, open(t, t.TempDir(), on(disk)), build(t, 1, manyMonths()...))
	if len(disk.early) > 0 || len(disk.unsynced) > 0 {
		t.Errorf("begun before all was flushed: %v; never flushed: %v", disk.early, disk.unsynced)
	}
	if want := 2 * 9; disk.flushed < want { // files of current and their files of ids
		t.Errorf("%d files were flushed, want %d at least", disk.flushed, want)
	}
}

func TestACommitFailsWhereAFlushDoesThoughTheFileWasStaged(t *testing.T) {
	root := t.TempDir()
	commit(t, open(t, root), build(t, 1, contact("z", 1, 1)))
	before := snapshot(t, root)
	for _, name := range []string{"2026-05@contacts.parquet", "2026-05.ids", "history@"} {
		disk := &lagging{unsynced: map[string]bool{}, fail: name}
		_, err := open(t, root, on(disk)).Commit(t.Context(), build(t, 2, manyMonths()...))
		if !errors.Is(err, errFlush) {
			t.Errorf("%s cannot be flushed: the error is %v", name, err)
		}
		if after := snapshot(t, root); len(after) != len(before) {
			t.Errorf("%s cannot be flushed: the table has %d files, before it had %d", name, len(after), len(before))
		}
	}
}
