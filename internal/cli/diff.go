package cli

import (
	"fmt"
	"slices"
	"strings"
)

const (
	diffContext = 3 // lines around a change
	// maxDiff bounds the table that is searched for the shortest difference, in
	// cells; beyond it everything between the first and the last change is shown
	// as replaced.
	maxDiff = 4 << 20
)

// diffLine is a line that both have (' '), or one of them ('-', '+').
type diffLine struct {
	sign byte
	text string
}

// unifiedDiff is the difference of two texts as patch takes it.
func unifiedDiff(name, before, after string) string {
	lines := diffLines(splitLines(before), splitLines(after))
	var b strings.Builder
	fmt.Fprintf(&b, "--- %s\n+++ %s\n", name, name)
	for i := 0; i < len(lines); {
		next := slices.IndexFunc(lines[i:], func(l diffLine) bool { return l.sign != ' ' })
		if next < 0 {
			break
		}
		start := max(i, i+next-diffContext)
		end, same := i+next, 0
		for ; end < len(lines) && same <= 2*diffContext; end++ {
			if same++; lines[end].sign != ' ' {
				same = 0
			}
		}
		end -= max(0, same-diffContext)
		writeHunk(&b, lines, start, end)
		i = end
	}
	return b.String()
}

func writeHunk(b *strings.Builder, lines []diffLine, start, end int) {
	count := func(list []diffLine, not byte) (n int) {
		for _, l := range list {
			if l.sign != not {
				n++
			}
		}
		return n
	}
	at := func(not byte) string {
		n, first := count(lines[start:end], not), count(lines[:start], not)+1
		if n == 0 {
			first--
		}
		return fmt.Sprintf("%d,%d", first, n)
	}
	fmt.Fprintf(b, "@@ -%s +%s @@\n", at('+'), at('-'))
	for _, l := range lines[start:end] {
		b.WriteByte(l.sign)
		b.WriteString(strings.TrimSuffix(l.text, "\n") + "\n")
		if !strings.HasSuffix(l.text, "\n") {
			b.WriteString("\\ No newline at end of file\n")
		}
	}
}

// splitLines keeps the line ends, so that a last line without one differs from
// one that has it.
func splitLines(s string) []string { return slices.Collect(strings.Lines(s)) }

// diffLines finds the lines that two texts share, as many as can be.
func diffLines(a, b []string) []diffLine {
	var out, tail []diffLine
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		out = append(out, diffLine{' ', a[0]})
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		tail = append(tail, diffLine{' ', a[len(a)-1]})
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	slices.Reverse(tail)
	if len(a)*len(b) > maxDiff {
		for _, l := range a {
			out = append(out, diffLine{'-', l})
		}
		for _, l := range b {
			out = append(out, diffLine{'+', l})
		}
		return append(out, tail...)
	}
	common := make([][]int, len(a)+1) // of a[i:] and b[j:]
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	for i, j := 0, 0; i < len(a) || j < len(b); {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			out = append(out, diffLine{' ', a[i]})
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && common[i+1][j] >= common[i][j+1]:
			out = append(out, diffLine{'-', a[i]})
			i++
		default:
			out = append(out, diffLine{'+', b[j]})
			j++
		}
	}
	return append(out, tail...)
}
