package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/extract"
)

// condition is one filter of a combination: which contacts it must keep out
// and which it must let through. What is near its border is neither.
type condition struct {
	param       string
	out, inside func(row) bool
}

// border is how near a time a filter may be cut without counting as wrong.
const border = int64(1_000_000) // microseconds

func after(param string, c column, us int64) condition {
	return condition{
		param:  param,
		out:    func(r row) bool { s := c.of(r); return s.ok && s.us < us-border },
		inside: func(r row) bool { s := c.of(r); return s.ok && s.us > us+border },
	}
}

func lastDays(p *page) condition {
	const margin = 60 * border
	least := now(p) - int64(p.query.Days)*dayMicros
	return condition{
		param:  "days",
		out:    func(r row) bool { return !p.within(r) },
		inside: func(r row) bool { return r.message.ok && r.message.us > least+margin },
	}
}

// combination is what pages asked for with two filters show.
type combination struct {
	asked    []string
	rows     int
	violated map[string]int
	proven   map[string]bool // a contact is known that the filter alone kept out
	expected int
	missing  int
	ordered  bool
	order    column
	disorder *page
}

// look adds a page.
func (k *combination) look(e *exam, p *page, conditions ...condition) {
	if k.violated == nil {
		k.violated, k.proven = map[string]int{}, map[string]bool{}
		for _, c := range conditions {
			k.asked = append(k.asked, c.param)
		}
	}
	k.rows += len(p.rows)
	ids, covers := p.ids(), e.covers(p, k.order)
	for _, r := range p.rows {
		for _, c := range conditions {
			if c.out(r) {
				k.violated[c.param]++
			}
		}
	}
	for id, r := range e.known {
		if !covers(r) {
			continue
		}
		outside := slices.IndexFunc(conditions, func(c condition) bool { return c.out(r) })
		alone := outside >= 0 && !slices.ContainsFunc(conditions, func(c condition) bool {
			return c.param != conditions[outside].param && !c.inside(r)
		})
		if alone {
			k.proven[conditions[outside].param] = true
		}
		if !slices.ContainsFunc(conditions, func(c condition) bool { return !c.inside(r) }) {
			k.expected++
			if _, there := ids[id]; !there {
				k.missing++
			}
		}
	}
	switch {
	case p.checkOrder(k.order, false).at >= 0:
		k.disorder = p
	case p.distinct(k.order) >= enough:
		k.ordered = true
	}
}

// covers returns whether a contact that passes p's filters would stand on p,
// which is in order of c, and not on a later page.
func (e *exam) covers(p *page, c column) func(row) bool {
	if !e.full(p) {
		return func(row) bool { return true }
	}
	times := p.times(c)
	return func(r row) bool {
		s := c.of(r)
		return len(times) > 0 && s.ok && s.us < times[len(times)-1]
	}
}

// fewMissing is the share of expected contacts, one in so many, that may have
// moved while the checks ran.
const fewMissing = 50

// finding sums k up; works and fails say what it means if the filters combine,
// and if they do not.
func (k *combination) finding(works string, fails func() string) finding {
	var faults []string
	for _, param := range k.asked {
		if n := k.violated[param]; n > 0 {
			faults = append(faults, fmt.Sprintf("%s is not kept: %d of %s should not be there.", param, n, contacts(k.rows)))
		}
	}
	if k.disorder != nil {
		faults = append(faults, fmt.Sprintf("The order is not ascending by %s, as documented, but %s.", k.order.name, k.disorder.actual()))
	}
	if k.missing > k.expected/fewMissing {
		faults = append(faults, fmt.Sprintf("%d of %d contacts known to match are missing.", k.missing, k.expected))
	}
	if len(faults) > 0 {
		return finding{Note, strings.Join(faults, " "), fails()}
	}
	if k.rows == 0 {
		return unknown("No contact matches both.")
	}
	for _, param := range k.asked {
		if !k.proven[param] {
			return unknown(fmt.Sprintf("%s, none of them wrong, but no contact is known that %s alone keeps out: it may be ignored.", contacts(k.rows), param))
		}
	}
	found := fmt.Sprintf("Both narrow the result (%s)", contacts(k.rows))
	if !k.ordered {
		return finding{Unknown, found + "; too few distinct times to tell the order.", ""}
	}
	return finding{OK, found + ", ascending by " + k.order.name + ".", works}
}

const (
	keyCombine    = "sources.*.combine_filters"
	noActive      = "No page of contacts with recent messages to compare with."
	noFirst       = "The source has too few contacts to compare."
	restsOnUpdate = "It rests on the order with updated_after, which is not kept."
)

