// Package metrics tells Prometheus how pipelines fare, and whoever runs the
// daemon whether it is alive and ready.
//
// What is true at a moment is taken from the monitor when it is asked for; what
// adds up from the events of the scheduler and the engine, since the daemon
// began. Labels are the names of the file alone, so that series are bounded.
package metrics

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sluice-etl/sluice/internal/monitor"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/schedule"
)

// The values of labels that are not names of the file.
const (
	kindSync   = "sync"
	done       = "done"
	failed     = "failed"
	stopped    = "interrupted"
	labelName  = "pipeline"
	labelKind  = "kind"
	labelWhere = "destination"
)

func kinds() []string    { return []string{kindSync, "reconcile", "backfill"} }
func statuses() []string { return []string{done, failed, stopped} }

// scrapeTimeout bounds the making of an answer: a scrape that hangs is worse than
// one that fails.
const scrapeTimeout = 8 * time.Second

// Options are what Metrics work with.
type Options struct {
	Pipelines []monitor.Pipeline
	// Snapshot is the monitor's.
	Snapshot func(context.Context) monitor.Snapshot
	// Version is the build's.
	Version string
	// Running returns why the scheduler takes no jobs, nil where it does. It is
	// asked for liveness too, and should return at once.
	Running func() error
	// Log is told what a scrape could not tell.
	Log *slog.Logger
}

// Metrics are those of one daemon. They are safe for concurrent use.
type Metrics struct {
	o        Options
	registry *prometheus.Registry
	known    map[string]map[string]bool // destinations by pipeline

	runs                         *prometheus.CounterVec
	took                         *prometheus.HistogramVec
	contacts                     *prometheus.CounterVec
	requests, retries, setAside  *prometheus.CounterVec
	writtenBytes, bytesOfQueries *prometheus.CounterVec

	mu   sync.Mutex
	last map[job]ending
}

// job is a pipeline's sync, reconciliation or backfill.
type job struct{ pipeline, kind string }

// ending is what the engine told last of a job's run: one that goes on with what
// an attempt before has read counts from that one's beginning.
type ending struct {
	runID, status               string
	requests, retries, setAside int64
}

// New returns the metrics of the given pipelines, all counters at zero.
func New(o Options) *Metrics {
	m := &Metrics{o: o, registry: prometheus.NewRegistry(), known: map[string]map[string]bool{}, last: map[job]ending{}}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		m.registry.MustRegister(c)
		return c
	}
	m.runs = counter("sluice_runs_total", "Runs that have ended, by kind, how they ended, and why they were run.", labelName, labelKind, "status", "trigger")
	m.took = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "sluice_run_duration_seconds", Help: "How long runs took.",
		Buckets:                     []float64{1, 5, 15, 60, 300, 900, 1800, 3600, 2 * 3600, 4 * 3600, 8 * 3600},
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
	}, []string{labelName, labelKind})
	m.registry.MustRegister(m.took)
	m.contacts = counter("sluice_contacts_total", "Contacts that runs have committed, by what they were to the tables.", labelName, "change")
	m.requests = counter("sluice_source_requests_total", "Requests to the source, repeated ones included.", labelName)
	m.retries = counter("sluice_source_retries_total", "Requests to the source that were repeats.", labelName)
	m.setAside = counter("sluice_quarantined_total", "Records set aside because they cannot be rows.", labelName)
	m.writtenBytes = counter("sluice_destination_written_bytes_total", "Bytes of the files that commits to a destination have written, or of the package where one has written none, as to BigQuery.", labelName, labelWhere)
	m.bytesOfQueries = counter("sluice_destination_scanned_bytes_total", "Bytes that a destination's statements have read, as it bills for.", labelName, labelWhere)
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "sluice_build_info", Help: "1, labelled by the build that runs."}, []string{"version", "goversion"})
	build.WithLabelValues(o.Version, runtime.Version()).Set(1)
	m.registry.MustRegister(build, gauges{m.o.Snapshot},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, p := range o.Pipelines {
		m.begin(p)
	}
	return m
}

