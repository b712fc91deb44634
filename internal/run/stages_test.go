package run_test

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-etl/sluice/internal/parquetfile"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/sandbox"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/parquet"
)

// stagesJob is a job whose lakes keep stages.
func (w *world) stagesJob(names ...string) run.Job {
	w.t.Helper()
	var all []run.Destination
	for _, name := range names {
		l, err := parquet.New(parquet.Options{Path: filepath.Join(w.dir, name), Table: "contacts", Stages: "crm_stages"})
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, run.Destination{Name: name, Loader: l})
	}
	job := w.job(all...)
	job.KeepStages = true
	return job
}

// stageRows is how many stages a lake has; -1 where it has no table of them.
func (w *world) stageRows(name string) int64 {
	w.t.Helper()
	path := parquet.StagesFile(filepath.Join(w.dir, name), "crm_stages")
	if path == "" {
		return -1
	}
	r, err := parquetfile.Open(path)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	return r.Rows()
}

func TestARunBringsTheStagesToEveryDestination(t *testing.T) {
	w := newWorld(t, contacts(50))
	job := w.stagesJob("lake", "second")
	sum := w.mustRun(job)
	if n := w.stageRows("lake"); n < 3 || n != w.stageRows("second") || len(sum.Notes) > 0 {
		t.Errorf("%d and %d stages, notes %v", n, w.stageRows("second"), sum.Notes)
	}
	var replaced int
	for _, ev := range w.events {
		if ev.Type == "stages_replaced" {
			replaced++
		}
	}
	if replaced != 2 {
		t.Errorf("%d events", replaced)
	}
	w.mustRun(job)
	job.KeepStages = false
	before := w.source.Stats().Requests
	sum = w.mustRun(job)
	if n := int64(w.source.Stats().Requests - before); n != sum.Requests {
		t.Errorf("%d requests were made, the summary says %d", n, sum.Requests)
	}
	w.tidy()
}

func TestAKeyThatMayNotReadStagesIsANoteAndTheOldTableStays(t *testing.T) {
	for _, status := range []int{401, 403, 404, 500} {
		w := newWorld(t, contacts(20))
		job := w.stagesJob("lake")
		w.mustRun(job)
		had := w.stageRows("lake")
		job.Source.Transport = &pipelineAnswer{status}
		sum := w.mustRun(job)
		if sum.Status != "done" || len(sum.Notes) != 1 || !strings.Contains(sum.Notes[0], "stages") {
			t.Errorf("status %d: the run is %s with notes %q", status, sum.Status, sum.Notes)
		}
		if got := w.stageRows("lake"); got != had || had <= 0 {
			t.Errorf("status %d: %d stages, before %d", status, got, had)
		}
		runs := w.state().Runs
		if last := runs[len(runs)-1]; len(last.Notes) != 1 || last.Status != "done" {
			t.Errorf("status %d: state says %+v", status, last)
		}
	}
}

// pipelineAnswer answers the pipeline endpoint with a status.
type pipelineAnswer struct{ status int }

func (p *pipelineAnswer) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && r.URL.Path == "/api/public/pipeline" {
		replace(resp, p.status, `{"message":"no"}`)
	}
	return resp, err
}

// noStages keeps contacts and fails with stages.
type noStages struct{ load.StageKeeper }

func (noStages) ReplaceStages(context.Context, load.StageList) error {
	return errors.New("the disk is full")
}

func TestADestinationThatTakesNoStagesStopsNoOther(t *testing.T) {
	w := newWorld(t, contacts(20))
	job := w.stagesJob("lake", "second")
	keeper, ok := job.Destinations[0].Loader.(load.StageKeeper)
	if !ok {
		t.Fatal("a lake keeps no stages")
	}
	job.Destinations[0].Loader = noStages{keeper}
	sum := w.mustRun(job)
	if len(sum.Notes) != 1 || !strings.Contains(sum.Notes[0], "lake") || !strings.Contains(sum.Notes[0], "the disk is full") {
		t.Errorf("notes %q", sum.Notes)
	}
	if w.stageRows("lake") != -1 || w.stageRows("second") < 3 {
		t.Errorf("%d and %d stages", w.stageRows("lake"), w.stageRows("second"))
	}
}

func TestADestinationThatIsDownGetsItsStagesWithItsPackages(t *testing.T) {
	w := newWorld(t, contacts(20))
	job := w.stagesJob("lake", "second")
	good := job.Destinations[1].Loader
	broken := &brokenLoader{Loader: good}
	broken.down.Store(true)
	job.Destinations[1].Loader = broken
	if _, err := w.run(t.Context(), job); !errors.Is(err, errDown) {
		t.Fatalf("got %v", err)
	}
	if w.stageRows("lake") < 3 || w.stageRows("second") != -1 {
		t.Errorf("%d and %d stages", w.stageRows("lake"), w.stageRows("second"))
	}
	job.Destinations[1].Loader = good
	w.source.Mutate(sandbox.Mutation{Updates: 1})
	w.mustRun(job)
	if w.stageRows("second") < 3 {
		t.Errorf("%d stages", w.stageRows("second"))
	}
}
