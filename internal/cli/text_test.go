package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDisplayWidthCountsColumnsNotBytes(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]int{
		"": 0, "abc": 3, "Ñandú": 5, "n\u0303": 1, "日本": 4, "😀": 2, "a\u200bb": 2, "…": 1,
	} {
		if got := displayWidth(s); got != want {
			t.Errorf("displayWidth(%q) = %d, want %d", s, got, want)
		}
	}
}

func TestCutKeepsWithinItsColumns(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		s    string
		n    int
		want string
	}{
		{"abc", 3, "abc"},
		{"abcd", 3, "ab…"},
		{"日本語", 6, "日本語"},
		{"日本語", 5, "日本…"},
		{"日本語", 4, "日…"},
		{"abc", 1, "…"},
		{"", 1, ""},
	} {
		if got := cut(tc.s, tc.n); got != tc.want {
			t.Errorf("cut(%q, %d) = %q, want %q", tc.s, tc.n, got, tc.want)
		}
	}
}

func TestCountSeparatesThousands(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{
		0: "0", 7: "7", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000", -999: "-999",
		-9223372036854775808: "-9,223,372,036,854,775,808",
	} {
		if got := count(n); got != want {
			t.Errorf("count(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestDurationIsAsPreciseAsAPersonWants(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Second: "0 s", 0: "0.0 s", 1250 * time.Millisecond: "1.2 s", 59 * time.Second: "59 s",
		61 * time.Second: "1 min 1 s", 3*time.Hour + 5*time.Minute: "3 h 5 min", 72 * time.Hour: "3 days",
	} {
		if got := duration(d); got != want {
			t.Errorf("duration(%s) = %q, want %q", d, got, want)
		}
	}
}

func TestNothingFromOutsideSteersTheTerminal(t *testing.T) {
	t.Parallel()
	const evil = "a\x1b[2Jb\r\nc\td\u009b"
	if got, want := visible(evil), "a\ufffd[2Jb\ufffd\nc\td\ufffd"; got != want {
		t.Errorf("visible = %q, want %q", got, want)
	}
	if got, want := oneLine(evil), `a\x1b[2Jb\r\nc\td\u009b`; got != want {
		t.Errorf("oneLine = %q, want %q", got, want)
	}
}

func TestWrapTextBreaksAtBlanksAndKeepsLongWordsWhole(t *testing.T) {
	t.Parallel()
	got := wrapText("one two three\n/a/very/long/path/that/is/copied end", 9)
	want := []string{"one two", "three", "/a/very/long/path/that/is/copied", "end"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestShellQuoteLeavesPlainPathsAlone(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"crm/pipelines.yaml": "crm/pipelines.yaml", "": "''", "a b": "'a b'", "it's": `'it'\''s'`, "$HOME": "'$HOME'", "ñ": "'ñ'",
	} {
		if got := shellQuote(s); got != want {
			t.Errorf("shellQuote(%q) = %s, want %s", s, got, want)
		}
	}
}

func people() grid {
	return grid{
		columns: []column{{name: "name"}, {name: "n", right: true}, {name: "notes"}},
		rows: [][]string{
			{"Ñandú", "1", "short"},
			{"日本", "1,000", "a note that is a good deal longer than the others"},
		},
	}
}

func TestATableAlignsItsColumns(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	left, cutValues := people().write(&b, 0)
	want := `name       n  notes
-----  -----  -------------------------------------------------
Ñandú      1  short
日本   1,000  a note that is a good deal longer than the others
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(left) > 0 || cutValues {
		t.Errorf("left out %v, cut %v", left, cutValues)
	}
}

func TestATableCutsValuesToTheTerminalAndSaysSo(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	left, cutValues := people().write(&b, 40)
	want := `name       n  notes
-----  -----  --------------------------
Ñandú      1  short
日本   1,000  a note that is a good dea…
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(left) > 0 || !cutValues {
		t.Errorf("left out %v, cut %v", left, cutValues)
	}
}

func TestATableLeavesColumnsOutWhereNothingElseHelpsAndNamesThem(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	left, cutValues := people().write(&b, 20)
	if diff := cmp.Diff([]string{"notes"}, left); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := omissions(left, cutValues); got != "1 column not shown: notes" {
		t.Errorf("got %q", got)
	}
	for line := range strings.Lines(b.String()) {
		if w := displayWidth(strings.TrimRight(line, "\n")); w > 20 {
			t.Errorf("%d columns: %q", w, line)
		}
	}
}

func TestATableNeverExceedsItsWidth(t *testing.T) {
	t.Parallel()
	for width := 1; width <= 80; width++ {
		var b strings.Builder
		people().write(&b, width)
		for line := range strings.Lines(b.String()) {
			if w := displayWidth(strings.TrimRight(line, "\n")); w > width {
				t.Errorf("width %d: %d columns in %q", width, w, line)
			}
		}
	}
}
