package sandbox

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func dump(t *testing.T, s *Server) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := s.Dump(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestOneSeedGivesOneSetOfBytesAndAnotherAnother(t *testing.T) {
	a, b, c := newServer(t, Options{Contacts: 2000, Seed: 1}), newServer(t, Options{Contacts: 2000, Seed: 1}), newServer(t, Options{Contacts: 2000, Seed: 2})
	if !bytes.Equal(dump(t, a), dump(t, b)) {
		t.Error("the same seed gave other bytes")
	}
	if bytes.Equal(dump(t, a), dump(t, c)) {
		t.Error("another seed gave the same bytes")
	}
	if a.ClientID() == c.ClientID() {
		t.Error("another seed is another account")
	}
	more := newServer(t, Options{Contacts: 3000, Seed: 1})
	if !bytes.HasPrefix(dump(t, more), dump(t, a)) {
		t.Error("contact i is not a function of (seed, i) alone")
	}
}

// TestTheDataIsTheSameOnEveryMachine pins the bytes: an exporter that ran
// against yesterday's binary must find the same contacts today. Whoever
// changes the data on purpose changes the digest.
func TestTheDataIsTheSameOnEveryMachine(t *testing.T) {
	sum := sha256.Sum256(dump(t, newServer(t, Options{Contacts: 1000, Seed: 1})))
	const want = "30a43a8e3365399670681a6fc9fa8391746ac4233c104795b9aae32b933654e2"
	if got := hex.EncodeToString(sum[:]); got != want {
		t.Errorf("digest of 1000 contacts of seed 1 is %s, was %s", got, want)
	}
}

func TestChangesPerRequestAreTheSameForTheSameSeed(t *testing.T) {
	o := Options{
		Contacts: 800, Seed: 4, UpdatesPerRequest: 3.5, CreatesPerRequest: 0.5, DeletesPerRequest: 0.25, SilentShare: 0.2,
		LateShare: 0.3, LateRequests: 3, BulkEvery: 5, BulkSize: 30, ShuffleTies: true, ClockStep: 70 * time.Millisecond,
	}
	var bodies [2]bytes.Buffer
	for n := range bodies {
		s := newServer(t, o)
		for range 40 {
			bodies[n].Write(call(t, s, http.MethodGet, contactsPath+"updated_after=2026-06-01&limit=300", "").Body.Bytes())
		}
		bodies[n].Write(dump(t, s))
		if c := s.Stats(); c.Created-c.Hidden < 5 || c.Deleted != 10 || c.Silent == 0 || c.Late == 0 || c.Touched != 240 {
			t.Errorf("after 40 requests: %+v", c)
		}
	}
	if !bytes.Equal(bodies[0].Bytes(), bodies[1].Bytes()) {
		t.Error("two runs differ")
	}
}

// TestPagesShowWhatEachSays decodes pages with encoding/json and compares them
// field by field with the truth.
func TestPagesShowWhatEachSays(t *testing.T) {
	s := newServer(t, Options{Contacts: 1000, Seed: 8})
	s.Mutate(Mutation{Updates: 500, Creates: 20})
	truth := map[string]Contact{}
	for _, c := range all(s) {
		truth[c.ID] = c
	}
	for offset := range 2 {
		q := params("updated_after", "2023-01-01", "limit", "1000", "offset", []string{"0", "1000"}[offset])
		for _, got := range list(t, s, q) {
			want := wireForm(t, truth[got.str("id")])
			a, b := asJSON(t, got), asJSON(t, want)
			if a != b {
				t.Fatalf("page shows\n%s\ntruth is\n%s", a, b)
			}
			delete(truth, got.str("id"))
		}
	}
	if len(truth) != 0 {
		t.Errorf("%d contacts never came", len(truth))
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// wireForm builds the response tables from the truth, by way of maps. Empty
// containers are chance, so they are left out on both sides.
func wireForm(t *testing.T, c Contact) map[string]any {
	t.Helper()
	m := map[string]any{
		"id": c.ID, "name": c.Name, "phone": c.Phone, "email": c.Email, "platform": c.Platform, "last_message_at": nil,
		"chat_status": c.ChatStatus, "created_at": printed(c.CreatedAt), "updated_at": printed(c.UpdatedAt),
		"client_id": c.ClientID, "ai_customer_id": c.AICustomerID, "default_stage_id": c.DefaultStageID,
		"blocked": c.Blocked, "is_chat_read": c.IsChatRead, "active_ticket_v2": nil,
	}
	if c.LastMessageAt != nil {
		m["last_message_at"] = printed(*c.LastMessageAt)
	}
	if c.Ticket != nil {
		ticket := map[string]any{"id": c.Ticket.ID, "current_stage_id": c.Ticket.CurrentStageID}
		addFields(t, ticket, c.Ticket.Custom)
		m["active_ticket_v2"] = ticket
	}
	addFields(t, m, c.Custom)
	return m
}

func addFields(t *testing.T, m map[string]any, fields []Field) {
	t.Helper()
	for _, f := range fields {
		var v any
		if err := json.Unmarshal(f.Value, &v); err != nil {
			t.Fatalf("%s: %v", f.Key, err)
		}
		if f.Shape == "custom_field_values" {
			list, _ := m[f.Shape].([]any)
			m[f.Shape] = append(list, map[string]any{"key": f.Key, "value": v})
			continue
		}
		if m[f.Shape] == nil {
			m[f.Shape] = map[string]any{}
		}
		m[f.Shape].(map[string]any)[f.Key] = v
	}
}

// MarshalJSON leaves out empty containers, which wireForm does not know of.
func (c listed) MarshalJSON() ([]byte, error) {
	strip := func(m map[string]any) {
		for _, name := range []string{"custom_fields", "custom_field_values", "metadata"} {
			switch v := m[name].(type) {
			case nil:
				delete(m, name)
			case []any:
				if len(v) == 0 {
					delete(m, name)
				}
			case map[string]any:
				if len(v) == 0 {
					delete(m, name)
				}
			}
		}
	}
	m := map[string]any(c)
	strip(m)
	if ticket, ok := m["active_ticket_v2"].(map[string]any); ok {
		strip(ticket)
	}
	return json.Marshal(m)
}

func TestTheDataHasWhatTheEndpointHas(t *testing.T) {
	s := newServer(t, Options{Contacts: 8000, Seed: 1})
	seen := map[string]int{}
	note := func(key string, yes bool) {
		if yes {
			seen[key]++
		}
	}
	customers := map[string]bool{}
	s.Each(func(c Contact) bool {
		note("platform "+c.Platform, true)
		note("null phone", c.Phone == nil)
		note("null email", c.Email == nil)
		note("null last_message_at", c.LastMessageAt == nil)
		note("null default_stage_id", c.DefaultStageID == nil)
		note("blocked", c.Blocked)
		note("no ticket", c.Ticket == nil)
		note("ticket without stage", c.Ticket != nil && c.Ticket.CurrentStageID == nil)
		note("name beyond ASCII", utf8.RuneCountInString(c.Name) < len(c.Name))
		note("empty name", c.Name == "")
		note("message after updated_at", c.LastMessageAt != nil && c.LastMessageAt.After(c.UpdatedAt))
		note("customer twice", customers[c.AICustomerID])
		customers[c.AICustomerID] = true
		shapesOf := map[string]bool{}
		for _, f := range c.Custom {
			shapesOf[f.Shape] = true
			note("customer "+f.Shape, true)
			noteValue(seen, f)
		}
		note("shapes mixed", len(shapesOf) > 1)
		if c.Ticket != nil {
			for _, f := range c.Ticket.Custom {
				note("ticket "+f.Shape, true)
				noteValue(seen, f)
			}
		}
		if c.CreatedAt.After(c.UpdatedAt) || c.CreatedAt.UnixMicro() < historyStart || c.UpdatedAt.UnixMicro() >= historyEnd {
			t.Fatalf("times of %s: %s, %s", c.ID, c.CreatedAt, c.UpdatedAt)
		}
		if !uuidPattern.MatchString(c.ID) || !uuidPattern.MatchString(c.AICustomerID) || c.ClientID != s.ClientID() {
			t.Fatalf("ids of %+v", c)
		}
		return true
	})
	for _, key := range append(platformKeys(), "null phone", "null email", "null last_message_at", "null default_stage_id",
		"blocked", "no ticket", "ticket without stage", "name beyond ASCII", "empty name", "message after updated_at", "customer twice",
		"shapes mixed", "customer custom_fields", "customer custom_field_values", "customer metadata", "ticket custom_fields",
		"ticket custom_field_values", "ticket metadata", "key Lead Source", "key lead_source", "key Año de compra",
		"value string", "value number", "value bool", "value null", "value object", "value array") {
		if seen[key] < 10 {
			t.Errorf("%s: %d of 8000 contacts", key, seen[key])
		}
	}
	total := 0
	for _, kind := range []string{"number", "bool", "null", "object", "array"} {
		total += seen["value "+kind]
	}
	if text := seen["value string"]; text < total {
		t.Errorf("%d values are text, %d are not", text, total)
	}
	if size := len(dump(t, s)) / 8000; size < 760 || size > 840 {
		t.Errorf("a contact has %d bytes, benchmarks assume 800", size)
	}
}

func platformKeys() (keys []string) {
	for _, p := range platforms {
		keys = append(keys, "platform "+p.word)
	}
	return keys
}

func noteValue(seen map[string]int, f Field) {
	seen["key "+f.Key]++
	kinds := map[byte]string{'"': "string", '{': "object", '[': "array", 'n': "null", 't': "bool", 'f': "bool"}
	kind, ok := kinds[f.Value[0]]
	if !ok {
		kind = "number"
	}
	if f.Shape == "metadata" && kind != "string" && kind != "null" {
		seen["metadata holds a "+kind]++
	}
	seen["value "+kind]++
}

func TestMetadataHoldsTextAlone(t *testing.T) {
	seen := map[string]int{}
	s := newServer(t, Options{Contacts: 5000, Seed: 2})
	s.Each(func(c Contact) bool {
		for _, f := range c.Custom {
			noteValue(seen, f)
		}
		return true
	})
	for key, n := range seen {
		if strings.HasPrefix(key, "metadata holds") {
			t.Errorf("%s: %d", key, n)
		}
	}
}

func TestTiesShareTheTimeTheyWereAskedFor(t *testing.T) {
	s := newServer(t, Options{Contacts: 5000, Seed: 1, UpdatedTies: 1500, UpdatedMsTies: 700, CreatedTies: 1200, CreatedMsTies: 600, Future: 5})
	count := map[string]int{}
	micros := map[time.Time]bool{}
	s.Each(func(c Contact) bool {
		for name, at := range map[string]time.Time{"updated": c.UpdatedAt, "created": c.CreatedAt} {
			exact, alike := tieUpdated, tieUpdatedMs
			if name == "created" {
				exact, alike = tieCreated, tieCreatedMs
			}
			if at.UnixMicro() == exact {
				count[name]++
			}
			if at.UnixMilli()*1000 == alike {
				count[name+" ms"]++
				micros[at] = true
			}
		}
		if c.UpdatedAt.Year() == 2099 {
			count["future"]++
		}
		if c.CreatedAt.After(c.UpdatedAt) {
			t.Errorf("%s was updated before it was created", c.ID)
		}
		return true
	})
	for name, want := range map[string]int{"updated": 1500, "updated ms": 700, "created": 1200, "created ms": 600, "future": 5} {
		if count[name] != want {
			t.Errorf("%s: %d contacts, want %d", name, count[name], want)
		}
	}
	if len(micros) < 500 {
		t.Errorf("ties of a millisecond share %d exact times", len(micros))
	}
	if all := newServer(t, Options{Contacts: 10, Seed: 1, UpdatedTies: 50, CreatedTies: 50}); len(list(t, all, params("updated_after", "2023-01-01"))) != 10 {
		t.Error("more ties than contacts")
	}
}

func TestIdsAreUniqueAndFindTheirContact(t *testing.T) {
	for _, seed := range []uint64{0, 1, 1 << 60} {
		g := newGenerator(seed)
		seen := map[uuid]bool{}
		for i := range uint32(50_000) {
			id := g.contactID(i)
			if g.number(id) != uint64(i) || seen[id] {
				t.Fatalf("seed %d, contact %d, id %s", seed, i, id)
			}
			seen[id] = true
		}
	}
}

func TestTimesPrintAsTheStandardLibraryDoes(t *testing.T) {
	times := []time.Time{
		time.Unix(0, 0), time.Unix(-1, 999_999_000), time.Date(2000, 2, 29, 23, 59, 59, 999_999_000, time.UTC),
		time.Date(1900, 3, 1, 0, 0, 0, 0, time.UTC), time.Date(2100, 2, 28, 12, 0, 0, 1_000, time.UTC), time.Date(2099, 12, 31, 0, 0, 0, 0, time.UTC),
	}
	for day := range 12_000 {
		times = append(times, time.Date(2000, 1, 1+day, day%24, day%60, day%59, day*1000*77%1_000_000_000, time.UTC))
	}
	for _, at := range times {
		if got, want := string(appendTime(nil, at.UnixMicro())), `"`+printed(at)+`"`; got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
}

func TestStringsAreValidJSON(t *testing.T) {
	for _, text := range slices.Concat(oddNames[:], notes[:], []string{"\x00\x1f\x7f\u2028", "a\xffb", "\xf0\x9f"}) {
		var back string
		if err := json.Unmarshal(appendString(nil, text), &back); err != nil || back != strings.ToValidUTF8(text, "\ufffd") && utf8.ValidString(text) {
			t.Errorf("%q came back as %q, %v", text, back, err)
		}
	}
}
