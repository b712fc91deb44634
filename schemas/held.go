package schemas

import "slices"

// The bounds of what state remembers of the fields in ColOverflow: of keys that
// come once there may be any number.
const (
	maxHeld    = 2000
	maxHeldKey = 200 // bytes of a field, as FieldRef.String prints it
)

// Hold notes that ColOverflow has values of these fields: where new_columns is
// freeze from now on, they are not new, and stay there. Beyond 2000
// fields, and of keys beyond 200 bytes, nothing is noted. The overflow has to be
// settled.
func (r *Registry) Hold(refs ...FieldRef) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.entries[overflowRef()]
	if !ok {
		return
	}
	names := make([]string, 0, len(refs))
	for _, ref := range refs {
		names = append(names, ref.String())
	}
	e.Fields = joinFields(e.Fields, names)
	r.entries[overflowRef()] = e
}

// Held reports whether ColOverflow has had values of the field.
func (r *Registry) Held(ref FieldRef) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, found := slices.BinarySearch(r.entries[overflowRef()].Fields, ref.String())
	return found
}

// JoinFields returns e with the fields that other has noted beside its own.
func (e RegistryEntry) JoinFields(other RegistryEntry) RegistryEntry {
	e.Fields = joinFields(e.Fields, other.Fields)
	return e
}

// joinFields returns the fields of both, sorted, as far as they are noted. Known
// ones stay, and the slice that holds them is not changed: entries share it.
func joinFields(known, more []string) []string {
	out := known
	for _, name := range slices.Sorted(slices.Values(more)) {
		at, found := slices.BinarySearch(out, name)
		if found || len(name) > maxHeldKey || len(out) >= maxHeld {
			continue
		}
		if len(out) == len(known) {
			out = slices.Clone(known)
		}
		out = slices.Insert(out, at, name)
	}
	return out
}

// overflowRef stands for all fields in ColOverflow.
func overflowRef() FieldRef { return FieldRef{Scope: ScopeOverflow} }
