package schemas

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func parsed(t *testing.T, more string) *Contract {
	t.Helper()
	c, err := ParseContract("crm.yaml", []byte("version: 1\ncolumns:\n"+mandatory+more))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestARenamedFieldTakesTheNameWhoeverComesFirst(t *testing.T) {
	c := parsed(t, "rename: {cf_customer.Lead Source: source, favourite: name}\n")
	for range 2 {
		reg, err := NewRegistry(c, nil)
		if err != nil {
			t.Fatal(err)
		}
		// Another field by the name stands aside, though it is met first.
		if e := reg.Settle(ref(ScopeContact, "source"), KindString, "r"); e.Column == "source" || !strings.HasPrefix(e.Column, "source_") {
			t.Errorf("another field took the name: %s", e.Column)
		}
		if e := reg.Settle(ref(ScopeCFCustomer, "Lead Source"), KindInt, "r"); e.Column != "source" || e.Type != Int64 {
			t.Errorf("the field is %+v", e)
		}
		if e := reg.Settle(ref(ScopeCFCustomer, "lead source"), KindInt, "r"); e.Column != "cf_customer_lead_source" {
			t.Errorf("a field of nearly the same key is %+v", e)
		}
		if _, err := NewRegistry(c, reg.Entries()); err != nil {
			t.Error("the names do not hold over a restart:", err)
		}
	}
}

func TestNamesThatCannotBeGivenAnyMoreAreRefusedWithTheLine(t *testing.T) {
	settled := RegistryEntry{Scope: ScopeCFCustomer, Key: "Lead Source", Column: "cf_customer_lead_source", Type: String}
	other := RegistryEntry{Scope: ScopeContact, Key: "Source", Column: "source", Type: String}
	const line = 6 // after version, columns and the three mandatory ones
	for name, tc := range map[string]struct {
		more   string
		entry  RegistryEntry
		column string
		has    string
		holder string
	}{
		"a rename of a field that has a name":      {"rename: {cf_customer.Lead Source: source}\n", settled, "source", "cf_customer_lead_source", ""},
		"a rename to a name that a field has":      {"rename: {cf_customer.Lead Source: source}\n", other, "source", "", "contact:Source"},
		"a declaration of a field that has a name": {"  - {name: source, path: cf_customer.Lead Source, type: string}\n", settled, "source", "cf_customer_lead_source", ""},
		"a declaration under a name that is taken": {"  - {name: source, path: cf_customer.Lead Source, type: string}\n", other, "source", "", "contact:Source"},
	} {
		_, err := NewRegistry(parsed(t, tc.more), []RegistryEntry{tc.entry})
		var got *NameError
		if !errors.As(err, &got) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := NameError{Contract: "crm.yaml", Line: line, Field: "cf_customer:Lead Source", Column: tc.column, Has: tc.has, Holder: tc.holder}
		if *got != want {
			t.Errorf("%s: %+v, want %+v", name, *got, want)
		}
		text := got.Error() + got.Hint()
		for _, w := range []string{fmt.Sprintf("crm.yaml:%d", line), "stay for ever", tc.column, tc.has + tc.holder} {
			if !strings.Contains(text, w) {
				t.Errorf("%s: %q is missing in %s", name, w, text)
			}
		}
	}
}

func TestAFieldMayBeDeclaredAsItStands(t *testing.T) {
	entry := RegistryEntry{Scope: ScopeCFCustomer, Key: "Lead Source", Column: "cf_customer_lead_source", Type: String, Misfit: true}
	reg, err := NewRegistry(parsed(t, "  - {name: cf_customer_lead_source, path: cf_customer.Lead Source, type: string}\n"), []RegistryEntry{entry})
	if err != nil {
		t.Fatal(err)
	}
	if i := reg.Table().Index("cf_customer_lead_source__text"); i < 0 || reg.Table().Columns[3].Origin != FromContract {
		t.Errorf("table %+v", reg.Table())
	}
	_, err = NewRegistry(parsed(t, "  - {name: cf_customer_lead_source, path: cf_customer.Lead Source, type: int64}\n"), []RegistryEntry{entry})
	if err == nil || !strings.Contains(err.Error(), "is declared as") || !strings.Contains(err.Error(), "crm.yaml:6") {
		t.Errorf("another type: %v", err)
	}
}

// A column that is left out today may be let in tomorrow.
func TestTheNameOfAColumnThatIsLeftOutStaysItsOwn(t *testing.T) {
	const columns = "  - {name: mail, path: email, type: string}\n"
	out := parsed(t, columns+"exclude: [email]\n")
	reg, err := NewRegistry(out, nil)
	if err != nil {
		t.Fatal(err)
	}
	e := reg.Settle(ref(ScopeContact, "Mail"), KindString, "r")
	if e.Column == "mail" || reg.Table().Index("mail") >= 0 {
		t.Errorf("%+v", e)
	}
	if _, err := NewRegistry(parsed(t, columns), reg.Entries()); err != nil {
		t.Error("it cannot be let in again:", err)
	}
}

func TestAPlaceOfCustomFieldsIsNotExcludedAsAField(t *testing.T) {
	_, err := ParseContract("crm.yaml", []byte("version: 1\ncolumns:\n"+mandatory+"exclude: [metadata]\n"))
	if err == nil || !strings.Contains(err.Error(), "crm.yaml:6") || !strings.Contains(err.Error(), "cf_customer.*") {
		t.Error(err)
	}
	parsed(t, "custom_fields: {customer: [custom_fields]}\nexclude: [metadata]\n") // a field like any other
}
