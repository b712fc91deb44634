package duckdb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/duck"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/views"
)

// Erase implements load.Eraser. DuckDB leaves what is deleted in the file:
// beside live rows of its row group, and in blocks that are free but not
// overwritten, whatever CHECKPOINT and VACUUM are asked for. So everything else
// is copied to a new file, all tables and views of the database, also those that
// sluice did not make, and that file takes the old one's place in one step. It
// needs as much room beside the database as the database takes.
func (l *Loader) Erase(ctx context.Context, e load.Erasure) (load.Erased, error) {
	if e.ID == "" {
		return load.Erased{}, errors.New("erase contact: no id is given")
	}
	if err := ctx.Err(); err != nil {
		return load.Erased{}, err
	}
	var out load.Erased
	err := l.reading(ctx, func(s *session) error {
		x, err := s.lookFor(ctx, l.o, e)
		out = x.out
		return err
	})
	if err != nil || e.DryRun || !out.Any() {
		return out, err
	}
	s, err := l.open(ctx, false, 0)
	if err != nil {
		return load.Erased{}, err
	}
	out, err = s.erase(ctx, l, e)
	if err != nil {
		return load.Erased{}, explain("erase contact", l.o.Path, errors.Join(err, s.close()))
	}
	return out, nil
}

// erasure removes one contact from one table.
type erasure struct {
	*session
	table stored
	id    string
	named string // the id as JSON has it
	out   load.Erased
}

// lookFor counts what the database has of the contact.
func (s *session) lookFor(ctx context.Context, o Options, e load.Erasure) (*erasure, error) {
	x := &erasure{session: s, id: e.ID}
	var err error
	if x.table, err = s.inspect(ctx, o.Table); err != nil || !x.table.found {
		return x, err
	}
	if err := x.table.ours(o.Path, e.Lineage); err != nil {
		return x, err
	}
	named, err := json.Marshal(e.ID)
	if err != nil {
		return x, fmt.Errorf("encode id: %w", err)
	}
	x.named = string(named)
	count := `SELECT (SELECT count(*) FROM ` + x.table.current() + ` WHERE "id" = ?), (SELECT count(*) FROM ` + x.table.history() + ` WHERE "id" = ?),
  (SELECT count(*) FROM _sluice.packages WHERE table_name = ? AND contains(result, ?)) + (SELECT count(*) FROM _sluice.runs WHERE table_name = ? AND contains(coverage::VARCHAR, ?))`
	err = s.get(ctx, []any{&x.out.Current, &x.out.History, &x.out.Names}, count, e.ID, e.ID, x.table.name, x.named, x.table.name, x.named)
	if err == nil && x.out.Any() {
		x.out.Files = 1
	}
	return x, err
}

