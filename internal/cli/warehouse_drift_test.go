//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package cli

import (
	"context"
	"strings"
	"testing"

	bq "google.golang.org/api/bigquery/v2"
	"google.golang.org/api/option"

	"github.com/sluice-etl/sluice/load/bigquery/bqtest"
)

// drifting is a pipeline into a stand-in of BigQuery, and one beside it.
const drifting = `version: 1
sources:
  crm: {type: contacts_api, url: "sandbox://?contacts=6&seed=1"}
destinations:
  warehouse: {type: bigquery, project: PROJECT, dataset: crm, labels: {team: data}, prevent_destroy: false, endpoint: "URL", grpc_endpoint: "ADDR"}
  lake: {type: parquet, path: out, prevent_destroy: false}
pipelines:
  nightly: {source: crm, destinations: warehouse, stages: off}
  other: {source: crm, table: others, destinations: lake, stages: off}
`

// warehouseWorld is a world of it, beside the stand-in.
func warehouseWorld(t *testing.T) (*world, *bqtest.Server) {
	t.Helper()
	s := bigQuery(t)
	return newWorld(t, strings.NewReplacer("URL", s.URL(), "ADDR", s.Addr(), "PROJECT", s.Project()).Replace(drifting)), s
}

// tablesOf are the tables of a stand-in, as one of its own programs has them.
func tablesOf(t *testing.T, s *bqtest.Server) *bq.TablesService {
	t.Helper()
	client, err := bq.NewService(t.Context(), option.WithEndpoint(s.URL()), option.WithoutAuthentication())
	if err != nil {
		t.Fatal(err)
	}
	return client.Tables
}

// retype makes a table anew by hand in which a column has another type.
func retype(t *testing.T, s *bqtest.Server, name, column, kind string) {
	t.Helper()
	tables, ctx := tablesOf(t, s), context.WithoutCancel(t.Context())
	m, err := tables.Get(s.Project(), "crm", name).Context(ctx).Do()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range m.Schema.Fields {
		if f.Name == column {
			f.Type = kind
		}
	}
	if err := tables.Delete(s.Project(), "crm", name).Context(ctx).Do(); err != nil {
		t.Fatal(err)
	}
	anew := &bq.Table{
		TableReference: m.TableReference, Schema: m.Schema, Labels: m.Labels, Description: m.Description, Clustering: m.Clustering,
		TimePartitioning: m.TimePartitioning, TableConstraints: m.TableConstraints,
	}
	if _, err := tables.Insert(s.Project(), "crm", anew).Context(ctx).Do(); err != nil {
		t.Fatal(err)
	}
}

func TestWhatSomebodyChangedInBigQueryIsDriftThatAnApplyMends(t *testing.T) {
	t.Parallel()
	w, s := warehouseWorld(t)
	w.sluice(t, "run").mustBe(t, 0)
	for _, sql := range []string{
		"DROP VIEW crm.contacts_runs",
		"ALTER TABLE crm.contacts ADD COLUMN mine STRING",
		"ALTER TABLE crm.contacts SET OPTIONS (labels=[('team', 'growth'), ('cost', 'x')])",
		"CREATE OR REPLACE VIEW crm.contacts_new_and_updated AS SELECT 1 AS mine",
	} {
		bqRows(t, s, sql)
	}
	edited := &bq.Table{View: &bq.ViewDefinition{Query: "SELECT id FROM `crm.contacts`"}}
	if _, err := tablesOf(t, s).Patch(s.Project(), "crm", "contacts_unattended", edited).Context(t.Context()).Do(); err != nil {
		t.Fatal(err)
	}
	shown := w.sluice(t, "plan", "--no-data", "--detailed-exitcode").mustBe(t, exitPending)
	golden(t, "plan/warehouse_drift.txt", settled(shown.out))
	r := w.sluice(t, "apply", "--no-data", "--auto-approve").mustBe(t, 0)
	says(t, r.out, "Apply complete: 1 added, 2 changed, 1 forgotten, 0 destroyed.")
	// What is somebody else's stays, and is shown; nothing is left to do.
	rest := w.sluice(t, "plan", "--no-data", "--detailed-exitcode").mustBe(t, 0)
	says(t, rest.out, `labels.cost: "x"`, "column.mine: string", "what was added there is left as it is", "No changes")
	if got := bqRows(t, s, "SELECT * FROM crm.contacts_new_and_updated"); got != "1" {
		t.Errorf("a view of somebody else's is now %q", got)
	}
	w.sluice(t, "run").mustBe(t, 0)
}

func TestAnExpiryThatSomebodySetInBigQueryIsInTheWayUntilItIsGone(t *testing.T) {
	t.Parallel()
	w, s := warehouseWorld(t)
	w.sluice(t, "run").mustBe(t, 0)
	bqRows(t, s, "ALTER TABLE crm.contacts_history SET OPTIONS (partition_expiration_days=30)")
	bqRows(t, s, "DROP VIEW crm.contacts_runs")
	shown := w.sluice(t, "plan", "--no-data", "--detailed-exitcode").mustBe(t, exitPending)
	golden(t, "plan/blocked.txt", settled(shown.out))
	r := w.sluice(t, "apply", "--auto-approve").mustBe(t, exitError)
	says(t, r.err, "destination.warehouse.table.contacts cannot be made as it is asked for", "partition_expiration_days = NULL", "the same command does the rest")
	if strings.Contains(r.out, "nightly: done") || !strings.Contains(r.out, "other: done") {
		t.Errorf("of the two, the other alone is to run:\n%s", r.out)
	}
	bqRows(t, s, "ALTER TABLE crm.contacts_history SET OPTIONS (partition_expiration_days=NULL)")
	w.sluice(t, "apply", "--auto-approve").mustBe(t, 0)
	w.sluice(t, "plan", "--detailed-exitcode").mustBe(t, 0)
}

