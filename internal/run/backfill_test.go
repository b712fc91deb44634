package run_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/sandbox"
	"github.com/sluice-etl/sluice/internal/state"
)

func day(s string) time.Time {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		panic(err)
	}
	return t
}

// spring is the range that these tests read again, in 13 windows.
func spring() run.Backfill {
	return run.Backfill{From: day("2024-03-01"), To: day("2024-06-01"), Key: extract.ByCreated, Window: 7 * 24 * time.Hour}
}

func (w *world) backfill(ctx context.Context, job run.Job, b run.Backfill, sealRows int) (run.Summary, error) {
	w.t.Helper()
	var events []run.Event
	e := run.Engine{Store: w.store, Clock: clock.System{}, SealRows: sealRows, Observe: func(ev run.Event) {
		events = append(events, ev)
		if ev.Type == "progress" && w.afterPage != nil {
			w.afterPage(ev.Pages)
		}
	}}
	sum, err := e.Backfill(ctx, job, b)
	w.events = events
	return sum, err
}

// edit changes contacts created in [from, to) without moving updated_at, so
// that no incremental run finds them, and returns how many there are.
func (w *world) edit(from, to time.Time, name string) int {
	w.t.Helper()
	var ids []string
	w.source.Each(func(c sandbox.Contact) bool {
		if !c.CreatedAt.Before(from) && c.CreatedAt.Before(to) {
			ids = append(ids, c.ID)
		}
		return true
	})
	for _, id := range ids {
		if err := w.source.Update(id, sandbox.Change{Name: &name, Silent: true}); err != nil {
			w.t.Fatal(err)
		}
	}
	return len(ids)
}

// named counts the contacts of a lake that bear a name.
func (w *world) named(lake, name string) int {
	w.t.Helper()
	files, err := filepath.Glob(filepath.Join(w.dir, lake, "contacts", "current", "*", "*.parquet"))
	if err != nil {
		w.t.Fatal(err)
	}
	n := 0
	for _, f := range files {
		read(w.t, f, "name", func(_ string, col arrow.Array, i int) {
			if col.(*array.String).Value(i) == name {
				n++
			}
		})
	}
	return n
}

func TestABackfillReadsItsRangeAgainAndLeavesTheCursor(t *testing.T) {
	w := newWorld(t, contacts(3000))
	w.mustRun(w.job())
	before := w.state()
	b := spring()
	inside := w.edit(b.From, b.To, "inside")
	w.edit(b.From.Add(-24*time.Hour), b.From, "outside")
	w.edit(b.To, b.To.Add(24*time.Hour), "outside")
	w.mustRun(w.job())
	if n := w.named("lake", "inside"); n > 0 {
		t.Fatalf("an incremental run found %d silent changes: this test shows nothing", n)
	}
	sum, err := w.backfill(t.Context(), w.job(), b, 500)
	if err != nil {
		t.Fatal(err)
	}
	if sum.Changed != int64(inside) || sum.New+sum.Unchanged != 0 || inside < 100 {
		t.Errorf("%d contacts lie in the range; the summary says %+v", inside, sum)
	}
	if in, out := w.named("lake", "inside"), w.named("lake", "outside"); in != inside || out != 0 {
		t.Errorf("the table has %d of %d contacts of the range, and %d from outside", in, inside, out)
	}
	after := w.state()
	if after.Cursor.Before(*before.Cursor) || after.Filters != before.Filters || after.Contract != before.Contract || !after.LastFull.Equal(*before.LastFull) {
		t.Errorf("state moved: %+v", after)
	}
	rec := after.Runs[len(after.Runs)-1]
	if rec.Kind != "backfill" || rec.Mode != "backfill" || rec.Status != "done" || rec.CursorAfter != nil || rec.Rows != int64(inside) ||
		!strings.Contains(string(rec.Coverage), `"until": "2024-06-01T00:00:00Z"`) {
		t.Errorf("state remembers %+v\n%s", rec, rec.Coverage)
	}
	w.mustRun(w.job())
	w.same("lake")
	w.tidy()
}

