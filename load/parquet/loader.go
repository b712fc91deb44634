package parquet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/load"
)

// Loader commits packages to one table of Parquet files. It holds nothing
// between calls: every commit starts from what is on disk.
type Loader struct {
	o    Options
	dir  string // the table's, absolute
	root string // the same, as readers of the table name it
	mem  memory.Allocator
	// fetch brings files of the table to where the merge reads them; small ones
	// that do not exist are passed over. nil: they are there.
	fetch func(ctx context.Context, files []File, small []string) error
	// stages is the file of the table of stages, as readers name it, where it is
	// not on disk; empty where there is none.
	stages string
	// keepEmpty leaves a file without rows where nothing is left of a month.
	keepEmpty bool
}

var _ load.Lister = (*Loader)(nil)

// New returns a Loader. It touches nothing on disk.
func New(o Options) (*Loader, error) {
	if o.Path == "" || o.Table == "" {
		return nil, errors.New("open parquet destination: it needs a path and a table")
	}
	if o.Table != filepath.Base(o.Table) || !filepath.IsLocal(o.Table) {
		return nil, fmt.Errorf("open parquet destination: table %q is no plain name", o.Table)
	}
	if o.Stages != "" && (o.Stages != filepath.Base(o.Stages) || !filepath.IsLocal(o.Stages) || o.Stages == o.Table) {
		return nil, fmt.Errorf("open parquet destination: table of stages %q is no plain name of its own", o.Stages)
	}
	root, err := filepath.Abs(o.Path)
	if err != nil {
		return nil, fmt.Errorf("open parquet destination: %w", err)
	}
	if o.Timezone == nil {
		o.Timezone = time.UTC
	}
	if o.Clock == nil {
		o.Clock = clock.System{}
	}
	if o.FS == nil {
		o.FS = atomicfile.OS{}
	}
	if o.Workers <= 0 {
		o.Workers = 2
	}
	if o.LockWait == 0 {
		o.LockWait = time.Minute
	}
	if o.HistoryFileRows <= 0 {
		o.HistoryFileRows = 1 << 20
	}
	if o.CompactRows == 0 {
		o.CompactRows = 2_000_000
	}
	if o.CompactBytes <= 0 {
		o.CompactBytes = 128 << 20
	}
	if o.ArchiveRuns <= 0 {
		o.ArchiveRuns = 1024
	}
	dir := filepath.Join(root, o.Table)
	return &Loader{o: o, dir: dir, root: dir, mem: memory.DefaultAllocator}, nil
}

// Dir returns the table's directory, absolute.
func (l *Loader) Dir() string { return l.dir }

// Close implements load.Loader. There is nothing to release.
func (l *Loader) Close() error { return nil }

// Check implements load.Loader. The position is that of latest.json: a commit
// that was recorded and not put in place wholly counts once it has been, which
// the next Commit does first.
func (l *Loader) Check(ctx context.Context, lineage string) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := mustBeWritable(l.dir); err != nil {
		return 0, err
	}
	t, found, err := inspect(l.dir)
	if err != nil || !found {
		return 0, err
	}
	if _, err := t.ours(l.dir, lineage); err != nil {
		return 0, err
	}
	if t.latest == nil {
		return 0, nil
	}
	return t.latest.Package, nil
}

// mustBeWritable checks the nearest existing folder on the way to dir, by
// asking the system: a trial file would change what is only being looked at.
func mustBeWritable(dir string) error {
	for d := dir; ; d = filepath.Dir(d) {
		info, err := os.Stat(d)
		switch {
		case err == nil && info.IsDir():
			return explain("write to folder", d, accessWritable(d))
		case err == nil:
			return explain("use folder", d, &fs.PathError{Op: "open", Path: d, Err: errNotDir})
		case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errNotDir):
			return explain("read", d, err)
		case d == filepath.Dir(d):
			return explain("read", d, err)
		}
	}
}

// Commit implements load.Loader.
func (l *Loader) Commit(ctx context.Context, p load.Package) (load.Result, error) {
	if err := checkPackage(p); err != nil {
		return load.Result{}, err
	}
	// Look before anything is created, the lock file included: a foreign
	// directory stays as it is.
	t, found, err := inspect(l.dir)
	if err != nil {
		return load.Result{}, err
	}
	if found {
		if _, err := t.ours(l.dir, p.Lineage); err != nil {
			return load.Result{}, err
		}
	}
	if err := atomicfile.MakeDirs(l.o.FS, l.dir, dirMode); err != nil {
		return load.Result{}, explain("create folder", l.dir, err)
	}
	release, err := acquire(ctx, l.dir, p.RunID, l.o.LockWait, l.o.Clock)
	if err != nil {
		return load.Result{}, err
	}
	result, err := l.commitLocked(ctx, p)
	if err == nil {
		err = l.writeUnion()
	}
	return result, errors.Join(err, release())
}

