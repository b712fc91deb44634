package transform

import (
	"errors"

	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/sluice-etl/sluice/schemas"
)

var errUnfinished = errors.New("decoder is not wired yet")

// Chunk collects pages until they are sealed as one record batch. It is not
// safe for concurrent use.
type Chunk struct{ o Options }

// NewChunk returns an empty chunk.
func NewChunk(o Options) *Chunk { return &Chunk{o: o} }

// Decode parses a whole page, all or nothing, and returns one Row for each of
// its elements, valid until the next call. The page is tentative: the next
// Decode replaces it unless Keep comes first. An error wraps ErrBadPage when
// the body is not a page, ErrFull when the chunk has to be sealed first.
func (c *Chunk) Decode(body []byte) ([]Row, error) { return nil, errUnfinished }

// Keep makes the rows of the tentative page part of the chunk, but those for
// which skip is true; a nil skip keeps all. Rejected and filtered rows are not
// among the kept ones that it counts.
func (c *Chunk) Keep(skip []bool, m Meta) (kept int) { return 0 }

// Rows returns the number of kept rows.
func (c *Chunk) Rows() int { return 0 }

// Bytes returns about how much memory the kept rows take.
func (c *Chunk) Bytes() int64 { return 0 }

// ClientIDs returns the distinct client_id values decoded so far, in order of
// appearance, at most 64.
func (c *Chunk) ClientIDs() []string { return nil }

// Seal returns the kept rows as one record batch and empties the chunk for
// reuse. Fields that the registry does not know are settled on the way.
// An error leaves the chunk as it was.
func (c *Chunk) Seal(reg *schemas.Registry, run string, mem memory.Allocator) (*Sealed, error) {
	return nil, errUnfinished
}
