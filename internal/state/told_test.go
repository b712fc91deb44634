package state

import (
	"bytes"
	"encoding/json"
	"maps"
	"testing"
	"time"
)

func TestWhatWasToldIsRememberedUntilItsEndIsTold(t *testing.T) {
	everywhere(t, func(w *world) {
		t := w.t
		s, began := w.open(t), time.Date(2026, 9, 1, 3, 0, 2, 0, time.UTC)
		told := func() map[string]time.Time { return load(t, s, "nightly").Told }
		note := func(trouble string, since time.Time) {
			t.Helper()
			_, err := s.Update(t.Context(), "nightly", func(p *Pipeline) error { p.NoteTold(trouble, since); return nil })
			if err != nil {
				t.Fatal(err)
			}
		}
		note("failure", time.Time{}) // the end of what nobody was told of
		if got := told(); len(got) > 0 {
			t.Errorf("at first %v", got)
		}
		note("failure", began.In(time.FixedZone("", -4*3600)))
		note("stale", began.Add(time.Hour))
		want := map[string]time.Time{"failure": began, "stale": began.Add(time.Hour)}
		if got := told(); !maps.Equal(got, want) { // == of times: the zone is UTC
			t.Errorf("told are %v, want %v", got, want)
		}
		note("failure", time.Time{})
		delete(want, "failure")
		if got := told(); !maps.Equal(got, want) {
			t.Errorf("left are %v, want %v", got, want)
		}
		note("stale", time.Time{})
		if doc := written(t, load(t, s, "nightly")); bytes.Contains(doc, []byte(`"told"`)) {
			t.Errorf("with nothing told the document is\n%s", doc)
		}
	})
}

// A document of a build that told nobody has no such field, and is read by one
// that does.
func TestADocumentFromBeforeNoticesHasToldNothing(t *testing.T) {
	everywhere(t, func(w *world) {
		t := w.t
		var doc map[string]json.RawMessage
		if err := json.Unmarshal(fixture(t), &doc); err != nil {
			t.Fatal(err)
		}
		delete(doc, "told")
		old, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		s := w.open(t)
		w.put(t, nightlyDoc, old)
		p := load(t, s, "nightly")
		if len(p.Told) > 0 {
			t.Errorf("it has told %v", p.Told)
		}
		since := time.Date(2026, 9, 1, 3, 0, 2, 0, time.UTC)
		p.NoteTold("failure", since)
		save(t, s, p)
		if got := load(t, s, "nightly"); !got.Told["failure"].Equal(since) || got.Cursor == nil || len(got.Runs) != len(p.Runs) {
			t.Errorf("upgraded it is %+v", got)
		}
	})
}

func written(t *testing.T, p *Pipeline) []byte {
	t.Helper()
	doc, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}
