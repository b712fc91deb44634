package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/monitor"
	"github.com/sluice-etl/sluice/internal/schedule"
	"github.com/sluice-etl/sluice/internal/state"
)

const planted = "PLANTEDkey4711"

// receiver takes messages, in the tests' own time, and answers what it is told to.
type receiver struct {
	mu      sync.Mutex
	got     []string // METHOD URL body, oldest first
	at      []time.Time
	answers []func() (*http.Response, error) // the last one for good; none: 200
}

func (r *receiver) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil { // one that was led elsewhere has none
		var err error
		if body, err = io.ReadAll(req.Body); err != nil {
			return nil, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, strings.TrimSpace(req.Method+" "+req.URL.Path+" "+req.Header.Get("Sluice-Event")+" "+string(body)))
	r.at = append(r.at, time.Now())
	if len(r.answers) == 0 {
		return answer(200, "")()
	}
	next := r.answers[0]
	if len(r.answers) > 1 {
		r.answers = r.answers[1:]
	}
	return next()
}

func answer(status int, retryAfter string) func() (*http.Response, error) {
	return func() (*http.Response, error) {
		return &http.Response{StatusCode: status, Header: http.Header{"Retry-After": {retryAfter}, "Location": {"https://elsewhere.example/" + planted}}, Body: io.NopCloser(strings.NewReader(planted))}, nil
	}
}

func unreachable() (*http.Response, error) { return nil, errors.New("no route to host") }

// events are the events of webhooks that came, with their pipelines.
func (r *receiver) events(t *testing.T) []string {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	list := []string{}
	for _, text := range r.got {
		var n Notice
		if _, body, ok := strings.Cut(text, "{"); !ok {
			list = append(list, text)
		} else if err := json.Unmarshal([]byte("{"+body), &n); err != nil {
			t.Error(err)
		}
		if n.Event != "" {
			list = append(list, n.Event)
		}
	}
	r.got, r.at = nil, nil
	return list
}

func clean(s string) string { return strings.ReplaceAll(s, planted, "(redacted)") }

func target() Target {
	return Target{Name: "ops", Type: "webhook", URL: "https://hooks.example/services/" + planted, On: []string{Failure, Recovery, Stale}, Pipelines: []string{"nightly"}}
}

func notifier(r *receiver, log io.Writer, targets ...Target) *Notifier {
	return New(Options{
		Clock: clock.System{}, Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})), Targets: targets,
		Clean: clean, Transport: r, Version: "v1", Page: "https://sluice.example/",
	})
}

