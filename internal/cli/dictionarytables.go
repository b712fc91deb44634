package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/duck"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/views"
	"github.com/sluice-etl/sluice/schemas"
)

// describe gathers what the page says of a pipeline.
func describe(ctx context.Context, p *config.Pipeline, reg *schemas.Registry) (dictPipeline, error) {
	id := anchor(p.Name)
	out := dictPipeline{
		ID: id, Name: p.Name, Source: p.Source.Name, Contract: "built in", Timezone: p.Timezone.String(),
		Destinations: writesTo(p), Left: notExported(reg), ViewsAbout: viewsAbout(p, reg.Table()),
	}
	if p.Schema != "" {
		out.Contract = filepath.Base(p.Schema) // the same wherever the page is written
	}
	table := dictTable{
		ID: anchor(p.Name, p.Table), Name: p.Table, Groups: grouped(anchor(p.Name, p.Table), registered(reg)),
		About: "One row for each contact, as last seen. Contacts that were deleted are marked in " + schemas.ColDeletedAt +
			". In Parquet these are the files under " + p.Table + "/current.",
	}
	history := dictTable{
		ID: anchor(p.Name, p.Table+"_history"), Name: p.Table + "_history",
		About: fmt.Sprintf("Every version of every contact, with the columns of %s. A version is an %s and a %s. In Parquet these are the files under %s/history.",
			p.Table, schemas.ColID, schemas.ColHash, p.Table),
	}
	runs := dictTable{
		ID: anchor(p.Name, "runs"), Name: "runs", About: "One row for each run: what was read, and under which assumptions.",
		Groups: []dictGroup{{Columns: []dictColumn{
			{ID: anchor(p.Name, "runs", "run_id"), Name: "run_id", Type: "string", Null: "no", Description: "The run, as in " + schemas.ColRunID},
			{ID: anchor(p.Name, "runs", "coverage"), Name: "coverage", Type: "json", Null: "no", Description: "Its coverage record"},
		}}},
	}
	out.Tables = []dictTable{table, history}
	if p.StagesTable != "" {
		out.Tables = append(out.Tables, stagesTable(p))
	}
	out.Tables = append(out.Tables, runs)
	var err error
	out.Views, err = describeViews(ctx, p, reg.Table())
	return out, err
}

// stagesTable is the table of the source's pipelines.
func stagesTable(p *config.Pipeline) dictTable {
	t := dictTable{
		ID: anchor(p.Name, p.StagesTable), Name: p.StagesTable,
		About: "The pipelines of the source and their stages, as the last run found them.",
	}
	var columns []fieldColumn
	for _, c := range load.StageTable().Columns {
		columns = append(columns, fieldColumn{Column: c})
	}
	t.Groups = grouped(t.ID, columns)
	for i := range t.Groups {
		if len(t.Groups) > 1 && i == 0 {
			t.Groups[i].Title = "Stages"
		}
	}
	return t
}

// The groups of a table's columns, in their order.
const (
	groupContract = iota
	groupCustomer
	groupTicket
	groupFound
	groupSystem
)

// grouped sorts columns into groups. A column for what does not fit stands
// behind the one that it belongs to.
func grouped(table string, columns []fieldColumn) []dictGroup {
	groups := []dictGroup{
		groupContract: {Title: "Declared by the contract"}, groupCustomer: {Title: "Custom fields of the customer"},
		groupTicket: {Title: "Custom fields of the active ticket"}, groupFound: {Title: "Other fields found in the data"},
		groupSystem: {Title: "Sluice's own"},
	}
	place := map[string]int{} // group of a source
	for _, c := range columns {
		g := groupOf(c.Column)
		if at, ok := place[c.Source]; ok && c.Origin == schemas.MisfitText {
			g = at
		} else if c.Source != "" {
			place[c.Source] = g
		}
		entry := describeColumn(table, c)
		list := groups[g].Columns
		at := len(list)
		if base, ok := strings.CutSuffix(c.Name, "__text"); ok && c.Origin == schemas.MisfitText {
			if i := slices.IndexFunc(list, func(d dictColumn) bool { return d.Name == base }); i >= 0 {
				at = i + 1
			}
		}
		groups[g].Columns = slices.Insert(list, at, entry)
	}
	return slices.DeleteFunc(groups, func(g dictGroup) bool { return len(g.Columns) == 0 })
}

func groupOf(c schemas.Column) int {
	ref, err := schemas.ParseFieldRef(c.Source)
	switch {
	case c.Origin == schemas.SystemDefined:
		return groupSystem
	case c.Origin == schemas.FromContract:
		return groupContract
	case err == nil && ref.Scope == schemas.ScopeCFCustomer:
		return groupCustomer
	case err == nil && ref.Scope == schemas.ScopeCFTicket:
		return groupTicket
	default:
		return groupFound
	}
}

// describeColumn is a line of the page. Times are days in UTC.
func describeColumn(table string, c fieldColumn) dictColumn {
	day := func(t *time.Time) string {
		if t == nil {
			return ""
		}
		return t.UTC().Format(time.DateOnly)
	}
	out := dictColumn{
		ID: anchor(table, c.Name), Name: c.Name, Type: string(c.Type), Null: "yes", Description: c.Description,
		Policy: string(c.Policy), First: day(c.FirstSeen), Last: day(c.LastSeen), Observed: c.observed(),
	}
	if c.Required {
		out.Null = "no"
	}
	if ref, err := schemas.ParseFieldRef(c.Source); err == nil && ref.Scope != schemas.ScopeOverflow {
		out.Source = contractPath(ref)
		if out.Description == "" {
			out.Description = undescribed(ref.Scope)
		}
	} else if err == nil {
		out.Description = "Fields that have no column of their own, because the table has as many as it may: an object of field to value"
	}
	if c.LeftOut {
		out.Description += " (left out by the contract: null in rows written from now on)"
	}
	return out
}

