package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-etl/sluice/internal/clock"
)

func byID(s *Server) map[string]Contact {
	m := map[string]Contact{}
	for _, c := range all(s) {
		m[c.ID] = c
	}
	return m
}

// changed returns the ids whose content or time differs.
func changed(a, b map[string]Contact) (content, times []string) {
	for _, id := range slices.Sorted(maps.Keys(a)) {
		before, after := a[id], b[id]
		if !before.UpdatedAt.Equal(after.UpdatedAt) {
			times = append(times, id)
		}
		before.UpdatedAt, after.UpdatedAt = time.Time{}, time.Time{}
		before.LastMessageAt, after.LastMessageAt = nil, nil
		x, _ := json.Marshal(before)
		y, _ := json.Marshal(after)
		if !bytes.Equal(x, y) {
			content = append(content, id)
		}
	}
	return content, times
}

func TestEachMutatorChangesWhatItSays(t *testing.T) {
	s := newServer(t, Options{Contacts: 300, Seed: 6})
	id := all(s)[7].ID
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	step := func(f func()) (content, times []string, after Contact) {
		before := byID(s)
		f()
		now := byID(s)
		content, times = changed(before, now)
		return content, times, now[id]
	}
	only := []string{id}

	content, times, c := step(func() { must(s.Touch(id)) })
	if len(content) != 0 || !slices.Equal(times, only) || !c.UpdatedAt.Equal(afterHistory) {
		t.Errorf("touch: %v, %v, %s", content, times, c.UpdatedAt)
	}
	content, times, _ = step(func() { must(s.Update(id, Change{})) })
	if !slices.Equal(content, only) || !slices.Equal(times, only) {
		t.Errorf("update: %v, %v", content, times)
	}
	name, none := "Otro \"nombre\"", ""
	content, times, c = step(func() { must(s.Update(id, Change{Name: &name, Phone: &none, Silent: true})) })
	if !slices.Equal(content, only) || len(times) != 0 || c.Name != name || c.Phone != nil {
		t.Errorf("silent update: %v, %v, %+v", content, times, c)
	}
	stage := s.store.g.stages[3].id.String()
	_, _, c = step(func() { must(s.SetStage(id, stage)) })
	if c.Ticket == nil || *c.Ticket.CurrentStageID != stage {
		t.Errorf("stage: %+v", c.Ticket)
	}
	_, _, c = step(func() { must(s.SetStage(id, "")) })
	if c.Ticket == nil || c.Ticket.CurrentStageID != nil {
		t.Errorf("no stage: %+v", c.Ticket)
	}
	var at time.Time
	_, times, _ = step(func() { at = s.BulkTouch(120) })
	if len(times) != 120 {
		t.Errorf("bulk touch moved %d contacts", len(times))
	}
	for _, id := range times {
		if got := byID(s)[id].UpdatedAt; !got.Equal(at) {
			t.Errorf("%s is at %s, not at %s", id, got, at)
		}
	}
	if created := s.Create(3); len(created) != 3 || byID(s)[created[2]].Name == "" && byID(s)[created[2]].ID == "" {
		t.Errorf("created %v", created)
	}
	must(s.Delete(id))
	if _, ok := byID(s)[id]; ok || len(all(s)) != 302 {
		t.Errorf("%d contacts, deleted one there: %v", len(all(s)), ok)
	}
	for _, err := range []error{s.Delete(id), s.Touch(id), s.Update("x", Change{}), s.SetStage(all(s)[0].ID, id)} {
		if !errors.Is(err, ErrUnknown) {
			t.Errorf("unknown id: %v", err)
		}
	}
	if n := s.BulkTouch(10_000); len(list(t, s, params("updated_after", fine(n.Add(-time.Microsecond)), "limit", "1000"))) != 302 {
		t.Error("a bulk touch of more contacts than there are misses some")
	}
}

func TestADeletedContactNeverComesBack(t *testing.T) {
	s := newServer(t, Options{Contacts: 50, Seed: 6})
	s.Mutate(Mutation{Deletes: 49})
	left := all(s)
	if len(left) != 1 {
		t.Fatalf("%d contacts left", len(left))
	}
	s.Mutate(Mutation{Deletes: 5, Updates: 5, Silent: 5, Bulk: 5}) // with nothing left there is nothing to do
	for _, q := range []string{"updated_after=2020-01-01", "created_after=2020-01-01", "days=365"} {
		if w := call(t, s, http.MethodGet, contactsPath+q, ""); w.Body.String() != "[]" {
			t.Errorf("%s: %s", q, w.Body)
		}
	}
	if w := call(t, s, http.MethodGet, "/api/public/contact/"+left[0].ID+"/info", ""); w.Code != http.StatusNotFound {
		t.Errorf("info of a deleted contact: %d", w.Code)
	}
}

func TestUpdatedAtNeverGoesBackNorRepeats(t *testing.T) {
	s := newServer(t, Options{Contacts: 100, Seed: 6, UpdatesPerRequest: 7}) // the clock stands still
	last := time.Time{}
	for range 30 {
		page := list(t, s, params("updated_after", "2026-09-02", "limit", "1000"))
		_ = page
		for _, c := range all(s) {
			if c.UpdatedAt.After(last) {
				last = c.UpdatedAt
			}
		}
	}
	times := map[time.Time]bool{}
	moved := 0
	for _, c := range all(s) {
		if c.UpdatedAt.Before(afterHistory) {
			continue
		}
		moved++
		times[c.UpdatedAt] = true
	}
	if len(times) != moved || moved < 80 {
		t.Errorf("%d updates at %d times", moved, len(times))
	}
	if last.Sub(afterHistory) > time.Millisecond {
		t.Errorf("210 updates took the clock %s ahead", last.Sub(afterHistory))
	}
}

