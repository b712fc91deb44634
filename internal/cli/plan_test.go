package cli

import (
	"testing"

	"github.com/sluice-etl/sluice/internal/plan"
)

func TestAPlanShowsEachAttributeAndWhatTheChangeDoes(t *testing.T) {
	t.Parallel()
	p, err := plan.New([]plan.Change{
		{
			Address: plan.TableAddress("warehouse", "leads"), Action: plan.Replace,
			Attributes: []plan.Attribute{{Name: "method", From: "cdc", To: "load", Forces: true}, {Name: "max_staleness", From: "10m", To: ""}},
			Effects:    []string{"One sentence.", "Another one, which is longer than a line of a plan is wide, so that it goes on in the next line."},
		},
		{Address: plan.TableAddress("warehouse", "contacts"), Action: plan.Replace, Attributes: []plan.Attribute{{Name: "method", From: "stream", To: "cdc", Forces: true}}, Effects: []string{"One."}},
	})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "plan/two.txt", planText(p))
}

func TestWithoutAReplacementNothingIsToChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small)
	for range 2 { // before the first run, and after it
		for _, line := range [][]string{{"plan"}, {"plan", "nightly", "--detailed-exitcode"}, {"apply"}} {
			if r := w.sluice(t, line...).mustBe(t, 0); r.out != "No changes. No table has to be replaced.\n" || r.err != "" {
				t.Errorf("%v: got %q and %q", line, r.out, r.err)
			}
		}
		w.sluice(t, "run").mustBe(t, 0)
	}
	before := w.tree(t, "out", ".sluice/state")
	w.sluice(t, "plan").mustBe(t, 0)
	for name, was := range before {
		if w.tree(t, "out", ".sluice/state")[name] != was {
			t.Errorf("a plan has changed %s", name)
		}
	}
}
