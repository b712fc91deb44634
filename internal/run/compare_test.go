package run_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/sandbox"
	"github.com/sluice-etl/sluice/load"
)

func (w *world) compare(job run.Job, how run.Comparison) (run.Compared, error) {
	w.t.Helper()
	return (&run.Engine{Store: w.store, Clock: clock.System{}}).Compare(w.t.Context(), job, how)
}

func (w *world) mustCompare(job run.Job, how run.Comparison) run.Compared {
	w.t.Helper()
	c, err := w.compare(job, how)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// ids returns the source's first contacts, in order of created_at.
func (w *world) ids(n int) []string {
	var ids []string
	w.source.Each(func(c sandbox.Contact) bool { ids = append(ids, c.ID); return len(ids) < n })
	return ids
}

func TestAComparisonTellsWhatChangedFromWhatIsWrong(t *testing.T) {
	slow(t)
	w := newWorld(t, contacts(400))
	job := w.job()
	w.mustRun(job)
	both := map[string]run.Comparison{"all": {All: true, Values: true}, "sample": {Sample: 1000, Seed: 7, Values: true}}
	for name, how := range both {
		if c := w.mustCompare(job, how); c.Same != 400 || c.Checked != 400 || len(c.Examples) > 0 {
			t.Errorf("%s of an exact table: %+v", name, c)
		}
	}
	ids := w.ids(20)
	renamed := "Someone else"
	for _, err := range []error{
		w.source.Update(ids[3], sandbox.Change{Name: &renamed, Silent: true}), // unseen
		w.source.Update(ids[4], sandbox.Change{Name: &renamed}),               // since
		w.source.Touch(ids[5]),
		w.source.Delete(ids[6]),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	w.source.Create(2)
	lake := w.eraser("lake")
	if r, err := lake.Erase(t.Context(), load.Erasure{Lineage: w.state().Lineage, ID: ids[7]}); err != nil || !r.Any() {
		t.Fatal(r, err)
	}
	want := run.Compared{Destination: "lake", Checked: 399, Same: 395, Since: 2, Unseen: 1, Deleted: 1, Missing: 1, New: 2}
	for name, how := range both {
		c := w.mustCompare(job, how)
		got := c
		got.Requests, got.Examples, got.Seed = 0, nil, 0
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
		if got.Wrong() != 2 {
			t.Errorf("%s: %d are wrong", name, got.Wrong())
		}
		var said []string
		for _, e := range c.Examples {
			text := e.Kind + " " + e.ID
			for _, col := range e.Columns {
				if col.Name == "name" { // the sandbox changes others as well
					text += fmt.Sprint(" ", col.Name, " ", *col.Table != "", " ", *col.Source)
				}
			}
			said = append(said, text)
		}
		examples := []string{"deleted " + ids[6], "missing " + ids[7], "unseen " + ids[3] + " name true Someone else"}
		if name == "sample" { // a neighbour is counted, not named
			examples = append(examples[:1:1], examples[2])
		}
		if d := cmp.Diff(examples, said); d != "" {
			t.Errorf("%s: examples (-want +got):\n%s", name, d)
		}
	}
	how := both["all"]
	how.Values = false
	for _, e := range w.mustCompare(job, how).Examples {
		for _, col := range e.Columns {
			if col.Table != nil || col.Source != nil {
				t.Errorf("values are told: %+v", e)
			}
		}
	}
	w.mustRun(job)
	if c := w.mustCompare(job, both["all"]); c.Since != 0 || c.New != 0 || c.Unseen != 1 || c.Missing != 1 {
		t.Errorf("after the next run: %+v", c)
	}
}

func TestASampleIsDrawnByItsSeed(t *testing.T) {
	w := newWorld(t, contacts(600))
	job := w.job()
	w.mustRun(job)
	renamed := "Someone else"
	for _, id := range w.ids(600)[150:450] {
		if err := w.source.Update(id, sandbox.Change{Name: &renamed, Silent: true}); err != nil {
			t.Fatal(err)
		}
	}
	one := w.mustCompare(job, run.Comparison{Sample: 60, Seed: 1})
	if again := w.mustCompare(job, run.Comparison{Sample: 60, Seed: 1}); !cmp.Equal(one, again) {
		t.Errorf("one seed, two samples:\n%s", cmp.Diff(one, again))
	}
	if other := w.mustCompare(job, run.Comparison{Sample: 60}); other.Seed == 1 || cmp.Equal(one.Examples, other.Examples) {
		t.Errorf("another sample is the same: %+v", other)
	}
	if one.Checked != 60 || one.Unseen < 10 || one.Unseen > 50 || len(one.Examples) != 20 || one.Requests > 70 {
		t.Errorf("of 60 contacts, of whom half changed: %+v", one)
	}
}

func TestAComparisonGoesByThePipelinesFilters(t *testing.T) {
	w := newWorld(t, contacts(300))
	job := w.job()
	job.Filters = map[string][]string{"platform": {"whatsapp"}}
	w.mustRun(job)
	for _, how := range []run.Comparison{{All: true}, {Sample: 400}} {
		if c := w.mustCompare(job, how); c.Same != c.Checked || c.Same == 0 || c.Same == 300 || c.Missing+c.New != 0 {
			t.Errorf("%+v", c)
		}
	}
	job.Filters["platform"] = []string{"instagram"}
	var not *run.NotReadyError
	if _, err := w.compare(job, run.Comparison{}); !errors.As(err, &not) {
		t.Errorf("with other filters: %v", err)
	}
}

func TestAComparisonGoesByTheHashOfARowAndParityByItsCells(t *testing.T) {
	slow(t)
	w := newWorld(t, contacts(60))
	local, spoil := w.database()
	job := w.job(append(w.lakes("lake"), local)...)
	w.mustRun(job)
	spoil("UPDATE " + table + " SET name = 'Somebody else' WHERE id = '" + w.ids(1)[0] + "'")
	if c := w.mustCompare(job, run.Comparison{All: true, Destination: "local"}); c.Same != 60 {
		t.Errorf("the row's hash is that of the source: %+v", c)
	}
	if p := w.parity(job, run.ParityCheck{}).Pairs[0]; p.Differ != 1 || p.Same != 59 {
		t.Errorf("one cell differs: %+v", p)
	}
}

// Hundreds of contacts with one created_at are more than a page of a sample.
func TestAContactAmongManyOfOneMomentIsFound(t *testing.T) {
	o := contacts(300)
	o.CreatedTies = 250
	w := newWorld(t, o)
	job := w.job()
	w.mustRun(job)
	if c := w.mustCompare(job, run.Comparison{Sample: 40}); c.Same != 40 {
		t.Errorf("%+v", c)
	}
}
