package bqtest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/bigquery"
	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/grpc/codes"
)

// byHand is serve with a clock that the test moves.
func byHand(t *testing.T, l Limits) (*service, *handClock) {
	t.Helper()
	c := &handClock{now: noon}
	return serve(t, func(o *Options) { o.Clock, o.Limits = c, l }), c
}

// refuses wants an error with a text.
func refuses(t *testing.T, what string, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("%s: got error %v, want one with %q", what, err, text)
	}
}

func TestTheServicesQuotasApplyWhereATestSetsNone(t *testing.T) {
	t.Parallel()
	s, c := byHand(t, Limits{})
	ref := tableRef{s.Project(), "ds", "t"}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, x := range []struct {
		partitioned bool
		n, more     int
	}{{false, 1_500, 1}, {true, 30_000, 1}} {
		c.advance(24 * time.Hour)
		if err := s.modify(ref, x.partitioned, x.n); err != nil {
			t.Errorf("%d: %v", i, err)
		}
		refuses(t, fmt.Sprint(i), s.modify(ref, x.partitioned, x.more), "Quota exceeded")
	}
}

func TestJobsWriteATableSoOftenADay(t *testing.T) {
	t.Parallel()
	s, c := byHand(t, Limits{TableModifications: 3})
	s.query("CREATE TABLE t (n INT64)")
	s.query("INSERT INTO t VALUES (1); UPDATE t SET n = 2 WHERE TRUE; DELETE FROM t WHERE TRUE") // DML does not count
	if _, err := s.load("", `{"n": 1}`); err != nil {
		t.Fatal(err)
	}
	refuses(t, "a bad row", func() error { _, err := s.load("", `{"n": "x"}`); return err }(), "field: n") // counts
	into := func(q *bigquery.Query) { q.Dst, q.WriteDisposition = s.ds.Table("t"), bigquery.WriteAppend }
	s.query("SELECT 2 AS n", into)
	_, err := s.load("", `{"n": 3}`)
	refuses(t, "a load", err, "Quota exceeded: Your table exceeded quota for imports or query appends per table")
	s.refuse("SELECT 3 AS n", "Quota exceeded", into)
	if got := s.one("SELECT SUM(n) FROM t"); got != int64(3) {
		t.Errorf("the sum is %v", got)
	}
	s.query("DROP TABLE t")
	s.refuse("CREATE TABLE t AS SELECT 1 AS n", "Quota exceeded") // it is of the name
	s.query("CREATE TABLE t (n INT64)")
	s.query("CREATE TABLE other AS SELECT 1 AS n")
	c.advance(24 * time.Hour)
	if _, err := s.load("", `{"n": 3}`); err != nil {
		t.Errorf("a day later: %v", err)
	}
}

