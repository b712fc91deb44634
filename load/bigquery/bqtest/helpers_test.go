package bqtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/bigquery"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"

	"github.com/sluice-etl/sluice/internal/clock"
)

// noon is when the tests' servers are, unless they say otherwise.
var noon = time.Date(2024, 6, 15, 12, 0, 0, 0, time.UTC)

// service is a server and a client of it, with the dataset ds.
type service struct {
	t *testing.T
	*Server
	client *bigquery.Client
	ds     *bigquery.Dataset
}

func serve(t *testing.T, opts ...func(*Options)) *service {
	t.Helper()
	o := Options{Clock: clock.Fixed(noon)}
	for _, f := range opts {
		f(&o)
	}
	s, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	c, err := bigquery.NewClient(t.Context(), s.Project(), option.WithEndpoint(s.URL()), option.WithoutAuthentication())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	sv := &service{t, s, c, c.Dataset("ds")}
	if err := sv.ds.Create(t.Context(), &bigquery.DatasetMetadata{Location: "US"}); err != nil {
		t.Fatal(err)
	}
	return sv
}

// try runs a query and gives its rows, and the status of its job.
func (s *service) try(sql string, set ...func(*bigquery.Query)) ([][]bigquery.Value, *bigquery.JobStatus, error) {
	q := s.client.Query(sql)
	q.DefaultDatasetID = "ds"
	for _, f := range set {
		f(q)
	}
	ctx := context.Background()
	job, err := q.Run(ctx)
	if err != nil {
		return nil, nil, err
	}
	status, err := job.Wait(ctx)
	if err != nil {
		return nil, nil, err
	}
	if status.Err() != nil {
		return nil, status, status.Err()
	}
	it, err := job.Read(ctx)
	if err != nil {
		return nil, status, err
	}
	var rows [][]bigquery.Value
	for {
		var row []bigquery.Value
		err := it.Next(&row)
		if errors.Is(err, iterator.Done) {
			return rows, status, nil
		}
		if err != nil {
			return nil, status, err
		}
		rows = append(rows, row)
	}
}

func (s *service) query(sql string, set ...func(*bigquery.Query)) [][]bigquery.Value {
	s.t.Helper()
	rows, _, err := s.try(sql, set...)
	if err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
	return rows
}

// one gives the single value of a query.
func (s *service) one(sql string, set ...func(*bigquery.Query)) bigquery.Value {
	s.t.Helper()
	rows := s.query(sql, set...)
	if len(rows) != 1 || len(rows[0]) != 1 {
		s.t.Fatalf("%s: got %v, want one value", sql, rows)
	}
	return rows[0][0]
}

// refuse runs a query that has to fail with a message.
func (s *service) refuse(sql, message string, set ...func(*bigquery.Query)) {
	s.t.Helper()
	_, _, err := s.try(sql, set...)
	if err == nil || !strings.Contains(err.Error(), message) {
		s.t.Errorf("%s:\n got error %v\nwant one with %q", sql, err, message)
	}
}

// processed gives the bytes that a query processes.
func (s *service) processed(sql string) int64 {
	s.t.Helper()
	_, status, err := s.try(sql)
	if err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
	return status.Statistics.TotalBytesProcessed
}

func codeOf(err error) int {
	var e *googleapi.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// call sends a request to REST, given as "METHOD path body", and gives the status
// and the text of the answer. The clients send nothing that is wrong, and try again
// what is transient.
func (s *service) call(request string) (int, string) {
	s.t.Helper()
	method, rest, _ := strings.Cut(request, " ")
	path, body, _ := strings.Cut(rest, " ")
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.URL()+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer.StatusCode, string(b)
}

// queryJob is the body of jobs.insert for a query, with more settings of it.
func queryJob(sql string, more ...string) string {
	return `{"configuration": {"query": {` + strings.Join(append(more, fmt.Sprintf(`"query": %q, "useLegacySql": false`, sql)), ", ") + `}}}`
}
