package transform_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/schemas"
	"github.com/sluice-etl/sluice/transform"
)

const bareContract = `version: 1
columns:
  - {name: id, type: string, required: true}
  - {name: created_at, type: timestamp, required: true}
  - {name: updated_at, type: timestamp, required: true}
`

const typedContract = bareContract + `
  - {name: age, path: cf_customer.Age, type: int64}
  - {name: since, path: cf_customer.Since, type: timestamp}
  - {name: born, path: cf_customer.Born, type: date, type_conflicts: discard}
  - {name: vip, path: cf_ticket.Vip, type: bool}
  - {name: amount, path: cf_ticket.Amount, type: float64}
  - {name: blob, path: cf_customer.Blob, type: json}
  - {name: note, type: string, type_conflicts: discard}
  - {name: seen, path: active_ticket_v2.seen, type: timestamp}
  - {name: score, type: int64}
  - {name: gone, path: cf_customer.Gone, type: string}
rename: {cf_ticket.Free: free, cf_customer.Free: free_too}
`

// rulesets are what follows after typedContract.
var rulesets = []string{
	"",
	"exclude: [cf_ticket.F*, cf_customer.Gone, secret, active_ticket_v2.*]\n",
	"select: [score, cf_customer.*, active_ticket_v2.seen]\nexclude: [cf_customer.Age]\n",
	"new_columns: discard\n",
	"type_conflicts: discard\n",
	"custom_fields: {customer: {new_columns: discard}, ticket: {type_conflicts: discard}}\n",
	"new_columns: discard\ntype_conflicts: discard\ncustom_fields: {customer: {new_columns: evolve}, ticket: {}}\n",
	"undeclared: drop\n",
	"max_columns: 4000\nselect: ['*', cf_ticket.*]\n",
}

var values = []string{
	`"85"`, `85`, `"-7"`, `"12.50"`, `12.5`, `true`, `"true"`, `"True"`, `""`, `"NaN"`, `"Infinity"`, `1e400`, `"1e400"`, `"1e2"`,
	`12345678901234567890`, `"12345678901234567890"`, `9007199254740993`, `"9007199254740993"`, `"2026-01-31"`, `"2026-02-30"`,
	`"2026-01-31T10:00:00Z"`, `"2026-01-31T10:00:00+02:00"`, `"2026-01-31T10:00:00"`, `{"a":1}`, `[1]`, `null`, `" 85"`, `"1,234.50"`,
	`"007"`, `"-0"`, `"+1"`, `"0x10"`, `"8\u0035"`, `"words"`,
}

// anyContact is a contact with fields of all scopes, places and kinds.
func anyContact(r *rand.Rand, id int) string {
	value := func() string { return values[r.IntN(len(values))] }
	var b strings.Builder
	fmt.Fprintf(&b, `{"id":"c%d","created_at":"2024-01-02T03:04:05.678Z","updated_at":"2024-01-02T03:04:05.678Z"`, id)
	fields := func(keys ...string) {
		for _, k := range keys {
			if r.IntN(3) == 0 {
				fmt.Fprintf(&b, `,"%s":%s`, k, value())
			}
		}
	}
	places := func() {
		for _, place := range []string{"custom_fields", "custom_field_values", "metadata"} {
			var members []string
			list := r.IntN(2) == 0
			for _, k := range []string{"Age", "Since", "Born", "Vip", "Amount", "Blob", "Gone", "Free", "More"} {
				switch {
				case r.IntN(3) > 0:
				case list:
					members = append(members, fmt.Sprintf(`{"key":"%s","value":%s}`, k, value()))
				default:
					members = append(members, fmt.Sprintf(`"%s":%s`, k, value()))
				}
			}
			switch open := map[bool]string{true: "[]", false: "{}"}[list]; r.IntN(8) {
			case 0:
				fmt.Fprintf(&b, `,"%s":%s`, place, value())
			default:
				fmt.Fprintf(&b, `,"%s":%c%s%c`, place, open[0], strings.Join(members, ","), open[1])
			}
		}
	}
	fields("note", "score", "secret", "other")
	places()
	if r.IntN(4) == 0 {
		fmt.Fprintf(&b, `,"active_ticket_v2":%s`, value())
	} else {
		b.WriteString(`,"active_ticket_v2":{"x":1`)
		fields("seen", "extra")
		places()
		b.WriteString("}")
	}
	b.WriteString("}")
	return b.String()
}

