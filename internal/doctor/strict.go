package doctor

import (
	"context"
	"fmt"

	"github.com/sluice-etl/sluice/extract"
)

// strictLimit is how many rows the questions about one timestamp ask for.
const strictLimit = 100

// strictness asks about the border of a filter by one of the times.
type strictness struct {
	e   *exam
	col column
	ask func(us int64) extract.Query
}

func (e *exam) checkStrictUpdated(ctx context.Context) (finding, error) {
	if e.disordered {
		return unknown(restsOnUpdate), nil
	}
	s := strictness{e, byUpdated(), func(us int64) extract.Query {
		return extract.Query{UpdatedAfter: at(us), Limit: min(strictLimit, e.limit)}
	}}
	return s.check(ctx, e.first)
}

func (e *exam) checkStrictCreated(ctx context.Context) (finding, error) {
	if e.created == nil || e.created.checkOrder(byCreated(), false).at >= 0 {
		return unknown("It rests on the order with created_after, which was not seen."), nil
	}
	s := strictness{e, byCreated(), func(us int64) extract.Query {
		return extract.Query{CreatedAfter: at(us), Limit: min(strictLimit, e.limit)}
	}}
	return s.check(ctx, e.created)
}

const milli = int64(1000) // microseconds

// tries is how many printed times are asked for before their rows count as
// lost: those of one may have moved.
const tries = 3

// check asks from 1 ms before a printed time, as the walk does, and then from
// that time itself and from a microsecond and 999 after it: which of these
// bring its rows tells a filter that is not strict from a clock that is finer
// than what is printed.
func (s strictness) check(ctx context.Context, base *page) (finding, error) {
	times := s.candidates(base)
	if len(times) == 0 {
		return unknown(fmt.Sprintf("%s with no two times more than a second apart: nothing to ask between.", contacts(len(base.rows)))), nil
	}
	lost := 0
	for _, t := range times {
		p, err := s.e.ask(ctx, s.ask(t-milli))
		if err != nil {
			return finding{}, err
		}
		if n, first := s.earlier(p, t-border); n > 0 {
			return finding{
				Problem, fmt.Sprintf("%s=%s brings %s from before it, the first of %s: the filter is ignored or rounded.", s.param(), stampText(t-milli), contacts(n), stampText(first)),
				"Sluice cannot tell how far it has read and stops with an error. Ask the vendor.",
			}, nil
		}
		if s.printed(p, t) > 0 {
			return s.around(ctx, t)
		}
		if got := p.times(s.col); !s.e.full(p) || len(got) > 0 && got[len(got)-1] > t {
			lost++ // they are not on a later page either
		}
	}
	if lost < tries {
		return unknown(fmt.Sprintf("The contacts asked for did not come (%d of %d times): they may have moved.", lost, len(times))), nil
	}
	t := times[len(times)-1]
	return finding{
		Problem, fmt.Sprintf("%s=%s does not bring the contacts printed %s, and so for %d times of %d.", s.param(), stampText(t-milli), stampText(t), lost, len(times)),
		"Rows are lost between two pages: the filter is cut to more than a millisecond. Sluice cannot read this endpoint without loss; ask the vendor.",
	}, nil
}

func (s strictness) around(ctx context.Context, t int64) (finding, error) {
	hits := make([]int, 0, 3)
	for _, us := range []int64{t, t + 1, t + 999} {
		p, err := s.e.ask(ctx, s.ask(us))
		if words, bad := refused(err); bad && us > t {
			return finding{Note, s.withItself(hits[0], t) + " Microseconds in the parameter are refused" + quote(words) + ", so a filter that is not strict cannot be told from a finer clock.", s.means()}, nil
		}
		if err != nil {
			return finding{}, err
		}
		hits = append(hits, s.printed(p, t))
		if hits[len(hits)-1] == 0 {
			break
		}
	}
	switch {
	case hits[0] == 0:
		return finding{OK, fmt.Sprintf("Strict: %s=%s brings the contacts printed %s only when asked from 1 ms before.", s.param(), stampText(t), stampText(t)), ""}, nil
	case len(hits) == 2:
		return finding{Note, s.withItself(hits[0], t) + " From 1 us later it does not: the filter includes the time itself, where strictly after is documented.", s.means()}, nil
	case hits[2] == 0:
		return finding{OK, s.withItself(hits[0], t) + " So it does from 1 us later, and no more from 999 us later: the clock behind is finer than the milliseconds printed.", s.means()}, nil
	default:
		return finding{Note, s.withItself(hits[0], t) + " So it does from 999 us later: the parameter is cut to milliseconds, and either the filter includes the time itself or the clock behind is finer than what is printed.", s.means()}, nil
	}
}

func (s strictness) param() string {
	if s.col.name == byCreated().name {
		return "created_after"
	}
	return "updated_after"
}

func (s strictness) withItself(n int, t int64) string {
	return fmt.Sprintf("%s=%s brings %s printed exactly so.", s.param(), stampText(t), contacts(n))
}

func (s strictness) means() string {
	return "A cursor at the last printed time is no safe one. Sluice asks from 1 ms before it and drops what it has; nothing to set."
}

// candidates are a few printed times from the middle of a page on, which have
// others before them.
func (s strictness) candidates(base *page) []int64 {
	times := base.times(s.col)
	var out []int64
	for i := len(times) / 2; i < len(times) && len(out) < tries; i++ {
		t := times[i] - times[i]%milli
		if t > times[0]+border && (len(out) == 0 || t > out[len(out)-1]) {
			out = append(out, t)
		}
	}
	return out
}

// earlier counts the rows of p before us.
func (s strictness) earlier(p *page, us int64) (n int, first int64) {
	for _, t := range p.times(s.col) {
		if t < us {
			if n == 0 {
				first = t
			}
			n++
		}
	}
	return n, first
}

// printed counts the rows of p within the millisecond t.
func (s strictness) printed(p *page, t int64) int {
	n := 0
	for _, us := range p.times(s.col) {
		if us >= t && us < t+milli {
			n++
		}
	}
	return n
}
