package schemas

import (
	"crypto/sha256"
	_ "embed" // for the built-in contract
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
)

//go:embed contacts.yaml
var builtIn []byte

// BuiltIn returns the text of the built-in contract, schemas/contacts.yaml.
func BuiltIn() []byte { return append([]byte(nil), builtIn...) }

// Contract declares the columns that a table always has and where custom
// fields are looked for. It is immutable once parsed.
type Contract struct {
	Version int // of the contract's format: 1
	Columns []ContractColumn
	// CustomFields are the places of custom fields, in order of precedence,
	// as fields of scope contact (entity customer) or ticket (entity ticket).
	CustomFields []CustomFieldSource
}

// ContractColumn is a declared column and the field it comes from.
type ContractColumn struct {
	Column
	Ref FieldRef
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

// Hash identifies what the contract declares: names, types, fields and custom
// field places, not descriptions or layout.
func (c *Contract) Hash() string {
	var b strings.Builder
	fmt.Fprintf(&b, "contract %d\n", c.Version)
	for _, col := range c.Columns {
		fmt.Fprintf(&b, "column %q %q %s %t\n", col.Name, col.Ref.String(), col.Type, col.Required)
	}
	for _, s := range c.CustomFields {
		fmt.Fprintf(&b, "custom %q %d\n", s.Place.String(), s.Rank)
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
