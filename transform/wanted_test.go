package transform_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/schemas"
	"github.com/sluice-etl/sluice/transform"
)

// numbered returns contacts with the given members and ids 0, 1, 2...
func numbered(members ...string) []string {
	out := make([]string, len(members))
	for i, m := range members {
		if m != "" {
			m = "," + m
		}
		out[i] = fmt.Sprintf(`{"id":"%d","created_at":"2024-01-01T00:00:00Z","updated_at":"2024-01-01T00:00:00Z"%s}`, i, m)
	}
	return out
}

var pageArrived = time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)

// stay returns which contacts, in order, a chunk does not mark as deleted. All
// of them have to be kept.
func stay(t *testing.T, o transform.Options, contacts []string) []bool {
	t.Helper()
	c := transform.NewChunk(o)
	return stayIn(t, c, newRegistry(t), contacts)
}

func stayIn(t *testing.T, c *transform.Chunk, reg *schemas.Registry, contacts []string) []bool {
	t.Helper()
	if _, err := c.Decode(page(contacts)); err != nil {
		t.Fatal(err)
	}
	if n := c.Keep(nil, transform.Meta{ExtractedAt: pageArrived}); n != len(contacts) {
		t.Fatalf("kept %d of %d", n, len(contacts))
	}
	s := seal(t, c, reg, nil)
	defer s.Record.Release()
	deleted := s.Record.Column(s.Table.Index(schemas.ColDeletedAt))
	out := make([]bool, len(contacts))
	for i := range out { // one month: they stand in order of arrival
		v := cell(deleted, i)
		if out[i] = v == "null"; !out[i] && v != "2024-05-06T07:08:09Z" && v != "2024-05-06 07:08:09Z" {
			t.Fatalf("contact %d is deleted at %s, not when its page arrived", i, v)
		}
	}
	return out
}

