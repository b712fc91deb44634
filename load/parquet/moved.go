package parquet

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/zeebo/xxh3"
)

// maxMovedIDs is how many contacts that moved a result names.
const maxMovedIDs = 5

// A contact whose created_at changed has rows in two months: one in current
// under the old one, and one in the package under the new. Each month by itself
// would keep its row. So before any month is merged, the ids that the package
// brings to a month which does not have them are looked up in all the others,
// and contacts found there are decided over all their months at once.

// movers are the contacts of a package that have rows in several months, by
// hash of the id; as a rule there are none.
type movers map[xxh3.Uint128]*mover

// mover is one such contact.
type mover struct {
	id     string
	rows   []placed // of the package; in total order once decided
	stored []placed // of current: one, unless the table was damaged
	base   int      // index in stored: the row that counts; -1 if none
	winner int      // index in rows: the row that goes to current; -1 if none does
	fates  []uint8  // per row of rows
}

// placed is a key and where its row stands.
type placed struct {
	key
	month month
	row   int // of the package's rows in month
}

// findMoved looks for the package's contacts that have rows in several months.
func (m *merge) findMoved(ctx context.Context) error {
	arrivals := make([][]uint64, 0, len(m.arrivals)) // but for ids that their month has
	touched := slices.Sorted(maps.Keys(m.arrivals))
	if err := m.needIDs(ctx, touched); err != nil {
		return err
	}
	for _, mo := range touched {
		hashes := m.arrivals[mo]
		slices.Sort(hashes)
		hashes = slices.Compact(hashes)
		if _, ok := m.stored[mo]; ok {
			ids, err := m.storedIDs(ctx, mo)
			if err != nil {
				return err
			}
			hashes = without(hashes, ids)
		}
		if len(hashes) > 0 {
			arrivals = append(arrivals, hashes)
		}
	}
	m.arrivals = nil
	if len(arrivals) == 0 {
		return nil
	}
	suspects, holders := map[uint64]bool{}, map[month]bool{}
	eachTwice(slices.Clone(arrivals), func(h uint64) { suspects[h] = true })
	all := slices.Sorted(maps.Keys(m.stored))
	if err := m.needIDs(ctx, all); err != nil {
		return err
	}
	for _, mo := range all {
		ids, err := m.storedIDs(ctx, mo)
		if err != nil {
			return err
		}
		for _, hashes := range arrivals {
			eachCommon(hashes, ids, func(h uint64) { suspects[h], holders[mo] = true, true })
		}
	}
	if len(suspects) == 0 {
		return nil
	}
	return m.resolve(ctx, suspects, holders)
}

// eachTwice calls f for what several of the lists hold, each of which ascends.
// It consumes lists.
func eachTwice(lists [][]uint64, f func(uint64)) {
	h := firsts(lists)
	heap.Init(&h)
	for len(h) > 1 {
		least := h[0][0]
		if h[0] = h[0][1:]; len(h[0]) == 0 {
			heap.Pop(&h)
		} else {
			heap.Fix(&h, 0)
		}
		if h[0][0] == least {
			f(least)
		}
	}
}

// firsts is a heap of lists that are not empty, by their first elements.
type firsts [][]uint64

func (f firsts) Len() int           { return len(f) }
func (f firsts) Less(i, j int) bool { return f[i][0] < f[j][0] }
func (f firsts) Swap(i, j int)      { f[i], f[j] = f[j], f[i] }

// Push is not used: lists only run out.
func (f *firsts) Push(any) {}

// Pop implements heap.Interface.
func (f *firsts) Pop() any {
	last := len(*f) - 1
	list := (*f)[last]
	*f = (*f)[:last]
	return list
}

// resolve reads the rows of suspects, and decides those that are in several
// months.
func (m *merge) resolve(ctx context.Context, suspects map[uint64]bool, holders map[month]bool) error {
	found := movers{}
	of := func(id string) *mover {
		h := xxh3.HashString128(id)
		if !suspects[h.Lo] {
			return nil
		}
		if found[h] == nil {
			found[h] = &mover{id: strings.Clone(id)}
		}
		return found[h]
	}
	arrived := map[month]int{} // rows of the package read so far
	for _, p := range m.parts {
		err := p.eachKey(ctx, func(mo month, id string, k key) {
			if mv := of(id); mv != nil {
				mv.rows = append(mv.rows, placed{k, mo, arrived[mo]})
			}
			arrived[mo]++
		})
		if err != nil {
			return fmt.Errorf("read part %s: %w", p.rows.path, err)
		}
	}
	held := slices.Sorted(maps.Keys(holders))
	if err := m.need(ctx, held...); err != nil {
		return err
	}
	for _, mo := range held {
		err := m.eachStoredKey(ctx, m.stored[mo], func(id string, k key) {
			if mv := of(id); mv != nil {
				mv.stored = append(mv.stored, placed{k, mo, 0})
			}
		})
		if err != nil {
			return fmt.Errorf("read %s: %w", m.stored[mo].Path, err)
		}
	}
	m.movers, m.leave = movers{}, map[month]bool{}
	for h, mv := range found {
		if len(mv.rows) > 0 && mv.months() > 1 {
			m.movers[h] = mv
			m.decide(mv)
		}
	}
	m.nameMoved()
	return nil
}

