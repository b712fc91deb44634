package run

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/load"
)

// keepStages reads the source's pipelines, and has every destination that took
// the run's package replace its table of stages. Names are not worth a failed
// night: what goes wrong is noted, and the old table stays.
func (r *syncRun) keepStages(ctx context.Context) {
	keepers := map[string]load.StageKeeper{}
	var order []string
	for _, d := range r.job.Destinations {
		if k, ok := d.Loader.(load.StageKeeper); ok && slices.Contains(r.ready, d.Name) {
			keepers[d.Name], order = k, append(order, d.Name)
		}
	}
	if !r.job.KeepStages || r.kind != kindSync || len(order) == 0 || ctx.Err() != nil {
		return
	}
	before := r.client.Stats()
	pipelines, err := r.client.Pipelines(ctx)
	after := r.client.Stats()
	r.counts.Requests += after.Requests - before.Requests
	r.counts.Retries += after.TotalRetries() - before.TotalRetries()
	if err != nil {
		r.note("", "the stages were not read, their table stays as it is: "+unreadable(err), err)
		return
	}
	list := stageList(pipelines)
	list.RunID, list.ExtractedAt = r.session.start.RunID, r.Clock.Now()
	for _, name := range order {
		if err := keepers[name].ReplaceStages(ctx, list); err != nil {
			r.note(name, fmt.Sprintf("the table of stages of destination %s was not replaced: %v", name, err), err)
			continue
		}
		r.emit(Event{Type: "stages_replaced", Destination: name})
	}
}

// unreadable says why pipelines could not be read.
func unreadable(err error) string {
	var status *extract.StatusError
	if errors.As(err, &status) {
		switch status.Status {
		case http.StatusUnauthorized, http.StatusForbidden:
			return fmt.Sprintf("the key may not read %s (status %d)", status.Request, status.Status)
		case http.StatusNotFound:
			return fmt.Sprintf("the source has no %s (status 404)", status.Request)
		}
	}
	return err.Error()
}

// note keeps something that went wrong and does not make the run fail, with
// what to do about it where that is known.
func (r *syncRun) note(destination, text string, err error) {
	var known interface{ Hint() string }
	var status *extract.StatusError
	refused := []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound}
	switch {
	case errors.As(err, &status) && slices.Contains(refused, status.Status):
		text += ". Give the key that right, or write stages: off"
	case errors.As(err, &known) && known.Hint() != "":
		text += ". " + known.Hint()
	}
	r.summary.Notes = append(r.summary.Notes, text)
	r.emit(Event{Type: "note", Destination: destination, Reason: text})
}

func stageList(pipelines []extract.Pipeline) load.StageList {
	var list load.StageList
	for _, p := range pipelines {
		for i, s := range p.Stages {
			list.Stages = append(list.Stages, load.Stage{PipelineID: p.ID, PipelineName: p.Name, StageID: s.ID, StageName: s.Name, Position: int64(i)})
		}
	}
	return list
}
