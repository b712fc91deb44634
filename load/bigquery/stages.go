package bigquery

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	bq "google.golang.org/api/bigquery/v2"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/views"
	"github.com/sluice-etl/sluice/schemas"
)

var _ load.StageKeeper = (*Loader)(nil)

// stagesLabel marks a table of stages as Sluice's; the value is the version of
// its format.
const (
	stagesLabel   = "sluice_stages"
	stagesVersion = "1"
)

// ReplaceStages implements load.StageKeeper, by one statement. Where it makes
// the table, the views follow at once; otherwise a commit has made them.
func (l *Loader) ReplaceStages(ctx context.Context, list load.StageList) error {
	if l.o.Stages == "" {
		return load.ErrNoStages
	}
	if err := list.Check(); err != nil {
		return err
	}
	there, err := l.table(ctx, l.o.Stages)
	if err != nil {
		return err
	}
	if there != nil && there.Labels[stagesLabel] != stagesVersion {
		return l.o.foreignStages()
	}
	if _, _, err := l.query(ctx, l.stagesSQL(list)); err != nil {
		return fmt.Errorf("replace table %s: %w", l.o.place(l.o.Stages), err)
	}
	if there != nil {
		return nil
	}
	if there, err = l.table(ctx, l.o.Stages); err != nil {
		return err
	}
	if there != nil && expires(there) { // the dataset's default
		if err := l.unexpire(ctx, l.o.Stages, there); err != nil {
			return err
		}
	}
	lay, err := l.look(ctx)
	if err != nil || lay.commits == nil {
		return err
	}
	last, err := l.last(ctx)
	if err != nil || last.serial == 0 {
		return err
	}
	table, err := l.columnsAfter(ctx, last)
	if err != nil {
		return err
	}
	return l.ensureViews(ctx, joined(table, lay))
}

// stagesComment is the description of a table of stages.
const stagesComment = "The pipelines of the source and their stages, as the last run found them. Written by sluice."

func (o Options) foreignStages() *Error {
	return &Error{
		Message: "the table is no table of stages that sluice wrote", Table: o.place(o.Stages), Err: load.ErrForeign,
		hint: "Give the pipeline another name for its table of stages (stages: NAME), write stages: off, or rename what is there.",
	}
}

// stagesSQL makes the table of stages anew, or in place of the one there is.
func (l *Loader) stagesSQL(list load.StageList) string {
	w := &viewWriter{}
	var defs, names, rows []string
	for _, c := range load.StageTable().Columns {
		null := ""
		if c.Required {
			null = " NOT NULL"
		}
		defs = append(defs, "  "+w.name(c.Name)+" "+sqlType(c.Type)+null+" OPTIONS (description="+w.text(c.Description)+")")
		names = append(names, w.name(c.Name))
	}
	orNull := func(s string) string {
		if s == "" {
			return "CAST(NULL AS STRING)"
		}
		return w.text(s)
	}
	for _, s := range list.Stages {
		rows = append(rows, "STRUCT("+strings.Join([]string{
			w.text(s.PipelineID) + " AS " + names[0], orNull(s.PipelineName) + " AS " + names[1], w.text(s.StageID) + " AS " + names[2],
			orNull(s.StageName) + " AS " + names[3], strconv.FormatInt(s.Position, 10) + " AS " + names[4],
		}, ", ")+")")
	}
	source := "UNNEST([\n  " + strings.Join(rows, ",\n  ") + "\n])"
	if len(rows) == 0 {
		source = "(SELECT '' AS pipeline_id, '' AS pipeline_name, '' AS stage_id, '' AS stage_name, 0 AS position) WHERE FALSE"
	}
	return "CREATE OR REPLACE TABLE " + l.o.quoted(l.o.Stages) + " (\n" + strings.Join(defs, ",\n") + "\n)\nOPTIONS (description=" +
		w.text(stagesComment) + ", labels=" + w.labels(l.o.stagesLabels()) +
		")\nAS SELECT pipeline_id, pipeline_name, stage_id, stage_name, position, " + w.text(list.RunID) + " AS " + names[5] + ", " + literal(list.ExtractedAt) + " AS " + names[6] +
		"\nFROM " + source
}

// stagesLabels are the labels of the table of stages, which belongs to no table
// of contacts.
func (o Options) stagesLabels() map[string]string {
	labels := o.labels(stagesLabel, stagesVersion)
	delete(labels, tableLabel)
	return labels
}

func sqlType(t schemas.Type) string {
	switch t {
	case schemas.Int64:
		return "INT64"
	case schemas.Timestamp:
		return "TIMESTAMP"
	default: // the table of stages has no others
		return "STRING"
	}
}

// stagesOf returns the name of the table of stages, empty where there is none
// of ours.
func (l *Loader) stagesOf(ctx context.Context) (string, error) {
	if l.o.Stages == "" {
		return "", nil
	}
	t, err := l.table(ctx, l.o.Stages)
	if err != nil || t == nil || t.Labels[stagesLabel] != stagesVersion || !hasStages(t) {
		return "", err
	}
	return l.o.Stages, nil
}

// hasStages reports whether a table has the columns that views read.
func hasStages(t *bq.Table) bool {
	found := map[string]bool{}
	for _, f := range columnsOf(t) {
		found[f.Name] = true
	}
	return found[load.ColStageID] && found[load.ColStageName] && found[load.ColPosition] && found[load.ColPipelineID] && found[load.ColPipelineName]
}

// namesOfStages are the columns that the table of stages adds to contacts: what
// they are called there, and in views.
func namesOfStages() [][2]string {
	return [][2]string{{load.ColStageName, "stage_name"}, {load.ColPosition, "stage_position"}, {load.ColPipelineID, "pipeline_id"}, {load.ColPipelineName, "pipeline_name"}}
}

func (w *viewWriter) joins() bool { return w.o.Stages != "" && w.suit(views.Stage) }

// freeStage is the name of such a column that no column of the table has.
func (w *viewWriter) freeStage(name string) string {
	return views.Options{Columns: w.o.Columns}.Free(name)
}

// staged reads the rows of _active. A stage that stands in several pipelines is
// that of the first by id, so that no contact comes twice.
func (w *viewWriter) staged() string {
	if !w.joins() {
		return "SELECT * FROM " + w.ref("_all")
	}
	var list []string
	for _, n := range namesOfStages() {
		list = append(list, "_s."+n[0]+" AS "+w.name(w.freeStage(n[1])))
	}
	return "SELECT _c.*, " + strings.Join(list, ", ") + "\nFROM " + w.ref("_all") + ` AS _c LEFT JOIN (
  SELECT stage_id, stage_name, position, pipeline_id, pipeline_name
  FROM ` + "`" + w.o.Project + "." + w.o.Dataset + "." + w.o.Stages + "`" + `
  WHERE TRUE
  QUALIFY ROW_NUMBER() OVER (PARTITION BY stage_id ORDER BY pipeline_id, position) = 1
) AS _s ON _s.stage_id = _c.` + w.col(views.Stage)
}

// stageNames are the columns of the funnel that the table of stages adds, and
// what they add to its groups.
func (w *viewWriter) stageNames() (columns, group string) {
	if !w.joins() {
		return "", ""
	}
	for i, n := range namesOfStages() {
		columns += "\n  " + w.name(w.freeStage(n[1])) + " AS " + n[1] + ","
		group += ", " + strconv.Itoa(i+2)
	}
	return columns, group
}
