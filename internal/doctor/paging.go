package doctor

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/sluice-etl/sluice/extract"
)

const keyPageSize = "sources.*.page_size"

func (e *exam) capCost() int {
	if e.first != nil && (len(e.first.rows) == 0 || len(e.first.rows) >= e.limit) {
		return 0
	}
	return 2
}

// checkCap finds out how many rows a page has at most. A page shorter than its
// limit is capped if more rows follow it.
func (e *exam) checkCap(ctx context.Context) (finding, error) {
	n := len(e.first.rows)
	switch {
	case n == 0:
		return unknown("The source has no contacts."), nil
	case e.refusal != "":
		e.suggestPageSize(e.limit)
		return finding{
			Problem, fmt.Sprintf("limit=%d is refused%s; limit=%d brings %s.", fullLimit, quote(e.refusal), e.limit, contacts(n)),
			fmt.Sprintf("Set page_size to a limit that is taken, such as %d.", e.limit),
		}, nil
	case n > e.limit:
		return finding{Note, fmt.Sprintf("limit=%d brings %s: more than was asked for.", e.limit, contacts(n)), "Sluice takes pages of any length; nothing to set."}, nil
	case n == e.limit:
		return finding{OK, fmt.Sprintf("limit=%d brings %s.", e.limit, contacts(n)), ""}, nil
	}
	next, err := e.ask(ctx, extract.Query{UpdatedAfter: at(0), Limit: e.limit, Offset: n})
	if err != nil {
		return finding{}, err
	}
	if len(next.rows) == 0 {
		f := finding{Unknown, fmt.Sprintf("limit=%d brings %s, which is all there are: a cap above that cannot be seen.", e.limit, contacts(n)), ""}
		if n >= e.o.PageSize {
			f.status, f.means = OK, fmt.Sprintf("Pages of page_size (%d) come whole.", e.o.PageSize)
		}
		return f, nil
	}
	if e.again, err = e.ask(ctx, e.first.query); err != nil {
		return finding{}, err
	}
	if m := len(e.again.rows); m != n {
		return finding{
			Note, fmt.Sprintf("limit=%d brings %d and, asked again, %d contacts, while more follow.", e.limit, n, m),
			"Pages come short at times. Sluice never takes a short page for the end; nothing to set.",
		}, nil
	}
	e.capped = n
	f := finding{
		Note, fmt.Sprintf("A page has at most %s: limit=%d brings %d, and more follow.", contacts(n), e.limit, n),
		"Sluice never takes a short page for the end, so nothing is lost.",
	}
	if e.o.PageSize > n {
		f.means += fmt.Sprintf(" Set page_size: %d, so that requests and estimates are true.", n)
		e.suggestPageSize(n)
	}
	return f, nil
}

func (e *exam) suggestPageSize(n int) {
	if e.o.PageSize > n {
		e.suggest(keyPageSize, "page_size: "+strconv.Itoa(n), fmt.Sprintf("the endpoint gives %d contacts a page at most", n))
	}
}

// checkOffset asks for a few rows from the middle of the first page.
func (e *exam) checkOffset(ctx context.Context) (finding, error) {
	n := min(10, len(e.first.rows)/2)
	if n == 0 {
		return unknown(fmt.Sprintf("The source has %s: too few to tell.", contacts(len(e.first.rows)))), nil
	}
	p, err := e.ask(ctx, extract.Query{UpdatedAfter: at(0), Limit: n, Offset: n})
	if err != nil {
		return finding{}, err
	}
	asked := fmt.Sprintf("limit=%d&offset=%d brings %s", n, n, contacts(len(p.rows)))
	ids, times := idList, func(rows []row) []int64 { return (&page{rows: rows}).times(byUpdated()) }
	want, from := e.first.rows[n:2*n], e.first.rows[:n]
	got := p.rows[:min(n, len(p.rows))]
	var f finding
	switch {
	case slices.Equal(ids(got), ids(want)):
		f = finding{OK, asked + ", the ones that follow the first " + strconv.Itoa(n) + ".", ""}
	case slices.Equal(ids(got), ids(from)):
		f = finding{Problem, asked + " from the start: offset is ignored.", "Sluice pages by offset where more contacts share a timestamp than a page holds; there it would not end. Ask the vendor."}
	case slices.Equal(times(got), times(want)) && !slices.Equal(times(want), times(from)):
		f = finding{OK, asked + " with the times expected, though not the same contacts: ties move.", ""}
	default:
		f = finding{Unknown, asked + ", others than on the first page: contacts moved meanwhile, or the order is not kept.", ""}
	}
	if len(p.rows) > n && f.status != Problem {
		f.status = Note
		f.found += " Pages are longer than asked for."
		f.means = "Sluice takes pages of any length; nothing to set."
	}
	return f, nil
}

func idList(rows []row) []string {
	out := make([]string, len(rows))
	for i, r := range rows {
		out[i] = r.id
	}
	return out
}

// documentedLimit is the page size where none is asked for, by the vendor's page.
const documentedLimit = 100

func (e *exam) checkDefaultLimit(ctx context.Context) (finding, error) {
	p, err := e.ask(ctx, extract.Query{UpdatedAfter: at(0)})
	if err != nil {
		return finding{}, err
	}
	n := len(p.rows)
	found := fmt.Sprintf("Without a limit a page has %s.", contacts(n))
	switch {
	case n == documentedLimit:
		return finding{OK, found, ""}, nil
	case n < documentedLimit && n == len(e.first.rows) && e.capped == 0:
		return unknown(found + " That is all there are."), nil
	default:
		return finding{Note, found + " 100 is documented.", "Sluice always asks for page_size contacts; nothing to set."}, nil
	}
}

func (e *exam) checkWrapping(context.Context) (finding, error) {
	forms := map[string]int{}
	for _, p := range e.pages {
		forms[p.wrap]++
	}
	name := func(key string) string {
		if key == "" {
			return "a bare array"
		}
		return fmt.Sprintf(`an array in {"%s": ...}`, key)
	}
	var parts []string
	for _, key := range []string{"", "data", "contacts"} {
		if n := forms[key]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s (%s)", name(key), plural(n, "page", "pages")))
		}
	}
	switch {
	case len(parts) == 0:
		return unknown("No page came."), nil
	case len(parts) == 1 && forms[""] > 0:
		return finding{OK, "Contacts come as " + parts[0] + ".", ""}, nil
	default:
		return finding{Note, "Contacts come as " + list(parts, 3) + "; a bare array is documented.", "Sluice reads all three forms; nothing to set."}, nil
	}
}