func (l *Loader) commitLocked(ctx context.Context, p load.Package) (load.Result, error) {
	m, err := l.recover(p)
	if err != nil {
		return load.Result{}, err
	}
	if p.Serial <= m.Package {
		return recorded(l.dir, m, p)
	}
	next, err := l.stage(ctx, m, p)
	if err != nil {
		// What was staged is of no use; what cannot be removed now, the next
		// commit removes.
		_ = clearStaging(l.o.FS, l.dir)
		return load.Result{}, err
	}
	// Once it is recorded the package is committed: whatever stops us, the next
	// commit completes what this manifest says.
	if _, err := l.publish(next); err != nil {
		return load.Result{}, err
	}
	result := next.Results[len(next.Results)-1].Result
	l.tidy(ctx, next)
	return result, nil
}

// tidy does what can wait for the next commit, and does where it fails.
func (l *Loader) tidy(ctx context.Context, m *Manifest) {
	_ = l.archiveRuns(m)
	m, recorded, err := l.compact(ctx, m)
	if err != nil && recorded {
		return // what is staged is still needed
	}
	_ = clearStaging(l.o.FS, l.dir)
	pruneManifests(l.o.FS, l.dir, m.Number)
}

// recover completes an interrupted commit, removes its leftovers and returns
// the manifest in place, writing the first one where the table is new.
func (l *Loader) recover(p load.Package) (*Manifest, error) {
	t, found, err := inspect(l.dir)
	if err != nil {
		return nil, err
	}
	manifests := filepath.Join(l.dir, manifestsDir)
	if !found {
		first := &Manifest{
			FormatVersion: FormatVersion, Lineage: p.Lineage, Pipeline: p.Pipeline, Table: l.o.Table, CreatedAt: l.o.Clock.Now(),
			Current: []File{}, History: []File{}, Results: []Committed{},
		}
		t.pending = first
		if err := makeDir(l.o.FS, manifests); err != nil {
			return nil, err
		}
		data, err := encodeManifest(first)
		if err != nil {
			return nil, err
		}
		path := filepath.Join(manifests, manifestName(0))
		if err := atomicfile.WriteFileOn(l.o.FS, path, data, fileMode); err != nil {
			return nil, explain("write manifest", path, err)
		}
	}
	return l.complete(t, p.Lineage)
}

// complete puts in place what an interrupted commit recorded, removes what it
// left, and returns the manifest in place. The caller holds the lock.
func (l *Loader) complete(t table, lineage string) (*Manifest, error) {
	m, err := t.ours(l.dir, lineage)
	if err != nil {
		return nil, err
	}
	manifests := filepath.Join(l.dir, manifestsDir)
	if err := atomicfile.RemoveTempsOn(l.o.FS, manifests); err != nil {
		return nil, explain("clean", manifests, err)
	}
	if t.pending != nil {
		if err := settle(l.o.FS, l.dir, m); err != nil {
			return nil, err
		}
	}
	return m, clearStaging(l.o.FS, l.dir)
}

// recorded returns the result of a package committed before.
func recorded(dir string, m *Manifest, p load.Package) (load.Result, error) {
	for _, c := range m.Results {
		if c.Package == p.Serial && c.RunID == p.RunID {
			return c.Result, nil
		}
	}
	return load.Result{}, &Error{
		Message: fmt.Sprintf("package %d of run %s comes too late: the table already holds package %d", p.Serial, p.RunID, m.Package),
		Path:    dir, Err: load.ErrAhead,
		hint: "State is older than the table, as after it was restored from a backup. Restore the newer state, or move the table's folder away and run with --full.",
	}
}

func checkPackage(p load.Package) error {
	if p.Serial <= 0 || p.Lineage == "" || p.RunID == "" {
		return fmt.Errorf("check package: it needs a serial above 0, a lineage and a run id (serial %d, lineage %q, run %q)", p.Serial, p.Lineage, p.RunID)
	}
	if p.RunID != filepath.Base(p.RunID) || !filepath.IsLocal(p.RunID) {
		return fmt.Errorf("check package: run id %q is no plain name", p.RunID)
	}
	return checkTable(p.Table)
}
