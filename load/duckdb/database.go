package duckdb

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/duck"
)

// lockRetry is how often a waiting call tries to open the database again.
const lockRetry = 100 * time.Millisecond

// Contacts are personal data: the owner writes, the owner's group may read.
const (
	fileMode fs.FileMode = 0o640
	dirMode  fs.FileMode = 0o750
)

// session is an open database.
type session struct {
	file *duck.File
	conn *sql.Conn
	path string
}

// open opens the database, for a commit of so many columns if not for reading
// only, and waits, within the options, until it is free.
func (l *Loader) open(ctx context.Context, readOnly bool, columns int) (*session, error) {
	limit := cmp.Or(l.o.MemoryLimit, fmt.Sprintf("%dMB", 256+columns))
	o := duck.FileOptions{ReadOnly: readOnly, MemoryLimit: limit, Threads: l.o.Threads}
	for waited := time.Duration(0); ; waited += lockRetry {
		before, _ := os.Stat(l.o.Path)
		f, err := duck.OpenFile(ctx, l.o.Path, o)
		if err == nil {
			// Between opening and locking a file, another process may have put
			// one in its place (see Erase): what is written to the old one is lost.
			if after, _ := os.Stat(l.o.Path); before == nil || after != nil && os.SameFile(before, after) {
				return &session{file: f, conn: f.Conn(), path: l.o.Path}, nil
			}
			if err := f.Close(); err != nil {
				return nil, explain("open database", l.o.Path, err)
			}
			continue
		}
		var used *duck.InUseError
		switch {
		case errors.Is(err, duck.ErrNotADatabase):
			return nil, foreign(l.o.Path, "the database's file is no DuckDB database", otherPlace)
		case errors.As(err, &used) && waited < l.o.Wait:
			if err := clock.Sleep(ctx, lockRetry); err != nil {
				return nil, err
			}
		default:
			return nil, explain("open database", l.o.Path, err)
		}
	}
}

// reading runs f on the database opened for reading; where there is no file,
// it does nothing.
func (l *Loader) reading(ctx context.Context, f func(*session) error) error {
	if _, err := os.Stat(l.o.Path); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return explain("read database", l.o.Path, err)
	}
	s, err := l.open(ctx, true, 0)
	if err != nil {
		return err
	}
	return explain("read database", l.o.Path, errors.Join(f(s), s.close()))
}

// create makes an empty database where there is no file. DuckDB creates a file
// in several writes, and one that was killed between them is no database to
// anyone: so the file is made under another name and moved into place whole.
func (l *Loader) create(ctx context.Context) error {
	if _, err := os.Stat(l.o.Path); !errors.Is(err, fs.ErrNotExist) {
		return explain("read database", l.o.Path, err)
	}
	if _, err := os.Lstat(l.o.Path + ".wal"); err == nil {
		return foreign(l.o.Path+".wal", "a write-ahead log lies there without its database", "Put the database back beside it, or move the log away to start anew.")
	}
	dir := filepath.Dir(l.o.Path)
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return explain("create folder", dir, err)
	}
	tmp, err := os.MkdirTemp(dir, births(l.o.Path))
	if err != nil {
		return explain("create folder", dir, err)
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	l.dropStaleBirths(tmp)
	err = l.createIn(ctx, tmp)
	if err != nil && ctx.Err() == nil {
		// Whoever was first has swept what others were making beside it.
		if _, statErr := os.Stat(l.o.Path); statErr == nil {
			return nil
		}
	}
	return err
}

// createIn makes the database in the folder tmp beside its place, and moves it
// there unless another process has done so meanwhile.
func (l *Loader) createIn(ctx context.Context, tmp string) error {
	fresh := filepath.Join(tmp, filepath.Base(l.o.Path))
	f, err := duck.OpenFile(ctx, fresh, duck.FileOptions{})
	if err != nil {
		return explain("create database", l.o.Path, err)
	}
	_, err = f.Conn().ExecContext(ctx, "CREATE SCHEMA "+schemaName+"; CHECKPOINT")
	if err := errors.Join(err, f.Close()); err != nil {
		return explain("create database", l.o.Path, err)
	}
	if err := os.Chmod(fresh, fileMode); err != nil {
		return explain("create database", l.o.Path, err)
	}
	// A link, unlike a rename, never replaces what another process has put
	// there meanwhile. Where there are no links, the rename has to do.
	err = os.Link(fresh, l.o.Path)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		err = os.Rename(fresh, l.o.Path)
	}
	if err != nil {
		return explain("create database", l.o.Path, err)
	}
	dir := filepath.Dir(l.o.Path)
	return explain("flush folder", dir, atomicfile.SyncDir(dir))
}

// births is the pattern of the folders in which files that are to stand at a
// path are made.
func births(path string) string { return "." + filepath.Base(path) + ".new-*" }

// birthAge is when a folder that create left counts as that of a dead process,
// as long as there is no database.
const birthAge = time.Hour

// dropStaleBirths removes what a process left that was killed while it created
// the database. What cannot be removed now waits for the next one.
func (l *Loader) dropStaleBirths(own string) {
	for _, d := range birthsOf(l.o.Path) {
		info, err := os.Stat(d)
		if d != own && err == nil && l.o.Clock.Now().Sub(info.ModTime()) > birthAge {
			_ = os.RemoveAll(d)
		}
	}
}

// birthsOf lists the folders that births names.
func birthsOf(path string) []string {
	dir := filepath.Dir(path)
	entries, err := os.ReadDir(dir) // the folder's own name may look like a pattern
	if err != nil {
		return nil
	}
	var found []string
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), strings.TrimSuffix(births(path), "*")) {
			found = append(found, filepath.Join(dir, e.Name()))
		}
	}
	return found
}

// close may be called twice.
func (s *session) close() error {
	if s.file == nil {
		return nil
	}
	f := s.file
	s.file = nil
	return f.Close()
}

// sweep removes what processes that were killed left: what they had spilled,
// and databases that they were making. Nobody else has this one open, DuckDB
// makes new files only when it spills, and whoever is creating a database finds
// that there is one.
func (s *session) sweep() {
	_ = os.RemoveAll(s.path + ".tmp")
	removeBirths(s.path)
}

// exec runs a statement and returns how many rows it changed.
func (s *session) exec(ctx context.Context, text string, args ...any) (int64, error) {
	r, err := s.conn.ExecContext(ctx, text, args...)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", firstWords(text), err)
	}
	return r.RowsAffected()
}

// get reads the one row of a query.
func (s *session) get(ctx context.Context, into []any, text string, args ...any) error {
	if err := s.conn.QueryRowContext(ctx, text, args...).Scan(into...); err != nil {
		return fmt.Errorf("%s: %w", firstWords(text), err)
	}
	return nil
}

// each reads the rows of a query.
func (s *session) each(ctx context.Context, into []any, row func() error, text string, args ...any) (err error) {
	rows, err := s.conn.QueryContext(ctx, text, args...)
	if err != nil {
		return fmt.Errorf("%s: %w", firstWords(text), err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return fmt.Errorf("%s: %w", firstWords(text), err)
		}
		if err := row(); err != nil {
			return err
		}
	}
	return rows.Err()
}

// firstWords names a statement in an error, without its values.
func firstWords(text string) string {
	words := strings.Fields(text)
	return strings.Join(words[:min(3, len(words))], " ")
}
