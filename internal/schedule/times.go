package schedule

import (
	"fmt"
	"time"

	"github.com/robfig/cron/v3"
)

const (
	// star is the bit by which the cron library notes that a field is *.
	star = 1 << 63
	// everyHour are the bits of an expression's hours where it names none.
	everyHour = 1<<24 - 1
	// horizon is how far ahead a time is looked for: leap days are at most eight
	// years apart, and nothing that comes at all is further.
	horizon = 9 * 366 * 24 * time.Hour
)

// Parse reads a cron expression in a time zone; nil is UTC. Its times are those
// of InZone.
func Parse(spec string, loc *time.Location) (cron.Schedule, error) {
	if loc == nil {
		loc = time.UTC
	}
	s, err := cron.ParseStandard(spec)
	if err != nil {
		return nil, fmt.Errorf("parse schedule %q: %w", spec, err)
	}
	return InZone(s, loc), nil
}

// InZone gives a cron expression's times in a time zone whose clocks are put
// forward and back, which the library does not: it leaves out a day on which
// the hour does not exist.
//
// An expression that names hours has each of its times once a day: one that the
// clocks leave out is at the first moment after the gap, and one that they show
// twice is when they show it first. Times that fall together are one. An
// expression for every hour goes by what the clocks show, and so, with clocks
// that are put forward and back by whole hours, by elapsed time. Anything else
// than an expression is returned as it is.
func InZone(s cron.Schedule, loc *time.Location) cron.Schedule {
	spec, ok := s.(*cron.SpecSchedule)
	if !ok {
		return s
	}
	if spec.Hour&everyHour == everyHour {
		return hourly{spec, loc}
	}
	shown := *spec
	shown.Location = time.UTC
	return wall{&shown, loc}
}

// wall are times that name their hours. spec is read in UTC, where every time
// that clocks may show exists once.
type wall struct {
	spec *cron.SpecSchedule
	loc  *time.Location
}

// Next implements cron.Schedule.
func (w wall) Next(t time.Time) time.Time {
	shown := asUTC(t.In(w.loc))
	for {
		if shown = w.spec.Next(shown); shown.IsZero() {
			return shown
		}
		if at := moment(shown, w.loc); at.After(t) {
			return at
		}
	}
}

// asUTC returns the moment at which clocks in UTC show what those of t's zone
// show at t.
func asUTC(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
}

// moment returns when clocks of a zone show what those in UTC show at shown: for
// the first time where they do so twice, and the first moment after the gap
// where they never do.
func moment(shown time.Time, loc *time.Location) time.Time {
	t := time.Date(shown.Year(), shown.Month(), shown.Day(), shown.Hour(), shown.Minute(), shown.Second(), 0, loc)
	from, to := t.ZoneBounds()
	// time.Date takes the offset of either side of a gap.
	switch off := asUTC(t).Sub(shown); {
	case off > 0:
		return from
	case off < 0:
		return to
	case from.IsZero():
		return t
	}
	_, before := from.Add(-time.Second).Zone()
	first := shown.Add(-time.Duration(before) * time.Second).In(loc)
	if first.Before(from) && asUTC(first).Equal(shown) {
		return first
	}
	return t
}

// hourly are times in every hour of the days that spec names.
type hourly struct {
	spec *cron.SpecSchedule
	loc  *time.Location
}

// Next implements cron.Schedule.
func (h hourly) Next(t time.Time) time.Time {
	end := t.Add(horizon)
	for next := t.Truncate(time.Minute).Add(time.Minute); next.Before(end); {
		local := next.In(h.loc)
		switch {
		case !h.day(local):
			tomorrow := time.Date(local.Year(), local.Month(), local.Day()+1, 0, 0, 0, 0, time.UTC)
			if m := moment(tomorrow, h.loc); m.After(next) {
				next = m
			} else {
				next = next.Add(time.Minute) // midnight comes twice, and this is the second
			}
		case h.spec.Minute&(1<<local.Minute()) == 0:
			next = next.Add(time.Minute)
		default:
			return local
		}
	}
	return time.Time{}
}

// day reports whether the expression names a day, by the rule of cron: either
// of day and weekday where it names both.
func (h hourly) day(t time.Time) bool {
	s := h.spec
	dom, dow := s.Dom&(1<<t.Day()) != 0, s.Dow&(1<<t.Weekday()) != 0
	switch {
	case s.Month&(1<<t.Month()) == 0:
		return false
	case s.Dom&star != 0 || s.Dow&star != 0:
		return dom && dow
	default:
		return dom || dow
	}
}
