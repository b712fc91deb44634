package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/sluice-etl/sluice/internal/diag"
)

// reader gathers the faults of one file while it is read.
type reader struct {
	file  string
	dir   string
	lines []string // as they stand in the file
	env   func(string) (string, bool)
	table []Key // Keys(), made once
	list  diag.List
	seen  map[diag.Diagnostic]bool
	// secrets are texts of the file and the environment that no output may hold.
	secrets []string
	// offline: see Offline. unset holds the values that lack a variable and may.
	offline bool
	unset   map[*value]bool
	// defaults are the mappings of defaults, by what they are for; accounts those
	// of the sources with for_each, by name; unions what is known of the views
	// over all accounts of a pipeline.
	defaults map[string]*value
	accounts map[string][]string
	unions   []*union
	// sharing are the pipelines of which it is said that two accounts share a
	// table.
	sharing map[string]bool
	// digests are those of the contract files, by path: many pipelines share one.
	digests map[string]string
}

func (r *reader) errorf(at Pos, hint, format string, args ...any) {
	r.report(diag.Error, at, hint, fmt.Sprintf(format, args...))
}

func (r *reader) warnf(at Pos, hint, format string, args ...any) {
	r.report(diag.Warning, at, hint, fmt.Sprintf(format, args...))
}

// report adds one diagnostic. An anchor used in several places has its faults
// once.
func (r *reader) report(s diag.Severity, at Pos, hint, summary string) {
	at = r.clamp(at)
	d := diag.Diagnostic{Severity: s, Summary: summary, Hint: hint, File: r.file, Line: at.Line, Col: at.Col}
	if r.seen[d] {
		return
	}
	if r.seen == nil {
		r.seen = map[diag.Diagnostic]bool{}
	}
	r.seen[d] = true
	r.list = append(r.list, d)
}

// finish sorts the list and gives each diagnostic its line, secrets masked in
// every part of it.
func (r *reader) finish() (masked []string) {
	longestFirst(r.secrets)
	masked = maskLines(r.lines, r.secrets)
	for i := range r.list {
		d := &r.list[i]
		d.Summary, d.Detail, d.Hint = maskText(d.Summary, r.secrets), maskText(d.Detail, r.secrets), maskText(d.Hint, r.secrets)
		if d.Line > 0 {
			d.Snippet = masked[d.Line-1]
		}
	}
	r.list.Sort()
	return masked
}

// fields gives the keys of one mapping by their type in the key table. A fault
// is reported and the key's default taken, so that reading goes on.
type fields struct {
	r      *reader
	prefix string // path pattern of the mapping, "" at the top
	node   Node
	// partial: see value.
	partial bool
	vals    map[string]*value
	keyPos  map[string]Pos
	// inherited are the keys that defaults gives.
	inherited map[string]bool
}

// fields checks that v is a mapping of known keys. of is the "type" of the
// thing it describes: a key for another type is a fault; "" allows all.
func (r *reader) fields(prefix string, v *value, at Pos) (fields, bool) {
	f := fields{r: r, prefix: prefix, node: Node{At: at, Keys: map[string]Pos{}}, vals: map[string]*value{}, keyPos: map[string]Pos{}, inherited: map[string]bool{}}
	if v == nil || v.kind == nullKind {
		return f, true
	}
	if v.kind == badKind {
		return f, false
	}
	f.partial = v.partial
	if v.kind != mappingKind {
		hint := "write KEY: VALUE"
		if v.kind == textKind && strings.Contains(v.text, ":") {
			hint += ", with a space after the colon"
		}
		r.errorf(v.pos, hint, "expected a mapping of keys, got %s", v.describe())
		return f, false
	}
	known := r.children(prefix)
	for _, e := range v.entries {
		if !slices.ContainsFunc(known, func(k Key) bool { return k.name() == e.key }) {
			r.unknownKey(e, known)
			continue
		}
		f.vals[e.key], f.keyPos[e.key] = e.val, e.keyPos
		f.node.Keys[e.key] = e.val.pos
		f.inherited[e.key] = e.inherited
	}
	return f, true
}

func (r *reader) unknownKey(e *entry, known []Key) {
	var names []string
	for _, k := range known {
		names = append(names, k.name())
	}
	r.errorf(e.keyPos, diag.Hint(e.key, names), "unknown key %s", quote(e.key))
}

// children returns the keys right below a mapping, in the table's order.
func (r *reader) children(prefix string) []Key {
	var out []Key
	for _, k := range r.table {
		parent := ""
		if i := strings.LastIndexByte(k.Path, '.'); i >= 0 {
			parent = k.Path[:i]
		}
		if parent == prefix {
			out = append(out, k)
		}
	}
	return out
}

// key returns the table's entry of a key; it exists, or the code is wrong.
func (f fields) key(name string) Key {
	path := name
	if f.prefix != "" {
		path = f.prefix + "." + name
	}
	for _, k := range f.r.table {
		if k.Path == path {
			return k
		}
	}
	panic("config: no key " + path + " in the table")
}

// has reports whether the file gives the key a value.
func (f fields) has(name string) bool {
	v := f.vals[name]
	return v != nil && v.kind != nullKind
}

// pos returns where the key's value stands, or what lacks it.
func (f fields) pos(name string) Pos { return f.node.Pos(name) }

// scalar is a value ready to be converted.
type scalar struct {
	text  string
	pos   Pos
	kind  kind
	shown string // how messages name it; holds nothing from the environment
	env   bool   // some of it came from a variable
}

