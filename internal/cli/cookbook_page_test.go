package cli

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const cookbookPage = "../../docs/cookbook.md"

// recipe is a fenced block of the cookbook that a test runs, with the answer
// that the page shows for it.
type recipe struct {
	words   string // of its fence: "sql", "sql bigquery", "python", ...
	section string
	code    string
	line    int // where the code begins
	// answer is the text block right after it; shown says that there is one, which
	// stands in the lines from and up to to of the page.
	answer   string
	shown    bool
	from, to int
}

// cookbook reads the page: its lines, and the blocks that are run, in order.
func cookbook(t *testing.T) (lines []string, recipes []recipe) {
	t.Helper()
	data, err := os.ReadFile(cookbookPage)
	if err != nil {
		t.Fatal(err)
	}
	lines = strings.Split(string(data), "\n")
	section := ""
	for i := 0; i < len(lines); i++ {
		if name, ok := strings.CutPrefix(lines[i], "## "); ok {
			section = name
		}
		words, ok := strings.CutPrefix(lines[i], "```")
		if !ok {
			continue
		}
		begin := i + 1
		for i++; i < len(lines) && lines[i] != "```"; i++ {
		}
		if i == len(lines) {
			t.Fatalf("line %d: the block has no end", begin)
		}
		code := strings.Join(lines[begin:i], "\n") + "\n"
		last := len(recipes) - 1
		switch {
		case words == "text" && last >= 0 && !recipes[last].shown && onlyBlank(lines[recipes[last].line-1+strings.Count(recipes[last].code, "\n")+1:begin-1]):
			recipes[last].answer, recipes[last].shown, recipes[last].from, recipes[last].to = code, true, begin, i
		case strings.HasPrefix(words, "sql"), strings.HasPrefix(words, "python"):
			recipes = append(recipes, recipe{words: words, section: section, code: code, line: begin + 1})
		}
	}
	return lines, recipes
}

func onlyBlank(lines []string) bool { return strings.TrimSpace(strings.Join(lines, "")) == "" }

// answers compares what recipes gave, by the line of each, with what the page
// shows; UPDATE_GOLDEN=1 has the page show it.
func answers(t *testing.T, lines []string, recipes []recipe, got map[int]string) {
	t.Helper()
	var out []string
	at := 0
	for _, r := range recipes {
		text, ok := got[r.line]
		if !ok || !r.shown {
			continue
		}
		text = trimLines(text)
		if text != r.answer && os.Getenv("UPDATE_GOLDEN") == "" {
			t.Errorf("line %d (-page +answer; UPDATE_GOLDEN=1 accepts it):\n%s", r.line, cmp.Diff(r.answer, text))
		}
		out = append(append(out, lines[at:r.from]...), strings.TrimSuffix(text, "\n"))
		at = r.to
	}
	out = append(out, lines[at:]...)
	if os.Getenv("UPDATE_GOLDEN") == "" || t.Failed() {
		return
	}
	if err := os.WriteFile(cookbookPage, []byte(strings.Join(out, "\n")), 0o644); err != nil {
		t.Fatal(err)
	}
}

// trimLines takes spaces from the ends of lines.
func trimLines(s string) string {
	var out strings.Builder
	for line := range strings.Lines(s) {
		out.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	return out.String()
}
