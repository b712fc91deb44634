package sandbox

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestTheIndexAgreesWithASortedSlice applies random updates to both.
func TestTheIndexAgreesWithASortedSlice(t *testing.T) {
	const seed = 7
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	draw := func(i uint32) entry { return entry{int64(rng.IntN(900)), i} } // many ties
	var model []entry
	for i := range uint32(3000) {
		model = append(model, draw(i))
	}
	x := newIndex(slices.Clone(model))
	slices.SortFunc(model, compareEntries)
	next := uint32(len(model))
	for step := range 12_000 {
		grow := step < 4000 || step > 11_000
		if k := rng.IntN(3); len(model) > 0 && (k == 0 || k == 1 && !grow) {
			at := rng.IntN(len(model))
			x.remove(model[at])
			model = slices.Delete(model, at, at+1)
		} else {
			e := draw(next)
			if k == 2 && step%2 == 0 {
				e.t = 900 + int64(step) // at the end, as changes come
			}
			next++
			at, _ := slices.BinarySearchFunc(model, e, compareEntries)
			x.insert(e)
			model = slices.Insert(model, at, e)
		}
		if step%500 == 0 {
			checkIndex(t, x, model, rng)
		}
	}
	for len(model) > 0 {
		x.remove(model[0])
		model = model[1:]
	}
	checkIndex(t, x, model, rng)
	x.insert(entry{5, 5})
	checkIndex(t, x, []entry{{5, 5}}, rng)
}

func checkIndex(t *testing.T, x *index, model []entry, rng *rand.Rand) {
	t.Helper()
	var up []entry
	for p := (place{}); ; p = x.next(p) {
		e, ok := x.entry(p)
		if !ok {
			break
		}
		up = append(up, e)
	}
	if !slices.Equal(up, model) || x.n != len(model) {
		t.Fatalf("index holds %d entries (n %d), model %d", len(up), x.n, len(model))
	}
	if len(model) == 0 {
		return
	}
	for range 50 {
		n := rng.IntN(len(model))
		p := x.at(n)
		if e, _ := x.entry(p); e != model[n] || x.rank(p) != n || x.seek(model[n]) != p {
			t.Fatalf("rank %d: %v", n, p)
		}
		before, ok := x.previous(p)
		if ok != (n > 0) {
			t.Fatalf("previous of rank %d: %v", n, ok)
		}
		if e, _ := x.entry(before); ok && e != model[n-1] {
			t.Fatalf("previous of rank %d is %v", n, e)
		}
	}
	if _, ok := x.entry(x.at(len(model))); ok {
		t.Fatal("the end holds an entry")
	}
}