// scalar returns a key's value with variables filled in, or its default. ok is
// false where there is neither or the value is at fault (reported).
func (f fields) scalar(name string) (s scalar, ok bool) {
	k := f.key(name)
	v := f.vals[name]
	if v == nil || v.kind == nullKind {
		if k.Required {
			f.missing(name, k.example())
			return scalar{}, false
		}
		return scalar{text: k.Default, pos: f.node.At, kind: textKind, env: true, shown: quote(k.Default)}, k.Default != ""
	}
	s, ok = f.r.fill(v, k)
	if !ok {
		return s, false
	}
	return s, true
}

// missing reports a key that must be there.
func (f fields) missing(name, example string) {
	if !f.partial {
		f.r.errorf(f.node.At, "add "+name+": "+example, "%s is missing", name)
	}
}

// fill checks that v is a scalar that may stand for k and fills in variables.
func (r *reader) fill(v *value, k Key) (scalar, bool) {
	if v.kind == badKind {
		return scalar{}, false
	}
	if v.kind == mappingKind || v.kind == sequenceKind {
		r.errorf(v.pos, k.hint(), "%s: expected %s, got %s", k.name(), k.Type.expects(), v.describe())
		return scalar{}, false
	}
	text, used, ok := r.interpolate(v, k)
	s := scalar{text: text, pos: v.pos, kind: v.kind, env: used, shown: shown(v)}
	if k.Type == SecretType {
		s.shown = "the key"
	}
	return s, ok
}

// shown names a value in messages: as the file has it, never what a variable
// held.
func shown(v *value) string {
	if v.each != nil && strings.Contains(v.text, eachPrefix) {
		return quote(v.text) + " of account " + v.each.key
	}
	if strings.Contains(v.text, "${") {
		return quote(v.text) + " with its variables filled in"
	}
	return quote(v.text)
}

// text returns a key that is text as it stands.
func (f fields) text(name string) (string, bool) {
	s, ok := f.scalar(name)
	if !ok {
		return "", false
	}
	k := f.key(name)
	if s.kind == numberKind || s.kind == boolKind {
		f.r.errorf(s.pos, "put quotes around it", "%s: expected %s, got %s", name, k.Type.expects(), (&value{kind: s.kind}).describe())
		return "", false
	}
	if s.text == "" && f.has(name) {
		f.r.errorf(s.pos, k.hint(), "%s is empty", name)
		return "", false
	}
	if len(k.Allowed) > 0 && !slices.Contains(k.Allowed, s.text) {
		hint := "allowed: " + strings.Join(k.Allowed, ", ")
		if !s.env {
			hint = diag.Hint(s.text, k.Allowed)
		}
		f.r.errorf(s.pos, hint, "%s cannot be %s", name, s.shown)
		return "", false
	}
	return s.text, true
}

// integer returns a whole number within the table's range.
func (f fields) integer(name string) int {
	s, ok := f.scalar(name)
	if !ok {
		return 0
	}
	n, err := strconv.Atoi(s.text)
	if err != nil || s.kind == textKind && !s.env || strings.TrimLeft(s.text, "-0123456789") != "" || len(s.text) > 1 && s.text[0] == '0' {
		f.mistyped(name, s)
		return 0
	}
	k := f.key(name)
	if !within(float64(n), k.Min, k.Max, parseFloat) {
		f.r.errorf(s.pos, k.hint(), "%s is out of range: %s", name, s.shown)
	}
	return n
}

// number returns a decimal number within the table's range.
func (f fields) number(name string) float64 {
	s, ok := f.scalar(name)
	if !ok {
		return 0
	}
	n, err := strconv.ParseFloat(s.text, 64)
	if err != nil || s.kind == textKind && !s.env || strings.Trim(s.text, "-0123456789.eE") != "" {
		f.mistyped(name, s)
		return 0
	}
	k := f.key(name)
	if !within(n, k.Min, k.Max, parseFloat) {
		f.r.errorf(s.pos, k.hint(), "%s is out of range: %s", name, s.shown)
	}
	return n
}

func (f fields) boolean(name string) bool {
	s, ok := f.scalar(name)
	if !ok {
		return false
	}
	if s.text != "true" && s.text != "false" || s.kind == textKind && !s.env {
		f.mistyped(name, s)
	}
	return s.text == "true"
}

// mistyped reports a value that is not of its key's type.
func (f fields) mistyped(name string, s scalar) {
	k := f.key(name)
	hint := k.hint()
	if s.kind == textKind && !s.env && strings.Trim(s.text, "0123456789") == "" && s.text != "" {
		hint = "take the quotes off"
	}
	f.r.errorf(s.pos, hint, "%s: expected %s, got %s", name, k.Type.expects(), s.shown)
}

func within(n float64, lo, hi string, parse func(string) float64) bool {
	return (lo == "" || n >= parse(lo)) && (hi == "" || n <= parse(hi))
}

// parseFloat reads a bound of the key table.
func parseFloat(s string) float64 {
	n, err := strconv.ParseFloat(s, 64)
	if err != nil {
		panic("config: bound " + s + " in the key table: " + err.Error())
	}
	return n
}

// quote quotes a text for a message, cut where it is long.
func quote(s string) string {
	if utf8.RuneCountInString(s) > 80 {
		s = string([]rune(s)[:77]) + "..."
	}
	return strconv.Quote(s)
}
