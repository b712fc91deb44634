package cli

import (
	"slices"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/internal/diag"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

// permanent reports whether err, of a run, stays whatever is repeated: somebody
// has to do something about it, or the run is one of several by design. Of errors
// that are joined one that a repetition may mend is enough for it.
func permanent(err error) bool {
	if err == nil {
		return false
	}
	if lasts(err) {
		return true
	}
	switch e := err.(type) { //nolint:errorlint // this is the walk that errors.As does, over all of the tree
	case interface{ Unwrap() []error }:
		list := e.Unwrap()
		for _, one := range list {
			if one != nil && !permanent(one) {
				return false
			}
		}
		return len(list) > 0
	case interface{ Unwrap() error }:
		return permanent(e.Unwrap())
	default:
		return false
	}
}

// lasts judges one error of a tree, and not what it wraps.
func lasts(err error) bool {
	switch err.(type) { //nolint:errorlint // as above
	case *userError, *usageError, *diag.ListError, // the file, or the command
		*load.ReplaceError, *run.FrozenError, // approval
		*run.ContractError, *schemas.ContractError, *schemas.NameError, *schemas.TypeError, *schemas.FreezeError,
		*schemas.HashKeyError, *run.NoHashKeyError,
		*extract.UnauthorizedError, *extract.ForbiddenError, *extract.BadRequestError, *extract.RedirectError,
		*extract.BudgetError, // the rest is the next run's, on purpose
		*run.NoPipelineError, *run.NoStageError, *run.SnapshotError, *run.DaysAloneError, *run.NotReadyError,
		*run.MixedRunError, *run.LostTableError, *run.FutureFormatError, *run.CorruptJournalError,
		*state.ForeignSourceError, *state.CorruptError, *state.FutureError, *state.MovedError, *state.EmergencyError:
		return true
	}
	for _, known := range []error{load.ErrForeign, load.ErrAhead, load.ErrDestroying, state.ErrMoved} {
		if err == known { //nolint:errorlint // as above
			return true
		}
	}
	return false
}

// elsewhere reports whether err, of a run, says that another process is at the
// same job of the pipeline, and nothing else.
func elsewhere(err error) bool {
	switch e := err.(type) { //nolint:errorlint // as in permanent
	case *state.HeldError:
		return true
	case interface{ Unwrap() []error }:
		list := e.Unwrap()
		return len(list) > 0 && !slices.ContainsFunc(list, func(one error) bool { return one != nil && !elsewhere(one) })
	case interface{ Unwrap() error }:
		return elsewhere(e.Unwrap())
	default:
		return false
	}
}
