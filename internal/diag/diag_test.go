package diag

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func render(t *testing.T, l List, color bool) string {
	t.Helper()
	var b strings.Builder
	if err := l.Render(&b, color); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestRenderShowsPlaceLineAndWhatWouldBeRight(t *testing.T) {
	l := List{
		{Summary: `unknown key "page_sise"`, Hint: Hint("page_sise", []string{"page_size", "url"}), File: "pipelines.yaml", Line: 12, Col: 5, Snippet: "    page_sise: 1000"},
		{Severity: Warning, Summary: "a key stands in the file", Detail: "first\nsecond", File: "pipelines.yaml"},
		{Summary: "no place at all"},
	}
	want := `pipelines.yaml:12:5: error: unknown key "page_sise"
   12 |     page_sise: 1000
      |     ^
  did you mean "page_size"? allowed: page_size, url

pipelines.yaml: warning: a key stands in the file
  first
  second

error: no place at all
`
	if diff := cmp.Diff(want, render(t, l, false)); diff != "" {
		t.Error(diff)
	}
	if got := render(t, l, true); !strings.Contains(got, ansiRed+"error:"+ansiReset) || !strings.Contains(got, ansiYellow+"warning:"+ansiReset) {
		t.Errorf("colours are missing: %q", got)
	}
}

func TestRenderNeverSendsControlCharactersToTheTerminal(t *testing.T) {
	hostile := "a\x1b[2Jb\x07\u202ec\xff\u0085"
	got := render(t, List{{Summary: hostile, Detail: hostile, Hint: hostile, File: hostile, Line: 1, Col: 1, Snippet: hostile}}, false)
	for _, bad := range []string{"\x1b", "\x07", "\u202e", "\xff\u0085", "\u0085"} {
		if strings.Contains(got, bad) {
			t.Errorf("output holds %q: %q", bad, got)
		}
	}
}

func TestRenderCutsALongLineAroundTheFault(t *testing.T) {
	line := strings.Repeat("á", 300) + "X" + strings.Repeat("z", 300)
	got := strings.Split(render(t, List{{Summary: "s", File: "f", Line: 3, Col: 301, Snippet: line}}, false), "\n")
	shown, caret := []rune(got[1]), []rune(got[2])
	if i := len(caret) - 1; caret[i] != '^' || shown[i] != 'X' {
		t.Errorf("the caret does not stand under X:\n%s\n%s", got[1], got[2])
	}
	if len(shown) > 120 {
		t.Errorf("the line was not cut: %d characters", len(shown))
	}
}

func TestRenderLeavesOutACaretThatIsNotOnTheLine(t *testing.T) {
	if got := render(t, List{{Summary: "s", File: "f", Line: 1, Col: 99, Snippet: "short"}}, false); strings.Contains(got, "^") {
		t.Error(got)
	}
}

func TestRenderReportsAWriteError(t *testing.T) {
	if err := (List{{Summary: "s"}}).Render(failing{}, false); !errors.Is(err, errFull) {
		t.Errorf("got %v", err)
	}
}

var errFull = errors.New("full")

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errFull }

func TestSortOrdersByPlaceThenSeverity(t *testing.T) {
	l := List{
		{Summary: "e", File: "b", Line: 1},
		{Summary: "d", File: "a", Line: 10, Col: 2},
		{Summary: "c", File: "a", Line: 9, Col: 3},
		{Summary: "b", File: "a", Line: 9, Col: 3, Severity: Warning},
		{Summary: "a", File: "a", Line: 9, Col: 1, Severity: Warning},
	}
	l.Sort()
	var got strings.Builder
	for _, d := range l {
		got.WriteString(d.Summary)
	}
	if got.String() != "acbde" {
		t.Errorf("order is %s", got.String())
	}
}

func TestAListOfWarningsIsNoError(t *testing.T) {
	l := List{{Severity: Warning, Summary: "w"}}
	if l.HasErrors() || l.Err() != nil {
		t.Error("warnings alone stop the work")
	}
	l = append(l, Diagnostic{Summary: "broken", File: "f", Line: 2, Col: 3})
	var e *ListError
	if err := l.Err(); !errors.As(err, &e) || err.Error() != "f:2:3: error: broken" || len(e.List) != 2 {
		t.Errorf("got %v", l.Err())
	}
	if errs, warns := l.Count(); errs != 1 || warns != 1 {
		t.Errorf("counted %d errors, %d warnings", errs, warns)
	}
}

func TestSuggestFindsWhatWasMeant(t *testing.T) {
	keys := []string{"type", "url", "api_key", "api_key_file", "page_size", "concurrency", "requests_per_second"}
	for word, want := range map[string]string{
		"page_sise": "page_size", "pagesize": "page_size", "page-size": "page_size", "PAGE_SIZE": "page_size",
		"apikey": "api_key", "api_key_fiel": "api_key_file", "concurency": "concurrency", "ulr": "url", "tpye": "type",
		"request_per_seconds": "requests_per_second",
		"bananas":             "", "": "", "url": "", "x": "", "zzz": "", strings.Repeat("a", 10000): "",
	} {
		if got := Suggest(word, keys); got != want {
			t.Errorf("Suggest(%.20q) = %q, want %q", word, got, want)
		}
	}
}

func TestDistanceIsSymmetricAndZeroOnlyForEquals(t *testing.T) {
	seed := uint64(7)
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, seed))
	word := func() string {
		b := make([]rune, r.IntN(6))
		for i := range b {
			b[i] = []rune("abñ_")[r.IntN(4)]
		}
		return string(b)
	}
	for range 2000 {
		a, b := word(), word()
		d := distance(a, b)
		if d != distance(b, a) || (d == 0) != (a == b) || d > max(len([]rune(a)), len([]rune(b))) {
			t.Fatalf("distance(%q, %q) = %d, reversed %d", a, b, d, distance(b, a))
		}
	}
}