func TestALateChangeKeepsItsTimeAndShowsLater(t *testing.T) {
	clk := &manualClock{t: afterHistory}
	s := newServerAt(t, Options{Contacts: 500, Seed: 6, Updates: 20, Creates: 5, LateShare: 1, LateDelay: 30 * time.Second}, clk)
	before := dump(t, s) // the first look starts the clock of the rates
	clk.add(5 * time.Second)
	now := clk.Now()
	shown := len(list(t, s, params("updated_after", "2026-09-02", "limit", "1000")))
	hidden := s.Stats().Hidden
	if hidden < 80 || shown+hidden > 125 || shown+hidden < 110 { // a contact may be drawn twice
		t.Errorf("after 5 s %d changes show and %d hide, of 125", shown, hidden)
	}
	if bytes.Equal(before, dump(t, s)) && shown > 0 {
		t.Error("what shows is not in the truth")
	}
	// A reader that took everything up to now as read has missed these:
	clk.add(31 * time.Second)
	behind := 0
	for _, c := range list(t, s, params("updated_after", "2026-09-02", "limit", "1000")) {
		if c.str("updated_at") <= printed(now) {
			behind++
		}
	}
	if behind <= shown {
		t.Errorf("%d rows at or before %s, %d of them at once", behind, now, shown)
	}
}

func TestALateChangeCountedInRequests(t *testing.T) {
	s := newServer(t, Options{Contacts: 500, Seed: 6, UpdatesPerRequest: 1, LateShare: 1, LateRequests: 4})
	var sizes []int
	for range 8 {
		sizes = append(sizes, len(list(t, s, params("updated_after", "2026-09-02", "limit", "1000"))))
	}
	if want := []int{0, 0, 0, 0, 1, 2, 3, 4}; !slices.Equal(sizes, want) {
		t.Errorf("pages have %v contacts, want %v", sizes, want)
	}
}

func TestTheNextWriterMakesALateChangeVisible(t *testing.T) {
	s := newServer(t, Options{Contacts: 1, Seed: 6, UpdatesPerRequest: 1, LateShare: 1, LateRequests: 100})
	id := all(s)[0].ID
	list(t, s, params("updated_after", "2026-09-02"))
	if err := s.Touch(id); err != nil {
		t.Fatal(err)
	}
	if c := s.Stats(); c.Hidden != 0 || c.Touched != 1 {
		t.Errorf("%+v", c)
	}
	if err := s.Delete(id); err != nil {
		t.Fatal(err)
	}
}

func TestRatesPerSecondFollowTheClockAndSpreadOverIt(t *testing.T) {
	clk := &manualClock{t: afterHistory}
	s := newServerAt(t, Options{Contacts: 2000, Seed: 6, Updates: 10, Creates: 2.5, Deletes: 1, SilentShare: 0.5}, clk)
	s.Stats()
	clk.add(40 * time.Second)
	c := s.Stats()
	if c.Updated != 400 || c.Created != 100 || c.Deleted != 40 || c.Contacts != 2060 || c.Silent < 150 || c.Silent > 250 {
		t.Errorf("after 40 s: %+v", c)
	}
	seconds := map[int64]bool{}
	for _, c := range all(s) {
		if d := c.UpdatedAt.Sub(afterHistory); d > 0 {
			seconds[int64(d/time.Second)] = true
		}
	}
	if len(seconds) < 38 {
		t.Errorf("changes fall into %d of 40 seconds", len(seconds))
	}
}

func TestARunningSandboxChangesByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServerAt(t, Options{Contacts: 100, Seed: 6, Updates: 10}, clock.System{})
		run := &Running{done: make(chan struct{}), server: &http.Server{ReadHeaderTimeout: time.Second}}
		served := make(chan error)
		go run.supervise(t.Context(), s, served)
		time.Sleep(10*time.Second + tick) // the bubble's clock, not ours
		s.mu.Lock()
		updated := s.store.counts.Updated // without looking through Stats, which would apply them
		s.mu.Unlock()
		if updated < 98 || updated > 101 {
			t.Errorf("%d updates in 10 s", updated)
		}
		served <- http.ErrServerClosed
		if err := run.Wait(); err != nil {
			t.Error(err)
		}
	})
}

func TestASilentUpdateShowsToNoCursor(t *testing.T) {
	s := newServer(t, Options{Contacts: 200, Seed: 6})
	before := dump(t, s)
	s.Mutate(Mutation{Silent: 50})
	if n := len(list(t, s, params("updated_after", "2026-09-01"))); n != 0 {
		t.Errorf("%d contacts moved", n)
	}
	if bytes.Equal(before, dump(t, s)) {
		t.Error("nothing changed")
	}
}

func TestBulkUpdatesPerRequestAreTies(t *testing.T) {
	s := newServer(t, Options{Contacts: 900, Seed: 6, BulkEvery: 3, BulkSize: 400})
	q := params("updated_after", "2026-09-02", "limit", "1000")
	for range 2 {
		if n := len(list(t, s, q)); n != 0 {
			t.Fatalf("%d contacts before the third request", n)
		}
	}
	page := list(t, s, q)
	for _, c := range page {
		if c.str("updated_at") != page[0].str("updated_at") {
			t.Errorf("%s is at %s", c.str("id"), c.str("updated_at"))
		}
	}
	if len(page) != 400 {
		t.Errorf("%d contacts", len(page))
	}
}
