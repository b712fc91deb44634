package crashtest

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Growth is a source whose contacts get new fields from one step to the next,
// for tests of what tables make of them. Rules is the contract that goes with it:
// typed and protected columns, fields that are left out, and room for eight found
// columns.
type Growth struct {
	Endpoint *Endpoint
	Rules    Rules
	// Contacts is how many there are.
	Contacts int
}

// GrowthStep is what a step does, and which columns it brings.
type GrowthStep struct {
	Name    string
	Columns []string
}

// NewGrowth returns a source without contacts.
func NewGrowth(e *Endpoint, contacts int) *Growth {
	r := BuiltInRules()
	r.HashKey = []byte("0123456789abcdef0123456789abcdef")
	for i := range r.Columns {
		switch d := &r.Columns[i]; d.Name {
		case "phone":
			d.Policy = "hash"
		case "email":
			d.Policy = "mask"
		case "name":
			d.Policy = "drop"
		}
	}
	r.Columns = append(
		r.Columns,
		Declared{Name: "age", Field: "cf_customer:Age", Type: "int64"},
		Declared{Name: "since", Field: "cf_customer:Since", Type: "timestamp"},
		Declared{Name: "score", Field: "cf_ticket:score", Type: "float64", Discard: true},
		Declared{Name: "rut", Field: "cf_customer:rut", Type: "string", Policy: "hash"},
	)
	r.Exclude = []string{"cf_customer:Secret*", "contact:ai_customer_id"}
	r.MaxColumns = 8
	return &Growth{Endpoint: e, Rules: r, Contacts: contacts}
}

// Steps are those of Step, in order.
func (*Growth) Steps() []GrowthStep {
	return []GrowthStep{
		{"the first fields", []string{"cf_customer_lead_source", "cf_ticket_monto"}},
		{"new fields, two of which would have one name", []string{"cf_customer_ano_de_compra", "cf_customer_nps", "cf_customer_lead_source_*", "cf_ticket_prioridad"}},
		{"one vanishes", nil},
		{"it returns, with values that do not fit", []string{"cf_customer_ano_de_compra__text", "age__text"}},
		{"more than there is room for", []string{"cf_customer_extra_1", "cf_customer_extra_2", "other_fields__json"}},
		{"nothing but the first fields", nil},
	}
}

// Gone are names that no column of any table may have.
func (*Growth) Gone() []string {
	return []string{"name", "ai_customer_id", "cf_customer_secret", "cf_customer_secret_note", "score__text"}
}

// Step writes the contacts as they are from a step on, as of now: every other
// one, or all in the first.
func (g *Growth) Step(step int, now time.Time) error {
	for n := range g.Contacts {
		if step > 0 && n%2 == 1 && n%6 != step%6 {
			continue
		}
		created := time.Date(2025, time.Month(4+n%4), 1+n%28, 0, 0, n, 0, time.UTC)
		id := fmt.Sprintf("00000000-0000-4000-8000-%012d", n)
		body, err := json.Marshal(g.contact(n, step, id, created, now))
		if err != nil {
			return fmt.Errorf("write contact: %w", err)
		}
		g.Endpoint.Put(id, created, now, body)
	}
	return nil
}

func (g *Growth) contact(n, step int, id string, created, now time.Time) map[string]any {
	const stamp = "2006-01-02T15:04:05.000Z"
	pick := func(of ...any) any { return of[n%len(of)] }
	custom := map[string]any{
		"Lead Source": pick("web", "store", nil), "Age": pick("41", 23, nil), "Since": pick("2024-01-02T03:04:05Z", nil),
		"rut": fmt.Sprintf("%d-k", 1000000+n), "Secret": "of nobody's business", "Secret note": n,
	}
	ticket := map[string]any{"monto": pick(10, 9007199254740993, nil), "score": pick(0.5, "1e2", "high")}
	switch step {
	case 1, 3, 4:
		custom["Año de compra"] = pick(2024, 2025)
		if step == 3 && n%6 == 0 {
			custom["Año de compra"], custom["Age"] = "dos mil", "forty"
		}
		custom["lead_source"], custom["NPS"] = pick("a", "b"), pick(1.5, 2, nil)
		ticket["prioridad"] = pick("alta", nil)
	case 2:
		custom["lead_source"], custom["NPS"] = "c", 7.25
		ticket["prioridad"] = "baja"
	}
	if step == 4 {
		for i := range 5 {
			custom[fmt.Sprintf("Extra %d", i+1)] = pick(i, fmt.Sprint("text ", i), map[string]any{"n": i})
		}
	}
	c := map[string]any{
		"id": id, "created_at": created.Format(stamp), "updated_at": now.Format(stamp), "name": fmt.Sprint("Person ", n),
		"phone": fmt.Sprintf("+56 9 %07d", n), "email": fmt.Sprintf("Person%d@example.com", n), "platform": "whatsapp",
		"last_message_at": nil, "chat_status": "ATTENDED", "client_id": "5a1d4a52-3a1e-4a5e-9a55-2a2f8c5b9d10",
		"ai_customer_id": fmt.Sprint("customer ", n), "default_stage_id": nil, "blocked": n%7 == 0, "is_chat_read": true,
		"active_ticket_v2": map[string]any{"id": fmt.Sprint("ticket ", n), "current_stage_id": nil, "metadata": ticket},
	}
	if n%3 > 0 {
		c["custom_fields"] = custom
		return c
	}
	list := []map[string]any{}
	for _, key := range sorted(custom) {
		list = append(list, map[string]any{"key": key, "value": custom[key]})
	}
	slices.Reverse(list)
	c["custom_field_values"] = list
	return c
}
