package bigquery

import (
	"context"
	"fmt"
	"time"

	"github.com/sluice-etl/sluice/load"
)

var _ load.Lagging = (*Loader)(nil)

// settleMargin is how long after the staleness a package may still be on its
// way: its upserts are sent after its record is written.
const settleMargin = time.Hour

// Settled implements load.Lagging. Only queries of a table of method cdc lag, by
// max_staleness at most.
func (l *Loader) Settled(ctx context.Context, lineage string) (int64, error) {
	last, err := l.open(ctx, lineage)
	if err != nil || last == nil {
		return 0, err
	}
	if l.o.Method != CDC || l.o.MaxStaleness == 0 {
		return last.position(), nil
	}
	since := l.o.Clock.Now().Add(-l.o.MaxStaleness - settleMargin)
	q, _, err := l.query(ctx, fmt.Sprintf("SELECT MIN(package) FROM %s WHERE committed_at >= %s", l.o.quoted(l.o.commits()), literal(since)))
	if err != nil {
		return 0, fmt.Errorf("ask which packages are recent: %w", err)
	}
	row, err := q.one(ctx)
	if err != nil {
		return 0, fmt.Errorf("ask which packages are recent: %w", err)
	}
	if first, recent := row[0].(int64); recent {
		return min(last.position(), first-1), nil
	}
	return last.position(), nil
}
