package loadtest

import (
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sluice-etl/sluice/load"
)

// StagesTable is the name of the table of stages that Harness.New gives its
// loaders.
const StagesTable = "crm_stages"

// StagesOf are a few stages, of which one stands in two pipelines.
func StagesOf(run string) load.StageList {
	return load.StageList{RunID: run, ExtractedAt: Epoch.Add(time.Hour), Stages: []load.Stage{
		{PipelineID: "p1", PipelineName: "Ventas", StageID: "s1", StageName: "Nuevo", Position: 0},
		{PipelineID: "p1", PipelineName: "Ventas", StageID: "s2", StageName: "Ganó \"sí\" 'é'", Position: 1},
		{PipelineID: "p2", StageID: "s1", StageName: "New", Position: 0},
		{PipelineID: "p2", StageID: "s3", Position: 1},
	}}
}

// ManyStages are some thousand stages, in pipelines of a hundred.
func ManyStages(run string, stages int) load.StageList {
	l := load.StageList{RunID: run, ExtractedAt: Epoch.Add(2 * time.Hour)}
	for i := range stages {
		l.Stages = append(l.Stages, load.Stage{
			PipelineID: fmt.Sprintf("00000000-0000-4000-8000-%012d", i/100), PipelineName: fmt.Sprintf("Pipeline %d", i/100),
			StageID: fmt.Sprintf("00000000-0000-4000-9000-%012d", i), StageName: fmt.Sprintf("Etapa Nº %d", i), Position: int64(i % 100),
		})
	}
	return l
}

// ReadStages scans the rows of a query for pipeline_id, pipeline_name, stage_id,
// stage_name and position.
func ReadStages(tb testing.TB, db *sql.DB, query string) []load.Stage {
	tb.Helper()
	rows, err := db.QueryContext(tb.Context(), query)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	var out []load.Stage
	for rows.Next() {
		var s load.Stage
		var pipeline, stage sql.NullString
		if err := rows.Scan(&s.PipelineID, &pipeline, &s.StageID, &stage, &s.Position); err != nil {
			tb.Fatal(err)
		}
		s.PipelineName, s.StageName = pipeline.String, stage.String
		out = append(out, s)
	}
	if err := rows.Err(); err != nil {
		tb.Fatal(err)
	}
	return out
}

// keeper opens the destination, or skips the case where it keeps no stages.
func (b *bench) keeper() load.StageKeeper {
	b.t.Helper()
	l := b.New(b.t)
	b.t.Cleanup(func() {
		if err := l.Close(); err != nil {
			b.t.Errorf("close: %v", err)
		}
	})
	k, ok := l.(load.StageKeeper)
	if !ok || b.Stages == nil {
		b.t.Skip("the destination keeps no stages")
	}
	return k
}

func (b *bench) replaceStages(list load.StageList) {
	b.t.Helper()
	if err := b.keeper().ReplaceStages(b.t.Context(), list); err != nil {
		b.t.Fatalf("replace stages: %v", err)
	}
	if d := cmp.Diff(list.Stages, b.Stages(b.t), cmpopts.EquateEmpty()); d != "" {
		b.t.Errorf("stages (-want +got):\n%s", d)
	}
}

func stagesReplaced(b *bench) {
	row := Contact("a", inMonth(1), at(1), "name", "Ana", "active_ticket_v2_id", "t1", "active_ticket_v2_current_stage_id", "s1")
	s := Spec{Serial: 1, Rows: []Row{row}}
	p := b.build(s)
	b.commit(p)
	first := StagesOf("run-001")
	b.replaceStages(first)
	b.replaceStages(first)
	b.commit(b.build(Spec{Serial: 2, Rows: []Row{Contact("b", inMonth(1), at(2))}}))
	if d := cmp.Diff(first.Stages, b.Stages(b.t)); d != "" {
		b.t.Errorf("a package changed the stages (-want +got):\n%s", d)
	}
	second := StagesOf("run-002")
	second.Stages = second.Stages[1:2]
	b.replaceStages(second)
	second.Stages = nil
	b.replaceStages(second)
	b.replaceStages(StagesOf("run-003"))
	b.wantRows("current", b.read()[:1], Expect(p, s, 0, "insert"))
	b.wantPosition(2)
	b.wantSound()
}

func stagesRefused(b *bench) {
	k := b.keeper()
	b.commit(b.build(Spec{Serial: 1, Rows: []Row{Contact("a", inMonth(1), at(1))}}))
	b.SpoilStages(b.t)
	before := b.fingerprint()
	if err := k.ReplaceStages(b.t.Context(), StagesOf("run-001")); !errors.Is(err, load.ErrForeign) {
		b.t.Errorf("a table that sluice did not write: got %v", err)
	}
	if b.fingerprint() != before {
		b.t.Error("it was changed all the same")
	}
	twice := StagesOf("run-001")
	twice.Stages = append(twice.Stages, twice.Stages[0])
	if err := k.ReplaceStages(b.t.Context(), twice); err == nil {
		b.t.Error("a stage that stands twice in one pipeline is taken")
	}
	b.commit(b.build(Spec{Serial: 2, Rows: []Row{Contact("b", inMonth(1), at(2))}}))
}
