package cli

import (
	"testing"
	"time"

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