func TestACustomFieldFilterKeepsWhoHasTheValueAndMarksTheRest(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		filter transform.FieldFilter
		stay   []string // members
		leave  []string
	}{
		{
			"in each shape and place",
			transform.FieldFilter{Key: "city", Value: "Lima", Entity: "customer"},
			[]string{
				`"custom_fields":{"city":"Lima"}`, `"custom_fields":[{"key":"city","value":"Lima"}]`,
				`"custom_field_values":{"city":"Lima"}`, `"custom_field_values":[{"key":"other","value":1},{"value":"Lima","key":"city"}]`,
				`"metadata":{"a":1,"city":"Lima","b":null}`, `"metadata":[{"key":"city","value":"Lima","label":"extra"}]`,
				`"metadata" : { "city" : "Lima" }`,
			},
			[]string{
				``, `"metadata":null`, `"metadata":{}`, `"metadata":[]`, `"metadata":"city"`, `"metadata":{"city":null}`, `"metadata":{"city":""}`, `"metadata":{"city":"lima"}`,
				`"metadata":{"city":"Lima "}`, `"metadata":{"town":"Lima"}`, `"metadata":[{"key":"city","value":"Lima"},"not a field"]`,
				`"city":"Lima"`, `"other":{"city":"Lima"}`, `"active_ticket_v2":{"metadata":{"city":"Lima"}}`, `"metadata":{"city":["Lima"]}`, `"metadata":{"a":{"city":"Lima"}}`,
			},
		},
		{
			"of the ticket",
			transform.FieldFilter{Key: "city", Value: "Lima", Entity: "ticket"},
			[]string{
				`"active_ticket_v2":{"id":"t","custom_fields":{"city":"Lima"}}`, `"active_ticket_v2":{"custom_field_values":[{"key":"city","value":"Lima"}]}`,
				`"active_ticket_v2":{"metadata":{"city":"Lima"}},"metadata":{"city":"Quito"}`,
			},
			[]string{
				`"metadata":{"city":"Lima"}`, `"active_ticket_v2":null`, `"active_ticket_v2":{}`, `"active_ticket_v2":{"city":"Lima"}`, `"active_ticket_v2":[{"metadata":{"city":"Lima"}}]`,
				`"active_ticket_v2":{"metadata":{"city":"Quito"}},"metadata":{"city":"Lima"}`,
			},
		},
		{
			"of either",
			transform.FieldFilter{Key: "city", Value: "Lima"},
			[]string{
				`"active_ticket_v2":{"metadata":{"city":"Lima"}},"metadata":{"city":"Quito"}`, `"active_ticket_v2":{"metadata":{"city":"Quito"}},"metadata":{"city":"Lima"}`,
				`"metadata":{"city":"Lima"},"active_ticket_v2":null`,
			},
			[]string{`"active_ticket_v2":{"metadata":{"city":"Quito"}},"metadata":{"city":null}`},
		},
		{
			"by the text of a number",
			transform.FieldFilter{Key: "n", Value: "1.50"},
			[]string{`"metadata":{"n":1.50}`, `"metadata":{"n":"1.50"}`, `"metadata":[{"key":"n","value":1.50}]`},
			[]string{`"metadata":{"n":1.5}`, `"metadata":{"n":[1.50]}`, `"metadata":{"n":15e-1}`},
		},
		{
			"by the text of a bool",
			transform.FieldFilter{Key: "b", Value: "true"},
			[]string{`"metadata":{"b":true}`, `"metadata":{"b":"true"}`},
			[]string{`"metadata":{"b":false}`, `"metadata":{"b":"True"}`, `"metadata":{"b":1}`},
		},
		{
			"never by null",
			transform.FieldFilter{Key: "b", Value: "null"},
			[]string{`"metadata":{"b":"null"}`},
			[]string{`"metadata":{"b":null}`, ``, `"metadata":[{"key":"b","value":null}]`},
		},
		{
			"never by an object or array",
			transform.FieldFilter{Key: "b", Value: "[1]"},
			[]string{`"metadata":{"b":"[1]"}`},
			[]string{`"metadata":{"b":[1]}`},
		},
		{
			"however a string is written",
			transform.FieldFilter{Key: "Año de compra", Value: `a ñ "Lima" 😀` + "\n"},
			[]string{
				`"metadata":{"Año de compra":"a ñ \"Lima\" 😀\n"}`, `"metadata":{"A\u00f1o de compra":"a \u00f1 \u0022Lima\" \ud83d\ude00\u000a"}`,
				`"custom_fields":[{"key":"A\u00f1o de compra","value":"\u0061 ñ \"Lima\" 😀\n"}]`,
			},
			[]string{`"metadata":{"Año de compra":"a ñ Lima 😀\n"}`, `"metadata":{"Año de compra":"a \\u00f1 \"Lima\" 😀\n"}`},
		},
		{
			"however the key is spelt",
			transform.FieldFilter{Key: "Lead Source", Value: "web"},
			[]string{
				`"metadata":{"lead_source":"web"}`, `"metadata":{"leadSource":"web"}`, `"metadata":{"LEAD  SOURCE":"web"}`, `"metadata":{"Lead-Source":"web"}`, `"metadata":{"Léad Source":"web"}`,
				`"custom_fields":{"Lead Source":"shop"},"metadata":{"lead_source":"web"}`,
			},
			[]string{`"metadata":{"leadsource":"web"}`, `"metadata":{"lead_source_2":"web"}`, `"metadata":{"source":"web"}`},
		},
		{
			"and not for another key in letters that names leave out",
			transform.FieldFilter{Key: "城市", Value: "x"},
			[]string{`"metadata":{"城市":"x"}`},
			[]string{`"metadata":{"名前":"x"}`, `"metadata":{"":"x"}`, `"metadata":{"field":"x"}`},
		},
		{
			"by the value that the column takes",
			transform.FieldFilter{Key: "k", Value: "v"},
			[]string{
				`"metadata":{"k":"other"},"custom_fields":{"k":"v"}`, `"custom_fields":{"k":"v"},"metadata":{"k":"other"}`, `"metadata":{"k":"v"},"custom_fields":{"k":null}`,
				`"custom_fields":[{"key":"k","value":"v"},{"key":"k","value":"w"}]`, `"custom_fields":[{"key":"k","value":null},{"key":"k","value":"v"}]`,
				`"metadata":{"k":"x"},"custom_field_values":{"k":"y"},"custom_fields":{"k":"v"}`,
			},
			[]string{
				`"custom_fields":{"k":"other"},"metadata":{"k":"v"}`, `"metadata":{"k":"v"},"custom_fields":{"k":"other"}`, `"custom_field_values":{"k":"w"},"metadata":{"k":"v"}`,
				`"custom_fields":[{"key":"k","value":"w"},{"key":"k","value":"v"}]`,
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			members := slices.Concat(test.stay, test.leave)
			for _, maxColumns := range []int{0, 1} {
				got := stay(t, transform.Options{BuryField: &test.filter, MaxColumns: maxColumns}, numbered(members...))
				for i, m := range members {
					if want := i < len(test.stay); got[i] != want {
						t.Errorf("max_columns %d: stays=%t, want %t: %s", maxColumns, got[i], want, m)
					}
				}
			}
		})
	}
}