// undescribed is the description of a column that nobody has described.
func undescribed(s schemas.Scope) string {
	switch s {
	case schemas.ScopeCFCustomer:
		return "Custom field of the customer"
	case schemas.ScopeCFTicket:
		return "Custom field of the active ticket"
	case schemas.ScopeTicket:
		return "Field of the active ticket"
	default:
		return "Field of the contact"
	}
}

// notExported lists what the contract leaves out, and why.
func notExported(reg *schemas.Registry) []dictLeft {
	c := reg.Contract()
	var out []dictLeft
	for _, col := range c.Left {
		out = append(out, dictLeft{Field: contractPath(col.Ref), Why: whyLeftOut(c, col.Ref)})
	}
	for _, p := range c.Exclude {
		left := dictLeft{Field: patternPath(p), Why: fmt.Sprintf("exclude, line %d", p.Line)}
		if !slices.Contains(out, left) { // it may be declared as well
			out = append(out, left)
		}
	}
	if len(c.Select) > 0 {
		var only []string
		for _, p := range c.Select {
			only = append(only, patternPath(p))
		}
		out = append(out, dictLeft{Field: "all but " + strings.Join(only, ", "), Why: fmt.Sprintf("select, line %d; id, created_at and updated_at are always there", c.Select[0].Line)})
	}
	for _, s := range []struct {
		scope schemas.Scope
		what  string
	}{
		{schemas.ScopeContact, "fields of the contact"},
		{schemas.ScopeTicket, "fields of the active ticket"},
		{schemas.ScopeCFCustomer, "custom fields of the customer"},
		{schemas.ScopeCFTicket, "custom fields of the active ticket"},
	} {
		switch rule := c.Undeclared[s.scope]; {
		case rule.Policy == schemas.Drop:
			out = append(out, dictLeft{Field: s.what + " that the contract does not declare", Why: "policy drop"})
		case rule.NewColumns == schemas.Discard:
			out = append(out, dictLeft{Field: s.what + " that the table does not have", Why: fmt.Sprintf("new_columns: discard, line %d", rule.NewColumnsLine)})
		}
	}
	return out
}

// patternPath is a pattern as a contract writes it.
func patternPath(p schemas.FieldPattern) string {
	if p.Prefix {
		return contractPath(p.Ref) + "*"
	}
	return contractPath(p.Ref)
}

// viewsAbout says where the views are, under which names, and what they lack.
func viewsAbout(p *config.Pipeline, table schemas.Table) string {
	text := "As sluice query and DuckDB have them, with DuckDB's types."
	if slices.ContainsFunc(p.Destinations, isWarehouse) {
		text += fmt.Sprintf(" In BigQuery their names begin with the table's, as in %s_customers; the view %s is called %s_active there, and active(days) %s_active_within(days).",
			p.Table, p.Table, p.Table, p.Table)
	}
	if notes := views.Notes(viewsOf(p, table)); len(notes) > 0 {
		text += " Because of the contract: " + strings.Join(notes, "; ") + "."
	}
	return text
}

// viewsOf are the views of a pipeline's table, over no rows.
func viewsOf(p *config.Pipeline, table schemas.Table) views.Options {
	o := views.Options{Table: p.Table, Columns: table, Timezone: p.Timezone}
	if p.StagesTable != "" {
		o.Stages = "(" + views.Nothing(load.StageTable()) + ")"
	}
	return o
}

// describeViews lists the views over the table. Their columns are those that
// DuckDB gives them over a table without rows; a build without DuckDB names the
// views alone.
func describeViews(ctx context.Context, p *config.Pipeline, table schemas.Table) (out []dictView, err error) {
	o := viewsOf(p, table)
	var db *duck.DB
	if duck.Available {
		if db, err = duck.Open(ctx, views.SQL(o)); err != nil {
			return nil, fmt.Errorf("read columns of views: %w", err)
		}
		defer func() {
			if e := db.Close(); e != nil && err == nil {
				err = fmt.Errorf("close DuckDB: %w", e)
			}
		}()
	}
	for _, v := range views.List(o) {
		if v.Bare == "runs" {
			continue // it is among the tables
		}
		d := dictView{ID: anchor(p.Name, "view", v.Bare), Name: v.Name, About: v.Comment, Extends: strings.HasPrefix(v.Bare, p.Table)}
		if db != nil {
			if d.Columns, err = viewColumns(ctx, db, v); err != nil {
				return nil, err
			}
			all := d.Columns
			d.Columns = slices.DeleteFunc(slices.Clone(all), func(c dictViewColumn) bool { return table.Index(c.Name) >= 0 })
			if d.Extends = len(all)-len(d.Columns) == len(table.Columns); !d.Extends {
				d.Columns = all
			}
		}
		out = append(out, d)
	}
	return out, nil
}

// viewColumns asks DuckDB for the columns of a view.
func viewColumns(ctx context.Context, db *duck.DB, v views.View) ([]dictViewColumn, error) {
	call := views.QuoteName(v.Bare)
	switch {
	case v.Macro && strings.HasSuffix(v.Bare, "_as_of"):
		call += "(now())"
	case v.Macro:
		call += "(7)"
	}
	r, err := db.Query(ctx, "SELECT column_name, lower(column_type) FROM (DESCRIBE FROM "+call+")", 0)
	if err != nil {
		return nil, fmt.Errorf("read columns of view %s: %w", v.Name, err)
	}
	var out []dictViewColumn
	for _, row := range r.Rows {
		out = append(out, dictViewColumn{Name: row[0].Text, Type: row[1].Text})
	}
	return out, nil
}
