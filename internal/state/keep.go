package state

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/internal/atomicfile"
)

const (
	fetchDir     = "fetch"
	manifestName = "manifest.json"
	// manifestFormat is the version of keptManifest.
	manifestFormat = 1
)

// keptManifest lists the files of a kept run. It is put last: without it they
// are the remains of a run that died.
type keptManifest struct {
	Format int        `json:"format"`
	Files  []keptFile `json:"files"`
}

type keptFile struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// keptRun is what a claim has put of a run.
type keptRun struct {
	files       map[string]keptFile
	generations map[string]int64 // by file, the manifest too
	complete    bool             // the manifest names all files
}

// write puts one of the run's objects in the place of what this claim has put
// there before, with or without an answer.
func (r *keptRun) write(ctx context.Context, bucket *shared, name, file string, put func(generation int64) (object, error)) error {
	obj, err := put(r.generations[file])
	if errors.Is(err, errMoved) {
		found, listErr := bucket.listAll(ctx, name)
		if listErr != nil {
			return listErr
		}
		for _, stands := range found {
			if stands.name == name {
				obj, err = put(stands.generation)
			}
		}
	}
	if err != nil {
		return &AccessError{Op: "keep run", Path: bucket.path(name), Err: err}
	}
	r.generations[file] = obj.generation
	return nil
}

// A kept run's objects are runs/DIR/CLAIM/FILE: those of two claims for one run
// never meet, whichever of the two was stopped where.
func keptPrefix(dirName, kept string) string { return runsDir + "/" + dirName + "/" + kept + "/" }

// Keep puts the files of a run's directory into the bucket, durably, and
// returns the name to be recorded as PackageRef.Kept. Files that this claim has
// put before are not put again unless they have grown since. Where no bucket is
// shared it does nothing and returns "".
//
// Nothing counts before a document names it: until then another run's Sweep
// removes it as soon as this claim is over.
func (c *Claim) Keep(ctx context.Context, dirName string) (kept string, err error) {
	bucket := c.store.shared
	if bucket == nil {
		return "", nil
	}
	run := c.kept[dirName]
	if run == nil {
		run = &keptRun{files: map[string]keptFile{}, generations: map[string]int64{}}
		c.kept[dirName] = run
	}
	dir := c.store.RunDir(dirName)
	entries, err := os.ReadDir(dir) // sorted
	if err != nil {
		return "", fmt.Errorf("keep run: %w", err)
	}
	m := keptManifest{Format: manifestFormat}
	for _, e := range entries {
		if !e.Type().IsRegular() || atomicfile.IsTemp(e.Name()) {
			continue
		}
		f, err := c.keepFile(ctx, run, dirName, e.Name())
		if err != nil {
			return "", err
		}
		m.Files = append(m.Files, f)
	}
	if run.complete {
		return c.self.ID, nil
	}
	data, err := json.Marshal(m)
	if err != nil {
		return "", fmt.Errorf("keep run: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	name := keptPrefix(dirName, c.self.ID) + manifestName
	if err := run.write(ctx, bucket, name, manifestName, func(gen int64) (object, error) { return bucket.put(ctx, name, data, gen) }); err != nil {
		return "", err
	}
	run.complete = true
	return c.self.ID, nil
}

// keepFile puts one file unless it has been put as it is.
func (c *Claim) keepFile(ctx context.Context, run *keptRun, dirName, file string) (keptFile, error) {
	path := filepath.Join(c.store.RunDir(dirName), file)
	info, err := os.Stat(path)
	if err != nil {
		return keptFile{}, fmt.Errorf("keep run: %w", err)
	}
	if f, ok := run.files[file]; ok && f.Bytes == info.Size() {
		return f, nil
	}
	run.complete = false
	sum, n, err := hashFile(path)
	if err != nil {
		return keptFile{}, fmt.Errorf("keep run: %w", err)
	}
	bucket, name := c.store.shared, keptPrefix(dirName, c.self.ID)+file
	if err := run.write(ctx, bucket, name, file, func(gen int64) (object, error) { return bucket.upload(ctx, path, name, gen) }); err != nil {
		return keptFile{}, err
	}
	f := keptFile{Name: file, Bytes: n, SHA256: sum}
	run.files[file] = f
	return f, nil
}

func hashFile(path string) (sum string, n int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = f.Close() }() // only read
	h := sha256.New()
	if n, err = io.Copy(h, f); err != nil {
		return "", 0, err
	}
	return hex.EncodeToString(h.Sum(nil)), n, nil
}

// FetchRun brings a kept run's directory back where it is missing on this disk
// or lacks something, checked by checksum. kept is what Keep returned; "" does
// nothing. A *LostPackageError says that the bucket does not hold it whole; the
// package may then have been committed by another machine meanwhile, which only
// the document tells. The caller keeps other processes of this machine from
// using or fetching the same directory.
func (s *Store) FetchRun(ctx context.Context, dirName, kept string) error {
	if s.shared == nil || kept == "" {
		return nil
	}
	m, err := s.keptManifest(ctx, dirName, kept)
	if err != nil {
		return err
	}
	dir := s.RunDir(dirName)
	if whole(dir, m) {
		return nil
	}
	// Beside the runs, and moved there whole: a run that starts meanwhile
	// removes directories that are not.
	temp := filepath.Join(s.dir, fetchDir, dirName)
	if err := s.fsys.RemoveAll(temp); err != nil {
		return fmt.Errorf("fetch run: %w", err)
	}
	for _, d := range []string{temp, filepath.Dir(dir)} {
		if err := atomicfile.MakeDirs(s.fsys, d, dirPerm); err != nil {
			return &AccessError{Op: "create run directory", Path: d, Err: err}
		}
	}
	for _, f := range m.Files {
		if err := s.fetchFile(ctx, keptPrefix(dirName, kept)+f.Name, filepath.Join(temp, f.Name), f); err != nil {
			return err
		}
	}
	for _, step := range []func() error{
		func() error { return s.fsys.RemoveAll(dir) },
		func() error { return s.fsys.SyncDir(temp) },
		func() error { return s.fsys.Rename(temp, dir) },
		func() error { return s.fsys.SyncDir(filepath.Dir(dir)) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("fetch run: %w", err)
		}
	}
	return nil
}

// DropFetches removes what killed processes have begun to fetch of a pipeline's
// runs. The caller keeps others of this machine from fetching them.
func (s *Store) DropFetches(pipeline string) error {
	dir := filepath.Join(s.dir, fetchDir)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("drop fetched runs: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), FileName(pipeline)+".") {
			if err := s.fsys.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return fmt.Errorf("drop fetched run: %w", err)
			}
		}
	}
	return nil
}

