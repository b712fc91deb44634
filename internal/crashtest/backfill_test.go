//go:build unix

package crashtest_test

import (
	"testing"

	"github.com/sluice-etl/sluice/internal/crashtest"
	"github.com/sluice-etl/sluice/internal/sandbox"
)

func TestABackfillKilledAtNineTenthsFetchesTheLastTenth(t *testing.T) {
	if raceEnabled {
		t.Skip("it counts requests, which takes long under the race detector and shows no race")
	}
	o := sandbox.DefaultOptions()
	o.Contacts = 4000
	w := newWorld(t, o, envNumber(t, "SLUICE_CRASH_SEED", 1))
	sync, backfill := lake(order{Do: "sync", SealRows: 2000})[0], lake(order{Do: "backfill", SealRows: 100})[0]
	w.look()
	w.must(sync)

	counted := func(f func()) int64 {
		before := w.pages.Load()
		f()
		return w.pages.Load() - before
	}
	all := counted(func() { w.must(backfill) })
	if all < 260 {
		t.Fatalf("a backfill of 260 pages of contacts takes %d requests", all)
	}

	victim := command(t, w.complete(backfill))
	w.pages.Store(0)
	kill := func(n int64) {
		if n == all*9/10 {
			_ = victim.cmd.Process.Kill()
		}
	}
	if err := victim.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.page.Store(&kill)
	if _, killed := victim.wait(t); !killed {
		t.Fatal("the backfill came to its end")
	}
	w.page.Store(nil)

	rest := counted(func() { w.must(backfill) })
	// What the parts under way at the kill would have held: 100 rows at most,
	// which are 7 pages, of each of the 2 walks, and a request of each that was
	// not answered. And a page at the end of each of the 8 groups of windows that
	// the rest is read in, which reaches into the next.
	if most := all/10 + 2*(7+1) + 8; rest > most {
		t.Errorf("of %d requests %d were asked for again, want %d at most", all, rest, most)
	}
	t.Logf("%d requests, %d after the kill at nine tenths", all, rest)
	w.must(sync)
	w.same("lake", crashtest.Expect{})
	w.tidy()
}
