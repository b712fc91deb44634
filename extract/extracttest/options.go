// Package extracttest is a deterministic model of the contacts endpoint, for
// attacking the walk: virtual time, one seed, every behaviour that the real
// one is known or suspected to have.
package extracttest

import "time"

// TieOrder is how rows with the very same timestamp follow each other.
type TieOrder int

// The orders.
const (
	Stable      TieOrder = iota // the same for ever
	Physical                    // the same until a row is written, which moves it
	Shuffled                    // new on every request
	Alternating                 // two orders in turn
)

// Options is what a Source does. The zero value is an empty, well-behaved
// source whose time stands still.
type Options struct {
	Seed     uint64
	Contacts int // at the start
	// Gap is the usual distance between two of the initial timestamps; many
	// are closer. 0: 1 s.
	Gap time.Duration
	// Ties is how many of the initial contacts share one exact updated_at, and
	// one exact created_at, in groups of TieSize.
	Ties, TieSize int
	// Lulls are stretches in which no contact was created, each as long as a
	// thousand gaps.
	Lulls int
	// Future contacts carry timestamps years ahead.
	Future int
	// Days, if not 0, gives most contacts a last message: half of them a
	// minute ago and before, the others around the edge of a window of so many days. Ties
	// share an exact last_message_at, too.
	Days int

	// What happens with each request, on average.
	Updates, Creates, Deletes float64
	Silent                    float64 // updates that leave updated_at alone
	// Messages come to contacts, and move last_message_at. Whether one moves
	// updated_at too is up to Touch.
	Messages float64
	Touch    bool
	// Bulk is the chance that a request meets a bulk update (or creation, or,
	// with Days, message) of TieSize contacts at one timestamp.
	Bulk float64

	// Late is the share of writes that become visible later than their
	// timestamp, by up to LateBy.
	Late   float64
	LateBy time.Duration

	// Latency is the most that one request takes; the rows are read somewhere
	// within it, the Date is stamped at its end. 0: time stands still.
	Latency time.Duration

	TieOrder TieOrder
	Cap      int     // most rows on a page whatever the limit; 0: none
	Short    float64 // chance that a page is cut anywhere after its first row
	Long     float64 // chance that a page exceeds the limit
	Disorder float64 // chance that a request forgets the order, and the page shows it
	// Stale is the chance that a page is from a cache, up to five requests old;
	// its Date then is, by chance, the old one or a new one. AgeHidden leaves
	// the Age header out of those with the old Date.
	Stale     float64
	AgeHidden bool
	NoDate    bool

	// Skews of the clock behind the timestamps, behind Date, and of ours.
	DBSkew, DateSkew, LocalSkew time.Duration

	// FailAfter makes every request after so many fail. 0: never.
	FailAfter int
}
