package run

import (
	"context"
	"errors"
	"fmt"

	"github.com/sluice-etl/sluice/load"
)

// Replacement is a destination whose table has to be made anew before it takes
// another package.
type Replacement struct {
	Pipeline, Destination string
	Needs                 *load.ReplaceError
}

// same reports whether two replacements are one: what they do and cost is told
// as of then, and may differ.
func (r Replacement) same(o Replacement) bool {
	a, b := *r.Needs, *o.Needs
	a.Detail, b.Detail = "", ""
	return r.Pipeline == o.Pipeline && r.Destination == o.Destination && a == b
}

// Replacements returns the destinations of the job whose tables have to be made
// anew, in the job's order. It changes nothing and reads nothing of the source.
// A destination that cannot be looked at is an error. Of the job it uses the
// pipeline and the destinations.
func (e *Engine) Replacements(ctx context.Context, job Job) ([]Replacement, error) {
	st, err := e.Store.Load(ctx, job.Pipeline)
	if err != nil {
		return nil, err
	}
	if st.Lineage == "" { // there was no run, so there is no table of ours
		return nil, nil
	}
	var out []Replacement
	for _, d := range job.Destinations {
		_, err := d.Loader.Check(ctx, st.Lineage)
		var r *load.ReplaceError
		switch {
		case errors.As(err, &r):
			out = append(out, Replacement{Pipeline: job.Pipeline, Destination: d.Name, Needs: r})
		case err != nil:
			return nil, fmt.Errorf("look at destination %q: %w", d.Name, err)
		}
	}
	return out, nil
}

// MovedError says that a destination is not what it was when somebody approved
// of its change. Nothing was changed there.
type MovedError struct{ Destination string }

func (e *MovedError) Error() string {
	return fmt.Sprintf("replace table of destination %q: it is no longer what was shown", e.Destination)
}

// Hint says what to do.
func (e *MovedError) Hint() string { return "look at it again: `sluice plan`" }

// Replace makes the table of one of the job's destinations anew, as Replacements
// has shown it and somebody has approved. Runs of the pipeline are kept out
// meanwhile. Stopped on the way, nothing is lost: the destination waits for the
// next call.
func (e *Engine) Replace(ctx context.Context, job Job, approved Replacement) (out load.Replaced, err error) {
	_, release, err := e.keepOut(ctx, job.Pipeline)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, release()) }()
	now, err := e.Replacements(ctx, job)
	if err != nil {
		return out, err
	}
	for _, r := range now {
		if !r.same(approved) {
			continue
		}
		st, err := e.Store.Load(ctx, job.Pipeline)
		if err != nil {
			return out, err
		}
		for _, d := range job.Destinations {
			if d.Name != r.Destination {
				continue
			}
			l, ok := d.Loader.(load.Replacer)
			if !ok {
				return out, fmt.Errorf("replace table of destination %q: its kind cannot", d.Name)
			}
			if out, err = l.Replace(ctx, st.Lineage); err != nil {
				return out, fmt.Errorf("replace table of destination %q: %w", d.Name, err)
			}
			return out, nil
		}
	}
	return out, &MovedError{Destination: approved.Destination}
}

// Unapproved returns the replacements that err, of a run of a pipeline, waits
// for. all reports whether nothing else went wrong.
func Unapproved(pipeline string, err error) (list []Replacement, all bool) {
	var failed *DestinationsError
	if !errors.As(err, &failed) {
		return nil, false
	}
	for _, f := range failed.Failed {
		var r *load.ReplaceError
		if errors.As(f.Err, &r) {
			list = append(list, Replacement{Pipeline: pipeline, Destination: f.Destination, Needs: r})
		}
	}
	return list, len(list) == len(failed.Failed) && only(err, failed)
}

// only reports whether the tree of err holds failed and nothing beside it.
func only(err error, failed *DestinationsError) bool {
	for err != nil && err != error(failed) { //nolint:errorlint // this is the walk that errors.As does
		if many, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // as above
			if list := many.Unwrap(); len(list) == 1 {
				err = list[0]
				continue
			}
			return false
		}
		err = errors.Unwrap(err)
	}
	return err != nil
}
