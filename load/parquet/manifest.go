package parquet

import (
	"time"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

// FormatVersion is the layout of manifests and of the directories they
// describe. A table with a later one is refused.
const FormatVersion = 1

// Manifest says which files make up a table after one commit.
type Manifest struct {
	FormatVersion int       `json:"format_version"`
	Number        int64     `json:"number"`  // 0 before the first package, then one more with each commit
	Lineage       string    `json:"lineage"` // of the state that owns the table
	Pipeline      string    `json:"pipeline"`
	Table         string    `json:"table"`
	Package       int64     `json:"package"` // serial of the last package committed, 0 if none
	RunID         string    `json:"run_id,omitempty"`
	CreatedAt     time.Time `json:"created_at"`
	// Schema is the one schema of every file in current. History files may
	// lack columns that were added later.
	Schema schemas.Table `json:"schema"`
	// Compatibility is the form in which this commit wrote files, standard or
	// plain; those of earlier ones stay as they are. Timezone is that of the
	// views. Both are empty in manifests of before they were kept.
	Compatibility string `json:"compatibility,omitempty"`
	Timezone      string `json:"timezone,omitempty"`

	Current []File `json:"current"`
	History []File `json:"history"`
	// Published lists the files this commit moved into place, relative to the
	// table: whoever finds the manifest ahead of latest.json moves the rest.
	Published []string `json:"published,omitempty"`
	// Removed lists the files this commit takes away once the others are in
	// place, relative to the table.
	Removed []string `json:"removed,omitempty"`
	// Results are those of the last packages, oldest first.
	Results []Committed `json:"results"`
}

// File is one Parquet file of a table.
type File struct {
	Path   string `json:"path"` // relative to the table, with forward slashes
	Rows   int64  `json:"rows"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // hexadecimal
	// HashKeys are the ids of the keys that hashes in the file may be made with,
	// sorted; nil for none. There are several where rows of before a change of
	// the key are left, as those of contacts that are gone.
	HashKeys []string `json:"hash_key_ids,omitempty"`
	// The ranges help readers to skip files; nil where a file has no rows.
	CreatedAt   *Range `json:"created_at,omitempty"`
	UpdatedAt   *Range `json:"updated_at,omitempty"`
	ExtractedAt *Range `json:"extracted_at,omitempty"`
}

// Range is a closed interval of times, UTC.
type Range struct {
	Min time.Time `json:"min"`
	Max time.Time `json:"max"`
}

// Committed is what one package did to the table.
type Committed struct {
	Package int64       `json:"package"`
	RunID   string      `json:"run_id"`
	At      time.Time   `json:"at"`
	Result  load.Result `json:"result"`
}

// Rows returns the number of rows in current, tombstones included.
func (m *Manifest) Rows() int64 {
	var n int64
	for _, f := range m.Current {
		n += f.Rows
	}
	return n
}
