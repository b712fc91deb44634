package config

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/internal/gcs"
)

// table is what one pipeline writes in one destination.
type table struct {
	place    place
	pipeline *Pipeline
	dest     *Destination
}

// place is a directory or file of this machine, what begins with a prefix in a
// bucket, or a table of BigQuery.
type place struct {
	kind placeKind
	path string
}

type placeKind int

const (
	onDisk placeKind = iota
	inBucket
	inWarehouse
)

// placeOfTable returns where a table of a destination stands.
func placeOfTable(d *Destination, name string) place {
	if d.Type == Warehouse { // of one service: an emulator has tables of its own
		return place{inWarehouse, d.Endpoint + " " + d.Place(name)}
	}
	return placeOf(d.Place(name))
}

// placeOf returns the place of an absolute path or a gs:// URL.
func placeOf(path string) place {
	if rest, ok := strings.CutPrefix(path, gcs.Scheme); ok {
		return place{inBucket, rest}
	}
	return place{onDisk, path}
}

// in reports whether p lies below q.
func (p place) in(q place) bool {
	if p.kind != q.kind || p.kind == inWarehouse {
		return false
	}
	if p.kind == inBucket {
		return strings.HasPrefix(p.path, q.path+"/")
	}
	rel, err := filepath.Rel(q.path, p.path)
	return err == nil && rel != "." && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// below returns the place of a name in p.
func (p place) below(name string) place {
	if p.kind == inBucket {
		return place{inBucket, p.path + "/" + name}
	}
	return place{onDisk, filepath.Join(p.path, name)}
}

// checkTables reports tables that two pipelines would write, also through two
// destinations that share a place, or that lie in each other or in state.
func (r *reader) checkTables(c *Config) {
	var tables []table
	for _, p := range c.Pipelines {
		for _, d := range p.Destinations {
			if p.Table == "" || d.Path == "" && d.URL == "" && d.Dataset == "" {
				continue
			}
			t := table{placeOfTable(d, p.Table), p, d}
			at := p.Pos("destinations")
			if _, given := p.Keys["table"]; given {
				at = p.Pos("table")
			}
			for _, o := range tables {
				if r.clash(o, t, at) {
					break // one is enough to act on
				}
			}
			tables = append(tables, t)
			r.checkStateApart(c, t)
		}
	}
}

// clash reports, and returns whether, two tables share a place.
func (r *reader) clash(o, t table, at Pos) bool {
	same := o.place == t.place
	file := same && o.dest.Type == DuckDB && t.dest.Type == DuckDB
	switch {
	case t.place.kind == inWarehouse && o.place.kind == inWarehouse && !same:
		return r.derived(o, t, at) || r.derived(t, o, at)
	case file && o.pipeline.Table != t.pipeline.Table:
		return r.sharesViews(o, t, at) || r.sharesViews(t, o, at)
	case same && o.pipeline == t.pipeline:
		what := "directory"
		switch t.dest.Type {
		case DuckDB:
			what = "file"
		case Warehouse:
			what = "dataset"
		}
		r.errorf(t.pipeline.Pos("destinations"), "keep one of them", "destinations %s and %s are the same %s", o.dest.Name, t.dest.Name, what)
	case same && o.dest.Type == t.dest.Type && t.pipeline.Account != "" && o.pipeline.Base == t.pipeline.Base:
		if !r.sharing[t.pipeline.Base] { // one of many accounts is enough to act on
			r.errorf(at, "put the account into its name, as in table: "+firstTable+"_${each.key}", "pipelines %s and %s both write table %s of destination %s", o.pipeline.Name, t.pipeline.Name, t.pipeline.Table, t.dest.Name)
		}
		r.sharing[t.pipeline.Base] = true
	case same && o.dest.Type == t.dest.Type:
		r.errorf(at, "give one of them another table or destination", "pipelines %s (line %d) and %s both write table %s of destination %s", o.pipeline.Name, o.pipeline.At.Line, t.pipeline.Name, t.pipeline.Table, t.dest.Name)
	case same, o.place.in(t.place), t.place.in(o.place):
		r.errorf(at, "choose paths that are apart", "table %s of destination %s (line %d) and table %s of destination %s lie in each other", o.pipeline.Table, o.dest.Name, o.pipeline.At.Line, t.pipeline.Table, t.dest.Name)
	default:
		return false
	}
	return true
}

// ownViews are what a table's own views are called, behind its name, and
// reports the views that only the first table of a database file has by these
// names. load/views has both.
func ownViews() []string { return []string{"_all", "_history", "_as_of"} }

func reports() []string {
	return []string{
		"customers", "active", "reengagement", "activity_daily", "engagement_by_channel",
		"unattended", "stage_funnel", "new_and_updated", "runs",
	}
}

// sharesViews reports, and returns whether, a table has the name that a view of
// another table in the same database file has.
func (r *reader) sharesViews(t, o table, at Pos) bool {
	name := t.pipeline.Table
	suffix, of := strings.CutPrefix(name, o.pipeline.Table)
	if !slices.Contains(reports(), name) && (!of || !slices.Contains(ownViews(), suffix)) {
		return false
	}
	r.errorf(at, "give it another table or destination", "table %s of destination %s has the name of a view of table %s in the same file", name, t.dest.Name, o.pipeline.Table)
	return true
}

// derivedNames are what BigQuery's tables, views and functions of a table are
// called, behind its name. load/bigquery has them.
func derivedNames() []string {
	return []string{
		"_history", "__staging", "__commits", "_all", "_active", "_as_of", "_customers", "_active_within", "_unattended", "_reengagement",
		"_activity_daily", "_engagement_by_channel", "_stage_funnel", "_new_and_updated", "_runs",
	}
}

// derived reports, and returns whether, a table has the name of something that
// belongs to another table of the same dataset.
func (r *reader) derived(t, o table, at Pos) bool {
	suffix, of := strings.CutPrefix(t.place.path, o.place.path)
	if !of || !slices.Contains(derivedNames(), suffix) {
		return false
	}
	r.errorf(at, "give it another table or destination", "table %s of destination %s has a name that belongs to table %s in the same dataset", t.pipeline.Table, t.dest.Name, o.pipeline.Table)
	return true
}

// stateFolders are what state keeps below its path.
func stateFolders() []string {
	return []string{"state", "locks", "runs", "quarantine", "fetch", "claims", WorkFolder}
}

// WorkFolder is the folder of State.Path in which files on their way to or from
// a bucket stand.
const WorkFolder = "transfer"

// checkStateApart reports a table in a directory that state uses, or around it.
func (r *reader) checkStateApart(c *Config, t table) {
	for _, path := range []string{c.State.Path, c.State.URL} {
		if path == "" {
			continue
		}
		s := placeOf(path)
		clash := s == t.place || s.in(t.place)
		for _, own := range stateFolders() {
			clash = clash || s.below(own) == t.place || t.place.in(s.below(own))
		}
		if clash {
			r.errorf(t.pipeline.Pos("destinations"), "choose a path for state or for the destination that is apart", "table %s of destination %s and state share a directory", t.pipeline.Table, t.dest.Name)
		}
	}
}

// checkSandbox keeps generated contacts out of places that others read.
func (r *reader) checkSandbox(c *Config) {
	for _, p := range c.Pipelines {
		if p.Source == nil || !p.Source.Sandbox() {
			continue
		}
		for _, d := range p.Destinations {
			if !d.here() {
				hint := "give it a local destination, or a real source"
				if d.Type == Warehouse {
					hint = "give it a local destination, an emulator of BigQuery on this machine (endpoint and grpc_endpoint), or a real source"
				}
				r.errorf(p.Pos("destinations"), hint, "pipeline %s would write the sandbox's contacts to %s, which is not on this machine", p.Name, d.Name)
			}
		}
	}
}
