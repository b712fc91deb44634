package parquet

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/sluice-etl/sluice/internal/gcs"
	"github.com/sluice-etl/sluice/internal/parquetfile"
	"github.com/sluice-etl/sluice/load"
)

// cleanupTime bounds the removal of what a failed commit staged.
const cleanupTime = 30 * time.Second

// commitOnce commits p to the table as it is now; errOvertaken if that changed
// meanwhile.
func (l *GSLoader) commitOnce(ctx context.Context, p load.Package) (load.Result, error) {
	t, prev, err := l.base(ctx, p)
	if err != nil {
		return load.Result{}, err
	}
	if p.Serial <= prev.Package {
		r, err := recorded(l.URL(), prev, p)
		if err == nil {
			_ = l.sweep(ctx, prev.Number) // or the next commit does
		}
		return r, err
	}
	next, err := l.stage(ctx, t, prev, p)
	if err != nil {
		return load.Result{}, err
	}
	if err := l.upload(ctx, next.Commit, next.Published); err != nil {
		l.unstage(ctx, next.Commit, next.Published)
		return load.Result{}, err
	}
	if err := l.record(ctx, t, next); err != nil {
		return load.Result{}, err
	}
	result := next.Results[len(next.Results)-1].Result
	l.tidy(ctx, &next.Manifest)
	return result, nil
}

// record commits h, whose files are staged, in the place of t, and puts it in
// place; errOvertaken if another commit came first. After any other error it
// may be committed.
func (l *GSLoader) record(ctx context.Context, t gsTable, h *head) error {
	manifest, err := encodeManifest(&h.Manifest)
	if err == nil {
		_, err = l.o.Client.Put(ctx, l.bucket, l.name(h.Commit.stagedAt(h.numbered())), manifest, gcs.Absent, h.Commit.metadata())
	}
	staged := append(slices.Clone(h.Published), h.numbered())
	h.Commit.Replaces[h.numbered()] = 0
	var data []byte
	if err == nil {
		data, err = json.MarshalIndent(h, "", " ")
	}
	if err != nil {
		l.unstage(ctx, h.Commit, staged)
		return fmt.Errorf("stage manifest: %w", err)
	}
	// From here on it may be committed, also if this call fails for any other
	// reason than that another commit came first: what is staged stays.
	_, err = l.o.Client.Put(ctx, l.bucket, l.name(path.Join(manifestsDir, headName)), append(data, '\n'), t.headGen, nil)
	if errors.Is(err, gcs.ErrChanged) {
		l.unstage(ctx, h.Commit, staged)
		return errOvertaken
	}
	if err != nil {
		return err
	}
	return l.settle(ctx, h)
}

// base returns the table that p is merged with, the last commit wholly in
// place, and its manifest: an empty one where there is none.
func (l *GSLoader) base(ctx context.Context, p load.Package) (gsTable, *Manifest, error) {
	t, err := l.look(ctx)
	if err != nil {
		return t, nil, err
	}
	if !t.found() {
		return t, &Manifest{Lineage: p.Lineage, Current: []File{}, History: []File{}, Results: []Committed{}}, nil
	}
	prev, err := t.ours(l.URL(), p.Lineage)
	if err != nil {
		return t, nil, err
	}
	if t.pending() {
		err = l.settle(ctx, t.head)
	}
	return t, prev, err
}

// settled returns the table with its last commit wholly in place.
func (l *GSLoader) settled(ctx context.Context) (gsTable, error) {
	t, err := l.look(ctx)
	if err == nil && t.pending() {
		err = l.settle(ctx, t.head)
	}
	return t, err
}

// stage merges p in the working directory and returns the head that would put
// the result in place. Nothing has changed in the bucket when it returns.
func (l *GSLoader) stage(ctx context.Context, t gsTable, prev *Manifest, p load.Package) (*head, error) {
	replaces, err := l.bring(ctx, t, prev, p)
	if err != nil {
		return nil, err
	}
	m, err := l.local.stage(ctx, prev, p)
	if err != nil {
		return nil, err
	}
	return l.headOf(ctx, t, prev, m, replaces)
}

// bring fetches what merging p reads, and returns the generations of that.
func (l *GSLoader) bring(ctx context.Context, t gsTable, prev *Manifest, p load.Package) (map[string]int64, error) {
	if err := l.wipe(); err != nil {
		return nil, err
	}
	files, err := touchedBy(ctx, prev, p)
	if err != nil {
		return nil, err
	}
	replaces, err := l.fetch(ctx, t, files)
	if err != nil {
		return nil, err
	}
	if err := l.fetchSmall(ctx, replaces); err != nil {
		return nil, err
	}
	l.local.fetch = func(ctx context.Context, files []File, small []string) error {
		return l.fetchMore(ctx, t, files, small, replaces)
	}
	return replaces, nil
}

