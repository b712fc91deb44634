package parquet

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/zeebo/xxh3"

	"github.com/sluice-etl/sluice/internal/parquetfile"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

// The kinds of faults that Verify finds.
const (
	faultMissing   = "missing_file"       // the manifest names it
	faultChanged   = "changed_file"       // it is not what was written
	faultRecorded  = "wrong_record"       // the manifest says other counts or ranges
	faultSchema    = "wrong_schema"       // it has other columns than the table
	faultUnknown   = "unknown_file"       // the manifest does not name it
	faultPartition = "wrong_partition"    // rows stand where they do not belong
	faultDuplicate = "duplicate_id"       // a contact stands more than once in current
	faultHistory   = "incomplete_history" // current has versions that history lacks
	faultIDs       = "wrong_ids"          // a file of ids has others than its month
	faultViews     = "outdated_views"     // views.sql is not what it would be
)

// namedContacts is how many contacts a fault names.
const namedContacts = 5

var _ load.Verifier = (*Loader)(nil)

// Verify implements load.Verifier: every file of the manifest by bytes and
// checksum, every row by both readers, ids unique over all months, rows in
// their partition, each version of current in history, no file that the
// manifest does not name below current and history, and views.sql. It holds a
// row group and 48 MB of hashed ids at a time, and temporary files of 16 bytes
// for each row beyond that. It holds the table's lock until it returns.
func (l *Loader) Verify(ctx context.Context, lineage string, found func(load.Fault)) (load.Verified, error) {
	if err := ctx.Err(); err != nil {
		return load.Verified{}, err
	}
	t, exists, err := inspect(l.dir)
	if err != nil || !exists {
		return load.Verified{}, err
	}
	if _, err := t.ours(l.dir, lineage); err != nil {
		return load.Verified{}, err
	}
	release, err := acquire(ctx, l.dir, "", l.o.LockWait, l.o.Clock)
	if err != nil {
		return load.Verified{}, err
	}
	out, err := l.verifyLocked(ctx, lineage, found)
	return out, errors.Join(err, release())
}

func (l *Loader) verifyLocked(ctx context.Context, lineage string, found func(load.Fault)) (out load.Verified, err error) {
	t, exists, err := inspect(l.dir) // it may have changed before the lock was ours
	if err != nil || !exists {
		return load.Verified{}, err
	}
	m, err := l.complete(t, lineage)
	if err != nil {
		return load.Verified{}, err
	}
	return l.verifyTable(ctx, m, onDisk{l.dir}, found)
}

// verifyTable checks the table that m describes.
func (l *Loader) verifyTable(ctx context.Context, m *Manifest, s shelf, found func(load.Fault)) (out load.Verified, err error) {
	scratch, err := os.MkdirTemp("", "sluice-verify-")
	if err != nil {
		return load.Verified{}, fmt.Errorf("verify table: %w", err)
	}
	limit := sortLimit
	if l.o.sortLimit > 0 {
		limit = l.o.sortLimit
	}
	v := &verification{
		l: l, m: m, shelf: s, found: found,
		ids: newSorter(scratch, limit), current: newSorter(scratch, limit), history: newSorter(scratch, limit),
	}
	defer func() {
		err = errors.Join(err, v.ids.close(), v.current.close(), v.history.close(), os.RemoveAll(scratch))
	}()
	return v.out, v.run(ctx)
}

// verification is one check of one table.
type verification struct {
	l     *Loader
	m     *Manifest
	shelf shelf
	found func(load.Fault)
	out   load.Verified

	ids, current, history *sorter // ids of current; versions of both
}

func (v *verification) fault(kind, path string, n int64, format string, args ...any) {
	v.found(load.Fault{Kind: kind, Path: path, Count: n, Detail: fmt.Sprintf(format, args...)})
}

func (v *verification) run(ctx context.Context) error {
	for _, f := range v.m.Current {
		if err := v.currentFile(ctx, f); err != nil {
			return err
		}
	}
	for _, f := range v.m.History {
		if err := v.historyFile(ctx, f); err != nil {
			return err
		}
	}
	if err := v.unknownFiles(ctx); err != nil {
		return err
	}
	if err := v.unique(ctx); err != nil {
		return err
	}
	if err := v.complete(ctx); err != nil {
		return err
	}
	return v.views()
}