// erase puts a file without the contact in the place of the session's, and
// closes it. On an error the session is still open, and its file as it was.
func (s *session) erase(ctx context.Context, l *Loader, e load.Erasure) (load.Erased, error) {
	place, err := filepath.EvalSymlinks(s.path)
	if err != nil {
		return load.Erased{}, err
	}
	s.sweep()
	removeBirths(place)
	x, err := s.lookFor(ctx, l.o, e) // it may have changed since
	if err != nil || !x.out.Any() {
		return x.out, errors.Join(err, s.close())
	}
	info, err := os.Stat(place)
	if err != nil {
		return load.Erased{}, err
	}
	// What is in the log goes to the file: a log that outlives its file would be
	// taken for the next one's.
	if _, err := s.exec(ctx, "CHECKPOINT"); err != nil {
		return load.Erased{}, err
	}
	if log, err := os.Stat(s.path + ".wal"); err == nil && log.Size() > 0 {
		return load.Erased{}, errors.New("the write-ahead log is not empty after a checkpoint")
	}
	tmp, err := os.MkdirTemp(filepath.Dir(place), births(place))
	if err != nil {
		return load.Erased{}, err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	fresh := filepath.Join(tmp, filepath.Base(place))
	if err := x.copyTo(ctx, fresh); err != nil {
		return load.Erased{}, err
	}
	if err := settle(fresh, info); err != nil {
		return load.Erased{}, err
	}
	if err := s.giveWay(ctx, fresh, place); err != nil {
		return load.Erased{}, err
	}
	return x.out, explain("flush folder", filepath.Dir(place), atomicfile.SyncDir(filepath.Dir(place)))
}

// settle makes a new file durable, with the rights of the old one.
func settle(fresh string, old os.FileInfo) error {
	if err := os.Chmod(fresh, old.Mode().Perm()); err != nil {
		return err
	}
	keepOwner(fresh, old)
	f, err := os.OpenFile(fresh, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// giveWay replaces the session's file by the new one. The new one is held
// until the old one is closed: whoever opened it before might write a log,
// which lies beside the path, and have it taken away by the old one's end.
func (s *session) giveWay(ctx context.Context, fresh, place string) error {
	if runtime.GOOS == "windows" { // no open file is replaced there
		if err := s.close(); err != nil {
			return err
		}
		return os.Rename(fresh, place)
	}
	held, err := duck.OpenFile(ctx, fresh, duck.FileOptions{Threads: 1})
	if err != nil {
		return err
	}
	if err := os.Rename(fresh, place); err != nil {
		return errors.Join(err, held.Close())
	}
	// The new file stands there; what fails now is only giving the old one free.
	return explain("close database", place, errors.Join(s.close(), held.Close()))
}

// copyTo makes a database at path that has everything but the contact.
func (x *erasure) copyTo(ctx context.Context, path string) (err error) {
	var own string
	if err := x.get(ctx, []any{&own}, "SELECT current_database()"); err != nil {
		return err
	}
	fresh := "sluice_fresh"
	if strings.EqualFold(own, fresh) {
		fresh += "_2"
	}
	if _, err := x.exec(ctx, "ATTACH "+views.QuoteText(path)+" AS "+fresh); err != nil {
		return err
	}
	attached := true
	defer func() {
		if attached { // after an error that is told already
			_, _ = x.exec(context.WithoutCancel(ctx), "DETACH "+fresh)
		}
	}()
	if _, err := x.exec(ctx, "COPY FROM DATABASE "+views.QuoteName(own)+" TO "+fresh+" (SCHEMA)"); err != nil {
		return fmt.Errorf("copy tables and views: %w", err)
	}
	tables, err := x.tables(ctx)
	if err != nil {
		return err
	}
	for _, t := range tables {
		if err := x.copyTable(ctx, t, fresh); err != nil {
			return fmt.Errorf("copy table %s.%s: %w", t.schema, t.name, err)
		}
	}
	if err := x.unname(ctx, fresh); err != nil {
		return err
	}
	if _, err := x.exec(ctx, "CHECKPOINT "+fresh); err != nil {
		return err
	}
	attached = false
	_, err = x.exec(ctx, "DETACH "+fresh)
	return err
}

// copied is a table to copy.
type copied struct{ schema, name, sql string }

func (c copied) relation() string { return views.QuoteName(c.schema) + "." + views.QuoteName(c.name) }

// tables lists what is to be copied, a table after those that its rows refer to.
func (x *erasure) tables(ctx context.Context) ([]copied, error) {
	var out []copied
	var t copied
	err := x.each(ctx, []any{&t.schema, &t.name, &t.sql}, func() error { out = append(out, t); return nil },
		"SELECT schema_name, table_name, sql FROM duckdb_tables() WHERE database_name = current_database() AND NOT internal AND NOT temporary ORDER BY table_oid")
	return out, err
}

// copyTable copies the rows that stay, and compares both sides by count and
// by a digest of every row.
func (x *erasure) copyTable(ctx context.Context, t copied, fresh string) error {
	columns, err := x.columnsOf(ctx, t)
	if err != nil {
		return err
	}
	where := x.rest(t)
	if _, err := x.exec(ctx, fmt.Sprintf("INSERT INTO %s.%s (%s) SELECT %s FROM %s%s", fresh, t.relation(), columns, columns, t.relation(), where)); err != nil {
		return err
	}
	const digest = "SELECT count(*), coalesce(sum(hash(sluice_copied_row)), 0)::VARCHAR FROM "
	var rows [2]int64
	var sums [2]string
	for i, from := range []string{t.relation() + " AS sluice_copied_row" + where, fresh + "." + t.relation() + " AS sluice_copied_row"} {
		if err := x.get(ctx, []any{&rows[i], &sums[i]}, digest+from); err != nil {
			return err
		}
	}
	if rows[0] != rows[1] || sums[0] != sums[1] {
		return fmt.Errorf("the copy has %d rows, or others than the %d that are to stay", rows[1], rows[0])
	}
	return nil
}

// rest is the condition under which a row of a table stays.
func (x *erasure) rest(t copied) string {
	if t.schema == schemaName && (t.name == x.table.name+currentSuffix || t.name == x.table.name+historySuffix) {
		return ` WHERE "id" <> ` + views.QuoteText(x.id)
	}
	return ""
}

// columnsOf lists the columns of a table that rows are inserted with: those that
// are computed from others, which only a user's table has, take no value.
func (x *erasure) columnsOf(ctx context.Context, t copied) (string, error) {
	var names []string
	var name string
	err := x.each(ctx, []any{&name}, func() error { names = append(names, views.QuoteName(name)); return nil },
		"SELECT column_name FROM duckdb_columns() WHERE database_name = current_database() AND schema_name = ? AND table_name = ? ORDER BY column_index", t.schema, t.name)
	if err != nil || !strings.Contains(t.sql, "GENERATED ALWAYS AS") {
		return strings.Join(names, ", "), err
	}
	var plain []string
	for _, n := range names {
		// DuckDB lists them like the others, and refuses to change them.
		_, err := x.exec(ctx, "EXPLAIN UPDATE "+t.relation()+" SET "+n+" = NULL")
		switch {
		case err == nil:
			plain = append(plain, n)
		case !strings.Contains(err.Error(), "generated column"):
			return "", err
		}
	}
	return strings.Join(plain, ", "), nil
}

// unname takes the contact's id out of the copied notes, and its rows out of
// their number.
func (x *erasure) unname(ctx context.Context, fresh string) error {
	const nobody = `"(erased)"`
	in := fresh + "." + schemaName + "."
	for _, text := range []string{
		"UPDATE " + in + "packages SET result = replace(result, ?, ?) WHERE table_name = ? AND contains(result, ?)",
		"UPDATE " + in + "runs SET coverage = replace(coverage::VARCHAR, ?, ?)::JSON WHERE table_name = ? AND contains(coverage::VARCHAR, ?)",
	} {
		if _, err := x.exec(ctx, text, x.named, nobody, x.table.name, x.named); err != nil {
			return err
		}
	}
	counted, err := x.hasCounts(ctx)
	if err != nil || !counted {
		return err
	}
	_, err = x.exec(ctx, "UPDATE "+in+"counts SET current_rows = current_rows - ?, history_rows = history_rows - ? WHERE table_name = ?", x.out.Current, x.out.History, x.table.name)
	return err
}

// removeBirths removes what processes that were killed were making for a path.
// The database at the path is the caller's alone.
func removeBirths(path string) {
	for _, d := range birthsOf(path) {
		_ = os.RemoveAll(d)
	}
}