func contacts(r *rand.Rand, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = anyContact(r, i)
	}
	return out
}

func TestEveryRuleOfAContractReadsAsTheOracleReadsIt(t *testing.T) {
	const seed = 3
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, seed))
	for _, rules := range rulesets {
		contract := contractOf(t, typedContract+rules)
		c := transform.NewChunk(transform.Options{Contract: contract})
		reg, err := schemas.NewRegistry(contract, nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 60 {
			if !checkPage(t, c, reg, page(contacts(r, 1+r.IntN(12)))) {
				t.Fatal("a page was not taken")
			}
		}
	}
}

// Under freeze a chunk seals where the table would neither grow nor set values
// beside, and else names the first contact of which that is not so.
func TestAFreezeStopsAtTheFirstContactThatTheTableHasNoPlaceFor(t *testing.T) {
	const seed = 5
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, seed))
	stopped, passed := 0, 0
	for range 150 {
		known := newRegistryOf(t, contractOf(t, typedContract), nil)
		for i := range r.IntN(3) { // fields that the table has already
			known.Settle(schemas.FieldRef{Scope: schemas.ScopeCFCustomer, Key: []string{"Free", "More", "Vip"}[i]}, schemas.KindString, "r0")
		}
		rules := []string{"new_columns: freeze\n", "type_conflicts: freeze\n", "custom_fields: {customer: {new_columns: freeze, type_conflicts: freeze}, ticket: {}}\n"}[r.IntN(3)]
		frozen := contractOf(t, typedContract+rules)
		all := contacts(r, 1+r.IntN(4))
		if r.IntN(2) == 0 {
			all = []string{`{"id":"plain","created_at":"2024-01-02T03:04:05.678Z","updated_at":"2024-01-02T03:04:05.678Z","score":"1"}`}
		}
		// The first contact that a table which evolves would change for.
		first := -1
		for i := range all {
			reg := newRegistryOf(t, contractOf(t, typedContract), known.Entries())
			if grows(t, frozen, reg, all[i]) {
				first = i
				break
			}
		}
		c := transform.NewChunk(transform.Options{Contract: frozen})
		decodeAll(t, c, [][]byte{page(all)})
		reg := newRegistryOf(t, frozen, known.Entries())
		before := reg.Entries()
		s, err := c.Seal(reg, "run", nil)
		var got *schemas.FreezeError
		switch {
		case first < 0 && err == nil:
			passed++
			s.Record.Release()
			continue
		case first < 0 || !errors.As(err, &got):
			t.Fatalf("first %d: %v\n%s%s", first, err, rules, all)
		}
		stopped++
		if want := fmt.Sprintf(`"id":"%s"`, got.Contact); !strings.Contains(all[first], want) || got.Line < 7 || got.Contract != "contract.yaml" {
			t.Fatalf("%+v, want contact %d\n%s", got, first, all)
		}
		if diff := cmp.Diff(before, reg.Entries()); diff != "" {
			t.Fatalf("fields were settled on the way: %s", diff)
		}
		if _, again := c.Seal(reg, "run", nil); again == nil || again.Error() != err.Error() || c.Rows() != len(all) {
			t.Fatalf("the chunk changed: %v, then %v", err, again)
		}
	}
	if stopped < 20 || passed < 20 {
		t.Errorf("%d chunks stopped and %d passed", stopped, passed)
	}
}

