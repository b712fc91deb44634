//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package cli

import (
	"context"
	"strings"
	"testing"

	bq "cloud.google.com/go/bigquery"
	"google.golang.org/api/option"

	"github.com/sluice-etl/sluice/load/bigquery/bqtest"
)

// besideBigQuery is a pipeline into files, a DuckDB file and a stand-in.
const besideBigQuery = `version: 1
sources:
  crm: {type: contacts_api, url: "sandbox://?contacts=60&seed=1", requests_per_second: 1000}
destinations:
  lake: {type: parquet, path: out}
  local: {type: duckdb, path: crm.duckdb}
  warehouse: {type: bigquery, project: my-project, dataset: crm, METHOD, endpoint: "http://127.0.0.1:1", grpc_endpoint: "127.0.0.1:1"}
pipelines:
  nightly: {source: crm, destinations: [lake, local, warehouse]}
`

// beside starts a stand-in and a world with a pipeline into it.
func beside(t *testing.T, method string) (*world, *bqtest.Server) {
	t.Helper()
	s, err := bqtest.Start(t.Context(), bqtest.Options{Clock: noon})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return newWorld(t, strings.NewReplacer("METHOD", method, "http://127.0.0.1:1", s.URL(), "127.0.0.1:1", s.Addr(), "my-project", s.Project()).Replace(besideBigQuery)), s
}

func TestVerifyParityComparesFilesADatabaseAndBigQuery(t *testing.T) {
	t.Parallel()
	w, s := beside(t, "method: stream")
	w.sluice(t, "run").mustBe(t, 0)
	out := w.sluice(t, "verify", "--parity").mustBe(t, 0).out
	for _, want := range []string{"nightly: lake is the measure: 60 contacts at package 1", "local: the same: 60 contacts", "warehouse: the same: 60 contacts"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	id := aContact(t, w)
	statement(t, s, "UPDATE crm.contacts SET name = 'Someone else' WHERE id = '"+id+"'")
	r := w.sluice(t, "verify", "--parity", "--show-values").mustBe(t, 1)
	for _, want := range []string{"warehouse: 1 difference: 60 contacts", "different                  1  name 1", id + ": name (lake \"", "warehouse \"Someone else\")"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("no %q in\n%s", want, r.out)
		}
	}
	if !strings.Contains(r.err, "1 difference between destinations found") {
		t.Errorf("it says %s", r.err)
	}
	statement(t, s, "DELETE FROM crm.contacts WHERE id = '"+id+"'")
	if r := w.sluice(t, "verify", "--parity").mustBe(t, 1); !strings.Contains(r.out, "only in lake               1") {
		t.Errorf("it says\n%s", r.out)
	}
}

func TestVerifyParityKnowsWhatBigQueryNeedNotShowYet(t *testing.T) {
	t.Parallel()
	w, _ := beside(t, "method: cdc, max_staleness: 15m")
	w.sluice(t, "run").mustBe(t, 0)
	out := w.sluice(t, "verify", "--parity").mustBe(t, 0).out
	for _, want := range []string{"warehouse: the same as far as it can be: 0 contacts at package 1, shown for certain up to package 0", "not visible yet            60"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// statement runs SQL in the stand-in.
func statement(t *testing.T, s *bqtest.Server, sql string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	c, err := bq.NewClient(ctx, s.Project(), option.WithEndpoint(s.URL()), option.WithoutAuthentication())
	if err != nil {
		t.Fatal(err)
	}
	job, err := c.Query(sql).Run(ctx)
	if err == nil {
		var status *bq.JobStatus
		if status, err = job.Wait(ctx); err == nil {
			err = status.Err()
		}
	}
	if err != nil {
		t.Errorf("%s: %v", sql, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
