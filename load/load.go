// Package load is the contract between the engine and a destination: sealed
// packages go in, each lands exactly once in effect.
package load

import (
	"context"
	"time"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/sluice-etl/sluice/schemas"
)

// Loader commits sealed packages to one table of one destination.
//
// The engine calls Check once before extraction and then Commit, package by
// package in order of serial, from one goroutine; Close ends the loader's
// life. All calls block until done or ctx ends. A killed Commit is followed,
// in another process, by a Commit of the same package.
type Loader interface {
	// Check reports, without changing anything, whether the destination can
	// take the table: reachable, writable, and not the work of another state
	// or program (ErrForeign). It returns the serial of the last package
	// committed there for lineage, 0 if none.
	Check(ctx context.Context, lineage string) (position int64, err error)

	// Commit makes the rows of p take effect. It is idempotent: a package
	// committed before, wholly or in part, ends in the same table and the same
	// Result. Readers never see a contact twice or missing meanwhile. A serial
	// at or below the position that another run used is ErrAhead; a table of
	// another lineage ErrForeign. On any other error the package is either not
	// committed at all, or recorded and completed by the next Commit.
	//
	// A version is (id, _sluice_hash, deleted or not). Rows of one id apply in
	// the order (least(updated_at, _sluice_extracted_at), _sluice_extracted_at,
	// Serial, _sluice_row): one replaces the stored row if it is strictly
	// greater and another version. So an updated_at in the future counts as the
	// moment at which it was read, and the row that corrects it wins; and of two
	// rows with one updated_at the one that was read later does, whichever
	// package it came in. A tombstone of an id that the table does not hold
	// leaves no trace.
	Commit(ctx context.Context, p Package) (Result, error)

	// Close releases what the loader holds.
	Close() error
}

// Lister is a Loader that gives back what its table holds, for finding the
// contacts that the source no longer shows.
type Lister interface {
	Loader
	// List gives the current rows, tombstones included, each id once, in
	// batches that are valid during the call of each. A table that does not
	// exist yet has none. It blocks until each has had all of them, or fails,
	// or ctx ends; the table is one that Check takes for the same lineage, and
	// no Commit runs meanwhile.
	List(ctx context.Context, l Listing, each func(arrow.Record) error) error
}

// Listing says which rows and columns List gives.
type Listing struct {
	Lineage string
	// Columns are the columns wanted, in the order in which the records have
	// them; each has to be one of the table's. nil: all, in table order.
	Columns []string
	// From and Until bound created_at, [From, Until); zero: no bound. Rows
	// outside may be given as well.
	From, Until time.Time
}

// Package is a sealed, immutable set of staged parts.
type Package struct {
	Serial   int64  // > 0, grows with every package of the pipeline
	Lineage  string // of the pipeline's state
	Pipeline string
	RunID    string
	SealedAt time.Time
	// Table has every column known when the package was sealed: contract,
	// discovered, misfit and all system columns. Parts may lack discovered
	// columns that later parts of the package added: those read as null.
	Table schemas.Table
	Parts []Part
	// Coverage is the run's coverage record, a JSON object kept beside the data.
	Coverage []byte
	Verify   Verify
	// HashKey is the id of the key that the hashes among its values were made
	// with, empty where the contract hashes nothing.
	HashKey string
	// Memo is what an earlier Commit of this package last gave to Remember, nil
	// for nothing: a destination whose steps have names that it gives out, such
	// as write streams, goes on with those.
	Memo []byte
	// Remember keeps a note, a JSON object of a few kB, with the package in the
	// destination's queue. It is durable once Remember returns, and dropped when
	// the package is committed. nil where nobody keeps notes.
	Remember func(ctx context.Context, memo []byte) error `json:"-"`
}

// HashKeyMetadata is what the metadata of a Parquet file say of the key that
// hashes in it were made with: nil for none.
func HashKeyMetadata(id string) map[string]string {
	if id == "" {
		return nil
	}
	return map[string]string{HashKeyName: id}
}

// HashKeyName is the name of the key's id in the metadata of a Parquet file.
const HashKeyName = "sluice.hash_key_id"

// Historian is a Loader that can say, without reading it, how much its history
// holds.
type Historian interface {
	Loader
	// Versions returns the number of rows in history, 0 where there is no table
	// yet. It is called after a Check of the same lineage, and blocks until the
	// destination has answered or ctx ends.
	Versions(ctx context.Context, lineage string) (int64, error)
}

