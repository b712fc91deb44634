package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/schemas"
)

// narrowing is a filter that the source applies, tried against contacts whose
// values are known from the first page.
type narrowing struct {
	params   url.Values
	has      func(row) bool
	who      string // "whose ticket is in the stage"
	outsider string // "in another stage or in none"
	ours     string // what to do in its place
}

// snapshotOnly says who leaves a filter to the source.
const snapshotOnly = "sync: snapshot leaves this filter to the source, and would be wrong here. "

// narrow asks with the filter and compares. A page is enough: what matters is
// who is missing and who should not be there.
func (e *exam) narrow(ctx context.Context, n narrowing) (finding, error) {
	name := firstParam(n.params)
	p, err := e.ask(ctx, extract.Query{UpdatedAfter: at(0), Limit: e.limit, Extra: n.params})
	if words, bad := refused(err); bad {
		return finding{Note, name + " is refused" + quote(words) + ".", snapshotOnly + n.ours}, nil
	}
	if err != nil {
		return finding{}, err
	}
	expected, missing, wrong := 0, 0, 0
	ids, covers := p.ids(), e.covers(p, byUpdated())
	for _, r := range e.first.rows {
		if n.has(r) && covers(r) {
			expected++
			if _, there := ids[r.id]; !there {
				missing++
			}
		}
	}
	for _, r := range p.rows {
		if !n.has(r) {
			wrong++
		}
	}
	switch {
	case wrong > 0:
		return finding{Note, fmt.Sprintf("Of %s that the filter brings, %d are %s.", contacts(len(p.rows)), wrong, n.outsider), snapshotOnly + n.ours}, nil
	case missing > expected/fewMissing:
		return finding{Note, fmt.Sprintf("The filter misses %d of %s %s.", missing, contacts(expected), n.who), snapshotOnly + n.ours}, nil
	default:
		return finding{OK, fmt.Sprintf("The filter brings all of %s %s, and no others.", contacts(expected), n.who), "sync: snapshot may leave it to the source."}, nil
	}
}

// firstParam names the parameter that a refusal is about.
func firstParam(v url.Values) string {
	for _, name := range []string{"stage_id", "pipeline_id", paramFieldKey} {
		if v.Has(name) {
			return name
		}
	}
	return "the filter"
}

// most returns the key with the largest count, the least of those, false of
// none.
func most[K comparable](counts map[K]int, less func(a, b K) bool) (best K, some bool) {
	for k, n := range counts {
		if m := counts[best]; !some || n > m || n == m && less(k, best) {
			best, some = k, true
		}
	}
	return best, some
}

func lessText(a, b string) bool { return a < b }

// checkStage asks by the stage that most contacts of the first page are in.
// Public clients met a filter that misses contacts whose stage stands in their
// ticket alone (CONTACTS_API.md, point 6).
func (e *exam) checkStage(ctx context.Context) (finding, error) {
	counts := map[string]int{}
	for _, r := range e.first.rows {
		if r.stage != "" {
			counts[r.stage]++
		}
	}
	stage, some := most(counts, lessText)
	if !some {
		return unknown("No contact on the first page has a ticket in a stage."), nil
	}
	return e.narrow(ctx, narrowing{
		params: with("stage_id", stage), has: func(r row) bool { return r.stage == stage },
		who: "whose ticket is in the stage", outsider: "in another stage or in none",
		ours: "sync: incremental and recent apply filters.stage_id on our side; SQL over the column active_ticket_v2_current_stage_id does, too.",
	})
}

