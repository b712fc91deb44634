package extract

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/sluice-etl/sluice/internal/clock"
)

// Key is the timestamp a walk goes along.
type Key int

// The keys.
const (
	// ByUpdated walks updated_at: rows move to the end while the walk reads.
	ByUpdated Key = iota
	// ByCreated walks created_at: nothing moves, rows only come and go.
	ByCreated
	// byMessage goes down last_message_at, newest first; see Recent.
	byMessage
)

// String returns the column's name.
func (k Key) String() string {
	switch k {
	case ByCreated:
		return "created_at"
	case byMessage:
		return "last_message_at"
	default:
		return "updated_at"
	}
}

// Pager gives pages; *Client is one.
type Pager interface {
	// Page asks for one page and hands its body to decode, once for each
	// attempt that brought a body. It blocks until decode has returned nil, or
	// the attempts are used up, or ctx ends.
	Page(ctx context.Context, q Query, decode func(body []byte, info PageInfo) error) (Response, error)
}

// Walk reads all contacts after a mark, in order of one timestamp, and skips
// none while they change (DESIGN section 3). A Walk is used once, from one
// goroutine.
type Walk struct {
	Client Pager
	Key    Key
	// From is the mark to start after, microseconds since 1970 UTC. Everything
	// printed at or before it is taken as delivered. For a window that starts
	// at t, From is t less one millisecond.
	From int64
	// Until ends the walk: rows printed at or after it belong to the next
	// window and are not staged. Microseconds since 1970 UTC, a whole
	// millisecond. 0: no bound.
	Until int64
	// MaxPages ends the walk after that many accepted pages, with EndOfSlice,
	// at the first page after which its mark has moved; Outcome.Progress says
	// where. Rows of that page printed after the mark are left for the walk
	// that goes on there. 0: no bound.
	MaxPages int
	// StopAt is the local time at which the run started. The walk ends when
	// its mark has reached it, however many updates follow; where the source
	// sends its own Date, the first one is taken instead. Zero: the time at
	// which Run is called.
	StopAt time.Time
	// Lookback is how long after its timestamp a row may become visible, clock
	// skew included.
	Lookback time.Duration
	// PageSize is the number of rows asked for, 1 to 1000. 0: 1000.
	PageSize int
	// Days and Filters narrow every request. Contacts come into a window of
	// days by a message, so a cache's answer about one is asked for again.
	Days    int
	Filters url.Values
	Clock   clock.Clock // nil: the machine's
	// Seed makes the steps of statistical passes reproducible. They vary so
	// that a source that repeats itself cannot hide the same rows every time.
	Seed uint64

	// What a Scan knows of a walk that is one of its slices.
	after  bool                        // rows printed at or before From are delivered for certain, and skipped
	stopAt int64                       // the source's time at which the scan ends; 0: of the first answer
	yield  func(mark, rows int64) bool // asked after each page; true ends the slice. nil: never

	without rule // rules taken out, by the simulation alone
}

// EndReason says why a walk ended without an error.
type EndReason string

// The reasons.
const (
	EndOfRows    EndReason = "end_of_rows"   // the source has no row after the last delivered
	EndAtStop    EndReason = "start_of_run"  // the mark has reached the start of the run
	EndAtUntil   EndReason = "end_of_window" // the mark has reached Until
	EndOfSlice   EndReason = "end_of_slice"  // MaxPages pages are read
	EndUnreached EndReason = ""              // the walk failed or was stopped
)

// Outcome is what a walk did. It is also filled in when the walk fails.
type Outcome struct {
	// Progress is how far the walk came. A later walk over the same rows
	// starts at Progress.Final, never at Progress.Mark.
	Progress
	// Pages, Requests, Rows and Duplicates count pages accepted, attempts
	// sent, rows staged, and rows not staged as they had been, byte for byte.
	Pages, Requests, Rows, Duplicates int64
	// Discarded counts pages that were read and not accepted: probes past the
	// end, pages without an anchor, pages out of order.
	Discarded int64
	// OutOfOrder counts pages refused for their order.
	OutOfOrder int64
	// Undated counts pages whose finality had to come from printed times, as
	// they had no Date or a cache's.
	Undated int64
	// Invalid counts rows staged without a usable id or timestamp.
	Invalid int64
	// Ties lists the timestamps that took more than one page, in order.
	Ties []TieBlock
	// FirstDate and LastDate are the source's clock at the first and last page;
	// zero where it does not tell.
	FirstDate, LastDate time.Time
	EndReason           EndReason
	// Assumptions are those in force, as sentences for the coverage record.
	Assumptions []string
}

