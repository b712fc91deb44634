package parquet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/zeebo/xxh3"

	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/gcs"
	"github.com/sluice-etl/sluice/load"
)

// GSOptions say where a table in Google Cloud Storage lives and how its files
// are written. Of Options, Path is gs://bucket/prefix and FS has no meaning;
// LockWait is about this machine's other commits to the table.
type GSOptions struct {
	Options
	// WorkDir is a local directory of the loader's own, relative to the
	// process's working directory at NewGS. Files of the table stand there
	// during a call, as many as it reads and writes, and none afterwards; it may
	// vanish between calls. Required.
	WorkDir string
	// Client reaches the bucket. The caller closes it, after the loader. Required.
	Client *gcs.Client
	// Transfers is how many objects are read or written at once. Default: 4.
	Transfers int
}

// GSLoader commits packages to one table of Parquet files in Google Cloud
// Storage. The layout is that of Loader, with one object more and _staging
// divided by commits:
//
//	_manifests/head.json                  the last commit, perhaps not in place yet
//	_staging/NNNNNNNN-<run id>-<random>/  files of one commit that are not in place yet
//
// A view over accounts is an object beside their tables, <view>.sql, replaced on
// condition of its generation.
//
// The merge is the local one: the files of the months that the package touches
// are fetched into WorkDir. The result is uploaded to _staging, and then
// head.json is replaced, on condition of the generation that the merge started
// from. That is the commit, and the lock: of two that started from one
// manifest, the second is refused and starts again from what is there now, and
// so is one that slept in between, for a generation never comes back. (A
// numbered manifest that must not exist would do for the first, and not for the
// second: its number is free again once manifests were pruned.)
//
// Then the staged objects are copied to their places, each on condition of the
// generation that it replaces, which head.json records; latest.json follows;
// and the staged objects go. Whoever finds head.json ahead of latest.json does
// the same, beside or instead of the one that began. No commit starts before
// the one before it is wholly in place, so that a copy that comes too late finds
// another generation, or its source gone, and changes nothing.
//
// Before a commit removes a file of the table for good, and does not replace it,
// what is staged of the commits before it goes: see takeAll.
type GSLoader struct {
	o      GSOptions
	bucket string
	prefix string // of the table's objects, with a slash at the end
	local  *Loader
}

var _ load.Lister = (*GSLoader)(nil)

const defaultTransfers = 4

// mostRestarts is how many times a commit starts again because others were
// faster.
const mostRestarts = 20

// NewGS returns a GSLoader. It touches neither the bucket nor the disk.
func NewGS(o GSOptions) (*GSLoader, error) {
	const doing = "open parquet destination"
	if o.WorkDir == "" || o.Client == nil {
		return nil, errors.New(doing + ": it needs a client and a working directory")
	}
	if _, _, err := gcs.ParseURL(o.Path); err != nil {
		return nil, fmt.Errorf(doing+": %w", err)
	}
	if o.Table == "" || strings.Contains(o.Table, "/") {
		return nil, fmt.Errorf(doing+": table %q is no plain name", o.Table)
	}
	url := strings.TrimSuffix(o.Path, "/") + "/" + o.Table
	bucket, prefix, err := gcs.ParseURL(url)
	if err != nil {
		return nil, fmt.Errorf(doing+": %w", err)
	}
	if o.Transfers <= 0 {
		o.Transfers = defaultTransfers
	}
	// The local side has a folder of its own for each place, and flushes
	// nothing: what counts is uploaded.
	local := o.Options
	local.Path = filepath.Join(o.WorkDir, fmt.Sprintf("%016x", xxh3.HashString(url)))
	local.FS = unflushed{atomicfile.OS{}}
	inner, err := New(local)
	if err != nil {
		return nil, err
	}
	inner.root, inner.keepEmpty = url, true // see the type: removing takes care
	o.Options = inner.o
	return &GSLoader{o: o, bucket: bucket, prefix: prefix + "/", local: inner}, nil
}

// URL returns the table's place, gs://bucket/prefix/table.
func (l *GSLoader) URL() string { return l.local.root }

// Close implements load.Loader. There is nothing to release.
func (l *GSLoader) Close() error { return nil }

// needed are the permissions that a commit takes.
var needed = []string{"storage.objects.create", "storage.objects.delete", "storage.objects.get", "storage.objects.list"}

