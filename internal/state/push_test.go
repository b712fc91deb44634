package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/schemas"
)

func anything(*Pipeline) error { return nil }

func push(t *testing.T, s *Store, p *Pipeline, force bool) (Pushed, error) {
	t.Helper()
	return s.Push(t.Context(), p, force, false, anything)
}

// edited is what is stored, as somebody who wrote it to a file and changed it
// there has it.
func edited(t *testing.T, s *Store, change func(*Pipeline)) *Pipeline {
	t.Helper()
	data, err := s.Stored(t.Context(), "nightly")
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := Parse("file", data)
	if err != nil {
		t.Fatal(err)
	}
	p := parsed.Pipelines["nightly"]
	change(p)
	return p
}

// history saves a pipeline that has a cursor, a column and a package that waits.
func history(t *testing.T, s *Store) *Pipeline {
	t.Helper()
	cursor := noon.Now()
	p, err := s.Update(t.Context(), "nightly", func(p *Pipeline) error {
		p.Cursor = &cursor
		p.Registry = []schemas.RegistryEntry{{Scope: "cf_customer", Key: "plan", Column: "cf_customer_plan", Type: schemas.String}}
		p.RecordRun(RunRecord{RunID: "run-1"})
		return errors.Join(
			p.Enqueue(PackageRef{Serial: 1, RunID: "run-1", Rows: 7}, "lake", "warehouse"),
			p.Enqueue(PackageRef{Serial: 2, RunID: "run-2", Rows: 5}, "lake", "warehouse"))
	})
	if err != nil {
		t.Fatal(err)
	}
	p.Committed("lake", 2)
	save(t, s, p)
	return p
}

func TestADocumentThatWouldLoseSomethingIsRefusedAndSaysWhat(t *testing.T) {
	everywhere(t, func(w *world) {
		t := w.t
		s := w.open(t)
		p := history(t, s)
		before := fmt.Sprint(w.documents(t))
		for name, tc := range map[string]struct {
			change func(*Pipeline)
			says   []string
		}{
			"another lineage": {func(q *Pipeline) { q.Lineage, q.Serial = "5f0c8f5e-6c1b-4f0e-9d6a-0d8f2b1c7a11", 99 }, []string{"another history", "the history that the destinations know"}},
			"an older serial": {func(q *Pipeline) { q.Serial--; c := q.Cursor.Add(-time.Hour); q.Cursor = &c; q.Runs = nil }, []string{"serial is 1, the stored one's is 2", "the cursor 2026-09-01T12:00:00Z: it goes back to 2026-09-01T11:00:00Z", "the record of 1 run(s)"}},
			"the same serial": {func(q *Pipeline) { q.LastFull = q.Cursor }, []string{"both have serial 2, and differ"}},
			"no queue":        {func(q *Pipeline) { q.Serial++; q.Destinations["warehouse"].Queue = nil }, []string{"2 package(s) with 12 row(s) that wait for destination warehouse"}},
			"half a queue": {func(q *Pipeline) {
				q.Serial++
				q.Destinations["warehouse"].Queue = q.Destinations["warehouse"].Queue[:1]
			}, []string{"1 package(s) with 5 row(s)"}},
			"no destination": {func(q *Pipeline) { q.Serial++; delete(q.Destinations, "warehouse") }, []string{"2 package(s)"}},
			"no column":      {func(q *Pipeline) { q.Serial++; q.Registry = nil }, []string{"1 column(s) of the tables, such as cf_customer_plan"}},
			"another type":   {func(q *Pipeline) { q.Serial++; q.Registry[0].Type = schemas.Bool }, []string{"1 column(s) of the tables"}},
		} {
			_, err := push(t, s, edited(t, s, tc.change), false)
			if !errors.Is(err, ErrRefused) || hint(t, err) == "" {
				t.Fatalf("%s: %v", name, err)
			}
			for _, says := range tc.says {
				if !strings.Contains(err.Error(), says) {
					t.Errorf("%s: %q is missing in %v", name, says, err)
				}
			}
			if after := fmt.Sprint(w.documents(t)); after != before {
				t.Fatalf("%s changed what is stored:\n%s", name, after)
			}
		}
		// Each of these is truthful: the destination has them, or reads everything.
		for _, change := range []func(*Pipeline){
			func(q *Pipeline) { q.Serial++; q.Committed("warehouse", 1) },
			func(q *Pipeline) { q.Serial++; q.GiveUp("warehouse", noon.Now()) },
		} {
			if got, err := push(t, s, edited(t, s, change), false); err != nil || got.Backup == "" || len(got.Lost) > 0 {
				t.Errorf("%+v, %v", got, err)
			}
		}
		if got := load(t, s, "nightly"); got.Serial != 4 || got.Lineage != p.Lineage || got.Destinations["warehouse"].NeedsFull == nil {
			t.Errorf("now %+v", got)
		}
	})
}

