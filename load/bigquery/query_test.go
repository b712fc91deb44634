package bigquery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	bq "google.golang.org/api/bigquery/v2"
)

// jobServer is the little of REST that statements need: every job succeeds with
// one result, unless it is told otherwise.
type jobServer struct {
	t  *testing.T
	mu sync.Mutex
	// jobs by id, in the order in which they came to be.
	jobs  map[string]*bq.Job
	order []string
	calls map[string]int
	// fail says what becomes of a call, by its number from 1: an HTTP status,
	// and whether the call takes effect first.
	fail func(call string, n int) (status int, after bool)
	// fate is how the n-th job ends; nil: well.
	fate func(n int) *bq.ErrorProto
	// pages of the result, and how often it is asked for in vain.
	pages [][]*bq.TableRow
	slow  int
}

func (s *jobServer) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := strings.TrimPrefix(req.URL.Path, "/projects/p/")
	call, rest, _ := strings.Cut(path, "/")
	if call == "jobs" && req.Method == http.MethodPost {
		call = "insert"
		if strings.HasSuffix(rest, "/cancel") {
			call = "cancel"
		}
	}
	s.calls[call]++
	status, after := 0, false
	if s.fail != nil {
		status, after = s.fail(call, s.calls[call])
	}
	if status != 0 && !after {
		answer(w, status, nil)
		return
	}
	code, body := s.serve(call, rest, req)
	if status != 0 {
		code, body = status, nil
	}
	answer(w, code, body)
}

