package parquet

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/views"
	"github.com/sluice-etl/sluice/schemas"
)

// stage writes everything the package changes under _staging, verified, and
// returns the manifest that would put it in place. Nothing that a reader looks
// at has changed when it returns.
func (l *Loader) stage(ctx context.Context, prev *Manifest, p load.Package) (*Manifest, error) {
	next, result, err := l.stageRows(ctx, prev, p)
	if err != nil {
		return nil, err
	}
	next.Results = lastResults(append(next.Results, Committed{Package: p.Serial, RunID: p.RunID, At: next.CreatedAt, Result: result}))
	if err := l.stageCoverage(p, next); err != nil {
		return nil, err
	}
	if err := l.stageViews(next); err != nil {
		return nil, err
	}
	return next, flushStaging(l.o.FS, l.dir)
}

// stageRows is stage but for the package's own result, its coverage and the
// views.
func (l *Loader) stageRows(ctx context.Context, prev *Manifest, p load.Package) (next *Manifest, result load.Result, err error) {
	table, err := unite(prev.Schema, p.Table, prev.Rows() > 0)
	if err != nil {
		return nil, result, err
	}
	mode, err := verifyMode(p.Verify)
	if err != nil {
		return nil, result, err
	}
	if err := makeDir(l.o.FS, filepath.Join(l.dir, stagingDir)); err != nil {
		return nil, result, err
	}
	fill := newFiller(l.mem)
	defer fill.release()
	schema := table.Arrow()
	later := newFlushLater(l.o.FS)
	out := &output{
		dir: l.dir, schema: schema, plain: l.o.Plain, workers: l.o.Workers, fs: later, verify: mode,
		meta: map[string]string{"sluice.pipeline": p.Pipeline, "sluice.table": l.o.Table, "sluice.package": fmt.Sprint(p.Serial)},
		id:   table.Index(schemas.ColID), ids: map[month]bool{}, hashKey: p.HashKey,
	}
	m := &merge{
		dir: l.dir, pkg: p, mem: l.mem, table: table, schema: schema, fill: fill, out: out,
		stored: map[month]File{}, rewrite: prev.Rows() > 0 && !sameLayout(prev.Schema, table),
		history: newHistoryWriter(out, p.Serial, l.o.HistoryFileRows),
		fetch:   l.fetch, keepEmpty: l.keepEmpty,
		arrivals: map[month][]uint64{}, losers: map[string]bool{},
	}
	for _, f := range prev.Current {
		mo, err := monthOfPath(f.Path)
		if err != nil {
			return nil, result, err
		}
		m.stored[mo] = f
	}
	err = m.run(ctx)
	if err = errors.Join(err, later.wait()); err != nil {
		return nil, result, err
	}
	return l.describe(prev, p, table, m)
}

// monthOfPath is the inverse of currentPath.
func monthOfPath(rel string) (month, error) {
	var y, m int
	if _, err := fmt.Sscanf(path.Base(path.Dir(rel)), monthKey+"=%d-%d", &y, &m); err != nil || m < 1 || m > 12 {
		return 0, fmt.Errorf("read manifest: %q is no file of current", rel)
	}
	return month(y*12 + m - 1), nil //nolint:gosec // years have at most a few digits
}

// describe makes the manifest after m, with the results of earlier packages, and
// says what m did.
func (l *Loader) describe(prev *Manifest, p load.Package, table schemas.Table, m *merge) (*Manifest, load.Result, error) {
	slices.SortFunc(m.current, byPath)
	slices.SortFunc(m.history.done, byPath)
	next := &Manifest{
		FormatVersion: FormatVersion, Number: prev.Number + 1, Lineage: p.Lineage, Pipeline: p.Pipeline, Table: l.o.Table,
		Package: p.Serial, RunID: p.RunID, CreatedAt: l.o.Clock.Now(), Schema: table, Compatibility: l.compatibility(), Timezone: views.Zone(l.o.Timezone),
		Current: slices.Clone(m.current), History: slices.Concat(prev.History, m.history.done), Results: slices.Clone(prev.Results),
	}
	for _, f := range prev.Current {
		if _, again := slices.BinarySearchFunc(m.current, f, byPath); !again && !slices.ContainsFunc(m.removed, func(r File) bool { return r.Path == f.Path }) {
			next.Current = append(next.Current, f)
		}
	}
	slices.SortFunc(next.Current, byPath)
	result := m.result
	result.Files = []load.File{}
	for _, f := range slices.Concat(m.history.done, m.gainersFirst()) { // history first: a reader of both misses nothing
		next.Published = append(next.Published, f.Path)
		result.Files = append(result.Files, load.File{Path: f.Path, Rows: f.Rows, Bytes: f.Bytes})
	}
	return next, result, m.describeIDs(next)
}

// gainersFirst orders the files written for current so that a contact that
// moves to another month arrives before it leaves.
func (m *merge) gainersFirst() []File {
	return slices.SortedStableFunc(slices.Values(m.current), func(a, b File) int {
		return cmp.Compare(btoi(m.losers[a.Path]), btoi(m.losers[b.Path]))
	})
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// describeIDs has the files of ids published, and what nothing is left of
// removed.
func (m *merge) describeIDs(next *Manifest) error {
	for _, mo := range slices.Sorted(maps.Keys(m.out.ids)) {
		next.Published = append(next.Published, idsPath(mo))
	}
	for _, f := range m.removed {
		mo, err := monthOfPath(f.Path)
		if err != nil {
			return err
		}
		if m.out.ids[mo] { // made to look into: of no use any more
			next.Published = slices.DeleteFunc(next.Published, func(rel string) bool { return rel == idsPath(mo) })
		}
		next.Removed = append(next.Removed, f.Path, idsPath(mo))
	}
	return nil
}

// lastResults drops the oldest results beyond what a manifest carries; the last
// one stays however many files it names.
func lastResults(results []Committed) []Committed {
	files := 0
	for i, c := range slices.Backward(results) {
		files += len(c.Result.Files)
		if last := len(results) - 1; i < last && (len(results)-i > keepResults || files > keepResultFiles) {
			return results[i+1:]
		}
	}
	return results
}

// stageCoverage stages the run's coverage record as one line of JSON.
func (l *Loader) stageCoverage(p load.Package, next *Manifest) error {
	if len(p.Coverage) == 0 {
		return nil
	}
	var line bytes.Buffer
	if err := json.Compact(&line, p.Coverage); err != nil {
		return fmt.Errorf("read coverage record of run %s: %w", p.RunID, err)
	}
	line.WriteByte('\n')
	return l.stageSmall(path.Join(runsDir, p.RunID+".json"), line.Bytes(), next)
}

// stageViews stages views.sql if it is to change.
func (l *Loader) stageViews(next *Manifest) error {
	o := l.viewsFor(next)
	o.HasRuns = o.HasRuns || slices.ContainsFunc(next.Published, func(rel string) bool { return path.Dir(rel) == runsDir })
	sql := []byte(Views(o))
	old, err := os.ReadFile(filepath.Join(l.dir, viewsName))
	if err == nil && bytes.Equal(old, sql) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return explain("read", filepath.Join(l.dir, viewsName), err)
	}
	return l.stageSmall(viewsName, sql, next)
}

func (l *Loader) stageSmall(rel string, data []byte, next *Manifest) error {
	path := filepath.Join(l.dir, stagingDir, stagedName(rel))
	if err := atomicfile.WriteFileOn(flushOnce{l.o.FS}, path, data, fileMode); err != nil {
		return explain("write file", path, err)
	}
	next.Published = append(next.Published, rel)
	return nil
}
