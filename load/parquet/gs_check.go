package parquet

import (
	"context"
	"errors"
	"io"
	"os"
	"path"
	"strings"

	"github.com/sluice-etl/sluice/internal/gcs"
	"github.com/sluice-etl/sluice/internal/parquetfile"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

var (
	_ load.Verifier = (*GSLoader)(nil)
	_ load.Eraser   = (*GSLoader)(nil)
)

// Verify implements load.Verifier, as Loader does. Every file is downloaded, one
// at a time, its CRC-32C checked against the bucket's. It keeps no commit out:
// where one comes from another machine meanwhile and changes a file that was
// not read yet, it begins anew.
func (l *GSLoader) Verify(ctx context.Context, lineage string, found func(load.Fault)) (out load.Verified, err error) {
	err = l.attend(ctx, lineage, "the verification", func() error {
		t, m, err := l.owned(ctx, lineage)
		if err != nil {
			return err
		}
		if err := l.fetchSmall(ctx, map[string]int64{}); err != nil {
			return err
		}
		var faults []load.Fault
		s := &gsShelf{l: l, t: t, known: func() int { return len(faults) }}
		out, err = l.local.verifyTable(ctx, m, s, func(f load.Fault) { faults = append(faults, f) })
		if err == nil {
			err = s.upToDate(ctx)
		}
		if err != nil {
			return err
		}
		for _, f := range faults {
			found(f)
		}
		return nil
	})
	return out, err
}

// Erase implements load.Eraser, as Loader does. To find the contact it downloads
// the history, a few files at a time. What is staged of commits that died goes
// as well. Versions of objects that the bucket itself keeps are out of its
// reach.
func (l *GSLoader) Erase(ctx context.Context, e load.Erasure) (out load.Erased, err error) {
	if e.ID == "" {
		return out, errors.New("erase contact: no id is given")
	}
	err = l.attend(ctx, e.Lineage, "the erasure", func() error {
		out, err = l.eraseOnce(ctx, e)
		return err
	})
	return out, err
}

// eraseOnce erases from the table as it is now; errOvertaken if that changed
// meanwhile.
func (l *GSLoader) eraseOnce(ctx context.Context, e load.Erasure) (load.Erased, error) {
	t, m, err := l.owned(ctx, e.Lineage)
	if err != nil {
		return load.Erased{}, err
	}
	// The remains of commits that are over, in place or never to be.
	if err := l.sweep(ctx, m.Number); err != nil {
		return load.Erased{}, err
	}
	w, err := l.work(t, m)
	if err != nil {
		return load.Erased{}, err
	}
	x := &erasure{l: l.local, id: e.ID, desk: w}
	if err := x.find(ctx, m); err != nil {
		return load.Erased{}, err
	}
	if err := l.readManifests(ctx, x, w); err != nil {
		return load.Erased{}, err
	}
	if err := l.readStaged(ctx, x); err != nil {
		return load.Erased{}, err
	}
	if e.DryRun || !x.out.Any() {
		return x.out, nil
	}
	if err := l.fetchSmall(ctx, w.generations); err != nil {
		return load.Erased{}, err
	}
	next, err := x.stage(ctx, m)
	if err != nil {
		w.giveUp(ctx)
		return load.Erased{}, err
	}
	if err := w.publish(ctx, next); err != nil {
		return load.Erased{}, err
	}
	// Those that were staged beside it have lost their number.
	return x.out, l.sweep(ctx, next.Number)
}

// readManifests looks which of the numbered manifests name the contact.
func (l *GSLoader) readManifests(ctx context.Context, x *erasure, w *gsWork) error {
	dir := l.name(manifestsDir) + "/"
	objects, err := l.o.Client.List(ctx, l.bucket, dir)
	if err != nil {
		return err
	}
	for _, o := range objects {
		name := strings.TrimPrefix(o.Name, dir)
		if _, ok := manifestNumber(name); !ok {
			continue
		}
		rel := path.Join(manifestsDir, name)
		data, _, err := l.get(ctx, rel)
		if err != nil {
			return err
		}
		w.generations[rel] = o.Generation
		x.readManifest(rel, data)
	}
	return nil
}

// readStaged looks which objects name the contact that a commit has staged and
// not come to record. They cannot be removed as they are, for the commit may be
// alive; when another has taken its number they can.
func (l *GSLoader) readStaged(ctx context.Context, x *erasure) error {
	objects, err := l.o.Client.List(ctx, l.bucket, l.name(stagingDir)+"/")
	if err != nil {
		return err
	}
	for _, o := range objects {
		held, err := l.stagedHolds(ctx, x, strings.TrimPrefix(o.Name, l.prefix))
		switch {
		case errors.Is(err, gcs.ErrNotExist): // it was given up just now
		case err != nil:
			return err
		case held:
			x.out.Names++
		}
	}
	return nil
}

func (l *GSLoader) stagedHolds(ctx context.Context, x *erasure, rel string) (held bool, err error) {
	if _, err := l.download(ctx, rel); err != nil {
		return false, errors.Join(err, l.dropLocal(rel))
	}
	defer func() { err = errors.Join(err, l.dropLocal(rel)) }()
	file := at(l.local.dir, rel)
	if path.Ext(rel) != ".parquet" {
		data, err := os.ReadFile(file)
		return x.named(data), explain("read", file, err)
	}
	r, err := parquetfile.Open(file)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	records, err := r.Read(parquetfile.ReadOptions{Columns: []string{schemas.ColID}})
	if err != nil {
		return false, err
	}
	for {
		rec, err := records.Next()
		if errors.Is(err, io.EOF) {
			return held, nil
		}
		if err != nil {
			return false, err
		}
		others, err := x.others(rec)
		held = held || int64(len(others)) < rec.NumRows()
		rec.Release()
		if err != nil {
			return false, err
		}
	}
}
