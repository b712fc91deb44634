package run_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/sluice-etl/sluice/internal/run"
)

func TestAFailedDestinationIsToldWithoutSayingWhatIsNotSo(t *testing.T) {
	down := errors.New("it is down")
	for _, c := range []struct {
		e           run.DestinationsError
		text, hints string
	}{
		{run.DestinationsError{Alone: true, Failed: []*run.DestinationError{{Destination: "lake", Err: down}}}, `open destination "lake": it is down`, "nothing was read and nothing changed"},
		{run.DestinationsError{Failed: []*run.DestinationError{{Destination: "lake", Err: down}}}, `open destination "lake": it is down`, "the other destinations are up to date"},
		{run.DestinationsError{Failed: []*run.DestinationError{{Destination: "a", Err: down}, {Destination: "b", Queued: 1, Err: down}}}, `(1 package stays queued)`, "safe and queued"},
		{run.DestinationsError{Failed: []*run.DestinationError{{Destination: "b", Queued: 2, Err: down}}}, `(2 packages stay queued)`, "safe and queued"},
		{run.DestinationsError{Failed: []*run.DestinationError{{Destination: "b", GivenUp: 1, Err: down}}}, `(1 package waited for too long and is given up)`, "everything is read once more"},
		{run.DestinationsError{Failed: []*run.DestinationError{{Destination: "b", GivenUp: 3, Err: down}}}, `(3 packages waited for too long and are given up)`, "everything is read once more"},
	} {
		if got := c.e.Error(); !strings.Contains(got, c.text) {
			t.Errorf("it says %s, want %s", got, c.text)
		}
		if got := c.e.Hint(); !strings.Contains(got, c.hints) {
			t.Errorf("it hints %s, want %s", got, c.hints)
		}
	}
}
