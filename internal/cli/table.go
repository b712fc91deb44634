package cli

import (
	"fmt"
	"strings"
)

// column is a column of a printed table.
type column struct {
	name  string
	right bool // numbers
}

// grid prints rows in aligned columns.
type grid struct {
	columns []column
	rows    [][]string
}

const (
	gap          = "  "
	namedColumns = 6  // how many of the columns left out are named
	cellFloor    = 16 // columns are not squeezed below this, they are left out
)

// write renders the table into b, no wider than width columns (0 for as wide
// as it comes). It returns how many columns were left out, and whether values
// were cut, for the caller to say so.
func (g grid) write(b *strings.Builder, width int) (left []string, cutValues bool) {
	widths := g.widths()
	shown := len(widths)
	if width > 0 {
		shown = squeeze(widths, width)
	}
	for _, c := range g.columns[shown:] {
		left = append(left, c.name)
	}
	g.line(b, widths[:shown], func(i int) string { return oneLine(g.columns[i].name) })
	g.line(b, widths[:shown], func(i int) string { return strings.Repeat("-", widths[i]) })
	for _, row := range g.rows {
		g.line(b, widths[:shown], func(i int) string {
			if displayWidth(row[i]) > widths[i] {
				cutValues = true
			}
			return row[i]
		})
	}
	return left, cutValues
}

func (g grid) widths() []int {
	widths := make([]int, len(g.columns))
	for i, c := range g.columns {
		widths[i] = displayWidth(oneLine(c.name))
	}
	for _, row := range g.rows {
		for i, cell := range row {
			widths[i] = max(widths[i], displayWidth(cell))
		}
	}
	return widths
}

// squeeze narrows the widest columns until all fit, and where that is not
// enough returns how many of the first do. At least one is shown.
func squeeze(widths []int, width int) int {
	total := func(n, limit int) int {
		sum := (n - 1) * len(gap)
		for _, w := range widths[:n] {
			sum += min(w, limit)
		}
		return sum
	}
	widest := 0
	for _, w := range widths {
		widest = max(widest, w)
	}
	limit := widest
	for limit > cellFloor && total(len(widths), limit) > width {
		limit--
	}
	shown := len(widths)
	for shown > 1 && total(shown, limit) > width {
		shown--
	}
	if shown == 1 {
		limit = max(width, 1)
	} else {
		for limit < widest && total(shown, limit+1) <= width {
			limit++
		}
	}
	for i := range widths {
		widths[i] = min(widths[i], limit)
	}
	return shown
}

func (g grid) line(b *strings.Builder, widths []int, cell func(int) string) {
	var line strings.Builder
	for i, w := range widths {
		if i > 0 {
			line.WriteString(gap)
		}
		line.WriteString(pad(cut(cell(i), w), w, g.columns[i].right))
	}
	b.WriteString(strings.TrimRight(line.String(), " "))
	b.WriteByte('\n')
}

// omissions says what write left out, "" if nothing.
func omissions(left []string, cutValues bool) string {
	var parts []string
	if len(left) > 0 {
		names := strings.Join(left[:min(len(left), namedColumns)], ", ")
		if more := len(left) - namedColumns; more > 0 {
			names += " and " + count(more) + " more"
		}
		parts = append(parts, fmt.Sprintf("%s not shown: %s", counted(len(left), "column", "columns"), names))
	}
	if cutValues {
		parts = append(parts, "values ending in … are cut")
	}
	return strings.Join(parts, "; ")
}
