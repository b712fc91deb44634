//go:build unix

package crashtest_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/internal/crashtest"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/sandbox"
)

// scenario is what a process is doing when it is killed.
type scenario struct {
	name string
	// change makes the source another one before each cycle.
	change func(w *world, cycle int)
	// orders are what a cycle does, side by side.
	orders func(cycle int) []order
	// settled is that a sync has to follow before the tables equal the source.
	settled bool
	marked  bool // contacts are deleted, and marked as such
	recent  bool // the tables hold those who wrote lately
	alone   bool // the source serves days by itself only
	stormy  bool // the source also changes while it is read
	beside  bool // runs overlap
	fresh   bool // each cycle begins with nothing
}

// lake is the only destination of most scenarios.
func lake(o order) []order {
	o.Destinations = []string{"lake"}
	return []order{o}
}

func mutate(m sandbox.Mutation) func(*world, int) {
	return func(w *world, _ int) { w.source.Mutate(m) }
}

func scenarios() []scenario {
	some := mutate(sandbox.Mutation{Updates: 9, Creates: 3, Bulk: 30})
	nightly := func(int) []order { return lake(order{Do: "sync"}) }
	return []scenario{
		{name: "first", change: some, orders: nightly, stormy: true, fresh: true},
		{name: "incremental", change: some, orders: nightly, stormy: true},
		{name: "full", change: some, orders: func(int) []order { return lake(order{Do: "sync", Full: true}) }},
		{name: "columns", change: newColumns, orders: nightly},
		{name: "backfill", change: some, orders: func(int) []order { return lake(order{Do: "backfill"}) }, settled: true, stormy: true},
		{name: "beside", change: some, orders: func(int) []order {
			return append(lake(order{Do: "backfill"}), lake(order{Do: "sync"})...)
		}, settled: true, stormy: true, beside: true},
		{name: "destinations", change: some, orders: func(cycle int) []order {
			o := order{Do: "sync", Destinations: []string{"lake", "second", "third.duckdb"}}
			if cycle%3 == 1 {
				o.Down = []string{"second"}
			}
			return []order{o}
		}},
		{name: "reconcile", change: comeAndGo, orders: func(int) []order { return lake(order{Do: "reconcile"}) }, settled: true, marked: true},
		{name: "snapshot", change: comeAndGo, orders: func(int) []order {
			return lake(order{Do: "sync", Sync: run.SyncSnapshot})
		}, marked: true},
		{name: "recent", change: comeAndGo, orders: func(int) []order {
			return lake(order{Do: "sync", Sync: run.SyncRecent})
		}, marked: true, recent: true},
		{name: "alone", change: comeAndGo, orders: func(int) []order {
			return lake(order{Do: "sync", Sync: run.SyncRecent, Alone: true})
		}, marked: true, recent: true, alone: true},
	}
}

