package schemas

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Scope says in which part of a contact a field stands.
type Scope string

// The scopes of a field.
const (
	ScopeContact    Scope = "contact"     // a member of the contact
	ScopeTicket     Scope = "ticket"      // a member of active_ticket_v2
	ScopeCFCustomer Scope = "cf_customer" // a custom field of the contact
	ScopeCFTicket   Scope = "cf_ticket"   // a custom field of the active ticket
	// ScopeOverflow is that of ColOverflow alone, which stands for all fields
	// beyond the number of columns that a table may have.
	ScopeOverflow Scope = "overflow"
)

// ColOverflow is the JSON column with the values of all fields that have no
// column of their own: an object of field, as FieldRef.String prints it, to
// value. No field's own column has two underscores in a row.
const ColOverflow = "other_fields__json"

// TicketField is the member of a contact that holds its active ticket.
const TicketField = "active_ticket_v2"

// prefix is what the names of discovered columns of s start with.
func (s Scope) prefix() string {
	switch s {
	case ScopeTicket:
		return TicketField + "_"
	case ScopeCFCustomer:
		return "cf_customer_"
	case ScopeCFTicket:
		return "cf_ticket_"
	default:
		return ""
	}
}

// valid reports whether s is one of the scopes above.
func (s Scope) valid() bool {
	return s == ScopeContact || s == ScopeTicket || s == ScopeCFCustomer || s == ScopeCFTicket || s == ScopeOverflow
}

// FieldRef names one field of a contact by its raw key. Two keys that differ
// in a single byte, case included, are two fields.
type FieldRef struct {
	Scope Scope
	Key   string
}

// String prints the field as scope:key.
func (f FieldRef) String() string { return string(f.Scope) + ":" + f.Key }

// ParseFieldRef reads what FieldRef.String printed.
func ParseFieldRef(s string) (FieldRef, error) {
	scope, key, ok := strings.Cut(s, ":")
	if ref := (FieldRef{Scope(scope), key}); ok && ref.Scope.valid() {
		return ref, nil
	}
	return FieldRef{}, fmt.Errorf("parse field %q: want scope:key", s)
}

// Compare orders fields by scope, then by the bytes of the key: the order in
// which they are settled, whatever order they were met in.
func (f FieldRef) Compare(g FieldRef) int {
	if c := strings.Compare(string(f.Scope), string(g.Scope)); c != 0 {
		return c
	}
	return strings.Compare(f.Key, g.Key)
}

// digest returns n hexadecimal digits (at most 64) that depend on the field
// alone. It is part of column names, so it may never change.
func (f FieldRef) digest(n int) string {
	sum := sha256.Sum256([]byte(f.String()))
	return hex.EncodeToString(sum[:])[:n]
}

const (
	// maxName bounds the name of a column before a suffix, in bytes. BigQuery
	// takes 300 characters; the room left holds "__text" and a collision suffix.
	maxName = 270
	// maxStored bounds the names in state: hash and collision suffixes added, and
	// room left for "__text" below BigQuery's 300.
	maxStored = 294
	// misfitSuffix ends the names of columns that hold the text of values
	// which do not fit. No other name has two underscores in a row.
	misfitSuffix = "__text"
)

// reservedNames are columns that Parquet readers make up from the directories
// of a partitioned table: a stored column with such a name is silently merged
// with the partition's value.
var reservedNames = []string{"created_month", "extracted_date"}

func reserved(name string) bool {
	for _, r := range reservedNames {
		if name == r {
			return true
		}
	}
	return false
}

// ColumnName returns the name that the field takes unless another field has
// it: snake_case ASCII, accents folded, after the prefix of its scope. Where
// the key loses letters on the way, or is too long, the name ends in eight
// hexadecimal digits of the field's hash.
func (f FieldRef) ColumnName() string {
	snake, lossy := snakeCase(f.Key)
	prefix := f.Scope.prefix()
	switch {
	case snake == "":
		snake, lossy = "field", true
	case prefix == "" && snake[0] >= '0' && snake[0] <= '9':
		snake = "field_" + snake
	}
	name := prefix + snake
	if len(name) > maxName {
		name, lossy = strings.TrimRight(name[:maxName-9], "_"), true
	}
	if lossy || reserved(name) {
		name += "_" + f.digest(8)
	}
	return name
}

// letters that compatibility decomposition leaves whole, and their usual
// spelling in ASCII.
func spell(r rune) string {
	switch r {
	case 'ß':
		return "ss"
	case 'æ', 'Æ':
		return "ae"
	case 'œ', 'Œ':
		return "oe"
	case 'ø', 'Ø':
		return "o"
	case 'ł', 'Ł':
		return "l"
	case 'đ', 'Đ', 'ð', 'Ð':
		return "d"
	case 'þ', 'Þ':
		return "th"
	case 'ı':
		return "i"
	default:
		return ""
	}
}

// snakeCase turns key to snake_case ASCII. Everything but letters and digits
// separates words, as does a step from lower to upper case; lossy reports
// letters or digits of other scripts that had to be left out.
func snakeCase(key string) (snake string, lossy bool) {
	var b strings.Builder
	gap := false    // a separator is due before the next letter
	prev := rune(0) // the last letter or digit, as it stood
	text := []rune(norm.NFKD.String(key))
	for i, r := range text {
		var out string
		switch {
		case r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r)):
			out = strings.ToLower(string(r))
		case unicode.Is(unicode.Mn, r):
			continue // an accent: its letter has just been written
		default:
			out = spell(r)
		}
		if out == "" {
			lossy = lossy || unicode.IsLetter(r) || unicode.IsNumber(r)
			gap, prev = true, 0
			continue
		}
		if unicode.IsUpper(r) {
			next := rune(0)
			if i+1 < len(text) {
				next = text[i+1]
			}
			// leadSource, HTTPServer
			gap = gap || unicode.IsLower(prev) || (unicode.IsUpper(prev) && unicode.IsLower(next))
		}
		if gap && b.Len() > 0 {
			b.WriteByte('_')
		}
		b.WriteString(out)
		gap, prev = false, r
	}
	return b.String(), lossy
}
