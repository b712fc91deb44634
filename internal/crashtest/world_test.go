//go:build unix

package crashtest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/crashtest"
	"github.com/sluice-etl/sluice/internal/sandbox"
	"github.com/sluice-etl/sluice/load/parquet"
	"github.com/sluice-etl/sluice/schemas"
)

// world is a source in this process, and a directory that children export to.
type world struct {
	t      *testing.T
	dir    string // state and tables
	spare  string // traces
	source *sandbox.Server
	url    string
	storm  atomic.Bool // each request for a page changes the source
	pages  atomic.Int64
	page   atomic.Pointer[func(n int64)] // called before each request for a page
	judge  *crashtest.Judge
	rng    *rand.Rand
	seed   uint64
	begin  uint64 // see pick
	unseen bool   // versions may have come and gone while nobody looked
	recent bool   // the source's contacts are those with a message within recentDays
	// known are the steps by what a process does: how many there are of each
	// name in a run that nothing disturbs.
	known map[string]map[string]int
	// calm is that nothing disturbs the runs yet.
	calm   bool
	traces int
}

// adverse is a small source with all that makes reading hard: ties larger than
// a page in both timestamps, without an order, faults, and changes between any
// two requests.
func adverse(contacts int) sandbox.Options {
	o := sandbox.DefaultOptions()
	o.Contacts = contacts
	o.CreatedTies, o.CreatedMsTies = contacts/3, contacts/4
	o.UpdatedTies, o.UpdatedMsTies = contacts/4, contacts/5
	o.ShuffleTies = true
	o.Fault502, o.FaultTruncate = sandbox.Rate{Every: 19}, sandbox.Rate{Every: 23}
	return o
}

func newWorld(t *testing.T, o sandbox.Options, seed uint64) *world {
	t.Helper()
	w := &world{t: t, seed: seed, spare: t.TempDir(), rng: rand.New(rand.NewPCG(seed, 1)), known: map[string]map[string]int{}} //nolint:gosec // a test's
	o.Seed = seed
	server, err := sandbox.New(o, clock.System{})
	if err != nil {
		t.Fatal(err)
	}
	w.source = server
	running := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/contacts") {
			n := w.pages.Add(1)
			if page := w.page.Load(); page != nil {
				(*page)(n)
			}
			if w.storm.Load() {
				server.Mutate(sandbox.Mutation{Updates: 1})
			}
		}
		server.Handler().ServeHTTP(rw, r)
	}))
	running.Config.ErrorLog = nil
	t.Cleanup(running.Close)
	w.url = running.URL
	w.fresh()
	t.Cleanup(func() { _ = w.judge.Close() })
	return w
}

// fresh begins with an empty directory, and a judge that has seen nothing.
// What there was before is given up at once: there may be hundreds of it.
func (w *world) fresh() {
	w.t.Helper()
	if w.judge != nil {
		if err := errors.Join(w.judge.Close(), os.RemoveAll(w.dir)); err != nil {
			w.t.Fatal(err)
		}
	}
	w.dir = w.t.TempDir()
	j, err := crashtest.NewJudge()
	if err != nil {
		w.t.Fatal(err)
	}
	w.judge, w.unseen = j, false
}

// recentDays is the window of recent contacts. No contact of the source has a
// last message as old as that by chance of an hour.
const recentDays = 360

// look notes the versions that the source has now.
func (w *world) look() {
	w.t.Helper()
	var dump bytes.Buffer
	if err := w.source.Dump(&dump); err != nil {
		w.t.Fatal(err)
	}
	lines := slices.DeleteFunc(bytes.SplitAfter(dump.Bytes(), []byte("\n")), func(line []byte) bool {
		var c struct {
			Last time.Time `json:"last_message_at"`
		}
		return len(line) == 0 || w.recent && json.Unmarshal(line, &c) == nil && time.Since(c.Last) > recentDays*24*time.Hour
	})
	if err := w.judge.Look(bytes.Join(lines, nil)); err != nil {
		w.t.Fatal(err)
	}
}

// complete fills in where an order reads and writes.
func (w *world) complete(o order) order {
	o.Dir, o.URL = w.dir, w.url
	w.traces++
	o.Trace = filepath.Join(w.spare, fmt.Sprintf("trace-%d", w.traces))
	return o
}

// do lets children do orders side by side, and learns which steps there are.
func (w *world) do(orders ...order) (outs []outcome, killed []bool) {
	w.t.Helper()
	running := make([]*process, len(orders))
	for i, o := range orders {
		running[i] = start(w.t, w.complete(o))
	}
	for _, p := range running {
		out, dead := p.wait(w.t)
		outs, killed = append(outs, out), append(killed, dead)
		w.learn(p.order.Do, steps(w.t, p.order.Trace))
		if err := os.Remove(p.order.Trace); err != nil {
			w.t.Fatal(err)
		}
	}
	return outs, killed
}

