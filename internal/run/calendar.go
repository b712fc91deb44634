package run

import "time"

// StartOfDay returns the first instant of a calendar day in loc: midnight, or
// where clocks skip it, the instant at which they do.
func StartOfDay(year int, month time.Month, day int, loc *time.Location) time.Time {
	wall := time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
	near := time.Date(year, month, day, 0, 0, 0, 0, loc)
	var first time.Time
	for _, probe := range []time.Time{near.Add(-26 * time.Hour), near, near.Add(26 * time.Hour)} {
		_, offset := probe.Zone()
		t := wall.Add(-time.Duration(offset) * time.Second).In(loc)
		if _, is := t.Zone(); is == offset && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	if !first.IsZero() {
		return first
	}
	// No clock shows that midnight: the day begins as they are put forward.
	begins, ends := near.ZoneBounds()
	if near.Day() == wall.Day() {
		return begins
	}
	return ends
}

// wholeDays returns the number of days that d is, 0 where it is not a whole
// number of them.
func wholeDays(d time.Duration) int {
	const day = 24 * time.Hour
	if d%day != 0 {
		return 0
	}
	return int(d / day)
}

// cutTime returns the borders that cut [from, to) into pieces of step, from
// and to included. Whole days follow the calendar of from's location: a day on
// which clocks change is a piece like any other.
func cutTime(from, to time.Time, step time.Duration) []time.Time {
	borders := []time.Time{from}
	days := wholeDays(step)
	for at := from; ; {
		if days > 0 {
			at = StartOfDay(at.Year(), at.Month(), at.Day()+days, at.Location())
		} else {
			at = at.Add(step)
		}
		if !at.Before(to) {
			return append(borders, to)
		}
		borders = append(borders, at)
	}
}

// instant prints t for people: the date alone where a day begins.
func instant(t time.Time) string {
	if t.Equal(StartOfDay(t.Year(), t.Month(), t.Day(), t.Location())) {
		return t.Format(time.DateOnly)
	}
	return t.Format("2006-01-02T15:04:05.999Z07:00")
}