func TestWhatIsSentWordForWord(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 9, 1, 3, 2, 0, 0, time.UTC)
	evil := "list contacts: 401 <!channel> & <https://evil.example|click> ```x``` key " + planted
	status := func() monitor.Status {
		return monitor.Status{
			Pipeline: monitor.Pipeline{Name: `nightly["acme"]`, Freshness: 26 * time.Hour}, Next: at.Add(24 * time.Hour), ReadAt: at,
			Runs:     []state.RunRecord{{RunID: "20260901T030000Z-a1b2c3", Kind: "sync", Status: "failed", Error: evil, FinishedAt: &at}},
			Failures: []monitor.Failure{{Kind: "sync", RunID: "20260901T030000Z-a1b2c3", At: at, Err: evil, Hints: []string{"set <key>"}}},
		}
	}
	waits := status()
	waits.Failures[0].Approval, waits.Failures[0].Err = true, "tables have to be replaced"
	done := status()
	done.Failures, done.Runs[0].Status = nil, "done"
	done.Last = &done.Runs[0]
	late := monitor.Status{Pipeline: done.Pipeline, ReadAt: at, Late: true, Age: 30*time.Hour + 17*time.Minute}
	fresh := late
	fresh.Late, fresh.Age = false, time.Hour
	var b strings.Builder
	for _, c := range []struct {
		s    monitor.Status
		told map[string]time.Time
	}{
		{status(), nil},
		{waits, nil},
		{done, map[string]time.Time{Failure: at.Add(-time.Hour)}},
		{late, nil},
		{fresh, map[string]time.Time{Stale: at.Add(-time.Hour)}},
	} {
		list := due(c.s, c.told, at)
		if len(list) != 1 {
			t.Fatalf("%d notices of %+v", len(list), c.s)
		}
		n := list[0].cleaned(clean)
		n.Page = "https://sluice.example/pipelines/x"
		for _, kind := range []string{"webhook", slack} {
			body, err := n.body(kind)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "%s\n", body)
		}
	}
	if strings.Contains(b.String(), planted) {
		t.Error("a key is told")
	}
	golden(t, "testdata/bodies.golden", b.String())
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestAMessageIsSentAgainWhereThatMayHelp(t *testing.T) {
	for name, c := range map[string]struct {
		answers []func() (*http.Response, error)
		sent    int
		least   time.Duration // until it is over
		fails   bool
	}{
		"taken":                    {sent: 1},
		"a fault of theirs":        {answers: []func() (*http.Response, error){answer(503, ""), answer(500, ""), answer(204, "")}, sent: 3, least: 2 * time.Second},
		"not reachable":            {answers: []func() (*http.Response, error){unreachable, answer(200, "")}, sent: 2, least: 700 * time.Millisecond},
		"asked to wait":            {answers: []func() (*http.Response, error){answer(429, "30"), answer(200, "")}, sent: 2, least: 30 * time.Second},
		"asked to wait for long":   {answers: []func() (*http.Response, error){answer(429, "86400")}, sent: 1, fails: true},
		"a wrong key":              {answers: []func() (*http.Response, error){answer(403, "")}, sent: 1, fails: true},
		"led elsewhere":            {answers: []func() (*http.Response, error){answer(302, "")}, sent: 1, fails: true},
		"a fault that does not go": {answers: []func() (*http.Response, error){answer(500, "")}, sent: 16, least: 8 * time.Minute, fails: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := &receiver{answers: c.answers}
			var log bytes.Buffer
			began := time.Now()
			err := notifier(r, &log).Send(t.Context(), target(), NewTest(began))
			if (err != nil) != c.fails || time.Since(began) < c.least || time.Since(began) > 10*time.Minute {
				t.Errorf("%s: %v after %s", name, err, time.Since(began))
			}
			if n := len(r.got); n != c.sent && (c.sent < 10 || n < 13 || n > 20) {
				t.Errorf("%s: sent %d times", name, n)
			}
			if text := log.String() + fmt.Sprint(err); strings.Contains(text, planted) || strings.Contains(text, "services") || !strings.Contains(text, "hooks.example") {
				t.Errorf("%s: the log says\n%s", name, text)
			}
		})
	}
}

func TestRetryAfterMayBeADate(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 9, 1, 3, 0, 0, 0, time.UTC)
	if got := retryAfter("Tue, 01 Sep 2026 03:00:40 GMT", now); got != 40*time.Second {
		t.Error(got)
	}
	if retryAfter("soon", now) != 0 || retryAfter("-5", now) != 0 {
		t.Error("nonsense is a wait")
	}
}

// nights is a pipeline with state, and a daemon that may be started anew.
type nights struct {
	t    *testing.T
	r    *receiver
	mu   sync.Mutex
	doc  state.Pipeline
	fail error // of saving

	monitor *monitor.Monitor
	n       *Notifier
	stop    func()
}

func newNights(t *testing.T) *nights {
	t.Helper()
	w := &nights{t: t, r: &receiver{}}
	w.start()
	return w
}

func (w *nights) load(context.Context, string) (*state.Pipeline, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	doc := w.doc
	doc.Runs = slices.Clone(doc.Runs)
	doc.Told = map[string]time.Time{}
	for k, v := range w.doc.Told {
		doc.Told[k] = v
	}
	return &doc, nil
}

func (w *nights) mark(_ context.Context, _, trouble string, since time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fail != nil {
		return w.fail
	}
	if w.doc.Told == nil {
		w.doc.Told = map[string]time.Time{}
	}
	w.doc.Serial++
	if w.doc.Told[trouble] = since; since.IsZero() {
		delete(w.doc.Told, trouble)
	}
	return nil
}

