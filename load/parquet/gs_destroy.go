package parquet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/internal/gcs"
	"github.com/sluice-etl/sluice/load"
)

var _ load.Destroyer = (*GSLoader)(nil)

// Destroy implements load.Destroyer, as Loader does; the mark is a head.json that
// names all that goes. It replaces the one that was there, so that a commit which
// sleeps is refused when it wakes. Every object goes on condition of the
// generation that was listed. Versions of objects that the bucket itself keeps
// are out of its reach.
func (l *GSLoader) Destroy(ctx context.Context, d load.Destruction) error {
	if err := errors.Join(ctx.Err(), checkDestruction(d)); err != nil {
		return err
	}
	leave, err := l.enter(ctx, "")
	if err != nil {
		return err
	}
	err = errOvertaken
	for n := 0; n < mostRestarts && errors.Is(err, errOvertaken); n++ {
		err = l.destroyOnce(ctx, d.Lineage)
	}
	if errors.Is(err, errOvertaken) {
		err = &Error{Message: "gave up the destruction: the table kept changing", Path: l.URL(), hint: "Let no run write to this table meanwhile, and try again."}
	}
	if err == nil {
		err = l.writeUnion(ctx, false)
	}
	if err == nil && d.Stages && l.o.Stages != "" {
		err = l.dropStages(ctx)
	}
	return errors.Join(err, leave())
}

func (l *GSLoader) destroyOnce(ctx context.Context, lineage string) error {
	t, err := l.glance(ctx)
	if err != nil {
		return err
	}
	if !t.found() {
		return l.dropLeftovers(ctx)
	}
	m, err := t.ours(l.URL(), lineage)
	if err != nil {
		return err
	}
	if t.head == nil || !t.head.Going {
		if t, err = l.mark(ctx, t, m); err != nil {
			return err
		}
	}
	// What is staged goes first: nothing is copied from there any more.
	if err := l.dropStaged(ctx); err != nil {
		return err
	}
	own, err := l.ownObjects(ctx, &t.head.Manifest)
	if err != nil {
		return err
	}
	for _, some := range []func(rel string) bool{own, isManifest} {
		if err := l.remove(ctx, l.prefix, some); err != nil {
			return err
		}
	}
	return l.o.Client.Delete(ctx, l.bucket, l.name(path.Join(manifestsDir, headName)), t.headGen)
}

// dropLeftovers removes what a first commit that died has staged.
func (l *GSLoader) dropLeftovers(ctx context.Context) error {
	err := l.mustBeVacant(ctx)
	if errors.Is(err, errVacant) {
		return l.dropStaged(ctx)
	}
	if errors.Is(err, load.ErrForeign) {
		return nil // what somebody else wrote stays
	}
	return err
}

func (l *GSLoader) dropStaged(ctx context.Context) error {
	return l.remove(ctx, l.prefix, func(rel string) bool {
		_, staged := commitNumber(rel)
		return staged && strings.HasPrefix(rel, stagingDir+"/")
	})
}

// mark records that the table goes, in the place of its last commit m.
func (l *GSLoader) mark(ctx context.Context, t gsTable, m *Manifest) (gsTable, error) {
	h := &head{Manifest: *goingManifest(m, t.latest), Commit: gsCommit{Replaces: map[string]int64{}}, Going: true}
	var err error
	if h.Commit.ID, err = newCommitID(m); err != nil {
		return t, err
	}
	data, err := json.MarshalIndent(h, "", " ")
	if err != nil {
		return t, fmt.Errorf("encode manifest: %w", err)
	}
	o, err := l.o.Client.Put(ctx, l.bucket, l.name(path.Join(manifestsDir, headName)), append(data, '\n'), t.headGen, nil)
	if errors.Is(err, gcs.ErrChanged) {
		return t, errOvertaken
	}
	t.head, t.headGen = h, gcs.If(o.Generation)
	return t, err
}

// ownObjects says of an object whether it is the table's: one that m names, or
// of the kinds that only Sluice has.
func (l *GSLoader) ownObjects(ctx context.Context, m *Manifest) (func(rel string) bool, error) {
	sql, _, err := l.get(ctx, viewsName)
	if err != nil {
		return nil, err
	}
	named := map[string]bool{viewsName: isViews(string(sql))}
	for _, f := range slices.Concat(m.Current, m.History) {
		named[f.Path] = true
	}
	return func(rel string) bool {
		dir, name := path.Split(rel)
		return named[rel] || dir == idsDir+"/" && isIDs(name) || dir == runsDir+"/" && isRunFile(name)
	}, nil
}

// isManifest reports whether an object is a manifest but for head.json.
func isManifest(rel string) bool {
	dir, name := path.Split(rel)
	_, numbered := manifestNumber(name)
	return dir == manifestsDir+"/" && (numbered || name == latestName)
}

// dropStages removes the table of stages, if it is ours.
func (l *GSLoader) dropStages(ctx context.Context) error {
	o, err := l.statStages(ctx)
	if errors.Is(err, load.ErrForeign) || err == nil && o.Generation == int64(gcs.Absent) {
		return nil // what somebody else wrote stays
	}
	if err != nil {
		return err
	}
	return l.o.Client.Delete(ctx, l.bucket, l.stagesObject(), gcs.If(o.Generation))
}
