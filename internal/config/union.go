package config

import (
	"regexp"
	"slices"
	"strings"
)

// union is what is known of the view over all accounts of one pipeline.
type union struct {
	base      string
	pipelines []*Pipeline
	at        Pos
	off       bool
	faulty    bool
	given     string // by the file; empty where it leaves it out
	// bare is the table's name without the account, which may be none.
	bare string
}

var underscores = regexp.MustCompile(`__+`)

// tableName reads the table of a pipeline. The default is one for each account.
func (r *reader) tableName(f fields, p *Pipeline) {
	if f.has("table") || p.Account == "" {
		p.Table, _ = f.name("table")
		return
	}
	if p.Table = firstTable + "_" + underscored(p.Account); !validName(p.Table) {
		r.errorf(p.At, "give it a table, as in table: c_${each.key}; "+nameHint, "the table of account %s would be %s, which is not a name", p.Account, quote(p.Table))
		p.Table = ""
	}
}

// noteUnion gathers what one instance says of the view over all accounts.
func (r *reader) noteUnion(f fields, p *Pipeline) {
	const key = "union_view"
	if p.Account == "" {
		if f.has(key) && !f.dropInherited(key) && (f.vals[key].each == nil || !f.vals[key].each.unknown) {
			r.errorf(f.keyPos[key], "leave it out, or give the pipeline for_each", "union_view needs for_each")
		}
		return
	}
	i := slices.IndexFunc(r.unions, func(u *union) bool { return u.base == p.Base })
	if i < 0 {
		u := &union{base: p.Base, at: f.pos(key)}
		if !f.has(key) {
			u.bare = r.bareTable(f)
		}
		i, r.unions = len(r.unions), append(r.unions, u)
	}
	u := r.unions[i]
	if f.has(key) {
		name, ok := f.name(key)
		u.faulty = u.faulty || !ok
		if ok && len(u.pipelines) > 0 && name != u.given {
			r.errorf(u.at, "leave the account out of it", "union_view: it is one view over all accounts, and cannot be another for each")
			u.faulty = true
		}
		u.given, u.off = name, name == stagesOff
	}
	u.pipelines = append(u.pipelines, p)
}

// bareTable is the name of a pipeline's table without what is the account's.
func (r *reader) bareTable(f fields) string {
	v := f.vals["table"]
	if v == nil || v.kind != textKind {
		return firstTable
	}
	text, _, ok := r.interpolate(v.in(&account{blank: true}), f.key("table"))
	if !ok {
		return ""
	}
	return strings.Trim(underscores.ReplaceAllString(text, "_"), "_")
}

// unionViews settles what the views over all accounts are called.
func (r *reader) unionViews(c *Config) {
	for i, u := range r.unions {
		if u.off || u.faulty {
			continue
		}
		name := u.given
		if name != "" {
			if why := r.taken(c, r.unions[:i], u, name); why != "" {
				r.errorf(u.at, "give it another name, or write union_view: off", "union_view: %s", why)
			}
		} else if name = u.bare; !validName(name) || hasTable(c, name) || r.taken(c, r.unions[:i], u, name) != "" {
			name = u.base + "_all"
			if why := r.taken(c, r.unions[:i], u, name); why != "" || !validName(name) {
				r.errorf(u.at, "add union_view: NAME, or union_view: off", "pipeline %s has no name for the view over its accounts", u.base)
			}
		}
		for _, p := range u.pipelines {
			p.UnionView = name
		}
	}
}

// hasTable reports whether any pipeline writes a table of the name.
func hasTable(c *Config, name string) bool {
	return slices.ContainsFunc(c.Pipelines, func(p *Pipeline) bool { return p.Table == name })
}

// taken says what has a name already where the view would stand, "" if nothing.
func (r *reader) taken(c *Config, earlier []*union, u *union, name string) string {
	for _, d := range u.pipelines[0].Destinations {
		at := placeOfTable(d, name)
		if p := owner(c, at, name); p != nil {
			return name + " is a name that belongs to table " + p.Table + " of destination " + d.Name
		}
		for _, p := range c.Pipelines {
			for _, o := range p.Destinations {
				if p.StagesTable == name && placeOfTable(o, name) == at {
					return name + " is the table of stages in destination " + d.Name
				}
			}
		}
		for _, o := range earlier {
			for _, other := range o.pipelines[0].Destinations {
				if o.pipelines[0].UnionView == name && placeOfTable(other, name) == at {
					return name + " is the view of pipeline " + o.base + " in destination " + d.Name
				}
			}
		}
	}
	return ""
}

// owner returns the pipeline whose table, or what belongs to it, has a name at
// a place, nil if there is none.
func owner(c *Config, at place, name string) *Pipeline {
	for _, p := range c.Pipelines {
		for _, d := range p.Destinations {
			if p.Table != "" && placeOfTable(d, name) == at && takes(d, p.Table, name) {
				return p
			}
		}
	}
	return nil
}
