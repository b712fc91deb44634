package views

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// Statement is what makes one view or macro in a text that SQL has written.
type Statement struct {
	Name  string // without parameters
	Macro bool
	Text  string // from CREATE to the end of its comment
}

// Digest stands for the statement's text: 12 hexadecimal digits.
func (s Statement) Digest() string { return Digest(s.Text) }

// Digest is 12 hexadecimal digits of the SHA-256 of a text.
func Digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:6])
}

// beginning is where a statement of SQL begins, after an empty line.
const beginning = "\nCREATE OR REPLACE "

// Split takes a text apart that SQL has written, perhaps after some remarks,
// which are what it returns first. Head and statements, each after an empty
// line, are the text again. Whatever somebody wrote between them belongs to the
// statement before.
func Split(text string) (head string, list []Statement) {
	at := 0
	if !strings.HasPrefix(text, beginning) {
		at = strings.Index(text, "\n"+beginning) + 1
		if at == 0 {
			return text, nil
		}
	}
	head, text = text[:at], text[at:]
	for len(text) > 0 {
		one := text
		if end := strings.Index(text[1:], "\n"+beginning); end >= 0 {
			one = text[:end+2]
		}
		text = text[len(one):]
		s := Statement{Text: one[1:]}
		kind, rest, _ := strings.Cut(strings.TrimPrefix(one, beginning), " ")
		s.Macro, s.Name = kind == "MACRO", identifier(rest)
		list = append(list, s)
	}
	return head, list
}

// Join is the inverse of Split.
func Join(head string, list []Statement) string {
	var b strings.Builder
	b.WriteString(head)
	for _, s := range list {
		b.WriteString("\n" + s.Text)
	}
	return b.String()
}

// identifier reads a name that QuoteName wrote, after that of a schema if there
// is one.
func identifier(text string) string {
	for {
		quoted, ok := strings.CutPrefix(text, `"`)
		if !ok { // written by hand
			name, _, _ := strings.Cut(text, " ")
			return name
		}
		var name strings.Builder
		for {
			part, rest, closed := strings.Cut(quoted, `"`)
			name.WriteString(part)
			quoted = rest
			if !closed || !strings.HasPrefix(rest, `"`) {
				break
			}
			name.WriteByte('"')
			quoted = rest[1:]
		}
		if text, ok = strings.CutPrefix(quoted, "."); !ok {
			return name.String()
		}
	}
}