const recentWorks = "sync: recent can rest on it; nothing to set."

// recentFails says what sync: recent does where days does not combine.
func (e *exam) recentFails() string {
	const incremental = " sync: incremental does not use it."
	switch {
	case e.aloneWrong != "":
		return "sync: recent cannot be used here: by itself, which is the other way, " + e.aloneWrong + "." + incremental
	case e.o.DaysAlone:
		return "combine_filters: false is right: sync: recent pages days by itself, newest message first." + incremental
	default:
		e.suggest(keyCombine, "combine_filters: false", "days does not combine with created_after and updated_after, so sync: recent has to page it by itself")
		return "Set combine_filters: false: sync: recent then pages days by itself, newest message first." + incremental
	}
}

// checkCreatedDays asks twice: from the start, where old contacts show whether
// days holds, and from the middle, where they show whether created_after does.
func (e *exam) checkCreatedDays(ctx context.Context) (finding, error) {
	if e.active == nil || len(e.active.rows) == 0 {
		return unknown(noActive), nil
	}
	k := combination{order: byCreated()}
	for _, from := range []int64{0, quarter(e.active.times(byCreated()), 2)} {
		p, err := e.ask(ctx, extract.Query{CreatedAfter: at(from), Days: e.active.query.Days, Limit: e.limit})
		if words, bad := refused(err); bad {
			return e.refusedTogether(words), nil
		}
		if err != nil {
			return finding{}, err
		}
		k.look(e, p, after("created_after", byCreated(), from), lastDays(p))
	}
	f := k.finding(recentWorks, e.recentFails)
	e.combines = f.status == OK
	return f, nil
}

func (e *exam) refusedTogether(words string) finding {
	return finding{Note, "The two together are refused" + quote(words) + ".", e.recentFails()}
}

func (e *exam) checkUpdatedDays(ctx context.Context) (finding, error) {
	if e.active == nil || len(e.active.rows) == 0 {
		return unknown(noActive), nil
	}
	k := combination{order: byUpdated()}
	from := quarter(e.active.times(byUpdated()), 2)
	p, err := e.ask(ctx, extract.Query{UpdatedAfter: at(from), Days: e.active.query.Days, Limit: e.limit})
	if words, bad := refused(err); bad {
		return e.refusedTogether(words), nil
	}
	if err != nil {
		return finding{}, err
	}
	k.look(e, p, after("updated_after", byUpdated(), from), lastDays(p))
	f := k.finding(recentWorks, e.recentFails)
	if f.status == OK && e.combines && e.o.DaysAlone {
		f.means = "combine_filters: false is not needed: sync: recent can rest on it."
		e.suggest(keyCombine, "combine_filters: true", "days combines with created_after and updated_after")
	}
	return f, nil
}

func (e *exam) checkCreatedUpdated(ctx context.Context) (finding, error) {
	if len(e.first.rows) < 2 {
		return unknown(noFirst), nil
	}
	k := combination{order: byUpdated()}
	created, updated := e.first.apart()
	p, err := e.ask(ctx, extract.Query{CreatedAfter: at(created), UpdatedAfter: at(updated), Limit: e.limit})
	const unused = "Sluice does not combine the two; nothing to set."
	if words, bad := refused(err); bad {
		return finding{Note, "The two together are refused" + quote(words) + ".", unused}, nil
	}
	if err != nil {
		return finding{}, err
	}
	k.look(e, p, after("created_after", byCreated(), created), after("updated_after", byUpdated(), updated))
	return k.finding("", func() string { return unused }), nil
}

// quarter is the n-th quartile, cut to a whole millisecond; 0 of no times.
func quarter(times []int64, n int) int64 {
	if len(times) == 0 {
		return 0
	}
	slices.Sort(times)
	t := times[(len(times)-1)*n/4]
	return t - t%milli
}

// apart chooses two times such that as many contacts as possible are kept out
// by the one alone, and by the other alone.
func (p *page) apart() (created, updated int64) {
	best := -1
	for c := 1; c <= 3; c++ {
		for u := 1; u <= 3; u++ {
			from, to := quarter(p.times(byCreated()), c), quarter(p.times(byUpdated()), u)
			older, newer := 0, 0
			for _, r := range p.rows {
				switch {
				case r.created.us < from && r.updated.us > to:
					older++
				case r.created.us > from && r.updated.us < to:
					newer++
				}
			}
			if n := min(older, newer); n > best {
				best, created, updated = n, from, to
			}
		}
	}
	return created, updated
}
