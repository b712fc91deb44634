package extracttest

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sluice-etl/sluice/extract"
)

// ErrKilled is what requests return after Options.FailAfter.
var ErrKilled = errors.New("killed here")

// ErrEndless is what requests return when Source.Budget is used up.
var ErrEndless = errors.New("too many requests")

// Source is a model of the endpoint. It is an extract.Pager and the clock of
// the one who reads it.
type Source struct {
	Options
	Requests int // since the last Revive
	Budget   int // requests that may still come, 100,000 at first; then they fail with ErrEndless

	rng      *rand.Rand
	now      int64 // true time, nanoseconds since 1970
	contacts []*contact
	waiting  []*write // not visible yet, by due time
	history  [][]snap // for Stale
}

type contact struct {
	id      int
	created int64
	state   version
	visible bool
	locked  bool // a write waits to become visible
	deleted bool
	future  bool
}

// version is a contact between two writes.
type version struct {
	updated int64 // nanoseconds
	message int64 // nanoseconds; 0: none yet
	n       int   // writes that moved updated_at
	content int   // all writes
	place   uint64
}

type write struct {
	due int64
	c   *contact
	v   version
}

// snap is a row as it was when a request read it.
type snap struct {
	id      int
	created int64
	version
}

// Contact is the truth about one contact, for a judge.
type Contact struct {
	ID      int
	Created int64 // microseconds since 1970
	Updated int64 // microseconds since 1970, of the newest write, visible or not
	N       int   // number of that write, counting those that move updated_at
	Visible bool  // that write can be read
}

// New returns a source at 2026-09-01, with its contacts in the past.
func New(o Options) *Source {
	if o.Gap == 0 {
		o.Gap = time.Second
	}
	if o.TieSize == 0 {
		o.TieSize = 1
	}
	s := &Source{Options: o, Budget: 100_000, rng: rand.New(rand.NewPCG(o.Seed, 1))}
	s.now = time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC).UnixNano()
	lull := int64(o.Gap) * 1000
	span := int64(o.Gap)*int64(o.Contacts+2)*2 + lull*int64(o.Lulls)
	created, updated := s.now-2*span, s.now-span
	for i := range o.Contacts {
		if i >= o.Ties || i%o.TieSize == 0 {
			created += s.gap()
			updated += s.gap()
			if o.Lulls > 0 && s.rng.IntN(max(1, o.Contacts/o.Lulls)) == 0 && created+lull < s.now-span {
				created += lull
			}
		}
		c := s.add(created)
		c.state.updated, c.visible = updated, true
	}
	s.rng.Shuffle(len(s.contacts), func(i, j int) { // created and updated order differ
		a, b := s.contacts[i], s.contacts[j]
		a.state.updated, b.state.updated = b.state.updated, a.state.updated
	})
	if o.Days > 0 {
		s.sendMessages()
	}
	for range o.Future {
		c := s.add(s.now + int64(time.Duration(1+s.rng.IntN(50))*24*365*time.Hour))
		c.state.updated, c.visible, c.future = c.created, true, true
		if o.Days > 0 {
			c.state.message = c.created
		}
	}
	return s
}

// sendMessages gives the initial contacts their last messages, in an order of
// their own.
func (s *Source) sendMessages() {
	order := s.rng.Perm(len(s.contacts))
	span := int64(s.Gap) * int64(len(order)+2)
	at := s.now - int64(s.Days)*day - span/3 // most of the first half leaves the window, or has left it
	for i, k := range order {
		if i == len(order)/2 {
			at = max(at, s.now-span-int64(time.Minute))
		}
		if i >= s.Ties || i%s.TieSize == 0 {
			at = min(at+s.gap(), s.now-int64(time.Minute))
		}
		if s.rng.IntN(12) > 0 {
			s.contacts[k].state.message = at
		}
	}
}

const day = int64(24 * time.Hour)

// gap is the distance to the next initial timestamp: often within the same
// printed millisecond or the next.
func (s *Source) gap() int64 {
	switch s.rng.IntN(8) {
	case 0:
		return 0
	case 1:
		return s.rng.Int64N(900)
	case 2:
		return s.rng.Int64N(900_000)
	case 3:
		return s.rng.Int64N(3_000_000)
	default:
		return s.rng.Int64N(2 * int64(s.Gap))
	}
}

func (s *Source) add(created int64) *contact {
	c := &contact{id: len(s.contacts), created: created}
	c.state = version{updated: created, n: 1, content: 1, place: s.rng.Uint64()}
	s.contacts = append(s.contacts, c)
	return c
}

