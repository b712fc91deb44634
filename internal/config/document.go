package config

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds of a file. They are far above any real one and keep the YAML parser,
// which takes quadratic time for some inputs, within seconds.
const (
	maxFile  = 256 << 10 // bytes
	maxDepth = 64        // levels of nesting
)

// value is a YAML node: aliases resolved, merge keys merged, tags taken off.
type value struct {
	kind    kind
	pos     Pos
	text    string   // of a scalar, as YAML reads it, before interpolation
	entries []*entry // of a mapping, in order; no two of one key
	items   []*value // of a sequence
	// each is what ${each.key} and the like mean in it; nil where they mean
	// nothing.
	each *account
	// partial says that a fault, already reported, kept some entries out: what
	// is missing from it is no news.
	partial bool
}

type entry struct {
	key    string
	keyPos Pos
	val    *value
	// inherited says that it stands in defaults, and not in the thing itself.
	inherited bool
}

type kind int

const (
	nullKind kind = iota
	textKind      // quoted or plain text
	numberKind
	boolKind
	mappingKind
	sequenceKind
	badKind // could not be read; the fault is reported
)

// describe names the kind in messages.
func (v *value) describe() string {
	switch v.kind {
	case textKind:
		return "text"
	case numberKind:
		return "a number"
	case boolKind:
		return "true or false"
	case mappingKind:
		return "a mapping"
	case sequenceKind:
		return "a list"
	case nullKind, badKind:
		return "nothing"
	default:
		return "nothing"
	}
}

// normalize gives a file one kind of line end and no byte order mark. The
// second result is where the first byte that is no text stands, 0 if nowhere.
func normalize(data []byte) (text string, badLine int) {
	s := strings.TrimPrefix(string(data), "\ufeff")
	s = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(s)
	for i, r := range s {
		if r == 0 || r == utf8.RuneError && !strings.HasPrefix(s[i:], "\ufffd") {
			return s, 1 + strings.Count(s[:i], "\n")
		}
	}
	return s, 0
}

// deepLine returns the line where brackets or list dashes nest deeper than
// maxDepth, 0 if none does. Brackets inside quotes count too: no real file has
// so many.
func deepLine(lines []string) int {
	depth := 0
	for i, line := range lines {
		dashes := 0
		for _, r := range line {
			switch r {
			case '[', '{':
				depth++
			case ']', '}':
				depth = max(0, depth-1)
			case '-', '?':
				dashes++
			case ' ':
			default:
				dashes = 0
			}
			if depth > maxDepth || dashes > maxDepth && strings.Contains(line, "- - -") {
				return i + 1
			}
		}
	}
	return 0
}

// parseYAML returns the documents of a file; empty ones are left out.
func (r *reader) parseYAML(text string) (docs []*ast.DocumentNode, ok bool) {
	if line := deepLine(r.lines); line > 0 {
		r.errorf(Pos{line, 1}, "", "nested deeper than %d levels", maxDepth)
		return nil, false
	}
	f, err := safeParse(text)
	if err != nil {
		r.syntaxError(err)
		return nil, false
	}
	for _, d := range f.Docs {
		switch d.Body.(type) {
		case nil, *ast.DirectiveNode, *ast.CommentGroupNode:
		default:
			docs = append(docs, d)
		}
	}
	return docs, true
}

// safeParse keeps a panic of the parser, which some broken files cause, from
// ending the program.
func safeParse(text string) (f *ast.File, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.New("it cannot be read as YAML")
		}
	}()
	return parser.ParseBytes([]byte(text), 0, parser.AllowDuplicateMapKey())
}

