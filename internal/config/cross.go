package config

import (
	"path/filepath"
	"strings"
)

// table is what one pipeline writes in one destination.
type table struct {
	dir      string
	pipeline *Pipeline
	dest     *Destination
}

// checkTables reports tables that two pipelines would write, also through two
// destinations that share a directory, or that lie in each other or in state.
func (r *reader) checkTables(c *Config) {
	var tables []table
	for _, p := range c.Pipelines {
		for _, d := range p.Destinations {
			if p.Table == "" || d.Path == "" {
				continue
			}
			t := table{filepath.Join(d.Path, p.Table), p, d}
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
			if c.State.Path != "" {
				r.checkStateApart(c, t.dir, p, d)
			}
		}
	}
}

// clash reports, and returns whether, two tables share a directory.
func (r *reader) clash(o, t table, at Pos) bool {
	switch {
	case o.dir == t.dir && o.pipeline == t.pipeline:
		r.errorf(t.pipeline.Pos("destinations"), "keep one of them", "destinations %s and %s are the same directory", o.dest.Name, t.dest.Name)
	case o.dir == t.dir:
		r.errorf(at, "give one of them another table or destination", "pipelines %s (line %d) and %s both write table %s of destination %s", o.pipeline.Name, o.pipeline.At.Line, t.pipeline.Name, t.pipeline.Table, t.dest.Name)
	case inside(o.dir, t.dir) || inside(t.dir, o.dir):
		r.errorf(at, "choose paths that are apart", "table %s of destination %s (line %d) and table %s of destination %s lie in each other", o.pipeline.Table, o.dest.Name, o.pipeline.At.Line, t.pipeline.Table, t.dest.Name)
	default:
		return false
	}
	return true
}

// checkStateApart reports a table in a directory that state uses, or around it.
func (r *reader) checkStateApart(c *Config, dir string, p *Pipeline, d *Destination) {
	clash := inside(c.State.Path, dir) || c.State.Path == dir
	for _, own := range []string{"state", "locks", "runs"} {
		s := filepath.Join(c.State.Path, own)
		clash = clash || s == dir || inside(dir, s)
	}
	if clash {
		r.errorf(p.Pos("destinations"), "choose a path for state or for the destination that is apart", "table %s of destination %s and state share a directory", p.Table, d.Name)
	}
}

// inside reports whether path lies below dir.
func inside(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != "." && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// checkSandbox keeps generated contacts out of places that others read.
func (r *reader) checkSandbox(c *Config) {
	for _, p := range c.Pipelines {
		if p.Source == nil || !p.Source.Sandbox() {
			continue
		}
		for _, d := range p.Destinations {
			if d.Type != "" && !d.local() {
				r.errorf(p.Pos("destinations"), "give it a local destination, or a real source", "pipeline %s would write the sandbox's contacts to %s, which is not on this machine", p.Name, d.Name)
			}
		}
	}
}

// local reports whether a destination is on this machine.
func (d *Destination) local() bool {
	return (d.Type == "parquet" || d.Type == "duckdb") && !strings.Contains(d.path, "://")
}
