package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/width"

	"github.com/sluice-etl/sluice/internal/human"
)

// displayWidth returns how many columns s takes on a terminal.
func displayWidth(s string) int {
	n := 0
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

func runeWidth(r rune) int {
	if r < 0x300 {
		return 1
	}
	if unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf) {
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	default:
		return 1
	}
}

// cut shortens s to at most columns columns, with an ellipsis where it did.
func cut(s string, columns int) string {
	if displayWidth(s) <= columns {
		return s
	}
	n := 1 // the ellipsis
	for i, r := range s {
		if n += runeWidth(r); n > columns {
			return s[:i] + "…"
		}
	}
	return s
}

// pad fills s with blanks to columns columns, on the left where right is set.
func pad(s string, columns int, right bool) string {
	gap := columns - displayWidth(s)
	if gap <= 0 {
		return s
	}
	if right {
		return strings.Repeat(" ", gap) + s
	}
	return s + strings.Repeat(" ", gap)
}

// visible replaces control characters other than line breaks and tabs: text
// that came from a server or a file must not steer the terminal.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return r
		}
		if unicode.IsControl(r) {
			return '\ufffd'
		}
		return r
	}, s)
}

// oneLine is s as a table's cell: line breaks and control characters spelt out.
func oneLine(s string) string {
	if strings.IndexFunc(s, unicode.IsControl) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unicode.IsControl(r) {
			q := strconv.QuoteRune(r)
			b.WriteString(q[1 : len(q)-1])
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// count prints n with separators: 1,234,567.
func count[N ~int | ~int64](n N) string { return human.Count(n) }

// counted is count with its noun: 1 file, 2 files.
func counted[N ~int | ~int64](n N, one, many string) string { return human.Counted(n, one, many) }

// duration prints d to the precision a person wants.
func duration(d time.Duration) string {
	switch {
	case d < 0:
		return "0 s"
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%d days", int(d.Hours())/24)
	}
}

// shownError is how much of an error a line of a table shows, in characters;
// --json has all of it.
const shownError = 80

// shortened is the beginning of a text, its first line at most.
func shortened(s string) string {
	line, _, more := strings.Cut(s, "\n")
	text := []rune(oneLine(line))
	if more = more || len(text) > shownError; !more {
		return string(text)
	}
	return strings.TrimRight(string(text[:min(len(text), shownError)]), " :") + "..."
}
