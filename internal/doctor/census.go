package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// census counts over distinct contacts what their fields hold.
type census struct {
	contacts  int
	missing   map[string]int // by required field: contacts without a usable one
	example   map[string]string
	nulls     map[string]int // other documented fields that are never null by the page
	platforms map[string]int // those that the page does not name
	digits    map[int]int    // digits of the fraction, of every printed time
	zones     map[string]int // how times print their zone
	rounded   int            // times whose fraction is zero
	stamps    int
	custom    map[string]*customField // by place, such as "active_ticket_v2.metadata (object)"
	custody   int                     // contacts with a custom field
	extra     map[string]int          // fields that the page does not name
}

// customField is a place where custom fields stand.
type customField struct {
	contacts int
	keys     map[string]bool
}

func newCensus() census {
	return census{
		missing: map[string]int{}, example: map[string]string{}, nulls: map[string]int{}, platforms: map[string]int{},
		digits: map[int]int{}, zones: map[string]int{}, custom: map[string]*customField{}, extra: map[string]int{},
	}
}

// documented are the fields of the vendor's page; true for those it does not
// show as null. last_message_at is null for a contact that never wrote, which
// the page leaves out.
func documented() map[string]bool {
	return map[string]bool{
		"id": false, "created_at": false, "updated_at": false, // required: counted apart
		"name": true, "platform": true, "chat_status": true, "client_id": true, "ai_customer_id": true, "blocked": true, "is_chat_read": true,
		"phone": false, "email": false, "last_message_at": false, "default_stage_id": false, "active_ticket_v2": false,
	}
}

// customPlaces are the fields that hold custom fields (CONTACTS_API.md).
func customPlaces() []string { return []string{"custom_fields", "custom_field_values", "metadata"} }

// ticketPrefix begins the names of places in the active ticket.
const ticketPrefix = "active_ticket_v2."

func knownPlatforms() []string {
	return []string{"whatsapp", "web-whatsapp", "instagram", "webchat", "sms", "messenger", "tiktok", "voice", "playground"}
}

func (c *census) add(r row) {
	c.contacts++
	if r.id == "" {
		c.miss("id", "")
	}
	c.required("created_at", r.created)
	c.required("updated_at", r.updated)
	if r.message.text != "" {
		c.stamp(r.message)
	}
	for name, strict := range documented() {
		if raw := r.fields[name]; strict && (len(raw) == 0 || string(raw) == "null") {
			c.nulls[name]++
		}
	}
	if p, ok := text(r.fields["platform"]); ok && !slices.Contains(knownPlatforms(), p) {
		c.platforms[p]++
	}
	some := c.customIn(r.fields, "")
	var ticket map[string]json.RawMessage
	if json.Unmarshal(r.fields["active_ticket_v2"], &ticket) == nil {
		some = c.customIn(ticket, ticketPrefix) || some
	}
	if some {
		c.custody++
	}
	fields := documented()
	for name := range r.fields {
		if _, named := fields[name]; !named && !slices.Contains(customPlaces(), name) {
			c.extra[name]++
		}
	}
}

func (c *census) required(name string, s stamp) {
	if s.text != "" {
		c.stamp(s)
	}
	if !s.ok {
		c.miss(name, s.text)
	}
}

func (c *census) miss(name, text string) {
	c.missing[name]++
	if c.example[name] == "" {
		c.example[name] = text
	}
}

func (c *census) stamp(s stamp) {
	if !s.ok {
		return
	}
	c.stamps++
	rest, zone := s.text[min(len(s.text), 19):], ""
	if i := strings.IndexAny(rest, "Z+-"); i >= 0 {
		rest, zone = rest[:i], rest[i:]
	}
	digits := max(0, len(rest)-1)
	c.digits[digits]++
	c.zones[zone]++
	if strings.Trim(rest, ".0") == "" {
		c.rounded++
	}
}

// customIn counts the custom fields of a contact or ticket; whether it has any.
func (c *census) customIn(fields map[string]json.RawMessage, prefix string) bool {
	some := false
	for _, place := range customPlaces() {
		keys, form := customKeys(fields[place])
		if form == "" {
			continue
		}
		name := prefix + place + " (" + form + ")"
		at := c.custom[name]
		if at == nil {
			at = &customField{keys: map[string]bool{}}
			c.custom[name] = at
		}
		at.contacts++
		for _, k := range keys {
			at.keys[k] = true
		}
		some = true
	}
	return some
}

// customKeys reads the keys of custom fields and the form they come in: an
// object, pairs of key and value, or one that is unknown; "" for none.
func customKeys(raw json.RawMessage) (keys []string, form string) {
	var object map[string]json.RawMessage
	if json.Unmarshal(raw, &object) == nil {
		if len(object) == 0 {
			return nil, ""
		}
		return slices.Collect(maps.Keys(object)), "object"
	}
	var pairs []struct {
		Key *string `json:"key"`
	}
	if json.Unmarshal(raw, &pairs) == nil {
		for _, p := range pairs {
			if p.Key == nil {
				return nil, "unknown form"
			}
			keys = append(keys, *p.Key)
		}
		if len(keys) == 0 {
			return nil, ""
		}
		return keys, "pairs"
	}
	if len(raw) == 0 {
		return nil, ""
	}
	return nil, "unknown form"
}

const noContacts = "No contacts were seen."

