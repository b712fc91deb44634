package metrics

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sluice-etl/sluice/internal/monitor"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/schedule"
	"github.com/sluice-etl/sluice/internal/state"
)

var noon = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)

func pipelines() []monitor.Pipeline {
	lake := monitor.Destination{Name: "lake", Type: "parquet"}
	return []monitor.Pipeline{
		{Name: "nightly", Freshness: 26 * time.Hour, Destinations: []monitor.Destination{lake, {Name: "warehouse", Type: "bigquery"}}},
		{Name: `weekly["acme"]`, Destinations: []monitor.Destination{lake}},
	}
}

// snapshot has a pipeline of which everything is known, and one that was never
// run.
func snapshot() monitor.Snapshot {
	list, end := pipelines(), noon.Add(-8*time.Hour)
	return monitor.Snapshot{At: noon, Since: noon.Add(-48 * time.Hour), Pipelines: []monitor.Status{
		{
			Pipeline: list[0], Health: monitor.Failing, Next: noon.Add(15 * time.Hour), NextReconcile: noon.Add(20 * time.Hour),
			Live:  []monitor.Live{{Kind: "sync"}, {Kind: "backfill", Waiting: true}},
			Retry: &monitor.Repeat{}, Last: &state.RunRecord{Status: "failed", StartedAt: noon.Add(-9 * time.Hour), FinishedAt: &end},
			FreshAt: noon.Add(-33 * time.Hour), Age: 33 * time.Hour, Late: true,
			Queues: []monitor.Queue{
				{Destination: list[0].Destinations[0]},
				{Destination: list[0].Destinations[1], Packages: 2, Bytes: 4096, Oldest: noon.Add(-30 * time.Hour), FailingSince: noon.Add(-30 * time.Hour), NeedsFull: true},
			},
		},
		{Pipeline: list[1], Health: monitor.Never, Age: 48 * time.Hour},
	}}
}

func newMetrics() *Metrics {
	return New(Options{
		Pipelines: pipelines(), Version: "v1.2.3", Snapshot: func(context.Context) monitor.Snapshot { return snapshot() },
		Running: func() error { return nil }, Log: slog.New(slog.DiscardHandler),
	})
}