// checkPipelines reads the list of pipelines, which a filter by pipeline on our
// side looks stages up in.
func (e *exam) checkPipelines(ctx context.Context) (finding, error) {
	var list []extract.Pipeline
	err := e.lookUp(ctx, func(c *extract.Client) (err error) {
		list, err = c.Pipelines(ctx)
		return err
	})
	const snapshot = "filters.pipeline_id works with sync: snapshot alone, where the source filters; sync: incremental and recent need this list. Name the stages with filters.stage_id in its place."
	if f, is := denied(err, "The list of pipelines (/api/public/pipeline)", snapshot); is {
		return f, nil
	}
	if err != nil {
		return finding{}, err
	}
	e.pipelines = list
	stages := map[string]bool{}
	for _, p := range list {
		for _, s := range p.Stages {
			stages[s.ID] = true
		}
	}
	found := fmt.Sprintf("%s with %s.", plural(len(list), "pipeline", "pipelines"), plural(len(stages), "stage", "stages"))
	placed, lost := 0, 0
	for _, r := range e.known {
		switch {
		case r.stage == "":
		case stages[r.stage]:
			placed++
		default:
			lost++
		}
	}
	switch {
	case lost > 0:
		return finding{
			Note, fmt.Sprintf("%s %d of %s whose ticket is in a stage are in one that no pipeline lists.", found, lost, contacts(placed+lost)),
			"filters.pipeline_id on our side keeps none of these: name their stages with filters.stage_id.",
		}, nil
	case len(list) == 0:
		return finding{Note, found, "filters.pipeline_id has nothing to name."}, nil
	case placed > 0:
		found += fmt.Sprintf(" They have every stage that %s were seen in.", contacts(placed))
	}
	return finding{OK, found, "filters.pipeline_id can be applied on our side."}, nil
}

// checkPipelineFilter asks by the pipeline that most contacts of the first page
// are in.
func (e *exam) checkPipelineFilter(ctx context.Context) (finding, error) {
	pipelines := map[string]string{} // by stage
	for _, p := range e.pipelines {
		for _, s := range p.Stages {
			pipelines[s.ID] = p.ID
		}
	}
	counts := map[string]int{}
	for _, r := range e.first.rows {
		if id := pipelines[r.stage]; id != "" {
			counts[id]++
		}
	}
	pipeline, some := most(counts, lessText)
	if !some {
		return unknown("No contact on the first page has a ticket in a stage of a pipeline that is listed."), nil
	}
	return e.narrow(ctx, narrowing{
		params: with("pipeline_id", pipeline), has: func(r row) bool { return pipelines[r.stage] == pipeline },
		who: "whose ticket is in a stage of the pipeline", outsider: "in a stage of another pipeline or in none",
		ours: "sync: incremental and recent apply filters.pipeline_id on our side.",
	})
}

// Parameters of the filter by custom field.
const (
	paramFieldKey   = "custom_field_key"
	paramFieldValue = "custom_field_value"
	paramEntity     = "entity_type"
	entityCustomer  = "customer"
	entityTicket    = "ticket"
)

// fieldName is a custom field of an entity.
type fieldName struct{ entity, key string }

// customOf reads the texts that a contact's custom fields have, in all places.
func customOf(fields map[string]json.RawMessage) map[fieldName][]string {
	out := map[fieldName][]string{}
	add := func(entity string, fields map[string]json.RawMessage) {
		for _, place := range customPlaces() {
			for _, pair := range customPairs(fields[place]) {
				if s, ok := plainText(pair.Value); ok {
					name := fieldName{entity, pair.Key}
					out[name] = append(out[name], s)
				}
			}
		}
	}
	add(entityCustomer, fields)
	var ticket map[string]json.RawMessage
	if json.Unmarshal(fields["active_ticket_v2"], &ticket) == nil {
		add(entityTicket, ticket)
	}
	return out
}

type customPair struct {
	Key   string          `json:"key"`
	Value json.RawMessage `json:"value"`
}

// customPairs reads an object of custom fields, or a list of them.
func customPairs(raw json.RawMessage) []customPair {
	var object map[string]json.RawMessage
	var pairs []customPair
	if json.Unmarshal(raw, &object) == nil {
		for k, v := range object {
			pairs = append(pairs, customPair{k, v})
		}
		return pairs
	}
	if json.Unmarshal(raw, &pairs) != nil {
		return nil
	}
	return pairs
}

// plainText is what a filter compares: the content of a string, a number or
// boolean as it is printed.
func plainText(raw json.RawMessage) (string, bool) {
	if len(raw) == 0 || strings.ContainsRune("{[n", rune(raw[0])) {
		return "", false
	}
	if s, ok := text(raw); ok {
		return s, s != ""
	}
	return string(raw), true
}