// grows reports whether one contact, under a contract that evolves, would give
// the table a column or set a value beside one that frozen freezes.
func grows(t *testing.T, frozen *schemas.Contract, reg *schemas.Registry, contact string) bool {
	t.Helper()
	had := len(reg.Table().Columns)
	known := map[schemas.FieldRef]bool{}
	for _, e := range reg.Entries() {
		known[e.Ref()] = true
	}
	c := transform.NewChunk(transform.Options{Contract: reg.Contract()})
	decodeAll(t, c, [][]byte{page([]string{contact})})
	s := seal(t, c, reg, nil)
	defer s.Record.Release()
	if len(s.Table.Columns) == had {
		return false
	}
	for _, e := range reg.Entries() {
		rule := frozen.Rule(e.Ref())
		_, declared := frozen.Column(e.Ref())
		if !known[e.Ref()] && !declared && rule.NewColumns == schemas.Freeze || e.Misfit && rule.TypeConflicts == schemas.Freeze {
			return true
		}
	}
	return false
}

func newRegistryOf(t *testing.T, c *schemas.Contract, entries []schemas.RegistryEntry) *schemas.Registry {
	t.Helper()
	reg, err := schemas.NewRegistry(c, entries)
	if err != nil {
		t.Fatal(err)
	}
	return reg
}

func TestAFreezeSaysWhatStoodWhere(t *testing.T) {
	for _, tc := range []struct {
		rules, member string
		want          schemas.FreezeError
	}{
		{"new_columns: freeze\n", `"other":12`, schemas.FreezeError{Line: 18, Field: "contact:other", Column: "other", Got: schemas.Int64, Kind: schemas.KindInt, New: true}},
		{"type_conflicts: freeze\n", `"score":"many"`, schemas.FreezeError{Line: 15, Field: "contact:score", Column: "score", Have: schemas.Int64, Got: schemas.String, Kind: schemas.KindString}},
		{"type_conflicts: freeze\n", `"active_ticket_v2":{"seen":true}`, schemas.FreezeError{Line: 14, Field: "ticket:seen", Column: "seen", Have: schemas.Timestamp, Got: schemas.Bool, Kind: schemas.KindBool}},
		{
			"type_conflicts: freeze\n", `"custom_fields":{"Free":1},"metadata":{"Free":2}`,
			schemas.FreezeError{Line: 18, Field: "cf_customer:Free", Column: "free_too", Have: schemas.Int64, Got: schemas.Int64, Kind: schemas.KindInt, Twice: true},
		},
	} {
		contract := contractOf(t, typedContract+tc.rules)
		c := transform.NewChunk(transform.Options{Contract: contract})
		decodeAll(t, c, [][]byte{page([]string{somebody(tc.member)})})
		_, err := c.Seal(newRegistryOf(t, contract, nil), "run", nil)
		var got *schemas.FreezeError
		if !errors.As(err, &got) {
			t.Errorf("%s: %v", tc.member, err)
			continue
		}
		tc.want.Contract, tc.want.Contact = "contract.yaml", "a"
		if diff := cmp.Diff(tc.want, *got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.member, diff)
		}
	}
}