// Now is the reader's clock.
func (s *Source) Now() time.Time { return time.Unix(0, s.now+int64(s.LocalSkew)).UTC() }

// Revive lets requests succeed again after a kill, for the next n; 0: for ever.
func (s *Source) Revive(n int) { s.Requests, s.FailAfter = 0, n }

// Pass lets time go by with as much happening as with n requests.
func (s *Source) Pass(n int, each time.Duration) {
	for range n {
		s.spend(each)
		s.happen()
	}
}

// Settle ends all change, and lets everything become visible and caches expire.
func (s *Source) Settle(wait time.Duration) {
	s.Updates, s.Creates, s.Deletes, s.Silent, s.Bulk, s.Stale, s.Messages = 0, 0, 0, 0, 0, 0, 0
	s.spend(wait)
}

// Contacts returns the truth, without what was deleted.
func (s *Source) Contacts() []Contact {
	var all []Contact
	for _, c := range s.contacts {
		if c.deleted {
			continue
		}
		v, visible := c.state, c.visible
		for _, w := range s.waiting {
			if w.c == c {
				v, visible = w.v, false
			}
		}
		all = append(all, Contact{ID: c.id, Created: micro(c.created), Updated: micro(v.updated), N: v.n, Visible: visible})
	}
	return all
}

// InWindow says whether a contact can be read now and has a message in a window
// of so many days: when that came, in microseconds since 1970, and which version
// of the contact it is, counting all writes.
func (s *Source) InWindow(id, days int) (message int64, content int, ok bool) {
	c := s.contacts[id]
	return micro(c.state.message), c.state.content, c.visible && !c.deleted && c.state.message > s.Edge(days, s.now)
}

// Len is the number of contacts that there are or were; their ids go from 0 on.
func (s *Source) Len() int { return len(s.contacts) }

func micro(ns int64) int64 { return time.Unix(0, ns).UnixMicro() }

// Page answers one request of the walk.
func (s *Source) Page(ctx context.Context, q extract.Query, decode func([]byte, extract.PageInfo) error) (extract.Response, error) {
	if err := ctx.Err(); err != nil {
		return extract.Response{}, err
	}
	s.Requests++
	if s.Budget--; s.Budget < 0 {
		return extract.Response{Requests: 1}, ErrEndless
	}
	if s.FailAfter > 0 && s.Requests > s.FailAfter {
		return extract.Response{Requests: 1}, ErrKilled
	}
	s.happen()
	resp := extract.Response{SentAt: s.Now(), Requests: 1}
	before := time.Duration(0)
	if s.Latency > 0 {
		before = time.Duration(s.rng.Int64N(int64(s.Latency)))
		s.spend(before)
	}
	rows := s.snapshot()
	read := s.now
	if s.Latency > before {
		s.spend(time.Duration(s.rng.Int64N(int64(s.Latency - before))))
	}
	date := s.now
	if s.Stale > 0 {
		rows, read = s.stale(rows, read, &resp)
		if resp.Cached && s.rng.IntN(2) == 0 {
			date = read
			resp.Cached = !s.AgeHidden
		}
	}
	if !s.NoDate {
		resp.Date = time.Unix(0, date+int64(s.DateSkew)).UTC().Truncate(time.Second)
	}
	resp.ReceivedAt = s.Now()
	body := encode(s.choose(rows, q, read))
	return resp, decode(body, extract.PageInfo{ReceivedAt: resp.ReceivedAt, Request: "model?" + q.Values().Encode()})
}

// stale may replace the rows by older ones.
func (s *Source) stale(rows []snap, read int64, resp *extract.Response) ([]snap, int64) {
	// The time of a snapshot stands in its first row.
	s.history = append(s.history, append([]snap{{created: read}}, rows...))
	if len(s.history) > 6 {
		s.history = s.history[1:]
	}
	if s.rng.Float64() >= s.Stale {
		return rows, read
	}
	old := s.history[s.rng.IntN(len(s.history))]
	resp.Cached = true
	return slices.Clone(old[1:]), old[0].created
}

// snapshot returns the rows that can be read now.
func (s *Source) snapshot() []snap {
	rows := make([]snap, 0, len(s.contacts))
	for _, c := range s.contacts {
		if c.visible && !c.deleted {
			rows = append(rows, snap{c.id, c.created, c.state})
		}
	}
	return rows
}