// keptManifest reads what a kept run consists of.
func (s *Store) keptManifest(ctx context.Context, dirName, kept string) (keptManifest, error) {
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	name := keptPrefix(dirName, kept) + manifestName
	data, _, err := s.shared.get(ctx, name)
	var m keptManifest
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return m, &LostPackageError{Path: s.shared.path(name), Err: err}
	case err != nil:
		return m, &AccessError{Op: "fetch sealed package", Path: s.shared.path(name), Err: err}
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, &LostPackageError{Path: s.shared.path(name), Err: err}
	}
	if m.Format != manifestFormat {
		return m, &FutureError{Path: s.shared.path(name), Version: m.Format, Supported: manifestFormat}
	}
	for _, f := range m.Files {
		if f.Name == "" || f.Name == ".." || f.Name != filepath.Base(f.Name) {
			return m, &LostPackageError{Path: s.shared.path(name), Err: fmt.Errorf("it names a file %q", f.Name)}
		}
	}
	return m, nil
}

// whole reports whether a directory holds the files of a manifest, by size:
// they were made durable before anything named them, and never change.
func whole(dir string, m keptManifest) bool {
	for _, f := range m.Files {
		info, err := os.Stat(filepath.Join(dir, f.Name))
		if err != nil || info.Size() != f.Bytes {
			return false
		}
	}
	return true
}

func (s *Store) fetchFile(ctx context.Context, name, path string, want keptFile) error {
	err := s.shared.download(ctx, name, s.fsys, path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &LostPackageError{Path: s.shared.path(name), Err: err}
	case err != nil:
		return &AccessError{Op: "fetch sealed package", Path: s.shared.path(name), Err: err}
	}
	sum, n, err := hashFile(path)
	if err != nil {
		return fmt.Errorf("check fetched file: %w", err)
	}
	if n != want.Bytes || sum != want.SHA256 {
		return &LostPackageError{Path: s.shared.path(name), Err: fmt.Errorf("it has %d bytes of checksum %s, its manifest says %d of %s", n, sum, want.Bytes, want.SHA256)}
	}
	return nil
}

// DropRun removes what the bucket holds of a run that no destination waits for
// any more. The local directory is the caller's.
func (s *Store) DropRun(ctx context.Context, dirName string) error {
	if s.shared == nil {
		return nil
	}
	if err := s.fsys.RemoveAll(filepath.Join(s.dir, fetchDir, dirName)); err != nil {
		return fmt.Errorf("drop run: %w", err)
	}
	found, err := s.shared.listAll(ctx, runsDir+"/"+dirName+"/")
	if err != nil {
		return err
	}
	return s.shared.removeAll(ctx, found)
}

