package run

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/transform"
)

// colStage is the contract's column of the active ticket's stage.
const colStage = "active_ticket_v2_current_stage_id"

// whole reports whether every sync of the job reads all that it asks for.
func (j Job) whole() bool { return j.Sync == SyncRecent || j.Sync == SyncSnapshot }

// narrowing returns what the job has the source leave out by itself.
func (j Job) narrowing() (days int, filters url.Values) {
	if j.Sync == SyncRecent {
		return j.Days, nil
	}
	if j.Sync != SyncSnapshot {
		return 0, nil
	}
	filters = url.Values{}
	if len(j.Stages) > 0 {
		filters["stage_id"] = j.Stages
	}
	if len(j.Pipelines) > 0 {
		filters["pipeline_id"] = j.Pipelines
	}
	if f := j.Field; f != nil {
		filters.Set("custom_field_key", f.Key)
		filters.Set("custom_field_value", f.Value)
		if f.Entity != "" {
			filters.Set("entity_type", f.Entity)
		}
	}
	return 0, filters
}

// buriedField returns the filter by a custom field where it is applied on our
// side.
func (j Job) buriedField() *transform.FieldFilter {
	if j.Sync == SyncSnapshot {
		return nil
	}
	return j.Field
}

// selection is which contacts belong into the table, as state fingerprints it:
// where it changes, everything has to be read again.
func (j Job) selection() string {
	sets := maps.Clone(j.Filters)
	if sets == nil {
		sets = map[string][]string{}
	}
	if j.whole() {
		sets[".sync"] = []string{string(j.Sync)}
	}
	if j.Sync == SyncRecent {
		sets[".days"] = []string{strconv.Itoa(j.Days)}
	}
	if len(j.Stages) > 0 {
		sets[".stages"] = j.Stages
	}
	if len(j.Pipelines) > 0 {
		sets[".pipelines"] = j.Pipelines
	}
	if f := j.Field; f != nil {
		sets[".field"] = []string{fmt.Sprintf("%q=%q in %q", f.Key, f.Value, f.Entity)}
	}
	if j.Enrich {
		sets[".enrich"] = []string{"info"}
	}
	return state.FiltersFingerprint(sets)
}

// narrows reports whether some of the source's contacts are none of the job's.
func (j Job) narrows() bool {
	j.Enrich = false
	return j.selection() != ""
}

// resolve turns a filter by pipelines that has to be applied on our side into
// one by their stages, which is what a contact shows. A stage that joins or
// leaves a pipeline is thereby a changed filter.
func (j Job) resolve(ctx context.Context, client *extract.Client) (Job, error) {
	if j.Sync == SyncSnapshot {
		return j, nil
	}
	stages := j.Stages
	if len(j.Pipelines) > 0 {
		pipelines, err := client.Pipelines(ctx)
		if err != nil {
			return j, fmt.Errorf("read pipelines for the filter pipeline_id: %w", &unansweredError{err})
		}
		ofPipelines, err := stagesOf(pipelines, j.Pipelines)
		if err != nil {
			return j, err
		}
		if stages == nil {
			stages = ofPipelines
		} else { // both filters have to hold
			stages = slices.DeleteFunc(slices.Clone(stages), func(s string) bool { return !slices.Contains(ofPipelines, s) })
		}
		if len(stages) == 0 {
			return j, &NoStageError{Pipelines: j.Pipelines, Stages: j.Stages}
		}
	}
	if len(stages) > 0 {
		filters := maps.Clone(j.Filters)
		if filters == nil {
			filters = map[string][]string{}
		}
		filters[colStage] = stages
		j.Filters = filters
	}
	j.Stages, j.Pipelines = nil, nil
	return j, nil
}

// unansweredError is a source that did not tell what a filter stands for.
type unansweredError struct{ err error }

func (e *unansweredError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *unansweredError) Unwrap() error { return e.err }

// stagesOf returns the stages of the pipelines with these ids.
func stagesOf(pipelines []extract.Pipeline, ids []string) ([]string, error) {
	var stages []string
	for _, id := range ids {
		i := slices.IndexFunc(pipelines, func(p extract.Pipeline) bool { return strings.EqualFold(p.ID, id) })
		if i < 0 {
			known := make([]string, len(pipelines))
			for k, p := range pipelines {
				known[k] = fmt.Sprintf("%s (%s)", p.ID, p.Name)
			}
			return nil, &NoPipelineError{ID: id, Known: known}
		}
		for _, s := range pipelines[i].Stages {
			stages = append(stages, s.ID)
		}
	}
	return stages, nil
}
