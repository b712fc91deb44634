package diag

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Suggest returns the candidate that word was most likely meant to be, "" if
// none is near. Case, "-" against "_", and one slip in every three letters,
// two exchanged neighbours included, count as near. Of equals the first wins.
func Suggest(word string, candidates []string) string {
	if word == "" || len(word) > 256 {
		return ""
	}
	best, bestDistance := "", 0
	for _, c := range candidates {
		if c == "" || c == word {
			continue
		}
		d := distance(fold(word), fold(c))
		limit := max(1, max(utf8.RuneCountInString(word), utf8.RuneCountInString(c))/3)
		if d <= limit && (best == "" || d < bestDistance) && d < utf8.RuneCountInString(c) {
			best, bestDistance = c, d
		}
	}
	return best
}

// Hint joins "did you mean" for a near candidate with the allowed ones, as in
//
//	did you mean "page_size"? allowed: page_size, url
func Hint(word string, candidates []string) string {
	var parts []string
	if s := Suggest(word, candidates); s != "" {
		parts = append(parts, "did you mean "+strconv.Quote(s)+"?")
	}
	if len(candidates) > 0 {
		parts = append(parts, "allowed: "+strings.Join(candidates, ", "))
	}
	return strings.Join(parts, " ")
}

func fold(s string) string { return strings.ReplaceAll(strings.ToLower(s), "-", "_") }

// distance is the number of letters inserted, deleted, changed or exchanged
// with a neighbour (optimal string alignment).
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	var before, last []int // rows i-2 and i-1
	row := make([]int, len(y)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(x); i++ {
		before, last, row = last, row, make([]int, len(y)+1)
		row[0] = i
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(y)]
}
