package sandbox

import (
	"cmp"
	"slices"
)

// entry is a contact's place in an index: its time, then its number.
type entry struct {
	t int64
	i uint32
}

func compareEntries(a, b entry) int {
	if c := cmp.Compare(a.t, b.t); c != 0 {
		return c
	}
	return cmp.Compare(a.i, b.i)
}

// chunkSize is how many entries a chunk holds after a split; it splits at
// twice that. An insertion moves at most 16 KiB, and 1,000,000 contacts make
// 2,000 chunks, which a rank adds up in about a microsecond.
const chunkSize = 512

// index is an ordered set of entries with cheap updates and cheap ranks: a
// list of sorted chunks. No chunk is empty.
type index struct {
	chunks [][]entry
	n      int
}

// newIndex takes over entries, in any order.
func newIndex(entries []entry) *index {
	slices.SortFunc(entries, compareEntries)
	x := &index{n: len(entries)}
	for chunk := range slices.Chunk(entries, chunkSize) {
		x.chunks = append(x.chunks, chunk) // capacity ends with it: an append copies
	}
	return x
}

// place is a position in an index; it holds until the next update. The place
// after the last entry has chunk == len(chunks).
type place struct{ chunk, offset int }

// seek returns the place of the first entry at or after e.
func (x *index) seek(e entry) place {
	c, _ := slices.BinarySearchFunc(x.chunks, e, func(chunk []entry, e entry) int {
		return compareEntries(chunk[len(chunk)-1], e)
	})
	if c == len(x.chunks) {
		return place{chunk: c}
	}
	o, _ := slices.BinarySearchFunc(x.chunks[c], e, compareEntries)
	return place{c, o}
}

// rank returns how many entries stand before p.
func (x *index) rank(p place) int {
	n := p.offset
	for _, chunk := range x.chunks[:p.chunk] {
		n += len(chunk)
	}
	return n
}

// at returns the place with rank n, or the end.
func (x *index) at(n int) place {
	for c, chunk := range x.chunks {
		if n < len(chunk) {
			return place{c, n}
		}
		n -= len(chunk)
	}
	return place{chunk: len(x.chunks)}
}

// entry returns the entry at p; false at the end.
func (x *index) entry(p place) (entry, bool) {
	if p.chunk >= len(x.chunks) {
		return entry{}, false
	}
	return x.chunks[p.chunk][p.offset], true
}

// next returns the place after p.
func (x *index) next(p place) place {
	if p.offset++; p.offset >= len(x.chunks[p.chunk]) {
		return place{chunk: p.chunk + 1}
	}
	return p
}

// previous returns the place before p; false at the start.
func (x *index) previous(p place) (place, bool) {
	if p.offset > 0 {
		return place{p.chunk, p.offset - 1}, true
	}
	if p.chunk == 0 {
		return place{}, false
	}
	return place{p.chunk - 1, len(x.chunks[p.chunk-1]) - 1}, true
}

func (x *index) insert(e entry) {
	x.n++
	p := x.seek(e)
	if p.chunk == len(x.chunks) { // after everything: the usual case, a new change
		if p.chunk == 0 {
			x.chunks = append(x.chunks, []entry{e})
			return
		}
		p.chunk--
		p.offset = len(x.chunks[p.chunk])
	}
	chunk := slices.Insert(x.chunks[p.chunk], p.offset, e)
	if len(chunk) < 2*chunkSize {
		x.chunks[p.chunk] = chunk
		return
	}
	half := len(chunk) / 2
	x.chunks[p.chunk] = chunk[:half:half]
	x.chunks = slices.Insert(x.chunks, p.chunk+1, slices.Clone(chunk[half:]))
}

// remove takes e out; it must be there.
func (x *index) remove(e entry) {
	p := x.seek(e)
	found, ok := x.entry(p)
	if !ok || found != e {
		panic("sandbox: index entry is missing") // a bug here, never a request's fault
	}
	x.n--
	chunk := slices.Delete(x.chunks[p.chunk], p.offset, p.offset+1)
	if len(chunk) == 0 {
		x.chunks = slices.Delete(x.chunks, p.chunk, p.chunk+1)
		return
	}
	x.chunks[p.chunk] = chunk
}
