package cli

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/plan"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

// noteApplied lets state remember what a run has made or added, for plans to see
// what something else changes there. A destination whose table has the columns
// that are remembered is not looked at, and nothing is where the run has come to
// no commit. That it could not be noted is logged: the next run, plan or apply
// makes up for it.
func (a *app) noteApplied(ctx context.Context, cfg *config.Config, p *config.Pipeline, e *run.Engine, job run.Job, ran error) {
	if ran != nil && !errors.As(ran, new(*run.DestinationsError)) {
		return
	}
	ctx = context.WithoutCancel(ctx)
	if err := a.tryNoteApplied(ctx, cfg, p, e, job); err != nil {
		a.log.WarnContext(ctx, "what the run has made could not be noted", "pipeline", p.Name, "error", err)
	}
}

func (a *app) tryNoteApplied(ctx context.Context, cfg *config.Config, p *config.Pipeline, engine *run.Engine, job run.Job) error {
	record, err := engine.Store.LoadResources(ctx)
	if err != nil {
		return err
	}
	e := &estate{cfg: cfg, record: record, names: map[string]load.ResourceName{}, users: map[string][]string{}}
	bare := job
	bare.Destinations = nil
	survey, err := engine.Survey(ctx, bare)
	if err != nil || !survey.Ran {
		return err
	}
	var failed []error
	for _, d := range job.Destinations {
		if e.remembers(d.Name, p, survey.Table) {
			continue
		}
		bare.Destinations = []run.Destination{d}
		found, err := engine.Survey(ctx, bare)
		if err != nil { // it is down, which the run has said
			failed = append(failed, err)
			continue
		}
		e.add(p, cfg.Destination(d.Name), found.Destinations[0].Resources)
	}
	e.addPipeline(p, job, true, nil)
	now := a.Clock.Now().UTC()
	_, err = engine.Store.UpdateResources(ctx, func(r *state.Resources) error {
		for _, f := range e.found {
			if f.Have == nil || f.Want == nil {
				continue
			}
			item := e.standing(f, now)
			if old, ok := r.Items[f.Address]; ok && maps.Equal(old.Attributes, item.Attributes) {
				continue
			}
			r.Items[f.Address] = item
		}
		return nil
	})
	return errors.Join(append(failed, err)...)
}

// remembers reports whether state knows the table of a pipeline at a destination
// with the columns that it has now.
func (e *estate) remembers(destination string, p *config.Pipeline, table schemas.Table) bool {
	item, ok := e.record.Items[plan.TableAddress(destination, p.Table)]
	if !ok {
		return false
	}
	columns := load.ColumnAttributes(table)
	for _, c := range columns {
		if item.Attributes[c.Name] != c.Value {
			return false
		}
	}
	return true
}

// standing is what state remembers of a resource as it stands there: of what is
// asked for, as far as it is so. Of a pipeline that is all: a run does what the
// file says.
func (e *estate) standing(r plan.Resource, now time.Time) state.Resource {
	if r.Kind == plan.KindPipeline {
		return e.item(r, r.Want, now)
	}
	asked := slices.DeleteFunc(slices.Clone(r.Have), func(h plan.Setting) bool {
		return !slices.ContainsFunc(r.Want, func(w plan.Setting) bool { return w.Name == h.Name })
	})
	return e.item(r, asked, now)
}

// item is what state remembers of a resource with these settings.
func (e *estate) item(r plan.Resource, settings []plan.Setting, now time.Time) state.Resource {
	item := state.Resource{Kind: r.Kind, Pipeline: r.Pipeline, Destination: r.Destination, Attributes: map[string]string{}, AppliedAt: now}
	for _, s := range settings {
		item.Attributes[s.Name] = s.Value
	}
	item.Place = item.Attributes["place"]
	if d := e.cfg.Destination(r.Destination); d != nil {
		item.Type = d.Type
	}
	return item
}