// The spellings of one key, then those of other keys.
var spellings = []string{"lead_source", "Lead Source", "leadSource", "LEAD-SOURCE"}

// randomFields are contacts that have, in random places and shapes, some of the
// spellings, other keys, and values of all kinds.
func randomFields(r *rand.Rand, n int) []string {
	values := []string{`"web"`, `"w\u0065b"`, `"shop"`, `""`, `1`, `1.0`, `true`, `null`, `["web"]`, `"2024-01-01"`}
	place := func() string {
		keys := slices.Concat(spellings, []string{"ciudad", "a", "b", fmt.Sprintf("rare %d", r.IntN(200))})
		r.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
		var object, list []string
		for _, k := range keys[:r.IntN(4)] {
			v := values[r.IntN(len(values))]
			object = append(object, fmt.Sprintf("%q:%s", k, v))
			list = append(list, fmt.Sprintf(`{"key":%q,"value":%s}`, k, v))
			if r.IntN(8) == 0 { // a key twice in a list is a matter of order
				list = append(list, fmt.Sprintf(`{"key":%q,"value":%s}`, k, values[r.IntN(len(values))]))
			}
		}
		if r.IntN(2) == 0 {
			return "{" + strings.Join(object, ",") + "}"
		}
		return "[" + strings.Join(list, ",") + "]"
	}
	all := func() string {
		var out []string
		for _, p := range r.Perm(3)[:r.IntN(4)] {
			out = append(out, fmt.Sprintf("%q:%s", []string{"custom_fields", "custom_field_values", "metadata"}[p], place()))
		}
		return strings.Join(out, ",")
	}
	members := make([]string, n)
	for i := range members {
		members[i] = all()
		if r.IntN(2) == 0 {
			members[i] = strings.TrimPrefix(members[i]+`,"active_ticket_v2":{`+all()+"}", ",")
		}
	}
	return numbered(members...)
}

// oracleStays asks the second decoder, which knows no columns.
func oracleStays(contact string, f transform.FieldFilter) bool {
	elems, _, _ := oraclePage([]byte("[" + contact + "]"))
	for ref, v := range flatten(elems[0]).values {
		entity := map[schemas.Scope]string{schemas.ScopeCFCustomer: "customer", schemas.ScopeCFTicket: "ticket"}[ref.Scope]
		if entity == "" || f.Entity != "" && f.Entity != entity {
			continue
		}
		same := ref.Key == f.Key || slices.Contains(spellings, ref.Key) && slices.Contains(spellings, f.Key)
		if same && v.kind != '{' && v.kind != '[' && v.text == f.Value {
			return true
		}
	}
	return false
}