func answer(w http.ResponseWriter, code int, body any) {
	if body == nil {
		body = map[string]any{"error": map[string]any{"code": code, "message": "it did not go well", "errors": []map[string]any{{"reason": "injected"}}}}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}

func (s *jobServer) serve(call, id string, req *http.Request) (int, any) {
	switch call {
	case "datasets":
		return http.StatusOK, &bq.Dataset{Location: "EU"}
	case "insert":
		var job bq.Job
		if err := json.NewDecoder(req.Body).Decode(&job); err != nil {
			s.t.Error(err)
		}
		if s.jobs[job.JobReference.JobId] != nil {
			return http.StatusConflict, nil
		}
		job.Status = &bq.JobStatus{State: "DONE"}
		job.Statistics = &bq.JobStatistics{TotalBytesProcessed: 10, Query: &bq.JobStatistics2{TotalBytesBilled: 20, NumDmlAffectedRows: 3}}
		s.order = append(s.order, job.JobReference.JobId)
		if s.fate != nil {
			job.Status.ErrorResult = s.fate(len(s.order))
		}
		s.jobs[job.JobReference.JobId] = &job
		return http.StatusOK, &job
	case "cancel":
		return http.StatusOK, &bq.JobCancelResponse{}
	}
	job := s.jobs[id]
	switch {
	case job == nil || req.URL.Query().Get("location") != "EU":
		return http.StatusNotFound, nil
	case call == "jobs":
		return http.StatusOK, job
	case job.Status.ErrorResult != nil:
		return http.StatusBadRequest, nil
	case s.slow > 0:
		s.slow--
		return http.StatusOK, &bq.GetQueryResultsResponse{JobReference: job.JobReference}
	}
	page := 0
	_, _ = fmt.Sscan(req.URL.Query().Get("pageToken"), &page)
	res := &bq.GetQueryResultsResponse{JobComplete: true, JobReference: job.JobReference, Schema: &bq.TableSchema{Fields: []*bq.TableFieldSchema{
		{Name: "s", Type: "STRING"},
		{Name: "i", Type: "INTEGER"},
		{Name: "f", Type: "FLOAT"},
		{Name: "b", Type: "BOOLEAN"},
		{Name: "t", Type: "TIMESTAMP"},
		{Name: "d", Type: "DATE"},
		{Name: "j", Type: "JSON"},
	}}}
	if page < len(s.pages) {
		res.Rows = s.pages[page]
	}
	if page+1 < len(s.pages) {
		res.PageToken = fmt.Sprint(page + 1)
	}
	return http.StatusOK, res
}

// jobsAt starts the server and a client of it that does not wait.
func jobsAt(t *testing.T, s *jobServer) *remote {
	t.Helper()
	s.t, s.jobs, s.calls = t, map[string]*bq.Job{}, map[string]int{}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	r, err := newRemote(t.Context(), Options{
		Project: "p", Dataset: "d", Table: "t", Method: Stream, Endpoint: server.URL, GRPCEndpoint: "127.0.0.1:1",
		MaximumBytesBilled: 1 << 30, Labels: map[string]string{"team": "crm"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	r.first = time.Microsecond
	return r
}

func tableRow(values ...any) *bq.TableRow {
	row := &bq.TableRow{}
	for _, v := range values {
		row.F = append(row.F, &bq.TableCell{V: v})
	}
	return row
}

func TestAResultHasItsValuesPageByPage(t *testing.T) {
	t.Parallel()
	s := &jobServer{slow: 2, pages: [][]*bq.TableRow{
		{tableRow("", "-9223372036854775808", "0.1", "false", "-1", "0001-01-01", "{}")},
		{},
		{tableRow("ß", "9223372036854775807", "-Infinity", "true", "253402300799999999", "9999-12-31", `"x"`), tableRow(nil, nil, nil, nil, nil, nil, nil)},
	}}
	r := jobsAt(t, s)
	q, stats, err := r.query(t.Context(), "SELECT @a", textParam("a", ""), intParam("b", -1), timeParam("c", time.UnixMicro(-1)))
	if err != nil {
		t.Fatal(err)
	}
	var got [][]any
	if err := q.each(t.Context(), func(row []any) error { got = append(got, slices.Clone(row)); return nil }); err != nil {
		t.Fatal(err)
	}
	want := [][]any{
		{"", int64(math.MinInt64), 0.1, false, time.UnixMicro(-1).UTC(), time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), "{}"},
		{"ß", int64(math.MaxInt64), math.Inf(-1), true, time.UnixMicro(lastMicro).UTC(), time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC), `"x"`},
		{nil, nil, nil, nil, nil, nil, nil},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	if stats.Processed != 10 || stats.Billed != 20 || stats.Affected != 3 || stats.Job == "" {
		t.Errorf("statistics %+v", stats)
	}
	config := s.jobs[stats.Job].Configuration
	if config.Query.MaximumBytesBilled != 1<<30 || *config.Query.UseLegacySql || config.Labels["team"] != "crm" || config.Query.QueryParameters[2].ParameterValue.Value != "1969-12-31 23:59:59.999999+00:00" {
		t.Errorf("job %+v", config)
	}
}

func TestAStatementWhoseAnswerWasLostRunsOnce(t *testing.T) {
	t.Parallel()
	s := &jobServer{fail: func(call string, n int) (int, bool) {
		if call == "insert" && n <= 2 {
			return http.StatusServiceUnavailable, true
		}
		return 0, false
	}}
	r := jobsAt(t, s)
	if _, _, err := r.query(t.Context(), "MERGE"); err != nil {
		t.Fatal(err)
	}
	if len(s.order) != 1 || s.calls["insert"] != 3 {
		t.Errorf("%d jobs in %d calls, want 1 in 3", len(s.order), s.calls["insert"])
	}
}

func TestAFailedStatementRunsAgainOnlyWhereThatCanHelp(t *testing.T) {
	t.Parallel()
	s := &jobServer{fate: func(n int) *bq.ErrorProto {
		if n < 3 {
			return &bq.ErrorProto{Reason: "backendError", Message: "try again"}
		}
		return &bq.ErrorProto{Reason: "invalidQuery", Message: "assertion failed"}
	}}
	r := jobsAt(t, s)
	_, _, err := r.query(t.Context(), "ASSERT")
	var failed *jobError
	if !errors.As(err, &failed) || failed.reason != "invalidQuery" || failed.message != "assertion failed" || len(s.order) != 3 {
		t.Errorf("%d jobs, error %v", len(s.order), err)
	}
}

func TestCallsAreTriedAgainAndNotForEver(t *testing.T) {
	t.Parallel()
	for status, tries := range map[int]int{
		http.StatusTooManyRequests: mostTries, http.StatusBadGateway: mostTries, http.StatusServiceUnavailable: mostTries,
		http.StatusForbidden: 1, http.StatusBadRequest: 1, http.StatusUnauthorized: 1,
	} {
		s := &jobServer{fail: func(call string, _ int) (int, bool) {
			if call == "insert" {
				return status, false
			}
			return 0, false
		}}
		r := jobsAt(t, s)
		_, _, err := r.query(t.Context(), "SELECT 1")
		if err == nil || s.calls["insert"] != tries {
			t.Errorf("status %d: %d tries, want %d; error %v", status, s.calls["insert"], tries, err)
		}
	}
	flaky := &jobServer{fail: func(call string, n int) (int, bool) {
		if n%2 == 1 {
			return http.StatusInternalServerError, false
		}
		return 0, false
	}}
	r := jobsAt(t, flaky)
	if _, _, err := r.query(t.Context(), "SELECT 1"); err != nil || len(flaky.order) != 1 {
		t.Errorf("%d jobs, error %v", len(flaky.order), err)
	}
}

func TestAStatementThatNobodyWaitsForIsCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	s := &jobServer{slow: 1 << 30, fail: func(call string, n int) (int, bool) {
		if call == "queries" && n == 3 {
			cancel()
		}
		return 0, false
	}}
	r := jobsAt(t, s)
	if _, _, err := r.query(ctx, "SELECT 1"); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls["cancel"] != 1 {
		t.Errorf("%d jobs cancelled", s.calls["cancel"])
	}
}
