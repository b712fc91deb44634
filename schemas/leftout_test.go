package schemas

import (
	"slices"
	"testing"
)

func TestAContractLetsInWhatItEvolvesAgain(t *testing.T) {
	const columns = `version: 1
columns:
  - {name: id, path: id, type: string, required: true}
  - {name: created_at, path: created_at, type: timestamp, required: true}
  - {name: updated_at, path: updated_at, type: timestamp, required: true}
  - {name: age, path: age, type: int64}
`
	fresh := LeftOut{Rule: RuleNewColumns, Scope: ScopeCFCustomer}
	age := LeftOut{Rule: RuleTypeConflicts, Scope: ScopeContact, Key: "age"}
	for rules, want := range map[string][2]bool{
		"":                         {true, true},
		"new_columns: discard\n":   {false, true},
		"new_columns: freeze\n":    {false, true},
		"type_conflicts: freeze\n": {true, false},
		"exclude: [age]\n":         {true, false},
		"custom_fields: {customer: {places: [metadata], new_columns: discard}, ticket: {}}\n": {false, true},
	} {
		c, err := ParseContract("c", []byte(columns+rules))
		if err != nil {
			t.Fatal(err)
		}
		if got := [2]bool{fresh.LetIn(c), age.LetIn(c)}; got != want {
			t.Errorf("%q lets in %v, want %v", rules, got, want)
		}
	}
	if got := JoinLeftOut([]LeftOut{age, fresh}, nil, []LeftOut{fresh}); !slices.Equal(got, []LeftOut{fresh, age}) {
		t.Errorf("joined: %v", got)
	}
	if JoinLeftOut(nil, nil) != nil {
		t.Error("of nothing something is left out")
	}
}
