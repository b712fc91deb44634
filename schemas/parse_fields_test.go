package schemas

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const governed = `version: 1
new_columns: freeze
undeclared: mask
max_columns: 50
columns:
` + mandatory + `  - {name: phone, type: string, policy: hash}
  - {name: email, type: string, policy: mask, normalize: text}
  - {name: name, type: string, policy: drop}
  - {name: blocked, type: bool, type_conflicts: discard}
  - {name: score, path: cf_customer.lead.Score, type: int64}
custom_fields:
  customer: {policy: keep, new_columns: evolve, type_conflicts: freeze}
  ticket: {places: [active_ticket_v2.metadata], policy: drop}
rename:
  cf_customer.Lead Source: lead_source
exclude: [active_ticket_v2.*, cf_customer.tmp_*, blocked]
`

func TestAContractSaysWhatBecomesOfEveryField(t *testing.T) {
	c, err := ParseContract("c.yaml", []byte(governed))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		ref  FieldRef
		want FieldRule
	}{
		{FieldRef{ScopeContact, "phone"}, FieldRule{Wanted: true, Column: "phone", Policy: Hash, Normal: Phone, NewColumns: Freeze, TypeConflicts: Evolve, NewColumnsLine: 2, TypeConflictsLine: 9}},
		{FieldRef{ScopeContact, "email"}, FieldRule{Wanted: true, Column: "email", Policy: Mask, Normal: Text, NewColumns: Freeze, TypeConflicts: Evolve, NewColumnsLine: 2, TypeConflictsLine: 10}},
		{FieldRef{ScopeContact, "name"}, FieldRule{Policy: Mask, NewColumns: Freeze, TypeConflicts: Evolve, NewColumnsLine: 2, TypeConflictsLine: 1}},
		{FieldRef{ScopeContact, "blocked"}, FieldRule{Policy: Mask, NewColumns: Freeze, TypeConflicts: Evolve, NewColumnsLine: 2, TypeConflictsLine: 1}},
		{FieldRef{ScopeContact, "new"}, FieldRule{Wanted: true, Policy: Mask, NewColumns: Freeze, TypeConflicts: Evolve, NewColumnsLine: 2, TypeConflictsLine: 1}},
		{FieldRef{ScopeTicket, "new"}, FieldRule{Policy: Mask, NewColumns: Freeze, TypeConflicts: Evolve, NewColumnsLine: 2, TypeConflictsLine: 1}},
		{FieldRef{ScopeCFCustomer, "lead.Score"}, FieldRule{Wanted: true, Column: "score", Policy: Keep, NewColumns: Evolve, TypeConflicts: Evolve, NewColumnsLine: 15, TypeConflictsLine: 13}},
		{FieldRef{ScopeCFCustomer, "Lead Source"}, FieldRule{Wanted: true, Column: "lead_source", Policy: Keep, NewColumns: Evolve, TypeConflicts: Freeze, NewColumnsLine: 15, TypeConflictsLine: 15}},
		{FieldRef{ScopeCFCustomer, "tmp_1"}, FieldRule{Policy: Keep, NewColumns: Evolve, TypeConflicts: Freeze, NewColumnsLine: 15, TypeConflictsLine: 15}},
		{FieldRef{ScopeCFTicket, "any"}, FieldRule{Policy: Drop, NewColumns: Freeze, TypeConflicts: Evolve, NewColumnsLine: 2, TypeConflictsLine: 1}},
	} {
		if diff := cmp.Diff(tc.want, c.Rule(tc.ref)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.ref, diff)
		}
	}
	if len(c.Columns) != 6 || len(c.Left) != 2 || c.MaxColumns != 50 || len(c.CustomFields) != 4 || !c.Hashes() || c.KeepsAll() {
		t.Errorf("%d columns, %d left out, at most %d, %d places, hashes %t, keeps all %t", len(c.Columns), len(c.Left), c.MaxColumns, len(c.CustomFields), c.Hashes(), c.KeepsAll())
	}
	if d := Default(); d.Hashes() || !d.KeepsAll() || !d.Rule(FieldRef{ScopeCFTicket, "x"}).Wanted {
		t.Error("the built-in contract does not keep all")
	}
}

