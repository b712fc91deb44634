package doctor

import (
	"context"
	"fmt"
	"slices"

	"github.com/sluice-etl/sluice/extract"
)

const (
	samples = 3 // pages looked at for ties at most, besides those that are there
	repeats = 2 // of the page with the largest tie
)

// tie is a run of rows on a page that print the same time.
type tie struct {
	page     *page
	col      column
	from, to int // rows
	at       int64
	open     bool // it reaches the end of a page that is full: there may be more
}

func (t tie) size() int { return t.to - t.from }

// ties lists the runs of a page.
func (e *exam) ties(p *page, c column) []tie {
	var out []tie
	for i := 0; i < len(p.rows); {
		s := c.of(p.rows[i])
		j := i + 1
		for j < len(p.rows) && s.ok && c.of(p.rows[j]).ok && c.of(p.rows[j]).us == s.us {
			j++
		}
		if s.ok && j-i > 1 {
			out = append(out, tie{page: p, col: c, from: i, to: j, at: s.us, open: j == len(p.rows) && e.full(p)})
		}
		i = j
	}
	return out
}

// largest is the largest tie of all pages so far.
func (e *exam) largest() tie {
	var best tie
	for _, p := range e.pages {
		if len(p.query.Extra) > 0 || p.query.Days > 0 {
			continue
		}
		c := byUpdated()
		if onlyCreated(p.query) {
			c = byCreated()
		}
		if p.checkOrder(c, false).at >= 0 {
			continue
		}
		for _, t := range e.ties(p, c) {
			if t.size() > best.size() {
				best = t
			}
		}
	}
	return best
}

// checkTies looks for contacts with one timestamp and asks for their page
// again: what the source does with their order decides how safely a tie larger
// than a page can be read.
func (e *exam) checkTies(ctx context.Context) (finding, error) {
	if e.disordered {
		return unknown(restsOnUpdate), nil
	}
	if err := e.sample(ctx); err != nil {
		return finding{}, err
	}
	t := e.largest()
	if t.size() == 0 {
		return unknown(fmt.Sprintf("No two of %s on %s share a timestamp, though there may be ties elsewhere: their order cannot be seen here. Sluice reads any by anchored offsets, or records that it could not.",
			contacts(e.seen()), plural(len(e.pages), "page", "pages"))), nil
	}
	moved, groups := 0, e.ties(t.page, t.col)
	for range repeats {
		p, err := e.ask(ctx, t.page.query)
		if err != nil {
			return finding{}, err
		}
		n := 0
		for _, g := range groups {
			if !sameOrder(t.page.rows[g.from:g.to], p.rows) {
				n++
			}
		}
		moved = max(moved, n)
	}
	atLeast := ""
	if t.open {
		atLeast = "at least "
	}
	found := fmt.Sprintf("The largest tie seen is %s%s with %s %s (%s on that page).",
		atLeast, contacts(t.size()), t.col.name, stampText(t.at), plural(len(groups), "tie", "ties"))
	if moved > 0 {
		return finding{
			Note, found + fmt.Sprintf(" Asked again, %s came in another order.", plural(moved, "tie", "ties")),
			"A tie larger than a page can be read only by repetition, and is recorded as drained statistically. A page_size larger than the largest tie avoids it.",
		}, nil
	}
	found += fmt.Sprintf(" Their order was the same in %d repeats.", repeats)
	if t.size() == 2 && len(groups) == 1 {
		return unknown(found + " Two contacts would keep it by chance one time in four."), nil
	}
	return finding{OK, found, "Ties larger than a page can be read by anchored offsets."}, nil
}

// seen is how many rows the pages have, those that several have counted anew.
func (e *exam) seen() int {
	n := 0
	for _, p := range e.pages {
		n += len(p.rows)
	}
	return n
}

// sample looks at a few more places between the first pages and now: bulk
// updates and imports leave their ties anywhere.
func (e *exam) sample(ctx context.Context) error {
	to := now(e.first)
	if times := e.first.times(byUpdated()); e.full(e.first) && len(times) > 0 && times[len(times)-1] < to {
		from := times[len(times)-1]
		for _, us := range []int64{from + (to-from)/3, from + (to-from)/3*2} {
			if _, err := e.ask(ctx, extract.Query{UpdatedAfter: at(us - us%milli), Limit: e.limit}); err != nil {
				return err
			}
		}
	}
	if e.created == nil || !e.full(e.created) {
		return nil
	}
	if times := e.created.times(byCreated()); len(times) > 0 && times[len(times)-1] < to {
		us := times[len(times)-1]/2 + to/2
		_, err := e.ask(ctx, extract.Query{CreatedAfter: at(us - us%milli), Limit: e.limit})
		return err
	}
	return nil
}

// sameOrder reports whether those of the tied rows that are among again stand
// there in the same order.
func sameOrder(tied, again []row) bool {
	place := make(map[string]int, len(again))
	for i, r := range again {
		place[r.id] = i
	}
	var places []int
	for _, r := range tied {
		if i, there := place[r.id]; there {
			places = append(places, i)
		}
	}
	return slices.IsSorted(places)
}
