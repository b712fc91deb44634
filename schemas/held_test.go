package schemas

import (
	"fmt"
	"strings"
	"testing"
)

func TestFieldsOfTheOverflowAreNotedWithinBounds(t *testing.T) {
	reg := newRegistry(t)
	first := ref(ScopeContact, "first")
	if reg.Hold(first); reg.Held(first) {
		t.Error("a table without an overflow holds a field")
	}
	before := reg.Settle(FieldRef{Scope: ScopeOverflow}, KindNested, "r")
	reg.Hold(first, ref(ScopeTicket, strings.Repeat("k", 300)), first)
	one := reg.Entries()
	if !reg.Held(first) || reg.Held(ref(ScopeTicket, "first")) || len(one) != 1 || len(one[0].Fields) != 1 || len(before.Fields) != 0 {
		t.Errorf("%+v, before %+v", one, before)
	}
	for i := range 3000 {
		reg.Hold(ref(ScopeCFCustomer, fmt.Sprintf("key %d", i)))
	}
	many := reg.Entries()
	if n := len(many[0].Fields); n != 2000 || !reg.Held(first) || len(one[0].Fields) != 1 || many[0].Same(one[0]) {
		t.Errorf("%d are noted, %d before", n, len(one[0].Fields))
	}
	restored, err := NewRegistry(Default(), many)
	if err != nil || !restored.Held(first) || !restored.Held(ref(ScopeCFCustomer, "key 7")) {
		t.Errorf("restored it has lost some: %v", err)
	}
	other := RegistryEntry{Scope: ScopeOverflow, Fields: []string{"contact:second"}}
	if got := one[0].JoinFields(other).Fields; len(got) != 2 || got[1] != "contact:second" {
		t.Errorf("joined: %q", got)
	}
}
