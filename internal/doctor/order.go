package doctor

import (
	"context"
	"fmt"
	"slices"

	"github.com/sluice-etl/sluice/extract"
)

// enough is how many distinct times in order are proof of an order: chance
// would do it once in 120.
const enough = 5

// orderBreak is the first place where a page leaves an order; at is -1 for none.
type orderBreak struct {
	at          int
	time, after int64
}

// checkOrder looks for the first row out of the order of c.
func (p *page) checkOrder(c column, down bool) orderBreak {
	var last int64
	some := false
	for i, r := range p.rows {
		s := c.of(r)
		if !s.ok {
			continue
		}
		if some && (s.us < last && !down || s.us > last && down) {
			return orderBreak{i, s.us, last}
		}
		last, some = s.us, true
	}
	return orderBreak{at: -1}
}

func (p *page) distinct(c column) int {
	times := p.times(c)
	slices.Sort(times)
	return len(slices.Compact(times))
}

func direction(down bool) string {
	if down {
		return "descending"
	}
	return "ascending"
}

// actual names the order that p is in, if it is any that can be told.
func (p *page) actual() string {
	for _, c := range []column{byUpdated(), byCreated(), byMessage()} {
		for _, down := range []bool{false, true} {
			if p.distinct(c) >= enough && p.checkOrder(c, down).at < 0 {
				return direction(down) + " by " + c.name
			}
		}
	}
	return "in no order that can be told"
}

// verdict sums up the order of pages of one kind.
func verdict(pages []*page, c column, down bool) (status Status, found string) {
	rows, most, broken := 0, 0, 0
	var worst *page
	for _, p := range pages {
		rows += len(p.rows)
		most = max(most, p.distinct(c))
		if p.checkOrder(c, down).at >= 0 {
			broken++
			if worst == nil {
				worst = p
			}
		}
	}
	on := contacts(rows) + " on " + plural(len(pages), "page", "pages")
	switch {
	case broken > 0:
		b := worst.checkOrder(c, down)
		found = fmt.Sprintf("Not %s by %s: on %d of %s a contact is out of order, first in row %d of %s (%s after %s). That page is %s.",
			direction(down), c.name, broken, plural(len(pages), "page", "pages"), b.at, worst.request, stampText(b.time), stampText(b.after), worst.actual())
		return Problem, found
	case most < enough:
		return Unknown, fmt.Sprintf("%s with no more than %s of %s: too few to tell an order.", on, plural(most, "distinct time", "distinct times"), c.name)
	default:
		return OK, fmt.Sprintf("%s, %s by %s throughout.", on, direction(down), c.name)
	}
}

// of returns the pages so far that asked by one time alone.
func (e *exam) of(is func(extract.Query) bool) []*page {
	var out []*page
	for _, p := range e.pages {
		if len(p.query.Extra) == 0 && is(p.query) {
			out = append(out, p)
		}
	}
	return out
}

func onlyUpdated(q extract.Query) bool {
	return q.UpdatedAfter != nil && q.CreatedAfter == nil && q.Days == 0
}

func onlyCreated(q extract.Query) bool {
	return q.CreatedAfter != nil && q.UpdatedAfter == nil && q.Days == 0
}

const walkStops = "Sluice takes no mark from a page out of order, asks for it again and then stops with an error: it cannot export from this endpoint as it is. Ask the vendor."

// inOrder returns p, or a repeat of it where it is out of order: rows may have
// moved while it was read.
func (e *exam) inOrder(ctx context.Context, p *page, c column) (*page, error) {
	if p.checkOrder(c, false).at < 0 {
		return p, nil
	}
	again, err := e.ask(ctx, p.query)
	if err != nil {
		return nil, err
	}
	return again, nil
}

func (e *exam) checkOrderUpdated(ctx context.Context) (finding, error) {
	p, err := e.inOrder(ctx, e.first, byUpdated())
	if err != nil {
		return finding{}, err
	}
	e.first = p
	status, found := verdict(e.of(onlyUpdated), byUpdated(), false)
	f := e.judgeOrder(p, byUpdated(), status, found)
	e.disordered = f.status == Problem
	return f, nil
}

func (e *exam) checkOrderCreated(ctx context.Context) (finding, error) {
	p, err := e.ask(ctx, extract.Query{CreatedAfter: at(0), Limit: e.limit})
	if err != nil {
		return finding{}, err
	}
	if p, err = e.inOrder(ctx, p, byCreated()); err != nil {
		return finding{}, err
	}
	e.created = p
	status, found := verdict(e.of(onlyCreated), byCreated(), false)
	return e.judgeOrder(p, byCreated(), status, found), nil
}

// judgeOrder weighs a disorder that was gone when the page was asked for again.
func (e *exam) judgeOrder(last *page, c column, status Status, found string) finding {
	switch {
	case status != Problem:
		return finding{status, found, ""}
	case last.checkOrder(c, false).at < 0 && last.distinct(c) >= enough:
		return finding{Note, found + " Asked for again it was in order.", "Sluice takes no mark from a page out of order and asks for it again."}
	default:
		return finding{Problem, found, walkStops}
	}
}

// windows are the values of days tried until one brings enough contacts.
var windows = [...]int{1, 7, 30, 365}

// enoughActive is how many contacts a window needs.
const enoughActive = 50

func (e *exam) checkOrderDays(ctx context.Context) (finding, error) {
	for _, days := range windows {
		p, err := e.ask(ctx, extract.Query{Days: days, Limit: e.limit})
		if words, bad := refused(err); bad {
			e.aloneWrong = fmt.Sprintf("days=%d is refused", days)
			return finding{Note, fmt.Sprintf("days=%d alone is refused%s.", days, quote(words)), "sync: recent with combine_filters: false asks so; nothing else does."}, nil
		}
		if err != nil {
			return finding{}, err
		}
		if e.active == nil || len(p.rows) > 0 {
			e.active = p
		}
		if len(p.rows) >= enoughActive {
			break
		}
	}
	p := e.active
	if len(p.rows) == 0 {
		return unknown("No contact has had a message within 365 days."), nil
	}
	status, found := verdict([]*page{p}, byMessage(), true)
	f := finding{status, fmt.Sprintf("days=%d: %s", p.query.Days, found), ""}
	if status == Problem {
		e.aloneWrong = "days is not in order of last_message_at"
		f.status, f.means = Note, "sync: recent with combine_filters: false depends on it; nothing else does."
	}
	if out, oldest := p.outside(p); out > 0 {
		f.status = Note
		f.found += fmt.Sprintf(" %s on it had no message within %s (the oldest is from %s).", plural(out, "contact", "contacts"), plural(p.query.Days, "day", "days"), oldest)
		f.means = "The window of days is not kept: sync: recent would export more than it says."
		e.aloneWrong = "days does not keep its window"
	}
	return f, nil
}

const dayMicros = int64(24 * 60 * 60 * 1_000_000)

// outside counts the rows without a message within the days of q's query. A
// day more is allowed: the vendor may count calendar days.
func (p *page) outside(q *page) (n int, oldest string) {
	least := int64(0)
	for _, r := range p.rows {
		if q.within(r) {
			continue
		}
		n++
		switch {
		case !r.message.ok:
			oldest = "never"
		case oldest != "never" && (oldest == "" || r.message.us < least):
			least, oldest = r.message.us, stampText(r.message.us)
		}
	}
	return n, oldest
}

// within reports whether r had a message within the days that p asked for.
func (p *page) within(r row) bool {
	return r.message.ok && r.message.us >= now(p)-int64(p.query.Days+1)*dayMicros
}