// headOf is the head that would put m in place.
func (l *GSLoader) headOf(ctx context.Context, t gsTable, prev, m *Manifest, replaces map[string]int64) (h *head, err error) {
	h = &head{Manifest: *m, Commit: gsCommit{Replaces: map[string]int64{}}}
	if h.Commit.ID, err = newCommitID(m); err != nil {
		return nil, err
	}
	for _, rel := range m.Published {
		h.Commit.Replaces[rel] = replaces[rel]
	}
	return h, l.mustBeFree(ctx, t, h, prev)
}

func newCommitID(m *Manifest) (string, error) {
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		return "", fmt.Errorf("name commit: %w", err)
	}
	return fmt.Sprintf("%08d-%s-%s", m.Number, m.RunID, hex.EncodeToString(random[:])), nil
}

// touchedBy returns the files of current that merging p reads.
func touchedBy(ctx context.Context, prev *Manifest, p load.Package) ([]File, error) {
	united, err := unite(prev.Schema, p.Table, prev.Rows() > 0)
	if err != nil {
		return nil, err
	}
	if prev.Rows() > 0 && !sameLayout(prev.Schema, united) {
		return prev.Current, nil
	}
	touched := map[month]bool{}
	for _, part := range p.Parts {
		spans, err := planPart(ctx, part, map[month][]uint64{})
		if err != nil {
			return nil, fmt.Errorf("read part %s: %w", part.Path, err)
		}
		for _, s := range spans {
			touched[s.month] = true
		}
	}
	var files []File
	for _, f := range prev.Current {
		mo, err := monthOfPath(f.Path)
		if err != nil {
			return nil, err
		}
		if touched[mo] {
			files = append(files, f)
		}
	}
	return files, nil
}

// fetch downloads files of the table and returns their generations, having
// checked that they are those of the manifest.
func (l *GSLoader) fetch(ctx context.Context, t gsTable, files []File) (map[string]int64, error) {
	generations := map[string]int64{}
	var mu sync.Mutex
	err := atOnce(ctx, l.o.Transfers, files, func(ctx context.Context, f File) error {
		g, err := l.fetchFile(ctx, f)
		mu.Lock()
		defer mu.Unlock()
		generations[f.Path] = g
		return err
	})
	if errors.Is(err, gcs.ErrNotExist) || errors.Is(err, parquetfile.ErrDamaged) {
		return nil, l.overtakenOr(ctx, t, &Error{
			Message: "a file of the table is not what its manifest says", Path: l.URL(), Err: err,
			hint: "Something else removed or replaced it. Put its earlier version back, or move the table's folder away and run with --full.",
		})
	}
	return generations, err
}

func (l *GSLoader) fetchFile(ctx context.Context, f File) (generation int64, err error) {
	sum := sha256.New()
	o, err := l.download(ctx, f.Path, sum)
	if err != nil {
		return 0, err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != f.SHA256 {
		return 0, fmt.Errorf("%w: %s has checksum %s, recorded was %s", parquetfile.ErrDamaged, l.url(f.Path), got, f.SHA256)
	}
	return o.Generation, nil
}

// download copies an object of the table to where the local side finds it.
func (l *GSLoader) download(ctx context.Context, rel string, others ...io.Writer) (gcs.Object, error) {
	to := at(l.local.dir, rel)
	if err := os.MkdirAll(filepath.Dir(to), dirMode); err != nil {
		return gcs.Object{}, explain("create folder", filepath.Dir(to), err)
	}
	file, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, fileMode)
	if err != nil {
		return gcs.Object{}, explain("create file", to, err)
	}
	o, err := l.o.Client.Read(ctx, l.bucket, l.name(rel), io.MultiWriter(append(others, file)...))
	return o, explain("write file", to, errors.Join(err, file.Close()))
}

// fetchMore fetches what the merge finds that it needs besides: files of the
// table, and small ones, which need not exist.
func (l *GSLoader) fetchMore(ctx context.Context, t gsTable, files []File, small []string, generations map[string]int64) error {
	files = slices.DeleteFunc(files, func(f File) bool { return generations[f.Path] != 0 })
	small = slices.DeleteFunc(small, func(rel string) bool { return generations[rel] != 0 })
	more, err := l.fetch(ctx, t, files)
	if err != nil {
		return err
	}
	maps.Copy(generations, more)
	var mu sync.Mutex
	return atOnce(ctx, l.o.Transfers, small, func(ctx context.Context, rel string) error {
		data, o, err := l.get(ctx, rel)
		if err != nil || data == nil {
			return err
		}
		mu.Lock()
		generations[rel] = o.Generation
		mu.Unlock()
		to := at(l.local.dir, rel)
		if err := os.MkdirAll(filepath.Dir(to), dirMode); err != nil {
			return explain("create folder", filepath.Dir(to), err)
		}
		return explain("write file", to, os.WriteFile(to, data, fileMode))
	})
}

