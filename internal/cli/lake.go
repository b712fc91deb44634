package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/load/parquet"
	"github.com/sluice-etl/sluice/load/views"
)

// lakeTable is one exported table of Parquet files that queries can use.
type lakeTable struct {
	schema   string // DuckDB schema that its views stand in
	table    string
	dir      string
	pipeline *config.Pipeline
	place    *config.Destination
	manifest *parquet.Manifest // nil: there is no table yet
}

// isLake tells the destinations whose files a query can read.
func isLake(d *config.Destination) bool { return isParquet(d) && d.Local() }

// lakeTables lists the tables of all pipelines, or of one destination, in the
// order of the file.
func lakeTables(cfg *config.Config, only *config.Destination) ([]lakeTable, error) {
	var tables []lakeTable
	for _, p := range cfg.Pipelines {
		for _, d := range p.Destinations {
			if !isLake(d) || only != nil && d != only {
				continue
			}
			t := lakeTable{schema: schemaName(cfg, d, p.Table), table: p.Table, dir: d.Place(p.Table), pipeline: p, place: d}
			m, err := parquet.OpenManifest(t.dir)
			switch {
			case err == nil && len(m.Schema.Columns) > 0: // else the first commit has not ended
				t.manifest = m
			case err == nil:
			case !errors.Is(err, fs.ErrNotExist):
				return nil, fmt.Errorf("open table %s of destination %s: %w", p.Table, d.Name, err)
			}
			tables = append(tables, t)
		}
	}
	return tables, nil
}

// schemaName is the destination's name, followed by the table's where the
// destination has several.
func schemaName(cfg *config.Config, d *config.Destination, table string) string {
	n := 0
	for _, p := range cfg.Pipelines {
		for _, other := range p.Destinations {
			if other == d {
				n++
			}
		}
	}
	if n > 1 {
		return d.Name + "_" + table
	}
	return d.Name
}

// tableName is how a query calls a table: its bare name where that means this
// one, being the first in the search path, else with its schema.
func tableName(cfg *config.Config, d *config.Destination, table string) string {
	for _, p := range cfg.Pipelines {
		for _, other := range p.Destinations {
			if p.Table == table && isLake(other) {
				if other == d {
					return table
				}
				return schemaName(cfg, d, table) + "." + table
			}
		}
	}
	return table
}

// setup is the SQL that makes every exported table's views and puts their
// schemas into the search path.
func setup(tables []lakeTable) string {
	var b strings.Builder
	var path []string
	for _, t := range tables {
		if t.manifest == nil {
			continue
		}
		b.WriteString(parquet.Views(t.views()) + "\n")
		path = append(path, t.schema)
	}
	for _, u := range unionsOf(tables) {
		b.WriteString("CREATE SCHEMA IF NOT EXISTS " + views.QuoteName(u.Schema) + ";\n" + u.SQL())
		path = append(path, u.Schema)
	}
	if len(path) > 0 {
		fmt.Fprintf(&b, "SET search_path = '%s';\n", strings.Join(path, ","))
	}
	return b.String()
}

// views are the options of the views over a table that has been exported.
func (t lakeTable) views() parquet.ViewsOptions {
	o := parquet.ViewsFor(t.dir, t.manifest)
	o.Schema, o.Timezone = t.schema, t.pipeline.Timezone
	o.Stages = parquet.StagesFile(filepath.Dir(t.dir), t.pipeline.StagesTable)
	return o
}

// unionsOf are the views over all accounts, each in a schema of its own, that is
// called as that of a table would be.
func unionsOf(tables []lakeTable) []views.Union {
	var out []views.Union
	for _, t := range tables {
		if t.manifest == nil || t.pipeline.UnionView == "" {
			continue
		}
		schema := t.place.Name + "_" + t.pipeline.UnionView
		i := slices.IndexFunc(out, func(u views.Union) bool { return u.Schema == schema })
		if i < 0 {
			i = len(out)
			out = append(out, views.Union{Schema: schema, Name: t.pipeline.UnionView})
		}
		from := views.QuoteName(t.schema) + "." + views.QuoteName(t.table)
		out[i].Parts = append(out[i].Parts, views.UnionPart{Table: t.table, From: from, Columns: parquet.MainColumns(t.views())})
	}
	return out
}

// relative is a path as the user would type it from where they are.
func (a *app) relative(path string) string {
	here, err := os.Getwd()
	if err != nil {
		return path
	}
	rel, err := filepath.Rel(here, path)
	if err != nil || strings.HasPrefix(rel, "..") {
		return path
	}
	return rel
}
