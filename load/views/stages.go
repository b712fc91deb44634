package views

import (
	"slices"
	"strings"
)

// named are the columns that the table of stages adds to contacts: what they
// are called there, and in views.
func named() [][2]string {
	return [][2]string{{"stage_name", "stage_name"}, {"position", "stage_position"}, {"pipeline_id", "pipeline_id"}, {"pipeline_name", "pipeline_name"}}
}

// Free returns the name for a column of a view that none of the table's columns
// has, whatever the case.
func (o Options) Free(name string) string {
	for slices.ContainsFunc(o.names(), func(n string) bool { return strings.EqualFold(n, name) }) {
		name += "__"
	}
	return name
}

// names are the columns of the table, with the dates that views add.
func (o Options) names() []string {
	var out []string
	for _, c := range o.Columns.Columns {
		out = append(out, c.Name)
		if base := dateBase(c.Name); base != "" {
			out = append(out, base+"_date")
		}
		if date := DateName(c); date != "" {
			out = append(out, date)
		}
	}
	return out
}

// joins reports whether contacts can be given the names of their stages.
func (w *writer) joins() bool { return w.o.Stages != "" && Lacks(w.o.Columns, Stage) == "" }

// staged reads the rows of the main view. A stage that stands in several
// pipelines is that of the first by id, so that no contact comes twice.
func (w *writer) staged() string {
	if !w.joins() {
		return "SELECT * FROM " + w.main("_all")
	}
	var list []string
	for _, n := range named() {
		list = append(list, "_s."+QuoteName(n[0])+" AS "+QuoteName(w.o.Free(n[1])))
	}
	return "SELECT _c.*, " + strings.Join(list, ", ") + "\nFROM " + w.main("_all") + ` AS _c LEFT JOIN (
  SELECT "stage_id", "stage_name", "position", "pipeline_id", "pipeline_name" FROM ` + w.o.Stages + `
  QUALIFY row_number() OVER (PARTITION BY "stage_id" ORDER BY "pipeline_id", "position") = 1
) AS _s ON _s."stage_id" = _c.` + w.col(Stage)
}

// stageNames are the columns of the funnel that the table of stages adds.
func (w *writer) stageNames() string {
	if !w.joins() {
		return ""
	}
	var out string
	for _, n := range named() {
		out += "\n  " + QuoteName(w.o.Free(n[1])) + " AS " + n[1] + ","
	}
	return out
}

// stagesView is the table of stages by its name.
func (w *writer) stagesView() []View {
	if w.o.Stages == "" || w.o.StagesView == "" || w.taken(w.o.StagesView) {
		return nil
	}
	return []View{{
		Bare: w.o.StagesView, Comment: "The pipelines of the source and their stages, as the last run found them.",
		body: "SELECT * FROM " + w.o.Stages,
	}}
}
