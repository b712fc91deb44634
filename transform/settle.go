package transform

import (
	"cmp"
	"math/bits"
	"slices"

	"github.com/sluice-etl/sluice/schemas"
)

// found is a field that has values in a chunk.
type found struct {
	raw  *column // as served
	col  *column // as its policy has the values stored
	rule schemas.FieldRule
}

// settle gives every field with a value its column, and every value its place.
func (s *sealer) settle() error {
	fields := s.fields()
	if err := s.frozen(fields); err != nil {
		return err
	}
	var over []found
	for _, f := range fields {
		var seen tally
		if f.raw.decl == nil {
			seen = f.raw.tally()
		}
		e, known := s.reg.Entry(f.raw.ref)
		switch {
		case !known && s.held(f):
			over = append(over, f)
		case !known && f.rule.NewColumns == schemas.Discard:
			s.discarded[f.raw.ref.String()] += int64(f.raw.n)
			s.leftOut = append(s.leftOut, schemas.LeftOut{Rule: schemas.RuleNewColumns, Scope: f.raw.ref.Scope})
		case !known:
			var ok bool
			if e, ok = s.reg.SettleWithin(f.raw.ref, s.observed(f, seen), s.run, s.c.o.MaxColumns); !ok {
				over = append(over, f)
				break
			}
			known = true
		}
		fits := true
		if known {
			var err error
			if fits, err = s.place(f, e); err != nil {
				return err
			}
		}
		if f.raw.decl != nil && !fits {
			seen = f.raw.tally()
		}
		if f.raw.decl == nil || !fits {
			s.sightings = append(s.sightings, seen.sighting(f.raw.ref))
		}
	}
	s.overflow(over)
	slices.SortFunc(s.sightings, func(a, b schemas.Sighting) int { return a.Ref().Compare(b.Ref()) })
	return nil
}

// fields returns the fields with values: the declared ones, then the others in
// the order in which they are settled.
func (s *sealer) fields() []found {
	var declared, others []found
	for _, raw := range s.c.columns {
		if raw.misfit || raw.hidden || raw.n == 0 && (raw.bad == nil || raw.bad.n == 0) {
			continue
		}
		f := found{raw: raw, col: s.protected(raw), rule: s.c.o.Contract.Rule(raw.ref)}
		switch {
		case raw.decl != nil:
			declared = append(declared, f)
		case f.col.n > 0:
			others = append(others, f)
		}
	}
	slices.SortFunc(others, func(a, b found) int { return a.raw.ref.Compare(b.raw.ref) })
	return append(declared, others...)
}

// held reports whether a field of a frozen table stays in the overflow, which has
// had values of it: it is not new.
func (s *sealer) held(f found) bool {
	return f.rule.NewColumns == schemas.Freeze && s.reg.Held(f.raw.ref)
}

// place converts the values of a field to the type of its column. fits is
// false where some did not fit.
func (s *sealer) place(f found, e schemas.RegistryEntry) (fits bool, err error) {
	good, bad := convert(f.col, e.Type)
	if bad = mergeTexts(f.col.bad, bad); bad != nil && bad.n > 0 {
		if f.rule.TypeConflicts == schemas.Freeze {
			// Another chunk has settled the field since frozen looked.
			return false, s.conflict(f, e, bad)
		}
		if s.kept(f, bad) != nil {
			s.lanes[s.reg.Misfit(f.raw.ref, s.run)] = textLane(bad)
			s.misfits[e.Column] += int64(bad.n)
		}
		fits = false
	} else {
		fits = true
	}
	if good.n > 0 {
		s.lanes[e.Column] = good
	}
	return fits, nil
}

// kept returns the values that do not fit, where the contract has them stand
// beside the column. Where it has them left out, they are counted.
func (s *sealer) kept(f found, bad *column) *column {
	if bad == nil || bad.n == 0 || f.rule.TypeConflicts != schemas.Discard {
		return bad
	}
	s.discarded[f.raw.ref.String()] += int64(bad.n)
	s.leftOut = append(s.leftOut, schemas.LeftOut{Rule: schemas.RuleTypeConflicts, Scope: f.raw.ref.Scope, Key: f.raw.ref.Key})
	return nil
}

