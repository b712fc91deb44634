package extract

import (
	"context"
	"time"
)

// Row is what the walk needs to know of one contact on a page. The rest of
// the contact stays with the Sink.
type Row struct {
	ID      [16]byte // 128-bit hash of the id's text
	Version uint64   // hash of the contact's bytes as served
	Created int64    // created_at, microseconds since 1970 UTC
	Updated int64    // updated_at, microseconds since 1970 UTC
	// LastMessage is last_message_at in microseconds; 0 where null.
	LastMessage int64
	// Invalid marks a contact without a usable id, created_at or updated_at:
	// it keeps its place on the page, for offsets, and is never an anchor or a
	// mark. The Sink sets it aside (quarantine).
	Invalid bool
}

// PageInfo says where a page came from.
type PageInfo struct {
	ReceivedAt time.Time // local clock, when the body was complete
	Request    string    // path and query, never a key
}

// Sink decodes and stages pages for one walk. The walk calls it from one
// goroutine: Decode for each body that arrives, then, if the page is accepted,
// Stage once, and Advance when its mark has moved. A page that is decoded
// again or never staged leaves no trace.
type Sink interface {
	// Decode parses a whole page, all or nothing. It returns one Row for each
	// element, in order, valid until the next call. An error wrapping
	// ErrBadPage means the body is not a page (truncated, HTML, not an array
	// of objects): the client retries the request.
	Decode(body []byte, info PageInfo) ([]Row, error)

	// Stage keeps the rows of the last decoded page for which skip is false;
	// a nil skip keeps all. It copies what it needs and may write a part.
	Stage(ctx context.Context, skip []bool) error

	// Advance says that everything up to p has been staged. The Sink may hold
	// it back until the part with those rows is sealed.
	Advance(ctx context.Context, p Progress) error
}

// EvidenceSink is a Sink that is also told, while the walk goes on, what a
// coverage record says of it, so that a run that is killed later still knows.
type EvidenceSink interface {
	Sink
	// Tied tells of a tie that has been drained, between the Stage of the last
	// of its rows and the next Advance.
	Tied(t TieBlock)
	// Dropped tells of rows, 1 or more, that had been staged before as they are,
	// ahead of the Stage that skips them.
	Dropped(rows int64)
}

// Progress is how far a walk has come.
type Progress struct {
	// Mark: everything printed at or before it has been staged, or has moved
	// later and will be. Microseconds since 1970 UTC.
	Mark int64
	// Final is the end of the contiguous final prefix (DESIGN section 3.4),
	// the only value a cursor may take. Microseconds since 1970 UTC.
	Final int64
	// ReadSince is the earliest moment, in the source's time, at which the rows
	// of any page accepted so far were read; microseconds since 1970 UTC, 0
	// while there is none. Whatever changed before it, less the lookback, was
	// on those pages as it was then, so a walk by ByUpdated that catches up on
	// this one starts there. A walk that is resumed in parts has the least of
	// them all.
	ReadSince int64
}
