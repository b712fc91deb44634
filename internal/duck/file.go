package duck

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// ErrNotADatabase says that a file exists and is no DuckDB database.
var ErrNotADatabase = errors.New("not a DuckDB database")

// InUseError says that another process, or another part of this one, holds
// a database file in a way that excludes the one asked for.
type InUseError struct {
	Path   string
	Holder string // program and process id as DuckDB tells them; "" where it does not
	Err    error
}

// Error names the file and, where known, who holds it.
func (e *InUseError) Error() string {
	if e.Holder == "" {
		return fmt.Sprintf("database is in use (%s)", e.Path)
	}
	return fmt.Sprintf("database is in use (%s): %s holds it", e.Path, e.Holder)
}

// Unwrap returns DuckDB's error.
func (e *InUseError) Unwrap() error { return e.Err }

// FileOptions say how a database file is opened.
type FileOptions struct {
	// ReadOnly opens an existing file beside other readers. Otherwise the file
	// is created where there is none, and is open nowhere else.
	ReadOnly bool
	// MemoryLimit is what DuckDB may hold in memory, as it spells sizes
	// ("512MB"); beyond it, it spills beside the file. "": DuckDB's default,
	// 80% of the machine.
	MemoryLimit string
	// Threads is how many threads DuckDB uses. 0: one for each core.
	Threads int
}

// File is one open DuckDB database file with one session, for one goroutine.
// Timestamps without an offset are UTC in it.
type File struct {
	pool *sql.DB
	conn *sql.Conn
	path string
}

// OpenFile opens a database file. It does not wait: a file that something else
// holds is an *InUseError at once, one that is no database ErrNotADatabase.
func OpenFile(ctx context.Context, path string, o FileOptions) (*File, error) {
	if err := CheckPath(path); err != nil {
		return nil, err
	}
	pool, err := openPool(path, o.ReadOnly)
	if err != nil {
		return nil, fileError(path, err)
	}
	conn, err := pool.Conn(ctx)
	if err != nil {
		return nil, errors.Join(fileError(path, err), pool.Close())
	}
	f := &File{pool: pool, conn: conn, path: path}
	session := []string{"SET TimeZone = 'UTC'"}
	if o.MemoryLimit != "" {
		session = append(session, "SET memory_limit = '"+strings.ReplaceAll(o.MemoryLimit, "'", "''")+"'")
	}
	if o.Threads > 0 {
		session = append(session, fmt.Sprintf("SET threads = %d", o.Threads))
	}
	for _, s := range session {
		if _, err := conn.ExecContext(ctx, s); err != nil {
			return nil, errors.Join(fmt.Errorf("set up database %s: %w", path, err), f.Close())
		}
	}
	return f, nil
}

// Conn is the file's session.
func (f *File) Conn() *sql.Conn { return f.conn }

// Close ends the session and gives the file free. What was committed is
// durable before.
func (f *File) Close() error {
	if err := errors.Join(f.conn.Close(), f.pool.Close()); err != nil {
		return fmt.Errorf("close database %s: %w", f.path, err)
	}
	return nil
}

// CheckPath refuses a path that the driver would take for another one: it
// reads paths as URLs.
func CheckPath(path string) error {
	if strings.ContainsAny(path, "?#") || strings.HasPrefix(path, ":") {
		return fmt.Errorf("open database %q: the driver cannot open a path with ? or # in it", path)
	}
	if _, err := url.Parse(path); err != nil {
		return fmt.Errorf("open database %q: the driver cannot open this path: %w", path, err)
	}
	return nil
}

// fileError sorts the errors of opening a file by DuckDB's words, there being
// no codes.
func fileError(path string, err error) error {
	if err == nil || errors.Is(err, ErrUnavailable) {
		return err
	}
	text := err.Error()
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(text, w) {
				return true
			}
		}
		return false
	}
	switch {
	// The last two: another process on Windows, and another part of this process.
	case has("Could not set lock", "Conflicting lock", "being used by another process", "with a different configuration", "already attached", "file handle conflict"):
		return &InUseError{Path: path, Holder: holder(text), Err: err}
	case has("not a valid DuckDB database file", "sqlite_scanner", "extension \"sqlite"):
		return fmt.Errorf("open %s: %w", path, ErrNotADatabase)
	default:
		return fmt.Errorf("open database %s: %w", path, err)
	}
}

// holder cuts the program out of "Conflicting lock is held in PROGRAM (PID n)".
func holder(text string) string {
	_, rest, ok := strings.Cut(text, "Conflicting lock is held in ")
	if !ok {
		return ""
	}
	program, rest, ok := strings.Cut(rest, " (PID ")
	if !ok {
		return ""
	}
	pid, _, ok := strings.Cut(rest, ")")
	if !ok {
		return ""
	}
	return program + " (process " + pid + ")"
}
