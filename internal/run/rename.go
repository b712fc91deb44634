package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/state"
)

// TakenError is a new name that something has already.
type TakenError struct {
	From, To string // addresses
	By       string // what has it
}

func (e *TakenError) Error() string {
	return fmt.Sprintf("rename %s: %s exists already: %s", e.From, e.To, e.By)
}

// Hint says what to do.
func (e *TakenError) Hint() string {
	return "nothing was changed; choose another name, or forget what has it with `sluice state rm`"
}

// Renamed is what Engine.RenamePipeline or Engine.RenameDestination has changed.
type Renamed struct {
	From, To  string
	Backups   []string // of the documents as they were
	Runs      int      // directories of runs
	Aside     int      // files of records set aside
	Resources int      // addresses
	Pipelines []string // whose state names the destination
	Resumed   bool     // it had been stopped on the way
}

// RenamePipeline gives the state of a pipeline another name, with its lineage,
// the runs that it has staged, the records set aside and its resources. No run
// of either name may be going on. Stopped at any step, nothing reads the old
// document (*state.MovedError), and the same call does the rest.
//
// The order is what makes that safe: the old document is marked, what it names
// is moved, the new document is written, and the old one goes.
func (e *Engine) RenamePipeline(ctx context.Context, from, to string) (out Renamed, err error) {
	out = Renamed{From: from, To: to}
	var idle [2]*state.Idle
	for i, name := range []string{from, to} {
		if idle[i], err = e.Idle(ctx, name); err != nil {
			return out, err
		}
		defer func() { err = errors.Join(err, idle[i].Release()) }()
	}
	m := &renaming{Engine: e, from: from, to: to, out: &out, idleFrom: idle[0], idleTo: idle[1]}
	for _, step := range []func(context.Context) error{m.mark, m.moveRuns, m.moveAside, m.writeNew, m.moveResources, m.removeOld} {
		if err := step(ctx); err != nil {
			return out, err
		}
	}
	return out, nil
}

// renaming is one call of RenamePipeline.
type renaming struct {
	*Engine
	from, to         string
	idleFrom, idleTo *state.Idle
	old              *state.Pipeline // as it was marked
	out              *Renamed
}

func (m *renaming) taken(by string) error {
	return &TakenError{From: state.PipelineAddress(m.from), To: state.PipelineAddress(m.to), By: by}
}

// mark says in the old document where it goes. From here on nothing but this
// reads it.
func (m *renaming) mark(ctx context.Context) error {
	absent := fmt.Errorf("rename pipeline: %s has no state: %w", m.from, os.ErrNotExist)
	p, err := m.Store.Load(ctx, m.from)
	var moved *state.MovedError
	switch {
	case errors.As(err, &moved) && moved.To == m.to:
		m.out.Resumed = true
	case err != nil:
		return err
	case p.Serial == 0:
		return absent
	default:
		if err := m.free(ctx); err != nil {
			return err
		}
	}
	old, backup, err := m.Store.Edit(ctx, m.from, func(p *state.Pipeline) error {
		if p.Serial == 0 {
			return absent
		}
		if err := m.idleFrom.Check(p); err != nil {
			return err
		}
		p.MovedTo, p.Claims = m.to, nil
		return nil
	})
	m.old = old
	m.keep(backup)
	return err
}

// free says, as a *TakenError, that the new name is not free for the old
// document.
func (m *renaming) free(ctx context.Context) error {
	data, err := m.Store.Stored(ctx, m.to)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return err
	default:
		parsed, err := state.Parse(m.Store.Path(m.to), data)
		if err != nil {
			return err
		}
		if !blank(parsed.Pipelines[m.to]) {
			return m.taken("it has state of its own")
		}
	}
	names, err := runDirs(filepath.Dir(m.Store.RunDir("x")), m.to)
	if err != nil {
		return err
	}
	if len(names) > 0 {
		return m.taken("runs of it have staged " + names[0])
	}
	aside, err := m.quarantine(m.to).Files()
	if err != nil {
		return err
	}
	if len(aside) > 0 {
		return m.taken("records of it are set aside")
	}
	r, err := m.Store.LoadResources(ctx)
	if err != nil {
		return err
	}
	if _, has := r.Items[state.PipelineAddress(m.to)]; has {
		return m.taken("it is among the resources")
	}
	return nil
}

