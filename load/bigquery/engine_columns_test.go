//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package bigquery

import (
	"context"
	"net/http/httptest"
	"testing"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/crashtest"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/schemas"
)

// columnsOf are the columns of a table with their types, as the vendor's client
// lists them.
func (x *export) columnsOf(table string) map[string]string {
	x.t.Helper()
	meta, err := x.client.Dataset("crm").Table(table).Metadata(x.t.Context())
	if err != nil {
		x.t.Fatal(err)
	}
	out := map[string]string{}
	for _, field := range meta.Schema {
		out[field.Name] = string(field.Type)
	}
	return out
}

// underContract lets the engine run by a contract.
func underContract(t *testing.T, rules crashtest.Rules, full bool) func(run.Engine, run.Job) (run.Summary, error) {
	t.Helper()
	contract, err := schemas.ParseContract("crm.yaml", rules.YAML())
	if err != nil {
		t.Fatal(err)
	}
	key, err := schemas.NewHashKey(rules.HashKey)
	if err != nil {
		t.Fatal(err)
	}
	return func(e run.Engine, job run.Job) (run.Summary, error) {
		job.Contract, job.HashKey, job.Full = contract, key, full
		return e.Run(context.Background(), job)
	}
}

func TestNewFieldsAreColumnsInBigQueryThatNothingDropsOrRetypes(t *testing.T) {
	t.Parallel()
	for _, method := range allMethods() {
		t.Run(string(method), func(t *testing.T) {
			t.Parallel()
			if testing.Short() && method != Stream {
				t.Skip("the other methods run without -short")
			}
			x := newExport(t, method, 1)
			endpoint := &crashtest.Endpoint{Clock: clock.System{}}
			served := httptest.NewServer(endpoint)
			t.Cleanup(served.Close)
			g := crashtest.NewGrowth(endpoint, 24)
			x.url, x.judge.Rules = served.URL, &g.Rules
			columns := map[string]map[string]string{"contacts": {}, "contacts_history": {}}
			for step, what := range g.Steps() {
				if err := g.Step(step, clock.System{}.Now()); err != nil {
					t.Fatal(err)
				}
				if err := x.judge.Look(endpoint.Dump()); err != nil {
					t.Fatal(err)
				}
				x.must(underContract(t, g.Rules, false))
				x.equals()
				for table, before := range columns {
					here := x.columnsOf(table)
					for name, typ := range before {
						if here[name] != typ {
							t.Errorf("%s: column %s of %s was %s, and is %q", what.Name, name, table, typ, here[name])
						}
					}
					for _, name := range g.Gone() {
						if typ, there := here[name]; there {
							t.Errorf("%s: %s has a column %s (%s)", what.Name, table, name, typ)
						}
					}
					if len(what.Columns) != len(here)-len(before) && step > 0 {
						t.Errorf("%s: %s has %d columns more, want %v", what.Name, table, len(here)-len(before), what.Columns)
					}
					columns[table] = here
				}
			}
			if sum := x.must(underContract(t, g.Rules, true)); sum.New+sum.Changed != 0 {
				t.Errorf("a full read finds %d new and %d changed contacts where nothing changed", sum.New, sum.Changed)
			}
			x.equals()
			sound(t, x)
		})
	}
}

// equals fails unless the table holds what the judge has last looked at.
func (x *export) equals() {
	x.t.Helper()
	faults, err := x.judge.CheckWarehouse(x.t.Context(), x.client, "crm", "contacts", x.table(), crashtest.Expect{})
	if err != nil {
		x.t.Fatal(err)
	}
	if len(faults) > 0 {
		x.t.Fatalf("the table is not the source:\n%s", crashtest.Summary(faults))
	}
}
