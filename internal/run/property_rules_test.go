package run_test

import (
	"github.com/sluice-etl/sluice/internal/crashtest"
)

// firstRules draws the contract of a history: its names and types, which stay.
func (p *property) firstRules() {
	p.rules = crashtest.BuiltInRules()
	p.rules.HashKey = []byte("a key of thirty-two bytes or more")
	for _, d := range []crashtest.Declared{
		{Name: "age", Field: "cf_customer:Age", Type: "int64"},
		{Name: "cf_customer_score", Field: "cf_customer:Score", Type: "float64"},
		{Name: "vip", Field: "cf_ticket:VIP", Type: "bool"},
		{Name: "since", Field: "cf_customer:Since", Type: "timestamp"},
		{Name: "birthday", Field: "cf_ticket:Birthday", Type: "date"},
		{Name: "payload", Field: "cf_customer:Payload", Type: "json"},
		{Name: "cf_customer_lead_source", Field: "cf_customer:leadSource", Type: "string"}, // the name that others would take
		{Name: "shoe_size", Field: "contact:Shoe Size", Type: "int64"},
		{Name: "group", Field: "ticket:deal", Type: "string"},
	} {
		if p.rng.IntN(2) == 0 {
			p.rules.Columns = append(p.rules.Columns, d)
		}
	}
	p.rules.Renames = map[string]string{}
	for _, r := range [][2]string{
		{"cf_ticket:Order", "order"}, {"cf_customer:select", "select"}, {"cf_ticket:size", "cf_customer_size"}, {"contact:deal", "from"},
	} {
		if p.rng.IntN(2) == 0 {
			p.rules.Renames[r[0]] = r[1]
		}
	}
	if p.rng.IntN(2) == 0 {
		p.changeRules()
	}
}

// changeRules draws what a contract may say otherwise between two runs.
func (p *property) changeRules() {
	r := p.rules.Clone()
	r.Exclude = nil
	for _, field := range []string{
		"cf_customer:S*", "cf_customer:lead_source", "cf_ticket:*", "cf_customer:Size", "contact:shoe_size", "ticket:deal",
		"contact:phone", "cf_customer:Age", "contact:blocked",
	} {
		if p.rng.IntN(6) == 0 {
			r.Exclude = append(r.Exclude, field)
		}
	}
	for i := range r.Columns {
		d := &r.Columns[i]
		d.Discard = p.rng.IntN(6) == 0
		if d.Policy = ""; d.Type == "string" && d.Name != "id" {
			d.Policy = p.policy()
		}
	}
	for _, f := range []*crashtest.Fate{&r.Table, &r.Customer, &r.Ticket} {
		*f = crashtest.Fate{Policy: p.policy(), DiscardNew: p.rng.IntN(6) == 0, DiscardMisfits: p.rng.IntN(5) == 0}
	}
	r.MaxColumns = 0
	if p.rng.IntN(3) == 0 {
		r.MaxColumns = 1 + p.rng.IntN(30)
	}
	p.rules = r
}

// policy is to keep values more often than not.
func (p *property) policy() string {
	if p.rng.IntN(3) > 0 {
		return ""
	}
	return []string{"hash", "mask", "drop"}[p.rng.IntN(3)]
}
