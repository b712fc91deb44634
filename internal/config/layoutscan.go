package config

import "strings"

// scan follows brackets and quotes over the lines of one value.
type scan struct {
	depth int  // of [ and {
	quote byte // that the text is in; 0 for none
}

// What a value begins with.
type beginning int

const (
	nothingBegins beginning = iota // no value, or an anchor or tag alone
	plainBegins                    // text without quotes
	quoteBegins
	flowBegins  // [ or {
	blockBegins // | or >
)

// open reports whether the value goes on in the next line, whatever that is.
func (s *scan) open() bool { return s.depth > 0 || s.quote != 0 }

// quoted reports whether it goes on within quotes.
func (s *scan) quoted() bool { return s.quote != 0 }

// take follows one line of a value, its first one where first is set, and
// returns where a comment begins, the line's length where none does.
func (s *scan) take(line string, first bool) (comment int, begins beginning) {
	i := 0
	if first {
		i, begins = s.begin(line)
		if begins == plainBegins || begins == blockBegins || begins == nothingBegins {
			return remark(line, i), begins
		}
	}
	if !s.open() { // the next line of an unquoted text
		return remark(line, i), begins
	}
	return s.follow(line, i), begins
}

// begin skips anchors and tags, and says what the value begins with.
func (s *scan) begin(line string) (int, beginning) {
	i := 0
	for i < len(line) && (line[i] == '&' || line[i] == '!') {
		for i < len(line) && line[i] != ' ' && line[i] != '\t' {
			i++
		}
		for i < len(line) && (line[i] == ' ' || line[i] == '\t') {
			i++
		}
	}
	switch {
	case i == len(line) || line[i] == '#':
		return i, nothingBegins
	case line[i] == '"' || line[i] == '\'':
		s.quote = line[i]
		return i + 1, quoteBegins
	case line[i] == '[' || line[i] == '{':
		s.depth = 1
		return i + 1, flowBegins
	case line[i] == '|' || line[i] == '>':
		return i, blockBegins
	default:
		return i, plainBegins
	}
}

// remark returns where a comment begins in a line without quotes.
func remark(line string, from int) int {
	for i := from; i < len(line); i++ {
		if line[i] == '#' && (i == 0 || line[i-1] == ' ' || line[i-1] == '\t') {
			return i
		}
	}
	return len(line)
}

// follow follows brackets and quotes to the end of a line.
func (s *scan) follow(line string, i int) (comment int) {
	before := byte(',') // what stands before, blanks apart
	for i < len(line) {
		c := line[i]
		switch {
		case s.quote != 0:
			end := closing(line, i, s.quote)
			if end < 0 {
				return len(line)
			}
			s.quote, i, before = 0, end, '"'
			continue
		case c == '#' && (i == 0 || line[i-1] == ' ' || line[i-1] == '\t'):
			return i
		case s.depth == 0:
		case c == '[' || c == '{':
			s.depth++
		case c == ']' || c == '}':
			s.depth--
		case (c == '"' || c == '\'') && strings.IndexByte(",:[{?", before) >= 0:
			s.quote = c
		}
		if c != ' ' && c != '\t' {
			before = c
		}
		i++
	}
	return len(line)
}