// begin has a pipeline's counters at zero: what has no beginning has no increase.
func (m *Metrics) begin(p monitor.Pipeline) {
	m.known[p.Name] = map[string]bool{}
	for _, status := range statuses() {
		m.runs.WithLabelValues(p.Name, kindSync, status, string(schedule.Timed))
	}
	m.took.WithLabelValues(p.Name, kindSync)
	for _, change := range []string{"new", "changed", "unchanged", "deleted"} {
		m.contacts.WithLabelValues(p.Name, change)
	}
	for _, c := range []*prometheus.CounterVec{m.requests, m.retries, m.setAside} {
		c.WithLabelValues(p.Name)
	}
	for _, d := range p.Destinations {
		m.known[p.Name][d.Name] = true
		m.writtenBytes.WithLabelValues(p.Name, d.Name)
		m.bytesOfQueries.WithLabelValues(p.Name, d.Name)
	}
}

// Schedule takes what the scheduler tells.
func (m *Metrics) Schedule(e schedule.Event) {
	kind := cmp.Or(e.Kind, kindSync)
	if e.Type != schedule.Finished && e.Type != schedule.Failed || m.known[e.Name] == nil || !slices.Contains(kinds(), kind) {
		return
	}
	status := done
	if e.Type == schedule.Failed {
		status = failed
		m.mu.Lock()
		id := job{e.Name, kind}
		if last := m.last[id]; last.status == stopped {
			status = stopped
		}
		m.mu.Unlock()
	}
	m.forgetStatus(job{e.Name, kind})
	m.runs.WithLabelValues(e.Name, kind, status, string(e.Trigger)).Inc()
	m.took.WithLabelValues(e.Name, kind).Observe(e.Took.Seconds())
}

// forgetStatus keeps a run that fails before the engine begins from ending as
// the one before.
func (m *Metrics) forgetStatus(id job) {
	m.mu.Lock()
	defer m.mu.Unlock()
	last := m.last[id]
	last.status = ""
	m.last[id] = last
}

// Observe takes what the engine tells of a job of the given kind.
func (m *Metrics) Observe(kind string, e run.Event) {
	known := m.known[e.Pipeline]
	switch {
	case known == nil:
	case e.Type == "committed" && e.Written != nil && known[e.Destination]:
		m.writtenBytes.WithLabelValues(e.Pipeline, e.Destination).Add(float64(e.Written.Bytes))
		m.bytesOfQueries.WithLabelValues(e.Pipeline, e.Destination).Add(float64(e.Written.Scanned))
	case e.Type == "run_finished" && e.Summary != nil:
		m.finished(job{e.Pipeline, cmp.Or(kind, kindSync)}, e)
	}
}

func (m *Metrics) finished(id job, e run.Event) {
	s := e.Summary
	for change, n := range map[string]int64{"new": s.New, "changed": s.Changed, "unchanged": s.Unchanged, "deleted": s.Deleted} {
		m.contacts.WithLabelValues(id.pipeline, change).Add(float64(n))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now, before := ending{e.RunID, s.Status, s.Requests, s.Retries, s.Quarantined}, m.last[id]
	if e.RunID == "" || before.runID != e.RunID {
		before = ending{}
	}
	m.last[id] = now
	m.requests.WithLabelValues(id.pipeline).Add(float64(max(0, now.requests-before.requests)))
	m.retries.WithLabelValues(id.pipeline).Add(float64(max(0, now.retries-before.retries)))
	m.setAside.WithLabelValues(id.pipeline).Add(float64(max(0, now.setAside-before.setAside)))
}

// Handlers returns what answers /metrics, /healthz and /readyz.
func (m *Metrics) Handlers() (metrics, healthz, readyz http.Handler) {
	metrics = promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		// A metric that cannot be told is no reason to tell none; the log says so, and
		// promhttp_metric_handler_errors_total counts it.
		ErrorHandling: promhttp.ContinueOnError, ErrorLog: errorLog{m.o.Log}, Registry: m.registry,
		Timeout: scrapeTimeout, EnableOpenMetrics: true,
	})
	h := &health{o: m.o}
	return metrics, http.HandlerFunc(h.alive), http.HandlerFunc(h.ready)
}

// Gatherer gives the metrics themselves, for tests of what they say.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }

// errorLog takes what promhttp could not tell.
type errorLog struct{ log *slog.Logger }

func (l errorLog) Println(v ...any) { l.log.Error("a scrape is incomplete", slog.Any("error", v)) }