// blank reports whether a document says of no package: that of a pipeline which
// was named anew in the file before it was here, and failed at its destinations.
func blank(p *state.Pipeline) bool {
	return p != nil && p.NextPackage == 1 && p.Cursor == nil && p.MovedTo == ""
}

func (m *renaming) keep(backup string) {
	if backup != "" && !slices.Contains(m.out.Backups, backup) {
		m.out.Backups = append(m.out.Backups, backup)
	}
}

func (m *renaming) disk() atomicfile.Disk { return (&syncRun{Engine: m.Engine}).disk() }

// moveRuns gives the directories of runs their new names, here and in the
// bucket: one that has been moved is not found again.
func (m *renaming) moveRuns(ctx context.Context) error {
	if err := errors.Join(m.Store.DropFetches(m.from), m.Store.CopyRuns(ctx, m.from, m.to)); err != nil {
		return err
	}
	runs := filepath.Dir(m.Store.RunDir("x"))
	names, err := runDirs(runs, m.from)
	if err != nil || len(names) == 0 {
		return err
	}
	for _, name := range names {
		if err := m.disk().Rename(filepath.Join(runs, name), filepath.Join(runs, runDirName(m.to, runIDOf(name)))); err != nil {
			return fmt.Errorf("rename run directory: %w", err)
		}
		m.out.Runs++
	}
	if err := m.disk().SyncDir(runs); err != nil {
		return fmt.Errorf("rename run directory: %w", err)
	}
	return nil
}

// moveAside moves the records set aside, file by file.
func (m *renaming) moveAside(context.Context) error {
	from, to := m.quarantine(m.from), m.quarantine(m.to)
	files, err := from.Files()
	if err != nil {
		return err
	}
	if _, err := os.Stat(from.Dir()); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := atomicfile.MakeDirs(m.disk(), to.Dir(), 0o700); err != nil {
		return fmt.Errorf("move quarantine: %w", err)
	}
	for _, name := range files {
		if err := m.disk().Rename(filepath.Join(from.Dir(), name), filepath.Join(to.Dir(), name)); err != nil {
			return fmt.Errorf("move quarantine: %w", err)
		}
		m.out.Aside++
	}
	for _, dir := range []string{to.Dir(), from.Dir()} {
		if err := m.disk().SyncDir(dir); err != nil {
			return fmt.Errorf("move quarantine: %w", err)
		}
	}
	// Left empty but for what killed writers left, which nobody wants.
	if err := m.disk().RemoveAll(from.Dir()); err != nil {
		return fmt.Errorf("move quarantine: %w", err)
	}
	return nil
}

// writeNew writes the document under its new name. Stopped right after, a run
// may have gone on from there: then it stays.
func (m *renaming) writeNew(ctx context.Context) error {
	done := errors.New("written before")
	_, backup, err := m.Store.Edit(ctx, m.to, func(p *state.Pipeline) error {
		switch {
		case p.Serial > 0 && p.Lineage == m.old.Lineage:
			return done
		case p.Serial > 0 && !blank(p):
			return m.taken("it has state of its own")
		}
		if err := m.idleTo.Check(p); err != nil {
			return err
		}
		saves := p.Saves
		*p = *m.old
		p.Pipeline, p.MovedTo, p.Saves = m.to, "", saves
		return nil
	})
	if errors.Is(err, done) {
		return nil
	}
	m.keep(backup)
	return err
}

// moveResources gives the pipeline's resources its new name.
func (m *renaming) moveResources(ctx context.Context) error {
	_, backup, err := m.Store.EditResources(ctx, func(r *state.Resources) error {
		m.out.Resources = 0
		for address, item := range r.Items {
			if item.Pipeline != m.from && address != state.PipelineAddress(m.from) {
				continue
			}
			m.out.Resources++
			if item.Pipeline == m.from {
				item.Pipeline = m.to
			}
			if address == state.PipelineAddress(m.from) {
				delete(r.Items, address)
				address = state.PipelineAddress(m.to)
			}
			r.Items[address] = item
		}
		return nil
	})
	m.keep(backup)
	return err
}

