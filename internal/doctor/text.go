package doctor

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-etl/sluice/extract"
)

// count prints n with separators: 1,234,567.
func count(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// plural is count with its noun: 1 page, 2 pages.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return count(n) + " " + many
}

func contacts(n int) string { return plural(n, "contact", "contacts") }

// span prints a duration to the precision a person wants.
func span(d time.Duration) string {
	d = d.Abs()
	switch {
	case d > 0 && d%time.Hour == 0 && d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	case d > 0 && d%time.Minute == 0 && d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d > 0 && d%time.Second == 0 && d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d.Round(time.Millisecond) < time.Second: // what rounds up to the next unit is given in it
		return fmt.Sprintf("%d ms", d.Round(time.Millisecond).Milliseconds())
	case d.Round(100*time.Millisecond) < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d.Round(time.Second) < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Round(time.Second).Seconds()))
	case d.Round(time.Minute) < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Round(time.Minute).Minutes()))
	case d.Round(time.Hour) < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Round(time.Hour).Hours()))
	default:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	}
}

// setting prints a duration as pipelines.yaml takes it, rounded up to a round
// number.
func setting(d time.Duration) string {
	unit, name := 24*time.Hour, "d"
	switch {
	case d <= time.Minute:
		unit, name = 10*time.Second, "0s"
	case d <= 2*time.Hour:
		unit, name = time.Minute, "m"
	case d <= 48*time.Hour:
		unit, name = time.Hour, "h"
	}
	return strconv.FormatInt(int64((d+unit-1)/unit), 10) + name
}

// sentence ends a text as one.
func sentence(s string) string {
	s = strings.TrimSpace(s)
	if s == "" || strings.HasSuffix(s, ".") {
		return s
	}
	return s + "."
}

// micros is a span given in microseconds.
func micros(us int64) time.Duration { return time.Duration(us) * time.Microsecond }

func stampText(us int64) string { return extract.FormatTime(us) }

// list joins up to most words and says how many it leaves out.
func list(words []string, most int) string {
	if len(words) <= most {
		return strings.Join(words, ", ")
	}
	return strings.Join(words[:most], ", ") + fmt.Sprintf(" and %d more", len(words)-most)
}
