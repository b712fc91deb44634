package run_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/duck"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/duckdb"
)

func (w *world) parity(job run.Job, how run.ParityCheck) run.Parity {
	w.t.Helper()
	p, err := (&run.Engine{Store: w.store, Clock: clock.System{}}).Parity(w.t.Context(), job, how)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// lakes are destinations of files of these names.
func (w *world) lakes(names ...string) (out []run.Destination) {
	w.t.Helper()
	for _, name := range names {
		out = append(out, run.Destination{Name: name, Loader: w.lake(name)})
	}
	return out
}

// database adds a destination in a DuckDB file, which spoil changes.
func (w *world) database() (d run.Destination, spoil func(statements ...string)) {
	w.t.Helper()
	if !duck.Available {
		w.t.Skip("this binary was built without DuckDB")
	}
	path := filepath.Join(w.dir, "crm.duckdb")
	l, err := duckdb.New(duckdb.Options{Path: path, Table: "contacts"})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = l.Close() })
	return run.Destination{Name: "local", Loader: l}, func(statements ...string) {
		w.t.Helper()
		db, err := sql.Open("duckdb", path)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, s := range statements {
			if _, err := db.ExecContext(w.t.Context(), s); err != nil {
				w.t.Errorf("%s: %v", s, err)
			}
		}
		if err := db.Close(); err != nil {
			w.t.Fatal(err)
		}
	}
}

// counts are the numbers of a pair alone.
var counts = cmpopts.IgnoreFields(run.ParityPair{}, "Measure", "Destination", "Months", "Examples", "Columns", "Examined")

func wantPair(t *testing.T, what string, got, want run.ParityPair) {
	t.Helper()
	if d := cmp.Diff(want, got, counts); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// slow leaves out a test of several runs, one after the other, where time is
// short, as under the race detector: its goroutines are those of any run, which
// shorter tests have, and those that run things side by side.
func slow(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs one after the other; without -short")
	}
}

func TestDestinationsOfOnePipelineHoldTheSame(t *testing.T) {
	slow(t)
	w := newWorld(t, contacts(700))
	local, _ := w.database()
	job := w.job(append(w.lakes("lake", "copy"), local)...)
	if p := w.parity(job, run.ParityCheck{}); len(p.Pairs) != 0 || p.Wrong() != 0 {
		t.Errorf("before the first run: %+v", p)
	}
	w.mustRun(job)
	for _, id := range w.ids(40) {
		if err := w.source.Touch(id); err != nil {
			t.Fatal(err)
		}
	}
	w.mustRun(job)
	p := w.parity(job, run.ParityCheck{})
	if p.Wrong() != 0 || len(p.Pairs) != 2 {
		t.Fatalf("%+v", p)
	}
	for i, pair := range p.Pairs {
		wantPair(t, pair.Destination, pair, run.ParityPair{Same: 700})
		if pair.Measure != "lake" || len(pair.Months) > 0 || pair.Destination != []string{"copy", "local"}[i] {
			t.Errorf("%+v", pair)
		}
	}
	for _, s := range p.Destinations {
		if s.Contacts != 700 || s.Position != 2 || s.Settled != 2 || s.Queued != 0 {
			t.Errorf("%+v", s)
		}
	}
}

const table = `_sluice."contacts__current"`

