package loadtest

import "github.com/sluice-etl/sluice/load"

// historian counts the versions of a history without reading it.
func historian(b *bench) {
	count := func() int64 {
		b.t.Helper()
		var n int64
		b.opened(func(l load.Loader) {
			h, ok := l.(load.Historian)
			if !ok {
				b.t.Skip("this loader does not tell how many versions it holds")
			}
			var err error
			if n, err = h.Versions(b.t.Context(), b.build(Spec{Serial: 1}).Lineage); err != nil {
				b.t.Fatal(err)
			}
		})
		return n
	}
	if n := count(); n != 0 {
		b.t.Errorf("a table that is not there has %d versions", n)
	}
	b.commit(b.build(Spec{Serial: 1, Rows: []Row{Contact("a", inMonth(1), at(1), "name", "Ana"), Contact("b", inMonth(2), at(1), "name", "Bo")}}))
	b.commit(b.build(Spec{Serial: 2, Rows: []Row{Contact("a", inMonth(1), at(2), "name", "Ann"), Contact("b", inMonth(2), at(1), "name", "Bo")}}))
	if n := count(); n != 3 {
		b.t.Errorf("the history holds %d versions, want 3", n)
	}
}
