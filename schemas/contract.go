package schemas

import (
	"crypto/sha256"
	_ "embed" // for the built-in contract
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
)

//go:embed contacts.yaml
var builtIn []byte

// BuiltIn returns the text of the built-in contract, schemas/contacts.yaml.
func BuiltIn() []byte { return append([]byte(nil), builtIn...) }

// Contract declares the columns that a table always has, where custom fields
// are looked for, and what becomes of everything else. It is immutable once
// parsed.
type Contract struct {
	Name    string // of the file, for messages
	Version int    // of the contract's format: 1
	// Columns are the declared columns that the table has: not those that are
	// excluded, not selected, or of policy drop.
	Columns []ContractColumn
	// Left are the declared columns that the table does not have, for pages that
	// document it.
	Left []ContractColumn
	// CustomFields are the places of custom fields, in order of precedence,
	// as fields of scope contact (entity customer) or ticket (entity ticket).
	CustomFields []CustomFieldSource
	// Undeclared says what becomes of fields without a declared column, for each
	// scope of fields; all four are there.
	Undeclared map[Scope]FieldRule
	// Renames give undeclared fields the names of their columns.
	Renames []Rename
	// Select, where not empty, names all that is exported beside the mandatory
	// columns; Exclude what is not, whatever Select says.
	Select, Exclude []FieldPattern
	// MaxColumns bounds the discovered columns; what is beyond goes into
	// ColOverflow. 0: the decoder's own bound.
	MaxColumns int
	// Account is the value of ColAccount; empty: the table has no such column.
	Account string
}

// WithAccount returns the contract of one account's table, which has ColAccount.
// It is the same to Hash: no row of a contact is another one by it.
func (c *Contract) WithAccount(account string) *Contract {
	out := *c
	out.Account = account
	return &out
}

// ContractColumn is a declared column and the field it comes from.
type ContractColumn struct {
	Column
	Ref FieldRef
	// Policy is what is stored of a value; Normal the form that it is brought to
	// first, where that is not as it came.
	Policy Policy
	Normal Normal
	// TypeConflicts is what becomes of a value that the column does not hold.
	TypeConflicts Evolution
	Line          int // of the column in the contract file, from 1
}

// FieldRule says what becomes of the values of a field.
type FieldRule struct {
	Wanted        bool      // false: nothing of it is stored
	Column        string    // the name that the contract gives; empty: from the key
	Policy        Policy    // what is stored of a value
	Normal        Normal    // the form that it is brought to before Policy
	NewColumns    Evolution // where the table does not have the field yet
	TypeConflicts Evolution // where a value does not fit the column
	// Lines of the contract file that say so, from 1, or of the place where one
	// would: what to name in a message about a freeze.
	NewColumnsLine, TypeConflictsLine int
}

// Rename gives a field the name of its column.
type Rename struct {
	Ref    FieldRef
	Column string
	Line   int // in the contract file, from 1
}

// FieldPattern is a field, or with Prefix all those of the scope whose key
// begins with Ref.Key.
type FieldPattern struct {
	Ref    FieldRef
	Prefix bool
	Line   int // in the contract file, from 1
}

// Matches reports whether the pattern covers the field.
func (p FieldPattern) Matches(ref FieldRef) bool {
	if p.Prefix {
		return p.Ref.Scope == ref.Scope && strings.HasPrefix(ref.Key, p.Ref.Key)
	}
	return p.Ref == ref
}

// CustomFieldSource is a place where custom fields stand: an object of field
// to value, or an array of {key, value} objects.
type CustomFieldSource struct {
	Place FieldRef // scope contact or ticket
	// Rank orders the places of one entity: 0 wins over 1.
	Rank int
}

// Entity returns the scope of the custom fields found at the place.
func (s CustomFieldSource) Entity() Scope {
	if s.Place.Scope == ScopeTicket {
		return ScopeCFTicket
	}
	return ScopeCFCustomer
}

// Default returns the built-in contract.
func Default() *Contract { return parseBuiltIn() }

var parseBuiltIn = sync.OnceValue(func() *Contract {
	c, err := ParseContract("schemas/contacts.yaml", builtIn)
	if err != nil {
		panic(fmt.Errorf("parse built-in contract: %w", err)) // embedded, so a fault here is one of the build
	}
	return c
})