// must does an order and fails where it does, unless a destination is down.
func (w *world) must(o order) outcome {
	w.t.Helper()
	outs, killed := w.do(o)
	w.fine(o, outs[0], killed[0])
	if killed[0] {
		w.t.Fatalf("%s was killed, and nobody did it", o.Do)
	}
	return outs[0]
}

// fine fails where a child failed by itself.
func (w *world) fine(o order, out outcome, killed bool) {
	w.t.Helper()
	if !killed && out.Error != "" && (len(o.Down) == 0 || !strings.Contains(out.Error, errDown.Error())) {
		w.t.Fatalf("%s: %s", o.Do, out.Error)
	}
	if !killed && out.Error == "" && len(o.Down) > 0 {
		w.t.Fatalf("%s said nothing of a destination that is down", o.Do)
	}
}

// learn takes note of the steps that a process has passed. Those of one that
// was killed, or goes on after one, are fewer, and may be others.
func (w *world) learn(do string, passed map[string]int) {
	if w.calm || w.known[do] == nil {
		w.known[do] = passed
		return
	}
	for name, n := range passed {
		if w.known[do][name] == 0 {
			w.known[do][name] = n
		}
	}
}

// pick gives a step of an order, of a name that was picked least before it.
// Names stand in a circle, in an order that the seed draws, and each world
// begins elsewhere on it: together they come round. Of the steps of a name it
// is often the first or the last.
func (w *world) pick(do string, picked map[string]int) *crashtest.Step {
	known, best := w.known[do], ""
	for _, name := range slices.Sorted(maps.Keys(known)) {
		before := picked[name] - picked[best]
		if best == "" || before < 0 || before == 0 && w.place(name) < w.place(best) {
			best = name
		}
	}
	picked[best]++
	n := [...]int{1, known[best], 1 + w.rng.IntN(known[best])}
	return &crashtest.Step{Name: best, N: n[w.rng.IntN(len(n))]}
}

// place is where a name stands on the circle, seen from where the world begins.
func (w *world) place(name string) uint64 {
	h := fnv.New64a()
	fmt.Fprint(h, w.seed, name)
	return h.Sum64()*0x9e3779b97f4a7c15 - w.begin // FNV alone leaves names of one end together
}

// ids are the contacts that a reader of a table finds now.
func (w *world) ids(name string) []string {
	w.t.Helper()
	files, err := filepath.Glob(filepath.Join(w.dir, name, "contacts", "current", "*", "*.parquet"))
	if err != nil {
		w.t.Fatal(err)
	}
	if len(files) == 0 {
		return nil
	}
	ids, err := w.judge.IDs(w.t.Context(), filepath.Join(w.dir, name, "contacts"))
	if err != nil {
		w.t.Fatalf("read %s: %v", name, err)
	}
	return ids
}

// alive says which contacts the source has.
func (w *world) alive() map[string]bool {
	alive := map[string]bool{}
	w.source.Each(func(c sandbox.Contact) bool {
		alive[c.ID] = true
		return true
	})
	return alive
}

// keptAll fails where a reader misses a contact that was there before and that
// the source still has.
func (w *world) keptAll(name string, before []string) {
	w.t.Helper()
	alive := w.alive()
	lost := slices.DeleteFunc(crashtest.Lost(before, w.ids(name)), func(id string) bool { return !alive[id] })
	if len(lost) > 0 {
		w.t.Fatalf("a reader of %s misses %v, which were there before", name, lost[:min(5, len(lost))])
	}
}

// same fails unless a destination equals the source.
func (w *world) same(name string, e crashtest.Expect) {
	w.t.Helper()
	e.Unseen = w.unseen
	var faults []string
	var err error
	if strings.HasSuffix(name, ".duckdb") {
		faults, err = w.judge.CheckDatabase(w.t.Context(), filepath.Join(w.dir, name), "contacts", w.table("lake"), e)
	} else {
		dir := filepath.Join(w.dir, name, "contacts")
		if faults, err = w.judge.Check(w.t.Context(), dir, w.table(name), e); err == nil {
			var orphans []string
			orphans, err = crashtest.Orphans(dir)
			faults = append(faults, orphans...)
		}
	}
	if err != nil {
		w.t.Fatal(err)
	}
	if len(faults) > 0 {
		w.t.Fatalf("%s is not the source:\n%s", name, crashtest.Summary(faults))
	}
}

func (w *world) table(name string) schemas.Table {
	w.t.Helper()
	m, err := parquet.OpenManifest(filepath.Join(w.dir, name, "contacts"))
	if err != nil {
		w.t.Fatal(err)
	}
	return m.Schema
}

// tidy fails where something is left that no later run needs.
func (w *world) tidy() {
	w.t.Helper()
	found, err := crashtest.Leftovers(w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	rescued, err := filepath.Glob(filepath.Join(w.dir, "sluice-state-*"))
	if err != nil {
		w.t.Fatal(err)
	}
	if found = append(found, rescued...); len(found) > 0 {
		w.t.Fatal(crashtest.Summary(found))
	}
}

// envNumber reads a number from the environment.
func envNumber(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	var n uint64
	if err := json.Unmarshal([]byte(text), &n); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}