// comeAndGo deletes contacts, and brings back some that were deleted before.
// None of them is new: what was created within the lookback is not missed yet.
func comeAndGo(w *world, cycle int) {
	w.source.Mutate(sandbox.Mutation{Restores: cycle % 2, Returns: cycle % 3 % 2})
	gone := 4
	for _, c := range w.draw(len(w.alive())) {
		if gone > 0 && time.Since(c.CreatedAt) > time.Hour {
			gone--
			if err := w.source.Delete(c.ID); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	w.source.Mutate(sandbox.Mutation{Updates: 5, Creates: 2})
}

// newColumns brings fields that were never there, and values that do not fit
// those that were.
func newColumns(w *world, cycle int) {
	w.source.Mutate(sandbox.Mutation{Updates: 5, Creates: 2})
	values := []string{`7`, `"seven"`, `true`, `7.5`, `{"seven": 7}`}
	for i, c := range w.draw(3) {
		field := func(of, round int) sandbox.Field {
			return sandbox.Field{Key: fmt.Sprintf("field %d", round), Value: json.RawMessage(values[(round+of)%len(values)])}
		}
		change := sandbox.Change{Customer: []sandbox.Field{field(0, cycle)}}
		if cycle > 0 {
			change.Ticket = []sandbox.Field{field(i, cycle-1)}
			change.Customer = append(change.Customer, field(i, cycle-1))
		}
		if err := w.source.Update(c.ID, change); err != nil {
			w.t.Fatal(err)
		}
	}
}

// names are those of all steps known.
func (w *world) names() map[string]bool {
	all := map[string]bool{}
	for _, known := range w.known {
		for name := range known {
			all[name] = true
		}
	}
	return all
}

// draw returns n contacts.
func (w *world) draw(n int) []sandbox.Contact {
	var all []sandbox.Contact
	w.source.Each(func(c sandbox.Contact) bool {
		all = append(all, c)
		return true
	})
	w.rng.Shuffle(len(all), func(i, k int) { all[i], all[k] = all[k], all[i] })
	return all[:n]
}

// prepare fills the tables once, and lets each order run undisturbed, which
// shows its steps.
func (sc scenario) prepare(w *world) {
	w.t.Helper()
	w.look()
	first := sc.orders(0)[0]
	w.must(order{Do: "sync", Destinations: first.Destinations, Sync: first.Sync, Alone: first.Alone})
	if sc.change(w, 0); sc.fresh {
		return
	}
	w.look()
	for _, o := range sc.orders(0) {
		w.must(o)
	}
	sc.judge(w, 0)
}

// judge compares every destination that is up with the source.
func (sc scenario) judge(w *world, cycle int) {
	w.t.Helper()
	o := sc.orders(cycle)[0]
	if sc.settled {
		w.must(order{Do: "sync", Destinations: o.Destinations, Sync: o.Sync})
	}
	for _, name := range o.Destinations {
		if len(o.Down) == 0 || name != o.Down[0] {
			w.same(name, crashtest.Expect{Marked: sc.marked, Beside: sc.beside})
		}
	}
	if len(o.Down) == 0 {
		w.tidy()
	}
}

// strikes kills processes until there were enough of it.
type strikes struct {
	want, done  int
	power       bool
	step        *crashtest.Step // always this one
	picked, hit map[string]int  // by name of the step
	log         []string
}

// cycle changes the source, kills what brings the change to the tables one to
// three times in a row, lets it come to its end and judges.
func (sc scenario) cycle(w *world, cycle int, s *strikes) {
	w.t.Helper()
	if sc.fresh {
		w.fresh()
	}
	sc.change(w, cycle)
	orders := sc.orders(cycle)
	for range 1 + w.rng.IntN(3) {
		w.look()
		before := w.ids("lake")
		storm := sc.stormy && w.rng.IntN(2) == 0
		w.unseen = w.unseen || storm
		w.storm.Store(storm)
		for i := range orders {
			orders[i].Kill, orders[i].Power = w.pick(orders[i].Do, s.picked), 0
			if s.step != nil {
				orders[i].Kill = s.step
			}
			if s.power {
				orders[i].Power = w.rng.Uint64() | 1
			}
		}
		outs, killed := w.do(orders...)
		w.storm.Store(false)
		w.look()
		struck := 0
		for i, o := range orders {
			w.fine(o, outs[i], killed[i])
			word := "never got to"
			if killed[i] {
				word = "was killed at"
				struck++
				s.hit[o.Kill.Name]++
			}
			s.log = append(s.log, fmt.Sprintf("cycle %d: %s %s %q", cycle, o.Do, word, o.Kill))
		}
		s.done += struck
		w.keptAll("lake", before)
		if struck == 0 || s.done >= s.want {
			break
		}
	}
	for _, o := range sc.orders(cycle) {
		w.must(o)
	}
	sc.judge(w, cycle)
}

// setup reads the environment: how many kills, from which seed, and where to.
// The number is for all crash tests together, of which this one has a share.
func setup(t *testing.T, share float64) (kills int, seed uint64, step *crashtest.Step) {
	t.Helper()
	seed = 1
	if os.Getenv("SLUICE_CRASH_KILLS") != "" {
		seed = rand.Uint64() //nolint:gosec // a test's
	}
	seed = envNumber(t, "SLUICE_CRASH_SEED", seed)
	kills = int(share * float64(envNumber(t, "SLUICE_CRASH_KILLS", 50)))
	if text := os.Getenv("SLUICE_CRASH_STEP"); text != "" {
		s, err := crashtest.ParseStep(text)
		if err != nil {
			t.Fatal(err)
		}
		step = &s
	}
	return kills, seed, step
}

func crash(t *testing.T, share float64, power bool) {
	t.Helper()
	kills, seed, step := setup(t, share)
	if testing.Short() || raceEnabled {
		kills /= 3
	}
	all := slices.DeleteFunc(scenarios(), func(sc scenario) bool {
		return power && sc.beside // one process knows nothing of what another has not flushed
	})
	for i, sc := range all {
		want := kills/len(all) + min(1, max(0, kills%len(all)-i)) // together: kills
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			o := adverse(60)
			o.DaysAlone = sc.alone
			w := newWorld(t, o, seed)
			w.recent, w.begin = sc.recent, math.MaxUint64/uint64(len(all))*uint64(i) //nolint:gosec // both are small
			s := &strikes{want: want, power: power, step: step, picked: map[string]int{}, hit: map[string]int{}}
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("after\n%s\nrepeat with SLUICE_CRASH_SEED=%d go test -run '%s$' ./internal/crashtest; SLUICE_CRASH_STEP='name#n' kills at that step alone", strings.Join(s.log, "\n"), seed, t.Name())
				}
			})
			w.calm = true
			sc.prepare(w)
			w.calm = false
			for cycle := 1; s.done < s.want && cycle < 3*s.want+3; cycle++ {
				sc.cycle(w, cycle, s)
			}
			t.Logf("%d kills at %d of %d steps, from seed %d", s.done, len(s.hit), len(w.names()), seed)
		})
	}
}

func TestKilledAtAnyStepTheNextRunConverges(t *testing.T) {
	crash(t, 0.6, false)
}

func TestWhatAPowerCutTakesAwayIsMadeUpForByTheNextRun(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("a power cut is a kill that takes more away: the kills above are the short form")
	}
	crash(t, 0.2, true)
}
