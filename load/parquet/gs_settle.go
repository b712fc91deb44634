package parquet

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"

	"github.com/sluice-etl/sluice/internal/gcs"
)

// errSettled says that someone else has put a commit wholly in place.
var errSettled = errors.New("the commit is in place")

// settle puts a recorded commit in place. It may be stopped anywhere, called
// again, and run in several processes at once, also long after the table has
// moved on.
func (l *GSLoader) settle(ctx context.Context, h *head) error {
	// History first: a reader of both misses nothing. Where contacts move to
	// another month, the files are listed so that they arrive before they leave.
	var history, rest []string
	for _, rel := range h.Published {
		if strings.HasPrefix(rel, historyDir+"/") {
			history = append(history, rel)
		} else {
			rest = append(rest, rel)
		}
	}
	together := l.o.Transfers
	if n := len(h.Results); n > 0 && h.Results[n-1].Result.Moved > 0 {
		together = 1
	}
	for _, files := range [][]string{history, rest} {
		err := atOnce(ctx, together, files, func(ctx context.Context, rel string) error { return l.place(ctx, h, rel) })
		if errors.Is(err, errSettled) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	err := l.takeAll(ctx, h)
	if err == nil {
		err = l.placeManifest(ctx, h)
	}
	if errors.Is(err, errSettled) {
		return nil
	}
	if err != nil {
		return err
	}
	data, err := encodeManifest(&h.Manifest)
	if err != nil {
		return err
	}
	return l.pointLatest(ctx, h, data)
}

// placeManifest puts the numbered manifest in place. It is staged, as files are,
// so that a settling that sleeps cannot bring it back once it was removed.
func (l *GSLoader) placeManifest(ctx context.Context, h *head) error {
	rel := h.numbered()
	if _, staged := h.Commit.Replaces[rel]; staged {
		return l.place(ctx, h, rel)
	}
	// A commit that an earlier version recorded.
	data, err := encodeManifest(&h.Manifest)
	if err != nil {
		return err
	}
	_, err = l.o.Client.Put(ctx, l.bucket, l.name(rel), data, gcs.Absent, h.Commit.metadata())
	if errors.Is(err, gcs.ErrChanged) {
		return nil
	}
	return err
}

// takeAll removes what h takes from the table. What is staged of the commits
// before goes first: of those, a settling that sleeps may yet copy a file to
// where nothing stands, and could bring back what is removed here.
func (l *GSLoader) takeAll(ctx context.Context, h *head) error {
	if len(h.Removed) == 0 {
		return nil
	}
	if err := l.sweep(ctx, h.Number-1); err != nil {
		return err
	}
	return atOnce(ctx, l.o.Transfers, h.Removed, func(ctx context.Context, rel string) error { return l.take(ctx, h, rel) })
}

// take removes one file of the table, by the generation that was there when h
// was made: what a later commit put there is its own.
func (l *GSLoader) take(ctx context.Context, h *head, rel string) error {
	was := gcs.If(h.Commit.Replaces[rel])
	for range mostRestarts {
		if was != gcs.Absent {
			if err := l.o.Client.Delete(ctx, l.bucket, l.name(rel), was); !errors.Is(err, gcs.ErrChanged) {
				return err
			}
		}
		there, err := l.o.Client.Stat(ctx, l.bucket, l.name(rel))
		if errors.Is(err, gcs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		// In this order, as in place.
		latest, _, err := l.readLatest(ctx)
		if err != nil {
			return err
		}
		if latest != nil && latest.Number >= h.Number {
			return errSettled
		}
		was = gcs.If(there.Generation)
	}
	return &Error{
		Message: "another program keeps changing a file of the table", Path: l.url(rel), Err: gcs.ErrChanged,
		hint: "Stop it, and run again: the commit is completed then.",
	}
}

// place copies one staged file to where readers find it.
func (l *GSLoader) place(ctx context.Context, h *head, rel string) error {
	from, to := l.name(h.Commit.stagedAt(rel)), l.name(rel)
	replaces := gcs.If(h.Commit.Replaces[rel])
	for range mostRestarts {
		_, err := l.o.Client.Copy(ctx, l.bucket, from, to, replaces, h.Commit.metadata())
		gone := errors.Is(err, gcs.ErrNotExist)
		if !gone && !errors.Is(err, gcs.ErrChanged) {
			return err // nil most of the time
		}
		there, statErr := l.o.Client.Stat(ctx, l.bucket, to)
		if statErr != nil && !errors.Is(statErr, gcs.ErrNotExist) {
			return statErr
		}
		if statErr == nil && there.Metadata[commitKey] == h.Commit.ID {
			return nil
		}
		// The order of these two questions matters: as long as latest.json is
		// behind, what was seen there before cannot be of a later commit.
		latest, _, err := l.readLatest(ctx)
		switch {
		case err != nil:
			return err
		case latest != nil && latest.Number >= h.Number:
			return errSettled
		case gone:
			return &Error{
				Message: fmt.Sprintf("commit %d of package %d was interrupted and cannot be completed: a file is neither staged nor in place", h.Number, h.Package),
				Path:    l.url(rel), Err: gcs.ErrNotExist,
				hint: "Something else removed or changed objects of this table. Put their earlier versions back, or move the table away and run with --full.",
			}
		}
		// Another program wrote or removed it since the merge: the manifest
		// counts, as on a disk.
		replaces = gcs.If(there.Generation)
	}
	return &Error{
		Message: "another program keeps changing a file of the table", Path: l.url(rel), Err: gcs.ErrChanged,
		hint: "Stop it, and run again: the commit is completed then.",
	}
}

// pointLatest lets latest.json say that h is in place, unless a later commit
// is.
func (l *GSLoader) pointLatest(ctx context.Context, h *head, data []byte) error {
	rel := path.Join(manifestsDir, latestName)
	for range mostRestarts {
		latest, generation, err := l.readLatest(ctx)
		if err != nil || (latest != nil && latest.Number >= h.Number) {
			return err
		}
		_, err = l.o.Client.Put(ctx, l.bucket, l.name(rel), data, generation, h.Commit.metadata())
		if !errors.Is(err, gcs.ErrChanged) {
			return err
		}
	}
	return &Error{
		Message: "another program keeps changing the manifest", Path: l.url(rel), Err: gcs.ErrChanged,
		hint: "Stop it, and run again: the commit is completed then.",
	}
}

// tidy merges small files and removes what a table that is in place needs no
// more. Nothing depends on it: what fails is left to the next commit.
func (l *GSLoader) tidy(ctx context.Context, m *Manifest) {
	if l.sweep(ctx, m.Number) != nil {
		return // what is staged could bring back what is removed below
	}
	_ = l.archiveRuns(ctx, m)
	merged, err := l.compact(ctx, m)
	if err == nil && merged != m {
		_ = l.sweep(ctx, merged.Number)
	}
	dir := l.name(manifestsDir) + "/"
	_ = l.remove(ctx, dir, func(rel string) bool {
		n, ok := manifestNumber(rel)
		return ok && n <= merged.Number-keepManifests
	})
}

// sweep removes what is staged of commits up to latest, which is in place: the
// one that won each number has no use for it any more, and those that lost it
// have no use either. What is staged for a later number may be alive.
func (l *GSLoader) sweep(ctx context.Context, latest int64) error {
	dir := l.name(stagingDir) + "/"
	return l.remove(ctx, dir, func(rel string) bool {
		n, ok := commitNumber(rel)
		return ok && n <= latest
	})
}

// remove deletes the objects below dir, which ends with a slash, that f names.
func (l *GSLoader) remove(ctx context.Context, dir string, f func(rel string) bool) error {
	var dead []gcs.Object
	err := l.o.Client.Each(ctx, l.bucket, dir, func(o gcs.Object) error {
		if f(strings.TrimPrefix(o.Name, dir)) {
			dead = append(dead, o)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return atOnce(ctx, l.o.Transfers, dead, func(ctx context.Context, o gcs.Object) error {
		return l.o.Client.Delete(ctx, l.bucket, o.Name, gcs.If(o.Generation))
	})
}

// atOnce does something with each item, a number of them at a time, and returns
// the first error, at which it stops, when all that were begun have ended.
func atOnce[T any](ctx context.Context, workers int, items []T, do func(context.Context, T) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	queue := make(chan T)
	var wg sync.WaitGroup
	var once sync.Once
	var first error
	for range min(workers, len(items)) {
		wg.Go(func() {
			for item := range queue {
				if err := do(ctx, item); err != nil {
					once.Do(func() {
						first = err
						cancel(err)
					})
				}
			}
		})
	}
	for _, item := range items {
		if ctx.Err() != nil {
			break
		}
		queue <- item
	}
	close(queue)
	wg.Wait()
	if first == nil {
		first = context.Cause(ctx)
	}
	return first
}