// syntaxError reports why the parser gave up. Its own text is not used, for it
// quotes the file and so, perhaps, a key; its message and place are.
func (r *reader) syntaxError(err error) {
	var y yaml.Error
	if !errors.As(err, &y) || y.GetToken() == nil || y.GetToken().Position == nil {
		r.errorf(Pos{1, 1}, "", "it cannot be read as YAML")
		return
	}
	pos := r.place(y.GetToken())
	line := r.line(pos.Line)
	indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
	if tab := strings.IndexByte(indent, '\t'); tab >= 0 {
		r.errorf(Pos{pos.Line, tab + 1}, "use spaces", "a tab stands in the indentation")
		return
	}
	hint := ""
	if i := strings.Index(line, "${"); i >= 0 && strings.ContainsAny(line[:i], "{[") {
		hint = `inside { } and [ ] put quotes around a variable: "${NAME}"`
	}
	r.errorf(pos, hint, "broken YAML: %s", y.GetMessage())
}

// place is where a token stands. The parser counts from 1 in characters, but
// puts some tokens before the space that precedes them, or past the end.
func (r *reader) place(tk *token.Token) Pos {
	if tk == nil || tk.Position == nil {
		return Pos{1, 1}
	}
	p := r.clamp(Pos{tk.Position.Line, tk.Position.Column})
	line := []rune(r.line(p.Line))
	for p.Col <= len(line) && (line[p.Col-1] == ' ' || line[p.Col-1] == '\t') {
		p.Col++
	}
	return p
}

// clamp moves a place into the file.
func (r *reader) clamp(p Pos) Pos {
	p.Line = min(max(p.Line, 1), len(r.lines))
	p.Col = min(max(p.Col, 1), utf8.RuneCountInString(r.line(p.Line))+1)
	return p
}

func (r *reader) line(n int) string {
	if n < 1 || n > len(r.lines) {
		return ""
	}
	return r.lines[n-1]
}

// converter turns the parser's tree into values.
type converter struct {
	r       *reader
	anchors map[string]*value
}

func (c *converter) convert(n ast.Node, depth int) *value {
	if n == nil {
		return &value{pos: Pos{1, 1}}
	}
	pos := c.r.place(n.GetToken())
	if depth > maxDepth {
		c.r.errorf(pos, "", "nested deeper than %d levels", maxDepth)
		return &value{kind: badKind, pos: pos}
	}
	switch n := n.(type) {
	case *ast.AnchorNode:
		v := c.convert(n.Value, depth+1)
		if n.Name != nil && n.Name.GetToken() != nil {
			c.anchors[n.Name.GetToken().Value] = v
		}
		return v
	case *ast.AliasNode:
		return c.alias(n, pos)
	case *ast.TagNode:
		return c.tagged(n, pos, depth)
	case *ast.MappingNode:
		return c.mapping(n.Values, pos, depth)
	case *ast.MappingValueNode:
		return c.mapping([]*ast.MappingValueNode{n}, pos, depth)
	case *ast.SequenceNode:
		v := &value{kind: sequenceKind, pos: pos}
		for _, item := range n.Values {
			v.items = append(v.items, c.convert(item, depth+1))
		}
		return v
	default:
		return c.scalar(n, pos)
	}
}

func (c *converter) scalar(n ast.Node, pos Pos) *value {
	switch n := n.(type) {
	case *ast.NullNode:
		return &value{pos: pos}
	case *ast.LiteralNode:
		v := &value{kind: textKind, pos: pos}
		if n.Value != nil {
			v.text = n.Value.Value
		}
		return v
	case *ast.StringNode:
		// Between braces the parser takes this as one text, which YAML forbids;
		// a comma was forgotten, and the second key would be lost.
		plain := n.Token != nil && n.Token.Type == token.StringType
		if plain && (strings.Contains(n.Value, ": ") || strings.HasSuffix(n.Value, ":")) {
			c.r.errorf(pos, "put a comma before the next key, or quotes around the text", "broken YAML: a colon stands in unquoted text")
			return &value{kind: badKind, pos: pos}
		}
		return &value{kind: textKind, pos: pos, text: n.Value}
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return &value{kind: numberKind, pos: pos, text: n.GetToken().Value}
	case *ast.BoolNode:
		return &value{kind: boolKind, pos: pos, text: n.GetToken().Value}
	default:
		c.r.errorf(pos, "", "this has no meaning here")
		return &value{kind: badKind, pos: pos}
	}
}