func TestDeclaredColumnsTakeTextThatIsTheValue(t *testing.T) {
	contract := contractOf(t, typedContract)
	for _, tc := range []struct{ column, place, key, value, want, beside string }{
		{"age", "metadata", "Age", `"85"`, "85", ""},
		{"age", "metadata", "Age", `"-9223372036854775808"`, "-9223372036854775808", ""},
		{"age", "metadata", "Age", `"9223372036854775808"`, "null", "9223372036854775808"},
		{"age", "metadata", "Age", `"85.0"`, "null", "85.0"},
		{"age", "metadata", "Age", `""`, "null", ""},
		{"age", "metadata", "Age", `" 85"`, "null", " 85"},
		{"age", "metadata", "Age", `"007"`, "null", "007"},
		{"amount", "ticket", "Amount", `"12.50"`, "12.5", ""},
		{"amount", "ticket", "Amount", `"1e2"`, "100", ""},
		{"amount", "ticket", "Amount", `"1e400"`, "null", "1e400"},
		{"amount", "ticket", "Amount", `-9223372036854775808`, "-9.223372036854776e+18", ""},
		{"amount", "ticket", "Amount", `9223372036854775807`, "null", "9223372036854775807"},
		{"amount", "ticket", "Amount", `"1,234.50"`, "null", "1,234.50"},
		{"amount", "ticket", "Amount", `"NaN"`, "null", "NaN"},
		{"amount", "ticket", "Amount", `"0.1000000000000000055"`, "null", "0.1000000000000000055"},
		{"vip", "ticket", "Vip", `"true"`, "true", ""},
		{"vip", "ticket", "Vip", `"false"`, "false", ""},
		{"vip", "ticket", "Vip", `"TRUE"`, "null", "TRUE"},
		{"vip", "ticket", "Vip", `1`, "null", "1"},
		{"born", "metadata", "Born", `"2026-01-31"`, "2026-01-31", ""},
		{"since", "metadata", "Since", `"2026-01-31T12:00:00.5+02:00"`, "2026-01-31 10:00:00.5Z", ""},
		{"since", "metadata", "Since", `"2026-01-31"`, "null", "2026-01-31"},
		{"blob", "metadata", "Blob", `"{\"a\":1}"`, `"{\"a\":1}"`, ""},
	} {
		member := fmt.Sprintf(`"%s":{"%s":%s}`, tc.place, tc.key, tc.value)
		if tc.place == "ticket" {
			member = fmt.Sprintf(`"active_ticket_v2":{"metadata":{"%s":%s}}`, tc.key, tc.value)
		}
		s, _ := sealedUnder(t, transform.Options{Contract: contract}, nil, somebody(member))
		if got := valueOf(t, s, tc.column, 0); got != tc.want {
			t.Errorf("%s: column is %s, want %s", member, got, tc.want)
		}
		beside := valueOf(t, s, tc.column+"__text", 0)
		switch fits := tc.want != "null"; {
		case fits && (beside != "no column" || len(s.Misfits) > 0):
			t.Errorf("%s: beside it stands %s, %v", member, beside, s.Misfits)
		case !fits && (beside != tc.beside || s.Misfits[tc.column] != 1):
			t.Errorf("%s: beside it stands %q, %v", member, beside, s.Misfits)
		}
	}
}

