package sandbox

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func decodeOne(t *testing.T, body []byte) listed {
	t.Helper()
	var c listed
	if err := json.Unmarshal(body, &c); err != nil {
		t.Fatalf("decode contact: %v: %s", err, body)
	}
	return c
}

const upsertPath = "/api/public/customer/upsert/info"

func TestUpsertCreatesAContactAndTheNextPageHasIt(t *testing.T) {
	s := newServer(t, Options{Contacts: 200, Seed: 1})
	stage := s.store.g.stages[1].id.String()
	w := call(t, s, http.MethodPost, upsertPath, `{"channel":"web-whatsapp","contact_phone_number":"+56911112222","contact_name":"Íñigo \"Ñ\"",
		"contact_email":"i@example.com","stageId":"`+stage+`","meta_data":{"Lead Source":"feria","n":7,"o":{"a":[1, 2]}},
		"custom_field_values":[{"key":"Año de compra","value":"2026"},{"key":"edad","value":41}]}`)
	if w.Code != http.StatusCreated {
		t.Fatal(w.Code, w.Body)
	}
	got := decodeOne(t, w.Body.Bytes())
	if got.str("name") != `Íñigo "Ñ"` || got.str("platform") != "web-whatsapp" || got.str("email") != "i@example.com" || got["last_message_at"] != nil || got.str("created_at") != got.str("updated_at") {
		t.Errorf("%v", got)
	}
	page := list(t, s, params("updated_after", "2026-09-02"))
	if len(page) != 1 || page[0].str("id") != got.str("id") {
		t.Fatalf("next page: %v", page)
	}
	c := page[0]
	if ticket, _ := c["active_ticket_v2"].(map[string]any); ticket["current_stage_id"] != stage {
		t.Errorf("ticket: %v", ticket)
	}
	values := asJSON(t, c["custom_field_values"])
	if !strings.Contains(values, `{"key":"edad","value":41}`) {
		t.Errorf("values: %s", values)
	}
	meta, _ := c["metadata"].(map[string]any)
	if meta["n"] != "7" || meta["o"] != `{"a":[1,2]}` {
		t.Errorf("metadata: %v", meta)
	}
	found := ids(list(t, s, params("updated_after", "2026-09-01", "custom_field_key", "edad", "custom_field_value", "41")))
	if !slices.Equal(found, []string{got.str("id")}) {
		t.Errorf("by its custom field: %v", found)
	}
}

func TestUpsertFindsAContactByIdPhoneEmailAndExternalId(t *testing.T) {
	s := newServer(t, Options{Contacts: 400, Seed: 1})
	contacts := all(s)
	n := slices.IndexFunc(contacts, func(c Contact) bool { return c.Phone != nil && c.Email != nil })
	want := contacts[n]
	for _, field := range []string{`"id":"` + want.ID + `"`, `"phone":"` + *want.Phone + `"`, `"contact_email":"` + *want.Email + `"`} {
		w := call(t, s, http.MethodPost, upsertPath, `{`+field+`,"name":"X","blocked":true}`)
		if w.Code != http.StatusCreated {
			t.Fatal(w.Code, w.Body)
		}
		got := decodeOne(t, w.Body.Bytes())
		if got.str("id") != want.ID || got.str("name") != "X" || got["blocked"] != true || got.str("updated_at") != printed(afterHistory) {
			t.Errorf("%s: %v", field, got)
		}
	}
	body := `{"channel":"webchat","external_user_id":"u-1","name":"W"}`
	a := decodeOne(t, call(t, s, http.MethodPost, upsertPath, body).Body.Bytes())
	b := decodeOne(t, call(t, s, http.MethodPost, upsertPath, body).Body.Bytes())
	if a.str("id") != b.str("id") || len(all(s)) != 401 {
		t.Errorf("external id: %v, %v", a, b)
	}
	// What was set stays set, and is found again, after the phone has changed.
	call(t, s, http.MethodPost, upsertPath, `{"id":"`+want.ID+`","phone":"+1999"}`)
	c := decodeOne(t, call(t, s, http.MethodPost, upsertPath, `{"phone":"+1999","chat_status":"CLOSED"}`).Body.Bytes())
	if c.str("id") != want.ID || c.str("name") != "X" || c.str("chat_status") != "CLOSED" {
		t.Errorf("by the new phone: %v", c)
	}
}