// What stays depends neither on how many columns the table may have, nor on
// the types that they have settled to, nor on what the chunk has seen before.
func TestACustomFieldFilterAgreesWithTheOracleWhateverTheColumns(t *testing.T) {
	t.Parallel()
	const seed = 11
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, seed))
	counts := map[bool]int{}
	for round := range 60 {
		f := transform.FieldFilter{Key: spellings[r.IntN(len(spellings))], Value: []string{"web", "1", "1.0", "true", "2024-01-01"}[r.IntN(5)], Entity: []string{"", "customer", "ticket"}[r.IntN(3)]}
		reg := newRegistry(t)
		if round%2 == 0 { // columns of types that most values do not fit
			for _, k := range spellings {
				for _, s := range []schemas.Scope{schemas.ScopeCFCustomer, schemas.ScopeCFTicket} {
					reg.Settle(schemas.FieldRef{Scope: s, Key: k}, []schemas.Kinds{schemas.KindInt, schemas.KindBool, schemas.KindNested, schemas.KindFloat}[r.IntN(4)], "before")
				}
			}
		}
		c := transform.NewChunk(transform.Options{BuryField: &f, MaxColumns: []int{1, 5, 0}[r.IntN(3)]})
		for range 3 {
			contacts := randomFields(r, 60)
			for range r.IntN(3) { // read, and never kept
				if _, err := c.Decode(page(randomFields(r, 5))); err != nil {
					t.Fatal(err)
				}
			}
			if r.IntN(2) == 0 { // the page comes twice
				if _, err := c.Decode(page(contacts)); err != nil {
					t.Fatal(err)
				}
			}
			for i, got := range stayIn(t, c, reg, contacts) {
				want := oracleStays(contacts[i], f)
				counts[want]++
				if got != want {
					t.Fatalf("round %d, %+v: stays=%t, want %t\n%s", round, f, got, want, contacts[i])
				}
			}
		}
	}
	if counts[true] < 300 || counts[false] < 300 {
		t.Errorf("%d contacts stay and %d leave: too few to tell", counts[true], counts[false])
	}
}

// The chunk has no column left when the field comes up, and forgets its fields
// when it is sealed.
func TestACustomFieldFilterHoldsWhereTheFieldHasNoColumn(t *testing.T) {
	t.Parallel()
	c := transform.NewChunk(transform.Options{BuryField: &transform.FieldFilter{Key: "wanted", Value: "x"}, MaxColumns: 1})
	reg := newRegistry(t)
	for range 2 {
		got := stayIn(t, c, reg, numbered(
			`"metadata":{"a":1,"b":1,"c":1,"d":1}`,
			`"metadata":{"wanted":"x"}`, `"metadata":{"wanted":"y"}`, ``, `"metadata":[{"key":"wanted","value":"x"}]`,
			`"metadata":{"wanted":"x"},"custom_fields":{"wanted":"y"}`, `"metadata":{"wanted":"y"},"custom_fields":{"Wanted":"x"}`, `"custom_fields":{"wanted":"x"},"metadata":{"wanted":"y"}`,
			`"active_ticket_v2":{"metadata":{"wanted":"\u0078"}}`, `"metadata":{"wanted":null}`,
		))
		if want := []bool{false, true, false, false, true, false, true, true, true, false}; !slices.Equal(got, want) {
			t.Errorf("stays %v, want %v", got, want)
		}
	}
}