func TestJobsWriteSoManyPartitionsOfATableADay(t *testing.T) {
	t.Parallel()
	s, c := byHand(t, Limits{TableModifications: 1, PartitionModifications: 5})
	s.query("CREATE TABLE t (n INT64, d DATE) PARTITION BY d")
	row := func(days ...int) (lines string) {
		for _, d := range days {
			lines += fmt.Sprintf(`{"n": 1, "d": "2024-01-%02d"}`+"\n", d)
		}
		return lines
	}
	for _, lines := range []string{row(1, 2, 2), row(1)} {
		if _, err := s.load("", lines); err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.load("", row(3, 4, 5))
	refuses(t, "a load of three more", err, "partition modifications")
	s.query("INSERT INTO t " + strings.ReplaceAll(days, "@from, @until", "0, 9")) // DML does not count
	if got := s.one("SELECT COUNT(*) FROM t"); got != int64(14) {
		t.Errorf("%v rows", got)
	}
	c.advance(24 * time.Hour)
	_, err = s.load("", row(1), func(l *bigquery.Loader) { l.WriteDisposition = bigquery.WriteTruncate })
	refuses(t, "a load that empties 12 partitions", err, "partition modifications")
	s.refuse("CREATE TABLE made PARTITION BY d AS "+days, "partition modifications", numbers(0, 5))
	s.query("CREATE TABLE made PARTITION BY d AS "+days, numbers(0, 4))
}

func TestATableIsUpdatedSoOftenInTenSecondsAndDMLIsNotRefused(t *testing.T) {
	t.Parallel()
	s, c := byHand(t, Limits{TableUpdates: 2})
	const tooOften = "Exceeded rate limits: too many table update operations"
	s.query("CREATE TABLE t (n INT64)")
	for range 2 {
		if _, answer := s.call("POST /projects/test-project/jobs " + queryJob("INSERT INTO ds.t VALUES (1)")); strings.Contains(answer, tooOften) {
			t.Errorf("DML: %s", answer)
		}
	}
	table := "/projects/test-project/datasets/ds/tables"
	for _, call := range []string{
		"PATCH " + table + `/t {"description": "x"}`,
		"POST /projects/test-project/jobs " + queryJob("ALTER TABLE ds.t ADD COLUMN m INT64"),
		"POST /projects/test-project/jobs " + queryJob("CREATE OR REPLACE TABLE ds.t (m INT64)"),
		"POST /projects/test-project/jobs " + queryJob("SELECT 1 AS n", `"destinationTable": {"projectId": "test-project", "datasetId": "ds", "tableId": "t"}`),
	} {
		if _, answer := s.call(call); !strings.Contains(answer, tooOften) || !strings.Contains(answer, "rateLimitExceeded") {
			t.Errorf("%s: %s", call, answer)
		}
	}
	s.query("DROP TABLE t")
	if _, answer := s.call("POST " + table + ` {"tableReference": {"tableId": "t"}, "schema": {"fields": [{"name": "n", "type": "INT64"}]}}`); !strings.Contains(answer, tooOften) {
		t.Errorf("a table of the name: %s", answer)
	}
	c.advance(10 * time.Second)
	s.query("CREATE TABLE t (n INT64)")
}

func TestSoManyStatementsWaitForATable(t *testing.T) {
	t.Parallel()
	s := serve(t, func(o *Options) { o.Limits.WaitingDML = 1 })
	s.query("CREATE TABLE t AS SELECT 1 AS n")
	done := make(chan error, 1)
	between(s, "UPDATE t SET n = n + 1 WHERE TRUE", func() {
		go func() {
			_, _, err := s.try("UPDATE t SET n = n * 10 WHERE TRUE")
			done <- err
		}()
		s.waits("t", 1)
		s.refuse("DELETE FROM t WHERE TRUE", "Too many DML statements outstanding")
	})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := s.one("SELECT n FROM t"); got != int64(20) {
		t.Errorf("n is %v", got)
	}
}

func TestATransactionChangesUpTo100Tables(t *testing.T) {
	t.Parallel()
	s := serve(t)
	var tables, changes strings.Builder
	for i := range 101 {
		fmt.Fprintf(&tables, "CREATE TABLE t%d (n INT64);", i)
		fmt.Fprintf(&changes, "INSERT INTO t%d VALUES (1);", i)
	}
	s.query(tables.String())
	s.refuse("BEGIN TRANSACTION;"+changes.String()+"COMMIT TRANSACTION", "at most 100 tables")
	s.query("BEGIN TRANSACTION; INSERT INTO t0 VALUES (1);" + strings.Replace(changes.String(), "INSERT INTO t100 VALUES (1);", "", 1) + "COMMIT TRANSACTION")
	if got := s.one("SELECT (SELECT COUNT(*) FROM t0) + (SELECT COUNT(*) FROM t100)"); got != int64(2) {
		t.Errorf("%v rows", got)
	}
}

func TestACommitHasSoManyStreamsAndBytes(t *testing.T) {
	t.Parallel()
	st := start(t, Options{Limits: Limits{PendingBytes: 500}})
	ref := st.table("contacts", "id:STRING")
	names := make([]string, maxCommitStreams+1)
	for i := range names {
		names[i] = fmt.Sprint(ref.path(), "/streams/s", i)
	}
	_, err := st.write.BatchCommitWriteStreams(t.Context(), &storagepb.BatchCommitWriteStreamsRequest{Parent: ref.path(), WriteStreams: names})
	wantStatus(t, err, codes.InvalidArgument, "at most 10000")
	if r := st.commit(ref, names[1:]...); len(r.GetStreamErrors()) != maxCommitStreams {
		t.Errorf("%d streams are not found", len(r.GetStreamErrors()))
	}
	small, large := st.create(ref, pending), st.create(ref, pending)
	for name, size := range map[string]int{small: 50, large: 300} {
		c := st.connect(t.Context())
		c.ok(protoReq(name, idOnly, wire(strings.Repeat("x", size))))
		st.finalize(name)
	}
	_, err = st.write.BatchCommitWriteStreams(t.Context(), &storagepb.BatchCommitWriteStreamsRequest{Parent: ref.path(), WriteStreams: []string{small, large}})
	wantStatus(t, err, codes.ResourceExhausted, "Pending stream bytes")
	if got := st.rows(ref); len(got) != 0 {
		t.Errorf("rows of a refused commit: %v", got)
	}
	st.commit(ref, large)
	if got := st.rows(ref); len(got) != 1 {
		t.Errorf("%d rows", len(got))
	}
}
