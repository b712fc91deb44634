package config

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// twin writes one random file twice: as somebody might, and as Format has it.
type twin struct {
	r           *rand.Rand
	crude, fine strings.Builder
	n           int // of keys
}

// scalar returns a value in both ways.
func (w *twin) scalar() (crude, fine string) {
	switch w.r.IntN(7) {
	case 0:
		return `"word"`, "word"
	case 1:
		return "'a/path.txt'", "a/path.txt"
	case 2:
		return `"no"`, `"no"`
	case 3:
		return `"a: b # c"`, `"a: b # c"`
	case 4:
		return "{a: [1,  'x'], b: \"#\"}", "{a: [1,  'x'], b: \"#\"}"
	case 5:
		return "it's so#", "it's so#"
	default:
		return "17", "17"
	}
}

// above writes blank lines and comments that stand before a line.
func (w *twin) above(from, to int, first bool) {
	if n := w.r.IntN(4); n > 0 && !first {
		w.crude.WriteString(strings.Repeat("\n", n))
		w.fine.WriteString("\n")
	}
	if w.r.IntN(3) == 0 {
		w.n++
		fmt.Fprintf(&w.crude, "%s# remark %d   \n", strings.Repeat(" ", from), w.n)
		fmt.Fprintf(&w.fine, "%s# remark %d\n", strings.Repeat(" ", to), w.n)
	}
}

// end writes a value behind its key or dash, and perhaps a comment. spaces
// stand before the value; a key keeps one of them.
func (w *twin) end(crude, fine string, spaces int, key bool) {
	gap, kept := 1+w.r.IntN(4), 0
	if key {
		kept = spaces - 1
	}
	w.crude.WriteString(strings.Repeat(" ", spaces) + crude)
	if fine != "" {
		if key {
			w.fine.WriteString(" ")
		}
		w.fine.WriteString(fine)
	}
	if w.r.IntN(3) == 0 {
		w.crude.WriteString(strings.Repeat(" ", gap) + "# so")
		w.fine.WriteString(strings.Repeat(" ", gap+kept+len(crude)-len(fine)) + "# so")
	}
	w.crude.WriteString(strings.Repeat(" ", w.r.IntN(2)) + "\n")
	w.fine.WriteString("\n")
}

// mapping writes one whose keys move from one column to another. behind says
// that the first key stands behind a dash.
func (w *twin) mapping(from, to, depth int, behind bool) {
	for i := range 1 + w.r.IntN(3) {
		if i > 0 || !behind {
			w.above(from, to, to == 0 && i == 0)
			w.crude.WriteString(strings.Repeat(" ", from))
			w.fine.WriteString(strings.Repeat(" ", to))
		}
		w.n++
		fmt.Fprintf(&w.crude, "k%d:", w.n)
		fmt.Fprintf(&w.fine, "k%d:", w.n)
		switch kind := w.r.IntN(4); {
		case depth == 0 || kind == 0:
			crude, fine := w.scalar()
			w.end(crude, fine, 1+w.r.IntN(3), true)
		case kind == 1:
			w.open()
			w.list(from+w.r.IntN(4), to+step, depth-1)
		case kind == 2:
			w.block(from, to)
		default:
			w.open()
			w.mapping(from+1+w.r.IntN(5), to+step, depth-1, false)
		}
	}
}

// open ends the line of a key whose value stands below.
func (w *twin) open() {
	w.crude.WriteString("\n")
	w.fine.WriteString("\n")
}

func (w *twin) list(from, to, depth int) {
	for range 1 + w.r.IntN(3) {
		w.above(from, to, false)
		spaces := 1 + w.r.IntN(3)
		w.crude.WriteString(strings.Repeat(" ", from) + "-")
		w.fine.WriteString(strings.Repeat(" ", to) + "- ")
		if depth == 0 || w.r.IntN(2) == 0 {
			crude, fine := w.scalar()
			w.end(crude, fine, spaces, false)
			continue
		}
		w.crude.WriteString(strings.Repeat(" ", spaces))
		w.mapping(from+1+spaces, to+step, depth-1, true)
	}
}

// block writes a block of text, which keeps its own indentation.
func (w *twin) block(from, to int) {
	deeper := 1 + w.r.IntN(4)
	w.crude.WriteString(" |\n")
	w.fine.WriteString(" |\n")
	for _, line := range []string{"# a text", "  - so: it", "", "goes  "} {
		if line == "" {
			w.open()
			continue
		}
		w.crude.WriteString(strings.Repeat(" ", from+deeper) + line + "\n")
		w.fine.WriteString(strings.Repeat(" ", to+deeper) + line + "\n")
	}
}

func TestFormatMovesEveryLineToItsLevel(t *testing.T) {
	for seed := range uint64(400) {
		w := &twin{r: rand.New(rand.NewPCG(seed, 1))}
		// One block of the top level: what stands between two is tested apart.
		w.crude.WriteString("top:\n")
		w.fine.WriteString("top:\n")
		w.mapping(1+w.r.IntN(5), step, 3, false)
		if diff := cmp.Diff(w.fine.String(), format(t, w.crude.String())); diff != "" {
			t.Fatalf("seed %d: %s\nof\n%s", seed, diff, w.crude.String())
		}
	}
}
