package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

const (
	backupDir = "backup/"
	// keptBackups is how many copies are kept of a document.
	keptBackups = 10
	copyTime    = "20060102T150405Z"
)

// Stored returns a pipeline's document as it is stored, byte for byte and
// unchecked; fs.ErrNotExist where there is none.
func (s *Store) Stored(ctx context.Context, pipeline string) ([]byte, error) {
	return s.bytes(ctx, docName(pipeline))
}

// StoredResources is Stored of the document of resources.
func (s *Store) StoredResources(ctx context.Context) ([]byte, error) {
	return s.bytes(ctx, resourcesDoc)
}

func (s *Store) bytes(ctx context.Context, doc string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	data, _, err := s.docs.load(ctx, doc)
	return data, err
}

// Edit is Update for a change that somebody asked for by hand, also of a
// pipeline that is being renamed: a copy of the document as it was is kept
// first, and its path returned; "" where there was none.
func (s *Store) Edit(ctx context.Context, pipeline string, change func(*Pipeline) error) (*Pipeline, string, error) {
	return edit(ctx, s, New(pipeline), change)
}

// EditResources is Edit of the document of resources. A change that leaves it as
// it is saves nothing.
func (s *Store) EditResources(ctx context.Context, change func(*Resources) error) (*Resources, string, error) {
	return edit(ctx, s, NewResources(), ifChanged(change))
}

func edit[D document[D]](ctx context.Context, s *Store, blank D, change func(D) error) (d D, backup string, err error) {
	d, err = updateAfter(ctx, s, blank, change, func(v version) error {
		backup, err = s.backup(ctx, blank, v)
		return err
	})
	return d, backup, err
}

// Forget removes the document of a pipeline, unless check refuses, and returns
// the path of the copy that is kept. One that is not there is no error.
func (s *Store) Forget(ctx context.Context, pipeline string, check func(*Pipeline) error) (backup string, err error) {
	blank := New(pipeline)
	unlock, err := s.lockSave(ctx, blank)
	if err != nil {
		return "", err
	}
	defer unlock()
	for try := 1; ; try++ {
		p, v, err := read(ctx, s, blank.fresh())
		if err != nil || p.Serial == 0 {
			return "", err
		}
		if err := check(p); err != nil {
			return "", err
		}
		if backup, err = s.backup(ctx, p, v); err == nil {
			err = s.docs.remove(ctx, p.stored(), v)
		}
		switch {
		case err == nil:
			return backup, nil
		case !errors.Is(err, errMoved):
			return "", fmt.Errorf("forget state of pipeline %s: %w", pipeline, err)
		case try == maxTries:
			return "", outrun(ctx, s, p)
		}
	}
}

// backup keeps a copy of the document of version v, under its lock, and removes
// the oldest beyond keptBackups. It fails with errMoved where that version is
// not the one that stands.
func (s *Store) backup(ctx context.Context, d head, v version) (path string, err error) {
	data, stands, err := s.docs.load(ctx, d.stored())
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err == nil && stands != v {
		err = errMoved
	}
	if err != nil {
		return "", err
	}
	prefix := backupDir + strings.TrimSuffix(d.stored(), docSuffix) + "."
	names, err := s.docs.list(ctx, prefix)
	if err != nil {
		return "", err
	}
	slices.Sort(names)
	if len(names) > 0 { // the same change, tried again
		last := names[len(names)-1]
		if kept, err := s.bytes(ctx, last); err == nil && bytes.Equal(kept, data) {
			return s.where(last), nil
		}
	}
	name := prefix + s.clk.Now().UTC().Format(copyTime) + "-001" + docSuffix
	if n := len(names); n > 0 && names[n-1] >= name {
		name = following(names[n-1]) // of the same second, or the clock was set back
	}
	if err := s.docs.save(ctx, name, data, absent); err != nil {
		return "", fmt.Errorf("keep a copy of the state of %s: %w", d.title(), err)
	}
	for _, old := range names[:max(0, len(names)+1-keptBackups)] {
		if err := s.removeWhole(ctx, old); err != nil {
			return "", fmt.Errorf("remove an old copy of the state of %s: %w", d.title(), err)
		}
	}
	return s.where(name), nil
}

// following is the name of the copy after one of the same second.
func following(name string) string {
	base, n := strings.TrimSuffix(name, docSuffix), 0
	if i := strings.LastIndex(base, "-"); i >= 0 {
		if number, err := strconv.Atoi(base[i+1:]); err == nil {
			base, n = base[:i], number
		}
	}
	return fmt.Sprintf("%s-%03d%s", base, n+1, docSuffix)
}

// removeWhole removes a copy, whichever version it is.
func (s *Store) removeWhole(ctx context.Context, name string) error {
	_, v, err := s.docs.load(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.docs.remove(ctx, name, v)
}

// RewriteBackups gives the copies that are kept of pipelines' documents to
// rewrite, those of names that they had before too, and puts what it returns in
// their place; nil leaves one as it is.
func (s *Store) RewriteBackups(ctx context.Context, rewrite func(path string, data []byte) ([]byte, error)) error {
	names, err := s.docs.list(ctx, backupDir+docPrefix)
	if err != nil {
		return err
	}
	for _, name := range names {
		escaped, _, _ := strings.Cut(strings.TrimPrefix(name, backupDir+docPrefix), ".")
		if pipeline, ok := unescape(escaped); ok {
			if err := s.rewriteBackup(ctx, name, New(pipeline), rewrite); err != nil {
				return fmt.Errorf("rewrite a copy of the state of pipeline %s: %w", pipeline, err)
			}
		}
	}
	return nil
}

func (s *Store) rewriteBackup(ctx context.Context, name string, of *Pipeline, rewrite func(string, []byte) ([]byte, error)) error {
	unlock, err := s.lockSave(ctx, of)
	if err != nil {
		return err
	}
	defer unlock()
	data, v, err := s.docs.load(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it was among the oldest
	}
	if err != nil {
		return err
	}
	changed, err := rewrite(s.where(name), data)
	if err != nil || changed == nil {
		return err
	}
	return s.docs.save(ctx, name, changed, v)
}
