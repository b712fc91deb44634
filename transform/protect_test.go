package transform_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/sluice-etl/sluice/schemas"
	"github.com/sluice-etl/sluice/transform"
)

const protectedContract = `version: 1
columns:
  - {name: id, path: id, type: string, required: true}
  - {name: created_at, path: created_at, type: timestamp, required: true}
  - {name: updated_at, path: updated_at, type: timestamp, required: true}
  - {name: client_id, path: client_id, type: string}
  - {name: phone, path: phone, type: string, policy: hash}
  - {name: email, path: email, type: string, policy: mask}
  - {name: nickname, path: nickname, type: string, policy: drop}
`

// undeclared is a whole contract under which every field that it does not
// declare has a policy.
func undeclared(policy string) string { return protectedContract + "undeclared: " + policy + "\n" }

// somebody is a contact with the given members.
func somebody(members string) string {
	return `{"id":"a","created_at":"2024-01-02T03:04:05.678Z","updated_at":"2024-01-02T03:04:05.678Z",` + members + `}`
}

func contractOf(t *testing.T, text string) *schemas.Contract {
	t.Helper()
	c, err := schemas.ParseContract("contract.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func hashKey(t *testing.T, secret string) *schemas.HashKey {
	t.Helper()
	k, err := schemas.NewHashKey([]byte(secret + strings.Repeat(".", schemas.MinHashKey)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func hashOfText(k *schemas.HashKey, text string) string {
	return string(schemas.Hash.Protect(nil, []byte(text), schemas.Text, k))
}

// sealedUnder returns what contacts become under a contract. registry may be
// that of an earlier contract, nil for a new one.
func sealedUnder(t *testing.T, o transform.Options, registry []schemas.RegistryEntry, contacts ...string) (*transform.Sealed, *schemas.Registry) {
	t.Helper()
	reg, err := schemas.NewRegistry(o.Contract, registry)
	if err != nil {
		t.Fatal(err)
	}
	c := transform.NewChunk(o)
	decodeAll(t, c, [][]byte{page(contacts)})
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	s := seal(t, c, reg, mem)
	t.Cleanup(func() {
		s.Record.Release()
		mem.AssertSize(t, 0)
	})
	return s, reg
}

func valueOf(t *testing.T, s *transform.Sealed, column string, row int) string {
	t.Helper()
	i := s.Table.Index(column)
	if i < 0 {
		return "no column"
	}
	return cell(s.Record.Column(i), row)
}

func TestADeclaredColumnHoldsWhatItsPolicyLeaves(t *testing.T) {
	k := hashKey(t, "one")
	s, _ := sealedUnder(t, transform.Options{Contract: contractOf(t, protectedContract), HashKey: k}, nil,
		somebody(`"phone":"+56 9 1234 5678","email":"Ana@Example.com","nickname":"ani","city":"Lota"`),
		somebody(`"phone":56912345678,"email":{"b":1,"a":"x"}`),
		somebody(`"phone":"","email":""`),
		somebody(`"phone":null`),
		somebody(`"phone":true,"email":false`))
	phone := string(schemas.Hash.Protect(nil, []byte("56912345678"), schemas.Phone, k))
	for i, want := range []struct{ phone, email, city string }{
		{phone, "***@example.com", "Lota"},
		{phone, "***", "null"},
		{"", "", "null"},
		{"null", "null", "null"},
		{hashOfText(k, "true"), "***", "null"},
	} {
		if p, e, c := valueOf(t, s, "phone", i), valueOf(t, s, "email", i), valueOf(t, s, "city", i); p != want.phone || e != want.email || c != want.city {
			t.Errorf("row %d: phone %s, email %s, city %s, want %+v", i, p, e, c, want)
		}
	}
	if s.Table.Index("nickname") >= 0 || s.Table.Index("phone__text") >= 0 || len(s.Misfits) > 0 {
		t.Errorf("the table has %v, misfits %v", s.Table.Columns, s.Misfits)
	}
}

// plantedFields hold a secret wherever a contact may have a value.
const plantedFields = `"a":"PLANTED","b":["PLANTED"],"c":{"x":"PLANTED"},"active_ticket_v2":{"t":"PLANTED","metadata":{"k":"PLANTED","n":{"PLANTED":1}}},` +
	`"metadata":{"k":"PLANTED"},"custom_fields":[{"key":"k","value":"PLANTED too"},{"key":"j","value":"PLANTED","label":"PLANTED"}],` +
	`"custom_field_values":"PLANTED","client_id":"c"`

func TestEveryUndeclaredFieldHasThePolicyOfItsScope(t *testing.T) {
	for _, policy := range []string{"hash", "mask", "drop"} {
		s, reg := sealedUnder(t, transform.Options{Contract: contractOf(t, undeclared(policy)), HashKey: hashKey(t, "one")}, nil, somebody(plantedFields))
		text := render(s, false) + fmt.Sprint(reg.Entries())
		if strings.Contains(text, "PLANTED") {
			t.Errorf("%s: it is still there:\n%s", policy, text)
		}
	}
	s, _ := sealedUnder(t, transform.Options{Contract: contractOf(t, undeclared("keep")), HashKey: hashKey(t, "one")}, nil, somebody(plantedFields))
	if n := strings.Count(render(s, false), "PLANTED"); n < 9 {
		t.Errorf("kept, it is there %d times, so that this test shows nothing", n)
	}
}

func TestWhatHoldsCustomFieldsAsAWholeShowsNoMoreThanTheyMay(t *testing.T) {
	for _, of := range []string{
		"custom_fields: {customer: {places: [custom_fields, other], policy: mask}, ticket: {places: [active_ticket_v2.metadata], policy: mask}}\n",
		"custom_fields: {customer: {places: [custom_fields, other], policy: drop}, ticket: {places: [active_ticket_v2.metadata], policy: hash}}\n",
	} {
		o := transform.Options{Contract: contractOf(t, protectedContract+of), HashKey: hashKey(t, "one")}
		for _, contact := range []string{
			`"custom_fields":[{"key":"rut","value":"PLANTED","label":"x"}]`,
			`"custom_fields":["PLANTED"]`, `"custom_fields":"PLANTED"`, `"custom_fields":{"rut":"PLANTED"},"other":{"rut":"PLANTED 2"}`,
			`"active_ticket_v2":{"metadata":["PLANTED"]}`, `"active_ticket_v2":[{"metadata":{"rut":"PLANTED"}}]`, `"active_ticket_v2":"PLANTED"`,
		} {
			s, _ := sealedUnder(t, o, nil, somebody(contact))
			if text := render(s, false); strings.Contains(text, "PLANTED") {
				t.Errorf("%s: it is still there:\n%s", contact, text)
			}
		}
		s, _ := sealedUnder(t, o, nil, somebody(`"open":"KEPT","active_ticket_v2":{"open":"KEPT"}`))
		if n := strings.Count(render(s, false), "KEPT"); n != 2 {
			t.Errorf("what is kept is there %d times, want 2", n)
		}
	}
}

func TestAFieldWhoseTypeIsSettledKeepsItAndTheTextStandsBeside(t *testing.T) {
	contacts := []string{somebody(`"score":1,"flag":true,"list":[1],"note":"text"`)}
	_, reg := sealedUnder(t, transform.Options{Contract: contractOf(t, protectedContract), HashKey: hashKey(t, "one")}, nil, contacts...)
	k := hashKey(t, "one")
	s, after := sealedUnder(t, transform.Options{Contract: contractOf(t, undeclared("hash")), HashKey: k}, reg.Entries(), contacts...)
	for column, want := range map[string]string{
		"score": "null", "score__text": hashOfText(k, "1"), "flag": "null", "flag__text": hashOfText(k, "true"), "list": `"` + hashOfText(k, "[1]") + `"`, "note": hashOfText(k, "text"),
	} {
		if got := valueOf(t, s, column, 0); got != want {
			t.Errorf("%s is %s, want %s", column, got, want)
		}
	}
	if s.Misfits["score"] != 1 || len(after.Entries()) != 4 {
		t.Errorf("misfits %v, registry %v", s.Misfits, after.Entries())
	}
	fresh, _ := sealedUnder(t, transform.Options{Contract: contractOf(t, undeclared("hash")), HashKey: k}, nil, contacts...)
	for _, column := range []string{"score", "flag", "list", "note"} {
		if typ := fresh.Table.Columns[fresh.Table.Index(column)].Type; typ != schemas.String {
			t.Errorf("a new column %s of hashes is of type %s", column, typ)
		}
	}
}

func TestFieldsBeyondTheLimitHaveTheirPolicyToo(t *testing.T) {
	var members []string
	for i := range 40 {
		members = append(members, fmt.Sprintf(`"field_%02d":"PLANTED"`, i))
	}
	for _, policy := range []string{"hash", "mask", "drop"} {
		k := hashKey(t, "one")
		s, _ := sealedUnder(t, transform.Options{Contract: contractOf(t, undeclared(policy)), HashKey: k, MaxColumns: 3}, nil, somebody(strings.Join(members, ",")))
		text := render(s, false)
		if strings.Contains(text, "PLANTED") {
			t.Errorf("%s: it is still there:\n%s", policy, text)
		}
		over := valueOf(t, s, schemas.ColOverflow, 0)
		want := map[string]string{"hash": hashOfText(k, "PLANTED"), "mask": "***", "drop": "no column"}[policy]
		if n := strings.Count(over, want); n != map[string]int{"hash": 37, "mask": 37, "drop": 1}[policy] {
			t.Errorf("%s: the overflow has %d of %s: %s", policy, n, want, over)
		}
	}
}

func TestTheRowHashIsOfWhatIsStored(t *testing.T) {
	rowHash := func(k *schemas.HashKey, contract, contact string) int64 {
		s, _ := sealedUnder(t, transform.Options{Contract: contractOf(t, contract), HashKey: k}, nil, somebody(contact))
		return hashOf(s, 0)
	}
	one, two := hashKey(t, "one"), hashKey(t, "two")
	same := func(what string, a, b int64, want bool) {
		if (a == b) != want {
			t.Errorf("%s: one version is %t, want %t", what, a == b, want)
		}
	}
	phone := rowHash(one, protectedContract, `"phone":"+56 9 1234 5678"`)
	same("another spelling of the number", phone, rowHash(one, protectedContract, `"phone":"0056912345678"`), true)
	same("another number", phone, rowHash(one, protectedContract, `"phone":"+56 9 1234 5679"`), false)
	same("another key", phone, rowHash(two, protectedContract, `"phone":"+56 9 1234 5678"`), false)
	same("another value that is masked alike", rowHash(one, protectedContract, `"email":"ana@example.com"`), rowHash(one, protectedContract, `"email":"luis@example.com"`), true)
	same("a value that is dropped", rowHash(one, protectedContract, `"nickname":"a"`), rowHash(one, protectedContract, `"nickname":"b"`), true)
	same("members in another order", rowHash(one, undeclared("hash"), `"x":{"a":1,"b":"é"}`), rowHash(one, undeclared("hash"), `"x":{ "b": "\u00e9", "a":1 }`), true)
	same("a number written otherwise", rowHash(one, undeclared("hash"), `"x":{"a":1}`), rowHash(one, undeclared("hash"), `"x":{"a":1.0}`), false)
	same("a number beyond any float", rowHash(one, undeclared("hash"), `"x":[12345678901234567890]`), rowHash(one, undeclared("hash"), `"x":[12345678901234567891]`), false)
}

func TestFiltersSeeValuesAsTheyWereServed(t *testing.T) {
	o := transform.Options{
		Contract: contractOf(t, undeclared("hash")), HashKey: hashKey(t, "one"),
		Bury: map[string][]string{"phone": {"+1 555"}}, BuryField: &transform.FieldFilter{Key: "plan", Value: "gold"},
	}
	s, _ := sealedUnder(t, o, nil,
		somebody(`"phone":"+1 555","metadata":{"plan":"gold"}`), somebody(`"phone":"+1 556","metadata":{"plan":"gold"}`), somebody(`"phone":"+1 555","metadata":{"plan":"tin"}`))
	if s.Buried != 2 || valueOf(t, s, schemas.ColDeletedAt, 0) != "null" {
		t.Errorf("%d rows are outside, want the last 2", s.Buried)
	}
}

func TestClientIDsAreAsTheTableHoldsThem(t *testing.T) {
	k := hashKey(t, "one")
	contact := page([]string{somebody(`"client_id":"acme"`)})
	column := func(policy string) string {
		return strings.Replace(protectedContract, "path: client_id, type: string", "path: client_id, type: string, policy: "+policy, 1)
	}
	for policy, want := range map[string]string{
		"keep": "[acme]", "mask": "[]", "drop": "[]", "hash": "[" + schemas.HashedAccount + k.ID() + ":" + hashOfText(k, "acme") + "]",
	} {
		c := transform.NewChunk(transform.Options{Contract: contractOf(t, column(policy)), HashKey: k})
		decodeAll(t, c, [][]byte{contact, contact})
		if got := fmt.Sprint(c.ClientIDs()); got != want {
			t.Errorf("%s: client ids %s, want %s", policy, got, want)
		}
	}
}

func TestAContractThatHashesNeedsAKey(t *testing.T) {
	for _, contract := range []string{protectedContract, undeclared("hash")} {
		_, err := transform.NewChunk(transform.Options{Contract: contractOf(t, contract)}).Decode([]byte("[]"))
		if err == nil || !strings.Contains(err.Error(), "no hash key") {
			t.Errorf("decoded without a key: %v", err)
		}
	}
	contract := contractOf(t, protectedContract)
	contract.Columns[4].Type = schemas.Int64
	if _, err := transform.NewChunk(transform.Options{Contract: contract, HashKey: hashKey(t, "one")}).Decode([]byte("[]")); err == nil {
		t.Error("a number is to hold a hash, and nothing was said")
	}
}

func TestSealingAgainAfterAnErrorDoesNotHashAHash(t *testing.T) {
	contract := contractOf(t, protectedContract)
	c := transform.NewChunk(transform.Options{Contract: contract, HashKey: hashKey(t, "one")})
	decodeAll(t, c, [][]byte{page([]string{somebody(`"phone":"+1 555"`)})})
	if _, err := c.Seal(newRegistry(t), "run", nil); err == nil {
		t.Fatal("the registry of another contract was taken")
	}
	reg, err := schemas.NewRegistry(contract, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := seal(t, c, reg, nil)
	defer s.Record.Release()
	want := schemas.Hash.Protect(nil, []byte("1555"), schemas.Phone, hashKey(t, "one"))
	if got := valueOf(t, s, "phone", 0); !bytes.Equal([]byte(got), want) {
		t.Errorf("phone is %s, want %s", got, want)
	}
}

func TestAChunkIsUsedAgainUnderPolicies(t *testing.T) {
	o := transform.Options{Contract: contractOf(t, undeclared("hash")), HashKey: hashKey(t, "one")}
	reg, err := schemas.NewRegistry(o.Contract, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := transform.NewChunk(o)
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	var first string
	for range 3 {
		decodeAll(t, c, [][]byte{page([]string{somebody(plantedFields), somebody(`"a":"x","phone":"+1 555"`)})})
		s := seal(t, c, reg, mem)
		if got := render(s, true); first == "" {
			first = got
		} else if got != first {
			t.Errorf("the same contacts became\n%s\nand then\n%s", first, got)
		}
		s.Record.Release()
	}
}
