package run

import (
	"fmt"

	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/schemas"
)

// joinEntries adds what a run has settled to what state knows by now. When and
// how often fields were seen is as state has it: what this run saw is added by
// session.saw, so that no run counts what another has counted.
func joinEntries(known, own []schemas.RegistryEntry) ([]schemas.RegistryEntry, error) {
	at := map[schemas.FieldRef]int{}
	out := append([]schemas.RegistryEntry(nil), known...)
	for i, e := range out {
		at[e.Ref()] = i
	}
	for _, e := range own {
		i, ok := at[e.Ref()]
		if !ok {
			out = append(out, seenAs(e, schemas.RegistryEntry{}))
			continue
		}
		if k := out[i]; k.Column != e.Column || k.Type != e.Type {
			return nil, fmt.Errorf("field %s is column %s (%s) there and %s (%s) here", e.Ref(), k.Column, k.Type, e.Column, e.Type)
		}
		out[i].Misfit = out[i].Misfit || e.Misfit
		out[i] = out[i].JoinFields(e)
	}
	return out, nil
}

// seenAs returns e with what of says of when and how often the field was seen.
func seenAs(e, of schemas.RegistryEntry) schemas.RegistryEntry {
	e.FirstSeen, e.LastSeen, e.LastRun, e.Observed = of.FirstSeen, of.LastSeen, of.LastRun, of.Observed
	return e
}

// saw adds what the run's parts have met to a registry that holds what other
// runs have: those of earlier processes of this run included, once each.
func (s *session) saw(reg *schemas.Registry) {
	for _, p := range s.parts {
		reg.Saw(p.Sightings, s.start.RunID, p.ReadAt)
	}
}

// leftOut returns the rules by which values were left out, that of the run's
// parts included: what is known of before does not count any more where a sync
// has read everything.
func (s *session) leftOut(known []schemas.LeftOut, sync bool) []schemas.LeftOut {
	if sync && s.start.Mode != modeIncremental {
		known = nil
	}
	lists := [][]schemas.LeftOut{known}
	for _, p := range s.parts {
		lists = append(lists, p.LeftOut)
	}
	return schemas.JoinLeftOut(lists...)
}

// leftOut returns the rules by which the run's parts have left values out.
func (l leftover) leftOut() []schemas.LeftOut {
	var lists [][]schemas.LeftOut
	for _, r := range l.records {
		if r.Part != nil {
			lists = append(lists, r.Part.LeftOut)
		}
	}
	return schemas.JoinLeftOut(lists...)
}

// letIn names the first of the rules by which values were left out that a
// contract lets in now; empty where it lets in none of them.
func letIn(left []schemas.LeftOut, c *schemas.Contract) string {
	for _, l := range left {
		if l.LetIn(c) {
			return l.String()
		}
	}
	return ""
}

// leftOut reports whether a contract has the values of a column of the tables
// left out.
func leftOut(c *schemas.Contract, old state.Column) bool {
	ref, err := schemas.ParseFieldRef(old.Source)
	return err == nil && !c.Rule(ref).Wanted
}

// otherName returns the name that a contract gives to a column of the tables;
// empty where it gives none.
func otherName(c *schemas.Contract, old state.Column) string {
	ref, err := schemas.ParseFieldRef(old.Source)
	if err != nil {
		return ""
	}
	col, _ := c.Column(ref)
	return col.Name
}