// currentFile checks a file of current.
func (v *verification) currentFile(ctx context.Context, f File) error {
	mo, err := monthOfPath(f.Path)
	if err != nil {
		return err
	}
	from, to := mo.bounds()
	var astray stray
	var hashes []uint64
	sound, err := v.file(ctx, f, v.m.Schema.Arrow(), true, func(r row) error {
		if r.created < from || r.created >= to {
			astray.add(r.id)
		}
		hashes = append(hashes, shortHash(r.id))
		return errors.Join(v.ids.add(xxh3.HashString128(r.id).Bytes()), v.current.add(r.version()))
	})
	v.out.Contacts += int64(len(hashes))
	if err != nil {
		return err
	}
	if astray.n > 0 {
		v.fault(faultPartition, f.Path, astray.n, "created_at of %s lies in another month", astray)
	}
	if !sound {
		return nil
	}
	slices.Sort(hashes)
	if err := v.shelf.bring(ctx, idsPath(mo)); err != nil {
		return err
	}
	kept, ok, err := keptIDs(at(v.l.dir, idsPath(mo)), f)
	if err == nil && ok && !slices.Equal(kept, hashes) {
		v.fault(faultIDs, idsPath(mo), 0, "it has other ids than %s", f.Path)
	}
	return errors.Join(err, v.shelf.drop(idsPath(mo)))
}

// historyFile checks a file of history.
func (v *verification) historyFile(ctx context.Context, f File) error {
	var astray stray
	day := strings.TrimPrefix(filepath.Base(filepath.Dir(at(v.l.dir, f.Path))), dateKey+"=")
	_, err := v.file(ctx, f, v.m.Schema.Arrow(), false, func(r row) error {
		if dayOf(r.extracted).String() != day {
			astray.add(r.id)
		}
		v.out.Versions++
		return v.history.add(r.version())
	})
	if err == nil && astray.n > 0 {
		v.fault(faultPartition, f.Path, astray.n, "_sluice_extracted_at of %s lies on another day", astray)
	}
	return err
}

// file checks one file by both readers, and gives its rows to each. whole says
// that it has every column of the table. sound says that it is what was
// written.
func (v *verification) file(ctx context.Context, f File, table *arrow.Schema, whole bool, each func(row) error) (sound bool, err error) {
	v.out.Files++
	v.out.Bytes += f.Bytes
	if err := v.shelf.bring(ctx, f.Path); err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, v.shelf.drop(f.Path)) }()
	path := at(v.l.dir, f.Path)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		v.fault(faultMissing, f.Path, 0, "the manifest has it with %d rows", f.Rows)
		return false, nil
	case err != nil:
		return false, explain("read", path, err)
	case info.Size() != f.Bytes:
		v.fault(faultChanged, f.Path, 0, "it has %d bytes, the manifest says %d", info.Size(), f.Bytes)
		return false, nil
	}
	rows := &rowReader{each: each}
	stats, err := parquetfile.Survey(ctx, path, f.Bytes, f.SHA256, rows.take)
	if err == nil {
		err = parquetfile.Verify(ctx, path, stats, parquetfile.VerifyFull)
	}
	switch {
	case errors.Is(err, parquetfile.ErrDamaged), errors.Is(err, parquetfile.ErrMismatch), errors.Is(err, errRows):
		v.fault(faultChanged, f.Path, 0, "%v", err)
		return false, nil
	case err != nil:
		return false, err
	}
	if stats.Rows != f.Rows {
		v.fault(faultRecorded, f.Path, 0, "it has %d rows, the manifest says %d", stats.Rows, f.Rows)
	}
	for _, r := range []struct {
		column string
		want   *Range
	}{{schemas.ColCreatedAt, f.CreatedAt}, {schemas.ColUpdatedAt, f.UpdatedAt}, {schemas.ColExtractedAt, f.ExtractedAt}} {
		if got := rangeOf(stats, r.column); !r.want.same(got) {
			v.fault(faultRecorded, f.Path, 0, "the range of %s is not what the manifest says", r.column)
		}
	}
	if rows.schema != nil {
		if what := compareColumns(table, rows.schema, whole); what != "" {
			v.fault(faultSchema, f.Path, 0, "%s", what)
		}
	}
	if rows.newest > v.m.Package {
		v.fault(faultRecorded, f.Path, 0, "it has rows of package %d, the last one committed is %d", rows.newest, v.m.Package)
	}
	return true, nil
}

