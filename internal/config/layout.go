package config

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// step is how much deeper each level stands, in columns.
const step = 2

// block is a mapping or list that is open at some line.
type block struct {
	list     bool
	from, to int // columns of its keys or dashes, before and after
}

// laidLine is one line of the result.
type laidLine struct {
	text   string
	blank  bool
	remark bool // a comment alone
	top    bool // a key of the top level
}

// layout lays out the lines of one file.
type layout struct {
	lines   []string
	out     []laidLine
	open    []block
	waiting []string // comments and blank lines, until it is known where they belong
	scan    scan
	// plain says that the line before ended within an unquoted text, which goes
	// on in deeper lines.
	plain bool
}

// layOut returns the text in one layout; ok is false where it is written in a
// way that is not known here.
func layOut(text string) (out string, ok bool) {
	text, _ = normalize([]byte(text))
	l := &layout{lines: strings.Split(text, "\n")}
	for i := 0; i < len(l.lines); {
		n, ok := l.line(i)
		if !ok {
			return "", false
		}
		i += n
	}
	l.settle(-1, 0)
	return l.result(), true
}

// line takes in line i, and returns how many lines belong to it.
func (l *layout) line(i int) (taken int, ok bool) {
	raw := l.lines[i]
	trimmed := strings.TrimLeft(raw, " ")
	indent := len(raw) - len(trimmed)
	bare := strings.TrimRight(trimmed, " \t")
	switch {
	case l.scan.open():
		return 1, l.continued(raw, indent)
	case bare == "":
		l.waiting = append(l.waiting, "")
		return 1, true
	case bare[0] == '#':
		l.plain = false
		l.waiting = append(l.waiting, strings.Repeat(" ", indent)+bare)
		return 1, true
	case bare[0] == '\t' || strings.HasPrefix(bare, "? ") || bare == "?":
		return 0, false
	case indent == 0 && (bare == "---" || bare == "..." || bare[0] == '%'):
		l.settle(-1, 0)
		l.open, l.plain = nil, false
		l.out = append(l.out, laidLine{text: bare})
		return 1, true
	case strings.HasPrefix(raw, "--- "):
		return 0, false
	case l.plain && indent > l.top().from:
		return 1, l.continued(raw, indent)
	}
	return l.structure(i, indent, bare)
}

func (l *layout) top() block {
	if len(l.open) == 0 {
		return block{from: -1, to: -step}
	}
	return l.open[len(l.open)-1]
}

// continued takes a line that goes on with what an earlier one began.
func (l *layout) continued(raw string, indent int) bool {
	l.settle(indent, max(0, indent+l.shift()))
	if strings.Trim(raw, " \t") == "" {
		l.out = append(l.out, laidLine{text: ""})
		return !l.scan.quoted() || strings.Trim(raw, " ") == ""
	}
	l.scan.take(strings.TrimLeft(raw, " \t"), false)
	text := raw[indent:]
	if !l.scan.quoted() {
		text = strings.TrimRight(text, " \t")
	}
	l.out = append(l.out, laidLine{text: strings.Repeat(" ", max(0, indent+l.shift())) + text})
	return true
}

// shift is how far what belongs to the innermost block moves.
func (l *layout) shift() int {
	if len(l.open) == 0 {
		return 0
	}
	return l.top().to - l.top().from
}

// structure takes a line that begins with a dash or a key, or a value that
// stands below its key.
func (l *layout) structure(i, indent int, bare string) (taken int, ok bool) {
	was := slices.Clone(l.open)
	for len(l.open) > 0 && l.top().from > indent {
		l.open = l.open[:len(l.open)-1]
	}
	rest, col, dashes := bare, indent, 0
	first := -1 // column of the line in the result
	for rest == "-" || strings.HasPrefix(rest, "- ") || strings.HasPrefix(rest, "-\t") {
		if strings.HasPrefix(rest, "-\t") {
			return 0, false
		}
		l.enter(true, col, dashes > 0)
		if first < 0 {
			first = l.top().to
		}
		dashes++
		next := strings.TrimLeft(rest[1:], " ")
		col += len(rest) - len(next)
		rest = next
	}
	key, value, isKey := splitKey(rest)
	if isKey {
		l.enter(false, col, dashes > 0)
		if first < 0 {
			first = l.top().to
		}
	}
	if first < 0 { // a value by itself
		if first = max(0, indent+l.shift()); len(l.open) == 0 {
			first = indent
		}
	}
	l.settleFrom(was, indent, first)
	prefix := strings.Repeat(" ", first) + strings.Repeat("- ", dashes)
	if rest == "" {
		l.out = append(l.out, laidLine{text: strings.TrimRight(prefix, " ")})
		l.plain = false
		return 1, true
	}
	if !isKey {
		value = rest
	} else {
		prefix += key + ":"
	}
	return l.value(i, prefix, value, isKey, isKey && len(l.open) == 1)
}

