package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/sluice-etl/sluice/internal/atomicfile"
)

// LockRun takes this machine's lock of a pipeline for one kind of run (such as
// "sync") without waiting. It is the kernel's lock on an open file: it lasts until
// release or the end of the process, however that ends, and never longer. A
// *HeldError says that another run has it. Release it once.
func (s *Store) LockRun(ctx context.Context, pipeline, kind string) (release func() error, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l, err := s.newLock(pipeline, kind)
	if err != nil {
		return nil, err
	}
	ok, err := l.TryLock()
	if err != nil {
		return nil, &AccessError{Op: "lock", Path: l.Path(), Err: err}
	}
	if !ok {
		return nil, &HeldError{Pipeline: pipeline, Kind: kind, Path: l.Path(), Holder: readHolder(l.Path())}
	}
	// Who holds it stands in a file of its own: on Windows nobody else can
	// read a locked file. It only informs; the lock is the kernel's.
	if err := s.writeHolder(l.Path()); err != nil {
		return nil, errors.Join(&AccessError{Op: "write lock holder", Path: holderPath(l.Path()), Err: err}, l.Unlock())
	}
	return func() error {
		// The name goes first, so that a successor's is never removed.
		_ = os.Remove(holderPath(l.Path()))
		if err := l.Unlock(); err != nil {
			return fmt.Errorf("release lock of pipeline %s for %s: %w", pipeline, kind, err)
		}
		return nil
	}, nil
}

// lockSave takes the short lock under which one document is replaced.
func (s *Store) lockSave(ctx context.Context, d head) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, saveWait)
	defer cancel()
	slot := s.slot(d.stored())
	select {
	case slot <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for another save of %s: %w", d.title(), ctx.Err())
	}
	l, err := s.saveLock(d)
	if err != nil {
		<-slot
		return nil, err
	}
	ok, err := l.TryLockContext(ctx, 2*time.Millisecond)
	if err != nil || !ok {
		<-slot
		if cerr := ctx.Err(); cerr != nil {
			return nil, fmt.Errorf("wait for another save of %s: %w", d.title(), cerr)
		}
		return nil, &AccessError{Op: "lock", Path: l.Path(), Err: err}
	}
	return func() {
		// Closing the file gives the kernel's lock up in any case.
		_ = l.Unlock()
		<-slot
	}, nil
}

// saveLock is the lock of a document. A pipeline's has two dots in its name:
// none is that of the resources.
func (s *Store) saveLock(d head) (*flock.Flock, error) {
	if p, ok := d.(*Pipeline); ok {
		return s.newLock(p.Pipeline, "state")
	}
	return s.lockFile("resources")
}

// slot returns the semaphore that keeps this process's own goroutines apart,
// so that only one of them polls the file.
func (s *Store) slot(doc string) chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.saves[doc]
	if c == nil {
		c = make(chan struct{}, 1)
		s.saves[doc] = c
	}
	return c
}

func (s *Store) newLock(pipeline, kind string) (*flock.Flock, error) {
	if pipeline == "" || kind == "" {
		return nil, fmt.Errorf("lock pipeline %q for %q: both need a name", pipeline, kind)
	}
	return s.lockFile(escape(pipeline) + "." + escape(kind))
}

func (s *Store) lockFile(name string) (*flock.Flock, error) {
	if err := atomicfile.MakeDirs(s.fsys, s.lockDir(), dirPerm); err != nil {
		return nil, &AccessError{Op: "create lock directory", Path: s.lockDir(), Err: err}
	}
	path := filepath.Join(s.lockDir(), name+".lock")
	return flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(filePerm)), nil
}

func holderPath(lock string) string { return strings.TrimSuffix(lock, ".lock") + ".holder" }

func (s *Store) writeHolder(lock string) error {
	data, err := json.Marshal(s.holder())
	if err != nil {
		return err
	}
	removeTemps(holderPath(lock))
	return atomicfile.WriteFileOn(s.fsys, holderPath(lock), data, filePerm)
}

// holder describes this process.
func (s *Store) holder() Holder {
	host, err := os.Hostname()
	if err != nil {
		host = "" // it only informs
	}
	return Holder{PID: os.Getpid(), Host: host, Command: s.command, Since: s.clk.Now()}
}

// readHolder returns who left a name, a zero Holder where nobody did: the
// holder may be about to write it.
func readHolder(lock string) Holder {
	var h Holder
	data, err := os.ReadFile(holderPath(lock))
	if err != nil || json.Unmarshal(data, &h) != nil {
		return Holder{}
	}
	return h
}

// processCommand is the process's command line as a lock shows it.
func processCommand() string {
	words := append([]string{filepath.Base(os.Args[0])}, os.Args[1:]...)
	c := strings.Join(words, " ")
	if len(c) > 200 {
		c = strings.ToValidUTF8(c[:200], "") + "..."
	}
	return c
}
