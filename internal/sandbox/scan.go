package sandbox

import (
	"math"
)

// scan walks an index from one place up or down.
type scan struct {
	x    *index
	at   place
	down bool
	done bool
	// floor ends a scan that goes down.
	floor int64

	// Where ties are shuffled, group holds those of one time, in the order of
	// this request.
	shuffle bool
	nonce   uint64
	group   []entry
}

// raw returns the next entry in the index's own order.
func (c *scan) raw() (entry, bool) {
	if c.done {
		return entry{}, false
	}
	e, ok := c.x.entry(c.at)
	if !ok || e.t < c.floor {
		c.done = true
		return entry{}, false
	}
	if !c.down {
		c.at = c.x.next(c.at)
	} else if c.at, ok = c.x.previous(c.at); !ok {
		c.done = true
	}
	return e, true
}

// next returns the next entry in the order of this request.
func (c *scan) next() (entry, bool) {
	if !c.shuffle {
		return c.raw()
	}
	if len(c.group) == 0 {
		c.fill()
	}
	if len(c.group) == 0 {
		return entry{}, false
	}
	e := c.group[0]
	c.group = c.group[1:]
	return e, true
}

// fill collects the next ties and shuffles them (Fisher and Yates).
func (c *scan) fill() {
	first, ok := c.raw()
	if !ok {
		return
	}
	c.group = append(c.group, first)
	for !c.done {
		if e, ok := c.x.entry(c.at); !ok || e.t != first.t {
			break
		}
		e, ok := c.raw()
		if !ok {
			break
		}
		c.group = append(c.group, e)
	}
	for k := len(c.group) - 1; k > 0; k-- {
		other := below(mix(c.nonce^mix(uint64(first.t))+uint64(k)), uint64(k+1))
		c.group[k], c.group[other] = c.group[other], c.group[k]
	}
}

// start opens the scan for q at now and returns it with how many entries to
// pass over: the offset where no filter decides what counts, else none.
func (s *store) start(q *query, now int64) (c *scan, skip int) {
	c = &scan{shuffle: s.opts.ShuffleTies, nonce: mix(s.g.seed ^ s.pages), floor: math.MinInt64}
	var from int // rank of the first entry
	switch {
	case q.updatedAfter != nil:
		c.x = s.byUpdated
		from = c.x.rank(c.x.seek(entry{t: *q.updatedAfter + 1}))
	case q.createdAfter != nil:
		c.x = s.byCreated
		from = c.x.rank(c.x.seek(entry{t: *q.createdAfter + 1}))
	default:
		c.x, c.down, c.floor = s.byMessage, true, daysAgo(q, now)
		from = c.x.n - 1
	}
	if !s.filtered(q) {
		if c.x.n-from < q.offset && !c.down || from < q.offset && c.down {
			c.done = true
			return c, 0
		}
		if c.down {
			from -= q.offset
		} else {
			from += q.offset
		}
	}
	if from < 0 || from >= c.x.n {
		c.done = true
		return c, 0
	}
	c.at = c.x.at(from)
	if !c.shuffle {
		return c, 0
	}
	return c, c.backToTies(from)
}

// backToTies moves a scan that stands among ties to their start, so that all
// of them are shuffled, and returns how many entries that is.
func (c *scan) backToTies(from int) int {
	e, _ := c.x.entry(c.at)
	if !c.down {
		first := c.x.seek(entry{t: e.t})
		c.at = first
		return from - c.x.rank(first)
	}
	last, _ := c.x.previous(c.x.seek(entry{t: e.t + 1}))
	c.at = last
	return c.x.rank(last) - from
}

func daysAgo(q *query, now int64) int64 {
	return now - int64(*q.days*microsPerDay)
}

// filtered reports whether q filters by more than the time it is ordered by.
func (s *store) filtered(q *query) bool {
	times := 0
	for _, given := range [...]bool{q.days != nil, q.createdAfter != nil, q.updatedAfter != nil} {
		if given {
			times++
		}
	}
	return times > 1 || q.stage != nil || q.pipeline != nil || q.fieldKey != ""
}

// page returns the numbers of the contacts that answer q at now, at most size.
func (s *store) page(dst []uint32, q *query, size int, now int64) []uint32 {
	c, skip := s.start(q, now)
	filtered := s.filtered(q)
	pass := 0
	if filtered {
		pass = q.offset
	}
	w := renderer{g: s.g}
	for len(dst) < size {
		e, ok := c.next()
		if !ok {
			break
		}
		if skip > 0 {
			skip--
			continue
		}
		if filtered && !s.matches(&w, q, e.i, now) {
			continue
		}
		if pass > 0 {
			pass--
			continue
		}
		dst = append(dst, e.i)
	}
	return dst
}

// matches applies every filter of q to contact i.
func (s *store) matches(w *renderer, q *query, i uint32, now int64) bool {
	r := &s.recs[i]
	switch {
	case q.updatedAfter != nil && r.updated <= *q.updatedAfter,
		q.createdAfter != nil && r.created <= *q.createdAfter,
		q.days != nil && (r.message == noMessage || r.message < daysAgo(q, now)):
		return false
	case q.stage == nil && q.pipeline == nil && q.fieldKey == "":
		return true
	}
	f := s.g.glance(i, r, s.editOf(i))
	if q.stage != nil || q.pipeline != nil {
		if !f.hasTicket || f.stage < 0 {
			return false
		}
		st := &s.g.stages[f.stage]
		if q.stage != nil && st.id != *q.stage || q.pipeline != nil && s.g.pipelines[st.pipeline].id != *q.pipeline {
			return false
		}
	}
	if q.fieldKey == "" {
		return true
	}
	return q.customerField && w.hasField(&f, r, customer, q) ||
		q.ticketFields && f.hasTicket && w.hasField(&f, r, ticket, q)
}

// hasField reports whether a custom field of the entity has the key and value
// of q: text as it is, numbers and booleans as they print; never null, never a
// nested value.
func (w *renderer) hasField(f *face, r *rec, of entity, q *query) bool {
	w.gatherKey(f, r, of, q.fieldKey)
	for _, c := range w.cells {
		raw := string(w.value(c))
		if c.key != q.fieldKey || raw == "null" || raw[0] == '{' || raw[0] == '[' {
			continue
		}
		if raw == q.fieldRaw || raw[0] != '"' && raw == q.fieldValue {
			return true
		}
	}
	return false
}
