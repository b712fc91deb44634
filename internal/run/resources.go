package run

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

// Survey is what stands at the destinations of a job, beside what it asks for.
type Survey struct {
	// Ran says that a run has brought something to a destination, or reads on from
	// a cursor.
	Ran bool
	// Table is the table as the contract and the columns discovered so far make it.
	Table        schemas.Table
	Destinations []DestinationSurvey // in the job's order
}

// DestinationSurvey is what stands at one destination.
type DestinationSurvey struct {
	Name string
	// Going is the error of a table whose destruction was stopped, nil for none:
	// what is left of it has no resources.
	Going error
	// Lost says that the table lacks packages that were committed there, so that a
	// run refuses it; nil: it does not.
	Lost      *LostTableError
	Resources []load.Resource
}

// SurveyError is a destination that could not be looked at.
type SurveyError struct {
	Destination string
	Err         error
}

func (e *SurveyError) Error() string {
	return fmt.Sprintf("look at destination %q: %v", e.Destination, e.Err)
}

// Unwrap returns the cause.
func (e *SurveyError) Unwrap() error { return e.Err }

// Survey looks at the job's destinations; it changes nothing and reads nothing
// of the source. Of the job it uses the pipeline, the contract and the
// destinations; with none of these it tells the table alone.
func (e *Engine) Survey(ctx context.Context, job Job) (Survey, error) {
	st, err := e.Store.Load(ctx, job.Pipeline)
	if err != nil {
		return Survey{}, err
	}
	if err := checkContract(st, job.Contract); err != nil {
		return Survey{}, err
	}
	registry, err := schemas.NewRegistry(job.Contract, st.Entries(job.Contract))
	if err != nil {
		return Survey{}, fmt.Errorf("restore column registry: %w", err)
	}
	out := Survey{Ran: st.Cursor != nil || len(st.Destinations) > 0, Table: registry.Table()}
	for _, d := range job.Destinations {
		l, ok := d.Loader.(load.Surveyor)
		if !ok {
			return Survey{}, &SurveyError{Destination: d.Name, Err: errors.New("its kind cannot tell what stands there")}
		}
		list, err := l.Survey(ctx, st.Lineage, out.Table)
		if errors.Is(err, load.ErrDestroying) {
			out.Destinations = append(out.Destinations, DestinationSurvey{Name: d.Name, Going: &SurveyError{Destination: d.Name, Err: err}})
			continue
		}
		if err != nil {
			return Survey{}, &SurveyError{Destination: d.Name, Err: err}
		}
		found := DestinationSurvey{Name: d.Name, Resources: list}
		if known := st.Destinations[d.Name]; known != nil && known.Position > 0 && known.NeedsFull == nil {
			// What else Check refuses, the resources say.
			if position, err := d.Loader.Check(ctx, st.Lineage); err == nil && position < known.Position {
				found.Lost = &LostTableError{Holds: position, Committed: known.Position}
			}
		}
		out.Destinations = append(out.Destinations, found)
	}
	return out, nil
}

// Converge makes resources of one of the job's destinations what they are wanted
// to be, as load.Converger does; only nil means all. Runs of the pipeline are
// kept out meanwhile.
func (e *Engine) Converge(ctx context.Context, job Job, destination string, only []load.ResourceName) (err error) {
	return e.withLoader(ctx, job, destination, func(l load.Loader, st *state.Pipeline) error {
		c, ok := l.(load.Converger)
		if !ok {
			return errors.New("its kind cannot make tables ahead of a run")
		}
		registry, err := schemas.NewRegistry(job.Contract, st.Entries(job.Contract))
		if err != nil {
			return fmt.Errorf("restore column registry: %w", err)
		}
		return c.Converge(ctx, load.Convergence{Lineage: st.Lineage, Table: registry.Table(), Only: only})
	})
}

// Destroy removes the job's table from one of its destinations for good, and the
// table of the stages with it where stages is set. State then knows nothing of
// the destination: a run fills it by a full read. Once no destination is left,
// it knows no cursor either; the names of columns stay given.
func (e *Engine) Destroy(ctx context.Context, job Job, destination string, stages bool) error {
	return e.withLoader(ctx, job, destination, func(l load.Loader, st *state.Pipeline) error {
		d, ok := l.(load.Destroyer)
		if !ok {
			return errors.New("its kind cannot remove tables")
		}
		if err := d.Destroy(ctx, load.Destruction{Lineage: st.Lineage, Stages: stages}); err != nil {
			return err
		}
		_, err := e.Store.UpdateOrRescue(context.WithoutCancel(ctx), job.Pipeline, func(p *state.Pipeline) error {
			delete(p.Destinations, destination)
			if len(p.Destinations) == 0 {
				forgetCursor(p)
			}
			return nil
		})
		return err
	})
}

// Reset lets state forget every destination of a pipeline and its cursor, as
// Destroy does once no destination is left: also those that were removed by
// somebody else, or are not the file's any more. The names of columns stay given.
func (e *Engine) Reset(ctx context.Context, pipeline string) (err error) {
	_, release, err := e.keepOut(ctx, pipeline)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	st, err := e.Store.Load(ctx, pipeline)
	if err != nil || st.Cursor == nil && len(st.Destinations) == 0 {
		return err
	}
	_, err = e.Store.UpdateOrRescue(context.WithoutCancel(ctx), pipeline, func(p *state.Pipeline) error {
		clear(p.Destinations)
		forgetCursor(p)
		return nil
	})
	return err
}

// forgetCursor makes the next run read everything.
func forgetCursor(p *state.Pipeline) {
	p.Cursor, p.LastFull = nil, nil
	p.Filters, p.Contract, p.HashKey, p.Policies, p.Columns = "", "", "", nil, nil
}

// withLoader lets do work on one destination of a job, while runs of the
// pipeline are kept out, and with a lineage in state.
func (e *Engine) withLoader(ctx context.Context, job Job, destination string, do func(load.Loader, *state.Pipeline) error) (err error) {
	i := slices.IndexFunc(job.Destinations, func(d Destination) bool { return d.Name == destination })
	if i < 0 {
		return fmt.Errorf("pipeline %s has no destination %q", job.Pipeline, destination)
	}
	_, release, err := e.keepOut(ctx, job.Pipeline)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	st, err := e.Store.Load(ctx, job.Pipeline)
	if err != nil {
		return err
	}
	if st.Lineage == "" { // the destination learns it, so it is stored first
		if st, err = e.Store.Update(ctx, job.Pipeline, func(*state.Pipeline) error { return nil }); err != nil {
			return err
		}
	}
	if err := do(job.Destinations[i].Loader, st); err != nil {
		return fmt.Errorf("destination %q: %w", destination, err)
	}
	return nil
}
