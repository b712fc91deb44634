package web

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/internal/state"
)

// colours are the custom properties of one scheme of the style sheet.
func colours(t *testing.T, sheet string) map[string][3]float64 {
	t.Helper()
	out := map[string][3]float64{}
	for _, m := range regexp.MustCompile(`--([a-z-]+): #([0-9a-f]{6});`).FindAllStringSubmatch(sheet, -1) {
		var c [3]float64
		for i := range c {
			n, err := strconv.ParseUint(m[2][2*i:2*i+2], 16, 8)
			if err != nil {
				t.Fatal(err)
			}
			c[i] = float64(n) / 255
		}
		out[m[1]] = c
	}
	return out
}

// contrast is that of two colours, as WCAG 2 defines it.
func contrast(a, b [3]float64) float64 {
	luminance := func(c [3]float64) float64 {
		for i, v := range c {
			if v <= 0.04045 {
				c[i] = v / 12.92
			} else {
				c[i] = math.Pow((v+0.055)/1.055, 2.4)
			}
		}
		return 0.2126*c[0] + 0.7152*c[1] + 0.0722*c[2]
	}
	x, y := luminance(a), luminance(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

func TestColoursCanBeReadByDayAndByNight(t *testing.T) {
	t.Parallel()
	sheet, err := staticFiles.ReadFile("static/page.css")
	if err != nil {
		t.Fatal(err)
	}
	day, night, _ := strings.Cut(string(sheet), "@media (prefers-color-scheme: dark)")
	night, _, _ = strings.Cut(night, "* {")
	for name, scheme := range map[string]map[string][3]float64{"day": colours(t, day), "night": colours(t, night)} {
		for _, pair := range [][2]string{
			{"ink", "ground"},
			{"ink", "sheet"},
			{"ink", "band"},
			{"quiet", "ground"},
			{"quiet", "sheet"},
			{"quiet", "band"},
			{"link", "ground"},
			{"link", "sheet"},
			{"link", "band"},
			{"good", "good-soft"},
			{"good", "sheet"},
			{"warn", "warn-soft"},
			{"warn", "sheet"},
			{"bad", "bad-soft"},
			{"bad", "sheet"},
			{"bad", "ground"},
			{"none", "none-soft"},
			{"run", "run-soft"},
			{"run", "sheet"},
			{"ink", "run-soft"},
			{"ink", "good-soft"},
			{"ink", "warn-soft"},
			{"ink", "bad-soft"},
			{"button-ink", "button"},
			{"bad", "band"},
			{"good", "band"},
		} {
			a, one := scheme[pair[0]]
			b, two := scheme[pair[1]]
			if !one || !two {
				t.Fatalf("%s: no colour %v", name, pair)
			}
			if c := contrast(a, b); c < 4.5 {
				t.Errorf("%s: %s on %s has a contrast of %.2f, 4.5 is the least", name, pair[0], pair[1], c)
			}
		}
		for _, bar := range []string{"bar", "bar-bad"} {
			if c := contrast(scheme[bar], scheme["sheet"]); c < 3 {
				t.Errorf("%s: %s has a contrast of %.2f, 3 is the least of graphics", name, bar, c)
			}
		}
	}
}

func TestAFirstFullReadDoesNotHideTheNightsAfterIt(t *testing.T) {
	t.Parallel()
	st := nights("nightly", 10, time.Hour)
	st.Runs[0].Rows = 1_000_000
	st.Runs[4].Status = "interrupted"
	st.RecordRun(state.RunRecord{RunID: "b", Kind: "backfill", Rows: 5_000_000, StartedAt: breakfast})
	var rows Chart
	for _, c := range charts(st.Runs, time.UTC) {
		if c.Name == "Rows read" {
			rows = c
		}
	}
	if len(rows.Bars) != 10 || rows.Bars[0].Cut == 0 || rows.Bars[0].H != chartHeight {
		t.Errorf("%d bars, the first %+v", len(rows.Bars), rows.Bars[0])
	}
	for i, b := range rows.Bars[1:] {
		if b.H < 5 || b.Cut != 0 {
			t.Errorf("bar %d: %+v", i+1, b)
		}
	}
	if !rows.Bars[4].Cross || rows.Bars[5].Cross || !strings.HasSuffix(rows.Label, "1,000,000 at most, 1 failed") {
		t.Errorf("%s: %+v", rows.Label, rows.Bars[4])
	}
}

func TestLengthsOfTimeAreRoundedAsPeopleDo(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0 s", 59 * time.Second: "59 s", 59*time.Second + 900*time.Millisecond: "1 min", 61 * time.Second: "1 min", 59*time.Minute + 45*time.Second: "1 h",
		90 * time.Minute: "1 h 30 min", 179*time.Minute + 45*time.Second: "3 h", 5*time.Hour - 3*time.Second: "5 h", 47 * time.Hour: "47 h", 47*time.Hour + 45*time.Minute: "2 days", 200 * time.Hour: "8 days",
	} {
		if got := about(d); got != want {
			t.Errorf("%s: %s, want %s", d, got, want)
		}
	}
}
