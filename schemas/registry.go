package schemas

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"
)

// Kinds is a set of the kinds of JSON value seen in one field. Null is not a
// kind: it says nothing about a field's type.
type Kinds uint16

// The kinds of JSON value that decide a column's type.
const (
	KindString    Kinds = 1 << iota
	KindBool            // true or false
	KindInt             // an integer that both int64 and float64 hold exactly
	KindLongInt         // an integer that int64 holds and float64 does not
	KindFloat           // a number that float64 prints back, up to zeros and the exponent's spelling
	KindBigNumber       // any other number: its text is the only exact form
	KindNested          // an object or an array
)

// Infer returns the type for a field with the observed kinds: one that holds
// every value seen exactly. Where none does, string, which holds the text.
func Infer(observed Kinds) Type {
	switch {
	case observed&KindNested != 0:
		return JSON
	case observed == KindBool:
		return Bool
	case observed != 0 && observed&^(KindInt|KindLongInt) == 0:
		return Int64
	case observed != 0 && observed&^(KindInt|KindFloat) == 0:
		return Float64
	default:
		return String
	}
}

// Fits reports whether a discovered column of type t holds a value of kind k.
// A string column holds the text of any scalar, so that a column that turned
// out mixed late equals one that was mixed from the start; a json column holds
// anything.
func (t Type) Fits(k Kinds) bool {
	switch t {
	case String:
		return k != KindNested
	case Int64:
		return k == KindInt || k == KindLongInt
	case Float64:
		return k == KindInt || k == KindFloat
	case Bool:
		return k == KindBool
	case JSON:
		return true
	default:
		return false
	}
}

// RegistryEntry is what the registry knows of one field. Its column and type
// are for ever the same once given; Misfit only ever becomes true.
type RegistryEntry struct {
	Scope  Scope  `json:"scope"`
	Key    string `json:"key"`
	Column string `json:"column"`
	Type   Type   `json:"type"`
	// Misfit says that "<column>__text" exists, for values that do not fit.
	// Contract columns have an entry only when they have such a column, or once
	// they have been left out.
	Misfit   bool   `json:"misfit,omitempty"`
	FirstRun string `json:"first_run"` // run that settled the field
	// FirstSeen and LastSeen say when values of the field arrived (UTC), LastRun
	// in which run the last did; zero where that was not noted yet.
	FirstSeen time.Time `json:"first_seen,omitzero"`
	LastSeen  time.Time `json:"last_seen,omitzero"`
	LastRun   string    `json:"last_run,omitempty"`
	// Observed counts the values read, as Sighting does. It is never changed in
	// place.
	Observed map[string]int64 `json:"observed,omitempty"`
	// Fields are, of the entry of ColOverflow, the fields that it has had values
	// of, sorted, as Registry.Hold notes them. It is never changed in place.
	Fields []string `json:"fields,omitempty"`
}

// Ref returns the field that e describes.
func (e RegistryEntry) Ref() FieldRef { return FieldRef{e.Scope, e.Key} }

// MisfitColumn returns the name of the column for values that do not fit.
func (e RegistryEntry) MisfitColumn() string { return e.Column + misfitSuffix }

// Registry gives every field of a pipeline's contacts its column: a name and
// a type that stay for ever. It is safe for concurrent use; its entries live
// in state.
//
// Names are those of FieldRef.ColumnName wherever no other field has them. Only
// of two fields whose names are the same does it matter which is settled first:
// it has the plain name, the other one that depends on its key alone. Parts that
// settle in the same order give the same names; those of windows read in
// parallel need not, and what was settled then stays.
type Registry struct {
	contract *Contract
	declared map[FieldRef]Column
	given    map[FieldRef]given    // names that the contract gives
	left     map[FieldRef]struct{} // declared, and not in the table
	views    map[string]struct{}   // names that views make up beside the columns

	mu         sync.Mutex
	entries    map[FieldRef]RegistryEntry
	taken      map[string]FieldRef // column names in use, or given
	discovered int                 // fields without a declaration that have a column of their own
	leftOut    int                 // of which the contract leaves out now
}