func TestWhatWasSpoiledInADestinationIsNamed(t *testing.T) {
	slow(t)
	w := newWorld(t, contacts(500))
	local, spoil := w.database()
	job := w.job(append(w.lakes("lake", "copy"), local)...)
	w.mustRun(job)
	ids := w.ids(20)
	quoted := func(i int) string { return "'" + ids[i] + "'" }
	spoil(
		"UPDATE "+table+" SET name = 'Someone else' WHERE id = "+quoted(3),
		"UPDATE "+table+" SET name = NULL, _sluice_hash = _sluice_hash + 1 WHERE id = "+quoted(4),
		"UPDATE "+table+" SET _sluice_deleted_at = updated_at WHERE id = "+quoted(5),
		"UPDATE "+table+" SET phone = email, email = phone WHERE id = "+quoted(6),
		"UPDATE "+table+" SET created_at = created_at - INTERVAL 400 DAY WHERE id = "+quoted(7),
		"UPDATE "+table+" SET _sluice_run_id = 'other', _sluice_change = 'update', _sluice_extracted_at = created_at, _sluice_row = 77 WHERE id = "+quoted(8), // not compared
		"DELETE FROM "+table+" WHERE id = "+quoted(9),
		"INSERT INTO "+table+" SELECT * REPLACE ('added' AS id) FROM "+table+" WHERE id = "+quoted(10),
	)
	lake := w.eraser("copy")
	if r, err := lake.Erase(t.Context(), load.Erasure{Lineage: w.state().Lineage, ID: ids[11]}); err != nil || !r.Any() {
		t.Fatal(r, err)
	}
	p := w.parity(job, run.ParityCheck{Values: true})
	if p.Wrong() != 8 {
		t.Errorf("%d are wrong", p.Wrong())
	}
	wantPair(t, "copy", p.Pairs[0], run.ParityPair{Same: 499, OnlyMeasure: 1})
	if d := cmp.Diff([]run.ParityCase{{Kind: "only_measure", ID: ids[11]}}, p.Pairs[0].Examples); d != "" {
		t.Errorf("examples of copy (-want +got):\n%s", d)
	}
	pair := p.Pairs[1]
	wantPair(t, "local", pair, run.ParityPair{Same: 494, Differ: 5, OnlyMeasure: 1, Only: 1})
	got := map[string]int64{}
	for _, c := range pair.Columns {
		got[c.Name] = c.Contacts
	}
	want := map[string]int64{"name": 2, "_sluice_hash": 1, "_sluice_deleted_at": 1, "phone": 1, "email": 1, "created_at": 1}
	if d := cmp.Diff(want, got); d != "" || pair.Examined != 5 {
		t.Errorf("columns of %d (-want +got):\n%s", pair.Examined, d)
	}
	kinds := map[string]string{}
	for _, e := range pair.Examples {
		kinds[e.ID] = e.Kind
		for _, c := range e.Columns {
			if e.ID == ids[3] && (c.Name != "name" || c.Measure == nil || *c.Measure == "Someone else" || c.Destination == nil || *c.Destination != "Someone else") {
				t.Errorf("it says %+v", c)
			}
			if e.ID == ids[4] && c.Name == "name" && (c.Measure == nil || c.Destination != nil) {
				t.Errorf("of a null it says %+v", c)
			}
		}
	}
	wantKinds := map[string]string{"added": "only", ids[9]: "only_measure"}
	for i := 3; i <= 7; i++ {
		wantKinds[ids[i]] = "differ"
	}
	if d := cmp.Diff(wantKinds, kinds); d != "" {
		t.Errorf("examples (-want +got):\n%s", d)
	}
	little := w.parity(job, run.ParityCheck{Values: true, HeldRows: 7})
	if d := cmp.Diff(p, little); d != "" {
		t.Errorf("with little memory (-ample +little):\n%s", d)
	}
	for _, e := range w.parity(job, run.ParityCheck{Examples: 1}).Pairs[1].Examples {
		for _, c := range e.Columns {
			if c.Measure != nil || c.Destination != nil {
				t.Errorf("values are told: %+v", e)
			}
		}
	}
}

func TestAContactThatStandsTwiceIsCounted(t *testing.T) {
	w := newWorld(t, contacts(50))
	local, spoil := w.database()
	job := w.job(append(w.lakes("lake"), local)...)
	w.mustRun(job)
	spoil("CREATE TEMP TABLE one AS SELECT * FROM "+table+" LIMIT 1", "INSERT INTO "+table+" SELECT * FROM one")
	wantPair(t, "there", w.parity(job, run.ParityCheck{}).Pairs[0], run.ParityPair{Same: 50, Twice: 1})
	slices.Reverse(job.Destinations)
	wantPair(t, "here", w.parity(job, run.ParityCheck{}).Pairs[0], run.ParityPair{Same: 50, Twice: 1})
}

func TestADestinationThatPackagesWaitForIsComparedWithWhatItHolds(t *testing.T) {
	slow(t)
	w := newWorld(t, contacts(300))
	late := &brokenLister{Lister: w.lake("late").(load.Lister), mended: true}
	job := w.job(append(w.lakes("lake"), run.Destination{Name: "late", Loader: late})...)
	w.mustRun(job)
	late.mended = false
	for _, id := range w.ids(12) {
		if err := w.source.Touch(id); err != nil {
			t.Fatal(err)
		}
	}
	w.source.Create(3)
	if _, err := w.run(t.Context(), job); err == nil {
		t.Fatal("the broken lake took a package")
	}
	p := w.parity(job, run.ParityCheck{})
	wantPair(t, "behind", p.Pairs[0], run.ParityPair{Same: 288, Waiting: 15})
	if s := p.Destinations[1]; s.Queued != 1 || s.Position != 1 || p.Wrong() != 0 {
		t.Errorf("%+v", p)
	}
	slices.Reverse(job.Destinations)
	wantPair(t, "ahead", w.parity(job, run.ParityCheck{}).Pairs[0], run.ParityPair{Same: 288, Waiting: 15})
	late.mended = true
	w.mustRun(job)
	wantPair(t, "mended", w.parity(job, run.ParityCheck{}).Pairs[0], run.ParityPair{Same: 303})
}

// brokenLister is a destination that takes no package until it is mended.
type brokenLister struct {
	load.Lister
	mended bool
}

func (b *brokenLister) Commit(ctx context.Context, p load.Package) (load.Result, error) {
	return (&broken{Loader: b.Lister, mended: b.mended}).Commit(ctx, p)
}

