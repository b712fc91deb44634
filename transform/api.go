package transform

import (
	"errors"
	"time"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/sluice-etl/sluice/schemas"
)

// ErrBadPage marks a body that is not a page of contacts: not JSON from the
// first byte to the last, or not an array of objects. Nothing of it is used.
var ErrBadPage = errors.New("not a page of contacts")

// pageError says why a body is not a page. It unwraps to ErrBadPage, whose
// words it leaves to whoever asked for the page: they say it of the request.
type pageError struct{ message, hint string }

func (e *pageError) Error() string { return e.message }

// Hint says what to do; empty where the body as a whole is something else.
func (e *pageError) Hint() string { return e.hint }

func (e *pageError) Unwrap() error { return ErrBadPage }

// ErrFull marks a page that no longer fits into the chunk: seal it, then
// decode the page again. A page alone in a chunk that does not fit wraps
// ErrBadPage instead.
var ErrFull = errors.New("chunk is full")

// Options configure a Chunk. Everything but Contract may be left zero.
type Options struct {
	Contract *schemas.Contract // nil: schemas.Default()
	// HashKey is the key of the contract's policies hash. It is an error at the
	// first Decode if one is needed and there is none.
	HashKey *schemas.HashKey
	// MaxDepth bounds the nesting of a page; 0 means 10000, as in jsontext. A
	// deeper page is a bad page.
	MaxDepth int
	// MaxColumns bounds the discovered columns of a table; 0 means what the
	// contract says, or 2000 where it says nothing. The values of further fields
	// go, as JSON, into one column (ColOverflow).
	MaxColumns int
	// Filter keeps only the rows whose value in each of these contract columns
	// (string or bool, the latter as "true" and "false") is among those listed.
	// Null is in no list. A column of the built-in contract may have another
	// name here: its path finds it. Other columns are an error at the first
	// Decode.
	Filter map[string][]string
	// Bury is as Filter, for values that change: a row outside is kept and
	// marked as deleted when its page arrived, so that a contact that leaves
	// the filter leaves the table too.
	Bury map[string][]string
	// BuryField is as Bury, for the value of a custom field; a row has to pass
	// both. nil: none.
	BuryField *FieldFilter
}

// FieldFilter asks for a value of a custom field, as the endpoint's filter
// does: the value as text, without regard to which place holds the field. The
// text is the content of a string, and a number or boolean as it was served;
// null, objects and arrays have none. Where several places of an entity hold
// the field, the value that its column takes decides.
type FieldFilter struct {
	// Key is the field's key, compared as it is written and in snake_case:
	// "Lead Source" is lead_source.
	Key   string `json:"key"`
	Value string `json:"value"`
	// Entity narrows it to the fields of the "customer" or of the "ticket";
	// empty: either.
	Entity string `json:"entity,omitempty"`
}

// Row is what the walk needs to know of one contact on a page. It mirrors
// extract.Row: stages do not know each other, the engine copies.
type Row struct {
	ID      [16]byte // 128-bit hash of the id's text
	Version uint64   // hash of the contact's bytes as served
	Created int64    // created_at, microseconds since 1970 UTC
	Updated int64    // updated_at, microseconds since 1970 UTC
	// LastMessage is last_message_at in microseconds; 0 where null.
	LastMessage int64
	// Invalid marks a contact without a usable id, created_at or updated_at.
	Invalid bool
}

// Meta says where the rows of a kept page come from.
type Meta struct {
	ExtractedAt time.Time // when the page arrived
	FirstRow    int64     // _sluice_row of the page's first kept row; the next ones follow without gaps
	Request     string    // for rejects; never a key
}

// Reject is a record set aside: it is in no row.
type Reject struct {
	Reason   string // what is wrong, without the value
	ID       string // the record's id, if it has one
	Raw      []byte // the record as served
	Position int    // index on its page, from 0
	Request  string // Meta.Request of its page
	// At is Meta.ExtractedAt of its page.
	At time.Time
}

// Sealed is the content of a chunk. The caller releases Record; its memory
// goes back to the chunk then, not before.
type Sealed struct {
	// Record holds the rows grouped by month of created_at (UTC), ascending,
	// in order of arrival within a month. Its columns are those of Table.
	Record arrow.Record
	// Table has the contract's columns, all columns the registry knows, and
	// schemas.StagedColumns.
	Table schemas.Table
	// Rejects in order of arrival.
	Rejects []Reject
	// Misfits counts, by column, the values that did not fit and stand in
	// "<column>__text".
	Misfits map[string]int64
	// Discarded counts, by field as schemas.FieldRef prints it, the values that
	// the contract's evolution left out.
	Discarded map[string]int64
	// LeftOut are the rules that did so, sorted.
	LeftOut []schemas.LeftOut
	// Sightings are the fields without a declared column that had a value, and
	// the declared ones that had a value which did not fit, sorted.
	Sightings []schemas.Sighting
	// Buried counts the rows outside Options.Bury and BuryField.
	Buried int64
}