// hasField reports whether a contact has the text in a field of that name, in
// whatever spelling gives the same column.
func (r row) hasField(name fieldName, value string) bool {
	if slices.Contains(r.custom[name], value) {
		return true
	}
	column := columnOf(name)
	for other, values := range r.custom {
		if other.entity == name.entity && slices.Contains(values, value) && columnOf(other) == column {
			return true
		}
	}
	return false
}

func columnOf(name fieldName) string {
	return schemas.FieldRef{Scope: schemas.ScopeCFCustomer, Key: name.key}.ColumnName()
}

// fieldValue is a value that contacts have in a custom field.
type fieldValue struct {
	fieldName
	value string
}

// frequent chooses the value to ask by: one that as many contacts as possible
// of the first page have, and as many do not. Only those count that have it in
// every place that has the field.
func (e *exam) frequent() (fieldValue, bool) {
	counts := map[fieldValue]int{}
	for _, r := range e.first.rows {
		for name, values := range r.custom {
			if !slices.ContainsFunc(values, func(v string) bool { return v != values[0] }) {
				counts[fieldValue{name, values[0]}]++
			}
		}
	}
	for v, n := range counts {
		if counts[v] = min(n, len(e.first.rows)-n); n < 2 {
			delete(counts, v)
		}
	}
	return most(counts, func(a, b fieldValue) bool {
		return a.entity+a.key+a.value < b.entity+b.key+b.value
	})
}

// checkFieldFilter asks by a custom field. The value asked for may be personal:
// nothing that the endpoint or the client say of it is passed on.
func (e *exam) checkFieldFilter(ctx context.Context) (finding, error) {
	v, some := e.frequent()
	if !some {
		return unknown("No two contacts on the first page share a value of a custom field to ask by."), nil
	}
	f, err := e.narrowByField(ctx, v)
	switch {
	case errors.Is(err, errBudget) || ctx.Err() != nil:
		return finding{}, err
	case err != nil:
		f = unseen(err)
	}
	for _, s := range []string{v.value, url.QueryEscape(v.value)} {
		if len(s) >= shortestValue {
			f.found = strings.ReplaceAll(f.found, s, "...")
		}
	}
	return f, nil
}

// shortestValue is how long a value must be to be searched for: a shorter one
// says nothing of anybody.
const shortestValue = 4

// narrowByField asks by a custom field, then by the same one of the other
// entity, which must not bring the contacts that have it in this one.
func (e *exam) narrowByField(ctx context.Context, v fieldValue) (finding, error) {
	ask := func(entity string) url.Values {
		return url.Values{paramFieldKey: {v.key}, paramFieldValue: {v.value}, paramEntity: {entity}}
	}
	const ours = "sync: incremental and recent filter by custom field on our side."
	f, err := e.narrow(ctx, narrowing{
		params: ask(v.entity), has: func(r row) bool { return r.hasField(v.fieldName, v.value) },
		who:      fmt.Sprintf("that have one value of %q (entity_type %s)", v.key, v.entity),
		outsider: fmt.Sprintf("without that value of %q (entity_type %s)", v.key, v.entity), ours: ours,
	})
	if err != nil || f.status != OK {
		return f, err
	}
	other := fieldName{entityTicket, v.key}
	if v.entity == entityTicket {
		other.entity = entityCustomer
	}
	p, err := e.ask(ctx, extract.Query{UpdatedAfter: at(0), Limit: e.limit, Extra: ask(other.entity)})
	if words, bad := refused(err); bad {
		return finding{Note, f.found + fmt.Sprintf(" entity_type=%s is refused%s.", other.entity, quote(words)), "Leave entity_type out with sync: snapshot. " + ours}, nil
	}
	if err != nil {
		return finding{}, err
	}
	wrong := 0
	for _, r := range p.rows {
		if !r.hasField(other, v.value) {
			wrong++
		}
	}
	if wrong > 0 {
		return finding{
			Note, f.found + fmt.Sprintf(" entity_type is not kept: with %s, %d of %s have that value elsewhere.", other.entity, wrong, contacts(len(p.rows))),
			"With sync: snapshot entity_type has no effect. " + ours,
		}, nil
	}
	return f, nil
}
