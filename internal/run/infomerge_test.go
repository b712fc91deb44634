package run_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/run"
)

func TestAContactTakesFromInfoWhatTheListLacks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, list, info, want string }{
		{"the list's values stay", `{"id":"a","name":"Ana","phone":null}`, `{"id":"a","name":"Eva","phone":"1","updated_at":"2027"}`, `{"id":"a","name":"Ana","phone":null,"updated_at":"2027"}`},
		{"a member that is missing is added as it was served", `{"id":"a"}`, `{"id":"a", "n" : 1.50e3, "o":{"x": [1, 2]}}`, `{"id":"a","n" : 1.50e3,"o":{"x": [1, 2]}}`},
		{"wrapped answers", `{"id":"a"}`, `{"data":{"contact":{"id":"a","n":1}}}`, `{"id":"a","n":1}`},
		{"custom fields one by one", `{"id":"a","custom_fields":{"plan":"gold"}}`, `{"id":"a","custom_fields":{"plan":"silver","size":2}}`, `{"id":"a","custom_fields":{"plan":"gold","size":2}}`},
		{"custom fields in an array", `{"id":"a","custom_field_values":[{"key":"plan","value":"gold"}]}`, `{"id":"a","custom_field_values":[{"key":"plan","value":1},{"key":"size","value":2}]}`, `{"id":"a","custom_field_values":[{"key":"plan","value":"gold"},{"key":"size","value":2}]}`},
		{"custom fields that another place has", `{"id":"a","custom_fields":{"plan":"gold"}}`, `{"id":"a","metadata":{"plan":"silver","size":"2"}}`, `{"id":"a","custom_fields":{"plan":"gold"},"metadata":{"size":"2"}}`},
		{"a place that is empty or null", `{"id":"a","metadata":null,"custom_fields":{}}`, `{"id":"a","metadata":{"x":"1"},"custom_fields":[{"key":"y","value":2}]}`, `{"id":"a","metadata":{"x":"1"},"custom_fields":[{"key":"y","value":2}]}`},
		{"a place of another shape stays", `{"id":"a","custom_fields":[{"key":"y","value":2}]}`, `{"id":"a","custom_fields":{"x":1}}`, `{"id":"a","custom_fields":[{"key":"y","value":2}]}`},
		{"the same ticket", `{"id":"a","active_ticket_v2":{"id":"t","current_stage_id":"s"}}`, `{"id":"a","active_ticket_v2":{"id":"t","current_stage_id":"z","since":1,"metadata":{"k":"v"}}}`, `{"id":"a","active_ticket_v2":{"id":"t","current_stage_id":"s","since":1,"metadata":{"k":"v"}}}`},
		{"another ticket", `{"id":"a","active_ticket_v2":{"id":"t"}}`, `{"id":"a","active_ticket_v2":{"id":"u","since":1}}`, `{"id":"a","active_ticket_v2":{"id":"t"}}`},
		{"no ticket in the list", `{"id":"a","active_ticket_v2":null}`, `{"id":"a","active_ticket_v2":{"id":"u"}}`, `{"id":"a","active_ticket_v2":null}`},
		{"the last closed ticket", `{"id":"a"}`, `{"id":"a","last_closed_ticket":{"id":"t","current_stage_id":null,"metadata":{"k":"v"}}}`, `{"id":"a","last_closed_ticket_id":"t","last_closed_ticket_current_stage_id":null,"last_closed_ticket_metadata":{"k":"v"}}`},
		{"the last closed ticket, of a name that is taken", `{"id":"a","last_ticket_id":"x"}`, `{"id":"a","last_ticket":{"id":"t","n":1},"last_ticket_n":2}`, `{"id":"a","last_ticket_id":"x","last_ticket_n":2}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := run.JoinInfo([]byte(c.list), []byte(c.info))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, string(got)); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

func TestAnAnswerThatReadersTakeForDifferentThingsIsNotJoined(t *testing.T) {
	t.Parallel()
	for _, info := range []string{
		`{"id":"a","n":1,"n":2}`, `{"id":"a","n":1,"\u006e":2}`, `{"id":"a","o":{"p":[{"k":1,"k":1}]}}`,
		`[]`, `{"x":1}`, `{"id":"a"`, `null`, ``,
	} {
		if got, err := run.JoinInfo([]byte(`{"id":"a"}`), []byte(info)); err == nil {
			t.Errorf("%s is joined to %s", info, got)
		}
	}
}

func FuzzJoiningInfoKeepsTheList(f *testing.F) {
	f.Add([]byte(`{"id":"a","custom_fields":{"p":1},"active_ticket_v2":{"id":"t"}}`), []byte(`{"id":"a","custom_fields":{"p":2,"q":3},"active_ticket_v2":{"id":"t","x":[]},"last_ticket":{"id":1}}`))
	f.Add([]byte(`{"id":"a","metadata":[{"key":"k","value":1}]}`), []byte(`{"data":{"id":"a","metadata":[{"key":"k"},{"key":"l"},3]}}`))
	f.Add([]byte(`{"id":"a","metadata":null}`), []byte(`{"contact":{"id":"a","metadata":{}}}`))
	f.Fuzz(func(t *testing.T, list, info []byte) {
		var before map[string]json.RawMessage
		if json.Unmarshal(list, &before) != nil || before == nil || run.CheckKeys(list) != nil {
			t.Skip("no record that the decoder takes")
		}
		got, err := run.JoinInfo(list, info)
		if err != nil {
			return
		}
		var after map[string]json.RawMessage
		if err := json.Unmarshal(got, &after); err != nil {
			t.Fatalf("no JSON: %v\n%s", err, got)
		}
		if err := run.CheckKeys(got); err != nil {
			t.Fatalf("%v: %s", err, got)
		}
		for k, v := range before {
			place := strings.Contains("custom_fields custom_field_values metadata active_ticket_v2", k)
			if !place && !bytes.Equal(after[k], v) {
				t.Fatalf("%q was %s and is %s", k, v, after[k])
			}
		}
		again, err := run.JoinInfo(got, info)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again, got) {
			t.Fatalf("a second time changes it:\n%s\n%s", got, again)
		}
	})
}