func TestAForcedDocumentKeepsWhatStoodThereAndNeverTurnsSerialsBack(t *testing.T) {
	everywhere(t, func(w *world) {
		t := w.t
		s := w.open(t)
		old := history(t, s)
		held := load(t, s, "nightly")
		was, err := s.Stored(t.Context(), "nightly")
		if err != nil {
			t.Fatal(err)
		}
		got, err := push(t, s, edited(t, s, func(q *Pipeline) { q.Serial, q.Destinations, q.NextPackage = 1, map[string]*Destination{}, 1 }), true)
		if err != nil || got.Serial != 3 || got.Raised != 3 || len(got.Lost) != 1 {
			t.Fatalf("%+v, %v", got, err)
		}
		if p := load(t, s, "nightly"); p.NextPackage != 3 || p.Serial != 3 || p.Lineage != old.Lineage {
			t.Errorf("now %+v", p)
		}
		if err := s.Save(t.Context(), held); !errors.Is(err, ErrStale) {
			t.Errorf("who had loaded the old one saved over it: %v", err)
		}
		for name, doc := range w.documentsBelow(t) {
			if strings.HasSuffix(got.Backup, name) && doc == string(was) {
				return
			}
		}
		t.Errorf("%s does not hold what stood there", got.Backup)
	})
}

func TestWhatPullPrintsGoesBackWhereTheStateWasLost(t *testing.T) {
	everywhere(t, func(w *world) {
		t := w.t
		s := w.open(t)
		history(t, s)
		change(t, s, put("destination.lake.table.contacts"))
		was := w.documents(t)
		all := Bundle{FormatVersion: BundleFormat, Resources: json.RawMessage(was[resourcesDoc]), Pipelines: map[string]json.RawMessage{"nightly": json.RawMessage(was[nightlyDoc])}}
		data, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Forget(t.Context(), "nightly", anything); err != nil {
			t.Fatal(err)
		}
		change(t, s, func(r *Resources) error { clear(r.Items); return nil })
		parsed, err := Parse("all", data)
		if err != nil || parsed.Resources == nil || len(parsed.Pipelines) != 1 {
			t.Fatalf("%+v, %v", parsed, err)
		}
		if got, err := push(t, s, parsed.Pipelines["nightly"], false); err != nil || got.Backup != "" || got.Serial != 2 {
			t.Errorf("%+v, %v", got, err)
		}
		if _, err := s.PushResources(t.Context(), parsed.Resources, false, false); !errors.Is(err, ErrRefused) {
			t.Errorf("resources of serial 1 took the place of serial 2: %v", err)
		}
		if got, err := s.PushResources(t.Context(), parsed.Resources, true, false); err != nil || got.Serial != 3 {
			t.Errorf("%+v, %v", got, err)
		}
		if p, r := load(t, s, "nightly"), resources(t, s); p.Cursor == nil || len(p.Destinations["warehouse"].Queue) != 2 || len(r.Items) != 1 {
			t.Errorf("back are %+v, %+v", p, r)
		}
	})
}

