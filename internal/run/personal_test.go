package run

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/schemas"
)

const personalContract = `version: 1
columns:
  - {name: id, path: id, type: string, required: true}
  - {name: created_at, path: created_at, type: timestamp, required: true}
  - {name: updated_at, path: updated_at, type: timestamp, required: true}
  - {name: phone, path: phone, type: string, policy: hash}
`

func personalJob(t *testing.T, contract string) Job {
	t.Helper()
	c, err := schemas.ParseContract("c", []byte(contract))
	if err != nil {
		t.Fatal(err)
	}
	return Job{Pipeline: "nightly", Contract: c}
}

func TestAJobWithoutTheKeyOfItsContractIsRefused(t *testing.T) {
	j := personalJob(t, personalContract)
	_, err := (&Engine{}).Compare(t.Context(), j, Comparison{})
	var none *NoHashKeyError
	if !errors.As(err, &none) || !strings.Contains(none.Hint(), "hash_key") {
		t.Errorf("got %v", err)
	}
	if err := (&syncRun{job: j}).run(t.Context()); !errors.As(err, &none) {
		t.Errorf("a run got %v", err)
	}
	key, err := schemas.NewHashKey([]byte(strings.Repeat("k", schemas.MinHashKey)))
	if err != nil {
		t.Fatal(err)
	}
	j.HashKey = key
	if err := j.checkHashKey(); err != nil || j.hashKeyID() != key.ID() {
		t.Errorf("with its key: %v, %s", err, j.hashKeyID())
	}
	if j.Contract = schemas.Default(); j.hashKeyID() != "" {
		t.Error("a key that hashes nothing counts")
	}
}

func TestColumnsThatBeginToBeProtectedAreNamed(t *testing.T) {
	before := &state.Pipeline{
		Columns: []state.Column{{Name: "id", Source: "contact:id"}, {Name: "phone", Source: "contact:phone"}},
		Registry: []schemas.RegistryEntry{
			{Scope: schemas.ScopeContact, Key: "city", Column: "city", Type: schemas.String},
			{Scope: schemas.ScopeCFTicket, Key: "plan", Column: "cf_ticket_plan", Type: schemas.String},
			{Scope: schemas.ScopeOverflow, Column: schemas.ColOverflow, Type: schemas.JSON},
		},
	}
	for name, c := range map[string]struct {
		contract string
		policies map[string]schemas.Policy
		want     []string
	}{
		"a column":               {personalContract, nil, []string{"phone"}},
		"a column hashed before": {personalContract, map[string]schemas.Policy{"contact:phone": schemas.Hash}, nil},
		"what was masked, hashed": {
			personalContract, map[string]schemas.Policy{"contact:phone": schemas.Mask}, nil,
		},
		"everything": {personalContract + "undeclared: mask\n", nil, []string{"cf_ticket_plan", "city", schemas.ColOverflow, "phone"}},
		"one entity": {
			personalContract + "custom_fields: {ticket: {policy: drop}}\n",
			map[string]schemas.Policy{"contact:phone": schemas.Hash},
			[]string{"cf_ticket_plan", schemas.ColOverflow},
		},
		"nothing": {strings.Replace(personalContract, ", policy: hash", "", 1), map[string]schemas.Policy{"contact:phone": schemas.Hash}, nil},
	} {
		want := slices.Sorted(slices.Values(c.want))
		before.Policies = c.policies
		if got := nowProtected(before, personalJob(t, c.contract).Contract); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// A place of custom fields that is kept as a whole shows no more than they do.
func TestAPlaceOfProtectedFieldsIsProtectedAsAWhole(t *testing.T) {
	const places = "custom_fields: {customer: {places: [metadata], policy: POLICY}, ticket: {}}\n"
	entries := []schemas.RegistryEntry{
		{Scope: schemas.ScopeContact, Key: "metadata", Column: "metadata", Type: schemas.JSON},
		{Scope: schemas.ScopeContact, Key: "city", Column: "city", Type: schemas.String},
	}
	for policy, want := range map[string]schemas.Policy{"keep": "", "hash": schemas.Hash, "mask": schemas.Mask, "drop": schemas.Mask} {
		c := personalJob(t, personalContract+strings.Replace(places, "POLICY", policy, 1)).Contract
		reg, err := schemas.NewRegistry(c, entries)
		if err != nil {
			t.Fatal(err)
		}
		if got := columnPolicies(reg); got["metadata"] != want || got["city"] != "" {
			t.Errorf("%s: the policies are %v", policy, got)
		}
		st := &state.Pipeline{Registry: entries, Policies: map[string]schemas.Policy{"contact:phone": schemas.Hash}}
		if got := slices.Contains(nowProtected(st, c), "metadata"); got != (policy != "keep") {
			t.Errorf("%s: that it begins to be protected is %t", policy, got)
		}
		st.Policies["cf_customer"] = schemas.Hash
		if got := nowProtected(st, c); len(got) > 0 {
			t.Errorf("%s: protected before, %v begin to be", policy, got)
		}
	}
}

func TestPoliciesAreRememberedAsTheyAreCompared(t *testing.T) {
	c := personalJob(t, personalContract+"undeclared: hash\n").Contract
	st := &state.Pipeline{
		Columns: []state.Column{{Name: "phone", Source: "contact:phone"}}, Policies: policies(c),
		Registry: []schemas.RegistryEntry{{Scope: schemas.ScopeContact, Key: "city", Column: "city"}, {Scope: schemas.ScopeOverflow, Column: schemas.ColOverflow}},
	}
	if got := nowProtected(st, c); len(got) > 0 {
		t.Errorf("under one contract, %q begin to be protected", got)
	}
}