// removeOld removes the old document, of which the new one is a copy, once all
// that the new one names is there.
func (m *renaming) removeOld(ctx context.Context) error {
	p, err := m.Store.Load(ctx, m.to)
	if err != nil {
		return err
	}
	for dirName, kept := range keptRuns(p) {
		if err := m.Store.CheckKept(ctx, dirName, kept); err != nil {
			return fmt.Errorf("rename pipeline: %w", err)
		}
	}
	if err := m.Store.DropRuns(ctx, m.from); err != nil {
		return err
	}
	_, err = m.Store.Forget(ctx, m.from, func(p *state.Pipeline) error {
		if p.MovedTo != m.to {
			return &state.StaleError{Pipeline: m.from, Path: m.Store.Path(m.from), Loaded: m.old.Serial, Stored: p.Serial}
		}
		return nil
	})
	return err
}

// RenameDestination gives a destination another name in the states of all
// pipelines and in the resources. No run of a pipeline that has it may be going
// on. Stopped at any step, the same call does the rest.
func (e *Engine) RenameDestination(ctx context.Context, from, to string) (out Renamed, err error) {
	out = Renamed{From: from, To: to}
	all, err := e.Store.Pipelines(ctx)
	if err != nil {
		return out, err
	}
	idle := map[string]*state.Idle{}
	for _, name := range all {
		if idle[name], err = e.Idle(ctx, name); err != nil {
			return out, err
		}
		defer func() { err = errors.Join(err, idle[name].Release()) }()
	}
	if err := e.beginRename(ctx, &out, all); err != nil {
		return out, err
	}
	done := errors.New("done before")
	for _, name := range all {
		_, backup, err := e.Store.Edit(ctx, name, func(p *state.Pipeline) error {
			d := p.Destinations[from]
			if d == nil {
				return done
			}
			if err := idle[name].Check(p); err != nil {
				return err
			}
			delete(p.Destinations, from)
			p.Destinations[to] = d
			return nil
		})
		switch {
		case errors.Is(err, done):
			continue
		case err != nil:
			return out, err
		}
		out.Backups, out.Pipelines = append(out.Backups, backup), append(out.Pipelines, name)
	}
	_, _, err = e.Store.EditResources(ctx, func(r *state.Resources) error {
		out.Resources = moveItems(r, from, to)
		if delete(r.Moving, from); len(r.Moving) == 0 {
			r.Moving = nil
		}
		return nil
	})
	return out, err
}

// beginRename writes down that a destination is being renamed, so that the new
// name is known for the same destination where that is stopped on the way.
func (e *Engine) beginRename(ctx context.Context, out *Renamed, pipelines []string) error {
	from, to := out.From, out.To
	found, taken := "", ""
	for _, name := range pipelines {
		p, err := e.Store.Load(ctx, name)
		if err != nil {
			return err
		}
		if p.Destinations[from] != nil {
			found = name
		}
		if p.Destinations[to] != nil {
			taken = "pipeline " + name + " has it"
		}
	}
	_, backup, err := e.Store.EditResources(ctx, func(r *state.Resources) error {
		for address := range r.Items {
			if strings.HasPrefix(address, "destination."+from+".") {
				found = address
			}
			if strings.HasPrefix(address, "destination."+to+".") {
				taken = address + " is among the resources"
			}
		}
		out.Resumed = r.Moving[from] == to
		switch {
		case out.Resumed:
			return nil
		case r.Moving[from] != "":
			return &TakenError{From: "destination." + from, To: "destination." + to, By: "it is being renamed to " + r.Moving[from] + "; finish that first"}
		case found == "":
			return fmt.Errorf("rename destination: nothing is remembered of %s: %w", from, os.ErrNotExist)
		case taken != "":
			return &TakenError{From: "destination." + from, To: "destination." + to, By: taken}
		}
		if r.Moving == nil {
			r.Moving = map[string]string{}
		}
		r.Moving[from] = to
		return nil
	})
	if backup != "" {
		out.Backups = append(out.Backups, backup)
	}
	return err
}

// attrDestinations is what a pipeline's resource says of its destinations.
const attrDestinations = "destinations"

// moveItems renames the destination of resources, and in what is remembered of
// pipelines.
func moveItems(r *state.Resources, from, to string) (n int) {
	for address, item := range r.Items {
		if names := strings.Split(item.Attributes[attrDestinations], ", "); item.Kind == state.KindPipeline && slices.Contains(names, from) {
			names[slices.Index(names, from)] = to
			item.Attributes[attrDestinations] = strings.Join(names, ", ")
			continue
		}
		rest, ok := strings.CutPrefix(address, "destination."+from+".")
		if !ok {
			continue
		}
		item.Destination = to
		delete(r.Items, address)
		r.Items["destination."+to+"."+rest] = item
		n++
	}
	return n
}
