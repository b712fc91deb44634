package bqtest

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"
)

// sizes are a table's rows and logical bytes by partition.
type sizes struct {
	parts []partitionSize
}

type partitionSize struct {
	partition
	rows  int64
	bytes map[string]int64 // by column
}

func (p partitionSize) total() int64 {
	var n int64
	for _, b := range p.bytes {
		n += b
	}
	return n
}

// partitioning is how a table is cut by time.
type partitioning struct {
	column string
	unit   string // HOUR, DAY, MONTH, YEAR
	expiry time.Duration
	filter bool // queries must have a filter on the column
}

func (t *table) partitioning() *partitioning {
	p := t.meta.TimePartitioning
	if p == nil {
		return nil
	}
	return &partitioning{column: p.Field, unit: p.Type, expiry: time.Duration(p.ExpirationMs) * time.Millisecond, filter: t.meta.RequirePartitionFilter}
}

// end is where the partition that begins at from ends.
func (p *partitioning) end(from time.Time) time.Time {
	switch p.unit {
	case "HOUR":
		return from.Add(time.Hour)
	case "DAY":
		return from.AddDate(0, 0, 1)
	case "MONTH":
		return from.AddDate(0, 1, 0)
	default:
		return from.AddDate(1, 0, 0)
	}
}

// id is the partition's name, as 202401 ("Introduction to partitioned tables").
func (p *partitioning) id(x partition) string {
	if x.null {
		return "__NULL__"
	}
	return x.from.Format(map[string]string{"HOUR": "2006010215", "DAY": "20060102", "MONTH": "200601", "YEAR": "2006"}[p.unit])
}

// sizeSQL gives the logical bytes of a column's values ("Data type sizes",
// BigQuery pricing), as a query's number, NULL for none, times a factor: NULL has
// none.
func sizeSQL(c column) (query string, factor int64) {
	name := quoteName(c.name)
	switch c.kind {
	case "INT64", "FLOAT64", "TIMESTAMP", "DATE", "DATETIME", "TIME":
		return "count(" + name + ")", 8
	case "BOOL":
		return "count(" + name + ")", 1
	case "NUMERIC":
		return "count(" + name + ")", 16
	case "BYTES":
		return "CAST(sum(2 + octet_length(" + name + ")) AS BIGINT)", 1
	default: // STRING; JSON as its text
		return "CAST(sum(2 + strlen(" + name + ")) AS BIGINT)", 1
	}
}

// rowQuerier is *sql.DB or *sql.Conn.
type rowQuerier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// measure gives a table's sizes. They are kept until its rows change, unless a
// transaction, which sees rows of its own, asks; the server's lock is held.
func (s *Server) measure(ctx context.Context, db rowQuerier, t *table, keep bool) (*sizes, error) {
	if keep && t.sizes != nil && t.sizesVersion == t.version {
		return t.sizes, nil
	}
	key := "NULL::TIMESTAMP"
	p := t.partitioning()
	if p != nil {
		key = "CAST(date_trunc('" + strings.ToLower(p.unit) + "', " + quoteName(p.column) + ") AS TIMESTAMP)"
	}
	var q strings.Builder
	q.WriteString("SELECT " + key + ", count(*)")
	factors := make([]int64, len(t.columns))
	for i, c := range t.columns {
		var size string
		size, factors[i] = sizeSQL(c)
		q.WriteString(", " + size)
	}
	q.WriteString(" FROM " + t.phys + " GROUP BY 1 ORDER BY 1 NULLS FIRST")
	rows, err := db.QueryContext(ctx, q.String())
	if err != nil {
		return nil, fmt.Errorf("measure %s: %w", t.ref, err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	out := &sizes{}
	for rows.Next() {
		var from sql.NullTime
		x := partitionSize{bytes: map[string]int64{}}
		counts := make([]sql.NullInt64, len(t.columns))
		dest := []any{&from, &x.rows}
		for i := range counts {
			dest = append(dest, &counts[i])
		}
		if err := rows.Scan(dest...); err != nil {
			return nil, fmt.Errorf("measure %s: %w", t.ref, err)
		}
		for i, c := range t.columns {
			x.bytes[c.name] = counts[i].Int64 * factors[i]
		}
		switch {
		case p == nil:
			x.all = true
		case !from.Valid:
			x.null = true
		default:
			x.from = from.Time.UTC()
			x.until = p.end(x.from)
		}
		out.parts = append(out.parts, x)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("measure %s: %w", t.ref, err)
	}
	if keep {
		t.sizes, t.sizesVersion = out, t.version
	}
	return out, nil
}

// left says whether the conditions of a scan leave a partition.
func (s *scan) left(p partition) bool {
	for _, x := range s.preds {
		if !x(p) {
			return false
		}
	}
	return true
}

// checkFilters refuses a query without a filter on the partitioning column of a
// table that requires one (REST v2, Table.requirePartitionFilter).
func checkFilters(scans []*scan) error {
	for _, s := range scans {
		if p := s.t.partitioning(); p != nil && p.filter && len(s.preds) == 0 {
			return &apiError{status: 400, reason: "invalidQuery", location: "query", message: fmt.Sprintf(
				"Cannot query over table '%s.%s' without a filter over column(s) '%s' that can be used for partition elimination", s.t.ref.dataset, s.t.ref.table, p.column)}
		}
	}
	return nil
}

// minBilled is what a query is billed for each table it names at least ("Query
// size calculation", BigQuery pricing: 10 MB a table and a query).
const minBilled = 10 << 20

// cost gives the bytes that scans read and what they are billed for: each column
// and partition of a table once, however often it is named.
func (s *Server) cost(ctx context.Context, db rowQuerier, scans []*scan, keep bool) (processed, billed int64, err error) {
	type cell struct {
		t      *table
		part   int
		column string
	}
	seen := map[cell]bool{}
	tables := map[*table]int64{}
	for _, sc := range scans {
		sz, err := s.measure(ctx, db, sc.t, keep)
		if err != nil {
			return 0, 0, err
		}
		tables[sc.t] += 0
		for i, p := range sz.parts {
			if !sc.left(p.partition) {
				continue
			}
			for name, n := range p.bytes {
				c := cell{sc.t, i, name}
				if (sc.whole || sc.used[name]) && !seen[c] {
					seen[c] = true
					tables[sc.t] += n
				}
			}
		}
	}
	for _, n := range tables {
		processed += n
		if n > 0 { // COUNT(*) reads, and is billed for, nothing
			billed += max(roundMB(n), minBilled)
		}
	}
	return processed, billed, nil
}

// roundMB rounds up to the nearest MB.
func roundMB(n int64) int64 { return (n + 1<<20 - 1) >> 20 << 20 }
