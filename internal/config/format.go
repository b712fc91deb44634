package config

import (
	"slices"
	"strings"

	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/token"

	"github.com/sluice-etl/sluice/internal/diag"
)

// Format lays a YAML file out anew, pipelines.yaml or a contract: two spaces for
// each level, one at most between a key and its value, no quotes that are not
// needed, one blank line at most, and one between blocks of the top level.
// Comments and the order of keys stay. A file that is right already, and one
// whose layout cannot be changed for certain without changing what it says (it
// is written in a way that Format does not know, as with "? "), comes back as
// it is. Format of what Format gives is the same text.
//
// A file that is no YAML gives the faults, each with its place, and no text.
// name is how they call the file.
func Format(name string, data []byte) (string, diag.List) {
	before, list := meaning(name, data)
	if list.HasErrors() {
		return "", list
	}
	text := string(data)
	out, ok := layOut(string(data))
	// What a first pass moves, a second may see in another light: the result is
	// one that a further pass leaves alone.
	for range 4 {
		if !ok {
			return text, nil
		}
		again, settled := layOut(out)
		if settled && again == out {
			break
		}
		out, ok = again, settled
	}
	if again, settled := layOut(out); !settled || again != out {
		return text, nil
	}
	after, list := meaning(name, []byte(out))
	if list.HasErrors() || !sameValue(before, after, map[[2]*value]bool{}) || !slices.Equal(comments(text), comments(out)) {
		return text, nil
	}
	return out, nil
}

// meaning reads a file as far as YAML goes, variables not filled in.
func meaning(name string, data []byte) (*value, diag.List) {
	text, badLine := normalize(data)
	r := &reader{file: name, lines: strings.Split(text, "\n")}
	root := r.yaml(text, badLine, len(data))
	r.finish()
	return root, r.list
}

// sameValue reports whether two files say the same. done holds pairs that were
// compared, for an alias may name one very often.
func sameValue(a, b *value, done map[[2]*value]bool) bool {
	if a == nil || b == nil {
		return a == b
	}
	if done[[2]*value{a, b}] {
		return true
	}
	done[[2]*value{a, b}] = true
	return a.kind == b.kind && a.text == b.text &&
		slices.EqualFunc(a.items, b.items, func(x, y *value) bool { return sameValue(x, y, done) }) &&
		slices.EqualFunc(a.entries, b.entries, func(x, y *entry) bool { return x.key == y.key && sameValue(x.val, y.val, done) })
}

// comments returns the comments of a file in their order, as the YAML library
// sees them and this package's own reading of lines does not.
func comments(text string) []string {
	text, _ = normalize([]byte(text))
	var out []string
	for _, t := range lexer.Tokenize(text) {
		if t.Type == token.CommentType {
			out = append(out, strings.TrimSpace(t.Value))
		}
	}
	return out
}
