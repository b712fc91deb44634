//go:build unix

package crashtest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-etl/sluice/internal/atomicfile/faultfs"
	"github.com/sluice-etl/sluice/internal/crashtest"
	"github.com/sluice-etl/sluice/internal/sandbox"
)

// operation is one that an undisturbed run asked the disk for.
type operation struct {
	n    int // from 1
	name string
}

// operations names what a faultfs has counted.
func operations(disk *faultfs.FS) []operation {
	var ops []operation
	for i, line := range disk.Trace() {
		words := strings.Fields(line)
		path := words[1]
		if words[0] == "rename" {
			path = words[2]
		}
		ops = append(ops, operation{n: i + 1, name: words[0] + " " + crashtest.Kind(path)})
	}
	return ops
}

// chosen draws operations: so many of each name, and not more than most. One is
// always a write of the journal: a run that goes on without a record of it seems
// to have done all, and has lost a part.
func (w *world) chosen(ops []operation, each, most int) []operation {
	w.rng.Shuffle(len(ops), func(i, k int) { ops[i], ops[k] = ops[k], ops[i] })
	had := map[string]int{}
	ops = slices.DeleteFunc(ops, func(o operation) bool {
		had[o.name]++
		return had[o.name] > each
	})
	if i := slices.IndexFunc(ops, func(o operation) bool { return o.name == "write journal" }); i > 0 {
		ops[0], ops[i] = ops[i], ops[0]
	}
	return ops[:min(len(ops), most)]
}

// swept removes the copies of state that were rescued: their users had a
// message with the command that puts them back, and ran again in its place.
func (w *world) swept() {
	w.t.Helper()
	rescued, err := filepath.Glob(filepath.Join(w.dir, "sluice-state-*"))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, path := range rescued {
		if err := os.Remove(path); err != nil {
			w.t.Fatal(err)
		}
	}
}

func TestWhereTheDiskFailsOnceTheNextRunConverges(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("the faults of single packages are the short form; this one takes seconds without showing a race")
	}
	kills, seed, _ := setup(t, 1)
	each, most := 1, 3 // by default a sample
	if kills >= 500 {
		each, most = 3, 1<<20
	}
	for _, sc := range scenarios() {
		if sc.name != "first" && sc.name != "columns" && sc.name != "backfill" {
			continue
		}
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, adverse(40), seed)
			sc.stormy = false
			sc.faults(w, each, most)
		})
	}
}

// faults repeats a scenario with an error at one operation after the other.
func (sc scenario) faults(w *world, each, most int) {
	w.t.Helper()
	again := func(cycle int) {
		if sc.fresh {
			w.fresh()
		}
		sc.change(w, cycle)
		w.look()
	}
	if !sc.fresh {
		w.source.Mutate(sandbox.Mutation{Creates: 3})
		sc.prepare(w)
	}
	again(1)
	calm := faultfs.New(nil, faultfs.Fault{})
	o := w.complete(sc.orders(1)[0])
	if _, err := o.run(w.t.Context(), calm); err != nil {
		w.t.Fatal(err)
	}
	cycle, silent, struck := 1, map[string]int{}, 0
	for _, op := range w.chosen(operations(calm), each, most) {
		for _, fault := range []error{faultfs.ErrIO, faultfs.ErrNoSpace} {
			cycle++
			again(cycle)
			before := w.ids("lake")
			o := w.complete(sc.orders(cycle)[0])
			disk := faultfs.New(nil, faultfs.Fault{Op: op.n, Err: fault})
			_, err := o.run(w.t.Context(), disk)
			what := fmt.Sprintf("cycle %d, seed %d: %v at operation %d, %s", cycle, envNumber(w.t, "SLUICE_CRASH_SEED", 1), fault, op.n, op.name)
			if disk.Failed() {
				struck++
			}
			w.keptAll("lake", before)
			if err == nil && disk.Failed() {
				silent[op.name]++ // then nothing may be missing
				if !sc.settled {
					w.same("lake", crashtest.Expect{})
				}
			}
			if _, err := o.run(w.t.Context(), faultfs.New(nil, faultfs.Fault{})); err != nil {
				w.t.Fatalf("%s: the next run: %v", what, err)
			}
			w.swept()
			w.t.Log(what)
			sc.judge(w, cycle)
		}
	}
	w.t.Logf("%d faults; no error was reported of %v", struck, silent)
}