// Add makes o the outcome of both walks: counts add up, times span both, and
// every assumption stands. Progress and EndReason stay, as walks beside each
// other have no common one.
func (o *Outcome) Add(other Outcome) {
	o.Pages += other.Pages
	o.Requests += other.Requests
	o.Rows += other.Rows
	o.Duplicates += other.Duplicates
	o.Discarded += other.Discarded
	o.OutOfOrder += other.OutOfOrder
	o.Undated += other.Undated
	o.Invalid += other.Invalid
	o.Ties = append(o.Ties, other.Ties...)
	for _, a := range other.Assumptions {
		if !slices.Contains(o.Assumptions, a) {
			o.Assumptions = append(o.Assumptions, a)
		}
	}
	if !other.FirstDate.IsZero() && (o.FirstDate.IsZero() || other.FirstDate.Before(o.FirstDate)) {
		o.FirstDate = other.FirstDate
	}
	if other.LastDate.After(o.LastDate) {
		o.LastDate = other.LastDate
	}
	if other.ReadSince != 0 && (o.ReadSince == 0 || other.ReadSince < o.ReadSince) {
		o.ReadSince = other.ReadSince
	}
}

// TieBlock is a timestamp, or a few neighbouring milliseconds, that a page
// could not hold, drained by offset.
type TieBlock struct {
	At       int64 `json:"at"`     // the block's mark: it holds the rows printed right after, microseconds since 1970 UTC
	Size     int64 `json:"size"`   // distinct contacts in it
	Passes   int64 `json:"passes"` // times it was read from its start
	Requests int64 `json:"requests"`
	// Statistical says that completeness rests on repetition, not on anchors.
	Statistical bool `json:"statistical"`
	// Why names the reason where it is statistical.
	Why string `json:"why,omitempty"`
}

// tieRecord is a TieBlock as it is written, At as other times are.
type tieRecord struct {
	At json.RawMessage `json:"at"`
	tieFields
}

type tieFields TieBlock // without methods; its At is hidden by the record's

// MarshalJSON writes At as RFC 3339 text.
func (t TieBlock) MarshalJSON() ([]byte, error) {
	return json.Marshal(tieRecord{At: json.RawMessage(strconv.Quote(FormatTime(t.At))), tieFields: tieFields(t)})
}

// UnmarshalJSON reads At as text, or as the microseconds that it was once
// written as.
func (t *TieBlock) UnmarshalJSON(data []byte) error {
	var r tieRecord
	if err := json.Unmarshal(data, &r); err != nil {
		return err
	}
	*t = TieBlock(r.tieFields)
	if json.Unmarshal(r.At, &t.At) == nil {
		return nil
	}
	var at time.Time
	if err := json.Unmarshal(r.At, &at); err != nil {
		return err
	}
	t.At = at.UnixMicro()
	return nil
}

// Run walks until the end, an error, or the end of ctx. Pages go to sink from
// this goroutine. The Outcome is valid in every case.
func (w *Walk) Run(ctx context.Context, sink Sink) (Outcome, error) {
	r, err := w.newRunner(sink)
	if err != nil {
		return Outcome{Progress: Progress{Mark: w.From, Final: w.From}}, err
	}
	err = r.run(ctx)
	return r.out, err
}

// assumptions states what the promise of this walk rests on.
func (w *Walk) assumptions() []string {
	a := []string{
		"created_at and id of a contact never change",
		"a row is visible within " + w.Lookback.String() + " of its " + w.Key.String() + ", clock skew included",
		"ties keep their order between two requests, except where a block is recorded as statistical",
	}
	if w.Key == ByUpdated {
		a = append(a, "updated_at moves forward on every exported change")
	}
	return a
}
