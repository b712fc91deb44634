// Package plan says what has to change for destinations to be as the
// configuration asks for them, and what the next syncs would read. It is pure:
// it looks at nothing itself.
package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/internal/state"
)

// Action is what is done to a resource.
type Action string

// The actions.
const (
	NoChange Action = "no-op"
	Create   Action = "create"
	// Update changes a resource where it is.
	Update Action = "update"
	// Replace makes a resource anew, because it cannot be changed where it is.
	Replace Action = "replace"
	// Forget leaves a resource as it is, and looks after it no more.
	Forget Action = "forget"
	// Destroy removes a resource for good.
	Destroy Action = "destroy"
	// Blocked is a resource that is not as it is asked for, and that nothing here
	// makes so: somebody has to clear the way first.
	Blocked Action = "blocked"
)

// Additive reports whether a run may do it unasked.
func (a Action) Additive() bool { return a == Create || a == Update || a == NoChange }

// The kinds of resources, as package load has them, and a pipeline.
const (
	KindDataset  = state.KindDataset
	KindTable    = state.KindTable
	KindView     = state.KindView
	KindPipeline = state.KindPipeline
)

// rank is the order in which kinds depend on each other.
func rank(kind string) int {
	return slices.Index([]string{KindDataset, KindTable, KindView, KindPipeline}, kind)
}

// Setting is what one attribute of a resource is, or is to be.
type Setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	// Forces says, of what is wanted, that it cannot change in place.
	Forces bool `json:"-"`
	// Sensitive says, of what is wanted, that nobody is to read the value.
	Sensitive bool `json:"-"`
	// Usual says, of what is wanted, that it is listed only where something else has
	// changed it.
	Usual bool `json:"-"`
}

// Sensitive stands in a plan where a value is nobody's affair.
const Sensitive = "(sensitive)"

// Resource is a thing that the configuration asks for, that stands somewhere,
// or that was applied before; or several of these.
type Resource struct {
	Address string
	Kind    string
	// Pipeline and Destination are the names of those it belongs to, Destination
	// empty for a pipeline, Pipeline empty for what several share.
	Pipeline, Destination string
	// Want is what is asked for, Have what stands there, Applied what stood there
	// when it was last applied; nil for nothing. Names are unique in each.
	Want, Have, Applied []Setting
	// Unseen says that nobody looked at what stands there: what was applied is
	// taken for it.
	Unseen bool
	// With are the addresses of the tables that it is removed with, and only with:
	// a view goes with its table, the stages with the last table that uses them.
	// nil for what goes by itself.
	With []string
	// Blocked says that what is asked for cannot be made of what is there: Effects
	// say why, and what helps.
	Blocked bool
	// Keeps says that it holds data which the configuration protects.
	Keeps bool
	// Holds says in words what data it holds; empty for none, or where unknown.
	Holds string
	// Effects say what making, changing or replacing it does and costs.
	Effects []string
}

// Change is what becomes of one resource.
type Change struct {
	Address     string `json:"address"`
	Kind        string `json:"kind"`
	Pipeline    string `json:"pipeline,omitempty"`
	Destination string `json:"destination,omitempty"`
	Action      Action `json:"action"`
	// Attributes are those that change, or would: all, where it is made or removed.
	Attributes []Attribute `json:"attributes,omitempty"`
	// Same is how many attributes stay as they are.
	Same int `json:"same,omitempty"`
	// Holds says in words what data it holds.
	Holds string `json:"holds,omitempty"`
	// Effects say in plain words what the change does and costs, one a line.
	Effects []string `json:"effects,omitempty"`
}

// Attribute is a setting of a resource that changes; a nil From or To is none.
type Attribute struct {
	Name string  `json:"name"`
	From *string `json:"from"`
	To   *string `json:"to"`
	// Forces says that the setting cannot change in place.
	Forces bool `json:"forces_replacement,omitempty"`
}

// Drift is what was changed at a destination by something else since it was
// last applied there, or stands there beside what Sluice made.
type Drift struct {
	Address string `json:"address"`
	// Gone says that the whole resource is no longer there.
	Gone       bool        `json:"gone,omitempty"`
	Attributes []Attribute `json:"attributes,omitempty"`
}