// overtakenOr returns errOvertaken if a commit came since t was read, else err.
func (l *GSLoader) overtakenOr(ctx context.Context, t gsTable, err error) error {
	now, lookErr := l.glance(ctx)
	switch {
	case lookErr != nil:
		return errors.Join(err, lookErr)
	case now.headGen != t.headGen:
		return errOvertaken
	default:
		return err
	}
}

// fetchSmall fetches what the local side looks at beside the files of current:
// views.sql, whether there are coverage records, and whether there are stages.
func (l *GSLoader) fetchSmall(ctx context.Context, generations map[string]int64) error {
	if err := l.findStages(ctx); err != nil {
		return err
	}
	sql, o, err := l.get(ctx, viewsName)
	if err != nil {
		return err
	}
	if sql != nil {
		generations[viewsName] = o.Generation
		if err := os.WriteFile(at(l.local.dir, viewsName), sql, fileMode); err != nil {
			return explain("write file", at(l.local.dir, viewsName), err)
		}
	}
	if some, err := l.hasRuns(ctx); err != nil || !some {
		return err
	}
	dir := at(l.local.dir, runsDir)
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return explain("create folder", dir, err)
	}
	return explain("write file", dir, os.WriteFile(filepath.Join(dir, "some"+runSuffix), nil, fileMode))
}

// hasRuns reports whether there is any coverage record, packed or not.
func (l *GSLoader) hasRuns(ctx context.Context) (bool, error) {
	some := errors.New("some")
	err := l.o.Client.Each(ctx, l.bucket, l.name(runsDir)+"/", func(o gcs.Object) error {
		if isRunFile(o.Name) {
			return some
		}
		return nil
	})
	if errors.Is(err, some) {
		return true, nil
	}
	return false, err
}

// mustBeFree finds out what the small files replace, and that nothing stands
// where the commit creates others: after the commit it would be too late.
func (l *GSLoader) mustBeFree(ctx context.Context, t gsTable, h *head, prev *Manifest) error {
	known := map[string]bool{viewsName: true}
	for _, f := range prev.Current {
		known[f.Path] = true
	}
	var ask []string
	for _, rel := range h.Published {
		if !known[rel] && h.Commit.Replaces[rel] == 0 {
			ask = append(ask, rel)
		}
	}
	var mu sync.Mutex
	err := atOnce(ctx, l.o.Transfers, ask, func(ctx context.Context, rel string) error {
		o, err := l.o.Client.Stat(ctx, l.bucket, l.name(rel))
		switch {
		case errors.Is(err, gcs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case path.Dir(rel) != runsDir && path.Dir(rel) != idsDir:
			return foreign(l.url(rel), "an object that is none of the table's stands where a file of it will be", "Move it away, and run again.")
		}
		mu.Lock()
		defer mu.Unlock()
		h.Commit.Replaces[rel] = o.Generation
		return nil
	})
	if errors.Is(err, load.ErrForeign) {
		return l.overtakenOr(ctx, t, err)
	}
	return err
}

// upload stages a commit's files in the bucket.
func (l *GSLoader) upload(ctx context.Context, c gsCommit, rels []string) error {
	return atOnce(ctx, l.o.Transfers, rels, func(ctx context.Context, rel string) error {
		from := filepath.Join(l.local.dir, stagingDir, stagedName(rel))
		_, err := l.o.Client.Upload(ctx, l.bucket, l.name(c.stagedAt(rel)), from, gcs.Absent, c.metadata())
		return err
	})
}

// metadata marks an object as one of the commit's.
func (c gsCommit) metadata() map[string]string { return map[string]string{commitKey: c.ID} }

// unstage removes what a commit staged that will not be. What cannot be removed
// now, a later commit sweeps.
func (l *GSLoader) unstage(ctx context.Context, c gsCommit, rels []string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	_ = atOnce(ctx, l.o.Transfers, rels, func(ctx context.Context, rel string) error {
		return l.o.Client.Delete(ctx, l.bucket, l.name(c.stagedAt(rel)), gcs.Any)
	})
}