func (e *exam) checkPrecision(context.Context) (finding, error) {
	c := e.census
	if c.stamps == 0 {
		return unknown("No usable time was seen."), nil
	}
	var digits []string
	for _, d := range slices.Sorted(maps.Keys(c.digits)) {
		digits = append(digits, fmt.Sprintf("%d (%s)", d, plural(c.digits[d], "time", "times")))
	}
	found := fmt.Sprintf("Digits after the second: %s. Zone: %s.", list(digits, 5), list(slices.Sorted(maps.Keys(c.zones)), 5))
	switch whole := c.rounded == c.stamps; {
	case whole && c.stamps > enough:
		return finding{Note, found + " All are whole seconds.", "Timestamps are coarse, so ties are many; a large page_size keeps them on one page."}, nil
	case len(c.digits) == 1 && c.digits[3] > 0 && len(c.zones) == 1 && c.zones["Z"] > 0:
		return finding{OK, found, ""}, nil
	default:
		return finding{Note, found + " Three digits and Z are documented.", "Sluice reads any of these; nothing to set."}, nil
	}
}

func (e *exam) checkRequired(context.Context) (finding, error) {
	c := e.census
	if c.contacts == 0 {
		return unknown(noContacts), nil
	}
	var parts []string
	most := 0
	for _, name := range slices.Sorted(maps.Keys(c.missing)) {
		n := c.missing[name]
		most = max(most, n)
		part := fmt.Sprintf("%s (%s", name, contacts(n))
		if text := c.example[name]; text != "" {
			part += fmt.Sprintf(", such as %q", text)
		}
		parts = append(parts, part+")")
	}
	nulls := ""
	if len(c.nulls) > 0 {
		var names []string
		for _, name := range slices.Sorted(maps.Keys(c.nulls)) {
			names = append(names, fmt.Sprintf("%s (%s)", name, contacts(c.nulls[name])))
		}
		nulls = " Null or missing, though documented without: " + list(names, 7) + "."
	}
	switch {
	case 2*most > c.contacts:
		return finding{Problem, fmt.Sprintf("Of %s most have no usable %s.%s", contacts(c.contacts), list(parts, 3), nulls), "They would go to quarantine: the endpoint prints something else than the page says. Ask the vendor."}, nil
	case most > 0:
		return finding{Note, fmt.Sprintf("Of %s some have no usable %s.%s", contacts(c.contacts), list(parts, 3), nulls), "Those contacts go to quarantine; the others are exported."}, nil
	case nulls != "":
		return finding{Note, fmt.Sprintf("All of %s have id, created_at and updated_at.%s", contacts(c.contacts), nulls), "These columns take nulls; nothing to set."}, nil
	default:
		return finding{OK, fmt.Sprintf("All of %s have id, created_at and updated_at.", contacts(c.contacts)), ""}, nil
	}
}

func (e *exam) checkPlatforms(context.Context) (finding, error) {
	c := e.census
	if c.contacts == 0 {
		return unknown(noContacts), nil
	}
	if len(c.platforms) == 0 {
		return finding{OK, fmt.Sprintf("%s, all on platforms that are documented.", contacts(c.contacts)), ""}, nil
	}
	var names []string
	for _, p := range slices.Sorted(maps.Keys(c.platforms)) {
		names = append(names, fmt.Sprintf("%q (%s)", p, contacts(c.platforms[p])))
	}
	return finding{Note, "Platforms that are not documented: " + list(names, 6) + ".", "They are kept as text; a list in filters.platform has to name them."}, nil
}

func (e *exam) checkCustom(context.Context) (finding, error) {
	c := e.census
	if c.contacts == 0 {
		return unknown(noContacts), nil
	}
	var parts []string
	status := OK
	for _, place := range slices.Sorted(maps.Keys(c.custom)) {
		f := c.custom[place]
		if strings.HasSuffix(place, "(unknown form)") {
			status = Note
		}
		parts = append(parts, fmt.Sprintf("%s: %s in %s", place, plural(len(f.keys), "key", "keys"), contacts(f.contacts)))
	}
	other := ""
	if len(c.extra) > 0 {
		other = " Fields that are not documented: " + list(slices.Sorted(maps.Keys(c.extra)), 8) + "."
	}
	summary := fmt.Sprintf("%s of %s have custom fields. %s.%s", count(c.custody), contacts(c.contacts), strings.Join(parts, "; "), other)
	unseen := c.unseen()
	switch {
	case len(parts) == 0:
		return finding{Note, fmt.Sprintf("None of %s on list pages has custom fields.%s", contacts(c.contacts), other), "The export has no cf_ columns until the endpoint shows them. " + unseen}, nil
	case status == Note:
		return finding{Note, summary, strings.TrimSpace("Those in an unknown form are kept as JSON text, which no filter on our side sees. " + unseen)}, nil
	default:
		return finding{OK, summary, strings.TrimSpace("They become columns cf_customer_<key> and cf_ticket_<key>; nothing to set. " + unseen)}, nil
	}
}

// unseen says what a filter by custom field on our side would do where the list
// does not show the fields of an entity.
func (c *census) unseen() string {
	customer, ticket := false, false
	for place := range c.custom {
		switch {
		case strings.HasSuffix(place, "(unknown form)"):
		case strings.HasPrefix(place, ticketPrefix):
			ticket = true
		default:
			customer = true
		}
	}
	const way = " would mark every contact as deleted: filter with sync: snapshot, where the source does."
	switch {
	case customer && ticket:
		return ""
	case customer:
		return "None stands in a ticket, so with sync: incremental or recent a filter with entity_type: ticket" + way
	case ticket:
		return "All stand in tickets, so with sync: incremental or recent a filter with entity_type: customer" + way
	default:
		return "With sync: incremental or recent, which filter on our side, a filter by custom field" + way
	}
}
