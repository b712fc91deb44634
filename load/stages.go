package load

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/sluice-etl/sluice/schemas"
)

// StageKeeper is a Loader that keeps a table of the source's pipelines and
// their stages beside the contacts, for the views to name stages by. The name
// of the table is one of the loader's options, so that Commit makes views that
// fit; tables of contacts may share one.
type StageKeeper interface {
	Loader
	// ReplaceStages makes list all that the table of stages holds, and makes the
	// table, and the views over the contacts with it, where there was none. Readers
	// see the old rows or the new ones, never both or none. It is idempotent, and
	// of two calls at once the later one's rows stay. A table of the name that
	// Sluice did not write is ErrForeign, and on any error the old rows stay; a
	// loader that was opened without a name for the table fails with ErrNoStages.
	// It blocks until done or ctx ends. The engine calls it after the commits of a
	// run, and no Commit to the same table of contacts runs meanwhile.
	ReplaceStages(ctx context.Context, list StageList) error
}

// ErrNoStages says that a loader was opened without a table of stages.
var ErrNoStages = errors.New("the destination was opened without a table of stages")

// StageList is what the source said of its pipelines.
type StageList struct {
	RunID       string    // required
	ExtractedAt time.Time // when the source answered
	Stages      []Stage   // pipeline by pipeline, each in its order
}

// Stage is a stage of a pipeline. One that stands in several pipelines is there
// once for each.
type Stage struct {
	PipelineID, PipelineName string // the name is empty where the source gives none
	StageID, StageName       string // likewise
	Position                 int64  // within the pipeline, from 0
}

// The columns of a table of stages that views read.
const (
	ColPipelineID   = "pipeline_id"
	ColPipelineName = "pipeline_name"
	ColStageID      = "stage_id"
	ColStageName    = "stage_name"
	ColPosition     = "position"
)

// StageTable returns the columns of a table of stages.
func StageTable() schemas.Table {
	return schemas.Table{Columns: []schemas.Column{
		{Name: ColPipelineID, Type: schemas.String, Origin: schemas.FromContract, Required: true, Description: "Pipeline that has the stage"},
		{Name: ColPipelineName, Type: schemas.String, Origin: schemas.FromContract, Description: "Its name"},
		{Name: ColStageID, Type: schemas.String, Origin: schemas.FromContract, Required: true, Description: "Stage; contacts have it as active_ticket_v2_current_stage_id"},
		{Name: ColStageName, Type: schemas.String, Origin: schemas.FromContract, Description: "Its name"},
		{Name: ColPosition, Type: schemas.Int64, Origin: schemas.FromContract, Required: true, Description: "Place of the stage in its pipeline, from 0"},
		{Name: schemas.ColRunID, Type: schemas.String, Origin: schemas.SystemDefined, Required: true, Description: "Run that read the stages"},
		{Name: schemas.ColExtractedAt, Type: schemas.Timestamp, Origin: schemas.SystemDefined, Required: true, Description: "When the source told them (UTC)"},
	}}
}

// Check reports what a table of stages cannot hold.
func (l StageList) Check() error {
	if l.RunID == "" {
		return errors.New("check stages: they need a run id")
	}
	type place struct{ pipeline, stage string }
	seen := map[place]bool{}
	for _, s := range l.Stages {
		p := place{s.PipelineID, s.StageID}
		switch {
		case s.PipelineID == "" || s.StageID == "":
			return errors.New("check stages: a pipeline or stage has no id")
		case seen[p]:
			return fmt.Errorf("check stages: stage %s stands twice in pipeline %s", s.StageID, s.PipelineID)
		}
		seen[p] = true
	}
	return nil
}

// Record returns the rows of the table, in the columns of StageTable. The
// caller releases it.
func (l StageList) Record(mem memory.Allocator) arrow.Record {
	b := array.NewRecordBuilder(mem, StageTable().Arrow())
	defer b.Release()
	text := func(i int, s string, required bool) {
		f, ok := b.Field(i).(*array.StringBuilder)
		switch {
		case !ok:
		case s == "" && !required:
			f.AppendNull()
		default:
			f.Append(s)
		}
	}
	for _, s := range l.Stages {
		text(0, s.PipelineID, true)
		text(1, s.PipelineName, false)
		text(2, s.StageID, true)
		text(3, s.StageName, false)
		if f, ok := b.Field(4).(*array.Int64Builder); ok {
			f.Append(s.Position)
		}
		text(5, l.RunID, true)
		if f, ok := b.Field(6).(*array.TimestampBuilder); ok {
			f.Append(arrow.Timestamp(l.ExtractedAt.UnixMicro()))
		}
	}
	return b.NewRecord()
}