func TestAFileThatIsNoStateIsRefused(t *testing.T) {
	for doc, is := range map[string]error{
		`{}`: ErrCorrupt, `[]`: ErrCorrupt, `{"format_version":1}`: ErrCorrupt, `{"resources":null,"pipelines":{}}`: ErrCorrupt,
		`{"format_version":2,"resources":null,"pipelines":{}}`:                               ErrFuture,
		`{"format_version":1,"pipelines":{"a":{"format_version":7,"sluice_version":"9"}}}`:   ErrFuture,
		`{"format_version":1,"pipelines":{"a":{"format_version":1,"pipeline":"b"}}}`:         ErrCorrupt,
		`{"format_version":1,"pipelines":{},"resources":{"format_version":3,"items":{}}}`:    ErrFuture,
		`{"format_version":1,"pipelines":{},"more":1}`:                                       ErrCorrupt,
		`{"format_version":1,"pipelines":{}} x`:                                              ErrCorrupt,
		`{"format_version":9,"pipeline":"nightly","anything":true}`:                          ErrFuture,
		`{"format_version":1,"pipeline":"nightly","serial":0,"lineage":"","next_package":1}`: ErrCorrupt,
		`{"format_version":1,"items":{},"serial":1,"lineage":"x"}`:                           ErrCorrupt,
	} {
		if p, err := Parse("file.json", []byte(doc)); !errors.Is(err, is) || !strings.Contains(err.Error(), "file.json") {
			t.Errorf("%s: %+v, %v", doc, p, err)
		}
	}
}

func TestTheLastTenCopiesOfADocumentAreKept(t *testing.T) {
	everywhere(t, func(w *world) {
		t := w.t
		s := w.open(t)
		history(t, s)
		for i := range 15 {
			_, backup, err := s.Edit(t.Context(), "nightly", func(p *Pipeline) error { p.Filters = fmt.Sprint(i); return nil })
			if err != nil || !strings.Contains(backup, "/state/backup/pipeline.nightly.20260901T120000Z-") {
				t.Fatalf("%q, %v", backup, err)
			}
			if _, _, err := s.EditResources(t.Context(), put(fmt.Sprintf("destination.lake.view.v%d", i))); err != nil {
				t.Fatal(err)
			}
		}
		var nightly, resources []string
		for name, doc := range w.documentsBelow(t) {
			switch {
			case strings.HasPrefix(name, "backup/pipeline.nightly."):
				nightly = append(nightly, doc)
			case strings.HasPrefix(name, "backup/resources."):
				resources = append(resources, doc)
			}
		}
		if len(nightly) != keptBackups || len(resources) != keptBackups {
			t.Errorf("%d and %d copies", len(nightly), len(resources))
		}
		all := strings.Join(nightly, "")
		for i := range 14 {
			if got := strings.Contains(all, fmt.Sprintf(`"filters": "%d"`, i)); got != (i >= 4) {
				t.Errorf("the copy of change %d is there: %v", i, got)
			}
		}
		if names, err := s.Pipelines(t.Context()); err != nil || len(names) != 1 {
			t.Errorf("copies count as pipelines: %v, %v", names, err)
		}
	})
}

func TestWhileARunIsGoingOnNothingIsIdle(t *testing.T) {
	everywhere(t, func(w *world) {
		t := w.t
		s, other := w.open(t), w.elsewhere(t)
		c := claim(t, other, "backfill")
		if i, err := s.Idle(t.Context(), "nightly", "sync", "backfill"); !errors.Is(err, ErrHeld) || i != nil || hint(t, err) == "" {
			t.Fatalf("idle beside a run: %v", err)
		}
		release(t, c)
		i, err := s.Idle(t.Context(), "nightly", "sync", "backfill")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Claim(t.Context(), "nightly", "sync"); !errors.Is(err, ErrHeld) {
			t.Errorf("a run began: %v", err)
		}
		if w.shared { // another machine's run begins meanwhile, and is found
			c := claim(t, other, "sync")
			if _, err := s.Push(t.Context(), history2(t, s), true, false, i.Check); !errors.Is(err, ErrHeld) {
				t.Errorf("pushed beside a run: %v", err)
			}
			release(t, c)
		}
		if err := i.Release(); err != nil {
			t.Fatal(err)
		}
		release(t, claim(t, s, "sync"))
		for name := range w.documentsBelow(t) {
			if strings.Contains(name, "claims/") {
				t.Errorf("left behind: %s", name)
			}
		}
	})
}

// history2 is a document to be pushed by force.
func history2(t *testing.T, s *Store) *Pipeline {
	t.Helper()
	p := load(t, s, "nightly")
	p.Serial += 5
	return p
}
