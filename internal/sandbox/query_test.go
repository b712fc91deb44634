package sandbox

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestEachParameterAcceptsItsRangeAndNamesItselfOutside(t *testing.T) {
	s := newServer(t, Options{Contacts: 20, Seed: 1})
	const some = "123e4567-e89b-12d3-a456-426614174000"
	for _, test := range []struct {
		name      string
		good, bad []string
	}{
		{"days", []string{"1", "365", "7.5", "1e2"}, []string{"0", "0.99", "366", "-1", "", "x", "NaN", "Inf", "1 "}},
		{"limit", []string{"1", "1000"}, []string{"0", "1001", "-1", "1.5", "", "x", "9999999999999999999"}},
		{"offset", []string{"0", "1", "9223372036854775807"}, []string{"-1", "0.5", "", "x"}},
		{
			"created_after",
			[]string{"2024-01-15T10:00:00.000Z", "2024-01-15", "2024-01-15T10:00:00+03:00", "2024-01-15T10:00:00.123456789-0500", "2024-01-15T10:00", "2024-02-29"},
			[]string{"", "yesterday", "2024-13-01", "2023-02-29", "2024-01-15T25:00:00Z", "15/01/2024", "1705312800", "2024-01-15T10:00:00 03:00"},
		},
		{"updated_after", []string{"2024-01-15T10:00:00Z", "0001-01-01"}, []string{"", "now", "2024-1-5", "10000-01-01T00:00:00Z"}},
		{
			"stage_id",
			[]string{some, strings.ToUpper(some), "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"},
			[]string{"", "x", some + "0", "123e4567-e89b-92d3-a456-426614174000", "123e4567-e89b-12d3-c456-426614174000", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"},
		},
		{"pipeline_id", []string{some}, []string{"", "x", "123e4567e89b12d3a456426614174000"}},
		{"custom_field_key", []string{"a"}, []string{""}},
		{"custom_field_value", []string{"a"}, []string{""}},
		{"entity_type", []string{"ticket", "customer"}, []string{"", "Ticket", "contact"}},
	} {
		ask := func(value string) url.Values {
			q := params("updated_after", "2023-01-01")
			if strings.HasPrefix(test.name, "custom_field") {
				q = params("updated_after", "2023-01-01", "custom_field_key", "k", "custom_field_value", "v")
			}
			q.Set(test.name, value)
			return q
		}
		for _, value := range test.good {
			if w := call(t, s, http.MethodGet, contactsPath+ask(value).Encode(), ""); w.Code != http.StatusOK {
				t.Errorf("%s=%s: %d %s", test.name, value, w.Code, w.Body)
			}
		}
		for _, value := range test.bad {
			w := call(t, s, http.MethodGet, contactsPath+ask(value).Encode(), "")
			if w.Code != http.StatusBadRequest {
				t.Errorf("%s=%q: %d", test.name, value, w.Code)
				continue
			}
			m := message(t, w)
			if !strings.HasPrefix(m, test.name+" must be ") || !strings.Contains(m, strconv.Quote(value)) {
				t.Errorf("%s=%q: message is %q", test.name, value, m)
			}
		}
		twice := ask(test.good[0])
		twice.Add(test.name, test.good[0])
		if w := call(t, s, http.MethodGet, contactsPath+twice.Encode(), ""); w.Code != http.StatusBadRequest || !strings.Contains(message(t, w), test.name) {
			t.Errorf("%s given twice: %d %s", test.name, w.Code, w.Body)
		}
	}
}

func TestParametersThatNeedEachOther(t *testing.T) {
	s := newServer(t, Options{Contacts: 20, Seed: 1})
	for _, test := range []struct{ query, want string }{
		{"", "at least one of days, created_after, updated_after is required, got none"},
		{"limit=10&offset=5", "at least one of days, created_after, updated_after is required, got none"},
		{"days=1&custom_field_key=a", "custom_field_value must be given together with custom_field_key, got custom_field_key alone"},
		{"days=1&custom_field_value=a", "custom_field_key must be given together with custom_field_value, got custom_field_value alone"},
	} {
		w := call(t, s, http.MethodGet, contactsPath+test.query, "")
		if w.Code != http.StatusBadRequest || message(t, w) != test.want {
			t.Errorf("%s: %d %s", test.query, w.Code, w.Body)
		}
	}
	if w := call(t, s, http.MethodGet, contactsPath+"days=1&entity_type=ticket&cache=no", ""); w.Code != http.StatusOK {
		t.Errorf("entity_type alone and an unknown parameter: %d %s", w.Code, w.Body)
	}
	if w := call(t, s, http.MethodGet, contactsPath+"days=%zz", ""); w.Code != http.StatusBadRequest {
		t.Errorf("malformed query: %d", w.Code)
	}
}

func TestTheDefaultPageHas100Contacts(t *testing.T) {
	s := newServer(t, Options{Contacts: 300, Seed: 1})
	if n := len(list(t, s, params("updated_after", "2023-01-01"))); n != 100 {
		t.Errorf("got %d contacts", n)
	}
}

// answer is the naive model: CONTACTS_API.md word for word over all contacts.
func answer(t *testing.T, contacts []Contact, stages map[string]string, q url.Values, now time.Time) []string {
	t.Helper()
	instant := func(name string) (time.Time, bool) {
		v := q.Get(name)
		if v == "" {
			return time.Time{}, false
		}
		at, err := time.Parse(time.RFC3339Nano, v)
		if err != nil {
			t.Fatal(err)
		}
		return at, true
	}
	created, byCreated := instant("created_after")
	updated, byUpdated := instant("updated_after")
	days, err := strconv.ParseFloat(q.Get("days"), 64)
	byDays := err == nil
	since := now.Add(-time.Duration(days * float64(24*time.Hour)))
	var kept []Contact
	for _, c := range contacts {
		if byCreated && !c.CreatedAt.After(created) || byUpdated && !c.UpdatedAt.After(updated) ||
			byDays && (c.LastMessageAt == nil || c.LastMessageAt.Before(since)) {
			continue
		}
		stage := ""
		if c.Ticket != nil && c.Ticket.CurrentStageID != nil {
			stage = *c.Ticket.CurrentStageID
		}
		if id := q.Get("stage_id"); id != "" && id != stage {
			continue
		}
		if id := q.Get("pipeline_id"); id != "" && (stage == "" || id != stages[stage]) {
			continue
		}
		if q.Has("custom_field_key") && !modelField(t, c, q) {
			continue
		}
		kept = append(kept, c)
	}
	key := func(c Contact) int64 { return c.LastMessageAt.UnixMicro() }
	if byUpdated {
		key = func(c Contact) int64 { return c.UpdatedAt.UnixMicro() }
	} else if byCreated {
		key = func(c Contact) int64 { return c.CreatedAt.UnixMicro() }
	}
	slices.SortStableFunc(kept, func(a, b Contact) int { return int(max(-1, min(1, key(a)-key(b)))) })
	if !byUpdated && !byCreated {
		slices.Reverse(kept)
	}
	offset, _ := strconv.Atoi(q.Get("offset"))
	limit, _ := strconv.Atoi(q.Get("limit"))
	out := []string{}
	for _, c := range kept[min(offset, len(kept)):min(offset+limit, len(kept))] {
		out = append(out, c.ID)
	}
	return out
}

func modelField(t *testing.T, c Contact, q url.Values) bool {
	t.Helper()
	var fields []Field
	if q.Get("entity_type") != "ticket" {
		fields = append(fields, c.Custom...)
	}
	if q.Get("entity_type") != "customer" && c.Ticket != nil {
		fields = append(fields, c.Ticket.Custom...)
	}
	for _, f := range fields {
		var v any
		if err := json.Unmarshal(f.Value, &v); err != nil {
			t.Fatal(err)
		}
		text := string(f.Value)
		switch v := v.(type) {
		case string:
			text = v
		case float64, bool:
		default:
			continue
		}
		if f.Key == q.Get("custom_field_key") && text == q.Get("custom_field_value") {
			return true
		}
	}
	return false
}

func stagePipelines(s *Server) map[string]string {
	m := map[string]string{}
	for _, st := range s.store.g.stages {
		m[st.id.String()] = s.store.g.pipelines[st.pipeline].id.String()
	}
	return m
}

// TestEveryCombinationOfFiltersAgreesWithTheModel crosses all filters with all
// orders, before and after changes, with ties, at several offsets.
func TestEveryCombinationOfFiltersAgreesWithTheModel(t *testing.T) {
	const seed = 42
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	s := newServer(t, Options{Contacts: 700, Seed: 9, UpdatedTies: 40, CreatedTies: 40, UpdatedMsTies: 30, CreatedMsTies: 30, Future: 3})
	for round := range 2 {
		contacts := all(s)
		for combination := range 7 * 2 * 2 * 4 {
			q := combine(rng, s, contacts, combination)
			for range 3 {
				q.Set("offset", strconv.Itoa(rng.IntN(4)*rng.IntN(40)))
				q.Set("limit", strconv.Itoa(1+rng.IntN(120)))
				want := answer(t, contacts, stagePipelines(s), q, afterHistory)
				if got := ids(list(t, s, q)); !slices.Equal(got, want) {
					t.Fatalf("round %d, %s:\n got %d %v\nwant %d %v", round, q.Encode(), len(got), got, len(want), want)
				}
			}
		}
		s.Mutate(Mutation{Updates: 300, Silent: 50, Creates: 60, Deletes: 80, Bulk: 70})
		for _, c := range all(s)[:20] {
			edited := Change{Customer: []Field{{Key: "ciudad", Value: json.RawMessage(`"Santiago"`)}}, Ticket: []Field{{Key: "nuevo", Value: json.RawMessage(`7`)}}}
			if err := s.Update(c.ID, edited); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// combine turns a number below 112 into a query with that combination of filters.
func combine(rng *rand.Rand, s *Server, contacts []Contact, n int) url.Values {
	q := url.Values{}
	c := contacts[rng.IntN(len(contacts))]
	times, rest := n%7+1, n/7
	if times&1 != 0 {
		q.Set("days", []string{"1", "30.5", "365"}[rng.IntN(3)])
	}
	// A contact's own time, exact or as printed: strictness shows at both.
	if times&2 != 0 {
		q.Set("created_after", []string{"2022-12-31T00:00:00Z", fine(c.CreatedAt), printed(c.CreatedAt)}[rng.IntN(3)])
	}
	if times&4 != 0 {
		q.Set("updated_after", []string{"2022-12-31T00:00:00Z", fine(c.UpdatedAt), printed(c.UpdatedAt)}[rng.IntN(3)])
	}
	stage := s.store.g.stages[rng.IntN(len(s.store.g.stages))]
	if rest&1 != 0 {
		q.Set("stage_id", stage.id.String())
	}
	if rest&2 != 0 {
		q.Set("pipeline_id", s.store.g.pipelines[stage.pipeline].id.String())
	}
	if entity := rest / 4; entity > 0 {
		pairs := [][2]string{{"ciudad", "Ñuñoa"}, {"prioridad", "null"}, {"prioridad", "alta"}, {"acepta_marketing", "true"}, {"ciudad", "Santiago"}, {"score", ""}, {"nuevo", "7"}, {"Notas", "Línea 1\nLínea 2"}}
		pair := pairs[rng.IntN(len(pairs))]
		if pair[1] == "" {
			pair[1] = strconv.Itoa(rng.IntN(100))
		}
		q.Set("custom_field_key", pair[0])
		q.Set("custom_field_value", pair[1])
		if entity > 1 {
			q.Set("entity_type", []string{"ticket", "customer"}[entity-2])
		}
	}
	return q
}

func TestAStrictCursorBelowTheMillisecondReturnsWhatPrintsAlike(t *testing.T) {
	s := newServer(t, Options{Contacts: 500, Seed: 3})
	var c Contact
	for _, c = range all(s) {
		if c.UpdatedAt.Nanosecond()%1_000_000 != 0 {
			break
		}
	}
	q := params("updated_after", printed(c.UpdatedAt), "limit", "1")
	if got := ids(list(t, s, q)); !slices.Equal(got, []string{c.ID}) {
		t.Errorf("after the printed time: %v, want the contact itself, %s", got, c.ID)
	}
	q.Set("updated_after", fine(c.UpdatedAt))
	if got := ids(list(t, s, q)); slices.Contains(got, c.ID) {
		t.Error("after its exact time the contact came again")
	}
	q.Set("updated_after", c.UpdatedAt.Format("2006-01-02T15:04:05.000000")+"999Z")
	if got := ids(list(t, s, q)); slices.Contains(got, c.ID) {
		t.Error("999 ns after its exact time the contact came again")
	}
}

func TestPagesByOffsetOfAStandingSourceGiveEachContactOnce(t *testing.T) {
	for _, order := range []url.Values{params("updated_after", "2023-01-01"), params("created_after", "2022-12-31"), params("days", "365")} {
		s := newServer(t, Options{Contacts: 1500, Seed: 5, UpdatedTies: 700, CreatedTies: 300})
		seen := map[string]int{}
		for offset := 0; ; offset += 256 {
			order.Set("limit", "256")
			order.Set("offset", strconv.Itoa(offset))
			page := list(t, s, order)
			for _, id := range ids(page) {
				seen[id]++
			}
			if len(page) == 0 {
				break
			}
		}
		want := 1500
		if order.Has("days") {
			want = len(answer(t, all(s), nil, params("days", "365", "limit", "5000"), afterHistory))
		}
		if len(seen) != want {
			t.Errorf("%s: %d of %d contacts", order.Encode(), len(seen), want)
		}
		for id, n := range seen {
			if n != 1 {
				t.Errorf("%s: %s came %d times", order.Encode(), id, n)
			}
		}
	}
}

func TestShuffledTiesChangeFromRequestToRequestAndNothingElseDoes(t *testing.T) {
	s := newServer(t, Options{Contacts: 1000, Seed: 5, UpdatedTies: 300, UpdatedMsTies: 20, ShuffleTies: true})
	q := params("updated_after", "2026-06-15T14:00:00Z", "limit", "1000")
	a, b := list(t, s, q), list(t, s, q)
	if slices.Equal(ids(a), ids(b)) {
		t.Error("two requests gave one order")
	}
	times := func(page []listed) (out []string) {
		for _, c := range page {
			out = append(out, c.str("updated_at"))
		}
		return out
	}
	if !slices.Equal(times(a), times(b)) || !slices.IsSorted(times(a)) {
		t.Error("more than the order of ties changed")
	}
	sa, sb := ids(a), ids(b)
	slices.Sort(sa)
	slices.Sort(sb)
	if !slices.Equal(sa, sb) {
		t.Error("the contacts changed")
	}
	// A page that begins among the ties is drawn from all of them.
	seen := map[string]bool{}
	q.Set("limit", "10")
	q.Set("offset", fmt.Sprint(slices.Index(times(a), printed(time.UnixMicro(tieUpdated)))+290))
	for range 60 {
		for _, c := range list(t, s, q) {
			if c.str("updated_at") == printed(time.UnixMicro(tieUpdated)) {
				seen[c.str("id")] = true
			}
		}
	}
	if len(seen) < 200 {
		t.Errorf("60 pages at the end of 300 ties showed %d of them", len(seen))
	}
	days := params("days", "365", "limit", "1000")
	if got, want := len(list(t, s, days)), len(answer(t, all(s), nil, days, afterHistory)); got != want {
		t.Errorf("descending: %d contacts, want %d", got, want)
	}
}

// TestShuffledTiesLeaveOffsetsWhereTheyAre compares the times on pages at
// offsets before, among and after ties with those of a server that shuffles
// nothing, in both directions.
func TestShuffledTiesLeaveOffsetsWhereTheyAre(t *testing.T) {
	o := Options{Contacts: 400, Seed: 5}
	quiet := newServer(t, o)
	o.ShuffleTies = true
	shuffled := newServer(t, o)
	for _, s := range []*Server{quiet, shuffled} {
		s.BulkTouch(150)
		s.mu.Lock()
		for i := range uint32(100) { // one exact last_message_at
			s.store.setMessage(i, afterHistory.Add(-time.Hour).UnixMicro())
		}
		s.mu.Unlock()
	}
	for _, order := range []struct {
		q    url.Values
		time string
	}{{params("updated_after", "2020-01-01"), "updated_at"}, {params("days", "365"), "last_message_at"}} {
		for offset := 0; offset < 400; offset += 13 {
			order.q.Set("limit", "20")
			order.q.Set("offset", strconv.Itoa(offset))
			var times [2][]string
			for n, s := range []*Server{quiet, shuffled} {
				for _, c := range list(t, s, order.q) {
					times[n] = append(times[n], c.str(order.time))
				}
			}
			if !slices.Equal(times[0], times[1]) {
				t.Errorf("%s at offset %d: %v, want %v", order.time, offset, times[1], times[0])
			}
		}
	}
}

func TestDaysBorderIsInclusive(t *testing.T) {
	clk := &manualClock{t: afterHistory}
	s := newServerAt(t, Options{Contacts: 0, Seed: 1}, clk)
	id := s.Create(1)[0]
	clk.add(24 * time.Hour)
	if got := ids(list(t, s, params("days", "1"))); !slices.Equal(got, []string{id}) {
		t.Errorf("exactly a day later: %v", got)
	}
	clk.add(time.Microsecond)
	if got := list(t, s, params("days", "1")); len(got) != 0 {
		t.Errorf("a microsecond after that: %v", ids(got))
	}
}

func TestAnEmptySourceAnswersAnEmptyArray(t *testing.T) {
	s := newServer(t, Options{Seed: 1, ShuffleTies: true})
	for _, q := range []string{"days=5", "created_after=2020-01-01", "updated_after=2020-01-01&offset=7", "days=3&offset=2&stage_id=123e4567-e89b-12d3-a456-426614174000"} {
		if w := call(t, s, http.MethodGet, contactsPath+q, ""); w.Code != http.StatusOK || w.Body.String() != "[]" {
			t.Errorf("%s: %d %s", q, w.Code, w.Body)
		}
	}
}