// eachKey calls f for every row of the part, in order.
func (p *part) eachKey(ctx context.Context, f func(mo month, id string, k key)) (err error) {
	c := &cursor{path: p.keys.path, columns: keyColumns, want: p.keys.want}
	defer func() { err = errors.Join(err, c.close()) }()
	s, err := c.schema()
	if err != nil {
		return err
	}
	kr, err := newKeyReader(s)
	if err != nil {
		return err
	}
	for _, sp := range p.spans {
		err := c.take(ctx, sp.rows, func(rec arrow.Record) error {
			return kr.each(rec, func(id string, k key) { f(sp.month, id, k) })
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// eachStoredKey calls f for every row of a file of current, in order.
func (m *merge) eachStoredKey(ctx context.Context, file File, f func(id string, k key)) (err error) {
	c := &cursor{path: at(m.dir, file.Path), columns: keyColumns, want: file.Rows}
	defer func() { err = errors.Join(err, c.close()) }()
	s, err := c.schema()
	if err != nil {
		return err
	}
	kr, err := newKeyReader(s)
	if err != nil {
		return err
	}
	return c.take(ctx, file.Rows, func(rec arrow.Record) error { return kr.each(rec, f) })
}

// months returns in how many months the contact has rows.
func (mv *mover) months() int {
	seen := map[month]bool{}
	for _, p := range slices.Concat(mv.rows, mv.stored) {
		seen[p.month] = true
	}
	return len(seen)
}

// decide folds the contact's rows of all months, and counts it.
func (m *merge) decide(mv *mover) {
	slices.SortStableFunc(mv.rows, func(a, b placed) int { return a.compare(b.key) })
	mv.base = -1
	for i, s := range mv.stored {
		if mv.base < 0 || s.compare(mv.stored[mv.base].key) > 0 {
			mv.base = i
		}
	}
	var base *key
	if mv.base >= 0 {
		base = &mv.stored[mv.base].key
	}
	keys, rows := make([]key, len(mv.rows)), make([]int32, len(mv.rows))
	for i, r := range mv.rows {
		keys[i], rows[i] = r.key, int32(i) //nolint:gosec // as many as there are versions of one contact
	}
	// One contact is a package of its own.
	p := &partition{keys: keys, twins: map[int32][]int32{0: rows}, known: []bool{base != nil}, stored: make([]key, 1), fate: make([]uint8, len(keys))}
	if base != nil {
		p.stored[0] = *base
	}
	p.winner = []int32{p.fold(0, base)}
	p.settle(0, rows)
	p.count(0, &m.result)
	mv.winner, mv.fates = int(p.winner[0]), p.fate
	for _, s := range mv.stored {
		if !mv.stays(s.month) {
			m.leave[s.month] = true
		}
	}
}

// stays reports whether the stored row of a month stays there.
func (mv *mover) stays(mo month) bool {
	return mv.winner < 0 && mv.base >= 0 && mv.stored[mv.base].month == mo
}

// moved reports whether the contact goes to another month than it stood in, or
// is new and came in several.
func (mv *mover) moved() bool {
	return mv.winner >= 0 && (mv.base < 0 || mv.stored[mv.base].month != mv.rows[mv.winner].month)
}

// nameMoved counts the contacts that moved, and names some.
func (m *merge) nameMoved() {
	var ids []string
	for _, mv := range m.movers {
		if mv.moved() {
			ids = append(ids, mv.id)
		}
	}
	slices.Sort(ids)
	m.result.Moved = int64(len(ids))
	m.result.MovedIDs = ids[:min(len(ids), maxMovedIDs)]
}

// takeOver gives the rows of contacts that were decided over several months
// the fate that they have, once current has been met.
func (p *partition) takeOver(mo month, all movers) {
	for h, mv := range all {
		n, ok := p.ids[h]
		if !ok {
			continue
		}
		p.known[n], p.winner[n] = mv.base >= 0, -1
		if p.decided == nil {
			p.decided = map[int32]bool{}
		}
		p.decided[n] = true
		for i, r := range mv.rows {
			if r.month == mo {
				p.fate[r.row] = mv.fates[i]
				if i == mv.winner {
					p.winner[n] = int32(r.row) //nolint:gosec // a row of this partition
				}
			}
		}
	}
}

// leaves reports whether the stored row of a contact that is decided over
// several months leaves mo; known is false for all other contacts.
func (all movers) leaves(mo month, id string) (leaves, known bool) {
	if len(all) == 0 {
		return false, false
	}
	mv, known := all[xxh3.HashString128(id)]
	return known && !mv.stays(mo), known
}
