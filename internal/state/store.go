package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/clock"
)

const (
	dirPerm  = 0o700 // personal data and cursors are the owner's affair
	filePerm = 0o600

	stateDir  = "state"
	runsDir   = "runs"
	docPrefix = "pipeline."
	docSuffix = ".json"

	// maxDocument bounds what is read as one document, in bytes. Two hundred
	// run records with large coverage stay far below it.
	maxDocument = 64 << 20

	// saveWait is how long Save and Update wait for another process's save,
	// which takes milliseconds.
	saveWait = 30 * time.Second

	// maxTries bounds how often Update starts over where other machines save
	// in between, and tryWait how long it waits before each, times the tries.
	maxTries = 20
	tryWait  = 50 * time.Millisecond
)

// Store keeps state in a directory, or the documents and the sealed packages in
// a bucket and the rest in a directory:
//
//	state/pipeline.NAME.json  the documents
//	state/resources.json      what was made at destinations
//	state/backup/             documents as they were before somebody changed them by hand
//	locks/                    lock files, never removed, and who holds them
//	runs/DIR/                 staged parts and journals; the engine's
//	quarantine/               records set aside; the engine's, local always
//
// It is safe for use by many goroutines and processes at once.
type Store struct {
	dir     string
	docs    backend
	where   func(doc string) string // a document's file or URL, for people
	shared  *shared                 // the bucket; nil where there is none
	clk     clock.Clock
	fsys    atomicfile.Disk
	version string
	command string
	rescue  string
	push    string // the command that puts a document in place

	mu    sync.Mutex
	saves map[string]chan struct{} // one-slot semaphore per document
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

// WithPushCommand sets the command that errors give for putting a rescued
// document of resources in place, without the file. The default is
// "sluice state push".
func WithPushCommand(c string) Option { return func(s *Store) { s.push = c } }

// WithFS sets the filesystem that documents and fetched packages are written
// through, for tests that make it fail. The default is the operating system's.
func WithFS(fsys atomicfile.Disk) Option { return func(s *Store) { s.fsys = fsys } }

// Open returns the store in dir. Nothing is created before the first write;
// that dir is usable at all is checked here, so that a run fails before it
// has fetched anything.
func Open(dir string, clk clock.Clock, opts ...Option) (*Store, error) {
	s, err := newStore(dir, clk, opts)
	if err != nil {
		return nil, err
	}
	docs := &files{dir: filepath.Join(s.dir, stateDir), fsys: s.fsys}
	s.docs, s.where = docs, docs.path
	return s, nil
}

func newStore(dir string, clk clock.Clock, opts []Option) (*Store, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open state directory: %w", err)
	}
	s := &Store{
		dir: abs, clk: clk, fsys: atomicfile.OS{},
		command: processCommand(), rescue: os.TempDir(), push: "sluice state push",
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

// Dir returns the local directory of the store, absolute.
func (s *Store) Dir() string { return s.dir }

// RunDir returns the local directory of a run's staged parts and journal. The
// caller creates it, mode 0700.
func (s *Store) RunDir(dirName string) string { return filepath.Join(s.dir, runsDir, dirName) }

// Path returns the file, or the gs:// URL, of a pipeline's document.
func (s *Store) Path(pipeline string) string { return s.where(docName(pipeline)) }

func docName(pipeline string) string { return docPrefix + escape(pipeline) + docSuffix }

func (s *Store) lockDir() string { return filepath.Join(s.dir, "locks") }

// Pipelines returns the names of the pipelines that have state, sorted.
func (s *Store) Pipelines(ctx context.Context) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	docs, err := s.docs.list(ctx, docPrefix)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, doc := range docs {
		base := strings.TrimPrefix(doc, docPrefix)
		if !strings.HasSuffix(base, docSuffix) {
			continue
		}
		if name, ok := unescape(strings.TrimSuffix(base, docSuffix)); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Load returns the state of a pipeline, a New one where there is none. A
// *MovedError says that it is being renamed.
func (s *Store) Load(ctx context.Context, pipeline string) (*Pipeline, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p, _, err := read(ctx, s, New(pipeline))
	if err == nil {
		err = p.moved()
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Save writes p if what is stored is still what p was loaded from, and moves
// p.Serial on. A *StaleError means that another process saved in between; any
// other error leaves the old document whole.
func (s *Store) Save(ctx context.Context, p *Pipeline) error {
	unlock, err := s.lockSave(ctx, p)
	if err != nil {
		return err
	}
	defer unlock()
	stored, v, err := read(ctx, s, New(p.Pipeline))
	if err != nil {
		return fmt.Errorf("save state of pipeline %s: %w", p.Pipeline, err)
	}
	if stored.Serial != p.Serial || stored.Lineage != p.Lineage {
		return stale(s, p, stored)
	}
	if err = replace(ctx, s, p, v); errors.Is(err, errMoved) {
		return outrun(ctx, s, p)
	}
	return err
}

// Update loads the state of a pipeline, lets change alter it and saves it, so
// that two updates never undo each other. An error of change is returned as it
// is and nothing is saved. change must be quick, as others wait for it, and
// must not load or save state. Where the state is shared by machines, it is
// called again, with what stands there then, as often as another machine saves
// in between.
func (s *Store) Update(ctx context.Context, pipeline string, change func(*Pipeline) error) (*Pipeline, error) {
	return update(ctx, s, New(pipeline), func(p *Pipeline) error {
		if err := p.moved(); err != nil {
			return err
		}
		return change(p)
	})
}
