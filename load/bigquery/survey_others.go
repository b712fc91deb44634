package bigquery

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"

	bq "google.golang.org/api/bigquery/v2"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

// stagesBlueprint is the table of stages as it is made without rows.
func (o Options) stagesBlueprint() blueprint {
	b := blueprint{name: o.Stages, keeps: true, table: bq.Table{Description: stagesComment, Labels: o.stagesLabels()}}
	for _, c := range load.StageTable().Columns {
		f := field(c)
		if c.Required {
			f.Mode = "REQUIRED"
		}
		b.fields = append(b.fields, f)
	}
	return b
}

// ofStages is the table of stages beside what a list of them makes.
func (inv *inventory) ofStages() load.Resource {
	r := load.Resource{Kind: load.KindTable, Name: inv.o.Stages}
	var p pairs
	b, place := inv.o.stagesBlueprint(), inv.o.place(inv.o.Stages)
	t := inv.stages
	if t == nil {
		p.wanted("place", place)
		p.labels("", inv.o.Labels, nil)
		inv.columns(&p, "", b, nil)
		r.Want = p.want
		return r
	}
	p.both("place", place, place)
	if !isStages(t) {
		r.Blocked, r.Effects = true, append(r.Effects, inv.o.foreignStages().sentence())
	}
	inv.expiration(&p, t)
	if expires(t) && !inherits(t, inv.lay.dataset) {
		r.Blocked, r.Effects = true, append(r.Effects, inv.o.wouldExpire(b.name).sentence())
	}
	p.labels("", inv.o.Labels, t.Labels)
	inv.columns(&p, "", b, t)
	r.Want, r.Have, r.Holds.Bytes = p.want, p.have, t.NumBytes
	return r
}

// isStages reports whether a table is one of stages that Sluice wrote.
func isStages(t *bq.Table) bool { return t.Labels[stagesLabel] == stagesVersion }

// stagesToJoin names the table of stages that views are to read, as it is once
// what is wanted is there; empty: none.
func (inv *inventory) stagesToJoin() string {
	if inv.stages != nil && !isStages(inv.stages) {
		return ""
	}
	return inv.o.Stages
}

// wantedViews are the views over a table with columns: those whose names are
// free, or have been ours.
func (inv *inventory) wantedViews(columns schemas.Table, stages string) []view {
	o := inv.viewOptions(columns, stages)
	for _, s := range inv.views {
		if !s.own {
			o.Taken = append(o.Taken, s.name)
		}
	}
	return viewsSQL(o)
}

// standing returns what has the name of a view, nil where nothing has.
func (inv *inventory) standing(name string) *standing {
	for i, s := range inv.views {
		if s.name == name {
			return &inv.views[i]
		}
	}
	return nil
}

// ofViews are the views and functions: those that are wanted, and those of ours
// that are not any more.
func (inv *inventory) ofViews(columns schemas.Table) []load.Resource {
	var out []load.Resource
	names := map[string]bool{}
	for _, v := range inv.wantedViews(columns, inv.stagesToJoin()) {
		r := load.Resource{Kind: load.KindView, Name: v.Name}
		names[v.Name] = true
		r.Want = inv.viewAttributes(v)
		if s := inv.standing(v.Name); s != nil {
			r.Have = s.attributes()
		}
		out = append(out, r)
	}
	for _, s := range inv.views {
		if s.own && !names[s.name] {
			out = append(out, load.Resource{Kind: load.KindView, Name: s.name, Have: s.attributes()})
		}
	}
	return out
}

// viewAttributes are what a view is to be like. A function has no labels.
func (inv *inventory) viewAttributes(v view) []load.Attribute {
	var p pairs
	_, body, _ := strings.Cut(v.SQL, "\nAS\n")
	p.wanted("definition", definition(body))
	if !v.Function {
		p.labels("", inv.o.Labels, nil)
	}
	return p.want
}

func (s *standing) attributes() []load.Attribute {
	var p pairs
	p.there("definition", definition(s.sql))
	p.labels("", nil, s.labels)
	return p.have
}

// definition identifies the SQL of a view. The service gives it back as it was
// written, but for white space around it.
func definition(sql string) string {
	sum := sha256.Sum256([]byte(strings.TrimSpace(sql)))
	return hex.EncodeToString(sum[:])[:12]
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