// Column returns the declared column for the field.
func (c *Contract) Column(ref FieldRef) (ContractColumn, bool) {
	for _, col := range c.Columns {
		if col.Ref == ref {
			return col, true
		}
	}
	return ContractColumn{}, false
}

// Rule returns what becomes of the field, whether it has a declared column or
// not.
func (c *Contract) Rule(ref FieldRef) FieldRule {
	rule := c.Undeclared[ref.Scope]
	if col, ok := c.Column(ref); ok {
		rule.Wanted, rule.Column, rule.Policy, rule.Normal = true, col.Name, col.Policy, col.Normal
		rule.TypeConflicts, rule.TypeConflictsLine = col.TypeConflicts, col.Line
		return rule
	}
	rule.Wanted = c.wants(ref) && rule.Policy != Drop
	for _, left := range c.Left {
		rule.Wanted = rule.Wanted && left.Ref != ref
	}
	for _, r := range c.Renames {
		if r.Ref == ref {
			rule.Column = r.Column
		}
	}
	return rule
}

// wants reports whether Select and Exclude let the field in.
func (c *Contract) wants(ref FieldRef) bool {
	in := func(patterns []FieldPattern) bool {
		return slices.ContainsFunc(patterns, func(p FieldPattern) bool { return p.Matches(ref) })
	}
	return (len(c.Select) == 0 || in(c.Select)) && !in(c.Exclude)
}

// KeepsAll reports whether every value is stored as it came, so that a record
// may be kept whole as well.
func (c *Contract) KeepsAll() bool {
	for _, rule := range c.Undeclared {
		if rule.Policy != Keep {
			return false
		}
	}
	return !slices.ContainsFunc(slices.Concat(c.Columns, c.Left), func(col ContractColumn) bool { return col.Policy != Keep })
}

// Hashes reports whether a policy of the contract needs a HashKey.
func (c *Contract) Hashes() bool {
	for _, rule := range c.Undeclared {
		if rule.Policy == Hash {
			return true
		}
	}
	return slices.ContainsFunc(c.Columns, func(col ContractColumn) bool { return col.Policy == Hash })
}

// Hash identifies what the contract declares: names, types, fields, custom
// field places, policies, selection and names given, not descriptions, layout
// or order of columns' lines. Rows made under another hash are read again.
// NewColumns, TypeConflicts and MaxColumns are no part of it: what was stored
// under them stays as it is.
func (c *Contract) Hash() string {
	var b strings.Builder
	fmt.Fprintf(&b, "contract %d\n", c.Version)
	for _, col := range c.Columns {
		fmt.Fprintf(&b, "column %q %q %s %t\n", col.Name, col.Ref.String(), col.Type, col.Required)
		if col.Policy != Keep || col.Normal != AsIs {
			fmt.Fprintf(&b, "policy %s %q\n", col.Policy, col.Normal)
		}
	}
	for _, s := range c.CustomFields {
		fmt.Fprintf(&b, "custom %q %d\n", s.Place.String(), s.Rank)
	}
	for _, s := range fieldScopes {
		if rule := c.Undeclared[s]; rule.Policy != Keep {
			fmt.Fprintf(&b, "undeclared %s %s\n", s, rule.Policy)
		}
	}
	for _, r := range c.Renames {
		fmt.Fprintf(&b, "rename %q %q\n", r.Ref.String(), r.Column)
	}
	for _, p := range c.Select {
		fmt.Fprintf(&b, "select %q %t\n", p.Ref.String(), p.Prefix)
	}
	for _, p := range c.Exclude {
		fmt.Fprintf(&b, "exclude %q %t\n", p.Ref.String(), p.Prefix)
	}
	sum := sha256.Sum256([]byte(b.String()))
	return hex.EncodeToString(sum[:])
}

// Fault is one thing wrong with a contract file.
type Fault struct {
	Line, Col int // from 1
	Message   string
	Hint      string // how to mend it; may be empty
}

// ContractError lists everything wrong with a contract file, in its order.
type ContractError struct {
	Name   string // of the file
	Faults []Fault
}

// Error prints one fault a line, as file:line:col: message (hint).
func (e *ContractError) Error() string {
	lines := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		lines[i] = fmt.Sprintf("%s:%d:%d: %s", e.Name, f.Line, f.Col, f.Message)
		if f.Hint != "" {
			lines[i] += " (" + f.Hint + ")"
		}
	}
	return strings.Join(lines, "\n")
}
