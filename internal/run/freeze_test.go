package run_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/schemas"
)

// Windows that are read at once each meet what the table has no place for: one
// error names all of it, in the same order each time. Which contact it names of a
// field goes by which window had which contacts.
func TestTwoFreezesInParallelWindowsAreOneErrorAndTheMendedContractGoesOn(t *testing.T) {
	w, d, job := evolvingLake(t)
	w.mustRun(job(""))
	before := w.state()
	d.change = func(c map[string]any) {
		if id := c["id"].(string); id[0] < '8' {
			c["hat"] = 58
		} else {
			c["shoe"] = "large"
		}
	}
	frozen := job("new_columns: freeze")
	frozen.PageSize, frozen.Source.Concurrency, frozen.Full = 20, 4, true
	hints := map[string]bool{}
	for range 2 {
		_, err := (&run.Engine{Store: w.store, Clock: clock.System{}}).Run(t.Context(), frozen)
		var both *schemas.FreezeError
		if !errors.As(err, &both) || both.Field != "contact:hat" || len(both.Others) != 1 || both.Others[0].Field != "contact:shoe" {
			t.Fatalf("got %v", err)
		}
		for _, want := range []string{"field contact:hat is new", "field contact:shoe is new"} {
			if strings.Count(err.Error(), want) != 1 {
				t.Errorf("%q stands %d times in %v", want, strings.Count(err.Error(), want), err)
			}
		}
		hints[both.Hint()] = true
	}
	if len(hints) != 1 {
		t.Errorf("it is said in %d ways: %v", len(hints), hints)
	}
	if st := w.state(); !st.Cursor.Equal(*before.Cursor) || st.NextPackage != before.NextPackage || len(st.Registry) != len(before.Registry) {
		t.Errorf("runs that failed left %+v", st)
	}
	mended := job("new_columns: evolve")
	mended.Full = true
	w.mustRun(mended)
	w.same("lake")
	w.lakeHas("SELECT count(*), count(hat) + count(shoe), count(hat) > 0, count(shoe) > 0 FROM LAKE", "400|400|true|true")
	w.tidy()
}