// Check implements load.Loader. The position is that of latest.json, as with
// Loader.
func (l *GSLoader) Check(ctx context.Context, lineage string) (int64, error) {
	t, err := l.look(ctx)
	if err != nil {
		return 0, err
	}
	if t.found() {
		if _, err := t.ours(l.URL(), lineage); err != nil {
			return 0, err
		}
	}
	// A server that does not know the question is no reason to fail: the commit
	// finds out.
	missing, err := l.o.Client.Missing(ctx, l.bucket, needed...)
	if err == nil && len(missing) > 0 {
		return 0, &Error{
			Message: "the credentials lack permissions on the bucket: " + strings.Join(missing, ", "), Path: l.URL(), Err: gcs.ErrDenied,
			hint: "Give the service account the role Storage Object User (roles/storage.objectUser) on the bucket.",
		}
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if t.latest == nil {
		return 0, nil
	}
	return t.latest.Package, nil
}

// Commit implements load.Loader.
func (l *GSLoader) Commit(ctx context.Context, p load.Package) (load.Result, error) {
	if err := checkPackage(p); err != nil {
		return load.Result{}, err
	}
	leave, err := l.enter(ctx, p.RunID)
	if err != nil {
		return load.Result{}, err
	}
	for range mostRestarts {
		r, err := l.commitOnce(ctx, p)
		if err == nil && len(l.o.Union.Tables) > 0 {
			err = l.writeUnion(ctx, false)
		}
		if !errors.Is(err, errOvertaken) {
			return r, errors.Join(err, leave())
		}
	}
	return load.Result{}, errors.Join(&Error{
		Message: fmt.Sprintf("gave up on package %d: other commits were faster %d times", p.Serial, mostRestarts), Path: l.URL(),
		hint: "Let fewer runs write to this table at once, and run again.",
	}, leave())
}

// List implements load.Lister. It completes an interrupted commit first, and
// fetches every file it needs before it gives the first row: what it lists is
// the table after one package, whatever is committed meanwhile.
func (l *GSLoader) List(ctx context.Context, q load.Listing, each func(arrow.Record) error) error {
	return l.attend(ctx, q.Lineage, "the listing", func() error {
		m, err := l.fetchListed(ctx, q)
		if err != nil {
			return err
		}
		return l.local.listTable(ctx, m, q, each)
	})
}

// attend does something with a table that lineage owns, and again for as long
// as other commits come in between (errOvertaken); nothing where there is no
// table.
func (l *GSLoader) attend(ctx context.Context, lineage, what string, once func() error) error {
	t, err := l.look(ctx)
	if err != nil || !t.found() {
		return err
	}
	if _, err := t.ours(l.URL(), lineage); err != nil {
		return err
	}
	leave, err := l.enter(ctx, "")
	if err != nil {
		return err
	}
	for range mostRestarts {
		if err := once(); !errors.Is(err, errOvertaken) {
			return errors.Join(err, leave())
		}
		if err := l.wipe(); err != nil {
			return errors.Join(err, leave())
		}
	}
	return errors.Join(&Error{
		Message: "gave up " + what + ": the table kept changing", Path: l.URL(), hint: "Run again when no other run writes to this table.",
	}, leave())
}

// owned returns the table with its last commit wholly in place, and its
// manifest.
func (l *GSLoader) owned(ctx context.Context, lineage string) (gsTable, *Manifest, error) {
	t, err := l.settled(ctx)
	if err != nil {
		return t, nil, err
	}
	m, err := t.ours(l.URL(), lineage)
	return t, m, err
}

// fetchListed fetches the files that the listing reads.
func (l *GSLoader) fetchListed(ctx context.Context, q load.Listing) (*Manifest, error) {
	t, m, err := l.owned(ctx, q.Lineage)
	if err != nil {
		return nil, err
	}
	files, err := filesFor(m, q)
	if err != nil {
		return nil, err
	}
	_, err = l.fetch(ctx, t, files)
	return m, err
}

// enter takes the working directory, for this process's life or until leave.
func (l *GSLoader) enter(ctx context.Context, runID string) (leave func() error, err error) {
	dir := l.local.dir
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return nil, explain("create folder", dir, err)
	}
	release, err := acquire(ctx, dir, runID, l.o.LockWait, l.o.Clock)
	if err != nil {
		return nil, err
	}
	if err := l.wipe(); err != nil { // of what a killed process left
		return nil, errors.Join(err, release())
	}
	// Contacts are personal data: no copy of them stays.
	return func() error { return errors.Join(l.wipe(), release()) }, nil
}

// wipe empties the working directory. The caller holds its lock.
func (l *GSLoader) wipe() error {
	entries, err := os.ReadDir(l.local.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return explain("list", l.local.dir, err)
	}
	for _, e := range slices.Backward(entries) {
		if e.Name() == lockName {
			continue
		}
		if err := os.RemoveAll(filepath.Join(l.local.dir, e.Name())); err != nil {
			return explain("remove leftover", filepath.Join(l.local.dir, e.Name()), err)
		}
	}
	return nil
}

// name is the object of a path relative to the table.
func (l *GSLoader) name(rel string) string { return l.prefix + rel }

// url names it in messages.
func (l *GSLoader) url(rel string) string { return gcs.URL(l.bucket, l.name(rel)) }

// unflushed is a filesystem whose files need not outlive the process.
type unflushed struct{ atomicfile.FS }

// OpenTemp implements atomicfile.FS.
func (u unflushed) OpenTemp(path string, perm os.FileMode) (atomicfile.Temp, error) {
	f, err := u.FS.OpenTemp(path, perm)
	return unflushedTemp{f}, err
}

// SyncDir does nothing.
func (unflushed) SyncDir(string) error { return nil }

type unflushedTemp struct{ atomicfile.Temp }

// Sync does nothing.
func (unflushedTemp) Sync() error { return nil }
