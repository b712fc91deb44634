package parquet

import (
	"context"
	"errors"

	"github.com/sluice-etl/sluice/load"
)

// Loader commits packages to one table of Parquet files.
type Loader struct{ o Options }

var _ load.Loader = (*Loader)(nil)

// New returns a Loader. It touches nothing on disk.
func New(o Options) (*Loader, error) { return &Loader{o: o}, nil }

// Check implements load.Loader.
func (l *Loader) Check(context.Context, string) (int64, error) { return 0, errors.ErrUnsupported }

// Commit implements load.Loader.
func (l *Loader) Commit(context.Context, load.Package) (load.Result, error) {
	return load.Result{}, errors.ErrUnsupported
}

// Close implements load.Loader.
func (l *Loader) Close() error { return nil }

// Dir returns the table's directory, absolute.
func (l *Loader) Dir() string { return "" }

// OpenManifest reads the manifest of the table in dir (<path>/<table>). The
// error wraps fs.ErrNotExist where nothing was ever committed.
func OpenManifest(dir string) (*Manifest, error) { return nil, errors.ErrUnsupported }

// Views returns the SQL that creates the table's views and macros in DuckDB's
// current schema: one statement each, comments included, to be run as a whole.
func Views(o ViewsOptions) string { return "" }

// ViewsFor returns the options of Views for the table in dir.
func ViewsFor(dir string, m *Manifest) ViewsOptions { return ViewsOptions{} }
