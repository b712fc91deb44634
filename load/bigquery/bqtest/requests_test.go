package bqtest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/bigquery"
	"google.golang.org/api/iterator"
)

func TestARequestThatIsRepeatedRunsOnce(t *testing.T) {
	t.Parallel()
	s, c := byHand(t, Limits{})
	s.query("CREATE TABLE t (n INT64)")
	send := func(id, sql, more string) (int, string) {
		return s.call(fmt.Sprintf(`POST /projects/test-project/queries {"query": %q, "useLegacySql": false, "requestId": %q%s}`, sql, id, more))
	}
	rows := func(want int64, what string) {
		t.Helper()
		if got := s.one("SELECT COUNT(*) FROM t"); got != want {
			t.Errorf("%s: %v rows, want %d", what, got, want)
		}
	}
	const insert = "INSERT INTO ds.t VALUES (1)"
	_, first := send("a", insert, "")
	if _, again := send("a", insert, `, "timeoutMs": 5, "maxResults": 3`); again != first || !strings.Contains(first, `"numDmlAffectedRows":"1"`) {
		t.Errorf("the answers are %s and %s", first, again)
	}
	rows(1, "repeated")
	send("a", "INSERT INTO ds.t VALUES (2)", "")
	rows(2, "another statement")
	send("b", insert, "")
	rows(3, "another id")
	send("", insert, "")
	send("", insert, "")
	rows(5, "without an id")
	send("d", insert, `, "dryRun": true`)
	send("d", insert, "")
	rows(6, "after a dry run")
	c.advance(15*time.Minute - time.Second)
	send("b", insert, "")
	rows(6, "in a quarter of an hour")
	c.advance(time.Second)
	send("b", insert, "")
	rows(7, "after a quarter of an hour")
	if code, _ := send(strings.Repeat("x", 37), insert, ""); code != http.StatusBadRequest {
		t.Errorf("an id of 37 characters: %d", code)
	}
	if code, _ := send("é", insert, ""); code != http.StatusBadRequest {
		t.Errorf("an id beyond ASCII: %d", code)
	}
}

func TestAnAnswerThatTheClientLosesIsAskedForAgainAndTheStatementRunsOnce(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.query("CREATE TABLE t (n INT64)")
	s.Inject(Fault{Call: "jobs.query", After: true, Status: http.StatusServiceUnavailable, Reason: "backendError"})
	if _, err := s.client.Query("INSERT INTO ds.t VALUES (1)").Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := s.one("SELECT COUNT(*) FROM t"); got != int64(1) {
		t.Errorf("%v rows", got)
	}
}

func TestAJobThatFailedForNowIsToldAsOne(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for reason, want := range map[string]string{"backendError": "jobBackendError", "internalError": "jobInternalError", "rateLimitExceeded": "jobRateLimitExceeded", "quotaExceeded": "quotaExceeded"} {
		s.Inject(Fault{Call: "job", Status: http.StatusServiceUnavailable, Reason: reason})
		code, answer := s.call(`POST /projects/test-project/queries {"query": "SELECT 1", "useLegacySql": false}`)
		if (code == http.StatusBadRequest) == (reason == want) || !strings.Contains(answer, `"reason":"`+want+`"`) {
			t.Errorf("%s: %d %s", reason, code, answer)
		}
	}
}

func TestJobsAreListedByTheirTimeStateAndScript(t *testing.T) {
	t.Parallel()
	s, c := byHand(t, Limits{})
	s.query("SELECT 1")
	c.advance(time.Hour)
	s.query("SELECT 2; SELECT 3")
	c.advance(time.Hour)
	s.query("SELECT 4")
	list := func(set func(*bigquery.JobIterator)) (out []string, parent string) {
		it := s.client.Jobs(t.Context())
		set(it)
		for {
			j, err := it.Next()
			if err == iterator.Done { //nolint:errorlint // as documented
				return out, parent
			}
			if err != nil {
				t.Fatal(err)
			}
			q, err := j.Config()
			if err != nil {
				t.Fatal(err)
			}
			if n := j.LastStatus().Statistics.NumChildJobs; n > 0 {
				parent = j.ID()
			}
			out = append(out, q.(*bigquery.QueryConfig).Q)
		}
	}
	want := func(what string, got []string, want ...string) {
		t.Helper()
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	all, parent := list(func(*bigquery.JobIterator) {})
	want("all", all, "SELECT 4", "SELECT 2; SELECT 3", "SELECT 1")
	got, _ := list(func(it *bigquery.JobIterator) { it.MinCreationTime = noon.Add(time.Hour) })
	want("from one", got, "SELECT 4", "SELECT 2; SELECT 3")
	got, _ = list(func(it *bigquery.JobIterator) { it.MaxCreationTime = noon.Add(time.Hour) })
	want("until one", got, "SELECT 2; SELECT 3", "SELECT 1")
	got, _ = list(func(it *bigquery.JobIterator) { it.ParentJobID = parent })
	want("of the script", got, "SELECT 3", "SELECT 2")
	got, _ = list(func(it *bigquery.JobIterator) { it.State = bigquery.Running })
	want("that run", got)
	const jobs = "GET /projects/test-project/jobs"
	if _, answer := s.call(jobs + "?projection=minimal"); strings.Contains(answer, `"configuration"`) || !strings.Contains(answer, `"statistics"`) {
		t.Errorf("minimal: %s", answer)
	}
	for query, code := range map[string]int{
		"?projection=some": 400, "?stateFilter=stuck": 400, "?minCreationTime=soon": 400, "?maxCreationTime=-1": 400, "?maxResults=-1": 400, "?pageToken=x": 400, "?filter=x": 501,
	} {
		if got, answer := s.call(jobs + query); got != code {
			t.Errorf("%s: %d %s", query, got, answer)
		}
	}
}
