package cli

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/internal/diag"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/load"
)

func TestOnlyAnErrorThatARepetitionMayMendIsOneToRepeat(t *testing.T) {
	t.Parallel()
	down := &extract.TransportError{}
	approval := &run.DestinationError{Destination: "lake", Err: &load.ReplaceError{Table: "t"}}
	full := &run.DestinationError{Destination: "local", Err: errors.New("disk full")}
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"nothing":                        {nil, false},
		"a source that is down":          {fmt.Errorf("read: %w", down), false},
		"a server that fails":            {&extract.StatusError{Status: 503}, false},
		"another process has the lock":   {&state.HeldError{}, false},
		"a share of contacts missing":    {&run.MissingShareError{}, false},
		"a stop":                         {context.Canceled, false},
		"interrupted by a source":        {&run.InterruptedError{Err: down}, false},
		"a key that is refused":          {fmt.Errorf("read: %w", &extract.UnauthorizedError{}), true},
		"a key without the right":        {&run.InterruptedError{Err: &extract.ForbiddenError{}}, true},
		"a parameter that is refused":    {&extract.BadRequestError{}, true},
		"a limit of requests":            {&run.InterruptedError{Err: &extract.BudgetError{}}, true},
		"approval":                       {&run.DestinationsError{Failed: []*run.DestinationError{approval}}, true},
		"approval, and a full disk":      {&run.DestinationsError{Failed: []*run.DestinationError{approval, full}}, false},
		"frozen":                         {&run.FrozenError{}, true},
		"the contract":                   {fmt.Errorf("prepare: %w", &run.ContractError{}), true},
		"the file":                       {diag.List{{Summary: "x"}}.Err(), true},
		"another source":                 {&state.ForeignSourceError{}, true},
		"somebody else's table":          {&run.DestinationsError{Failed: []*run.DestinationError{{Err: fmt.Errorf("check: %w", load.ErrForeign)}}}, true},
		"a key refused, and a disk full": {errors.Join(&extract.UnauthorizedError{}, full), false},
	} {
		if got := permanent(c.err); got != c.want {
			t.Errorf("%s: permanent is %v", name, got)
		}
	}
}

func TestARunStoodBackWhereALockAloneKeptItFromRunning(t *testing.T) {
	t.Parallel()
	held := &state.HeldError{}
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"nothing":               {nil, false},
		"a lock":                {fmt.Errorf("run: %w", held), true},
		"a lock, and the rest":  {errors.Join(held, errors.New("disk full")), false},
		"another fault":         {errors.New("disk full"), false},
		"taken over by another": {&state.TakenOverError{}, false},
	} {
		if got := elsewhere(c.err); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