// start begins a daemon.
func (w *nights) start() {
	w.monitor = monitor.New(monitor.Options{Clock: clock.System{}, Load: w.load, Pipelines: []monitor.Pipeline{{Name: "nightly", Freshness: 26 * time.Hour}}})
	w.n = notifier(w.r, io.Discard, target())
	w.n.o.Snapshot, w.n.o.Mark, w.n.o.Heartbeats = w.monitor.Snapshot, w.mark, map[string]string{"nightly": "https://beat.example/" + planted}
	changed, unwatch := w.monitor.Watch()
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.n.Run(ctx, changed, 10*time.Second)
	}()
	w.stop = func() {
		cancel()
		<-ended
		unwatch()
	}
}

func (w *nights) restart() {
	w.stop()
	w.start()
}

// run is a sync of the daemon that takes a minute, and its record; then comes what
// the scheduler decides.
func (w *nights) run(err error, then schedule.EventType) {
	began := time.Now()
	w.tell(schedule.Started, nil)
	time.Sleep(time.Minute)
	status := "done"
	if err != nil {
		status = "failed"
	}
	w.record(status, began, err)
	if err == nil {
		w.tell(schedule.Finished, nil)
	} else {
		w.tell(schedule.Failed, err)
		time.Sleep(3 * time.Second) // it decides later
		if then != "" {
			w.tell(then, err)
		}
	}
	time.Sleep(2 * time.Minute)
}

func (w *nights) record(status string, began time.Time, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	end := time.Now()
	r := state.RunRecord{RunID: began.Format("20060102T150405Z"), Kind: "sync", Status: status, StartedAt: began, FinishedAt: &end}
	if err != nil {
		r.Error = err.Error()
	}
	w.doc.Serial++
	w.doc.Runs = append(w.doc.Runs, r)
}

func (w *nights) tell(typ schedule.EventType, err error) {
	e := schedule.Event{Type: typ, Name: "nightly", Err: err, Time: time.Now(), At: time.Now().Add(time.Hour)}
	w.monitor.Schedule(e)
	w.n.Schedule(e)
}

// heard fails unless these events came since the last call; a heartbeat is left
// out.
func (w *nights) heard(when string, want ...string) {
	w.t.Helper()
	synctest.Wait()
	got := slices.DeleteFunc(w.r.events(w.t), func(s string) bool { return strings.HasPrefix(s, "GET") })
	if !slices.Equal(got, want) && len(got)+len(want) > 0 {
		w.t.Errorf("%s: %v, want %v", when, got, want)
	}
}

var errDown = errors.New("no route: " + planted)

func TestARowOfFailuresIsToldOnceAndItsEndToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNights(t)
		defer func() { w.stop() }()
		w.run(nil, "")
		w.heard("a good night")
		w.run(errDown, schedule.Retrying)
		w.heard("it is tried again")
		w.run(errDown, schedule.GivenUp)
		w.heard("it is given up", Failure)
		w.restart()
		time.Sleep(5 * time.Minute)
		w.heard("another daemon")
		w.run(errDown, schedule.GivenUp)
		w.heard("the next night")
		w.restart()
		w.run(nil, "")
		w.heard("a good one", Recovery)
		w.restart()
		time.Sleep(5 * time.Minute)
		w.run(nil, "")
		w.heard("the one after")
		w.run(errDown, schedule.GivenUp)
		w.heard("another row", Failure)
	})
}

func TestARestartLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNights(t)
		defer func() { w.stop() }()
		w.run(nil, "")
		w.run(errDown, schedule.Retrying)
		w.restart() // nobody tries it again before its next time
		time.Sleep(2 * time.Minute)
		w.heard("stopped between two tries", Failure)
		w.stop()
		w.record("done", time.Now(), nil) // by hand
		w.start()
		time.Sleep(2 * time.Minute)
		w.heard("mended while no daemon was there", Recovery)
		w.record("interrupted", time.Now(), errDown)
		time.Sleep(2 * time.Minute)
		w.heard("interrupted")
	})
}

func TestAFailureWithoutARecordIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNights(t)
		defer func() { w.stop() }()
		fail := func() {
			w.tell(schedule.Started, nil)
			w.tell(schedule.Failed, errDown)
			w.tell(schedule.GivenUp, errDown)
			time.Sleep(2 * time.Minute)
		}
		w.fail = errors.New("state is away")
		fail()
		w.heard("state is away", Failure)
		fail()
		w.heard("once more")
		w.fail = nil
		w.run(nil, "")
		w.heard("mended", Recovery)
	})
}

func TestDataThatGrowsOldIsToldOnceAndThatItIsFreshAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNights(t)
		defer func() { w.stop() }()
		w.run(nil, "")
		time.Sleep(25 * time.Hour)
		w.heard("25 hours")
		time.Sleep(time.Hour)
		w.heard("26 hours", Stale)
		w.restart()
		time.Sleep(time.Hour)
		w.heard("27 hours, another daemon")
		w.run(nil, "")
		w.heard("after a run", Fresh)
	})
}

func TestWhatNobodyTakesIsToldLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNights(t)
		defer func() { w.stop() }()
		w.r.answers = []func() (*http.Response, error){answer(404, "")}
		w.run(errDown, schedule.GivenUp)
		w.heard("nobody takes it", Failure)
		time.Sleep(5 * time.Minute)
		w.heard("soon after")
		w.r.mu.Lock()
		w.r.answers = nil
		w.r.mu.Unlock()
		time.Sleep(10 * time.Minute)
		w.heard("later", Failure)
		time.Sleep(time.Hour)
		w.heard("it was taken")
	})
}

func TestADaemonThatStopsDeliversWithinItsGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNights(t)
		time.Sleep(time.Minute)
		w.r.mu.Lock()
		w.r.answers = []func() (*http.Response, error){answer(500, ""), answer(200, "")}
		w.r.mu.Unlock()
		w.record("failed", time.Now(), errDown)
		time.Sleep(5 * time.Second)
		w.stop()
		w.heard("it stops", Failure, Failure)
		// And no longer: heartbeats too are given up then.
		w.start()
		time.Sleep(2 * time.Minute)
		w.r.mu.Lock()
		w.r.answers = []func() (*http.Response, error){answer(500, "")}
		w.r.mu.Unlock()
		w.tell(schedule.Finished, nil)
		began := time.Now()
		w.stop()
		if took := time.Since(began); took > 11*time.Second {
			t.Errorf("it took %s to stop", took)
		}
	})
}

func TestASyncThatIsDoneIsAHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNights(t)
		defer func() { w.stop() }()
		w.r.answers = []func() (*http.Response, error){answer(500, ""), answer(200, "")}
		w.run(nil, "")
		if got := w.r.events(t); !slices.Equal(got, []string{"GET /" + planted, "GET /" + planted}) {
			t.Errorf("%v", got)
		}
		w.run(errDown, schedule.GivenUp)
		e := schedule.Event{Type: schedule.Finished, Name: "nightly", Kind: "reconcile"}
		w.n.Schedule(e)
		synctest.Wait()
		if got := w.r.events(t); !slices.Equal(got, []string{Failure}) {
			t.Errorf("after a failure and a reconciliation: %v", got)
		}
	})
}

func TestATargetIsToldOfNothingElseThanItAskedFor(t *testing.T) {
	t.Parallel()
	some := Target{On: []string{Recovery}, Pipelines: []string{"nightly"}}
	for event, want := range map[string]bool{Failure: false, Recovery: true, Stale: false, Fresh: true} {
		if got := some.wants(Notice{Event: event, Pipeline: "nightly"}); got != want {
			t.Errorf("%s: %t", event, got)
		}
	}
	if some.wants(Notice{Event: Recovery, Pipeline: "weekly"}) {
		t.Error("it is told of another pipeline")
	}
}
