package schedule

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

// timesOf returns the times of a schedule from one time on, before another, as
// clocks of the zone show them.
func timesOf(t *testing.T, spec, in, from, to string) []string {
	t.Helper()
	loc := zone(t, in)
	s, err := Parse(spec, loc)
	if err != nil {
		t.Fatal(err)
	}
	parse := func(text string) time.Time {
		at, err := time.ParseInLocation("2006-01-02 15:04", text, loc)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	var got []string
	for at := s.Next(parse(from).Add(-time.Second)); at.Before(parse(to)); at = s.Next(at) {
		got = append(got, at.In(loc).Format("02 15:04 -07"))
	}
	return got
}

func TestATimeThatTheClocksLeaveOutOrShowTwiceIsRunOnce(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spec, zone, from, to string
		want                 []string
	}{
		"Berlin forward":                {"30 2 * * *", "Europe/Berlin", "2026-03-28 00:00", "2026-03-31 00:00", []string{"28 02:30 +01", "29 03:00 +02", "30 02:30 +02"}},
		"Berlin back":                   {"30 2 * * *", "Europe/Berlin", "2026-10-24 00:00", "2026-10-27 00:00", []string{"24 02:30 +02", "25 02:30 +02", "26 02:30 +01"}},
		"New York forward":              {"30 2 * * *", "America/New_York", "2026-03-07 00:00", "2026-03-10 00:00", []string{"07 02:30 -05", "08 03:00 -04", "09 02:30 -04"}},
		"New York back":                 {"30 1 * * *", "America/New_York", "2026-10-31 00:00", "2026-11-03 00:00", []string{"31 01:30 -04", "01 01:30 -04", "02 01:30 -05"}},
		"Santiago, midnight forward":    {"30 0 * * *", "America/Santiago", "2026-09-05 00:00", "2026-09-08 00:00", []string{"05 00:30 -04", "06 01:00 -03", "07 00:30 -03"}},
		"Santiago, midnight itself":     {"@daily", "America/Santiago", "2026-09-05 00:00", "2026-09-08 00:00", []string{"05 00:00 -04", "06 01:00 -03", "07 00:00 -03"}},
		"Santiago back, before it":      {"30 23 * * *", "America/Santiago", "2026-04-03 00:00", "2026-04-06 00:00", []string{"03 23:30 -03", "04 23:30 -03", "05 23:30 -04"}},
		"Santiago, a weekday":           {"15 0 * * 0", "America/Santiago", "2026-08-30 00:00", "2026-09-14 00:00", []string{"30 00:15 -04", "06 01:00 -03", "13 00:15 -03"}},
		"Lord Howe, half an hour":       {"15 2 * * *", "Australia/Lord_Howe", "2026-10-03 00:00", "2026-10-06 00:00", []string{"03 02:15 +10", "04 02:30 +11", "05 02:15 +11"}},
		"several in the gap are one":    {"*/20 2 * * *", "Europe/Berlin", "2026-03-29 00:00", "2026-03-30 00:00", []string{"29 03:00 +02"}},
		"hours forward":                 {"@hourly", "Europe/Berlin", "2026-03-29 01:00", "2026-03-29 05:00", []string{"29 01:00 +01", "29 03:00 +02", "29 04:00 +02"}},
		"hours back":                    {"0 * * * *", "Europe/Berlin", "2026-10-25 01:00", "2026-10-25 04:00", []string{"25 01:00 +02", "25 02:00 +02", "25 02:00 +01", "25 03:00 +01"}},
		"half hours back":               {"*/30 * * * *", "Europe/Berlin", "2026-10-25 01:30", "2026-10-25 03:30", []string{"25 01:30 +02", "25 02:00 +02", "25 02:30 +02", "25 02:00 +01", "25 02:30 +01", "25 03:00 +01"}},
		"hours of a day without its 0":  {"0 * 6 9 *", "America/Santiago", "2026-09-05 00:00", "2026-09-06 04:00", []string{"06 01:00 -03", "06 02:00 -03", "06 03:00 -03"}},
		"either of day and weekday":     {"0 5 1 * 1", "UTC", "2026-09-01 00:00", "2026-09-09 00:00", []string{"01 05:00 +00", "07 05:00 +00"}},
		"every hour of day and weekday": {"59 * 1 * 1", "UTC", "2026-09-01 22:00", "2026-09-07 01:00", []string{"01 22:59 +00", "01 23:59 +00", "07 00:59 +00"}},
	} {
		if diff := cmp.Diff(c.want, timesOf(t, c.spec, c.zone, c.from, c.to)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestOverTenYearsEveryDayHasOneNight(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"America/Santiago", "Europe/Berlin", "America/New_York", "America/Asuncion", "Asia/Beirut", "America/Havana",
		"Australia/Lord_Howe", "Africa/Casablanca", "Asia/Tehran", "Antarctica/Troll", "UTC",
	} {
		for _, spec := range []string{"30 2 * * *", "15 0 * * *"} {
			loc := zone(t, name)
			s, err := Parse(spec, loc)
			if err != nil {
				t.Fatal(err)
			}
			day := time.Date(2016, 1, 1, 0, 0, 0, 0, time.UTC)
			at := s.Next(time.Date(2015, 12, 31, 12, 0, 0, 0, loc))
			for ; day.Year() < 2026; day = day.AddDate(0, 0, 1) {
				if got := at.In(loc).Format(time.DateOnly); got != day.Format(time.DateOnly) {
					t.Errorf("%s, %s: the run of %s is at %s", name, spec, day.Format(time.DateOnly), at.In(loc))
					break
				}
				at = s.Next(at)
			}
		}
	}
}

func TestATimeThatNeverComesIsFoundOut(t *testing.T) {
	t.Parallel()
	for _, spec := range []string{"0 3 31 2 *", "* * 31 2 *"} {
		s, err := Parse(spec, zone(t, "Europe/Berlin"))
		if err != nil {
			t.Fatal(err)
		}
		if at := s.Next(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)); !at.IsZero() {
			t.Errorf("%s comes at %s", spec, at)
		}
	}
}
