package run

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/sluice-etl/sluice/internal/state"
)

// Idle keeps every kind of run of a pipeline out until it is released. A
// *state.HeldError says that one is going on.
func (e *Engine) Idle(ctx context.Context, pipeline string) (*state.Idle, error) {
	return e.Store.Idle(ctx, pipeline, kindSync, kindBackfill, kindReconcile, kindRetry, kindCommit)
}

// Waiting is how much is queued for a destination.
type Waiting struct {
	Packages int64 `json:"packages"`
	Rows     int64 `json:"rows"`
}

func waiting(d *state.Destination) (w Waiting) {
	for _, ref := range d.Queue {
		w.Packages++
		w.Rows += ref.Rows
	}
	return w
}

// QueuedError is a pipeline, or one of its destinations, that packages wait for:
// forgetting it would lose them.
type QueuedError struct {
	Pipeline    string
	Destination string
	Waiting     Waiting
}

func (e *QueuedError) Error() string {
	return fmt.Sprintf("forget pipeline %s: %d package(s) with %d row(s) wait for destination %s", e.Pipeline, e.Waiting.Packages, e.Waiting.Rows, e.Destination)
}

// Hint says what to do.
func (e *QueuedError) Hint() string {
	return fmt.Sprintf("nothing was changed. `sluice run %s` commits them; with --force they are lost", state.Typed(e.Pipeline))
}

// Forgotten is what Engine.Forget or Engine.ForgetDestination has removed, or
// would.
type Forgotten struct {
	Pipeline    string `json:"pipeline"`
	Destination string `json:"destination,omitempty"` // empty: all of the pipeline
	Backup      string `json:"backup,omitempty"`
	// Lost is what waited for destinations, by their names; nil for nothing.
	Lost map[string]Waiting `json:"lost,omitempty"`
	// Unfinished is how many runs had read something that was not sealed.
	Unfinished int `json:"unfinished_runs"`
	// Aside is how many files of records set aside stay.
	Aside int `json:"quarantine_files"`
	// Lineage is of the history that is forgotten.
	Lineage string `json:"lineage"`
}

// Forget removes the state of a pipeline with everything that its runs have
// staged; records set aside stay. It refuses, as a *QueuedError, while packages
// wait for a destination, unless force is set. Stopped on the way, the same call
// does the rest. A dry run changes nothing.
func (e *Engine) Forget(ctx context.Context, pipeline string, force, dryRun bool) (out Forgotten, err error) {
	idle, err := e.Idle(ctx, pipeline)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, idle.Release()) }()
	st, err := e.Store.Load(ctx, pipeline)
	if err != nil {
		return out, err
	}
	out = Forgotten{Pipeline: pipeline, Lineage: st.Lineage, Lost: map[string]Waiting{}}
	for _, name := range slices.Sorted(maps.Keys(st.Destinations)) {
		if err := out.lose(name, st.Destinations[name], force); err != nil {
			return out, err
		}
	}
	runs := filepath.Dir(e.Store.RunDir("x"))
	names, err := runDirs(runs, pipeline)
	if err != nil {
		return out, err
	}
	for _, name := range names {
		if !(&syncRun{st: st}).accounted(runIDOf(name)) {
			out.Unfinished++
		}
	}
	aside, err := e.quarantine(pipeline).Files()
	if out.Aside = len(aside); err != nil || dryRun {
		return out, err
	}
	// What was staged goes first: stopped in between, the document still names
	// what is to be forgotten.
	for _, name := range names {
		if err := removeRun((&syncRun{Engine: e}).disk(), filepath.Join(runs, name)); err != nil {
			return out, err
		}
	}
	if err := errors.Join(e.Store.DropFetches(pipeline), e.Store.DropRuns(ctx, pipeline)); err != nil {
		return out, err
	}
	out.Backup, err = e.Store.Forget(ctx, pipeline, func(p *state.Pipeline) error {
		if p.Serial != st.Serial {
			return &state.StaleError{Pipeline: pipeline, Path: e.Store.Path(pipeline), Loaded: st.Serial, Stored: p.Serial}
		}
		return idle.Check(p)
	})
	return out, err
}

// lose notes what waits for a destination, and refuses to lose it unless force
// is set.
func (f *Forgotten) lose(name string, d *state.Destination, force bool) error {
	w := waiting(d)
	if w.Packages == 0 {
		return nil
	}
	f.Lost[name] = w
	if !force {
		return &QueuedError{Pipeline: f.Pipeline, Destination: name, Waiting: w}
	}
	return nil
}

// ForgetDestination removes what a pipeline's state has of one destination: its
// position, and its queue as Forget does. The next run reads everything for it.
func (e *Engine) ForgetDestination(ctx context.Context, pipeline, destination string, force, dryRun bool) (out Forgotten, err error) {
	idle, err := e.Idle(ctx, pipeline)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, idle.Release()) }()
	st, err := e.Store.Load(ctx, pipeline)
	if err != nil {
		return out, err
	}
	out = Forgotten{Pipeline: pipeline, Destination: destination, Lineage: st.Lineage, Lost: map[string]Waiting{}}
	errDry := errors.New("dry run")
	_, backup, err := e.Store.Edit(ctx, pipeline, func(p *state.Pipeline) error {
		d := p.Destinations[destination]
		if d == nil {
			return fmt.Errorf("forget destination: pipeline %s has none called %s: %w", pipeline, destination, os.ErrNotExist)
		}
		if err := errors.Join(idle.Check(p), out.lose(destination, d, force)); err != nil {
			return err
		}
		if dryRun {
			return errDry
		}
		delete(p.Destinations, destination)
		return nil
	})
	if errors.Is(err, errDry) {
		err = nil
	}
	out.Backup = backup
	return out, err
}

// Push puts a document in the place of a pipeline's, as state.Store.Push does,
// while no run is going on. Every package that it queues has to be there.
func (e *Engine) Push(ctx context.Context, p *state.Pipeline, force, dryRun bool) (out state.Pushed, err error) {
	idle, err := e.Idle(ctx, p.Pipeline)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, idle.Release()) }()
	for _, name := range slices.Sorted(maps.Keys(p.Destinations)) {
		for _, ref := range p.Destinations[name].Queue {
			if err := e.checkQueued(ctx, p.Pipeline, ref); err != nil {
				return out, &state.RefusedError{
					Pipeline: p.Pipeline, Reason: fmt.Sprintf("it queues package %d for destination %s, which is not there: %v", ref.Serial, name, err),
					Next: "nothing was changed. Take the package out of the file's queue and set needs_full of the destination to a time: the next run then reads everything for it",
				}
			}
		}
	}
	return e.Store.Push(ctx, p, force, dryRun, idle.Check)
}

// checkQueued says why a package that is queued cannot be committed.
func (e *Engine) checkQueued(ctx context.Context, pipeline string, ref state.PackageRef) error {
	dirName := runDirName(pipeline, ref.RunID)
	if ref.Kept != "" {
		return e.Store.CheckKept(ctx, dirName, ref.Kept)
	}
	dir := e.Store.RunDir(dirName)
	records, _, err := readJournal(dir)
	if err != nil {
		return err
	}
	sealed := false
	for _, r := range records {
		if r.Part != nil {
			if err := checkPart(dir, *r.Part); err != nil {
				return err
			}
		}
		sealed = sealed || r.Sealed != nil && r.Sealed.Serial == ref.Serial
	}
	if !sealed {
		return fmt.Errorf("%s holds no journal of it", dir)
	}
	return nil
}
