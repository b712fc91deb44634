package crashtest

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/sluice-etl/sluice/schemas"
)

// Stored returns what is stored of a contact by the rules, field by field: what
// is left out is not there, and the rest is as its policy has it.
func (r Rules) Stored(contact []byte) (*Fields, error) {
	all, err := TakeApart(contact)
	if err != nil {
		return nil, err
	}
	out := &Fields{Values: map[string]Value{}, Lost: map[string][]Value{}}
	for field, v := range all.Values {
		if !r.Wanted(field) {
			continue
		}
		policy, normal := r.policy(field)
		out.Values[field] = r.protect(v, policy, normal)
		if lost := all.Lost[field]; len(lost) == 1 {
			out.Lost[field] = []Value{r.protect(lost[0], policy, normal)}
		} else if len(lost) > 1 { // which share a cell, and so a hash
			out.Lost[field] = []Value{r.protect(Value{'"', lines(lost)}, policy, normal)}
		}
	}
	return out, nil
}

// policy returns what is stored of a field. A place of custom fields that is
// kept as a whole shows no more than any field in it may.
func (r Rules) policy(field string) (policy, normal string) {
	d, declared := r.Declaration(field)
	if declared {
		return d.Policy, d.Normal
	}
	policy = r.fate(field).Policy
	scope, key, _ := strings.Cut(field, ":")
	entity := map[string]string{"contact": "cf_customer", "ticket": "cf_ticket"}[scope]
	if entity == "" || !slices.Contains(places(), key) {
		return policy, ""
	}
	inside := []string{r.fate(entity + ":").Policy}
	for _, d := range r.Columns {
		if strings.HasPrefix(d.Field, entity+":") {
			inside = append(inside, d.Policy)
		}
	}
	switch {
	case slices.Contains(inside, "mask"), slices.Contains(inside, "drop"), policy == "mask":
		return "mask", ""
	case slices.Contains(inside, "hash"):
		return "hash", ""
	}
	return policy, ""
}

// Compare says in which cells a row differs from what the rules make of a
// contact, given the columns that the table has: every value stands in its
// column, in the text beside it or among the fields without a column, and
// nothing else stands in the row.
func (r Rules) Compare(table schemas.Table, contact []byte, row map[string]any) (faults []string) {
	stored, err := r.Stored(contact)
	if err != nil {
		return []string{err.Error()}
	}
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Sprintf("contact %s, ", stored.Values["contact:id"].Text)+fmt.Sprintf(format, args...))
	}
	columns, beside := map[string]schemas.Column{}, map[string]string{}
	for _, c := range table.Columns {
		switch c.Origin {
		case schemas.FromContract, schemas.Discovered:
			columns[c.Source] = c
		case schemas.MisfitText:
			beside[c.Source] = c.Name
		case schemas.SystemDefined:
		}
	}
	want, over := map[string]any{}, map[string]Value{}
	for _, field := range sorted(stored.Values) {
		p := r.put(columns, field, stored)
		switch {
		case p.nowhere && !p.discard:
			over[field] = stored.Values[field]
			if p.text != nil {
				over[field+"__text"] = Value{'"', *p.text}
			}
			continue
		case p.nowhere:
			continue
		}
		if p.value != nil {
			want[columns[field].Name] = p.value
		}
		if p.text != nil {
			name := columns[field].Name + "__text"
			if beside[field] != name {
				fault("%s has a value that does not fit column %s, and the table no column %s", field, columns[field].Name, name)
			}
			want[name] = *p.text
		}
	}
	for _, c := range table.Columns {
		if c.Origin == schemas.SystemDefined || c.Name == schemas.ColOverflow {
			continue
		}
		if got := row[c.Name]; !sameCell(c.Type, got, want[c.Name]) {
			fault("column %s (%s of %s): found %#v, want %#v", c.Name, c.Type, c.Source, got, want[c.Name])
		}
	}
	for _, problem := range compareOver(row[schemas.ColOverflow], over) {
		fault("%s", problem)
	}
	return faults
}

// place is where a value belongs.
type place struct {
	nowhere bool // the field has no column
	discard bool // and is left out
	value   any  // nil: it does not fit
	text    *string
}

func (r Rules) put(columns map[string]schemas.Column, field string, stored *Fields) place {
	d, declared := r.Declaration(field)
	fate := r.fate(field)
	discard := declared && d.Discard || !declared && fate.DiscardMisfits
	beside := slices.Clone(stored.Lost[field])
	c, there := columns[field]
	p := place{nowhere: !there, discard: fate.DiscardNew}
	if there {
		value, fits := FitsType(c.Type, stored.Values[field], declared)
		if p.value = value; !fits {
			p.value, beside = nil, append(beside, stored.Values[field])
		}
	}
	if len(beside) > 0 && !discard {
		text := lines(beside)
		p.text = &text
	}
	return p
}

// sameCell compares a cell as DuckDB gives it with one that FitsType gave.
func sameCell(typ schemas.Type, got, want any) bool {
	if got == nil || want == nil {
		return got == want
	}
	if at, ok := got.(time.Time); ok {
		if typ == schemas.Date {
			return at.UTC().Format(time.DateOnly) == want
		}
		return at.UnixMicro() == want
	}
	if v, ok := want.(Value); ok {
		text, _ := got.(string)
		return sameJSON(text, v)
	}
	if f, ok := want.(float64); ok {
		g, ok := got.(float64)
		return ok && math.Float64bits(f) == math.Float64bits(g)
	}
	return got == want
}

func sameJSON(text string, v Value) bool {
	if v.Kind != '"' {
		return text == v.Text
	}
	var content string
	return strings.HasPrefix(text, `"`) && json.Unmarshal([]byte(text), &content) == nil && content == v.Text
}

// compareOver compares the object of fields without a column.
func compareOver(got any, want map[string]Value) (faults []string) {
	text, ok := got.(string)
	if !ok && len(want) == 0 && got == nil {
		return nil
	}
	found := map[string]json.RawMessage{}
	if err := json.Unmarshal([]byte(text), &found); err != nil {
		return []string{fmt.Sprintf("%s is %v, and %v have no column", schemas.ColOverflow, got, sorted(want))}
	}
	for _, field := range sorted(want) {
		if raw, there := found[field]; !there || !sameJSON(string(raw), want[field]) {
			faults = append(faults, fmt.Sprintf("%s has %s for %s, want %q", schemas.ColOverflow, raw, field, want[field].Text))
		}
	}
	for _, field := range sorted(found) {
		if _, wanted := want[field]; !wanted {
			faults = append(faults, fmt.Sprintf("%s has %s, which has a column or is to be left out", schemas.ColOverflow, field))
		}
	}
	return faults
}
