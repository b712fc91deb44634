//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package bigquery

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/bigquery/bqtest"
	"github.com/sluice-etl/sluice/load/loadtest"
)

// A call that fails or is cut off leaves the old stages or the new ones, and the
// next one ends as if nothing had been.
func TestStagesStoppedAtAnyCallAreTheOldOrTheNewOnes(t *testing.T) {
	t.Parallel()
	s, err := bqtest.Start(t.Context(), bqtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	loader := func() *Loader {
		l, err := New(t.Context(), Options{
			Project: s.Project(), Dataset: "crm", Table: "contacts", CreateDataset: true, Method: Stream,
			Endpoint: s.URL(), GRPCEndpoint: s.Addr(), Stages: loadtest.StagesTable,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		l.first = 20 * time.Microsecond
		return l
	}
	calm := loader()
	if _, err := calm.Commit(t.Context(), loadtest.Build(t, loadtest.Spec{Serial: 1, Rows: []loadtest.Row{loadtest.Contact("a", loadtest.Epoch, loadtest.Epoch)}})); err != nil {
		t.Fatal(err)
	}
	held := func() string {
		q, _, err := calm.query(t.Context(), "SELECT MIN(_sluice_run_id), MAX(_sluice_run_id), COUNT(*) FROM "+calm.o.quoted(loadtest.StagesTable))
		if err != nil {
			t.Fatal(err)
		}
		row, err := q.one(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%v %v %v", row...)
	}
	many := loadtest.ManyStages("run-000", 3000)
	if err := calm.ReplaceStages(t.Context(), many); err != nil || held() != "run-000 run-000 3000" {
		t.Fatalf("%v, there are %s", err, held())
	}
	lists := []load.StageList{loadtest.StagesOf("run-001"), loadtest.ManyStages("run-002", 20)}
	var states []string
	var calls map[string]int
	for _, list := range lists {
		calls = counted(s, func() {
			if err := calm.ReplaceStages(t.Context(), list); err != nil {
				t.Fatal(err)
			}
		})
		states = append(states, held())
	}
	round := 0
	for _, call := range slices.Sorted(maps.Keys(calls)) {
		for _, f := range []bqtest.Fault{{Drop: true, Times: -1}, {Drop: true, After: true}, {Status: 403, Reason: "accessDenied"}} {
			for skip := range calls[call] {
				list := lists[round%2]
				f.Call, f.Skip = call, skip
				s.Inject(f)
				failed := loader().ReplaceStages(t.Context(), list)
				s.Heal()
				if got := held(); !slices.Contains(states, got) || failed == nil && got != states[round%2] {
					t.Errorf("%+v: %v, and the stages are %s", f, failed, got)
				}
				if err := loader().ReplaceStages(t.Context(), list); err != nil {
					t.Fatalf("after %+v: %v", f, err)
				}
				if got := held(); got != states[round%2] {
					t.Errorf("after %+v the next call ends with %s", f, got)
				}
				round++
			}
		}
	}
	t.Logf("%d faults of %v", round, calls)
}
