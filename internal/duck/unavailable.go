//go:build !cgo || !(linux || darwin || windows) || !(amd64 || arm64) || (windows && arm64)

package duck

import (
	"context"
	"database/sql"
)

// Available reports whether this binary has DuckDB.
const Available = false

// Version returns "", there being no DuckDB.
func Version(context.Context) string { return "" }

// DB is never made in this build.
type DB struct{}

// Open returns ErrUnavailable.
func Open(context.Context, string) (*DB, error) { return nil, ErrUnavailable }

// Close does nothing.
func (*DB) Close() error { return nil }

// Query returns ErrUnavailable.
func (*DB) Query(context.Context, string, int) (*Result, error) { return nil, ErrUnavailable }

// Export returns ErrUnavailable.
func (*DB) Export(context.Context, string, string, Format) (int64, error) {
	return 0, ErrUnavailable
}

// Views returns ErrUnavailable.
func (*DB) Views(context.Context) ([]View, error) { return nil, ErrUnavailable }

func openPool(string, bool) (*sql.DB, error) { return nil, ErrUnavailable }