func TestABackfillDoesNotMoveTheCursor(t *testing.T) {
	w := newWorld(t, contacts(300))
	w.mustRun(w.job())
	before := *w.state().Cursor
	w.source.Mutate(sandbox.Mutation{Updates: 20, Creates: 5})
	b := run.Backfill{From: day("2026-01-01"), To: time.Now().Add(48 * time.Hour), Key: extract.ByUpdated, Window: 30 * 24 * time.Hour}
	sum, err := w.backfill(t.Context(), w.job(), b, 500)
	if err != nil {
		t.Fatal(err)
	}
	if got := *w.state().Cursor; !got.Equal(before) || sum.Cursor != before.Format(time.RFC3339Nano) {
		t.Errorf("the cursor went from %s to %s; the summary says %s", before, got, sum.Cursor)
	}
	w.same("lake") // all that changed has changed before now, where a range by updated_at ends
	w.mustRun(w.job())
	w.same("lake")
	w.tidy()
}

func TestAStoppedBackfillGoesOnWithTheRest(t *testing.T) {
	w := newWorld(t, contacts(4000))
	w.mustRun(w.job())
	b := spring()
	b.Parallel = 2
	inside := w.edit(b.From, b.To, "inside")
	job := w.job()
	job.PageSize = 10
	w.source.Mutate(sandbox.Mutation{Updates: 1})
	requests := w.source.Stats().Requests
	for stop := range int64(50) {
		ctx, cancel := context.WithCancel(t.Context())
		first := int64(0)
		w.afterPage = func(pages int64) {
			if first == 0 {
				first = pages
			}
			if pages >= first+5 {
				cancel()
			}
		}
		_, err := w.backfill(ctx, job, b, 20)
		cancel()
		var interrupted *run.InterruptedError
		if err == nil {
			if stop < 3 {
				t.Fatalf("it was done after %d stops: this test shows nothing", stop)
			}
			break
		}
		if !errors.As(err, &interrupted) {
			t.Fatal(err)
		}
	}
	w.afterPage = nil
	if n := w.named("lake", "inside"); n != inside {
		t.Errorf("the table has %d of the %d contacts", n, inside)
	}
	// 28 pages for all at once; each stop may repeat what was in flight.
	if n := w.source.Stats().Requests - requests; n > 100 {
		t.Errorf("%d requests for %d contacts", n, inside)
	}
	w.mustRun(w.job())
	w.same("lake")
	w.tidy()
}

// failing answers 500 where bad says so.
type failing struct {
	bad func(q url.Values) bool
	mu  sync.Mutex
	ask []string // created_after of every request
}

func (f *failing) RoundTrip(r *http.Request) (*http.Response, error) {
	q := r.URL.Query()
	f.mu.Lock()
	f.ask = append(f.ask, q.Get("created_after"))
	bad := f.bad(q)
	f.mu.Unlock()
	if bad {
		w := httptest.NewRecorder()
		http.Error(w, "the server is ill", http.StatusInternalServerError)
		return w.Result(), nil
	}
	return http.DefaultTransport.RoundTrip(r)
}

