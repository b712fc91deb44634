//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package cli

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	bq "google.golang.org/api/bigquery/v2"
	"google.golang.org/api/option"

	"github.com/sluice-etl/sluice/load/bigquery/bqtest"
)

// bqRows asks a stand-in of BigQuery, and returns a line for each row.
func bqRows(t *testing.T, s *bqtest.Server, sql string) string {
	t.Helper()
	client, err := bq.NewService(t.Context(), option.WithEndpoint(s.URL()), option.WithoutAuthentication())
	if err != nil {
		t.Fatal(err)
	}
	legacy := false
	res, err := client.Jobs.Query(s.Project(), &bq.QueryRequest{Query: sql, UseLegacySql: &legacy}).Context(context.WithoutCancel(t.Context())).Do()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, row := range res.Rows {
		var cells []string
		for _, c := range row.F {
			cells = append(cells, fmt.Sprint(c.V))
		}
		out = append(out, strings.Join(cells, ","))
	}
	return strings.Join(out, " ")
}

func TestOneViewOfBigQueryHasTheContactsOfAllAccounts(t *testing.T) {
	t.Parallel()
	f := newFleet(t, map[string]int{"acme": 20, "globex-eu": 6, "initech": 8})
	s := bigQueryOf(t, bqtest.Options{Clock: f.hands})
	place := fmt.Sprintf("  warehouse: {type: bigquery, project: %s, dataset: crm, labels: {team: data}, prevent_destroy: false, endpoint: %q, grpc_endpoint: %q}", s.Project(), s.URL(), s.Addr())
	check := func(when string, accounts ...string) {
		t.Helper()
		var want []string
		for _, a := range accounts {
			want = append(want, a+","+bqRows(t, s, "SELECT COUNT(*) FROM crm.contacts_"+strings.ReplaceAll(a, "-", "_")+"_active"))
		}
		if got := bqRows(t, s, "SELECT _sluice_account, COUNT(*) FROM crm.contacts GROUP BY 1 ORDER BY 1"); got != strings.Join(want, " ") {
			t.Errorf("%s it has %s, the accounts %s", when, got, want)
		}
	}
	const quick = ", verify: off, stages: off"
	f.writes(t, place, quick, "acme", "down", "globex-eu")
	f.sluice(t, "run").mustBe(t, exitPartial)
	check("while one is down", "acme", "globex-eu")
	if got := bqRows(t, s, "SELECT DISTINCT _sluice_account FROM crm.contacts_acme_history"); got != "acme" {
		t.Errorf("the versions are of account %q", got)
	}

	f.move(time.Hour)
	f.field(t, "acme", "Lives In", `"Santiago"`)
	f.field(t, "globex-eu", "Lives In", `7`)
	f.writes(t, place, quick, "acme", "globex-eu", "initech")
	f.sluice(t, "run").mustBe(t, 0)
	check("with one more", "acme", "globex-eu", "initech")
	if got := bqRows(t, s, "SELECT _sluice_account, cf_customer_lives_in FROM crm.contacts WHERE cf_customer_lives_in IS NOT NULL ORDER BY 1"); got != "acme,Santiago globex-eu,7" {
		t.Errorf("got %s", got)
	}
	f.sluice(t, "plan", "--no-data", "--detailed-exitcode").mustBe(t, 0)

	f.writes(t, place, quick, "acme", "initech")
	f.sluice(t, "apply", "--no-data", "--auto-approve").mustBe(t, 0)
	check("with one less", "acme", "initech")
	f.sluice(t, "plan", "--no-data", "--detailed-exitcode").mustBe(t, 0)

	// Under another name it is there, and the old one goes; and so does that.
	f.writes(t, place, quick+", union_view: everyone", "acme", "initech")
	shown := f.sluice(t, "plan", "--no-data", "--detailed-exitcode").mustBe(t, exitPending)
	says(t, shown.out, "- destination.warehouse.view.contacts ", "+ destination.warehouse.view.everyone", "Plan: 1 to add, 2 to change, 1 to destroy.")
	f.sluice(t, "apply", "--no-data", "--auto-approve").mustBe(t, 0)
	if got := bqRows(t, s, "SELECT table_name FROM crm.INFORMATION_SCHEMA.TABLES WHERE table_name IN ('contacts', 'everyone')"); got != "everyone" {
		t.Errorf("the views are %s", got)
	}
	f.sluice(t, "plan", "--no-data", "--detailed-exitcode").mustBe(t, 0)
	f.writes(t, place, quick+", union_view: off", "acme", "initech")
	says(t, f.sluice(t, "plan", "--no-data").mustBe(t, 0).out, "- destination.warehouse.view.everyone", "0 to add, 0 to change, 1 to destroy.")
	f.sluice(t, "apply", "--no-data", "--auto-approve").mustBe(t, 0)
	f.sluice(t, "plan", "--no-data", "--detailed-exitcode").mustBe(t, 0)
	if got := bqRows(t, s, "SELECT COUNT(*) FROM crm.INFORMATION_SCHEMA.TABLES WHERE table_name = 'everyone'"); got != "0" {
		t.Error("the view is still there")
	}
	f.writes(t, place, quick, "acme", "initech")
	f.sluice(t, "apply", "--no-data", "--auto-approve").mustBe(t, 0)
	f.sluice(t, "destroy", "nightly.acme", "--auto-approve").mustBe(t, 0)
	check("with one destroyed", "initech")
}
