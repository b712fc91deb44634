package run_test

import (
	"fmt"
	"testing"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/sandbox"
	"github.com/sluice-etl/sluice/load"
)

// BenchmarkRun is the whole job: pages over HTTP on loopback, decode, parts,
// commit to current and history, state. The sandbox's own work is in it.
func BenchmarkRun(b *testing.B) {
	const rows = 200_000
	server, err := sandbox.New(contacts(rows), clock.System{})
	if err != nil {
		b.Fatal(err)
	}
	running, err := server.Start(b.Context(), "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = running.Close() })
	for _, verify := range []load.Verify{load.VerifyFull, load.VerifyOff} {
		b.Run(fmt.Sprintf("full/verify=%s", verify), func(b *testing.B) {
			for b.Loop() {
				w := &world{t: b, dir: b.TempDir(), url: running.URL}
				w.store = w.open()
				w.benchRun(verify)
			}
			b.ReportMetric(rows*float64(b.N)/b.Elapsed().Seconds(), "contacts/s")
		})
	}
	b.Run("nothing-new", func(b *testing.B) {
		w := &world{t: b, dir: b.TempDir(), url: running.URL}
		w.store = w.open()
		w.benchRun(load.VerifyOff)
		for b.Loop() {
			w.benchRun(load.VerifyOff)
		}
	})
}

func (w *world) benchRun(verify load.Verify) {
	w.t.Helper()
	job := w.job()
	job.Verify, job.PageSize = verify, 1000
	e := run.Engine{Store: w.store, Clock: clock.System{}}
	if _, err := e.Run(w.t.Context(), job); err != nil {
		w.t.Fatal(err)
	}
}