// enter makes the innermost block the one that a dash or a key at a column
// belongs to. inner says that it stands behind a dash.
func (l *layout) enter(list bool, col int, inner bool) {
	if !list && !inner { // a key ends a list whose dashes stand below the keys
		for len(l.open) > 1 && l.top().list && l.top().from == col && !l.open[len(l.open)-2].list && l.open[len(l.open)-2].from == col {
			l.open = l.open[:len(l.open)-1]
		}
	}
	if t := l.top(); !inner && len(l.open) > 0 && t.from == col && t.list == list {
		return
	}
	l.open = append(l.open, block{list: list, from: col, to: l.top().to + step})
}

// value takes what follows a key or a dash on line i.
func (l *layout) value(i int, prefix, rest string, isKey, top bool) (taken int, ok bool) {
	text := strings.TrimLeft(rest, " \t")
	lead := len(rest) - len(text)
	l.scan = scan{}
	end, begins := l.scan.take(text, true)
	text, comment := text[:end], text[end:]
	bare := strings.TrimRight(text, " \t")
	gap := len(text) - len(bare)
	if bare == "" {
		gap = lead
	}
	if l.scan.quoted() { // it ends on another line
		bare, gap = text, 0
	}
	written := bare
	if begins == plainBegins || begins == quoteBegins && !l.scan.open() {
		written = unquoted(bare)
	}
	gap += len(bare) - len(written)
	line := prefix
	if written != "" {
		if isKey {
			gap += max(0, lead-1)
			line += " "
		}
		line += written
	}
	if comment != "" {
		line += strings.Repeat(" ", max(1, gap)) + strings.TrimRight(comment, " \t")
	}
	l.out = append(l.out, laidLine{text: line, top: top})
	l.plain = begins == plainBegins && comment == ""
	if begins == blockBegins {
		return 1 + l.verbatim(i+1, strings.Contains(bare, "+")), true
	}
	return 1, true
}

// verbatim takes the lines of a block of text, from line i on, as they are but
// for where they begin.
func (l *layout) verbatim(i int, keep bool) int {
	n, last := 0, 0
	for ; i+n < len(l.lines); n++ {
		line := l.lines[i+n]
		content := strings.TrimLeft(line, " ")
		if content == "" {
			continue
		}
		if len(line)-len(content) <= l.top().from {
			break
		}
		last = n + 1
	}
	if keep {
		last = n
		if i+n == len(l.lines) && last > 0 && l.lines[i+n-1] == "" {
			last-- // what follows the last line end is no line
		}
	}
	for _, line := range l.lines[i : i+last] {
		content := strings.TrimLeft(line, " ")
		indent := len(line) - len(content)
		if indent > 0 || content != "" {
			indent = max(0, indent+l.shift())
		}
		l.out = append(l.out, laidLine{text: strings.Repeat(" ", indent) + content})
	}
	return last
}

// settle puts out the comments that wait, before a line that moves from one
// column to another; -1 for the end of the file.
func (l *layout) settle(from, to int) { l.settleFrom(l.open, from, to) }

// settleFrom is settle where the line has changed which blocks are open.
func (l *layout) settleFrom(was []block, from, to int) {
	for _, w := range l.waiting {
		text := strings.TrimLeft(w, " ")
		if text == "" {
			l.out = append(l.out, laidLine{blank: true})
			continue
		}
		l.out = append(l.out, laidLine{text: strings.Repeat(" ", remarkColumn(was, len(w)-len(text), from, to)) + text, remark: true})
	}
	l.waiting = nil
}

