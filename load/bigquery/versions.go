package bigquery

import (
	"context"
	"fmt"

	"github.com/sluice-etl/sluice/load"
)

var _ load.Historian = (*Loader)(nil)

// Versions implements load.Historian. BigQuery counts rows for nothing.
func (l *Loader) Versions(ctx context.Context, lineage string) (int64, error) {
	last, err := l.open(ctx, lineage)
	if err != nil || last == nil {
		return 0, err
	}
	q, _, err := l.query(ctx, "SELECT COUNT(*) FROM "+l.o.quoted(l.o.history()))
	if err != nil {
		return 0, fmt.Errorf("count rows of history: %w", err)
	}
	row, err := q.one(ctx)
	if err != nil {
		return 0, fmt.Errorf("count rows of history: %w", err)
	}
	n, ok := row[0].(int64)
	if !ok {
		return 0, fmt.Errorf("count rows of history: the answer is %T", row[0])
	}
	return n, nil
}