func TestSightingsCountWhatFieldsHeld(t *testing.T) {
	contract := contractOf(t, typedContract+"custom_fields: {customer: {}, ticket: {new_columns: discard}}\nexclude: [cf_customer.Gone]\n")
	s, _ := sealedUnder(t, transform.Options{Contract: contract}, nil,
		somebody(`"other":"x","metadata":{"More":1,"Age":"12","Gone":1},"active_ticket_v2":{"seen":"2026-01-31T12:00:00Z","metadata":{"More":true}}`),
		somebody(`"other":"","metadata":{"More":1.5,"Age":"young"},"active_ticket_v2":{"seen":5}`),
		somebody(`"other":null,"metadata":{"More":9007199254740993}`),
		somebody(`"other":{},"metadata":{"More":1e999,"Age":null}`),
	)
	want := []schemas.Sighting{
		{Scope: schemas.ScopeCFCustomer, Key: "Age", Values: map[string]int64{"string": 2}},
		{Scope: schemas.ScopeCFCustomer, Key: "More", Values: map[string]int64{"int": 1, "float": 1, "long_int": 1, "big_number": 1}},
		{Scope: schemas.ScopeCFTicket, Key: "More", Values: map[string]int64{"bool": 1}},
		{Scope: schemas.ScopeContact, Key: "other", Values: map[string]int64{"string": 1, "empty": 1, "nested": 1}},
		{Scope: schemas.ScopeTicket, Key: "seen", Values: map[string]int64{"string": 1, "int": 1}},
	}
	if diff := cmp.Diff(want, s.Sightings); diff != "" {
		t.Errorf("sightings (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int64{"cf_ticket:More": 1}, s.Discarded); diff != "" {
		t.Errorf("discarded (-want +got):\n%s", diff)
	}
}

// What the contract does not want is nowhere, the overflow included, while
// filters and the walk see it.
func TestFieldsThatAreNotWantedAreSeenByFiltersAlone(t *testing.T) {
	contract := contractOf(t, bareContract+`
  - {name: platform, type: string, policy: drop}
  - {name: last_message_at, type: timestamp}
exclude: [last_message_at, cf_customer.hidden*, cf_customer.Stage]
max_columns: 1
`)
	const body = `"platform":"%s","last_message_at":"2026-01-31T12:00:00Z","metadata":{"hidden %d":"secret","shown":"x","over":"y","Stage":"secret"}`
	c := transform.NewChunk(transform.Options{
		Contract: contract,
		Filter:   map[string][]string{"platform": {"sms"}}, BuryField: &transform.FieldFilter{Key: "stage", Value: "secret"},
	})
	rows, err := c.Decode(page([]string{somebody(fmt.Sprintf(body, "sms", 1)), somebody(fmt.Sprintf(body, "web", 2))}))
	if err != nil {
		t.Fatal(err)
	}
	if rows[0].LastMessage != time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC).UnixMicro() {
		t.Errorf("the walk sees %+v", rows[0])
	}
	if n := c.Keep(nil, transform.Meta{}); n != 1 {
		t.Errorf("%d contacts pass the filter", n)
	}
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	s := seal(t, c, newRegistryOf(t, contract, nil), mem)
	defer s.Record.Release()
	text := render(s, false)
	if s.Buried != 0 || strings.Contains(text, "secret") || strings.Contains(text, "last_message_at") || strings.Contains(text, "platform") {
		t.Errorf("%d buried\n%s", s.Buried, text)
	}
	if !strings.Contains(text, `"cf_customer:shown":"x"`) { // by key, over comes before
		t.Errorf("the table has more columns than max_columns, or lost a value:\n%s", text)
	}
	for _, seen := range s.Sightings {
		if seen.Key != "shown" && seen.Key != "over" {
			t.Errorf("field %s was noted", seen.Key)
		}
	}
}

// Keys without end neither fill the chunk nor take the place of those that the
// table has.
func TestManyFieldsThatAreLeftOutDoNotCrowdOutOthers(t *testing.T) {
	for rules, counted := range map[string]bool{"new_columns: discard\n": true, "exclude: [cf_customer.junk*]\n": false} {
		contract := contractOf(t, bareContract+rules+"max_columns: 2\n")
		known := newRegistryOf(t, contract, nil)
		known.Settle(schemas.FieldRef{Scope: schemas.ScopeCFCustomer, Key: "city"}, schemas.KindString, "r0")
		c := transform.NewChunk(transform.Options{Contract: contract})
		for round := range 2 { // the second in a chunk that has been emptied
			var all []string
			for i := range 20 {
				all = append(all, somebody(fmt.Sprintf(`"metadata":{"junk%d":"x","junk%d":{"a":["y"]},"city":"Lima"},"custom_fields":[{"key":"junk%d","value":"z"}]`, 2*i, 2*i+1, 100+i)))
			}
			decodeAll(t, c, [][]byte{page(all)})
			s := seal(t, c, known, nil)
			for row := range 20 {
				if got := valueOf(t, s, "cf_customer_city", row); got != "Lima" {
					t.Fatalf("%sround %d, row %d: city is %s", rules, round, row, got)
				}
			}
			if n := len(s.Table.Columns); n != 3+1+len(schemas.StagedColumns()) {
				t.Errorf("%s%d columns", rules, n)
			}
			if (len(s.Discarded) == 60) != counted {
				t.Errorf("%sleft out are %v", rules, s.Discarded)
			}
			s.Record.Release()
		}
	}
}
