package transform_test

import (
	"errors"
	"testing"

	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/sluice-etl/sluice/schemas"
	"github.com/sluice-etl/sluice/transform"
)

// sealed decodes contacts under the contract of a registry, and seals them.
func sealed(t *testing.T, reg *schemas.Registry, contacts ...string) *transform.Sealed {
	t.Helper()
	c := transform.NewChunk(transform.Options{Contract: reg.Contract()})
	decodeAll(t, c, [][]byte{page(contacts)})
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	s := seal(t, c, reg, mem)
	t.Cleanup(func() {
		s.Record.Release()
		mem.AssertSize(t, 0)
	})
	return s
}

// overflowing is a registry of a table of one found column, hat, and a field in
// the overflow, shoe; under a contract with these rules.
func overflowing(t *testing.T, rules string) *schemas.Registry {
	t.Helper()
	full := contractOf(t, bareContract+"max_columns: 1\n")
	reg := newRegistryOf(t, full, nil)
	sealed(t, reg, somebody(`"hat":1,"shoe":2`))
	contract := contractOf(t, bareContract+rules)
	return newRegistryOf(t, contract, reg.Entries())
}

func TestAFieldInTheOverflowIsNotNewToAFrozenTableAndStaysThere(t *testing.T) {
	for _, rules := range []string{"new_columns: freeze\n", "new_columns: freeze\nmax_columns: 1\n"} {
		reg := overflowing(t, rules)
		s := sealed(t, reg, somebody(`"hat":3,"shoe":{"size":4}`))
		if got := valueOf(t, s, schemas.ColOverflow, 0); got != `{"contact:shoe":{"size":4}}` || len(s.Discarded) > 0 {
			t.Errorf("%sthe overflow is %s, left out %v", rules, got, s.Discarded)
		}
		if got := valueOf(t, s, "shoe", 0); got != "no column" {
			t.Errorf("%sit has a column: %s", rules, got)
		}
	}
}

func TestAFieldThatTheOverflowHasNotHadIsNew(t *testing.T) {
	reg := overflowing(t, "new_columns: freeze\n")
	c := transform.NewChunk(transform.Options{Contract: reg.Contract()})
	decodeAll(t, c, [][]byte{page([]string{somebody(`"shoe":3,"glove":4`)})})
	var frozen *schemas.FreezeError
	if _, err := c.Seal(reg, "run", nil); !errors.As(err, &frozen) || frozen.Field != "contact:glove" || !frozen.New {
		t.Errorf("got %v", err)
	}
}

func TestAFieldInTheOverflowThatIsDiscardedGoes(t *testing.T) {
	s := sealed(t, overflowing(t, "new_columns: discard\n"), somebody(`"hat":3,"shoe":4`))
	if got := valueOf(t, s, schemas.ColOverflow, 0); got != "null" || s.Discarded["contact:shoe"] != 1 {
		t.Errorf("the overflow is %s, left out %v", got, s.Discarded)
	}
}

func TestAFieldInTheOverflowGetsAColumnOnceThereIsRoom(t *testing.T) {
	reg := overflowing(t, "max_columns: 2\n")
	s := sealed(t, reg, somebody(`"shoe":3,"zipper":4`))
	if shoe, rest := valueOf(t, s, "shoe", 0), valueOf(t, s, schemas.ColOverflow, 0); shoe != "3" || rest != `{"contact:zipper":4}` {
		t.Errorf("shoe is %s, the overflow %s", shoe, rest)
	}
}

func TestDifferentValuesOfAFieldInTheOverflowAreAConflictOfItsColumn(t *testing.T) {
	full := contractOf(t, bareContract+"max_columns: 1\n")
	reg := newRegistryOf(t, full, nil)
	sealed(t, reg, somebody(`"metadata":{"a":1,"b":2}`))
	contract := contractOf(t, bareContract+"new_columns: freeze\ntype_conflicts: freeze\n")
	c := transform.NewChunk(transform.Options{Contract: contract})
	decodeAll(t, c, [][]byte{page([]string{somebody(`"custom_fields":{"b":1},"metadata":{"b":2}`)})})
	_, err := c.Seal(newRegistryOf(t, contract, reg.Entries()), "run", nil)
	var frozen *schemas.FreezeError
	if !errors.As(err, &frozen) || frozen.New || !frozen.Twice || frozen.Column != schemas.ColOverflow || frozen.Have != schemas.JSON {
		t.Errorf("got %v", err)
	}
}

// What the contract leaves out takes no column from what it lets in.
func TestColumnsThatAreLeftOutDoNotCountTowardTheBound(t *testing.T) {
	for name, tc := range map[string]struct{ before, after string }{
		"excluded":     {"", "exclude: [hat]\n"},
		"not selected": {"", "select: [shoe]\n"},
		"dropped":      {"undeclared: keep\n", "undeclared: drop\ncustom_fields: {customer: {places: [metadata], policy: keep}, ticket: {}}\n"},
		"discarded":    {"custom_fields: {customer: {places: [metadata]}, ticket: {}}\nnew_columns: discard\n", "new_columns: evolve\n"},
	} {
		before := contractOf(t, bareContract+tc.before+"max_columns: 1\n")
		reg := newRegistryOf(t, before, nil)
		sealed(t, reg, somebody(`"hat":1`))
		after := contractOf(t, bareContract+tc.after+"max_columns: 1\n")
		member, column := `"shoe":2`, "shoe"
		if name == "dropped" {
			member, column = `"metadata":{"shoe":2}`, "cf_customer_shoe"
		}
		s := sealed(t, newRegistryOf(t, after, reg.Entries()), somebody(member))
		if got := valueOf(t, s, column, 0); got != "2" {
			t.Errorf("%s: shoe is %s, the overflow %s", name, got, valueOf(t, s, schemas.ColOverflow, 0))
		}
	}
}

func TestAFrozenTableTakesADeclaredColumnOfPolicyDropAsAWayToLeaveAFieldOut(t *testing.T) {
	contract := contractOf(t, bareContract+"  - {name: shoe, path: shoe, type: string, policy: drop}\nnew_columns: freeze\ntype_conflicts: freeze\n")
	s := sealed(t, newRegistryOf(t, contract, nil), somebody(`"shoe":{"size":4}`))
	if valueOf(t, s, "shoe", 0) != "no column" || len(s.Discarded)+len(s.Sightings) > 0 {
		t.Errorf("shoe is %s, left out %v, seen %v", valueOf(t, s, "shoe", 0), s.Discarded, s.Sightings)
	}
}
