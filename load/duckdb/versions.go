package duckdb

import (
	"context"

	"github.com/sluice-etl/sluice/load"
)

var _ load.Historian = (*Loader)(nil)

// Versions implements load.Historian. The database is open for reading
// meanwhile.
func (l *Loader) Versions(ctx context.Context, lineage string) (n int64, err error) {
	err = l.reading(ctx, func(s *session) error {
		t, err := s.inspect(ctx, l.o.Table)
		if err != nil || !t.found {
			return err
		}
		if err := t.ours(l.o.Path, lineage); err != nil {
			return err
		}
		return s.get(ctx, []any{&n}, "SELECT count(*) FROM "+t.history())
	})
	return n, err
}