func TestAWindowThatFailsIsReadAloneTheNextTime(t *testing.T) {
	w := newWorld(t, contacts(3000))
	w.mustRun(w.job())
	b := spring()
	inside := w.edit(b.From, b.To, "inside")
	ill := &failing{bad: func(q url.Values) bool {
		after := q.Get("created_after")
		return after >= "2024-03-15" && after < "2024-03-21" || after >= "2024-05-17" && after < "2024-05-23"
	}}
	job := w.job()
	job.Source.Transport, job.PageSize = ill, 8 // a window holds about 16
	_, err := w.backfill(t.Context(), job, b, 500)
	var failed *run.WindowsError
	if !errors.As(err, &failed) || len(failed.Failed) != 2 || failed.Untried != 0 || failed.Windows != 14 {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{"2024-03-15 to 2024-03-22: ", "2024-05-17 to 2024-05-24: ", "status 500", "the server is ill"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	told := 0
	for _, ev := range w.events {
		if ev.Type == "window_failed" {
			told++
		}
	}
	if told != 2 || w.named("lake", "inside") != 0 {
		t.Errorf("%d events tell of failed windows; %d contacts are in the table", told, w.named("lake", "inside"))
	}
	// Another range goes its own way meanwhile.
	other := b
	other.From = day("2024-05-28")
	if _, err := w.backfill(t.Context(), w.job(), other, 500); err != nil {
		t.Fatal(err)
	}
	ill.bad, ill.ask = func(url.Values) bool { return false }, nil
	if _, err := w.backfill(t.Context(), job, b, 500); err != nil {
		t.Fatal(err)
	}
	for _, after := range ill.ask {
		if (after < "2024-03-14" || after >= "2024-03-22") && (after < "2024-05-16" || after >= "2024-05-24") {
			t.Errorf("it asked for %s, which had been read", after)
		}
	}
	if n := w.named("lake", "inside"); n != inside {
		t.Errorf("the table has %d of the %d contacts", n, inside)
	}
	w.same("lake")
	w.tidy()
}

func TestABackfillStopsWhenNothingWorksAnyMore(t *testing.T) {
	w := newWorld(t, contacts(1000))
	w.mustRun(w.job())
	b := spring()
	b.Window, b.Parallel = 24*time.Hour, 1
	job := w.job()
	ill := &failing{bad: func(url.Values) bool { return true }}
	job.Source.Transport = ill
	_, err := w.backfill(t.Context(), job, b, 500)
	var failed *run.WindowsError
	if !errors.As(err, &failed) || len(failed.Failed) != 8 || failed.Untried != 92-8 {
		t.Errorf("got %v", err)
	}
	// A key that is refused is refused for every window.
	job = w.job()
	job.Source.APIKey = "wrong"
	var unauthorized *extract.UnauthorizedError
	before := w.source.Stats().Pages
	if _, err := w.backfill(t.Context(), job, b, 500); !errors.As(err, &unauthorized) || errors.As(err, &failed) && len(failed.Failed) > 8 {
		t.Errorf("got %v", err)
	}
	if w.source.Stats().Pages != before {
		t.Error("a refused key brought pages")
	}
	if _, err := w.backfill(t.Context(), w.job(), b, 500); err != nil {
		t.Error(err)
	}
	w.tidy()
}

func TestAnOlderRowOfABackfillLosesToTheNightlyRunBesideIt(t *testing.T) {
	w := newWorld(t, contacts(3000))
	w.mustRun(w.job())
	b := spring()
	b.Parallel = 1
	w.edit(b.From, b.To, "older")
	job, once := w.job(), sync.Once{}
	job.PageSize = 20
	newer := "newer"
	touched := 0
	w.afterPage = func(pages int64) {
		if pages < 3 {
			return
		}
		once.Do(func() {
			// What the backfill has staged by now changes, and a nightly run
			// commits it first, new columns included.
			w.source.Each(func(c sandbox.Contact) bool {
				if !c.CreatedAt.Before(b.From) && c.CreatedAt.Before(b.From.Add(14*24*time.Hour)) {
					touched++
					if err := w.source.Update(c.ID, sandbox.Change{Name: &newer, Customer: []sandbox.Field{{Key: "brand new", Value: []byte(`"x"`)}}}); err != nil {
						t.Error(err)
					}
				}
				return true
			})
			nightly := run.Engine{Store: w.store, Clock: clock.System{}}
			if sum, err := nightly.Run(t.Context(), w.job()); err != nil || sum.Changed < int64(touched) {
				t.Errorf("the nightly run: %+v %v", sum, err)
			}
		})
	}
	if _, err := w.backfill(t.Context(), job, b, 500); err != nil {
		t.Fatal(err)
	}
	if n := w.named("lake", "newer"); n != touched || touched == 0 {
		t.Errorf("%d of %d newer rows are in the table", n, touched)
	}
	if w.named("lake", "older") == 0 {
		t.Error("nothing of the backfill is in the table")
	}
	w.same("lake")
	w.tidy()
}

func TestBackfillsBesideNightlyRunsConverge(t *testing.T) {
	w := newWorld(t, contacts(500))
	w.mustRun(w.job())
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			w.source.Mutate(sandbox.Mutation{Updates: 5, Creates: 1, Silent: 5})
			e := run.Engine{Store: w.store, Clock: clock.System{}}
			if _, err := e.Run(t.Context(), w.job()); err != nil {
				t.Errorf("a nightly run: %v", err)
				return
			}
		}
	}()
	for range 2 {
		b := run.Backfill{From: day("2023-01-01"), To: day("2030-01-01"), Key: extract.ByCreated, Window: 60 * 24 * time.Hour}
		if sum, err := w.backfill(t.Context(), w.job(), b, 300); err != nil || sum.Changed+sum.Unchanged < 500 {
			t.Errorf("a backfill: %+v %v", sum, err)
		}
	}
	close(stop)
	<-stopped
	w.mustRun(w.job())
	w.same("lake")
	w.tidy()
}