func (r *Range) same(o *Range) bool {
	if r == nil || o == nil {
		return r == o
	}
	return r.Min.Equal(o.Min) && r.Max.Equal(o.Max)
}

// compareColumns says how a file's columns differ from the table's.
func compareColumns(table, file *arrow.Schema, whole bool) string {
	for _, f := range file.Fields() {
		found := table.FieldIndices(f.Name)
		switch {
		case len(found) == 0:
			return fmt.Sprintf("column %s is none of the table's", f.Name)
		case !arrow.TypeEqual(table.Field(found[0]).Type, f.Type):
			return fmt.Sprintf("column %s is %s, in the table it is %s", f.Name, f.Type, table.Field(found[0]).Type)
		case whole && table.Field(found[0]).Nullable != f.Nullable:
			return fmt.Sprintf("column %s takes null otherwise than in the table", f.Name)
		}
	}
	for i, f := range table.Fields() {
		if whole && (i >= file.NumFields() || file.Field(i).Name != f.Name) {
			return fmt.Sprintf("column %s is not where the table has it", f.Name)
		}
	}
	return ""
}

// errRows marks rows without what every row has.
var errRows = errors.New("rows lack what every row has")

// row is a stored row as far as checks go; the id is valid during the call
// that has it.
type row struct {
	id                       string
	created, extracted, hash int64
	deleted                  bool
}

// version stands for the row's version.
func (r row) version() sortKey {
	b := make([]byte, 0, 64)
	b = binary.LittleEndian.AppendUint64(append(b, r.id...), uint64(r.hash)) //nolint:gosec // all 64 bits are meant
	if r.deleted {
		b = append(b, 1)
	}
	return xxh3.Hash128(b).Bytes()
}

// rowReader gives the rows of records to each.
type rowReader struct {
	each   func(row) error
	schema *arrow.Schema
	newest int64 // package
}

func (r *rowReader) take(rec arrow.Record) error {
	r.schema = rec.Schema()
	kr, err := newKeyReader(r.schema)
	if err != nil {
		return fmt.Errorf("%w: %w", errRows, err)
	}
	at := func(name string) int {
		if found := r.schema.FieldIndices(name); len(found) == 1 {
			return found[0]
		}
		return -1
	}
	c, p := at(schemas.ColCreatedAt), at(schemas.ColPackage)
	if c < 0 || p < 0 {
		return fmt.Errorf("%w: created_at or _sluice_package", errRows)
	}
	created, ok1 := rec.Column(c).(*array.Timestamp)
	packages, ok2 := rec.Column(p).(*array.Int64)
	if !ok1 || !ok2 || created.NullN()+packages.NullN() > 0 {
		return fmt.Errorf("%w: created_at or _sluice_package", errRows)
	}
	i := 0
	var first error
	err = kr.each(rec, func(id string, k key) {
		if first == nil {
			first = r.each(row{id: id, created: int64(created.Value(i)), extracted: k.extracted, hash: k.hash, deleted: k.deleted})
		}
		r.newest = max(r.newest, packages.Value(i))
		i++
	})
	if err != nil {
		return fmt.Errorf("%w: %w", errRows, err)
	}
	return first
}

// stray are contacts that a fault is about.
type stray struct {
	n   int64
	ids []string
}

func (s *stray) add(id string) {
	s.n++
	if len(s.ids) < namedContacts {
		s.ids = append(s.ids, strings.Clone(id))
	}
}

