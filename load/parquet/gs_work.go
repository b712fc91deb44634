package parquet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/sluice-etl/sluice/internal/gcs"
)

// gsWork is a commit in the making that rearranges files of the table: it
// fetches a few at a time into the working directory, and uploads what was made
// of them at once, so that the disk never holds more than those.
type gsWork struct {
	l           *GSLoader
	t           gsTable // which it starts from
	prev        *Manifest
	commit      gsCommit
	generations map[string]int64 // of what was fetched
	staged      []string         // uploaded
}

var _ desk = (*gsWork)(nil)

// work begins a commit after m, the manifest of t.
func (l *GSLoader) work(t gsTable, m *Manifest) (*gsWork, error) {
	id, err := newCommitID(&Manifest{Number: m.Number + 1, RunID: m.RunID})
	if err != nil {
		return nil, err
	}
	return &gsWork{
		l: l, t: t, prev: m, generations: map[string]int64{},
		commit: gsCommit{ID: id, Replaces: map[string]int64{}},
	}, l.wipe()
}

func (w *gsWork) bring(ctx context.Context, files []File) error {
	generations, err := w.l.fetch(ctx, w.t, files)
	maps.Copy(w.generations, generations)
	return err
}

func (w *gsWork) bringSmall(ctx context.Context, rels []string) error {
	return w.l.fetchMore(ctx, w.t, nil, slices.Clone(rels), w.generations)
}

func (w *gsWork) put(ctx context.Context, rel string) error {
	// What an upload that failed has left is to be removed, too.
	w.staged = append(w.staged, rel)
	if err := w.l.upload(ctx, w.commit, []string{rel}); err != nil {
		return err
	}
	path := filepath.Join(w.l.local.dir, stagingDir, stagedName(rel))
	return explain("remove uploaded file", path, os.Remove(path))
}

func (w *gsWork) drop(files []File) error {
	for _, f := range files {
		if err := w.l.dropLocal(f.Path); err != nil {
			return err
		}
	}
	return nil
}

// dropLocal removes the local copy of a file of the table, if there is one.
func (l *GSLoader) dropLocal(rel string) error {
	path := at(l.local.dir, rel)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return explain("remove copy", path, err)
	}
	return nil
}

// giveUp removes what was staged.
func (w *gsWork) giveUp(ctx context.Context) { w.l.unstage(ctx, w.commit, w.staged) }

// publish uploads what is not yet, commits next and puts it in place. After an
// error it may be committed, but for errOvertaken.
func (w *gsWork) publish(ctx context.Context, next *Manifest) error {
	h, err := w.head(ctx, next)
	if err != nil {
		w.giveUp(ctx)
		return err
	}
	for _, rel := range next.Published {
		if slices.Contains(w.staged, rel) {
			continue
		}
		if err := w.put(ctx, rel); err != nil {
			w.giveUp(ctx)
			return err
		}
	}
	return w.l.record(ctx, w.t, h)
}

// head says what next replaces and takes away.
func (w *gsWork) head(ctx context.Context, next *Manifest) (*head, error) {
	h := &head{Manifest: *next, Commit: w.commit}
	for _, rel := range next.Published {
		h.Commit.Replaces[rel] = w.generations[rel]
	}
	var ask []string
	for _, rel := range next.Removed {
		if h.Commit.Replaces[rel] = w.generations[rel]; w.generations[rel] == 0 {
			ask = append(ask, rel)
		}
	}
	var mu sync.Mutex
	err := atOnce(ctx, w.l.o.Transfers, ask, func(ctx context.Context, rel string) error {
		o, err := w.l.o.Client.Stat(ctx, w.l.bucket, w.l.name(rel))
		if errors.Is(err, gcs.ErrNotExist) {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		h.Commit.Replaces[rel] = o.Generation
		return err
	})
	if err != nil {
		return nil, err
	}
	return h, w.l.mustBeFree(ctx, w.t, h, w.prev)
}

// compact merges small files of history, as the local loader does and by its
// choice, in a commit of its own after m. It returns the manifest in place: m
// where there was nothing to do, or another commit came first.
func (l *GSLoader) compact(ctx context.Context, m *Manifest) (*Manifest, error) {
	groups := l.local.smallFiles(m)
	if len(groups) == 0 {
		return m, nil
	}
	t, err := l.look(ctx)
	if err != nil || t.head == nil || t.pending() || t.head.Number != m.Number {
		return m, err
	}
	w, err := l.work(t, m)
	if err != nil {
		return m, err
	}
	next, err := l.local.mergeGroups(ctx, m, groups, w)
	if err != nil {
		w.giveUp(ctx)
		return m, err
	}
	if err := w.publish(ctx, next); err != nil {
		return m, fmt.Errorf("merge files of history: %w", err)
	}
	return next, nil
}

// gsShelf is where verification looks at a table in a bucket: each file is
// fetched as it is, and dropped when it has been read.
type gsShelf struct {
	l     *GSLoader
	t     gsTable
	known func() int // faults found so far
	asked int        // of those, how many are not of a later commit
}

var _ shelf = (*gsShelf)(nil)

// bring also ends a verification that another commit has overtaken: what was
// wrong in one file is then right in its manifest.
func (s *gsShelf) bring(ctx context.Context, rel string) error {
	if err := s.upToDate(ctx); err != nil {
		return err
	}
	_, err := s.l.download(ctx, rel)
	if errors.Is(err, gcs.ErrNotExist) {
		return s.drop(rel)
	}
	return err
}

// upToDate returns errOvertaken if faults were found and the table is not the
// one that is looked at any more.
func (s *gsShelf) upToDate(ctx context.Context) error {
	n := s.known()
	if n == s.asked {
		return nil
	}
	s.asked = n
	return s.l.overtakenOr(ctx, s.t, nil)
}

func (s *gsShelf) drop(rel string) error { return s.l.dropLocal(rel) }

func (s *gsShelf) each(ctx context.Context, top string, f func(rel string)) error {
	return s.l.o.Client.Each(ctx, s.l.bucket, s.l.name(top)+"/", func(o gcs.Object) error {
		// Consoles make folders as empty objects.
		if !strings.HasSuffix(o.Name, "/") {
			f(strings.TrimPrefix(o.Name, s.l.prefix))
		}
		return nil
	})
}
