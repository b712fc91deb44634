package config

import (
	"slices"
	"strings"
)

// stagesTable is where a pipeline writes the stages of its source.
type stagesTable struct {
	place    place
	pipeline *Pipeline
	dest     *Destination
}

// checkStages reports tables of stages that two sources would write, and those
// that have the name of something else.
func (r *reader) checkStages(c *Config) {
	var seen []stagesTable
	for _, p := range c.Pipelines {
		if p.StagesTable == "" || p.Source == nil {
			continue
		}
		at := p.Pos("destinations")
		if _, given := p.Keys["stages"]; given {
			at = p.Pos("stages")
		}
		for _, d := range p.Destinations {
			if d.Path == "" && d.URL == "" && d.Dataset == "" {
				continue
			}
			t := stagesTable{placeOfTable(d, p.StagesTable), p, d}
			if r.sharesStages(seen, t, at) || r.takesName(c, t, at) {
				break // one is enough to act on
			}
			seen = append(seen, t)
		}
	}
}

// sharesStages reports, and returns whether, a pipeline of another source
// writes its stages to the same table.
func (r *reader) sharesStages(seen []stagesTable, t stagesTable, at Pos) bool {
	i := slices.IndexFunc(seen, func(o stagesTable) bool {
		return o.place == t.place && o.pipeline.StagesTable == t.pipeline.StagesTable && o.pipeline.Source != t.pipeline.Source
	})
	if i < 0 {
		return false
	}
	o := seen[i]
	r.errorf(at, "give one of them another name (stages: crm_stages_"+t.pipeline.Source.Name+"), or write stages: off",
		"pipelines %s (line %d) and %s read different sources, and both write their stages to table %s of destination %s",
		o.pipeline.Name, o.pipeline.At.Line, t.pipeline.Name, t.pipeline.StagesTable, t.dest.Name)
	return true
}

// takesName reports, and returns whether, a table of stages has the name of a
// table of contacts, or of something that is named after one.
func (r *reader) takesName(c *Config, t stagesTable, at Pos) bool {
	p := owner(c, t.place, t.pipeline.StagesTable)
	if p == nil {
		return false
	}
	r.errorf(at, "give it another name, such as crm_stages", "stages: %s is a name that belongs to table %s of destination %s (pipeline %s, line %d)",
		t.pipeline.StagesTable, p.Table, t.dest.Name, p.Name, p.At.Line)
	return true
}

// takes reports whether a table of contacts in the destination, or what belongs
// to it, has the name.
func takes(d *Destination, table, name string) bool {
	suffix, of := strings.CutPrefix(name, table)
	switch {
	case name == table:
		return true
	case d.Type == DuckDB:
		return slices.Contains(reports(), name) || of && slices.Contains(ownViews(), suffix)
	case d.Type == Warehouse:
		return of && slices.Contains(derivedNames(), suffix)
	default:
		return false
	}
}