// Sweep removes what dead runs of the pipeline have left in the bucket: files
// of runs that no queue names, and that no claim can bring into a queue any
// more. Directories are named as FileName has the pipeline, a dot and the run's id.
func (c *Claim) Sweep(ctx context.Context) error {
	bucket := c.store.shared
	if bucket == nil {
		return nil
	}
	// Listed before the document is read: what is listed and neither queued nor
	// claimed then, never will be, as a claim that is over does not come back.
	runs, err := bucket.listAll(ctx, runsDir+"/"+FileName(c.pipeline)+".")
	if err != nil {
		return err
	}
	beats, err := bucket.listAll(ctx, claimsDir+"/"+escape(c.pipeline)+".")
	if err != nil {
		return err
	}
	p, err := c.store.Load(ctx, c.pipeline)
	if err != nil {
		return err
	}
	living, wanted := map[string]bool{}, map[string]bool{}
	for _, claimant := range p.Claims {
		living[claimant.ID] = true
	}
	for _, d := range p.Destinations {
		for _, ref := range d.Queue {
			wanted[FileName(c.pipeline)+"."+ref.RunID+"/"+ref.Kept] = true
		}
	}
	var dead []object
	for _, obj := range runs {
		if parts := strings.Split(obj.name, "/"); len(parts) == 4 && !wanted[parts[1]+"/"+parts[2]] && !living[parts[2]] {
			dead = append(dead, obj)
		}
	}
	for _, obj := range beats {
		_, id, _ := strings.Cut(obj.name, ".")
		// One that is young may be of a run that is about to make its claim.
		if !living[id] && c.lastBeat().updated.Sub(obj.updated) >= claimLapses {
			dead = append(dead, obj)
		}
	}
	return bucket.removeAll(ctx, dead)
}

func (b *shared) listAll(ctx context.Context, prefix string) ([]object, error) {
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	found, err := b.list(ctx, prefix)
	if err != nil {
		return nil, &AccessError{Op: "list objects", Path: b.path(prefix), Err: err}
	}
	return found, nil
}

// removeAll deletes objects as they were listed. One that was written since is
// somebody's.
func (b *shared) removeAll(ctx context.Context, found []object) error {
	for _, obj := range found {
		if err := b.remove(ctx, obj.name, obj.generation); err != nil && !errors.Is(err, errMoved) {
			return &AccessError{Op: "remove object", Path: b.path(obj.name), Err: err}
		}
	}
	return nil
}

// CheckKept says, as a *LostPackageError, that the bucket does not hold a kept
// run whole. kept is what Keep returned; "" is no error.
func (s *Store) CheckKept(ctx context.Context, dirName, kept string) error {
	if s.shared == nil || kept == "" {
		return nil
	}
	m, err := s.keptManifest(ctx, dirName, kept)
	if err != nil {
		return err
	}
	found, err := s.shared.listAll(ctx, keptPrefix(dirName, kept))
	if err != nil {
		return err
	}
	for _, f := range m.Files {
		name := keptPrefix(dirName, kept) + f.Name
		if !slices.ContainsFunc(found, func(o object) bool { return o.name == name && o.size == f.Bytes }) {
			return &LostPackageError{Path: s.shared.path(name), Err: fs.ErrNotExist}
		}
	}
	return nil
}

// CopyRuns copies what the bucket holds of a pipeline's runs to another
// pipeline's name. What is there already stays.
func (s *Store) CopyRuns(ctx context.Context, from, to string) error {
	if s.shared == nil {
		return nil
	}
	from, to = runsDir+"/"+FileName(from)+".", runsDir+"/"+FileName(to)+"."
	found, err := s.shared.listAll(ctx, from)
	if err != nil {
		return err
	}
	for _, obj := range found {
		name := to + strings.TrimPrefix(obj.name, from)
		if _, err := s.shared.copy(ctx, obj.name, name, absent); err != nil && !errors.Is(err, errMoved) {
			return &AccessError{Op: "copy sealed package", Path: s.shared.path(name), Err: err}
		}
	}
	return nil
}

// DropRuns removes what the bucket holds of all runs of a pipeline.
func (s *Store) DropRuns(ctx context.Context, pipeline string) error {
	if s.shared == nil {
		return nil
	}
	found, err := s.shared.listAll(ctx, runsDir+"/"+FileName(pipeline)+".")
	if err != nil {
		return err
	}
	return s.shared.removeAll(ctx, found)
}