func TestATableThatWasFilledLaterNeedNotHaveTombstonesNorPackagesAlike(t *testing.T) {
	slow(t)
	w := newWorld(t, contacts(400))
	job := w.job(w.lakes("lake")...)
	w.mustRun(job)
	gone := w.remove(3)
	if r := w.mustReconcile(job, run.Reconciliation{}); r.Gone != 3 {
		t.Fatalf("%+v", r)
	}
	for _, id := range w.ids(30) {
		if err := w.source.Touch(id); err != nil {
			t.Fatal(err)
		}
	}
	job = w.job(w.lakes("lake", "later")...)
	w.mustRun(job)
	p := w.parity(job, run.ParityCheck{})
	wantPair(t, "later", p.Pairs[0], run.ParityPair{Same: 397, Tombstones: int64(len(gone))})
	if p.Wrong() != 0 {
		t.Errorf("%+v", p)
	}
}

// veiled is a destination whose queries do not show the last packages.
type veiled struct {
	load.Lister
	settled int64
	hide    func(arrow.Record) arrow.Record
}

func (v *veiled) Settled(context.Context, string) (int64, error) { return v.settled, nil }

func (v *veiled) List(ctx context.Context, l load.Listing, each func(arrow.Record) error) error {
	return v.Lister.List(ctx, l, func(rec arrow.Record) error {
		if v.hide == nil {
			return each(rec)
		}
		out := v.hide(rec)
		defer out.Release()
		return each(out)
	})
}

func TestWhatQueriesMayNotShowYetIsNoFault(t *testing.T) {
	slow(t)
	w := newWorld(t, contacts(200))
	v := &veiled{Lister: w.lake("veiled").(load.Lister), settled: 1}
	job := w.job(append(w.lakes("lake"), run.Destination{Name: "veiled", Loader: v})...)
	w.mustRun(job)
	for _, id := range w.ids(6) {
		if err := w.source.Touch(id); err != nil {
			t.Fatal(err)
		}
	}
	w.mustRun(job)
	wantPair(t, "all shown", w.parity(job, run.ParityCheck{}).Pairs[0], run.ParityPair{Same: 200})
	// Of package 2 nothing is shown, and of package 1 the first rows of a month
	// are not, which is a fault.
	v.hide = func(rec arrow.Record) arrow.Record { return rec.NewSlice(min(10, rec.NumRows()), rec.NumRows()) }
	p := w.parity(job, run.ParityCheck{}).Pairs[0]
	if p.NotVisible == 0 || p.NotVisible > 6 || p.OnlyMeasure == 0 || p.Same+p.NotVisible+p.OnlyMeasure != 200 || p.Waiting != 0 {
		t.Errorf("%+v", p)
	}
	v.settled = 0
	p = w.parity(job, run.ParityCheck{}).Pairs[0]
	if p.OnlyMeasure != 0 || p.Same+p.NotVisible != 200 {
		t.Errorf("nothing has to be shown: %+v", p)
	}
}

func TestADestinationThatMovesOnMeanwhileIsNotJudged(t *testing.T) {
	slow(t)
	w := newWorld(t, contacts(60))
	m := &moving{Lister: w.lake("moving").(load.Lister)}
	job := w.job(append(w.lakes("lake"), run.Destination{Name: "moving", Loader: m})...)
	w.mustRun(job)
	m.steps = 1
	_, err := (&run.Engine{Store: w.store, Clock: clock.System{}}).Parity(t.Context(), job, run.ParityCheck{})
	var moved *run.MovedOnError
	if !errors.As(err, &moved) || moved.After != moved.Before+1 || moved.Destination != "moving" {
		t.Errorf("got %v", err)
	}
	var alone *run.NoPairError
	if _, err := (&run.Engine{Store: w.store, Clock: clock.System{}}).Parity(t.Context(), w.job(), run.ParityCheck{}); !errors.As(err, &alone) {
		t.Errorf("of one destination: %v", err)
	}
}

// moving is a destination whose position is another each time.
type moving struct {
	load.Lister
	steps, asked int64
}

func (m *moving) Check(ctx context.Context, lineage string) (int64, error) {
	at, err := m.Lister.Check(ctx, lineage)
	m.asked += m.steps
	return at + m.asked, err
}

func TestALostTableIsAFaultAndNotBehind(t *testing.T) {
	slow(t)
	w := newWorld(t, contacts(40))
	job := w.job(w.lakes("lake", "copy")...)
	w.mustRun(job)
	if err := os.RemoveAll(filepath.Join(w.dir, "copy")); err != nil {
		t.Fatal(err)
	}
	p := w.parity(w.job(w.lakes("lake", "copy")...), run.ParityCheck{})
	wantPair(t, "lost", p.Pairs[0], run.ParityPair{OnlyMeasure: 40})
	if s := p.Destinations[1]; s.Position != 0 || s.Recorded != 1 {
		t.Errorf("%+v", s)
	}
}