// NewRegistry returns a registry with the entries of earlier runs. A contract
// that gives a field another name than it has, or one that another field has,
// is a *NameError; one that declares another type a *TypeError.
func NewRegistry(c *Contract, entries []RegistryEntry) (*Registry, error) {
	r := &Registry{
		contract: c,
		declared: make(map[FieldRef]Column, len(c.Columns)),
		entries:  make(map[FieldRef]RegistryEntry, len(entries)),
		taken:    make(map[string]FieldRef, len(entries)+len(c.Columns)),
		given:    givenNames(c),
		left:     make(map[FieldRef]struct{}, len(c.Left)),
		views:    map[string]struct{}{},
	}
	for _, col := range c.Columns {
		r.declared[col.Ref] = col.Column
		if base, ok := strings.CutSuffix(col.Name, "_at"); ok && col.Type == Timestamp {
			r.views[base+"_date"] = struct{}{} // its day in the pipeline's time zone
		}
		if col.Ref == (FieldRef{ScopeContact, "last_message_at"}) {
			r.views["last_message_date"] = struct{}{} // whatever the column is called
		}
	}
	for _, col := range c.Left {
		r.left[col.Ref] = struct{}{}
	}
	for ref, g := range r.given {
		r.taken[g.column] = ref
	}
	for _, e := range entries {
		var (
			name *NameError
			typ  *TypeError
		)
		if err := r.restore(e); errors.As(err, &name) || errors.As(err, &typ) {
			return nil, err
		} else if err != nil {
			return nil, fmt.Errorf("read registry entry %q: %w", e.Ref().String(), err)
		}
	}
	return r, nil
}

func (r *Registry) restore(e RegistryEntry) error {
	ref := e.Ref()
	named := columnName.MatchString(e.Column) && len(e.Column) <= maxStored
	if e.Scope == ScopeOverflow {
		named = e.Column == ColOverflow
	}
	if !e.Scope.valid() || !e.Type.Valid() || !named {
		return fmt.Errorf("scope %q, column %q and type %q are not all valid", e.Scope, e.Column, e.Type)
	}
	if _, twice := r.entries[ref]; twice {
		return errors.New("the field has two entries")
	}
	if err := r.mayKeep(e); err != nil {
		return err
	}
	r.keep(e)
	return nil
}

// Settle returns the column of a field that is not in the contract. The first
// call for a field decides its name and type, from the kinds observed so far;
// later calls return the same. A chunk settles its new fields sorted by
// FieldRef.Compare, so that parallel reads agree.
func (r *Registry) Settle(ref FieldRef, observed Kinds, run string) RegistryEntry {
	e, _ := r.SettleWithin(ref, observed, run, math.MaxInt)
	return e
}

// SettleWithin is Settle, but that it gives no new column once limit fields
// have one; ok is false then, and the field's values go to ColOverflow. Fields
// that the contract leaves out now do not count, until with them there are
// 4500: the tables have their columns still.
func (r *Registry) SettleWithin(ref FieldRef, observed Kinds, run string, limit int) (e RegistryEntry, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e, ok := r.entry(ref); ok {
		return e, true
	}
	e = RegistryEntry{Scope: ref.Scope, Key: ref.Key, Column: ColOverflow, Type: JSON, FirstRun: run}
	if ref.Scope != ScopeOverflow {
		if r.discovered-r.leftOut >= limit || limit < math.MaxInt && r.discovered >= maxMaxColumns {
			return RegistryEntry{}, false
		}
		e.Column, e.Type = r.freeName(ref), Infer(observed)
	}
	r.keep(e)
	return e, true
}

// Entry returns the column that a field has: declared, or settled by an earlier
// call; ok is false for a field that is new.
func (r *Registry) Entry(ref FieldRef) (e RegistryEntry, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.entry(ref)
}

