package run_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// fieldKey is a key that contacts may have, and what it is in snake_case, as
// written down by hand.
type fieldKey struct {
	key, snake string
	lossy      bool // letters are left out, so that digits of a hash stand for them
}

// customKeys fall together in many ways. Most of them may stand in either entity.
func customKeys() []fieldKey {
	long := strings.Repeat("long key ", 36)
	return []fieldKey{
		{"Lead Source", "lead_source", false},
		{"lead_source", "lead_source", false},
		{"lead-source", "lead_source", false},
		{"leadSource", "lead_source", false},
		{"LEAD_SOURCE", "lead_source", false},
		{"size", "size", false},
		{"Size", "size", false},
		{"SIZE", "size", false},
		{"Año de compra", "ano_de_compra", false},
		{"ano_de_compra", "ano_de_compra", false},
		{"An\u0303o de compra", "ano_de_compra", false},
		{"Straße", "strasse", false},
		{"日本語", "field", true},
		{"中文", "field", true},
		{"x 中", "x", true},
		{"😀", "field", true},
		{"", "field", true},
		{"select", "select", false},
		{"Order", "order", false},
		{"group", "group", false},
		{"null", "null", false},
		{"true", "true", false},
		{"id", "id", false},
		{"created_at", "created_at", false},
		{"_sluice_hash", "sluice_hash", false},
		{"size__text", "size_text", false},
		{"size text", "size_text", false},
		{"a.b", "a_b", false},
		{"a/b", "a_b", false},
		{"say \"hi\"\n", "say_hi", false},
		{"1st", "1st", false},
		{long + "one", "", false},
		{long + "two", "", false},
		{"Age", "age", false},
		{"Score", "score", false},
		{"VIP", "vip", false},
		{"Since", "since", false},
		{"Birthday", "birthday", false},
		{"Payload", "payload", false},
	}
}

// ownKeys are members of the contact and of its ticket that nobody knows.
func ownKeys() []fieldKey {
	return []fieldKey{
		{"Shoe Size", "shoe_size", false},
		{"shoe_size", "shoe_size", false},
		{"cf_customer_size", "cf_customer_size", false},
		{"active_ticket_v2_deal", "active_ticket_v2_deal", false},
		{"deal", "deal", false},
		{"Phone", "phone", false},
		{"created_date", "created_date", false},
		{"created_month", "created_month", false},
		{"_sluice_row", "sluice_row", false},
		{"other_fields__json", "other_fields_json", false},
		{"2nd", "2nd", false},
	}
}

// plainName returns the name that a field's column has where no other field has
// it.
func plainName(field string) string {
	scope, key, _ := strings.Cut(field, ":")
	prefix := map[string]string{"cf_customer": "cf_customer_", "cf_ticket": "cf_ticket_", "ticket": "active_ticket_v2_"}[scope]
	for _, k := range append(customKeys(), ownKeys()...) {
		if k.key != key {
			continue
		}
		name := prefix + k.snake
		switch {
		case k.snake == "": // the long ones, cut
			name = prefix + strings.Repeat("long_key_", 36)
			return strings.TrimRight(name[:261], "_") + "_" + digits(field, 8)
		case prefix == "" && k.snake[0] <= '9':
			name = "field_" + name
		}
		if k.lossy || name == "created_month" {
			name += "_" + digits(field, 8)
		}
		return name
	}
	return prefix + key // a place of custom fields that is kept as it is
}

// digits are the first of a field's hash.
func digits(field string, n int) string {
	sum := sha256.Sum256([]byte(field))
	return hex.EncodeToString(sum[:])[:n]
}

// values of each kind, as JSON.
func values() [][]string {
	return [][]string{
		{`1`, `85`, `-7`, `0`},
		{`9007199254740993`, `9223372036854775807`, `-9223372036854775808`},
		{`1.5`, `0.1`, `1e2`, `1.50`, `-0`, `-0.0`, `5e-324`, `1E+3`},
		{`9223372036854775808`, `1e400`, `1e-400`, `123456789012345678901234567890`, `0.1000000000000000055511151231257827`},
		{`true`, `false`},
		{`"x"`, `"ñandú"`, `" with space "`, `"e\u0301"`, `"line\nbreak and \"quote\""`, `"<b>&"`, `"日本"`},
		{`""`, `"NaN"`, `"Infinity"`, `"null"`, `"85"`, `"007"`, `" 85"`, `"1e2"`, `"true"`, `"9007199254740993"`},
		{`{"b":1,"a":[1,2,{"x":null}]}`, `{ "b" : 1e2 }`, `[]`, `{}`, `["x", "ñ"]`},
		{`"2024-02-29"`, `"2024-02-29T01:02:03.004Z"`, `"2024-02-30"`, `"2024-02-29T01:02:03+02:00"`},
		{`null`},
	}
}

// wardrobe makes contacts up. Each key has a kind of value that it usually has.
type wardrobe struct {
	rng    *rand.Rand
	custom []fieldKey // that are in use, of those known
	own    []fieldKey
	usual  map[string]int
}

// change has other keys in use: some vanish, and some of those return later.
func (w *wardrobe) change() {
	draw := func(from []fieldKey, share int) (out []fieldKey) {
		for _, k := range from {
			if w.rng.IntN(100) < share {
				out = append(out, k)
			}
		}
		return out
	}
	share := 10 + w.rng.IntN(60)
	w.custom, w.own = draw(customKeys(), share), draw(ownKeys(), share)
}

