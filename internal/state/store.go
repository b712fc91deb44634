package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/clock"
)

const (
	dirPerm  = 0o700 // personal data and cursors are the owner's affair
	filePerm = 0o600

	docPrefix = "pipeline."
	docSuffix = ".json"

	// maxDocument bounds what is read as one document, in bytes. Two hundred
	// run records with large coverage stay far below it.
	maxDocument = 64 << 20

	// saveWait is how long Save and Update wait for another process's save,
	// which takes milliseconds.
	saveWait = 30 * time.Second
)

// Store keeps state in a directory:
//
//	state/pipeline.NAME.json  the documents
//	locks/                    lock files, never removed, and who holds them
//	runs/RUN-ID/              staged parts and journals; the engine's
//
// It is safe for use by many goroutines and processes at once.
type Store struct {
	dir     string
	clk     clock.Clock
	fsys    atomicfile.FS
	version string
	command string
	rescue  string

	mu    sync.Mutex
	saves map[string]chan struct{} // one-slot semaphore per pipeline
}

// Option adjusts a Store.
type Option func(*Store)

// WithVersion sets the build's version, recorded in each document.
func WithVersion(v string) Option { return func(s *Store) { s.version = v } }

// WithCommand sets the command line that a lock shows to those it keeps out.
// The default is the process's own, cut to 200 bytes. It must hold no key.
func WithCommand(c string) Option { return func(s *Store) { s.command = c } }

// WithRescueDir sets where SaveOrRescue writes what it cannot save. The
// default is os.TempDir().
func WithRescueDir(dir string) Option { return func(s *Store) { s.rescue = dir } }

// WithFS sets the filesystem that documents are written through, for tests
// that make it fail. The default is the operating system's.
func WithFS(fsys atomicfile.FS) Option { return func(s *Store) { s.fsys = fsys } }

// Open returns the store in dir. Nothing is created before the first write;
// that dir is usable at all is checked here, so that a run fails before it
// has fetched anything.
func Open(dir string, clk clock.Clock, opts ...Option) (*Store, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open state directory: %w", err)
	}
	s := &Store{
		dir: abs, clk: clk, fsys: atomicfile.OS{},
		command: processCommand(), rescue: os.TempDir(),
		saves: map[string]chan struct{}{},
	}
	for _, o := range opts {
		o(s)
	}
	info, err := os.Stat(abs)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, &AccessError{Op: "open state directory", Path: abs, Err: err}
	case !info.IsDir():
		return nil, &AccessError{Op: "open state directory", Path: abs, Err: errors.New("it is a file, not a directory")}
	}
	return s, nil
}

// Dir returns the directory of the store, absolute.
func (s *Store) Dir() string { return s.dir }

// RunDir returns the directory of a run's staged parts and journal. The caller
// creates it, mode 0700.
func (s *Store) RunDir(runID string) string { return filepath.Join(s.dir, "runs", runID) }

// Path returns the file of a pipeline's document.
func (s *Store) Path(pipeline string) string {
	return filepath.Join(s.stateDir(), docPrefix+escape(pipeline)+docSuffix)
}

func (s *Store) stateDir() string { return filepath.Join(s.dir, "state") }
func (s *Store) lockDir() string  { return filepath.Join(s.dir, "locks") }

