package schemas

import (
	"maps"
	"slices"
	"time"
)

// kindNames are the kinds of value as state and messages count them. An empty
// string is told apart from other strings: it says nothing of a field's type.
var kindNames = []struct {
	kind        Kinds
	name, words string
}{
	{KindString, "string", "text"},
	{KindBool, "bool", "true or false"},
	{KindInt, "int", "a whole number"},
	{KindLongInt, "long_int", "a whole number beyond 2^53"},
	{KindFloat, "float", "a fraction"},
	{KindBigNumber, "big_number", "a number that neither int64 nor float64 holds"},
	{KindNested, "nested", "an object or array"},
}

// KindEmpty is the name under which empty strings are counted.
const KindEmpty = "empty"

// Name returns the name of a single kind, as in Sighting.Values; empty for
// none and for several.
func (k Kinds) Name() string {
	for _, n := range kindNames {
		if n.kind == k {
			return n.name
		}
	}
	return ""
}

// words says in a message what a value of a single kind is.
func (k Kinds) words() string {
	for _, n := range kindNames {
		if n.kind == k {
			return n.words
		}
	}
	return "a value"
}

// Sighting is what a chunk has met of one field: how many values of each kind,
// by Kinds.Name and KindEmpty. Null and absent values are not counted; of a
// custom field that stands in several places, the value that its column takes.
type Sighting struct {
	Scope  Scope            `json:"scope"`
	Key    string           `json:"key"`
	Values map[string]int64 `json:"values"`
}

// Ref returns the field that s is about.
func (s Sighting) Ref() FieldRef { return FieldRef{s.Scope, s.Key} }

// Saw notes what a run has met: when a field was first and last seen, and how
// many values of each kind. Values are counted each time that they are read. A
// field without an entry is passed over: of those that no column was given to
// there may be any number.
func (r *Registry) Saw(sightings []Sighting, run string, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range sightings {
		e, ok := r.entries[s.Ref()]
		if !ok {
			continue
		}
		if e.FirstSeen.IsZero() || at.Before(e.FirstSeen) {
			e.FirstSeen = at.UTC()
		}
		if !at.Before(e.LastSeen) {
			e.LastSeen, e.LastRun = at.UTC(), run
		}
		// Entries have been handed out that share the map.
		seen := maps.Clone(e.Observed)
		if seen == nil {
			seen = make(map[string]int64, len(s.Values))
		}
		for kind, n := range s.Values {
			seen[kind] += n
		}
		e.Observed = seen
		r.entries[s.Ref()] = e
	}
}

// Same reports whether two entries say the same of a field's column. When and
// how often the field was seen does not count.
func (e RegistryEntry) Same(other RegistryEntry) bool {
	return e.Scope == other.Scope && e.Key == other.Key && e.Column == other.Column && e.Type == other.Type &&
		e.Misfit == other.Misfit && e.FirstRun == other.FirstRun && slices.Equal(e.Fields, other.Fields)
}