// scrape is what Prometheus is told of sluice, without the histogram's buckets.
func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	h, _, _ := m.Handlers()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	var lines []string
	for line := range strings.Lines(w.Body.String()) {
		if strings.Contains(line, "sluice_") && !strings.Contains(line, "_bucket{") && !strings.HasPrefix(line, "sluice_build_info") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// work is a night with a run that fails, the one that mends it, and some that are
// not the file's.
func work(m *Metrics) {
	finish := func(id, status string, s run.Summary) {
		s.Status = status
		m.Observe("sync", run.Event{Type: "run_finished", RunID: id, Pipeline: "nightly", Summary: &s})
	}
	m.Observe("sync", run.Event{Type: "committed", Pipeline: "nightly", Destination: "lake", Written: &state.Written{Bytes: 120}})
	m.Observe("sync", run.Event{Type: "committed", Pipeline: "nightly", Destination: "warehouse", Written: &state.Written{Bytes: 70, Scanned: 1 << 20}})
	m.Observe("sync", run.Event{Type: "committed", Pipeline: "nightly", Destination: "gone", Written: &state.Written{Scanned: 1}})
	finish("a", "failed", run.Summary{Requests: 10, Retries: 4, Quarantined: 1})
	m.Schedule(schedule.Event{Type: schedule.Failed, Name: "nightly", Trigger: schedule.Timed, Took: time.Minute})
	// It goes on with what the first had read, and counts from its beginning.
	finish("a", "done", run.Summary{Requests: 15, Retries: 4, Quarantined: 2, New: 7, Changed: 5, Unchanged: 3, Deleted: 1})
	m.Schedule(schedule.Event{Type: schedule.Finished, Name: "nightly", Trigger: schedule.Retry, Took: 2 * time.Minute})
	finish("b", "interrupted", run.Summary{Requests: 3})
	m.Schedule(schedule.Event{Type: schedule.Failed, Name: "nightly", Trigger: schedule.Timed, Took: time.Second})
	m.Schedule(schedule.Event{Type: schedule.Failed, Name: "nightly", Trigger: schedule.Timed, Took: time.Second}) // before the engine
	m.Schedule(schedule.Event{Type: schedule.Finished, Name: "nightly", Kind: "reconcile", Trigger: schedule.Timed, Took: time.Second})
	m.Schedule(schedule.Event{Type: schedule.Finished, Name: "unknown", Trigger: schedule.Timed})
	m.Schedule(schedule.Event{Type: schedule.Started, Name: "nightly"})
	m.Observe("sync", run.Event{Type: "run_finished", Pipeline: "unknown", Summary: &run.Summary{Requests: 1}})
}

func TestAScrapeTellsWhatIsKnown(t *testing.T) {
	t.Parallel()
	m := newMetrics()
	work(m)
	got, path := scrape(t, m), "testdata/scrape.golden"
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

func TestMetricsKeepToTheConventionsOfPrometheus(t *testing.T) {
	t.Parallel()
	faults, err := testutil.GatherAndLint(newMetrics().Gatherer())
	if err != nil || len(faults) > 0 {
		t.Errorf("%v %+v", err, faults)
	}
}

// probes asks for liveness and readiness.
func probes(t *testing.T, m *Metrics) (alive, ready *httptest.ResponseRecorder) {
	t.Helper()
	_, healthz, readyz := m.Handlers()
	ask := func(h http.Handler) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
		return w
	}
	return ask(healthz), ask(readyz)
}

func TestTheDaemonIsAliveAndReadyWhereNothingIsInTheWay(t *testing.T) {
	t.Parallel()
	alive, ready := probes(t, newMetrics()) // that a pipeline fails is none of it
	for _, w := range []*httptest.ResponseRecorder{alive, ready} {
		if w.Code != http.StatusOK || w.Body.String() != "{\"status\":\"ok\"}\n" || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
}

func TestTheDaemonIsNotReadyWhileItStopsOrStateCannotBeRead(t *testing.T) {
	t.Parallel()
	m := newMetrics()
	m.o.Running = func() error { return errors.New("key-4711") }
	s := snapshot()
	s.Pipelines[1].Err = errors.New("key-4711")
	s.Pipelines[0].Next, s.Pipelines[0].Live = noon.Add(-time.Hour), nil // it takes no more jobs
	m.o.Snapshot = func(context.Context) monitor.Snapshot { return s }
	alive, ready := probes(t, m)
	if alive.Code != http.StatusOK {
		t.Errorf("alive: %d %s", alive.Code, alive.Body)
	}
	want := `{"status":"unavailable","reasons":["the scheduler takes no jobs: it is stopping, or has not begun","state cannot be read: weekly[\"acme\"]"]}` + "\n"
	if got := ready.Body.String(); ready.Code != http.StatusServiceUnavailable || got != want {
		t.Errorf("ready: %d %s", ready.Code, got)
	}
}

func TestADaemonWhoseJobsDoNotBeginIsNotAlive(t *testing.T) {
	t.Parallel()
	m := newMetrics()
	s := snapshot()
	s.Pipelines[0].Next = noon.Add(-10 * time.Minute)
	m.o.Snapshot = func(context.Context) monitor.Snapshot { return s }
	if alive, _ := probes(t, m); alive.Code != http.StatusOK {
		t.Errorf("a run that takes long: %s", alive.Body)
	}
	s.Pipelines[0].Live = nil
	if alive, _ := probes(t, m); alive.Code != http.StatusServiceUnavailable || !strings.Contains(alive.Body.String(), "nightly should have begun 10m0s ago") {
		t.Errorf("%d %s", alive.Code, alive.Body)
	}
}

func TestAStuckSchedulerIsNotAliveAndIsAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMetrics()
		var asked atomic.Int32
		goOn := make(chan struct{})
		m.o.Running = func() error {
			asked.Add(1)
			<-goOn
			return nil
		}
		_, healthz, _ := m.Handlers()
		ask := func() int {
			w := httptest.NewRecorder()
			healthz.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
			return w.Code
		}
		if a, b := ask(), ask(); a != http.StatusServiceUnavailable || b != a || asked.Load() != 1 {
			t.Errorf("%d, %d, asked %d times", a, b, asked.Load())
		}
		close(goOn)
		synctest.Wait()
		if code := ask(); code != http.StatusOK {
			t.Errorf("%d after it has come round", code)
		}
	})
}