func (c *converter) alias(n *ast.AliasNode, pos Pos) *value {
	name := ""
	if n.Value != nil && n.Value.GetToken() != nil {
		name = n.Value.GetToken().Value
	}
	if v, ok := c.anchors[name]; ok {
		return v
	}
	c.r.errorf(pos, "an anchor is written &"+name+" and stands before its first use", "alias *%s has no anchor", name)
	return &value{kind: badKind, pos: pos}
}

// tagged reads !!str and the like; other tags would have to be obeyed.
func (c *converter) tagged(n *ast.TagNode, pos Pos, depth int) *value {
	v := c.convert(n.Value, depth+1)
	tag := ""
	if n.Start != nil {
		tag = n.Start.Value
	}
	switch tag {
	case "!!str":
		if v.kind == numberKind || v.kind == boolKind {
			v = &value{kind: textKind, pos: v.pos, text: v.text}
		}
	case "!!int", "!!float", "!!bool", "!!null", "!!map", "!!seq":
	default:
		c.r.errorf(pos, "leave it out", "the tag %s is not known here", tag)
	}
	return v
}

func (c *converter) mapping(nodes []*ast.MappingValueNode, pos Pos, depth int) *value {
	v := &value{kind: mappingKind, pos: pos}
	seen := map[string]*entry{}
	var merged []*value
	for i, n := range nodes {
		keyPos := c.r.place(n.Key.GetToken())
		if i == 0 && (pos.Line > keyPos.Line || pos.Line == keyPos.Line && pos.Col > keyPos.Col) {
			v.pos = keyPos // of a block mapping the parser gives the colon
		}
		if n.Key.IsMergeKey() {
			merged = append(merged, c.convert(n.Value, depth+1))
			continue
		}
		key, ok := c.key(n.Key, keyPos)
		val := c.convert(n.Value, depth+1)
		if !ok {
			continue
		}
		e := &entry{key: key, keyPos: keyPos, val: val}
		if first := seen[key]; first != nil {
			c.r.errorf(keyPos, fmt.Sprintf("the first stands at %d:%d; keep one of them", first.keyPos.Line, first.keyPos.Col), "key %s is given twice", quote(key))
			continue
		}
		seen[key] = e
		v.entries = append(v.entries, e)
	}
	for _, m := range merged {
		c.merge(v, seen, m)
	}
	return v
}

// merge adds what m has and v has not, as the merge key << says.
func (c *converter) merge(v *value, seen map[string]*entry, m *value) {
	switch m.kind {
	case badKind:
		v.partial = true
	case mappingKind:
		v.partial = v.partial || m.partial
		for _, e := range m.entries {
			if seen[e.key] == nil {
				seen[e.key] = e
				v.entries = append(v.entries, e)
			}
		}
	case sequenceKind:
		for _, item := range m.items {
			switch item.kind {
			case mappingKind, badKind:
				c.merge(v, seen, item)
			case nullKind, textKind, numberKind, boolKind, sequenceKind:
				v.partial = true
				c.r.errorf(item.pos, "", "<< merges mappings, this is %s", item.describe())
			}
		}
	case nullKind, textKind, numberKind, boolKind:
		v.partial = true
		c.r.errorf(m.pos, "", "<< merges a mapping, this is %s", m.describe())
	}
}

// key returns the text of a mapping's key.
func (c *converter) key(n ast.Node, pos Pos) (string, bool) {
	switch k := n.(type) {
	case *ast.MappingKeyNode:
		if k.Value == nil {
			break
		}
		return c.key(k.Value, pos)
	case *ast.StringNode:
		return k.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode, *ast.InfinityNode, *ast.NanNode:
		if tk := n.GetToken(); tk != nil {
			return tk.Value, true
		}
	}
	c.r.errorf(pos, "", "a key must be plain text")
	return "", false
}
