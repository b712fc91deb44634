package diag

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// snippetWidth is how many characters of a line are shown at most; of a longer
// one, the part around the fault.
const snippetWidth = 100

const (
	ansiReset  = "\x1b[0m"
	ansiBold   = "\x1b[1m"
	ansiRed    = "\x1b[1;31m"
	ansiYellow = "\x1b[1;33m"
	ansiFaint  = "\x1b[2m"
)

// Render writes the list in its order, a blank line between two, each as
//
//	pipelines.yaml:12:5: error: unknown key "page_sise"
//	   12 |     page_sise: 1000
//	      |     ^
//	  did you mean "page_size"?
//
// Control characters are replaced: a file cannot write to the terminal.
func (l List) Render(w io.Writer, color bool) error {
	var b strings.Builder
	for i, d := range l {
		if i > 0 {
			b.WriteByte('\n')
		}
		d.render(&b, painter(color))
	}
	_, err := io.WriteString(w, b.String())
	if err != nil {
		return fmt.Errorf("write diagnostics: %w", err)
	}
	return nil
}

// painter wraps text in a terminal's colour codes, or does not.
type painter bool

func (p painter) paint(code, s string) string {
	if !p || s == "" {
		return s
	}
	return code + s + ansiReset
}

func (d Diagnostic) render(b *strings.Builder, p painter) {
	code := ansiRed
	if d.Severity == Warning {
		code = ansiYellow
	}
	b.WriteString(p.paint(ansiBold, clean(d.position())))
	b.WriteString(p.paint(code, d.Severity.String()+":"))
	b.WriteString(" " + p.paint(ansiBold, clean(d.Summary)) + "\n")
	if d.Line > 0 && strings.TrimSpace(d.Snippet) != "" {
		text, caret := window(clean(d.Snippet), d.Col)
		b.WriteString(p.paint(ansiFaint, fmt.Sprintf("%5d |", d.Line)) + " " + text + "\n")
		if caret > 0 {
			b.WriteString(p.paint(ansiFaint, "      |") + " " + strings.Repeat(" ", caret-1) + p.paint(code, "^") + "\n")
		}
	}
	for _, block := range []string{d.Detail, d.Hint} {
		for line := range strings.Lines(block) {
			b.WriteString("  " + clean(strings.TrimRight(line, "\r\n")) + "\n")
		}
	}
}

// clean replaces what is not to be shown in one line of a terminal: control
// characters, bidirectional marks and broken UTF-8. A tab becomes one space,
// so that columns stay what they are.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r == utf8.RuneError, unicode.IsControl(r), unicode.Is(unicode.Cf, r), r == '\u2028', r == '\u2029':
			return '\uFFFD'
		default:
			return r
		}
	}, s)
}

// window returns the part of line to show and the caret's column in it, from
// 1; a caret of 0 means that col is not on the line.
func window(line string, col int) (text string, caret int) {
	runes := []rune(strings.TrimRight(line, " "))
	if col < 1 || col > len(runes)+1 {
		col = 0
	}
	if len(runes) <= snippetWidth {
		return string(runes), col
	}
	const mark = "..."
	start := min(max(0, col-1-snippetWidth/2), len(runes)-snippetWidth)
	text, caret = string(runes[start:start+snippetWidth]), col
	if col > 0 {
		caret = col - start
	}
	if start > 0 {
		text = mark + text
		if caret > 0 {
			caret += len(mark)
		}
	}
	if start+snippetWidth < len(runes) {
		text += mark
	}
	return text, caret
}
