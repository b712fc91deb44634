package loadtest

import (
	"errors"
	"strings"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

// hashKeys commits packages under two keys, and one that hashes nothing.
func hashKeys(b *bench) {
	if b.HashKey == nil {
		b.t.Skip("this destination does not tell the key of its hashes")
	}
	const first, second = "0123456789abcdef", "fedcba9876543210"
	for i, step := range []struct{ key, want string }{{"", ""}, {first, first}, {second, second}, {"", second}} {
		p := b.build(Spec{Serial: int64(i) + 1, Rows: []Row{Contact("a", inMonth(1), at(i+1), "name", step.key+"of Ana")}})
		p.HashKey = step.key
		b.commit(p)
		said := b.HashKey(b.t)
		if len(said) != 2 {
			b.t.Fatalf("%d places tell of a key, want those of current and history", len(said))
		}
		if i == 3 {
			said = said[1:] // current may have no hash any more
		}
		for _, text := range said {
			if step.want != "" && !strings.Contains(text, step.want) || step.want == "" && strings.Contains(text, first) {
				b.t.Errorf("after package %d it is said %q, want the id %q", i+1, text, step.want)
			}
		}
	}
	if got := b.commit(b.build(Spec{Serial: 5})); got.New != 0 { // the table goes on
		b.t.Errorf("an empty package brought %+v", got)
	}
}

// historian counts the versions of a history without reading it.
func historian(b *bench) {
	count := func(lineage string) (n int64, err error) {
		b.t.Helper()
		b.opened(func(l load.Loader) {
			h, ok := l.(load.Historian)
			if !ok {
				b.t.Fatal("this loader does not tell how many versions it holds")
			}
			n, err = h.Versions(b.t.Context(), lineage)
		})
		return n, err
	}
	want := func(what string, want int64) {
		b.t.Helper()
		if n, err := count(b.lineage); err != nil || n != want {
			b.t.Errorf("%s: the history holds %d versions, want %d (%v)", what, n, want, err)
		}
	}
	want("before the first package", 0)
	first := b.build(Spec{Serial: 1, Rows: []Row{Contact("a", inMonth(1), at(1), "name", "Ana"), Contact("b", inMonth(2), at(1), "name", "Bo")}})
	b.commit(first)
	want("after the first", 2)
	b.commit(first)
	want("after the first was committed again", 2)
	b.commit(b.build(Spec{Serial: 2, Rows: []Row{Contact("a", inMonth(1), at(2), "name", "Ann"), Contact("b", inMonth(2), at(1), "name", "Bo")}}))
	want("after another version of one", 3)
	bo := Contact("b", inMonth(2), at(1), "name", "Bo")
	b.commit(b.build(Spec{Serial: 3, Rows: []Row{bo.With(schemas.ColDeletedAt, at(30), schemas.ColHash, Hash(bo))}}))
	want("after a tombstone", 4)
	if n, err := count("another"); !errors.Is(err, load.ErrForeign) {
		b.t.Errorf("another state's history is told: %d, %v", n, err)
	}
	b.opened(func(l load.Loader) {
		if e, ok := l.(load.Eraser); ok {
			if _, err := e.Erase(b.t.Context(), load.Erasure{Lineage: b.lineage, ID: "a"}); err != nil {
				b.t.Fatal(err)
			}
		}
	})
	want("after an erasure", 2)
}
