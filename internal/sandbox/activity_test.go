package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// stageOf returns the stage of the contact's ticket, "" for none.
func stageOf(c Contact) string {
	if c.Ticket == nil || c.Ticket.CurrentStageID == nil {
		return ""
	}
	return *c.Ticket.CurrentStageID
}

func TestASourceThatServesDaysAloneIgnoresTheOtherTimes(t *testing.T) {
	const seed = 3
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	s := newServer(t, Options{Contacts: 600, Seed: 9, DaysAlone: true})
	plain := newServer(t, Options{Contacts: 600, Seed: 9})
	contacts := all(s)
	differ := 0
	for n := range 7 * 16 {
		q := combine(rng, s, contacts, n)
		q.Set("limit", "1000")
		alone := params()
		for name, values := range q {
			if !q.Has("days") || name != "created_after" && name != "updated_after" {
				alone[name] = values
			}
		}
		want := answer(t, contacts, stagePipelines(s), alone, afterHistory)
		if got := ids(list(t, s, q)); !slices.Equal(got, want) {
			t.Fatalf("%s: got %d contacts, want %d", q.Encode(), len(got), len(want))
		}
		if len(alone) < len(q) && !slices.Equal(ids(list(t, plain, q)), want) {
			differ++
		}
	}
	if differ < 10 {
		t.Errorf("in %d queries alone it matters that days does not combine", differ)
	}
	if w := call(t, s, http.MethodGet, contactsPath+"days=5&created_after=yesterday", ""); w.Code != http.StatusBadRequest {
		t.Errorf("a time that is ignored need not be one: %d", w.Code)
	}
}

func TestMutationsMoveContactsBetweenStages(t *testing.T) {
	s := newServer(t, Options{Contacts: 400, Seed: 6})
	before := byID(s)
	s.Mutate(Mutation{Stages: 150})
	after := byID(s)
	moved := 0
	for id, c := range after {
		if stageOf(c) == stageOf(before[id]) {
			continue
		}
		moved++
		if stageOf(c) == "" || !c.UpdatedAt.After(before[id].UpdatedAt) {
			t.Errorf("%s went from %q to %q, updated %s", id, stageOf(before[id]), stageOf(c), c.UpdatedAt)
		}
		for _, stage := range []string{stageOf(before[id]), stageOf(c)} {
			if stage == "" {
				continue
			}
			there := slices.Contains(ids(list(t, s, params("stage_id", stage, "created_after", "2020-01-01", "limit", "1000"))), id)
			if there != (stage == stageOf(c)) {
				t.Errorf("%s is listed in stage %s: %t", id, stage, there)
			}
		}
	}
	_, times := changed(before, after)
	if moved < 110 || moved > 150 || len(times) < moved || s.Stats().Moved != 150 { // a contact may be drawn twice
		t.Errorf("%d contacts moved and %d changed, of 150 draws", moved, len(times))
	}
}

func TestAMessageMovesNothingButItsTime(t *testing.T) {
	s := newServer(t, Options{Contacts: 200, Seed: 6})
	before := byID(s)
	week := params("days", "1", "limit", "1000")
	if n := len(list(t, s, week)); n > 10 {
		t.Fatalf("%d contacts have written within a day", n)
	}
	s.Mutate(Mutation{Messages: 60})
	content, times := changed(before, byID(s))
	if len(content) > 0 || len(times) > 0 {
		t.Errorf("%d contacts and %d times of change moved", len(content), len(times))
	}
	wrote := 0
	for id, c := range byID(s) {
		if old := before[id].LastMessageAt; c.LastMessageAt != nil && (old == nil || c.LastMessageAt.After(*old)) {
			wrote++
		}
	}
	if wrote < 40 || wrote > 60 || s.Stats().Messages != 60 {
		t.Errorf("%d contacts wrote", wrote)
	}
	if n := len(list(t, s, week)); n < wrote {
		t.Errorf("%d contacts have written within a day, want at least %d", n, wrote)
	}
}

func TestADeletedContactComesBackAsItWasOrTouched(t *testing.T) {
	s := newServer(t, Options{Contacts: 120, Seed: 6})
	name := "Antes"
	id := all(s)[11].ID
	if err := s.Update(id, Change{Name: &name, Ticket: []Field{{Key: "k", Value: json.RawMessage(`1`)}}}); err != nil {
		t.Fatal(err)
	}
	before := dump(t, s)
	known := byID(s)
	if err := s.Restore(id, false); err == nil || errors.Is(err, ErrUnknown) {
		t.Errorf("a contact that is there came back: %v", err)
	}
	if err := s.Restore("00000000-0000-4000-8000-000000000000", true); !errors.Is(err, ErrUnknown) {
		t.Errorf("restored one that never was: %v", err)
	}
	if err := s.Delete(id); err != nil {
		t.Fatal(err)
	}
	s.Mutate(Mutation{Deletes: 30})
	if s.Stats().Contacts != 89 || bytes.Contains(dump(t, s), []byte(id)) {
		t.Fatalf("%d contacts", s.Stats().Contacts)
	}
	if err := s.Restore(id, false); err != nil {
		t.Fatal(err)
	}
	s.Mutate(Mutation{Restores: 40}) // there are 30
	if !bytes.Equal(before, dump(t, s)) || s.Stats().Restored != 31 {
		t.Errorf("%d contacts came back, some not as they were", s.Stats().Restored)
	}
	for _, q := range []string{"updated_after", "created_after"} {
		got := ids(list(t, s, params(q, "2020-01-01", "limit", "1000")))
		slices.Sort(got)
		if len(slices.Compact(got)) != 120 {
			t.Errorf("%s lists %d contacts", q, len(got))
		}
	}

	s.Mutate(Mutation{Deletes: 3})
	if err := s.Delete(id); err != nil {
		t.Fatal(err)
	}
	s.Mutate(Mutation{Returns: 1}) // the last
	c, ok := byID(s)[id]
	if !ok || c.Name != name || !c.UpdatedAt.After(known[id].UpdatedAt) || !c.CreatedAt.Equal(known[id].CreatedAt) {
		t.Errorf("returned %t: %+v", ok, c)
	}
	if got := ids(list(t, s, params("updated_after", fine(c.UpdatedAt.Add(-time.Microsecond))))); !slices.Equal(got, []string{id}) {
		t.Errorf("listed after its new time: %v", got)
	}
	if s.Stats().Contacts != 117 {
		t.Errorf("%d contacts", s.Stats().Contacts)
	}
}

