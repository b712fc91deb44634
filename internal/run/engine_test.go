package run_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/sandbox"
	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/parquet"
	"github.com/sluice-etl/sluice/schemas"
)

// world is a source, a state and a lake in one test directory.
type world struct {
	t      testing.TB
	dir    string
	source *sandbox.Server
	url    string
	store  *state.Store
	events []run.Event
	clock  clock.Clock // nil: the machine's
	// afterPage is called after every accepted page, with how many there were.
	afterPage func(pages int64)
}

func newWorld(t *testing.T, o sandbox.Options) *world {
	t.Helper()
	return newWorldAt(t, o, clock.System{})
}

// newWorldAt is newWorld with a clock for the source.
func newWorldAt(t *testing.T, o sandbox.Options, clk clock.Clock) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir()}
	server, err := sandbox.New(o, clk)
	if err != nil {
		t.Fatal(err)
	}
	running, err := server.Start(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = running.Close() })
	w.source, w.url = server, running.URL
	w.store = w.open()
	return w
}

func (w *world) open(opts ...state.Option) *state.Store {
	w.t.Helper()
	opts = append(opts, state.WithRescueDir(w.t.TempDir()))
	store, err := state.Open(filepath.Join(w.dir, "state"), clock.System{}, opts...)
	if err != nil {
		w.t.Fatal(err)
	}
	return store
}

func (w *world) lake(name string) load.Loader {
	w.t.Helper()
	l, err := parquet.New(parquet.Options{Path: filepath.Join(w.dir, name), Table: "contacts"})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = l.Close() })
	return l
}

func (w *world) job(destinations ...run.Destination) run.Job {
	if len(destinations) == 0 {
		destinations = []run.Destination{{Name: "lake", Loader: w.lake("lake")}}
	}
	return run.Job{
		Pipeline: "nightly",
		Source:   extract.Source{BaseURL: w.url, APIKey: sandbox.DefaultKey, RequestsPerSecond: -1, MaxRetries: -1},
		Identity: state.SourceIdentity{Scheme: "sandbox"},
		Contract: schemas.Default(), Lookback: time.Hour, PageSize: 100,
		Verify: load.VerifySample, Destinations: destinations,
	}
}

func (w *world) run(ctx context.Context, job run.Job) (run.Summary, error) {
	w.t.Helper()
	w.events = nil
	var clk clock.Clock = clock.System{}
	if w.clock != nil {
		clk = w.clock
	}
	e := run.Engine{Store: w.store, Clock: clk, SealRows: 500, Observe: func(ev run.Event) {
		w.events = append(w.events, ev)
		if ev.Type == "progress" && w.afterPage != nil {
			w.afterPage(ev.Pages)
		}
	}}
	return e.Run(ctx, job)
}

func (w *world) mustRun(job run.Job) run.Summary {
	w.t.Helper()
	sum, err := w.run(w.t.Context(), job)
	if err != nil {
		w.t.Fatalf("run: %v", err)
	}
	return sum
}

