package metrics

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-etl/sluice/internal/monitor"
)

// gauges tells how everything is at the moment it is asked.
type gauges struct {
	snapshot func(context.Context) monitor.Snapshot
}

var _ prometheus.Collector = gauges{}

// desc describes a gauge; each call makes the same.
func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, append([]string{labelName}, labels...), nil)
}

func healthDesc() *prometheus.Desc {
	return desc("sluice_pipeline_health", "1 for how the pipeline is, 0 for what it is not: ok, never run, late, failing or unknown.", "health")
}

func lastStatusDesc() *prometheus.Desc {
	return desc("sluice_pipeline_last_run_status", "1 for how the last sync has ended, 0 for how it has not.", "status")
}

func lastRunDesc() *prometheus.Desc {
	return desc("sluice_pipeline_last_run_timestamp_seconds", "When the last sync that has ended began.")
}

func lastTookDesc() *prometheus.Desc {
	return desc("sluice_pipeline_last_run_duration_seconds", "How long the last sync that has ended took.")
}

func lastSuccessDesc() *prometheus.Desc {
	return desc("sluice_pipeline_last_success_timestamp_seconds", "When the last sync that is done began: the tables hold what the source showed then.")
}

func freshnessDesc() *prometheus.Desc {
	return desc("sluice_pipeline_freshness_seconds", "Age of the data: since the last sync that is done began, or since the daemon did where there is none.")
}

func objectiveDesc() *prometheus.Desc {
	return desc("sluice_pipeline_freshness_objective_seconds", "How old the data may become, where the file has freshness.")
}

func runningDesc() *prometheus.Desc {
	return desc("sluice_pipeline_running", "Jobs that run now, by kind.", labelKind)
}

func retryingDesc() *prometheus.Desc {
	return desc("sluice_pipeline_retry_pending", "1 while a sync that failed is going to be repeated.")
}

func nextDesc() *prometheus.Desc {
	return desc("sluice_pipeline_next_run_timestamp_seconds", "When the pipeline runs next by itself, by kind.", labelKind)
}

func queuePackagesDesc() *prometheus.Desc {
	return desc("sluice_queue_packages", "Packages that wait for a destination.", labelWhere)
}

func queueBytesDesc() *prometheus.Desc {
	return desc("sluice_queue_bytes", "Bytes of the packages that wait for a destination.", labelWhere)
}

func queueOldestDesc() *prometheus.Desc {
	return desc("sluice_queue_oldest_timestamp_seconds", "When the first package that waits for a destination was sealed.", labelWhere)
}

func destinationFailingDesc() *prometheus.Desc {
	return desc("sluice_destination_failing", "1 while commits to a destination fail.", labelWhere)
}

func needsFullDesc() *prometheus.Desc {
	return desc("sluice_destination_needs_full", "1 while a destination needs a full read: its queue was given up.", labelWhere)
}

// Describe tells of every gauge.
func (gauges) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		healthDesc(), lastStatusDesc(), lastRunDesc(), lastTookDesc(), lastSuccessDesc(), freshnessDesc(), objectiveDesc(),
		runningDesc(), retryingDesc(), nextDesc(), queuePackagesDesc(), queueBytesDesc(), queueOldestDesc(), destinationFailingDesc(), needsFullDesc(),
	} {
		c <- d
	}
}

// Collect tells the value of every gauge. It blocks no longer than a snapshot
// does.
func (g gauges) Collect(c chan<- prometheus.Metric) {
	ctx := context.Background() //nolint:forbidigo // Prometheus gives none; a snapshot has its own limit
	for _, p := range g.snapshot(ctx).Pipelines {
		t := teller{c, p.Name}
		for _, h := range []monitor.Health{monitor.Healthy, monitor.Never, monitor.Late, monitor.Failing, monitor.Unknown} {
			t.flag(healthDesc(), p.Health == h, string(h))
		}
		t.gauge(freshnessDesc(), p.Age.Seconds())
		if p.Freshness > 0 {
			t.gauge(objectiveDesc(), p.Freshness.Seconds())
		}
		t.flag(retryingDesc(), p.Retry != nil)
		t.jobs(p)
		t.past(p)
		for _, q := range p.Queues {
			t.gauge(queuePackagesDesc(), float64(q.Packages), q.Name)
			t.gauge(queueBytesDesc(), float64(q.Bytes), q.Name)
			t.time(queueOldestDesc(), q.Oldest, q.Name)
			t.flag(destinationFailingDesc(), !q.FailingSince.IsZero(), q.Name)
			t.flag(needsFullDesc(), q.NeedsFull, q.Name)
		}
	}
}

// teller tells of one pipeline.
type teller struct {
	c    chan<- prometheus.Metric
	name string
}

func (t teller) jobs(p monitor.Status) {
	for _, kind := range kinds() {
		n := 0
		for _, l := range p.Live {
			if l.Kind == kind && !l.Waiting {
				n++
			}
		}
		t.gauge(runningDesc(), float64(n), kind)
	}
	t.time(nextDesc(), p.Next, kindSync)
	t.time(nextDesc(), p.NextReconcile, "reconcile")
}

// past tells of the runs that have been; nothing where there is none.
func (t teller) past(p monitor.Status) {
	t.time(lastSuccessDesc(), p.FreshAt)
	last := p.Last
	if last == nil {
		return
	}
	for _, status := range statuses() {
		t.flag(lastStatusDesc(), last.Status == status, status)
	}
	t.time(lastRunDesc(), last.StartedAt)
	if last.FinishedAt != nil {
		t.gauge(lastTookDesc(), last.FinishedAt.Sub(last.StartedAt).Seconds())
	}
}

func (t teller) gauge(d *prometheus.Desc, v float64, labels ...string) {
	t.c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{t.name}, labels...)...)
}

func (t teller) flag(d *prometheus.Desc, on bool, labels ...string) {
	v := 0.0
	if on {
		v = 1
	}
	t.gauge(d, v, labels...)
}

// time tells a time, unless it is zero.
func (t teller) time(d *prometheus.Desc, at time.Time, labels ...string) {
	if !at.IsZero() {
		t.gauge(d, float64(at.UnixMilli())/1000, labels...)
	}
}