func TestSelectKeepsWhatItNamesAndTheMandatoryColumns(t *testing.T) {
	c, err := ParseContract("c.yaml", []byte("version: 1\ncolumns:\n"+mandatory+"  - {name: name, type: string}\n  - {name: phone, type: string}\nselect: [phone, cf_ticket.*, active_ticket_v2.*]\nexclude: [cf_ticket.secret]\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[FieldRef]bool{
		{ScopeContact, "id"}: true, {ScopeContact, "phone"}: true, {ScopeContact, "name"}: false, {ScopeContact, "x"}: false,
		{ScopeTicket, "x"}: true, {ScopeCFTicket, "x"}: true, {ScopeCFTicket, "secret"}: false, {ScopeCFCustomer, "x"}: false,
	}
	for ref, wanted := range want {
		if c.Rule(ref).Wanted != wanted {
			t.Errorf("%s is wanted: %t", ref, !wanted)
		}
	}
}

func TestWhatAContractDecidesIsInItsHash(t *testing.T) {
	base := "version: 1\ncolumns:\n" + mandatory + "  - {name: phone, type: string}\n"
	seen := map[string]string{}
	for _, more := range []string{
		"", "undeclared: mask\n", "custom_fields: {ticket: {policy: drop}}\n", "rename: {x: y}\n", "select: [phone]\n", "exclude: [x]\n", "exclude: [x*]\n",
		"  - {name: email, type: string, policy: hash}\n", "  - {name: email, type: string, policy: mask}\n", "  - {name: email, type: string, policy: hash, normalize: text}\n",
	} {
		c, err := ParseContract("c.yaml", []byte(base+more))
		if err != nil {
			t.Fatalf("%q: %v", more, err)
		}
		if before, twice := seen[c.Hash()]; twice {
			t.Errorf("%q has the hash of %q", more, before)
		}
		seen[c.Hash()] = more
	}
	for _, more := range []string{"new_columns: freeze\n", "type_conflicts: discard\n", "max_columns: 5\n"} {
		c, err := ParseContract("c.yaml", []byte(base+more))
		if err != nil || seen[c.Hash()] != "" {
			t.Errorf("%q: %v", more, err)
		}
	}
}

func TestFaultsOfPoliciesAreReportedWhereTheyStand(t *testing.T) {
	text := `version: 1
new_columns: grow
undeclared: secret
max_columns: 0
columns:
  - {name: id, path: id, type: string, required: true, policy: hash}
  - {name: created_at, path: created_at, type: timestamp, required: true}
  - {name: updated_at, path: updated_at, type: timestamp, required: true}
  - {name: phone, type: string, normalize: phone}
  - {name: email, type: string, policy: hash, normalize: mail}
  - {name: score, path: cf_customer.score, type: int64, policy: mask}
  - {name: gone, type: string, required: true, policy: drop}
  - {name: must, type: string, required: true}
custom_fields:
  customer: {policy: none, places: metadata}
  ticket: 5
rename: {phone: tel, x: Y, z: z, q: z}
select: []
exclude: [created_at, "a*b", must, a.b, 7]
`
	want := `c:2:14: unknown new_columns "grow" (allowed: evolve, freeze, discard)
c:3:13: unknown policy "secret" (allowed: keep, hash, mask, drop)
c:4:14: max_columns must be a number from 1 to 4500 (leave it out for 2000)
c:6:64: column id finds and orders versions: it is kept as it is (write policy: keep, or leave the line out)
c:9:44: normalize without such a policy would change nothing (it prepares a value for policy hash or mask)
c:10:58: unknown normalize "mail" (allowed: text, email, phone)
c:11:65: policy mask makes text of any value (write type: string)
c:12:56: a column that is dropped cannot be required (leave required out)
c:13:1: column must is required, and left out by select or exclude (take required away, or let the column in)
c:15:22: unknown policy "none" (allowed: keep, hash, mask, drop)
c:15:36: the places of custom fields must be a list of paths
c:16:11: the places of custom fields must be a list of paths, or a mapping with places, policy, new_columns, type_conflicts
c:17:10: "phone" is already column phone (change the name of the column itself)
c:17:25: "Y" cannot be a column's name (lower-case letters, digits and single underscores, beginning with a letter)
c:17:37: two fields are renamed to "z"
c:18:9: select must be a list of paths (such as [name, cf_ticket.*])
c:19:11: column created_at finds and orders versions: it is always exported
c:19:23: "a*b": * stands at the end alone
c:19:36: path "a.b" leads nowhere that columns can come from (write a field of a contact, active_ticket_v2.<field>, cf_customer.<key> or cf_ticket.<key>)
c:19:41: exclude must be a list of paths`
	_, err := ParseContract("c", []byte(text))
	var ce *ContractError
	if !errors.As(err, &ce) {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}