// Pipelines returns the names of the pipelines that have state, sorted.
func (s *Store) Pipelines(ctx context.Context) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(s.stateDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &AccessError{Op: "list state directory", Path: s.stateDir(), Err: err}
	}
	var names []string
	for _, e := range entries {
		base, ok := strings.CutPrefix(e.Name(), docPrefix)
		if !ok || !strings.HasSuffix(base, docSuffix) {
			continue
		}
		if name, ok := unescape(strings.TrimSuffix(base, docSuffix)); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Load returns the state of a pipeline, a New one where there is none.
func (s *Store) Load(ctx context.Context, pipeline string) (*Pipeline, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return s.read(pipeline)
}

func (s *Store) read(pipeline string) (*Pipeline, error) {
	path := s.Path(pipeline)
	data, err := readBounded(path)
	if errors.Is(err, fs.ErrNotExist) {
		return New(pipeline), nil
	}
	if err != nil {
		return nil, err
	}
	return decode(path, pipeline, data)
}

// Save writes p if the file still holds what p was loaded from, and moves
// p.Serial on. A *StaleError means that another process saved in between; any
// other error leaves the old document whole.
func (s *Store) Save(ctx context.Context, p *Pipeline) error {
	unlock, err := s.lockSave(ctx, p.Pipeline)
	if err != nil {
		return err
	}
	defer unlock()
	return s.save(p)
}

// save is Save under the lock.
func (s *Store) save(p *Pipeline) error {
	stored, err := s.read(p.Pipeline)
	if err != nil {
		return fmt.Errorf("save state of pipeline %s: %w", p.Pipeline, err)
	}
	path := s.Path(p.Pipeline)
	if stored.Serial != p.Serial || stored.Lineage != p.Lineage {
		return &StaleError{
			Pipeline: p.Pipeline, Path: path, Loaded: p.Serial, Stored: stored.Serial,
			OtherLineage: stored.Lineage != p.Lineage && p.Lineage != "" && stored.Lineage != "",
		}
	}
	next, data, err := s.encode(p)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.stateDir(), dirPerm); err != nil {
		return &AccessError{Op: "create state directory", Path: s.stateDir(), Err: err}
	}
	removeTemps(path)
	err = atomicfile.WriteFileOn(s.fsys, path, data, filePerm)
	if err != nil {
		// Only the directory's flush may have failed: then the new document
		// stands, and p must say so, or its next Save would lose against itself.
		if now, rerr := s.read(p.Pipeline); rerr == nil && now.Serial == next.Serial && now.Lineage == next.Lineage {
			*p = *next
		}
		return &AccessError{Op: "write state", Path: path, Err: err}
	}
	*p = *next
	return nil
}

// encode returns what p becomes when saved, and its bytes.
func (s *Store) encode(p *Pipeline) (*Pipeline, []byte, error) {
	next := *p
	next.FormatVersion = FormatVersion
	next.SluiceVersion = s.version
	next.Serial++
	if next.Lineage == "" {
		id, err := uuid.NewRandom()
		if err != nil {
			return nil, nil, fmt.Errorf("make lineage of pipeline %s: %w", p.Pipeline, err)
		}
		next.Lineage = id.String()
	}
	if reason := next.fault(); reason != "" {
		return nil, nil, fmt.Errorf("save state of pipeline %s: refusing to write what could not be read back: %s", p.Pipeline, reason)
	}
	data, err := json.MarshalIndent(&next, "", "  ")
	if err != nil {
		return nil, nil, fmt.Errorf("encode state of pipeline %s: %w", p.Pipeline, err)
	}
	return &next, append(data, '\n'), nil
}

// Update loads the state of a pipeline, lets change alter it and saves it, all
// under one lock, so that two updates never undo each other. An error of
// change is returned as it is and nothing is saved. change must be quick and
// must not call the store: others wait for it.
func (s *Store) Update(ctx context.Context, pipeline string, change func(*Pipeline) error) (*Pipeline, error) {
	unlock, err := s.lockSave(ctx, pipeline)
	if err != nil {
		return nil, err
	}
	defer unlock()
	p, err := s.read(pipeline)
	if err != nil {
		return nil, err
	}
	if err := change(p); err != nil {
		return nil, err
	}
	if err := s.save(p); err != nil {
		return nil, &unsavedError{changed: p, err: err}
	}
	return p, nil
}

// removeTemps deletes what killed writers of one file left. The caller holds
// the lock that keeps other writers of it out. What cannot be deleted stays:
// it harms nobody.
func removeTemps(path string) {
	dir, base := filepath.Split(path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if atomicfile.IsTemp(e.Name()) && strings.HasSuffix(e.Name(), "-"+base) {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// readBounded reads a document, refusing what is no regular file or too large.
func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err != nil {
		return nil, &AccessError{Op: "read state", Path: path, Err: err}
	}
	if !info.Mode().IsRegular() {
		return nil, &CorruptError{Path: path, Reason: "it is not a regular file"}
	}
	if info.Size() > maxDocument {
		return nil, &CorruptError{Path: path, Reason: fmt.Sprintf("it has %d bytes, more than any state (%d)", info.Size(), maxDocument)}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, &AccessError{Op: "read state", Path: path, Err: err}
	}
	return data, nil
}
