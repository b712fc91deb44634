package plan

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestChangesStandInTheOrderOfTheirAddresses(t *testing.T) {
	t.Parallel()
	given := []Change{{Address: TableAddress("warehouse", "leads"), Action: Replace}, {Address: TableAddress("warehouse", "contacts"), Action: Replace}}
	p, err := New(given)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range p.Changes {
		got = append(got, c.Address)
	}
	if diff := cmp.Diff([]string{"destination.warehouse.table.contacts", "destination.warehouse.table.leads"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if given[0].Address != "destination.warehouse.table.leads" {
		t.Error("the list that was given has changed")
	}
	if p.Count(Replace) != 2 || p.Empty() {
		t.Errorf("%d to replace", p.Count(Replace))
	}
	if none, err := New(nil); err != nil || !none.Empty() {
		t.Errorf("no changes: %+v, %v", none, err)
	}
}

func TestAResourceChangesOnce(t *testing.T) {
	t.Parallel()
	twice := []Change{{Address: "a", Action: Replace}, {Address: "b", Action: Replace}, {Address: "a", Action: Replace}}
	if _, err := New(twice); err == nil || !strings.Contains(err.Error(), "a would change twice") {
		t.Errorf("got %v", err)
	}
}