// frozen returns the *schemas.FreezeError of the first row, in order of
// arrival, that has a value which a frozen table has no place for. It settles
// nothing.
func (s *sealer) frozen(fields []found) error {
	var first *schemas.FreezeError
	row := int32(s.rows)
	for _, f := range fields {
		if f.rule.NewColumns != schemas.Freeze && f.rule.TypeConflicts != schemas.Freeze {
			continue
		}
		e, known := s.reg.Entry(f.raw.ref)
		if !known && f.rule.NewColumns == schemas.Freeze && !s.held(f) {
			if at := f.col.rowOf(0); at < row {
				row, first = at, s.unknown(f)
			}
			continue
		}
		if f.rule.TypeConflicts != schemas.Freeze {
			continue
		}
		bad := f.col.bad
		if known {
			_, unfit := convert(f.col, e.Type)
			bad = mergeTexts(bad, unfit)
		}
		if bad != nil && bad.n > 0 && bad.rowOf(0) < row {
			row, first = bad.rowOf(0), s.conflict(f, e, bad)
		}
	}
	if first == nil {
		return nil
	}
	return first
}

// unknown is the fault of a new field where new_columns is freeze.
func (s *sealer) unknown(f found) *schemas.FreezeError {
	kind := kindsOf(f.col.kindOf(0), f.col.text(0))
	return &schemas.FreezeError{
		Contract: s.c.o.Contract.Name, Line: f.rule.NewColumnsLine, Contact: s.contact(f.col.rowOf(0)), Field: f.raw.ref.String(),
		Column: s.reg.NextName(f.raw.ref), Got: schemas.Infer(kind), Kind: kind, New: true,
	}
}

// conflict is the fault of values that do not fit where type_conflicts is
// freeze.
func (s *sealer) conflict(f found, e schemas.RegistryEntry, bad *column) *schemas.FreezeError {
	row, kind := bad.rowOf(0), kindsOf(bad.kindOf(0), bad.text(0))
	switch {
	case e.Column != "":
	case s.held(f):
		e.Column, e.Type = schemas.ColOverflow, schemas.JSON
	default: // a new field, whose values contradict each other at once
		e.Column, e.Type = s.reg.NextName(f.raw.ref), schemas.Infer(f.col.observed())
	}
	lost := f.col.bad
	return &schemas.FreezeError{
		Contract: s.c.o.Contract.Name, Line: f.rule.TypeConflictsLine, Contact: s.contact(row), Field: f.raw.ref.String(),
		Column: e.Column, Have: e.Type, Got: schemas.Infer(kind), Kind: kind,
		Twice: !f.raw.time && lost != nil && lost.n > 0 && lost.rowOf(0) == row,
	}
}

// contact returns the id of a row: every kept row has one.
func (s *sealer) contact(row int32) string { return string(s.c.id.text(int(row))) }

// observed returns the kinds of the values that are stored.
func (s *sealer) observed(f found, seen tally) schemas.Kinds {
	if f.col != f.raw {
		return f.col.observed()
	}
	return seen.kinds()
}

// tally counts the values of a column by the bit of their kind (0 is that of
// strings), and empty strings at the end.
type tally [9]int64

const emptyStrings = 8

// kinds returns the kinds that occur.
func (t tally) kinds() schemas.Kinds {
	var k schemas.Kinds
	for i, n := range t[:emptyStrings] {
		if n > 0 {
			k |= 1 << i
		}
	}
	if t[emptyStrings] > 0 {
		k |= schemas.KindString
	}
	return k
}

// sighting returns the counts by name.
func (t tally) sighting(ref schemas.FieldRef) schemas.Sighting {
	out := schemas.Sighting{Scope: ref.Scope, Key: ref.Key, Values: map[string]int64{}}
	for i, n := range t {
		if n > 0 {
			out.Values[cmp.Or(schemas.Kinds(1<<i).Name(), schemas.KindEmpty)] = n
		}
	}
	return out
}

// tally counts the values of c, those that a declared timestamp set aside at
// once included.
func (c *column) tally() tally {
	var t tally
	if c.time {
		t.add(schemas.KindString, int64(c.n))
		if c.bad != nil {
			bad := c.bad.tally()
			for i, n := range bad {
				t[i] += n
			}
		}
		return t
	}
	if !c.mixed && c.kind != kindString && c.kind != kindNumber {
		t.add(kindsOf(c.kind, nil), int64(c.n))
		return t
	}
	for i := range c.n {
		if kind := c.kindOf(i); kind != kindString {
			t.add(kindsOf(kind, c.text(i)), 1)
			continue
		}
		if c.ends[i] == c.ends[i+1] {
			t[emptyStrings]++
			continue
		}
		t[0]++
	}
	return t
}

// add counts n values of a single kind.
func (t *tally) add(kind schemas.Kinds, n int64) { t[bits.TrailingZeros16(uint16(kind))] += n }