func TestAContactHasToPassAllThatWouldBuryIt(t *testing.T) {
	t.Parallel()
	const stage = "active_ticket_v2_current_stage_id"
	contacts := numbered(
		`"active_ticket_v2":{"current_stage_id":"s1"},"metadata":{"k":"v"}`, `"active_ticket_v2":{"current_stage_id":"s1"},"metadata":{"k":"w"}`,
		`"active_ticket_v2":{"current_stage_id":"s2"},"metadata":{"k":"v"}`, `"active_ticket_v2":{"current_stage_id":"s3","metadata":{"k":"v"}}`, `"metadata":{"k":"v"}`,
		`"active_ticket_v2":null,"metadata":{"k":"v"}`, `"active_ticket_v2":{"current_stage_id":null},"metadata":{"k":"v"}`, `"active_ticket_v2":{},"metadata":{"k":"v"}`,
		`"active_ticket_v2":{"current_stage_id":["s1"]},"metadata":{"k":"v"}`, `"active_ticket_v2":"s1","metadata":{"k":"v"}`,
	)
	o := transform.Options{Bury: map[string][]string{stage: {"s1", "s3"}}, BuryField: &transform.FieldFilter{Key: "k", Value: "v"}}
	want := []bool{true, false, false, true, false, false, false, false, false, false}
	if got := stay(t, o, contacts); !slices.Equal(got, want) {
		t.Errorf("stage and field: stays %v, want %v", got, want)
	}
	o.BuryField = nil
	want[1] = true
	if got := stay(t, o, contacts); !slices.Equal(got, want) {
		t.Errorf("stage alone: stays %v, want %v", got, want)
	}
}

func TestAFilterNamesTheColumnThatTheContractLacks(t *testing.T) {
	t.Parallel()
	contract := func(columns, rest string) *schemas.Contract {
		c, err := schemas.ParseContract("c", []byte("version: 1\ncolumns:\n- {name: id, type: string, required: true}\n- {name: created_at, type: timestamp, required: true}\n- {name: updated_at, type: timestamp, required: true}\n"+columns+rest))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	byStage := map[string][]string{"active_ticket_v2_current_stage_id": {"s"}}
	for _, test := range []struct {
		o    transform.Options
		want string // in the error; empty: none
	}{
		{transform.Options{Contract: contract("", ""), Bury: byStage}, "the contract lacks that column; add {name: active_ticket_v2_current_stage_id, path: active_ticket_v2.current_stage_id, type: string} to its columns"},
		{transform.Options{Contract: contract("- {name: stage, path: active_ticket_v2.current_stage_id, type: json}\n", ""), Bury: byStage}, "column stage of the contract is of type json"},
		{transform.Options{Contract: contract("- {name: stage, path: active_ticket_v2.current_stage_id, type: string}\n", ""), Bury: byStage}, ""},
		{transform.Options{Contract: contract("", ""), Filter: map[string][]string{"platform": {"sms"}}}, "add {name: platform, path: platform, type: string}"},
		{transform.Options{Filter: map[string][]string{"phones": nil}}, `filter by "phones": not a column of the contract`},
		{transform.Options{BuryField: &transform.FieldFilter{Value: "v"}}, "needs a key and a value"},
		{transform.Options{BuryField: &transform.FieldFilter{Key: "k"}}, "needs a key and a value"},
		{transform.Options{BuryField: &transform.FieldFilter{Key: "k", Value: "v", Entity: "contact"}}, `entity "contact" is neither customer nor ticket`},
		{transform.Options{BuryField: &transform.FieldFilter{Key: "k", Value: "v", Entity: "ticket"}, Contract: contract("", "custom_fields: {customer: [extra]}\n")}, "the contract reads none of this entity"},
		{transform.Options{BuryField: &transform.FieldFilter{Key: "k", Value: "v"}, Contract: contract("", "custom_fields: {customer: [extra]}\n")}, ""},
	} {
		_, err := transform.NewChunk(test.o).Decode([]byte("[]"))
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%v, want %q", err, test.want)
		}
	}
	// A renamed column filters like any other.
	renamed := contract("- {name: stage, path: active_ticket_v2.current_stage_id, type: string}\n", "")
	reg, err := schemas.NewRegistry(renamed, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := transform.NewChunk(transform.Options{Contract: renamed, Bury: byStage})
	if got := stayIn(t, c, reg, numbered(`"active_ticket_v2":{"current_stage_id":"s"}`, `"active_ticket_v2":null`)); !slices.Equal(got, []bool{true, false}) {
		t.Errorf("stays %v", got)
	}
}
