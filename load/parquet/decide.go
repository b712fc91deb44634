package parquet

import (
	"cmp"
	"slices"

	"github.com/zeebo/xxh3"

	"github.com/sluice-etl/sluice/load"
)

// The values of _sluice_change.
const (
	changeInsert = "insert"
	changeUpdate = "update"
	changeDelete = "delete"
)

// key is what the total order and the notion of a version need of one row.
// The package's serial is not part of it: rows of the package are compared
// with each other, and with stored rows, whose serial is always less.
type key struct {
	counts    int64 // when its updated_at counts: not after the row was read. Microseconds
	extracted int64 // microseconds
	row       int64 // _sluice_row
	hash      int64
	deleted   bool
}

// sameVersion reports whether two rows of one id are the same version. The
// hash covers the exported columns only, so a tombstone has the hash of the
// row it buries: being deleted is part of the version.
func (k key) sameVersion(o key) bool { return k.hash == o.hash && k.deleted == o.deleted }

// compare orders rows of one id within one package.
func (k key) compare(o key) int {
	return cmp.Or(k.compareTimes(o), cmp.Compare(k.row, o.row))
}

// compareTimes is the part of the order that comes before the package.
func (k key) compareTimes(o key) int {
	return cmp.Or(cmp.Compare(k.counts, o.counts), cmp.Compare(k.extracted, o.extracted))
}

// What becomes of a package's row.
const (
	rowDropped uint8 = iota // the version is stored already, or stands elsewhere in the package
	rowHistory              // to history only
	rowCurrent              // to history and current
)

// partition is one month of a package against what current holds of it. Ids
// are 128-bit hashes of their text: with 2^40 ids the chance of two that
// collide is below 2^-48.
type partition struct {
	ids   map[xxh3.Uint128]int32
	keys  []key             // per row, in order of arrival
	idOf  []int32           // per row
	first []int32           // per id: its first row to arrive
	twins map[int32][]int32 // all rows of an id that has several, in total order once sorted

	stored []key   // per id: what current holds; meaningful where known
	known  []bool  // per id: current holds it
	winner []int32 // per id: the row that goes to current, or -1
	fate   []uint8 // per row
	// decided are the ids whose rows have their fate already, see takeOver.
	decided map[int32]bool
}

func newPartition(rows int64) *partition {
	return &partition{
		ids:   make(map[xxh3.Uint128]int32, rows),
		keys:  make([]key, 0, rows),
		idOf:  make([]int32, 0, rows),
		first: make([]int32, 0, rows),
		twins: map[int32][]int32{},
	}
}

// add takes one row of the package, in order of arrival.
func (p *partition) add(id string, k key) {
	row := int32(len(p.keys)) //nolint:gosec // 2^31 rows of one month do not fit in memory
	h := xxh3.HashString128(id)
	n, ok := p.ids[h]
	if !ok {
		n = int32(len(p.first)) //nolint:gosec // no more ids than rows
		p.ids[h] = n
		p.first = append(p.first, row)
	} else {
		if p.twins[n] == nil {
			p.twins[n] = []int32{p.first[n]}
		}
		p.twins[n] = append(p.twins[n], row)
	}
	p.keys = append(p.keys, k)
	p.idOf = append(p.idOf, n)
}

// added ends the package's side of the partition.
func (p *partition) added() {
	for _, rows := range p.twins {
		slices.SortStableFunc(rows, func(a, b int32) int { return p.keys[a].compare(p.keys[b]) })
	}
	n := len(p.first)
	p.fate = make([]uint8, len(p.keys))
	p.stored, p.known, p.winner = make([]key, n), make([]bool, n), make([]int32, n)
	for id := range p.first {
		p.winner[id] = p.fold(int32(id), nil) //nolint:gosec // no more ids than rows
	}
}

// meet compares a row of current with the package and reports whether the row
// stays in current.
func (p *partition) meet(id string, k key) (stays bool) {
	n, ok := p.ids[xxh3.HashString128(id)]
	if !ok {
		return true
	}
	p.known[n], p.stored[n] = true, k
	p.winner[n] = p.fold(n, &k)
	return p.winner[n] < 0
}

// fold applies the rows of an id one by one, in total order, to the stored row
// and returns the one that stands in the end, -1 if the stored row does. A row
// replaces another if it is strictly greater and another version. Where both
// times are those of the stored row, the package's row is the greater one: a
// package that is committed has a serial above all that the table holds.
func (p *partition) fold(id int32, stored *key) int32 {
	winner := int32(-1)
	apply := func(r int32) {
		switch k := p.keys[r]; {
		case winner >= 0:
			if !k.sameVersion(p.keys[winner]) {
				winner = r
			}
		case stored == nil && k.deleted:
			// There is nothing to bury: a contact that a filter keeps out, or one
			// that came and went unseen, leaves no trace.
		case stored == nil || (k.compareTimes(*stored) >= 0 && !k.sameVersion(*stored)):
			winner = r
		}
	}
	if rows := p.twins[id]; rows != nil {
		for _, r := range rows {
			apply(r)
		}
	} else {
		apply(p.first[id])
	}
	return winner
}

// decide settles the fate of every row once current has been met, and counts.
func (p *partition) decide(r *load.Result) (current, history bool) {
	for id, winner := range p.winner {
		current = current || winner >= 0
		if p.decided[int32(id)] { //nolint:gosec // no more ids than rows
			continue
		}
		rows := p.twins[int32(id)] //nolint:gosec // no more ids than rows
		if rows == nil {
			rows = p.first[id : id+1]
		}
		p.settle(id, rows)
		p.count(id, r)
	}
	for _, fate := range p.fate {
		if fate != rowDropped {
			r.Versions++
			history = true
		}
	}
	return current, history
}

// count counts an id by what became of it.
func (p *partition) count(id int, r *load.Result) {
	switch winner := p.winner[id]; {
	case winner < 0 && !p.known[id]:
	case winner < 0:
		r.Unchanged++
	case p.keys[winner].deleted:
		r.Deleted++
	case p.known[id]:
		r.Changed++
	default:
		r.New++
	}
}

// settle gives the rows of one id their fate: each version that current did
// not hold goes to history once, as the winner's row if it is the winner's
// version, else as the first row in order.
func (p *partition) settle(id int, rows []int32) {
	type version struct {
		hash    int64
		deleted bool
	}
	var seen map[version]bool
	winner := p.winner[id]
	if winner >= 0 {
		p.fate[winner] = rowCurrent
	}
	if len(rows) > 1 {
		seen = make(map[version]bool, len(rows))
		if winner >= 0 {
			seen[version{p.keys[winner].hash, p.keys[winner].deleted}] = true
		}
	}
	for _, r := range rows {
		k := p.keys[r]
		v := version{k.hash, k.deleted}
		if buried := winner < 0 && !p.known[id]; buried || r == winner || seen[v] || (p.known[id] && k.sameVersion(p.stored[id])) {
			continue
		}
		if seen != nil {
			seen[v] = true
		}
		p.fate[r] = rowHistory
	}
}

// change returns the _sluice_change of a row: what it is against the table as
// it was when the package was committed.
func (p *partition) change(row int) string {
	switch {
	case p.keys[row].deleted:
		return changeDelete
	case p.known[p.idOf[row]]:
		return changeUpdate
	default:
		return changeInsert
	}
}