// Plan is what would be done.
type Plan struct {
	Changes []Change // in the order of their addresses, those without a change left out
	Drift   []Drift  // likewise
	Syncs   []Sync   // in the order of the file
	Same    int      // resources without a change
}

// Input is what a plan is made from.
type Input struct {
	Resources []Resource
	Syncs     []Sync
	// Destroy plans the removal of everything.
	Destroy bool
	// Targets are addresses, or beginnings of them, to which the plan is limited;
	// none: all.
	Targets []string
}

// New makes a plan. Two resources of one address are an error: nobody could say
// which comes first. So are a target that names nothing (*TargetError) or, of a
// removal, what does not go by itself (*PartError), and the removal of data that
// is protected (*ProtectedError).
func New(in Input) (Plan, error) {
	chosen, err := targeted(in)
	if err != nil {
		return Plan{}, err
	}
	slices.SortStableFunc(chosen, func(a, b Resource) int { return cmp.Compare(a.Address, b.Address) })
	var p Plan
	var kept []Resource
	for i, r := range chosen {
		if i > 0 && r.Address == chosen[i-1].Address {
			return Plan{}, fmt.Errorf("plan changes: %s would change twice", r.Address)
		}
		if r.Unseen {
			r.Have = r.Applied
		}
		c := change(r, in.Destroy)
		if c.Action == Destroy && r.Keeps {
			kept = append(kept, r)
		}
		if d, moved := drift(r); moved {
			mask(d.Attributes, r.Want)
			p.Drift = append(p.Drift, d)
		}
		mask(c.Attributes, r.Want)
		switch {
		case c.Action != NoChange:
			p.Changes = append(p.Changes, c)
		case r.Have != nil:
			p.Same++
		}
	}
	if len(kept) > 0 {
		return Plan{}, &ProtectedError{Resources: kept}
	}
	if !in.Destroy {
		p.Syncs = syncs(in)
	}
	return p, nil
}

// change decides what becomes of a resource.
func change(r Resource, destroy bool) Change {
	c := Change{
		Address: r.Address, Kind: r.Kind, Pipeline: r.Pipeline, Destination: r.Destination,
		Action: NoChange, Holds: r.Holds, Effects: r.Effects,
	}
	switch {
	case destroy || r.Want == nil:
		c.Action = removal(r, destroy)
		if c.Action != Forget {
			c.Effects = nil
		}
		if c.Action == Destroy {
			c.Attributes = attributes(r.Have, nil)
		}
	case r.Have == nil:
		c.Action, c.Attributes = Create, attributes(nil, r.Want)
		if r.Blocked {
			c.Action = Blocked
		}
	default:
		c.Attributes = differing(r.Have, r.Want)
		c.Same = len(r.Want) - len(c.Attributes)
		switch {
		case r.Blocked:
			c.Action = Blocked
		case len(c.Attributes) == 0:
		case slices.ContainsFunc(c.Attributes, func(a Attribute) bool { return a.Forces }):
			c.Action = Replace
		default:
			c.Action = Update
		}
	}
	return c
}

// removal decides between forgetting and destroying what nothing asks for, or
// what is to be destroyed.
func removal(r Resource, destroy bool) Action {
	switch {
	case r.Applied == nil && (r.Have == nil || r.Kind == KindDataset): // which stays, and nobody remembers it
		return NoChange
	case r.Have == nil:
		return Forget
	case r.Kind == KindView: // it holds nothing
		return Destroy
	case r.Kind == KindDataset || !destroy: // data is removed by nobody who was not told to
		return Forget
	default:
		return Destroy
	}
}

// attributes are those of a resource that is made or removed.
func attributes(from, to []Setting) []Attribute {
	var out []Attribute
	for _, s := range from {
		out = append(out, Attribute{Name: s.Name, From: &s.Value})
	}
	for _, s := range to {
		out = append(out, Attribute{Name: s.Name, To: &s.Value})
	}
	return out
}

// value looks a setting up.
func value(list []Setting, name string) *string {
	for _, s := range list {
		if s.Name == name {
			return &s.Value
		}
	}
	return nil
}