func TestABackfillThatIsReadGoesOnWithItsCommitAlone(t *testing.T) {
	w := newWorld(t, contacts(1000))
	broken := &brokenLoader{Loader: w.lake("lake")}
	job := w.job(run.Destination{Name: "lake", Loader: broken})
	w.mustRun(job)
	b := spring()
	inside := w.edit(b.From, b.To, "inside")
	broken.down.Store(true)
	if _, err := w.backfill(t.Context(), job, b, 500); !errors.Is(err, errDown) {
		t.Fatalf("got %v", err)
	}
	broken.down.Store(false)
	requests := w.source.Stats().Requests
	sum, err := w.backfill(t.Context(), job, b, 500)
	if err != nil || sum.Changed != int64(inside) {
		t.Errorf("got %+v %v", sum, err)
	}
	if n := w.source.Stats().Requests - requests; n != 0 {
		t.Errorf("%d requests for what had been read", n)
	}
	if n := len(w.state().Runs); n != 2 {
		t.Errorf("state remembers %d runs", n)
	}
	w.mustRun(job)
	w.same("lake")
	w.tidy()
}

func TestABackfillIsRefusedWhereAFullReadIsDue(t *testing.T) {
	w := newWorld(t, contacts(200))
	refused := func(why string, job run.Job) {
		t.Helper()
		before := w.source.Stats().Requests
		_, err := w.backfill(t.Context(), job, spring(), 500)
		var notReady *run.NotReadyError
		if !errors.As(err, &notReady) || !strings.Contains(err.Error(), why) {
			t.Errorf("got %v, want %q", err, why)
		}
		if w.source.Stats().Requests != before {
			t.Error("it asked the source all the same")
		}
	}
	refused("first run", w.job())
	if serial := w.state().Serial; serial != 0 {
		t.Errorf("a refused backfill left state at serial %d", serial)
	}
	w.mustRun(w.job())
	other := w.job()
	other.Filters = map[string][]string{"platform": {"sms"}}
	refused("filters", other)
	refused("second", w.job(run.Destination{Name: "lake", Loader: w.lake("lake")}, run.Destination{Name: "second", Loader: w.lake("second")}))
	release, err := w.store.LockRun(t.Context(), "nightly", "backfill")
	if err != nil {
		t.Fatal(err)
	}
	var held *state.HeldError
	if _, err := w.backfill(t.Context(), w.job(), spring(), 500); !errors.As(err, &held) {
		t.Errorf("two backfills at once: %v", err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	w.tidy()
}

func TestARangeThatMakesNoSenseIsRefused(t *testing.T) {
	w := newWorld(t, contacts(10))
	for name, b := range map[string]run.Backfill{
		"backwards":  {From: day("2024-02-01"), To: day("2024-01-01")},
		"empty":      {From: day("2024-02-01"), To: day("2024-02-01")},
		"future":     {From: time.Now().Add(time.Hour), To: time.Now().Add(2 * time.Hour)},
		"before1970": {From: day("1950-01-01"), To: day("2024-02-01")},
		"windows":    {From: day("2000-01-01"), To: day("2024-02-01"), Window: time.Minute},
		"parallel":   {From: day("2024-01-01"), To: day("2024-02-01"), Parallel: 65},
	} {
		if _, err := w.backfill(t.Context(), w.job(), b, 500); !errors.Is(err, run.ErrRange) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestAnEmptyRangeIsDoneAndLeavesItsCoverage(t *testing.T) {
	w := newWorld(t, contacts(50))
	w.mustRun(w.job())
	before := w.state().NextPackage
	b := run.Backfill{From: day("2001-01-01"), To: day("2001-02-01"), Key: extract.ByCreated}
	sum, err := w.backfill(t.Context(), w.job(), b, 500)
	if err != nil || sum.New+sum.Changed+sum.Unchanged != 0 || w.state().NextPackage != before+1 {
		t.Errorf("got %+v %v", sum, err)
	}
	if sum.Requests > 20 {
		t.Errorf("%d requests for 31 days without a contact", sum.Requests)
	}
	w.tidy()
}
