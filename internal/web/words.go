package web

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-etl/sluice/internal/human"
)

// count prints n with separators: 1,234,567.
func count[N ~int | ~int64](n N) string { return human.Count(n) }

// counted is count with its noun: 1 file, 2 files.
func counted[N ~int | ~int64](n N, one, many string) string { return human.Counted(n, one, many) }

// took prints how long something took, to the precision a person wants.
func took(d time.Duration) string {
	switch {
	case d < 0:
		return "0 s"
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	default:
		return about(d)
	}
}

// about prints a length of time roughly: 40 s, 5 min, 5 h, 3 days.
func about(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Minute-time.Second/2:
		return strconv.Itoa(max(0, int(d.Round(time.Second)/time.Second))) + " s"
	case d < time.Hour-time.Minute/2:
		return strconv.Itoa(int(d.Round(time.Minute)/time.Minute)) + " min"
	case d < 3*time.Hour-time.Minute/2:
		if d = d.Round(time.Minute); d%time.Hour != 0 {
			return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
		}
		return strconv.Itoa(int(d/time.Hour)) + " h"
	case d < 2*day-time.Hour/2:
		return strconv.Itoa(int(d.Round(time.Hour)/time.Hour)) + " h"
	default:
		return strconv.Itoa(int(d.Round(time.Hour)/day)) + " days"
	}
}

// sized prints bytes.
func sized(n int64) string {
	const unit = 1000
	if n < unit {
		return strconv.FormatInt(n, 10) + " B"
	}
	v, i := float64(n)/unit, 0
	for v >= unit && i < 3 {
		v /= unit
		i++
	}
	return strconv.FormatFloat(v, 'f', 1, 64) + " " + [...]string{"kB", "MB", "GB", "TB"}[i]
}

// percent prints a share of 1.
func percent(share float64) string {
	return strconv.Itoa(int(math.Floor(min(1, max(0, share))*100))) + "%"
}

// firstLine is the beginning of a text, for lines that have to stay short.
func firstLine(text string, most int) string {
	line, _, more := strings.Cut(strings.TrimSpace(text), "\n")
	runes := []rune(line)
	if len(runes) > most {
		runes, more = runes[:most], true
	}
	if more {
		return strings.TrimRight(string(runes), " :,;") + "..."
	}
	return string(runes)
}

// When is a moment as people read it.
type When struct {
	Text     string // in the time zone
	Relative string // to now
	ISO, UTC string
}

// when tells of a moment; nil where it is zero.
func when(t, now time.Time, zone *time.Location) *When {
	if t.IsZero() {
		return nil
	}
	w := &When{Text: moment(t, now, zone), ISO: t.UTC().Format(time.RFC3339), UTC: t.UTC().Format("2006-01-02 15:04:05") + " UTC"}
	switch d := t.Sub(now); {
	case d >= time.Second:
		w.Relative = "in " + about(d)
	case d > -time.Second:
		w.Relative = "now"
	default:
		w.Relative = about(-d) + " ago"
	}
	return w
}

// moment prints a time of day for today, and with the day otherwise.
func moment(t, now time.Time, zone *time.Location) string {
	if zone == nil {
		zone = time.UTC
	}
	t, now = t.In(zone), now.In(zone)
	switch {
	case t.Format(time.DateOnly) == now.Format(time.DateOnly):
		return "today " + t.Format("15:04")
	case t.Format(time.DateOnly) == now.AddDate(0, 0, -1).Format(time.DateOnly):
		return "yesterday " + t.Format("15:04")
	case t.Format(time.DateOnly) == now.AddDate(0, 0, 1).Format(time.DateOnly):
		return "tomorrow " + t.Format("15:04")
	case t.Year() == now.Year():
		return t.Format("Mon 2 Jan 15:04")
	default:
		return t.Format("2 Jan 2006 15:04")
	}
}

// exact prints a moment to the second, in the time zone.
func exact(t time.Time, zone *time.Location) string {
	if t.IsZero() {
		return ""
	}
	if zone == nil {
		zone = time.UTC
	}
	return t.In(zone).Format("2006-01-02 15:04:05")
}
