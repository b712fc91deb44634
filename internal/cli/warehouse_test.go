package cli

import (
	"strings"
	"testing"

	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/load"
)

// nowhere is a pipeline into an emulator that nobody runs.
const nowhere = `version: 1
sources:
  crm: {type: contacts_api, url: "sandbox://?contacts=10&seed=1"}
destinations:
  warehouse: {type: bigquery, project: my-project, dataset: crm, endpoint: "http://127.0.0.1:1", grpc_endpoint: "127.0.0.1:1"}
  lake: {type: parquet, path: out}
pipelines:
  nightly: {source: crm, destinations: warehouse}
`

func TestADestinationOfBigQueryIsValidWithoutAskingIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nowhere)
	if got := w.sluice(t, "validate").mustBe(t, 0).out; !strings.Contains(got, "is valid: 1 source, 2 destinations, 1 pipeline") {
		t.Errorf("got %s", got)
	}
	genuine := strings.Replace(nowhere, `, endpoint: "http://127.0.0.1:1", grpc_endpoint: "127.0.0.1:1"`, "", 1)
	w.write(t, "pipelines.yaml", genuine)
	if got := w.sluice(t, "run").mustBe(t, 1).err; !strings.Contains(got, "would write the sandbox's contacts to warehouse") {
		t.Errorf("got %s", got)
	}
}

func TestAQuerySaysWhereBigQueryIsAsked(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	got := newWorld(t, nowhere).sluice(t, "query", "SELECT 1").mustBe(t, 1).err
	for _, want := range []string{"destination warehouse is the dataset my-project.crm of BigQuery", "bq query --use_legacy_sql=false", "`my-project.crm.TABLE_active`"} {
		if !strings.Contains(strings.Join(strings.Fields(got), " "), want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestWhatComesAfterARunIntoBigQueryIsAQueryThere(t *testing.T) {
	t.Parallel()
	c, list := config.Parse("p.yaml", []byte(nowhere), t.TempDir(), func(string) (string, bool) { return "", false })
	if c == nil {
		t.Fatal(list.Err())
	}
	a := &app{file: defaultFile}
	want := "Next: bq query --use_legacy_sql=false 'SELECT platform, COUNT(*) AS contacts FROM `my-project.crm.contacts_active` GROUP BY platform ORDER BY contacts DESC'"
	if got := a.next(c, c.Pipelines[0]); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := a.places(c.Pipelines[0], isWarehouse); len(got) != 1 || got[0] != "my-project.crm.contacts" {
		t.Errorf("it is called %v", got)
	}
	o := a.warehouse(c.Pipelines[0], c.Destinations[0], load.Union{})
	if o.Project != "my-project" || o.Dataset != "crm" || o.Table != "contacts" || !o.CreateDataset || !o.Method.Valid() || o.Endpoint == "" || o.GRPCEndpoint == "" {
		t.Errorf("the loader's options are %+v", o)
	}
}