func TestFaultyWritesAreRefusedAndChangeNothing(t *testing.T) {
	s := newServer(t, Options{Contacts: 50, Seed: 1})
	before := dump(t, s)
	id := all(s)[0].ID
	metadata := "/api/public/contact/" + id + "/update-metadata"
	for _, test := range []struct {
		path, body string
		code       int
		want       string
	}{
		{upsertPath, `{}`, 400, "one of id, contact_phone_number"},
		{upsertPath, `{"channel":"whatsapp"}`, 400, "one of id, contact_phone_number"},
		{upsertPath, `{"phone":""}`, 400, "one of id, contact_phone_number"},
		{upsertPath, `not json`, 400, "body must be a JSON object"},
		{upsertPath, `[]`, 400, "body must be a JSON object"},
		{upsertPath, `{"phone":"1","channel":"fax"}`, 400, `channel must be one of whatsapp, web-whatsapp`},
		{upsertPath, `{"phone":"1","stageId":"123e4567-e89b-12d3-a456-426614174000"}`, 400, "find stage"},
		{upsertPath, `{"phone":"1","meta_data":[1]}`, 400, "metadata must be an object"},
		{upsertPath, `{"phone":"1","custom_field_values":[{"value":"x"}]}`, 400, "key of a custom field"},
		{upsertPath, `{"phone":"1","custom_field_values":[{"key":"x"}]}`, 400, `value of custom field "x"`},
		{upsertPath, `{"id":"123e4567-e89b-12d3-a456-426614174000"}`, 404, "does not exist"},
		{upsertPath, `{"id":"x"}`, 400, `id must be a UUID, got "x"`},
		{metadata, `{}`, 400, "at least one key"},
		{metadata, `{"metadata":{}}`, 400, "at least one key"},
		{metadata, `{"!!":"x"}`, 400, "key of a custom field"},
		{metadata, `7`, 400, "must be"},
		{"/api/public/contact/x/update-metadata", `{"a":"b"}`, 400, `id must be a UUID, got "x"`},
		{"/api/public/contact/123e4567-e89b-12d3-a456-426614174000/update-metadata", `{"a":"b"}`, 404, "does not exist"},
		{upsertPath, `{"phone":"` + strings.Repeat("1", mostBody) + `"}`, 400, "body must be at most"},
	} {
		w := call(t, s, http.MethodPost, test.path, test.body)
		if w.Code != test.code || !strings.Contains(message(t, w), test.want) {
			t.Errorf("%s %.80s: %d %s", test.path, test.body, w.Code, w.Body)
		}
	}
	if string(before) != string(dump(t, s)) {
		t.Error("contacts changed")
	}
}

func TestUpdateMetadataTakesBothFormsAndTurnsKeysToSnakeCase(t *testing.T) {
	s := newServer(t, Options{Contacts: 50, Seed: 1})
	id := all(s)[3].ID
	w := call(t, s, http.MethodPost, "/api/public/contact/"+id+"/update-metadata", `{"employeeCount":"500-1000","Annual Revenue (US$)":5000000,"metadata":{"Señal":null}}`)
	if w.Code != http.StatusCreated {
		t.Fatal(w.Code, w.Body)
	}
	c := decodeOne(t, w.Body.Bytes())
	meta, _ := c["metadata"].(map[string]any)
	if v, there := meta["señal"]; meta["employee_count"] != "500-1000" || meta["annual_revenue_us"] != "5000000" || v != nil || !there {
		t.Errorf("metadata: %v", meta)
	}
	if page := list(t, s, params("updated_after", "2026-09-02")); len(page) != 1 || page[0].str("id") != id {
		t.Errorf("next page: %v", ids(page))
	}
	// A key that the contact has already keeps its place and shape.
	for _, c := range all(s) {
		for _, f := range c.Custom {
			if f.Key != "acepta_marketing" || f.Shape != "custom_fields" {
				continue
			}
			w := call(t, s, http.MethodPost, "/api/public/contact/"+c.ID+"/update-metadata", `{"acepta_marketing":"tal vez"}`)
			fields, _ := decodeOne(t, w.Body.Bytes())["custom_fields"].(map[string]any)
			if fields["acepta_marketing"] != "tal vez" {
				t.Errorf("%s", w.Body)
			}
			return
		}
	}
	t.Error("no contact has the key")
}

