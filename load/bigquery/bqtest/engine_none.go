//go:build !(cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64)))

package bqtest

import (
	"context"
	"database/sql"
	"errors"
)

var errNoEngine = errors.New("this binary was built without DuckDB")

func openEngine(context.Context, Options) (*sql.DB, error) { return nil, errNoEngine }

func appendRows(*sql.Conn, string, []string, [][]any) error { return errNoEngine }

func plainValue(v any) any { return v }
