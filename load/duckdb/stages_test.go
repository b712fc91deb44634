//go:build cgo

package duckdb_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/duckdb"
	"github.com/sluice-etl/sluice/load/loadtest"
)

func staged(o *duckdb.Options) { o.Stages = loadtest.StagesTable }

func ticket(id, stage string) loadtest.Row {
	return loadtest.Contact(id, loadtest.Epoch, loadtest.Epoch, "active_ticket_v2_id", "t-"+id, "active_ticket_v2_current_stage_id", stage)
}

// named are the contacts with what the views say of their stages.
func named(t *testing.T, path string) (out []string) {
	t.Helper()
	for _, r := range query(t, path, "SELECT concat_ws(' ', id, stage_name, stage_position, pipeline_id, pipeline_name) AS x FROM contacts ORDER BY id") {
		out = append(out, fmt.Sprint(r["x"]))
	}
	return out
}

func TestViewsOfTheDatabaseNameStages(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "crm.duckdb")
	l := open(t, path, staged)
	rows := []loadtest.Row{ticket("ana", "s1"), ticket("bo", "s2"), ticket("cy", "s9")}
	commit(t, l, loadtest.Build(t, loadtest.Spec{Serial: 1, Rows: rows}))
	for range 2 {
		if err := l.ReplaceStages(t.Context(), loadtest.StagesOf("run-001")); err != nil {
			t.Fatal(err)
		}
	}
	// A stage of two pipelines gives no contact twice.
	want := []string{"ana Nuevo 0 p1 Ventas", `bo Ganó "sí" 'é' 1 p1 Ventas`, "cy"}
	if d := cmp.Diff(want, named(t, path)); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	commit(t, l, loadtest.Build(t, loadtest.Spec{Serial: 2, Rows: rows[:1]}))
	if d := cmp.Diff(want, named(t, path)); d != "" {
		t.Errorf("after another package (-want +got):\n%s", d)
	}
	// An erasure makes the file anew.
	if _, err := l.Erase(t.Context(), load.Erasure{Lineage: "lineage-a", ID: "cy"}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want[:2], named(t, path)); d != "" {
		t.Errorf("after an erasure (-want +got):\n%s", d)
	}
	if err := l.ReplaceStages(t.Context(), load.StageList{RunID: "run-002", ExtractedAt: loadtest.Epoch}); err != nil {
		t.Fatal(err)
	}
	if got := named(t, path); !slices.Equal(got, []string{"ana", "bo"}) {
		t.Errorf("without stages the contacts are %v", got)
	}
}

func TestAViewOfTheNameIsNotTakenForATableOfStages(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "crm.duckdb")
	l := open(t, path, staged)
	commit(t, l, loadtest.Build(t, loadtest.Spec{Serial: 1, Rows: []loadtest.Row{ticket("ana", "s1")}}))
	if err := l.ReplaceStages(t.Context(), loadtest.StagesOf("run-001")); err != nil {
		t.Fatal(err)
	}
	run(t, path, "DROP TABLE crm_stages CASCADE; CREATE TABLE crm_stages (mine INTEGER)")
	commit(t, l, loadtest.Build(t, loadtest.Spec{Serial: 2, Rows: []loadtest.Row{ticket("bo", "s1")}}))
	if got := lines(t, path, "SELECT id FROM contacts ORDER BY id"); len(got) != 2 {
		t.Errorf("the views have %v", got)
	}
}