// differing returns what of want is not as it stands there. What stands there
// beside it is somebody else's.
func differing(have, want []Setting) []Attribute {
	var out []Attribute
	for _, w := range want {
		if h := value(have, w.Name); h == nil || *h != w.Value {
			out = append(out, Attribute{Name: w.Name, From: h, To: &w.Value, Forces: w.Forces && h != nil})
		}
	}
	return out
}

// mask hides the values of attributes that are sensitive.
func mask(list []Attribute, want []Setting) {
	for i, a := range list {
		if !slices.ContainsFunc(want, func(s Setting) bool { return s.Name == a.Name && s.Sensitive }) {
			continue
		}
		if a.From != nil {
			list[i].From = new(Sensitive)
		}
		if a.To != nil {
			list[i].To = new(Sensitive)
		}
	}
}

// drift returns how a resource differs from what was applied last, and what is
// somebody else's there.
func drift(r Resource) (Drift, bool) {
	d := Drift{Address: r.Address}
	if r.Unseen {
		return d, false
	}
	if r.Have == nil {
		d.Gone = r.Applied != nil && r.Want != nil
		return d, d.Gone
	}
	for _, a := range r.Applied {
		h, w := value(r.Have, a.Name), value(r.Want, a.Name)
		// What is as it is asked for by now is nobody's worry.
		if asked := h != nil && w != nil && *h == *w; !asked && (h == nil || *h != a.Value) {
			d.Attributes = append(d.Attributes, Attribute{Name: a.Name, From: &a.Value, To: h})
		}
	}
	for _, h := range r.Have {
		i := slices.IndexFunc(r.Want, func(w Setting) bool { return w.Name == h.Name })
		switch {
		case r.Want == nil || value(r.Applied, h.Name) != nil:
		case i < 0:
			d.Attributes = append(d.Attributes, Attribute{Name: h.Name, To: &h.Value})
		case r.Want[i].Usual && r.Applied != nil && r.Want[i].Value != h.Value:
			d.Attributes = append(d.Attributes, Attribute{Name: h.Name, From: &r.Want[i].Value, To: &h.Value})
		}
	}
	return d, len(d.Attributes) > 0
}

// Empty reports whether no resource would change. Syncs are no change.
func (p Plan) Empty() bool { return len(p.Changes) == 0 }

// Doable reports whether applying the plan changes a resource.
func (p Plan) Doable() bool { return p.Count(Blocked) < len(p.Changes) }

// Count is how many changes have an action.
func (p Plan) Count(a Action) int {
	n := 0
	for _, c := range p.Changes {
		if c.Action == a {
			n++
		}
	}
	return n
}

// Additive reports whether a run may do all of it unasked.
func (p Plan) Additive() bool {
	return !slices.ContainsFunc(p.Changes, func(c Change) bool { return !c.Action.Additive() })
}

// Ordered returns the changes in an order in which each finds what it depends
// on: datasets, tables, views, pipelines; the other way round for removals,
// which come last.
func (p Plan) Ordered() []Change {
	out := slices.Clone(p.Changes)
	removes := func(c Change) bool { return c.Action == Destroy || c.Action == Forget }
	slices.SortStableFunc(out, func(a, b Change) int {
		switch {
		case removes(a) && removes(b):
			return cmp.Compare(rank(b.Kind), rank(a.Kind))
		case removes(a):
			return 1
		case removes(b):
			return -1
		default:
			return cmp.Compare(rank(a.Kind), rank(b.Kind))
		}
	})
	return out
}

// ProtectedError is data that was to be removed and is protected.
type ProtectedError struct{ Resources []Resource }

func (e *ProtectedError) Error() string {
	var names []string
	for _, r := range e.Resources {
		text := r.Address
		if r.Holds != "" {
			text += " (" + r.Holds + ")"
		}
		names = append(names, text)
	}
	return "destroy: these hold data that is protected: " + strings.Join(names, ", ")
}

// Hint says what to do.
func (e *ProtectedError) Hint() string {
	return "nothing was removed. To let it go, set `prevent_destroy: false` at the destination; --target leaves it out"
}
