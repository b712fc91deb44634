package bqtest

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"strings"
	"time"

	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"cloud.google.com/go/civil"
)

// Limits of partitioned tables ("Quotas and limits", "Partitioned tables"): "Each
// partitioned table can have up to 10,000 partitions"; a query or load job "can
// affect up to 4,000 partitions", which streaming does not count for.
const (
	maxPartitions    = 10_000
	maxJobPartitions = 4_000
)

// recent is how long rows count as recently streamed ("Introduction to the
// BigQuery Storage Write API", "Use DML with recently streamed data").
const recent = 30 * time.Minute

// streamedColumn holds when the Storage Write API wrote a row, NULL if it did
// not. No column of a table can have a name with a blank.
const streamedColumn = "row streamed"

// partitionsOf selects the partition of each row of a source by a value, the
// partitioning column if it is "". Rows without a time count for nothing: no page
// says whether their partition counts.
func (t *table) partitionsOf(value, source string) string {
	p := t.partitioning()
	if p == nil {
		return ""
	}
	if value == "" {
		value = quoteName(p.column)
	}
	return "SELECT date_trunc('" + strings.ToLower(p.unit) + "', CAST(" + value + " AS TIMESTAMP)) AS part FROM " + source
}

// checkPartitions refuses a table with more partitions than it can have.
func (s *Server) checkPartitions(ctx context.Context, conn *sql.Conn, t *table) error {
	n, err := s.countPartitions(ctx, conn, t, t.partitionsOf("", t.phys))
	if err == nil && n > maxPartitions {
		return &apiError{status: http.StatusForbidden, reason: "quotaExceeded", message: fmt.Sprintf(
			"Too many partitions: %s would have %d, and can have %d", t.ref, n, maxPartitions)}
	}
	return err
}

// checkModified refuses a statement or load that changes too many partitions.
func (s *Server) checkModified(ctx context.Context, conn *sql.Conn, t *table, partitions string) error {
	n, err := s.countPartitions(ctx, conn, t, partitions)
	if err == nil && n > maxJobPartitions {
		return &apiError{status: http.StatusBadRequest, reason: "invalidQuery", location: "query", message: fmt.Sprintf(
			"Too many partitions produced by query, allowed %d, query produces at least %d partitions", maxJobPartitions, n)}
	}
	return err
}

func (s *Server) countPartitions(ctx context.Context, conn *sql.Conn, t *table, partitions string) (n int64, err error) {
	if t.partitioning() == nil {
		return 0, nil
	}
	if err := conn.QueryRowContext(ctx, "SELECT count(DISTINCT part) FROM ("+partitions+")").Scan(&n); err != nil {
		return 0, fmt.Errorf("count partitions of %s: %w", t.ref, err)
	}
	return n, nil
}

// lastRow is the engine's number of the last row, of a table with partitions.
func (s *Server) lastRow(ctx context.Context, conn *sql.Conn, t *table) (n int64, err error) {
	if t.partitioning() == nil {
		return 0, nil
	}
	if err := conn.QueryRowContext(ctx, "SELECT coalesce(max(rowid), -1) FROM "+t.phys).Scan(&n); err != nil {
		return 0, fmt.Errorf("find last row of %s: %w", t.ref, err)
	}
	return n, nil
}

// checkAppended checks the partitions of the rows that came after a row, and
// those of the table.
func (s *Server) checkAppended(ctx context.Context, conn *sql.Conn, t *table, last int64) error {
	if t.partitioning() == nil {
		return nil
	}
	if err := s.checkModified(ctx, conn, t, t.partitionsOf("", fmt.Sprintf("%s WHERE rowid > %d", t.phys, last))); err != nil {
		return err
	}
	return s.checkPartitions(ctx, conn, t)
}

// checkStreamed refuses, in a transaction, to change rows that were recently
// streamed: "Running mutating DML statements within a multi-statement transaction
// against recently streamed data is unsupported"; outside of one it is supported
// ("Introduction to the BigQuery Storage Write API", "Use DML with recently
// streamed data").
func (r *session) checkStreamed(t *table, where string) error {
	if !r.tx {
		return nil
	}
	var n int64
	since := literalSQL(ty("TIMESTAMP"), r.s.now().Add(-recent))
	q := "SELECT count(*) FROM " + t.phys + " WHERE " + quoteName(streamedColumn) + " > " + since + " AND " + where
	if err := r.conn.QueryRowContext(r.ctx, q).Scan(&n); err != nil {
		return asQuery(err)
	}
	if n > 0 {
		return &apiError{status: http.StatusBadRequest, reason: "invalidQuery", location: "query", message: fmt.Sprintf(
			"Statement in a transaction would affect %d rows of table %s that were recently streamed, which is not supported", n, t.ref)}
	}
	return nil
}

// outOfRange tells rows that cannot be streamed: the value of the partitioning
// column has to be "between 10 years in the past and 1 year in the future"
// ("Introduction to the BigQuery Storage Write API", "Time-unit column
// partitioning").
func outOfRange(b *batch, p *partitioning, now time.Time) []*storagepb.RowError {
	if p == nil {
		return nil
	}
	var bad []*storagepb.RowError
	from, until := now.AddDate(-10, 0, 0), now.AddDate(1, 0, 0)
	for k, name := range b.columns {
		if !strings.EqualFold(name, p.column) {
			continue
		}
		for i, row := range b.rows {
			at, ok := row[k].(time.Time)
			if d, date := row[k].(civil.Date); date {
				at, ok = d.In(time.UTC), true
			}
			if ok && (at.Before(from) || at.After(until)) {
				bad = append(bad, &storagepb.RowError{Index: int64(i), Code: storagepb.RowError_FIELDS_ERROR, Message: fmt.Sprintf(
					"Field %s: the partition of %s is out of range: rows can be streamed from 10 years ago to 1 year ahead", name, at.Format(time.RFC3339))})
			}
		}
	}
	return bad
}