func (r *Registry) entry(ref FieldRef) (e RegistryEntry, ok bool) {
	if e, ok := r.entries[ref]; ok {
		return e, true
	}
	if col, ok := r.declared[ref]; ok {
		return RegistryEntry{Scope: ref.Scope, Key: ref.Key, Column: col.Name, Type: col.Type}, true
	}
	return RegistryEntry{}, false
}

// NextName returns the name that the column of a new field would take now.
func (r *Registry) NextName(ref FieldRef) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.freeName(ref)
}

// keep adds the entry of a new field.
func (r *Registry) keep(e RegistryEntry) {
	ref := e.Ref()
	if _, declared := r.declared[ref]; !declared && ref.Scope != ScopeOverflow {
		r.discovered++
		if !r.wanted(ref) {
			r.leftOut++
		}
	}
	r.entries[ref], r.taken[e.Column] = e, ref
}

// wanted reports whether the contract lets in a field without a declared column.
func (r *Registry) wanted(ref FieldRef) bool {
	_, left := r.left[ref]
	return !left && r.contract.wants(ref) && r.contract.Undeclared[ref.Scope].Policy != Drop
}

// Contract returns the contract that the registry completes.
func (r *Registry) Contract() *Contract { return r.contract }

// freeName returns the name that the contract gives, else the field's own name,
// or where another field has it, that name and as many digits of the field's
// hash as it takes.
func (r *Registry) freeName(ref FieldRef) string {
	if g, ok := r.given[ref]; ok {
		return g.column
	}
	base := ref.ColumnName()
	name := base
	for digits := 6; digits <= 64; digits += 2 {
		_, taken := r.taken[name]
		if _, shadows := r.views[name]; !taken && !shadows {
			break
		}
		name = base + "_" + ref.digest(digits)
	}
	return name
}

// Misfit records that a settled or declared field has met a value that does
// not fit, and returns the name of the column for the text of such values.
func (r *Registry) Misfit(ref FieldRef, run string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.entries[ref]
	if !ok {
		col, declared := r.declared[ref]
		if !declared {
			return ""
		}
		e = RegistryEntry{Scope: ref.Scope, Key: ref.Key, Column: col.Name, Type: col.Type, FirstRun: run}
	}
	e.Misfit = true
	r.entries[ref] = e
	return e.MisfitColumn()
}

// Entries returns a copy of all entries, by scope and key.
func (r *Registry) Entries() []RegistryEntry {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]RegistryEntry, 0, len(r.entries))
	for _, e := range r.entries {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b RegistryEntry) int { return a.Ref().Compare(b.Ref()) })
	return out
}

// Table returns the table as it stands: contract columns, discovered and
// misfit columns by name, then all system columns.
func (r *Registry) Table() Table { return r.table(SystemColumns()) }

// StagedTable is Table as a staged part holds it: with StagedColumns alone of
// the system columns.
func (r *Registry) StagedTable() Table { return r.table(StagedColumns()) }

func (r *Registry) table(system []Column) Table {
	var cols []Column
	for _, c := range r.contract.Columns {
		col := c.Column
		col.Policy = stored(c.Policy)
		cols = append(cols, col)
	}
	n := len(cols)
	for _, e := range r.Entries() {
		source := e.Ref().String()
		if _, declared := r.declared[e.Ref()]; !declared {
			cols = append(cols, Column{Name: e.Column, Type: e.Type, Origin: Discovered, Source: source, Policy: r.policyOf(e.Ref())})
		}
		if e.Misfit {
			cols = append(cols, Column{
				Name: e.MisfitColumn(), Type: String, Origin: MisfitText, Source: source,
				Description: "Text of values that do not fit " + e.Column,
			})
		}
	}
	slices.SortFunc(cols[n:], func(a, b Column) int { return strings.Compare(a.Name, b.Name) })
	if r.contract.Account != "" {
		cols = append(cols, accountColumn(r.contract.Account))
	}
	return Table{Columns: append(cols, system...)}
}
