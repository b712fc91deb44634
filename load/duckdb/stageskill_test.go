//go:build cgo && !windows

package duckdb_test

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/loadtest"
)

func TestStagesReplacedByAProcessThatIsKilledAreTheOldOrTheNewOnes(t *testing.T) {
	if testing.Short() {
		t.Skip("its processes say nothing to the race detector; the plain tests have it")
	}
	t.Parallel()
	rnd := seeded(t)
	path := filepath.Join(t.TempDir(), "crm.duckdb")
	l := open(t, path, staged)
	commit(t, l, loadtest.Build(t, loadtest.Spec{Serial: 1, Rows: []loadtest.Row{ticket("ana", "s1")}}))
	lists := []load.StageList{loadtest.StagesOf("run-001"), loadtest.ManyStages("run-002", 3000)}
	stages := func() []string {
		return lines(t, path, "SELECT DISTINCT _sluice_run_id AS run, count(*) OVER () AS n FROM crm_stages", "SELECT count(*) AS n FROM contacts")
	}
	var states [][]string
	began := time.Now()
	for _, list := range lists {
		began = time.Now()
		if err := open(t, path, staged).ReplaceStages(t.Context(), list); err != nil {
			t.Fatal(err)
		}
		states = append(states, stages())
	}
	took := time.Since(began)
	deaths := 0
	for round := 0; deaths < 2 && round < 40; round++ {
		list := lists[round%2]
		if live(t, childJob{Path: path, Stages: &list}, time.Duration(rnd.Int64N(int64(took)))) {
			deaths++
		}
		if got := stages(); !slices.Equal(got, states[0]) && !slices.Equal(got, states[1]) {
			t.Fatalf("round %d: the stages are neither the old ones nor the new: %v", round, got)
		}
		if err := open(t, path, staged).ReplaceStages(t.Context(), list); err != nil {
			t.Fatal(err)
		}
		if got := stages(); !slices.Equal(got, states[round%2]) {
			t.Fatalf("round %d: again, they are %v", round, got)
		}
	}
	if deaths == 0 {
		t.Error("no child was killed in time")
	}
	mustBeClean(t, path)
	wantSound(t, open(t, path, staged))
	t.Logf("%d kills, 3000 stages in %s", deaths, took)
}