func (w *wardrobe) one(of []string) string { return of[w.rng.IntN(len(of))] }

func (w *wardrobe) value(key string) string {
	all := values()
	if _, ok := w.usual[key]; !ok || w.rng.IntN(40) == 0 {
		w.usual[key] = w.rng.IntN(len(all))
	}
	if w.rng.IntN(8) == 0 {
		return w.one(all[w.rng.IntN(len(all))])
	}
	return w.one(all[w.usual[key]])
}

// jsonKey writes a key, now and then with an escape that it does not need.
func (w *wardrobe) jsonKey(key string) string {
	b, err := json.Marshal(key)
	if err != nil {
		panic(err)
	}
	if key != "" && key[0] < 0x80 && b[1] == key[0] && w.rng.IntN(6) == 0 {
		return fmt.Sprintf(`"\u%04x%s`, key[0], b[2:])
	}
	return string(b)
}

// contact writes a contact as an endpoint might serve it.
func (w *wardrobe) contact(id string, created, updated time.Time) []byte {
	const stamp = "2006-01-02T15:04:05.000Z"
	members := []string{
		fmt.Sprintf(`"id":%q`, id), fmt.Sprintf(`"created_at":%q`, created.Format(stamp)), fmt.Sprintf(`"updated_at":%q`, updated.Format(stamp)),
		`"name":` + w.one([]string{`"Ana"`, `"José "`, `null`, `""`}),
		`"phone":` + w.one([]string{`"+56 9 1234 5678"`, `"0056912345678"`, `null`, `"none"`, `56912345678`, `"123"`}),
		`"email":` + w.one([]string{`"Ana@Example.com "`, `"no address"`, `null`, `"b@c.cl"`}),
		`"platform":"whatsapp"`, `"chat_status":"ATTENDED"`, `"client_id":"5a1d4a52-3a1e-4a5e-9a55-2a2f8c5b9d10"`,
		`"ai_customer_id":` + w.one([]string{`"a"`, `null`}), `"default_stage_id":null`,
		`"last_message_at":` + w.one([]string{`null`, `"2024-01-02T03:04:05.678Z"`, `"yesterday"`}),
		`"blocked":` + w.one([]string{`true`, `false`, `"true"`}), `"is_chat_read":false`,
	}
	members = append(members, w.members(w.own, "contact:")...)
	members = append(members, w.places("cf_customer:")...)
	if w.rng.IntN(3) > 0 {
		ticket := []string{`"id":"ticket of ` + id + `"`, `"current_stage_id":null`}
		ticket = append(ticket, w.members(w.own, "ticket:")...)
		ticket = append(ticket, w.places("cf_ticket:")...)
		members = append(members, `"active_ticket_v2":{`+strings.Join(ticket, ",")+`}`)
	} else if w.rng.IntN(2) == 0 {
		members = append(members, `"active_ticket_v2":null`)
	}
	w.rng.Shuffle(len(members), func(i, k int) { members[i], members[k] = members[k], members[i] })
	return []byte("{" + strings.Join(members, ", ") + "}")
}

// members are some of the keys with values.
func (w *wardrobe) members(keys []fieldKey, scope string) (out []string) {
	for _, k := range keys {
		if w.rng.IntN(3) == 0 {
			continue
		}
		out = append(out, w.jsonKey(k.key)+":"+w.value(scope+k.key))
	}
	return out
}

// places are those of an entity's custom fields, each absent, a map or a list;
// some fields stand in two.
func (w *wardrobe) places(scope string) (out []string) {
	var in [3][]fieldKey
	for _, k := range w.custom {
		if w.rng.IntN(3) == 0 {
			continue
		}
		at := w.rng.IntN(3)
		in[at] = append(in[at], k)
		if w.rng.IntN(12) == 0 {
			in[(at+1)%3] = append(in[(at+1)%3], k)
		}
		if w.rng.IntN(24) == 0 {
			in[(at+2)%3] = append(in[(at+2)%3], k)
		}
	}
	for i, name := range []string{"custom_fields", "custom_field_values", "metadata"} {
		if w.rng.IntN(8) == 0 {
			continue
		}
		text := w.object(scope, in[i])
		if w.rng.IntN(2) == 0 {
			text = w.list(scope, in[i])
		}
		if w.rng.IntN(50) == 0 { // none of the shapes of custom fields
			text = w.one([]string{`"none"`, `[1, 2]`, `[{"key":"x"}]`, `7`, `null`})
		}
		out = append(out, `"`+name+`":`+text)
	}
	return out
}

func (w *wardrobe) object(scope string, keys []fieldKey) string {
	var out []string
	for _, k := range keys {
		out = append(out, w.jsonKey(k.key)+": "+w.value(scope+k.key))
	}
	return "{" + strings.Join(out, ",") + "}"
}

func (w *wardrobe) list(scope string, keys []fieldKey) string {
	var out []string
	for _, k := range keys {
		key, value := `"key":`+w.jsonKey(k.key), `"value": `+w.value(scope+k.key)
		switch w.rng.IntN(30) {
		case 0:
			value += `,"note":"x"`
		case 1:
			out = append(out, `{"key":`+w.jsonKey(k.key)+`,"value":`+w.value(scope+k.key)+`}`)
		}
		if w.rng.IntN(2) == 0 {
			key, value = value, key
		}
		out = append(out, "{"+key+","+value+"}")
	}
	return "[" + strings.Join(out, ",") + "]"
}
