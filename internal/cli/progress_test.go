package cli

import (
	"testing"
	"time"

	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/run"
)

func TestTheProgressLineTellsHowMuchHowFastAndHowFar(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 9, 1, 3, 0, 0, 0, time.UTC)
	at := func(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }
	var p progress
	step := func(e run.Event, now float64, want string) {
		t.Helper()
		e.Time = at(now)
		p.add(e)
		if got := p.text(at(now)); got != want {
			t.Errorf("at %gs:\n got %q\nwant %q", now, got, want)
		}
	}
	scan := func(contacts, pages int64, mark string) run.Event {
		return run.Event{Type: eventProgress, Phase: "scan", Contacts: contacts, Pages: pages, Mark: mark, Goal: "2026-09-01T00:00:00Z"}
	}
	step(run.Event{Type: eventStarted, Mode: "full"}, 0, "starting  0:00")
	// The mark is still the epoch: no place on the way, no rate from one sample.
	step(scan(0, 0, "1970-01-01T00:00:00Z"), 0, "0:00")
	step(scan(1000, 1, "2024-09-01T00:00:00Z"), 1, "1,000 contacts  1 page  1,000/s  created 2024-09-01  0:01")
	step(scan(6000, 6, "2025-09-01T00:00:00Z"), 6, "6,000 contacts  6 pages  1,000/s  50%, about 5.0 s left  created 2025-09-01  0:06")
	// A stall shows as a falling rate.
	if got, want := p.text(at(12)), "6,000 contacts  6 pages  500/s  50%, about 11 s left  created 2025-09-01  0:12"; got != want {
		t.Errorf("stalled:\n got %q\nwant %q", got, want)
	}
	step(run.Event{Type: eventSealed}, 13, "6,000 contacts  6 pages  committing  0:13")
}

func TestANewPhaseStartsItsOwnEstimate(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 9, 1, 3, 0, 0, 0, time.UTC)
	var p progress
	p.add(run.Event{Type: eventProgress, Time: start, Phase: "scan", Mark: "2024-09-01T00:00:00Z", Goal: "2026-09-01T00:00:00Z", Contacts: 10, Pages: 1})
	later := start.Add(time.Hour)
	p.add(run.Event{Type: eventProgress, Time: later, Phase: "changes", Mark: "2026-08-31T23:00:00Z", Goal: "2026-09-01T00:00:00Z", Contacts: 20, Pages: 2})
	if got, want := p.text(later), "20 contacts  2 pages  updated 2026-08-31 23:00  1 h 0 min behind  1:00:00"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPhasesWithoutAPlaceSayWhatGoesOn(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 9, 1, 3, 0, 0, 0, time.UTC)
	for phase, want := range map[string]string{
		"walk":    "10 contacts  1 page  created 2024-09-01  0:00",
		"recent":  "10 contacts  1 page  0:00",
		"missing": "10 contacts  1 page  0:00",
		"confirm": "10 contacts  1 page  asking for missing contacts one by one  0:00",
	} {
		var p progress
		p.add(run.Event{Type: eventProgress, Time: start, Phase: phase, Mark: "2024-09-01T00:00:00Z", Goal: "2026-09-01T00:00:00Z", Contacts: 10, Pages: 1})
		if got := p.text(start); got != want {
			t.Errorf("%s: got %q, want %q", phase, got, want)
		}
	}
}

func TestARunSaysHowItReadsAndFromWhereItGoesOn(t *testing.T) {
	t.Parallel()
	filtered := &config.Pipeline{Sync: "snapshot", Stages: []string{"5e3cf1de-7a4b-4c1e-9a53-0d2f6b8c1e47"}}
	for want, tc := range map[string]struct {
		e run.Event
		p *config.Pipeline
	}{
		"reading everything (first run of this pipeline)":                                  {run.Event{Mode: "full", Reason: "first run of this pipeline"}, &config.Pipeline{}},
		"reading what changed (changes since the cursor)":                                  {run.Event{Mode: "incremental", Reason: "changes since the cursor"}, &config.Pipeline{}},
		"reading the contacts with a message within 1 day":                                 {run.Event{Mode: "recent"}, &config.Pipeline{Sync: "recent", Days: 1}},
		"reading everything":                                                               {run.Event{Mode: "snapshot"}, &config.Pipeline{Sync: "snapshot", Filters: map[string][]string{"blocked": {"true"}}}},
		"reading everything that the source's filters let through":                         {run.Event{Mode: "snapshot"}, filtered},
		"reading again 2024-01-01 to 2024-02-01":                                           {run.Event{Mode: "backfill", Reason: "2024-01-01 to 2024-02-01"}, &config.Pipeline{}},
		"looking for deleted contacts":                                                     {run.Event{Mode: "reconcile", Reason: "as asked"}, &config.Pipeline{}},
		"reading everything, going on from 1,200 contacts that an unfinished run has kept": {run.Event{Mode: "full", Contacts: 1200}, &config.Pipeline{}},
	} {
		if got := started(tc.e, tc.p); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
