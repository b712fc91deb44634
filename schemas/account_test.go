package schemas

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestATableOfAnAccountHasItsKeyAsTheFirstOfSluicesColumns(t *testing.T) {
	plain := Default()
	c := plain.WithAccount("globex-eu")
	if plain.Account != "" || c.Hash() != plain.Hash() {
		t.Error("the contract is another one")
	}
	reg, err := NewRegistry(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	reg.Settle(ref(ScopeContact, "zeta"), KindInt, "r1")
	for _, table := range []Table{reg.Table(), reg.StagedTable()} {
		at := table.Index(ColAccount)
		if at < 0 || table.Columns[at-1].Name != "zeta" {
			t.Fatalf("the column is the %dth of %v", at, table.Columns)
		}
		col := table.Columns[at]
		if col.Description == "" {
			t.Error("nothing describes it")
		}
		col.Description = ""
		if diff := cmp.Diff(Column{Name: ColAccount, Type: String, Origin: SystemDefined, Required: true, Constant: "globex-eu"}, col); diff != "" {
			t.Error(diff)
		}
	}
	if newRegistry(t).Table().Index(ColAccount) >= 0 {
		t.Error("a table without accounts has the column")
	}
}

func TestNeitherAFieldNorAContractTakesTheNameOfTheAccount(t *testing.T) {
	for _, scope := range fieldScopes {
		if got := ref(scope, ColAccount).ColumnName(); got == ColAccount {
			t.Errorf("a field of scope %s is column %s", scope, got)
		}
	}
	text := string(BuiltIn()) + "rename: {whatever: " + ColAccount + "}\n"
	if _, err := ParseContract("c", []byte(text)); err == nil {
		t.Error("a contract gives a field the name")
	}
	if columnName.MatchString(ColAccount) {
		t.Error("a contract may declare it")
	}
}
