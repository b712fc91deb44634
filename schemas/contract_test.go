package schemas

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTheBuiltInContractHasTheColumnsOfTheEndpoint(t *testing.T) {
	var names []string
	for _, c := range Default().Columns {
		names = append(names, c.Name)
		if c.Description == "" || c.Source != c.Ref.String() || c.Origin != FromContract {
			t.Errorf("column %+v", c)
		}
	}
	want := "id name phone email platform last_message_at chat_status created_at updated_at client_id ai_customer_id default_stage_id " +
		"blocked is_chat_read active_ticket_v2_id active_ticket_v2_current_stage_id"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("columns %s, want %s", got, want)
	}
	if n := len(Default().CustomFields); n != 6 {
		t.Errorf("%d places of custom fields, want 6", n)
	}
}

func TestTheBuiltInContractIsTheFileBesideTheCode(t *testing.T) {
	b, err := os.ReadFile("contacts.yaml")
	if err != nil || string(b) != string(BuiltIn()) {
		t.Fatal("embedded text differs", err)
	}
}

const mandatory = `  - {name: id, path: id, type: string, required: true}
  - {name: created_at, path: created_at, type: timestamp, required: true}
  - {name: updated_at, path: updated_at, type: timestamp, required: true}
`

func TestContractsParse(t *testing.T) {
	c, err := ParseContract("c.yaml", []byte("version: 1\ncolumns:\n"+mandatory+
		"  - name: stage\n    path: active_ticket_v2.current_stage_id\n    type: string\n    policy: keep\n    description: |\n      of the\n      ticket\n  - {name: score, type: int64}\ncustom_fields: {customer: [extra]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	stage, score := c.Columns[3], c.Columns[4]
	if stage.Ref != (FieldRef{Scope: ScopeTicket, Key: "current_stage_id"}) || stage.Description != "of the\nticket" {
		t.Errorf("stage is %+v", stage)
	}
	if score.Ref != (FieldRef{Scope: ScopeContact, Key: "score"}) || score.Type != Int64 {
		t.Errorf("score is %+v", score)
	}
	if len(c.CustomFields) != 1 || c.CustomFields[0].Entity() != ScopeCFCustomer || c.CustomFields[0].Place.Key != "extra" {
		t.Errorf("custom fields %+v", c.CustomFields)
	}
	if c.Hash() == Default().Hash() {
		t.Error("hash does not tell contracts apart")
	}
	if c, err = ParseContract("c.yaml", []byte("version: 1\ncolumns:\n"+mandatory)); err != nil || len(c.CustomFields) != 6 {
		t.Errorf("without custom_fields: %v, %v", c, err)
	}
}

func TestEveryFaultOfAContractIsReportedWhereItStands(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"empty":         {"# nothing\n", "c:1:1: the contract is empty (begin with version: 1 and columns, or leave the contract out: there is a built-in one)"},
		"syntax":        {"version: 1\ncolumns: [1\n", "c:2:10: broken YAML: sequence end token ']' not found"},
		"two documents": {"version: 1\n---\nversion: 1\n", "c:3:1: a contract is a single YAML document (keep one document in a file)"},
		"not a mapping": {"- 1\n", "c:1:1: the contract must be a mapping with version, columns, custom_fields, new_columns, type_conflicts, undeclared, max_columns, rename, select, exclude"},
		"twice":         {"version: 1\nversion: 1\n", `c:2:1: broken YAML: mapping key "version" already defined at [1:1]`},
		"all at once": {
			"version: 2\ncolums: []\ncolumns:\n" + mandatory + `  - {name: Name, type: text, paht: x}
  - {name: a, path: b.c, type: string, required: maybe}
  - {name: a, path: d, type: string}
  - {name: created_month, path: d, type: [string]}
  - name: x__y
  - 5
custom_fields:
  customer: [metadata, metadata, 5, id, active_ticket_v2.metadata]
  ticket: metadata
  agent: []
`,
			`c:1:10: contract version 2 is not one that this version of sluice reads (write version: 1)
c:2:1: unknown key "colums" in the contract (allowed: version, columns, custom_fields, new_columns, type_conflicts, undeclared, max_columns, rename, select, exclude)
c:7:12: "Name" cannot be a column's name (lower-case letters, digits and single underscores, beginning with a letter)
c:7:24: unknown type "text" (allowed: string, int64, float64, bool, timestamp, date, json)
c:7:30: unknown key "paht" in a column (allowed: name, path, type, description, required, policy, normalize, type_conflicts)
c:8:21: path "b.c" leads nowhere that columns can come from (write a field of a contact, active_ticket_v2.<field>, cf_customer.<key> or cf_ticket.<key>)
c:8:50: required must be true or false
c:9:12: two columns are named "a"
c:10:5: columns "a" and "created_month" take the same path
c:10:12: "created_month" is the name of a partition (choose another name)
c:10:42: type must be text
c:11:5: a column needs type
c:11:11: "x__y" cannot be a column's name (lower-case letters, digits and single underscores, beginning with a letter)
c:12:5: a column must be a mapping with name, path, type, description, required, policy, normalize, type_conflicts
c:14:24: "metadata" stands twice
c:14:34: a place of custom fields must be a path
c:14:37: "id" is already a column
c:14:41: "active_ticket_v2.metadata" is not a place for this entity (customer takes fields of the contact, ticket takes active_ticket_v2.<field>)
c:15:11: the places of custom fields must be a list of paths, or a mapping with places, policy, new_columns, type_conflicts
c:16:3: unknown key "agent" in custom_fields (allowed: customer, ticket)`,
		},
		"mandatory": {
			"version: 1\ncolumns:\n  - {name: id, type: int64, required: true}\n  - {name: created_at, path: made, type: timestamp, required: true}\n",
			`c:3:3: column id must have its own path, type string and required: true (write {name: id, path: id, type: string, required: true})
c:3:3: column created_at must have its own path, type timestamp and required: true (write {name: created_at, path: created_at, type: timestamp, required: true})
c:3:3: column updated_at is missing: it is needed to find and order versions`,
		},
		"nothing in it": {"version: one\n", "c:1:1: columns must be a list (list at least id, created_at and updated_at)\nc:1:10: version must be a number (write version: 1)"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseContract("c", []byte(tc.text))
			var ce *ContractError
			if !errors.As(err, &ce) {
				t.Fatalf("error %v", err)
			}
			if diff := cmp.Diff(tc.want, err.Error()); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzParseContract(f *testing.F) {
	f.Add(BuiltIn())
	f.Add([]byte("version: 1\ncolumns:\n" + mandatory))
	f.Add([]byte("a: &x [*x]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseContract("c", data)
		var ce *ContractError
		switch {
		case err == nil && len(c.Columns) < 3:
			t.Fatalf("contract without the mandatory columns: %+v", c)
		case err != nil && (!errors.As(err, &ce) || len(ce.Faults) == 0 || ce.Faults[0].Line < 1 || ce.Faults[0].Col < 1):
			t.Fatalf("fault without a place: %v", err)
		}
	})
}

// The page that explains the keys shows them in a contract that holds.
func TestTheContractInTheDocsParses(t *testing.T) {
	page, err := os.ReadFile("../docs/tables.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "## The contract\n")
	_, text, _ = strings.Cut(text, "```yaml\n")
	text, _, found := strings.Cut(text, "```")
	c, err := ParseContract("docs", []byte(text))
	if err != nil || !found {
		t.Fatal(err)
	}
	if age, ok := c.Column(FieldRef{ScopeCFCustomer, "Age"}); !ok || age.Type != Int64 || age.TypeConflicts != Discard {
		t.Errorf("age is %+v", age)
	}
	for ref, wanted := range map[FieldRef]bool{
		{ScopeCFCustomer, "internal_x"}: false, {ScopeCFCustomer, "y"}: true, {ScopeCFTicket, "y"}: false,
		{ScopeCFTicket, "Deal value"}: true, {ScopeContact, "ai_customer_id"}: false, {ScopeContact, "platform"}: true,
	} {
		if got := c.Rule(ref); got.Wanted != wanted {
			t.Errorf("%s is wanted: %t", ref, got.Wanted)
		}
	}
}