// String names a few.
func (s stray) String() string {
	text := strings.Join(s.ids, ", ")
	if int64(len(s.ids)) < s.n {
		text += fmt.Sprintf(" and %d more", s.n-int64(len(s.ids)))
	}
	return text
}

// unknownFiles finds what readers would take for the table's.
func (v *verification) unknownFiles(ctx context.Context) error {
	known := map[string]bool{}
	for _, f := range slices.Concat(v.m.Current, v.m.History) {
		if known[f.Path] {
			v.fault(faultRecorded, f.Path, 0, "the manifest names it twice")
		}
		known[f.Path] = true
	}
	for _, top := range []string{currentDir, historyDir} {
		err := v.shelf.each(ctx, top, func(rel string) {
			if !known[rel] {
				v.fault(faultUnknown, rel, 0, "the manifest does not name it")
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// unique finds contacts that stand more than once in current.
func (v *verification) unique(ctx context.Context) error {
	twice := map[sortKey]*[]string{} // the months of the first few
	n := int64(0)
	err := v.ids.twice(func(k sortKey) {
		if n++; len(twice) < namedContacts {
			twice[k] = &[]string{}
		}
	})
	if err != nil || n == 0 {
		return err
	}
	names := map[sortKey]string{}
	err = v.eachOfCurrent(ctx, func(f File, id string, _ key) {
		k := xxh3.HashString128(id).Bytes()
		if months := twice[k]; months != nil {
			*months = append(*months, strings.TrimPrefix(filepath.Base(filepath.Dir(f.Path)), monthKey+"="))
			names[k] = strings.Clone(id)
		}
	})
	var text []string
	for k, months := range twice {
		text = append(text, fmt.Sprintf("%s (in %s)", names[k], strings.Join(*months, ", ")))
	}
	slices.Sort(text)
	v.fault(faultDuplicate, "", n, "contacts that stand more than once: %s", stray{n, text})
	return err
}

// complete finds versions of current that history lacks.
func (v *verification) complete(ctx context.Context) error {
	lacking := map[sortKey]bool{}
	n := int64(0)
	err := v.current.lacking(v.history, func(k sortKey) {
		if n++; len(lacking) < namedContacts {
			lacking[k] = true
		}
	})
	if err != nil || n == 0 {
		return err
	}
	var ids []string
	err = v.eachOfCurrent(ctx, func(_ File, id string, k key) {
		if lacking[row{id: id, hash: k.hash, deleted: k.deleted}.version()] {
			ids = append(ids, strings.Clone(id))
		}
	})
	slices.Sort(ids)
	v.fault(faultHistory, "", n, "history lacks the current version of %s", stray{n, slices.Compact(ids)})
	return err
}

// eachOfCurrent reads the keys of current once more, to name contacts; files
// that cannot be read have been reported.
func (v *verification) eachOfCurrent(ctx context.Context, each func(f File, id string, k key)) error {
	m := &merge{dir: v.l.dir}
	for _, f := range v.m.Current {
		if err := v.shelf.bring(ctx, f.Path); err != nil {
			return err
		}
		err := m.eachStoredKey(ctx, f, func(id string, k key) { each(f, id, k) })
		if dropErr := v.shelf.drop(f.Path); dropErr != nil {
			return dropErr
		}
		if ctx.Err() != nil {
			return err
		}
	}
	return nil
}

// views checks views.sql.
func (v *verification) views() error {
	o := v.l.viewsFor(v.m)
	path := filepath.Join(v.l.dir, viewsName)
	got, err := os.ReadFile(path)
	switch {
	case len(v.m.Schema.Columns) == 0: // no package has come yet
		return nil
	case errors.Is(err, fs.ErrNotExist):
		v.fault(faultViews, viewsName, 0, "it is missing; the next run writes it")
	case err != nil:
		return explain("read", path, err)
	case !bytes.Equal(got, []byte(Views(o))) && !bytes.Equal(got, withoutStages(o)):
		v.fault(faultViews, viewsName, 0, "it was changed, or the timezone or the folder has; the next run writes it again")
	}
	return nil
}
