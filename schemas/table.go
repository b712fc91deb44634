package schemas

import (
	"fmt"

	"github.com/apache/arrow/go/v17/arrow"
)

// Type is a column type, spelt as in the contract file.
type Type string

// The column types. A column keeps its type for ever.
const (
	String    Type = "string"    // UTF-8
	Int64     Type = "int64"     // signed 64-bit
	Float64   Type = "float64"   // IEEE 754 double
	Bool      Type = "bool"      // true or false
	Timestamp Type = "timestamp" // UTC, microseconds since 1970
	Date      Type = "date"      // days since 1970
	JSON      Type = "json"      // JSON text, stored as UTF-8
)

// Arrow returns the Arrow type that stores t. An unknown type is stored as
// UTF-8, which Valid refuses before it comes to that.
func (t Type) Arrow() arrow.DataType {
	switch t {
	case Int64:
		return arrow.PrimitiveTypes.Int64
	case Float64:
		return arrow.PrimitiveTypes.Float64
	case Bool:
		return arrow.FixedWidthTypes.Boolean
	case Timestamp:
		return arrow.FixedWidthTypes.Timestamp_us
	case Date:
		return arrow.FixedWidthTypes.Date32
	case String, JSON:
		return arrow.BinaryTypes.String
	default:
		return arrow.BinaryTypes.String
	}
}

// Valid reports whether t is one of the types above.
func (t Type) Valid() bool {
	switch t {
	case String, Int64, Float64, Bool, Timestamp, Date, JSON:
		return true
	default:
		return false
	}
}

// Origin says why a table has a column.
type Origin string

// The origins, in the order their columns take in a table.
const (
	FromContract  Origin = "contract"   // declared in the contract file
	Discovered    Origin = "discovered" // a field first met in the data
	MisfitText    Origin = "misfit"     // "<column>__text": values that did not fit <column>
	SystemDefined Origin = "system"     // "_sluice_*"
)

// Column is one column of a table.
type Column struct {
	Name        string `json:"name"`
	Type        Type   `json:"type"`
	Origin      Origin `json:"origin"`
	Source      string `json:"source,omitempty"` // where the value stands in a contact, as FieldRef.String prints it
	Description string `json:"description,omitempty"`
	Required    bool   `json:"required,omitempty"` // never null
	// Policy is what is stored of values: hash, mask, or drop for a column that
	// the contract leaves out by now, which stays null. Empty: values as they came.
	Policy Policy `json:"policy,omitempty"`
	// Constant is the value that the column has in every row; empty where rows
	// differ. Views show it also for rows that were written without it.
	Constant string `json:"constant,omitempty"`
}

// Field returns the Arrow field of c, its description in the metadata.
func (c Column) Field() arrow.Field {
	f := arrow.Field{Name: c.Name, Type: c.Type.Arrow(), Nullable: !c.Required}
	if c.Description != "" {
		f.Metadata = arrow.NewMetadata([]string{"description"}, []string{c.Description})
	}
	return f
}

// Table is an ordered list of columns: contract, then discovered and misfit
// columns by name, then system columns, ColAccount first where there is one.
type Table struct {
	Columns []Column `json:"columns"`
}

// Arrow returns the Arrow schema of t.
func (t Table) Arrow() *arrow.Schema {
	fields := make([]arrow.Field, len(t.Columns))
	for i, c := range t.Columns {
		fields[i] = c.Field()
	}
	return arrow.NewSchema(fields, nil)
}

// Index returns the position of the column called name, or -1.
func (t Table) Index(name string) int {
	for i := range t.Columns {
		if t.Columns[i].Name == name {
			return i
		}
	}
	return -1
}

// Select returns the columns called names, in that order; all of t for nil. A
// name that t does not have is an error.
func (t Table) Select(names []string) (Table, error) {
	if names == nil {
		return t, nil
	}
	var out Table
	for _, n := range names {
		i := t.Index(n)
		if i < 0 {
			return out, fmt.Errorf("no column %s", n)
		}
		out.Columns = append(out.Columns, t.Columns[i])
	}
	return out, nil
}

// The system columns. Every stored row carries all of them.
const (
	ColRunID       = "_sluice_run_id"       // string: the run that fetched the row
	ColExtractedAt = "_sluice_extracted_at" // timestamp: when its page arrived
	ColPackage     = "_sluice_package"      // int64: serial of the package that brought it, monotone per pipeline
	ColRow         = "_sluice_row"          // int64: order of arrival within the package
	ColChange      = "_sluice_change"       // string: insert, update or delete, against the table at commit
	ColDeletedAt   = "_sluice_deleted_at"   // timestamp: when the contact was found deleted, else null
	ColHash        = "_sluice_hash"         // int64: hash of the typed, policy-applied columns; (id, hash) is a version
)

// ColAccount is the system column of tables that have siblings, one for each
// account: the account's key, a string, in every row. Other tables lack it. It is
// no part of _sluice_hash, so that equal contacts have equal hashes everywhere.
const ColAccount = "_sluice_account"

// accountColumn is ColAccount of an account's table.
func accountColumn(account string) Column {
	return Column{
		Name: ColAccount, Type: String, Origin: SystemDefined, Required: true, Constant: account,
		Description: "Account that the contact is of: its key in for_each",
	}
}

// The contract columns that Sluice itself relies on; every contract has them,
// required, unrenamed and unmasked.
const (
	ColID        = "id"
	ColCreatedAt = "created_at"
	ColUpdatedAt = "updated_at"
)

// SystemColumns returns the system columns in table order.
func SystemColumns() []Column {
	return []Column{
		{Name: ColRunID, Type: String, Origin: SystemDefined, Required: true, Description: "Run that fetched this row"},
		{Name: ColExtractedAt, Type: Timestamp, Origin: SystemDefined, Required: true, Description: "When the page with this row arrived (UTC)"},
		{Name: ColPackage, Type: Int64, Origin: SystemDefined, Required: true, Description: "Serial of the package that brought this row; grows with every run of the pipeline"},
		{Name: ColRow, Type: Int64, Origin: SystemDefined, Required: true, Description: "Order of arrival within the package"},
		{Name: ColChange, Type: String, Origin: SystemDefined, Required: true, Description: "insert, update or delete, against the table when the package was committed"},
		{Name: ColDeletedAt, Type: Timestamp, Origin: SystemDefined, Description: "When the contact was found deleted; null while it exists"},
		{Name: ColHash, Type: Int64, Origin: SystemDefined, Required: true, Description: "Hash of the exported columns; id and hash make a version"},
	}
}

// StagedColumns returns the system columns that a staged part holds: those
// that differ from row to row. The others are constant for a package or known
// only at commit.
func StagedColumns() []Column {
	var staged []Column
	for _, c := range SystemColumns() {
		switch c.Name {
		case ColExtractedAt, ColRow, ColDeletedAt, ColHash:
			staged = append(staged, c)
		}
	}
	return staged
}