func TestTheControlsOfOneContact(t *testing.T) {
	s := newServer(t, Options{Contacts: 50, Seed: 6})
	before := all(s)[5]
	at := "/_sandbox/contact/" + before.ID
	stage := s.store.g.stages[4].id.String()
	now := func() Contact { return byID(s)[before.ID] }
	ok := func(method, path, body string) {
		t.Helper()
		if w := call(t, s, method, path, body); w.Code != http.StatusOK {
			t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
		}
	}
	ok(http.MethodPost, at+"/update", `{"stage_id":"`+stage+`","silent":true,"ticket":[{"key":"tier","value":"gold","shape":"metadata"}],"customer":[{"key":"n","value":7}]}`)
	if c := now(); stageOf(c) != stage || !c.UpdatedAt.Equal(before.UpdatedAt) {
		t.Errorf("moved in silence: %q, %s", stageOf(c), c.UpdatedAt)
	}
	for _, q := range [][]string{{"custom_field_key", "tier", "custom_field_value", "gold", "entity_type", "ticket"}, {"custom_field_key", "n", "custom_field_value", "7", "entity_type", "customer"}} {
		if got := ids(list(t, s, params(append(q, "created_after", "2020-01-01")...))); !slices.Equal(got, []string{before.ID}) {
			t.Errorf("%v: %v", q, got)
		}
	}
	ok(http.MethodPost, at+"/update", `{"stage_id":""}`)
	if c := now(); stageOf(c) != "" || !c.UpdatedAt.After(before.UpdatedAt) {
		t.Errorf("left its stage: %q, %s", stageOf(c), c.UpdatedAt)
	}
	updated := now().UpdatedAt
	ok(http.MethodPost, at+"/message", "")
	if c := now(); c.LastMessageAt.Before(afterHistory) || !c.UpdatedAt.Equal(updated) {
		t.Errorf("wrote: %s, %s", c.LastMessageAt, c.UpdatedAt)
	}
	ok(http.MethodDelete, at, "")
	info := "/api/public/contact/" + before.ID + "/info"
	if w := call(t, s, http.MethodGet, info, ""); w.Code != http.StatusNotFound {
		t.Errorf("info of a deleted contact: %d", w.Code)
	}
	ok(http.MethodPost, at+"/restore", "")
	ok(http.MethodGet, info, "")
	if !now().UpdatedAt.Equal(updated) {
		t.Errorf("came back with another updated_at: %s", now().UpdatedAt)
	}
	ok(http.MethodDelete, at, "")
	ok(http.MethodPost, at+"/restore?touch=true", "")
	if !now().UpdatedAt.After(updated) {
		t.Errorf("came back with its old updated_at: %s", now().UpdatedAt)
	}
	const nobody = "/_sandbox/contact/00000000-0000-4000-8000-000000000000"
	for _, bad := range []struct {
		path, body, want string
		code             int
	}{
		{at + "/restore", "", "it is not deleted", 400},
		{at + "/restore?touch=perhaps", "", "touch must be true or false", 400},
		{at + "/update", `{"stageId":"x"}`, `unknown field "stageId"`, 400},
		{at + "/update", `[]`, "body must be a JSON object", 400},
		{at + "/update", `{"stage_id":"` + before.ID + `"}`, "find stage", 404},
		{at + "/update", `{"ticket":[{"key":"k"}]}`, "custom field", 400},
		{nobody + "/update", `{}`, "does not exist", 404},
		{nobody + "/message", "", "does not exist", 404},
		{nobody + "/restore", "", "does not exist", 404},
		{"/_sandbox/mutate", `{"update": 3}`, `unknown field "update"`, 400},
		{"/_sandbox/mutate", `{"stages": -1}`, "stages, messages, restores and returns must be", 400},
	} {
		w := call(t, s, http.MethodPost, bad.path, bad.body)
		if w.Code != bad.code || !strings.Contains(message(t, w), bad.want) {
			t.Errorf("%s %s: %d %s", bad.path, bad.body, w.Code, w.Body)
		}
	}
	ok(http.MethodPost, "/_sandbox/mutate", `{"stages": 2, "messages": 3, "deletes": 2, "restores": 1, "returns": 1}`)
	if st := s.Stats(); st.Moved != 2 || st.Messages != 4 || st.Restored != 4 || st.Contacts != 50 {
		t.Errorf("%+v", st)
	}
}

func TestEachMoveEndsInAnotherStage(t *testing.T) {
	s := newServer(t, Options{Contacts: 20, Seed: 6})
	before := byID(s)
	for n := range 60 {
		s.Mutate(Mutation{Stages: 1})
		now, moved := byID(s), 0
		for id, c := range now {
			if stageOf(c) != stageOf(before[id]) {
				moved++
			}
		}
		if moved != 1 {
			t.Fatalf("move %d changed the stage of %d contacts", n, moved)
		}
		before = now
	}
}