func TestSnakeCase(t *testing.T) {
	for in, want := range map[string]string{"Lead Source": "lead_source", "leadScore": "lead_score", "Año de compra": "año_de_compra", "__x--y__": "x_y", "UTM": "utm", "a1B2": "a1b2", "": ""} {
		if got := snakeCase(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestContactInfoShowsTheContactWithItsTicketsAndStage(t *testing.T) {
	s := newServer(t, Options{Contacts: 400, Seed: 1})
	s.Mutate(Mutation{Updates: 4000}) // so that there are closed tickets
	closed := 0
	for _, c := range all(s) {
		w := call(t, s, http.MethodGet, "/api/public/contact/"+strings.ToUpper(c.ID)+"/info", "")
		got := decodeOne(t, w.Body.Bytes())
		if w.Code != http.StatusOK || got.str("id") != c.ID || got.str("updated_at") != printed(c.UpdatedAt) {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		if _, there := got["last_closed_ticket"]; !there {
			t.Fatalf("%s", w.Body)
		}
		if before, ok := got["last_closed_ticket"].(map[string]any); ok {
			closed++
			if c.Ticket != nil && before["id"] == c.Ticket.ID {
				t.Errorf("%s: the closed ticket is the active one", c.ID)
			}
		}
	}
	if closed < 100 {
		t.Errorf("%d closed tickets", closed)
	}
	if w := call(t, s, http.MethodGet, "/api/public/contact/nonsense/info", ""); w.Code != http.StatusBadRequest || !strings.Contains(message(t, w), "id must be a UUID") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestPipelinesListTheStagesThatFiltersKnow(t *testing.T) {
	s := newServer(t, Options{Contacts: 600, Seed: 1})
	var pipelines []struct {
		ID, Name, Description string
		Stages                []struct{ ID, Name, Description string }
	}
	w := call(t, s, http.MethodGet, "/api/public/pipeline", "")
	if err := json.Unmarshal(w.Body.Bytes(), &pipelines); err != nil {
		t.Fatal(err)
	}
	stages := 0
	for _, p := range pipelines {
		inPipeline := 0
		for _, st := range p.Stages {
			stages++
			page := list(t, s, params("updated_after", "2020-01-01", "limit", "1000", "stage_id", st.ID))
			inPipeline += len(page)
			if len(page) == 0 || p.Name == "" || st.Name == "" {
				t.Errorf("stage %+v of %s: %d contacts", st, p.Name, len(page))
			}
			for _, c := range page {
				ticket, _ := c["active_ticket_v2"].(map[string]any)
				if ticket["current_stage_id"] != st.ID || ticket["current_stage"] != nil {
					t.Fatalf("ticket: %v", ticket)
				}
			}
		}
		page := list(t, s, params("updated_after", "2020-01-01", "limit", "1000", "pipeline_id", p.ID))
		if len(page) != inPipeline {
			t.Errorf("%s: %d contacts, its stages have %d", p.Name, len(page), inPipeline)
		}
		for _, c := range page {
			ticket, _ := c["active_ticket_v2"].(map[string]any)
			nested, _ := ticket["current_stage"].(map[string]any)
			if nested["id"] != ticket["current_stage_id"] || nested["pipeline_id"] != p.ID {
				t.Fatalf("ticket under a pipeline filter: %v", ticket)
			}
		}
	}
	if len(pipelines) != 3 || stages != 14 {
		t.Errorf("%d pipelines, %d stages", len(pipelines), stages)
	}
}

func TestTheDeprecatedEndpointReturnsWhatsAppInNoOrder(t *testing.T) {
	s := newServer(t, Options{Contacts: 900, Seed: 1})
	s.Mutate(Mutation{Deletes: 50})
	want := []string{}
	for _, c := range all(s) {
		if c.Platform == "whatsapp" {
			want = append(want, c.ID)
		}
	}
	slices.Sort(want)
	var orders [2][]string
	for n := range orders {
		w := call(t, s, http.MethodGet, "/api/public/whatsapp/contact/contacts", "")
		if w.Header().Get("Deprecation") != "true" {
			t.Error(w.Header())
		}
		orders[n] = ids(decodePage(t, w.Body.Bytes()))
		if sorted := slices.Sorted(slices.Values(orders[n])); !slices.Equal(sorted, want) {
			t.Errorf("%d contacts, want %d", len(sorted), len(want))
		}
	}
	if slices.Equal(orders[0], orders[1]) {
		t.Error("the same order twice")
	}
	if w := call(t, newServer(t, Options{}), http.MethodGet, "/api/public/whatsapp/contact/contacts", ""); w.Body.String() != "[]" {
		t.Errorf("empty: %s", w.Body)
	}
}
