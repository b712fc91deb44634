package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/sluice-etl/sluice/internal/run"
)

// progress turns events into one line: how much, how fast, how far.
type progress struct {
	start    time.Time
	last     run.Event // of type progress
	phase    string
	doing    string // what goes on when no progress comes
	phaseAt  time.Time
	first    time.Time // mark at the phase's first progress
	samples  []sample  // of the last window
	finished bool
}

type sample struct {
	at       time.Time
	contacts int64
}

// The phases whose mark is a place on the way: along created_at, or updated_at.
// That of a backfill is a share of the way, and others have none.
const (
	phaseScan     = "scan"
	phaseWalk     = "walk"
	phaseChanges  = "changes"
	phaseBackfill = "backfill"
	phaseConfirm  = "confirm"
	phaseRetry    = "retry"
)

const (
	// rateWindow is the time a rate is taken over: short enough to show a
	// stall, long enough not to flicker.
	rateWindow = 10 * time.Second
	// etaAfter is how long a phase must have run, and etaShare how much of the
	// way it must have come, before its pace says anything about its end.
	etaAfter = 3 * time.Second
	etaShare = 0.02
)

func (p *progress) add(e run.Event) {
	if p.start.IsZero() {
		p.start = e.Time
		p.doing = "starting"
	}
	switch e.Type {
	case eventProgress:
		if e.Phase != p.phase {
			p.phase, p.phaseAt, p.first = e.Phase, e.Time, parseTime(e.Mark)
		}
		if p.first.IsZero() || p.first.Unix() <= 0 {
			// Before the first page the mark is the epoch: not a place on the way.
			p.phaseAt, p.first = e.Time, parseTime(e.Mark)
		}
		p.last, p.doing = e, ""
		p.samples = append(p.samples, sample{e.Time, e.Contacts})
		for len(p.samples) > 2 && e.Time.Sub(p.samples[0].at) > rateWindow {
			p.samples = p.samples[1:]
		}
	case eventSealed:
		p.doing = "committing"
	case eventFinished:
		p.finished = true
	}
}

// text describes the state at now.
func (p *progress) text(now time.Time) string {
	var parts []string
	if p.last.Pages > 0 || p.last.Contacts > 0 {
		parts = append(parts, counted(p.last.Contacts, "contact", "contacts"), counted(p.last.Pages, "page", "pages"))
	}
	if a := p.last.Asked; a != nil {
		parts = append(parts, count(a.Fetched+a.Missing+a.Unusable)+" asked for")
	}
	if p.doing != "" {
		parts = append(parts, p.doing)
	} else {
		if r := p.rate(now); r >= 1 {
			parts = append(parts, count(int64(r))+"/s")
		}
		parts = append(parts, p.way(now)...)
	}
	if !p.start.IsZero() {
		parts = append(parts, watch(now.Sub(p.start)))
	}
	return strings.Join(parts, "  ")
}

// rate is in contacts a second over the last window.
func (p *progress) rate(now time.Time) float64 {
	if len(p.samples) < 2 {
		return 0
	}
	oldest := p.samples[0]
	seconds := now.Sub(oldest.at).Seconds()
	if seconds <= 0 {
		return 0
	}
	return float64(p.last.Contacts-oldest.contacts) / seconds
}

// way says how far the walk has come: where the pace tells, what share of the
// way and when it will be there; then where it is, and, for changes, how far
// behind the source that is.
func (p *progress) way(now time.Time) []string {
	switch p.phase {
	case phaseScan, phaseWalk, phaseChanges, phaseBackfill:
	case phaseConfirm:
		return []string{"asking for missing contacts one by one"}
	case phaseRetry:
		return []string{"trying records again that were set aside"}
	default:
		return nil
	}
	mark, goal := parseTime(p.last.Mark), parseTime(p.last.Goal)
	if mark.IsZero() || mark.Unix() <= 0 {
		return nil
	}
	var parts []string
	way, whole := mark.Sub(p.first).Seconds(), goal.Sub(p.first).Seconds()
	spent := now.Sub(p.phaseAt)
	if whole > 0 && way/whole >= etaShare && way <= whole && spent >= etaAfter {
		eta := time.Duration(float64(spent) * (whole - way) / way)
		parts = append(parts, fmt.Sprintf("%d%%, about %s left", int(100*way/whole), duration(eta.Round(time.Second))))
	}
	switch p.phase {
	case phaseBackfill:
		return parts
	case phaseScan, phaseWalk:
		return append(parts, "created "+mark.Format(time.DateOnly))
	}
	parts = append(parts, "updated "+mark.Format("2006-01-02 15:04"))
	if goal.After(mark) {
		parts = append(parts, duration(goal.Sub(mark))+" behind")
	}
	return parts
}

// watch prints d as a stopwatch does: 1:05, 2:00:00.
func watch(d time.Duration) string {
	s := int(max(d, 0).Seconds())
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

func parseTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}
	}
	return t
}
