package bqtest

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"strings"
	"time"

	bq "google.golang.org/api/bigquery/v2"
)

// Limits are quotas that a test can lower, so as to meet them. All are those of
// the page "Quotas and limits"; 0 is the service's own number.
type Limits struct {
	// TableModifications is how many jobs may append to or overwrite a table that
	// is not partitioned in 24 hours ("Standard tables"); 0 is 1,500.
	TableModifications int
	// PartitionModifications is how many partitions jobs may append to or overwrite
	// in 24 hours, of one table ("Partitioned tables"); 0 is 30,000.
	PartitionModifications int
	// TableUpdates is how many updates of a table's metadata there may be in 10
	// seconds: of tables that are not partitioned the service takes 5, of others 50.
	// 0 is no limit, as the clock of a test may stand still.
	TableUpdates int
	// PendingBytes is how many bytes of rows one commit of pending streams may have
	// ("Storage Write API"); 0 is 10 TB, that of the US and EU.
	PendingBytes int64
	// WaitingDML is how many statements that change rows may wait for a table ("Data
	// manipulation language statements"); 0 is 20.
	WaitingDML int
}

// Quotas of the service, by the page "Quotas and limits": "Standard tables",
// "Partitioned tables", "Storage Write API", "Data manipulation language
// statements".
const (
	dayModifications   = 1_500
	dayPartitions      = 30_000
	maxPendingBytes    = 10 << 40
	maxWaitingDML      = 20
	maxCommitStreams   = 10_000
	maxTransactionTabs = 100 // "Multi-statement transactions", "Limitations"
)

func orDefault[T int | int64](n, otherwise T) T {
	if n == 0 {
		return otherwise
	}
	return n
}

// usage is what a name of a table has used of its quotas: "Quotas and limits are
// associated with table names", so that a table that is created again goes on
// where the old one was.
type usage struct {
	modified []taken // in the last 24 hours
	updates  []taken // in the last 10 seconds
}

// taken is a use of a quota.
type taken struct {
	at time.Time
	n  int
}

// within drops what is older than a span, and adds up the rest.
func within(list []taken, now time.Time, span time.Duration) (kept []taken, sum int) {
	for _, x := range list {
		if now.Sub(x.at) < span {
			kept, sum = append(kept, x), sum+x.n
		}
	}
	return kept, sum
}

// usageOf gives what a table has used; s.mu is held.
func (s *Server) usageOf(ref tableRef) *usage {
	u := s.usage[ref]
	if u == nil {
		u = &usage{}
		s.usage[ref] = u
	}
	return u
}

// modify counts a job that appends to or overwrites n partitions of a table, or
// the table, which is n = 1. DML and streaming do not count. s.mu is held.
func (s *Server) modify(ref tableRef, partitioned bool, n int) error {
	limit := orDefault(s.opts.Limits.TableModifications, dayModifications)
	message := "Quota exceeded: Your table exceeded quota for imports or query appends per table"
	if partitioned {
		limit = orDefault(s.opts.Limits.PartitionModifications, dayPartitions)
		message = "Quota exceeded: Your table exceeded quota for Number of partition modifications to a column partitioned table"
	}
	u := s.usageOf(ref)
	var used int
	u.modified, used = within(u.modified, s.now(), 24*time.Hour)
	if used+n > limit {
		return &apiError{status: http.StatusForbidden, reason: "quotaExceeded", location: "load_job_per_table.long", message: fmt.Sprintf(
			"%s: %s, %d of %d in 24 hours", message, ref, used, limit)}
	}
	u.modified = append(u.modified, taken{s.now(), n})
	return nil
}

// countModified counts what a job has written to a table: the partitions of the
// rows after last, and those that it emptied before, or the table.
func (s *Server) countModified(ctx context.Context, conn *sql.Conn, t *table, emptied, last int64) error {
	if t.partitioning() == nil {
		return s.modify(t.ref, false, 1)
	}
	n, err := s.countPartitions(ctx, conn, t, t.partitionsOf("", fmt.Sprintf("%s WHERE rowid > %d", t.phys, last)))
	if err != nil {
		return err
	}
	return s.modify(t.ref, true, int(n+emptied))
}

// update counts an update of a table's metadata, which every job that writes to
// it is as well. DML counts, and is not refused ("Standard tables", "Maximum rate
// of table metadata update operations per table"). s.mu is held.
func (s *Server) update(ref tableRef, dml bool) error {
	limit := s.opts.Limits.TableUpdates
	if limit == 0 {
		return nil
	}
	u := s.usageOf(ref)
	var used int
	u.updates, used = within(u.updates, s.now(), 10*time.Second)
	if used >= limit && !dml {
		return &apiError{status: http.StatusForbidden, reason: "rateLimitExceeded", message: "Exceeded rate limits: too many table update operations for this table: " + ref.String()}
	}
	u.updates = append(u.updates, taken{s.now(), 1})
	return nil
}

// streamed is what streamingBuffer has counted of one version of a table's rows.
type streamed struct {
	version    int64
	rows, size int64
	oldest     int64 // in milliseconds since 1970
}

// streamingBuffer tells of rows that the Storage Write API has just written, nil
// for none: they are not among numRows and numBytes (REST v2,
// Table.streamingBuffer, Table.numRows). How long rows stay there no page tells;
// here as long as they count as recently streamed.
func (s *Server) streamingBuffer(ctx context.Context, t *table, all *sizes) (*bq.Streamingbuffer, error) {
	since := s.now().Add(-recent)
	b := t.streamed
	// A count holds until rows change or the oldest that it has is recent no more.
	if b == nil || b.version != t.version || (b.rows > 0 && b.oldest <= since.UnixMilli()) {
		var err error
		if b, err = s.countStreamed(ctx, t, all, since); err != nil {
			return nil, err
		}
		t.streamed = b
	}
	if b.rows == 0 {
		return nil, nil //nolint:nilnil // none
	}
	return &bq.Streamingbuffer{EstimatedRows: uint64(b.rows), EstimatedBytes: uint64(b.size), OldestEntryTime: uint64(b.oldest)}, nil //nolint:gosec // none is negative
}

// countStreamed counts the rows written since a time; all is what the table has.
func (s *Server) countStreamed(ctx context.Context, t *table, all *sizes, since time.Time) (*streamed, error) {
	b := &streamed{version: t.version}
	from := " FROM " + t.phys + " WHERE " + quoteName(streamedColumn) + " > " + literalSQL(ty("TIMESTAMP"), since)
	if err := s.db.QueryRowContext(ctx, "SELECT count(*), coalesce(min(epoch_ms("+quoteName(streamedColumn)+")), 0)"+from).Scan(&b.rows, &b.oldest); err != nil {
		return nil, fmt.Errorf("measure streaming buffer of %s: %w", t.ref, err)
	}
	var rows, size int64
	for _, p := range all.parts {
		rows += p.rows
		size += p.total()
	}
	switch b.rows {
	case 0:
		return b, nil
	case rows:
		b.size = size
		return b, nil
	}
	sums := make([]string, len(t.columns))
	for i, c := range t.columns {
		query, factor := sizeSQL(c)
		sums[i] = fmt.Sprintf("%d * coalesce(%s, 0)", factor, query)
	}
	if err := s.db.QueryRowContext(ctx, "SELECT "+strings.Join(sums, " + ")+from).Scan(&b.size); err != nil {
		return nil, fmt.Errorf("measure streaming buffer of %s: %w", t.ref, err)
	}
	return b, nil
}
