package state

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/schemas"
)

func TestColumnsThatAContractLeavesOutStayAmongTheFields(t *testing.T) {
	known := schemas.RegistryEntry{Scope: schemas.ScopeContact, Key: "shoe_size", Column: "shoe_size", Type: schemas.Int64, FirstRun: "r"}
	p := New("nightly")
	p.Registry = []schemas.RegistryEntry{known}
	p.Columns = []Column{{"phone", schemas.String, "contact:phone"}, {"email", schemas.String, "contact:email"}}
	c, err := schemas.ParseContract("crm.yaml", append(schemas.BuiltIn(), []byte("\nexclude: [phone]\n")...))
	if err != nil {
		t.Fatal(err)
	}
	phone := schemas.RegistryEntry{Scope: schemas.ScopeContact, Key: "phone", Column: "phone", Type: schemas.String}
	if diff := cmp.Diff([]schemas.RegistryEntry{known, phone}, p.Entries(c)); diff != "" {
		t.Error(diff)
	}
	p.Registry = append(p.Registry, phone) // as a run under c leaves it
	p.Columns = p.Columns[1:]
	if diff := cmp.Diff(p.Registry, p.Entries(c)); diff != "" {
		t.Error(diff)
	}
	if got := p.Entries(schemas.Default()); len(got) != 2 || len(p.Registry) != 2 {
		t.Errorf("got %v", got)
	}
}

// Documents of before do not say when fields were seen.
func TestARegistryOfBeforeIsRead(t *testing.T) {
	doc := string(fixture(t))
	from, to := strings.Index(doc, `,
      "first_seen"`), strings.Index(doc, `
    }
  ],
  "destinations"`)
	p, err := decode("x", "nightly", []byte(doc[:from]+doc[to:]))
	if err != nil {
		t.Fatal(err)
	}
	if e := p.Registry[0]; e.Column != "cf_customer_lead_source" || !e.FirstSeen.IsZero() || e.Observed != nil {
		t.Errorf("got %+v", e)
	}
}