func (w *world) state() *state.Pipeline {
	w.t.Helper()
	p, err := w.store.Load(w.t.Context(), "nightly")
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// same fails unless a lake holds exactly the source's contacts, each once and
// in the source's version.
func (w *world) same(name string) {
	w.t.Helper()
	want := map[string]int64{}
	w.source.Each(func(c sandbox.Contact) bool {
		want[c.ID] = c.UpdatedAt.Truncate(time.Millisecond).UnixMicro()
		return true
	})
	got := w.stored(name)
	if len(got) != len(want) {
		w.t.Errorf("%s holds %d contacts, the source %d", name, len(got), len(want))
	}
	for id, at := range want {
		if got[id] != at {
			w.t.Fatalf("%s holds %s as updated at %d, the source says %d", name, id, got[id], at)
		}
	}
}

func (w *world) stored(name string) map[string]int64 {
	w.t.Helper()
	files, err := filepath.Glob(filepath.Join(w.dir, name, "contacts", "current", "*", "*.parquet"))
	if err != nil {
		w.t.Fatal(err)
	}
	got := map[string]int64{}
	for _, f := range files {
		for id, at := range readTimes(w.t, f) {
			if _, twice := got[id]; twice {
				w.t.Fatalf("%s holds %s twice", name, id)
			}
			got[id] = at
		}
	}
	return got
}

// tidy fails if anything is left that no later run needs.
func (w *world) tidy() {
	w.t.Helper()
	runs, err := filepath.Glob(filepath.Join(w.dir, "state", "runs", "*"))
	if err != nil || len(runs) > 0 {
		w.t.Errorf("run directories are left: %v %v", runs, err)
	}
	err = filepath.WalkDir(w.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && atomicfile.IsTemp(d.Name()) {
			w.t.Errorf("a temporary file is left: %s", path)
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func contacts(n int) sandbox.Options {
	o := sandbox.DefaultOptions()
	o.Contacts = n
	return o
}

func TestAnInterruptedRunGoesOnWhereItsLastPartEnded(t *testing.T) {
	w := newWorld(t, contacts(5000))
	ctx, cancel := context.WithCancel(t.Context())
	w.afterPage = func(pages int64) {
		if pages >= 40 {
			cancel()
		}
	}
	_, err := w.run(ctx, w.job())
	var interrupted *run.InterruptedError
	if !errors.As(err, &interrupted) || interrupted.Staged < 2000 {
		t.Fatalf("got %v", err)
	}
	if p := w.state(); p.Cursor != nil || p.NextPackage != 1 {
		t.Fatalf("an interrupted run moved the cursor or made a package: %+v", p)
	}
	w.afterPage = nil
	before := w.source.Stats().Pages
	sum := w.mustRun(w.job())
	// A page that crosses the end of a window is read by both sides.
	if n, left := w.source.Stats().Pages-before, (5000-interrupted.Staged)/100; int64(n) > left+20 {
		t.Errorf("with %d pages of 50 to go, the next run fetched %d", left, n)
	}
	if sum.New != 5000 {
		t.Errorf("found %d new contacts of 5000", sum.New)
	}
	w.same("lake")
	w.tidy()
}

func TestRunsKilledAtEveryPageConverge(t *testing.T) {
	w := newWorld(t, contacts(1500))
	for stop := int64(1); stop < 30; stop++ {
		ctx, cancel := context.WithCancel(t.Context())
		w.afterPage = func(pages int64) {
			if pages%3 == stop%3 {
				cancel()
			}
		}
		w.source.Mutate(sandbox.Mutation{Updates: 7, Creates: 1})
		_, err := w.run(ctx, w.job())
		cancel()
		var interrupted *run.InterruptedError
		if err != nil && !errors.As(err, &interrupted) {
			t.Fatalf("stop %d: %v", stop, err)
		}
	}
	w.afterPage = nil
	w.mustRun(w.job())
	w.mustRun(w.job())
	w.same("lake")
	w.tidy()
}

func TestFullEveryReadsEverythingWhenTheLastFullReadIsOld(t *testing.T) {
	w := newWorld(t, contacts(300))
	job := w.job()
	job.FullEvery = 24 * time.Hour
	for day, want := range []string{"full", "incremental", "full", "incremental"} {
		w.clock = clock.Fixed(time.Now().Add(time.Duration(day) * 13 * time.Hour))
		w.mustRun(job)
		if got := w.events[0].Mode; got != want {
			t.Errorf("after %d hours a run was %s, want %s", day*13, got, want)
		}
	}
	w.same("lake")
	w.tidy()
}

// brokenLoader fails its commits while down is set.
type brokenLoader struct {
	load.Loader
	down atomic.Bool
}

var errDown = errors.New("the destination is down")

func (b *brokenLoader) Commit(ctx context.Context, p load.Package) (load.Result, error) {
	if b.down.Load() {
		return load.Result{}, errDown
	}
	return b.Loader.Commit(ctx, p)
}

func TestADestinationThatFailsStopsNothingAndCatchesUp(t *testing.T) {
	w := newWorld(t, contacts(1000))
	broken := &brokenLoader{Loader: w.lake("second")}
	broken.down.Store(true)
	job := w.job(run.Destination{Name: "lake", Loader: w.lake("lake")}, run.Destination{Name: "second", Loader: broken})
	for i := range 3 {
		w.source.Mutate(sandbox.Mutation{Updates: 20, Creates: 5})
		sum, err := w.run(t.Context(), job)
		var failed *run.DestinationsError
		if !errors.As(err, &failed) || !errors.Is(err, errDown) || !strings.Contains(err.Error(), `"second"`) {
			t.Fatalf("run %d: %v", i, err)
		}
		if sum.Status != "failed" {
			t.Errorf("run %d ended as %s", i, sum.Status)
		}
		w.same("lake")
		if q := w.state().Destinations["second"].Queue; len(q) != i+1 {
			t.Fatalf("run %d left %d packages queued", i, len(q))
		}
	}
	if w.state().Destinations["second"].FailingSince == nil {
		t.Error("state does not say since when the destination fails")
	}
	broken.down.Store(false)
	w.mustRun(job)
	w.same("lake")
	w.same("second")
	w.tidy()
}

func TestAQueueThatIsTooLongIsGivenUpAndTheDestinationFilledAnew(t *testing.T) {
	slow(t)
	w := newWorld(t, contacts(600))
	broken := &brokenLoader{Loader: w.lake("second")}
	job := w.job(run.Destination{Name: "lake", Loader: w.lake("lake")}, run.Destination{Name: "second", Loader: broken, QueueBytes: 1})
	w.mustRun(job)
	broken.down.Store(true)
	w.source.Mutate(sandbox.Mutation{Updates: 20, Creates: 5})
	_, err := w.run(t.Context(), job)
	var failed *run.DestinationsError
	if !errors.As(err, &failed) || failed.Failed[0].GivenUp != 1 || !strings.Contains(failed.Hint(), "once more") {
		t.Fatalf("got %v", err)
	}
	d := w.state().Destinations["second"]
	if d.NeedsFull == nil || len(d.Queue) != 0 || d.FailingSince == nil {
		t.Errorf("state says %+v", d)
	}
	w.same("lake")
	w.tidy() // the parts that nobody waits for are gone
	broken.down.Store(false)
	w.mustRun(job)
	if ev := w.events[0]; ev.Mode != "full" || !strings.Contains(ev.Reason, `"second"`) {
		t.Errorf("mode %q: %s", ev.Mode, ev.Reason)
	}
	if d := w.state().Destinations["second"]; d.NeedsFull != nil || d.FailingSince != nil {
		t.Errorf("state says %+v", d)
	}
	w.same("lake")
	w.same("second")
	w.mustRun(job)
	if ev := w.events[0]; ev.Mode != "incremental" {
		t.Errorf("mode %q: %s", ev.Mode, ev.Reason)
	}
	w.tidy()
}

func TestANewDestinationIsSeededByAFullReadAndARemovedOneForgotten(t *testing.T) {
	slow(t)
	w := newWorld(t, contacts(1000))
	w.mustRun(w.job())
	both := w.job(run.Destination{Name: "lake", Loader: w.lake("lake")}, run.Destination{Name: "second", Loader: w.lake("second")})
	w.mustRun(both)
	if ev := w.events[0]; ev.Mode != "full" || !strings.Contains(ev.Reason, "second") {
		t.Errorf("a new destination was filled by %s: %s", ev.Mode, ev.Reason)
	}
	w.same("second")
	w.source.Mutate(sandbox.Mutation{Updates: 3})
	w.mustRun(w.job())
	if _, there := w.state().Destinations["second"]; there {
		t.Error("state still holds the removed destination")
	}
	w.same("lake")
	w.tidy()
}

func TestAnotherAccountBehindTheSameURLIsRefused(t *testing.T) {
	w := newWorld(t, contacts(300))
	w.mustRun(w.job())
	before, held := *w.state(), w.stored("lake")
	o := contacts(400)
	o.Seed = 99
	other := newWorld(t, o)
	job := w.job()
	job.Source.BaseURL = other.url
	job.Full = true
	_, err := w.run(t.Context(), job)
	if !errors.Is(err, state.ErrForeignSource) {
		t.Fatalf("got %v", err)
	}
	after := w.state()
	if !after.Cursor.Equal(*before.Cursor) || after.NextPackage != before.NextPackage || fmt.Sprint(after.Source) != fmt.Sprint(before.Source) {
		t.Errorf("state changed: %+v, was %+v", after, before)
	}
	if got := w.stored("lake"); fmt.Sprint(got) != fmt.Sprint(held) {
		t.Error("the table changed")
	}
	w.same("lake")
	w.tidy()
}

func TestALostStateIsNotMixedWithTheTableItLeft(t *testing.T) {
	w := newWorld(t, contacts(200))
	w.mustRun(w.job())
	if err := os.RemoveAll(filepath.Join(w.dir, "state")); err != nil {
		t.Fatal(err)
	}
	_, err := w.run(t.Context(), w.job())
	if !errors.Is(err, load.ErrForeign) {
		t.Fatalf("got %v", err)
	}
	w.same("lake")
}

func TestATableThatWentAwayIsNotFilledWithTheChangesAlone(t *testing.T) {
	w := newWorld(t, contacts(500))
	w.mustRun(w.job())
	moved := w.job(run.Destination{Name: "lake", Loader: w.lake("elsewhere")})
	w.source.Mutate(sandbox.Mutation{Updates: 10})
	var lost *run.LostTableError
	if _, err := w.run(t.Context(), moved); !errors.As(err, &lost) {
		t.Fatalf("got %v", err)
	}
	if got := w.stored("elsewhere"); len(got) != 0 {
		t.Errorf("%d contacts were written", len(got))
	}
	moved.Full = true
	w.mustRun(moved)
	w.same("elsewhere")
}

func TestAContractThatRetypesAColumnChangesNothing(t *testing.T) {
	w := newWorld(t, contacts(100))
	w.mustRun(w.job())
	retyped := w.job()
	text := strings.Replace(string(schemas.BuiltIn()), "type: bool", "type: string", 1)
	var err error
	if retyped.Contract, err = schemas.ParseContract("contacts.yaml", []byte(text)); err != nil {
		t.Fatal(err)
	}
	var conflict *run.ContractError
	if _, err := w.run(t.Context(), retyped); !errors.As(err, &conflict) || !strings.Contains(err.Error(), "blocked") {
		t.Fatalf("got %v", err)
	}
	w.source.Mutate(sandbox.Mutation{Updates: 10})
	w.mustRun(w.job())
	w.same("lake")
	w.tidy()
}

func TestANarrowerPlatformFilterTakesTheOthersOut(t *testing.T) {
	slow(t)
	w := newWorld(t, contacts(400))
	w.mustRun(w.job())
	job := w.job()
	job.Filters = map[string][]string{"platform": {"instagram"}}
	w.mustRun(job)
	want := 0
	w.source.Each(func(c sandbox.Contact) bool {
		if c.Platform == "instagram" {
			want++
		}
		return true
	})
	if got := len(w.alive("lake")); got != want || len(w.stored("lake")) != 400 {
		t.Errorf("%d contacts are left, %d pass the filter; %d rows in all", got, want, len(w.stored("lake")))
	}
}

func TestAStateRestoredFromABackupGivesNoSerialTwice(t *testing.T) {
	slow(t)
	w := newWorld(t, contacts(200))
	w.mustRun(w.job())
	path := w.store.Path("nightly")
	backup, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		w.source.Mutate(sandbox.Mutation{Updates: 5, Creates: 1})
		w.mustRun(w.job())
	}
	if err := os.WriteFile(path, backup, 0o600); err != nil {
		t.Fatal(err)
	}
	w.source.Mutate(sandbox.Mutation{Updates: 5, Creates: 1})
	w.mustRun(w.job())
	w.same("lake")
}

func TestAnEmptySourceIsAnErrorUntilItHasAContact(t *testing.T) {
	w := newWorld(t, contacts(0))
	var empty *run.EmptySourceError
	if _, err := w.run(t.Context(), w.job()); !errors.As(err, &empty) {
		t.Fatalf("got %v", err)
	}
	if p := w.state(); p.Cursor != nil || p.NextPackage != 1 {
		t.Errorf("state moved: %+v", p)
	}
	w.source.Create(1)
	w.mustRun(w.job())
	w.same("lake")
	w.tidy()
}

func TestAContactThatLeavesAFilterLeavesTheTable(t *testing.T) {
	w := newWorld(t, contacts(300))
	job := w.job()
	job.Filters = map[string][]string{"chat_status": {"UNATTENDED"}}
	w.mustRun(job)
	inside := w.alive("lake")
	if len(inside) == 0 || len(inside) == 300 || len(inside) != len(w.stored("lake")) {
		t.Fatalf("%d of %d stored contacts pass the filter", len(inside), len(w.stored("lake")))
	}
	var id string
	for id = range inside {
		break
	}
	attended := "ATTENDED"
	if err := w.source.Update(id, sandbox.Change{ChatStatus: &attended}); err != nil {
		t.Fatal(err)
	}
	w.mustRun(job)
	if w.alive("lake")[id] || !has(w.stored("lake"), id) {
		t.Errorf("%s left the filter; it has to stay as deleted", id)
	}
	unattended := "UNATTENDED"
	if err := w.source.Update(id, sandbox.Change{ChatStatus: &unattended}); err != nil {
		t.Fatal(err)
	}
	w.mustRun(job)
	if got := w.alive("lake"); !got[id] || len(got) != len(inside) {
		t.Errorf("%s came back: it is there: %t, with %d others, want %d", id, got[id], len(got)-1, len(inside)-1)
	}
}

func has(m map[string]int64, id string) bool { _, ok := m[id]; return ok }

func TestFilteredContactsStayOut(t *testing.T) {
	w := newWorld(t, contacts(500))
	job := w.job()
	job.Filters = map[string][]string{"platform": {"instagram"}}
	w.mustRun(job)
	want := 0
	w.source.Each(func(c sandbox.Contact) bool {
		if c.Platform == "instagram" {
			want++
		}
		return true
	})
	if got := len(w.stored("lake")); got != want {
		t.Errorf("the table holds %d contacts, %d pass the filter", got, want)
	}
	job.Filters = nil
	w.mustRun(job)
	if ev := w.events[0]; ev.Mode != "full" || !strings.Contains(ev.Reason, "filters") {
		t.Errorf("changed filters led to %s: %s", ev.Mode, ev.Reason)
	}
	w.same("lake")
}