// Part is one staged Parquet file: contract and discovered columns, then
// schemas.StagedColumns. Its rows are grouped by month of created_at (UTC), in
// ascending order of month, in order of arrival within a month.
type Part struct {
	Path  string // readable local file
	Rows  int64
	Bytes int64
}

// Verify says how much of each written file is read back by a second
// implementation before it is published.
type Verify string

// The verification levels.
const (
	VerifyFull   Verify = "full"   // every row and column
	VerifySample Verify = "sample" // footer, counts, and every column of one row group
	VerifyOff    Verify = "off"    // nothing
)

// Result is what a commit did, in contacts (New, Changed, Unchanged, Deleted)
// and in files.
type Result struct {
	New       int64 `json:"new"`       // ids the table did not hold
	Changed   int64 `json:"changed"`   // ids whose row was replaced
	Unchanged int64 `json:"unchanged"` // ids whose stored row was the same version, or newer
	Deleted   int64 `json:"deleted"`   // ids that became tombstones
	Versions  int64 `json:"versions"`  // rows added to history
	// Moved are contacts, among those above, that now stand in another partition
	// than before because their created_at changed, which it should not. MovedIDs
	// names a few. A loader without partitions need not tell.
	Moved    int64    `json:"moved,omitempty"`
	MovedIDs []string `json:"moved_ids,omitempty"`
	Files    []File   `json:"files"` // published by this commit
	// BytesScanned is what the statements of this call were billed for, in bytes,
	// or what they read where the destination does not bill by that; 0 for a
	// destination without statements. A commit of a package that was committed
	// before may scan less than the first did.
	BytesScanned int64 `json:"bytes_scanned,omitempty"`
}

// File is a published file.
type File struct {
	Path  string `json:"path"` // relative to the table
	Rows  int64  `json:"rows"`
	Bytes int64  `json:"bytes"`
}

// Verifier is a Loader that can check what its table holds.
type Verifier interface {
	Loader
	// Verify checks everything that is committed for lineage, after completing
	// an interrupted commit, and calls found for each fault; it mends nothing. A
	// table that is faulty is no error, one that cannot be looked at is. It
	// blocks until everything has been checked or ctx ends; no Commit runs
	// meanwhile. A table that does not exist yet has no faults.
	Verify(ctx context.Context, lineage string, found func(Fault)) (Verified, error)
}

// Fault is something wrong with a table.
type Fault struct {
	Kind   string `json:"kind"`            // what was checked, as missing_file or duplicate_id
	Path   string `json:"path,omitempty"`  // relative to the table; empty: the table as a whole
	Detail string `json:"detail"`          // what is wrong, naming a few contacts at most
	Count  int64  `json:"count,omitempty"` // of rows or contacts, where Detail names some
}

// Verified is what Verify has looked at.
type Verified struct {
	Contacts int64 `json:"contacts"` // rows of the current table, tombstones included
	Versions int64 `json:"versions"` // rows of history
	Files    int64 `json:"files"`
	Tables   int64 `json:"tables,omitempty"` // where the destination has no files
	Bytes    int64 `json:"bytes"`
}

// Eraser is a Loader that can remove a contact for good.
type Eraser interface {
	Loader
	// Erase removes every row of a contact and whatever else names it, after
	// completing an interrupted commit. Like a commit it takes effect wholly or
	// not at all, or is recorded and completed by the next call that changes the
	// table; once it returns nothing of the contact is left. It blocks until then
	// or until ctx ends; no Commit runs meanwhile. A table that does not exist
	// yet, or does not have the contact, is left as it is.
	Erase(ctx context.Context, e Erasure) (Erased, error)
}

// Erasure says whom to remove.
type Erasure struct {
	Lineage string
	ID      string
	DryRun  bool // only count
}

// Erased is what Erase has removed, or would.
type Erased struct {
	Current int64 `json:"current"` // rows of the current table
	History int64 `json:"history"` // rows of history
	Names   int64 `json:"names"`   // other places that name the contact
	Files   int64 `json:"files"`   // rewritten or removed
}

// Any reports whether there is anything to remove.
func (e Erased) Any() bool { return e.Current+e.History+e.Names > 0 }