func TestAColumnThatHasAnotherTypeInBigQueryIsInTheWayAsThePlanSays(t *testing.T) {
	t.Parallel()
	w, s := warehouseWorld(t)
	w.sluice(t, "run", "nightly").mustBe(t, 0)
	retype(t, s, "contacts", "name", "INTEGER")
	shown := w.sluice(t, "plan", "nightly", "--no-data", "--detailed-exitcode").mustBe(t, exitPending)
	if strings.Contains(shown.out, "replace") {
		t.Errorf("a replacement is shown:\n%s", shown.out)
	}
	says(t, shown.out, "! destination.warehouse.table.contacts cannot be made as it is asked for", "~ column.name: int64 -> string", "Give the column its type back, or `sluice destroy`", "1 blocked", "`sluice apply` can change nothing")
	for _, approval := range [][]string{nil, {"--auto-approve"}} { // there is nothing to approve
		says(t, w.sluice(t, append([]string{"apply", "nightly"}, approval...)...).mustBe(t, exitError).err, "cannot be made as it is asked for", "Give the column its type back")
	}
	says(t, w.sluice(t, "run", "nightly", "--full").mustBe(t, exitError).err, "column name is INT64", "Give the column its type back")
	// The ways out that it names.
	retype(t, s, "contacts", "name", "STRING")
	w.sluice(t, "plan", "nightly", "--no-data", "--detailed-exitcode").mustBe(t, 0)
	retype(t, s, "contacts", "name", "INTEGER")
	w.sluice(t, "destroy", "nightly", "--auto-approve").mustBe(t, 0)
	w.sluice(t, "run", "nightly").mustBe(t, 0)
	if got := bqRows(t, s, "SELECT COUNT(*) FROM crm.contacts"); got != "6" {
		t.Errorf("there are %s contacts", got)
	}
}

func TestADestroyThatFailedInBigQueryIsEndedByTheNext(t *testing.T) {
	t.Parallel()
	w, s := warehouseWorld(t)
	for _, skip := range []int{0, 10, 12} { // at the first view, the first table, the last
		w.sluice(t, "run", "nightly").mustBe(t, 0)
		s.Inject(bqtest.Fault{Call: "tables.delete", Skip: skip, Status: 403, Reason: "accessDenied", Message: "Access Denied"})
		r := w.sluice(t, "destroy", "nightly", "--auto-approve")
		says(t, r.mustBe(t, exitError).err, "Access Denied")
		says(t, w.sluice(t, "plan", "nightly", "--no-data").mustBe(t, 0).out, "! destination.warehouse.table.contacts cannot be made", "Removing the table was begun and did not end", "Destroy it once more")
		w.sluice(t, "apply", "nightly", "--auto-approve").mustBe(t, exitError)
		w.sluice(t, "run", "nightly").mustBe(t, exitError)
		w.sluice(t, "destroy", "nightly", "--auto-approve").mustBe(t, 0)
		if r := w.sluice(t, "destroy", "nightly", "--auto-approve").mustBe(t, 0); !strings.Contains(r.out, "nothing to destroy") {
			t.Errorf("after call %d failed it leaves\n%s", skip, r.out)
		}
	}
}

func TestADestinationThatGoesDownDuringAnApplyIsGoneOnWith(t *testing.T) {
	t.Parallel()
	w, s := warehouseWorld(t)
	yaml := strings.NewReplacer("destinations: warehouse", "destinations: [lake, warehouse]").Replace(w.text(t, "pipelines.yaml"))
	w.write(t, "pipelines.yaml", yaml)
	s.Inject(bqtest.Fault{Call: "jobs.insert", Skip: 3, Times: -1, Status: 403, Reason: "accessDenied", Message: "Access Denied"})
	r := w.sluice(t, "apply", "--auto-approve").mustBe(t, exitError)
	says(t, r.out, "destination.lake.table.contacts: created, with 13 views", "destination.lake.table.others: created, with 13 views", "other: done")
	says(t, r.err, "Access Denied", "the same command does the rest")
	if strings.Contains(r.out, "nightly: done") || strings.Contains(r.out, "destination.warehouse.table.contacts: created") {
		t.Errorf("the apply says\n%s", r.out)
	}
	s.Heal()
	known := w.sluice(t, "state", "list").mustBe(t, 0).out
	if !strings.Contains(known, "destination.lake.table.contacts") || strings.Contains(known, "destination.warehouse") {
		t.Errorf("state knows\n%s", known)
	}
	// Of what had come to be, nothing is made twice.
	rest := w.sluice(t, "plan", "--no-data").mustBe(t, 0).out
	if strings.Contains(rest, "destination.warehouse.table.contacts") || strings.Contains(rest, "destination.lake") || !strings.Contains(rest, "+ destination.warehouse.view.contacts_runs") {
		t.Errorf("left to do is\n%s", rest)
	}
	w.sluice(t, "apply", "--auto-approve").mustBe(t, 0)
	w.sluice(t, "plan", "--detailed-exitcode").mustBe(t, 0)
	w.sluice(t, "verify", "--parity").mustBe(t, 0)
}