// remarkColumn is where a comment at a column goes, before a line that moves
// from one column to another: with that line, or with the block that it is
// indented as.
func remarkColumn(open []block, col, from, to int) int {
	if col <= from {
		return to
	}
	for i := len(open) - 1; i >= 0; i-- {
		b := open[i]
		switch {
		case b.from == col:
			return b.to
		case b.from < col && i == len(open)-1:
			return b.to + step // it stands below the last key, as its value would
		case b.from < col:
			return b.to
		}
	}
	return 0
}

// result joins the lines: one blank line at most, and one between two blocks
// of the top level.
func (l *layout) result() string {
	var out []string
	last, many := -1, false // the key of the top level before, and whether lines belong to it
	for i, line := range l.out {
		if line.blank && (len(out) == 0 || out[len(out)-1] == "" && l.out[i-1].blank) {
			continue
		}
		if line.top {
			if next := i + 1; last >= 0 && many && next < len(l.out) && belongs(l.out[next:]) {
				out = spaced(out, l.out, i)
			}
			last, many = i, false
		} else if last >= 0 && !line.blank && !line.remark {
			many = true
		}
		out = append(out, line.text)
	}
	for len(out) > 0 && out[len(out)-1] == "" {
		out = out[:len(out)-1]
	}
	if len(out) == 0 {
		return ""
	}
	return strings.Join(out, "\n") + "\n"
}

// belongs reports whether lines begin with some that go on with a key of the
// top level.
func belongs(rest []laidLine) bool {
	for _, line := range rest {
		if !line.blank && !line.remark {
			return !line.top
		}
	}
	return false
}

// spaced puts a blank line before the comments that stand right above line i.
func spaced(out []string, lines []laidLine, i int) []string {
	n := 0
	for n < i && lines[i-1-n].remark && !strings.HasPrefix(lines[i-1-n].text, " ") {
		n++
	}
	at := len(out) - n
	if at <= 0 || out[at-1] == "" {
		return out
	}
	return slices.Insert(out, at, "")
}

// splitKey splits a line into a key, as it is written, and what follows its
// colon.
func splitKey(s string) (key, rest string, ok bool) {
	if s == "" {
		return "", "", false
	}
	end := 0
	switch s[0] {
	case '"', '\'':
		if end = closing(s, 1, s[0]); end < 0 {
			return "", "", false
		}
	case '[', '{', '|', '>', '#', '&', '!', '%', '@', '`':
		return "", "", false
	}
	for i := end; i < len(s); i++ {
		switch {
		case s[i] == ':' && (i+1 == len(s) || s[i+1] == ' ' || s[i+1] == '\t'):
			return strings.TrimRight(s[:i], " \t"), s[i+1:], true
		case s[i] == '#' && i > 0 && (s[i-1] == ' ' || s[i-1] == '\t'):
			return "", "", false
		case end > 0 && s[i] != ' ' && s[i] != '\t':
			return "", "", false
		}
	}
	return "", "", false
}

// closing returns what follows the quote that ends a text, from i on; -1 where
// it goes on.
func closing(s string, i int, quote byte) int {
	for ; i < len(s); i++ {
		switch {
		case quote == '"' && s[i] == '\\':
			i++
		case s[i] == quote && quote == '\'' && i+1 < len(s) && s[i+1] == quote:
			i++
		case s[i] == quote:
			return i + 1
		}
	}
	return -1
}

var (
	// safeWord is a text that is one without quotes, wherever it stands.
	safeWord = regexp.MustCompile(`^[A-Za-z_/.][A-Za-z0-9_/.-]*$`)
	// reserved are words that are no text to some reader of YAML.
	reserved = regexp.MustCompile(`^(?i:true|false|yes|no|on|off|y|n|null|nan|inf|\.nan|\.inf|\.+)$`)
)

// unquoted takes quotes off where the text is one without them.
func unquoted(s string) string {
	if len(s) < 3 || s[0] != '"' && s[0] != '\'' || s[len(s)-1] != s[0] {
		return s
	}
	word := s[1 : len(s)-1]
	if _, err := strconv.ParseFloat(word, 64); err == nil || !safeWord.MatchString(word) || reserved.MatchString(word) {
		return s
	}
	return word
}
