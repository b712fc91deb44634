package run_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/atomicfile/faultfs"
	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/quarantine"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/sandbox"
	"github.com/sluice-etl/sluice/internal/state"
)

const waitingRun = "20260901T030000Z-aaaaaa"

// lived is a state directory of a pipeline that has packages, an unfinished run,
// records set aside and resources.
type lived struct {
	t   *testing.T
	dir string
}

func newLived(t *testing.T) *lived {
	t.Helper()
	l := &lived{t: t, dir: t.TempDir()}
	s, _ := l.open(nil)
	_, err := s.Update(t.Context(), "nightly", func(p *state.Pipeline) error {
		p.RecordRun(state.RunRecord{RunID: waitingRun, Package: 1})
		return p.Enqueue(state.PackageRef{Serial: 1, RunID: waitingRun, Rows: 3}, "lake")
	})
	_, otherErr := s.Update(t.Context(), "weekly", func(p *state.Pipeline) error {
		return p.Enqueue(state.PackageRef{Serial: 1, RunID: waitingRun}, "lake", "warehouse")
	})
	_, resErr := s.UpdateResources(t.Context(), func(r *state.Resources) error {
		r.Items["pipeline.nightly"] = state.Resource{Kind: state.KindPipeline, Pipeline: "nightly"}
		r.Items["destination.lake.table.contacts"] = state.Resource{Kind: state.KindTable, Pipeline: "nightly", Destination: "lake"}
		r.Items["destination.lake.table.crm_stages"] = state.Resource{Kind: state.KindTable, Destination: "lake"}
		return nil
	})
	if err := errors.Join(err, otherErr, resErr); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"nightly." + waitingRun, "nightly.20260902T030000Z-bbbbbb", "weekly." + waitingRun} {
		l.write("runs/"+name+"/journal", name)
	}
	for part := range 2 {
		if err := quarantine.In(l.dir, "nightly", nil).Write(waitingRun, part, []quarantine.Record{{Reason: "no id"}}); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// again is another directory like l, made without waiting for a disk.
func (l *lived) again() *lived {
	l.t.Helper()
	other := &lived{t: l.t, dir: filepath.Join(l.t.TempDir(), "state")}
	if err := os.CopyFS(other.dir, os.DirFS(l.dir)); err != nil {
		l.t.Fatal(err)
	}
	return other
}

// killedAt returns the operations at which a command is killed: all of them with
// SLUICE_SOAK set, else a sample that takes its turn through them.
func killedAt(ops int) (at []int) {
	step := 1
	if os.Getenv("SLUICE_SOAK") == "" {
		step = max(1, ops/10)
	}
	for op := 1; op <= ops; op += step {
		at = append(at, op)
	}
	return at
}

func (l *lived) write(name, text string) {
	l.t.Helper()
	path := filepath.Join(l.dir, filepath.FromSlash(name))
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		l.t.Fatal(err)
	}
}

// open gives a store and an engine that write through disk; nil is the system's.
func (l *lived) open(disk atomicfile.Disk) (*state.Store, *run.Engine) {
	l.t.Helper()
	opts := []state.Option{state.WithRescueDir(l.t.TempDir())}
	if disk != nil {
		opts = append(opts, state.WithFS(disk))
	}
	s, err := state.Open(l.dir, clock.System{}, opts...)
	if err != nil {
		l.t.Fatal(err)
	}
	return s, &run.Engine{Store: s, Clock: clock.System{}, Disk: disk}
}

func (l *lived) glob(pattern string) int {
	l.t.Helper()
	found, err := filepath.Glob(filepath.Join(l.dir, pattern))
	if err != nil {
		l.t.Fatal(err)
	}
	return len(found)
}

// named fails unless everything of the pipeline goes by the name, and nothing by
// the other one.
func (l *lived) named(name, other, lineage string) {
	l.t.Helper()
	s, _ := l.open(nil)
	p, err := s.Load(l.t.Context(), name)
	if err != nil || p.Lineage != lineage || len(p.Destinations["lake"].Queue) != 1 || p.NextPackage != 2 || len(p.Runs) != 1 {
		l.t.Fatalf("%s: %+v, %v", name, p, err)
	}
	if q, err := s.Load(l.t.Context(), other); err != nil || q.Serial != 0 {
		l.t.Fatalf("%s is left: %+v, %v", other, q, err)
	}
	r, err := s.LoadResources(l.t.Context())
	if err != nil || len(r.Items) != 3 || r.Items["pipeline."+name].Pipeline != name || r.Items["destination.lake.table.contacts"].Pipeline != name || r.Items["destination.lake.table.crm_stages"].Pipeline != "" {
		l.t.Fatalf("resources %+v, %v", r, err)
	}
	for pattern, want := range map[string]int{
		"runs/" + name + ".*/journal": 2, "runs/" + other + ".*": 0, "runs/weekly.*/journal": 1, "quarantine/" + name + "/*.ndjson": 2, "quarantine/" + other: 0,
	} {
		if got := l.glob(pattern); got != want {
			l.t.Fatalf("%s: %d, want %d", pattern, got, want)
		}
	}
}

func TestARenamedPipelineTakesEverythingAlongWhereverItIsKilled(t *testing.T) {
	counting := faultfs.New(nil, faultfs.Fault{})
	first := newLived(t)
	template := first.again()
	_, e := first.open(counting)
	out, err := e.RenamePipeline(t.Context(), "nightly", "daily")
	if err != nil || out.Runs != 2 || out.Aside != 2 || out.Resources != 2 || out.Resumed || len(out.Backups) != 2 {
		t.Fatalf("%+v, %v", out, err)
	}
	if counting.Ops() < 15 {
		t.Fatalf("only %d operations", counting.Ops())
	}
	for _, op := range killedAt(counting.Ops()) {
		l := template.again()
		good, healthy := l.open(nil)
		before, err := good.Load(t.Context(), "nightly")
		if err != nil {
			t.Fatal(err)
		}
		disk := faultfs.New(nil, faultfs.Fault{Op: op, Err: faultfs.ErrKilled, Sticky: true})
		_, e := l.open(disk)
		_, killed := e.RenamePipeline(t.Context(), "nightly", "daily")
		// Whoever comes now finds the one or the other, or is told to wait.
		old, oldErr := good.Load(t.Context(), "nightly")
		renamed, err := good.Load(t.Context(), "daily")
		switch {
		case err != nil || oldErr != nil && !errors.Is(oldErr, state.ErrMoved):
			t.Fatalf("operation %d: %v, %v", op, oldErr, err)
		case oldErr == nil && old.Serial > 0 && renamed.Serial > 0:
			t.Fatalf("operation %d: both names have a history", op)
		case oldErr == nil && old.Serial > 0 && l.glob("runs/nightly.*") != 2, renamed.Serial > 0 && l.glob("runs/daily.*") != 2:
			t.Fatalf("operation %d: a history is without its runs", op)
		}
		if _, err := healthy.RenamePipeline(t.Context(), "nightly", "daily"); err != nil && (killed != nil && !errors.Is(err, os.ErrNotExist)) {
			t.Fatalf("operation %d: finishing it: %v", op, err)
		}
		l.named("daily", "nightly", before.Lineage)
	}
}

func TestAPipelineTakesNoNameThatIsTakenAndMovesBesideNoRun(t *testing.T) {
	for name, take := range map[string]func(*lived, *state.Store) error{
		"state": func(l *lived, s *state.Store) error {
			_, err := s.Update(l.t.Context(), "daily", func(p *state.Pipeline) error {
				return p.Enqueue(state.PackageRef{Serial: 1, RunID: "x"}, "lake")
			})
			return err
		},
		"a run":   func(l *lived, _ *state.Store) error { l.write("runs/daily.1/journal", "x"); return nil },
		"records": func(l *lived, _ *state.Store) error { l.write("quarantine/daily/1-0001.ndjson", "{}\n"); return nil },
		"a resource": func(l *lived, s *state.Store) error {
			_, err := s.UpdateResources(l.t.Context(), func(r *state.Resources) error {
				r.Items["pipeline.daily"] = state.Resource{Kind: state.KindPipeline, Pipeline: "daily"}
				return nil
			})
			return err
		},
	} {
		l := newLived(t)
		s, e := l.open(nil)
		if err := take(l, s); err != nil {
			t.Fatal(err)
		}
		_, err := e.RenamePipeline(t.Context(), "nightly", "daily")
		var taken *run.TakenError
		if !errors.As(err, &taken) || taken.Hint() == "" {
			t.Errorf("%s: %v", name, err)
		}
		if p, err := s.Load(t.Context(), "nightly"); err != nil || p.Serial != 1 || l.glob("runs/nightly.*") != 2 {
			t.Errorf("%s: changed %+v, %v", name, p, err)
		}
	}
	l := newLived(t)
	s, e := l.open(nil)
	for _, name := range []string{"nightly", "daily"} {
		release, err := s.LockRun(t.Context(), name, "reconcile")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.RenamePipeline(t.Context(), "nightly", "daily"); !errors.Is(err, state.ErrHeld) {
			t.Errorf("beside a run of %s: %v", name, err)
		}
		if err := release(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := e.RenamePipeline(t.Context(), "yearly", "daily"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("one without state: %v", err)
	}
}

func TestTheEmptyStateOfAPipelineThatWasRenamedInTheFileFirstIsReplaced(t *testing.T) {
	l := newLived(t)
	s, e := l.open(nil)
	before, err := s.Load(t.Context(), "nightly")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Update(t.Context(), "daily", func(*state.Pipeline) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if out, err := e.RenamePipeline(t.Context(), "nightly", "daily"); err != nil || len(out.Backups) != 3 {
		t.Fatalf("%+v, %v", out, err)
	}
	l.named("daily", "nightly", before.Lineage)
}

func TestARenamedPipelineGoesOnWithoutReadingOrCommittingTwice(t *testing.T) {
	w := newWorld(t, contacts(600))
	w.mustRun(w.job())
	w.source.Mutate(sandbox.Mutation{Updates: 9})
	broken := &brokenLoader{Loader: w.lake("lake")}
	broken.down.Store(true)
	if _, err := w.run(t.Context(), w.job(run.Destination{Name: "lake", Loader: broken})); !errors.Is(err, errDown) {
		t.Fatalf("the destination is well: %v", err)
	}
	lineage := w.state().Lineage
	e := &run.Engine{Store: w.store, Clock: clock.System{}}
	if out, err := e.RenamePipeline(t.Context(), "nightly", "daily"); err != nil || out.Runs != 1 {
		t.Fatalf("%+v, %v", out, err)
	}
	job := w.job()
	job.Pipeline = "daily"
	w.mustRun(job)
	p, err := w.store.Load(t.Context(), "daily")
	if err != nil || p.Lineage != lineage || p.NextPackage != 4 || len(p.Destinations["lake"].Queue) != 0 || p.Runs[2].Mode != "incremental" {
		t.Errorf("%+v, %v", p, err)
	}
	w.same("lake")
	w.tidy()
}

func TestARenamedDestinationIsKnownByAllWhereverItIsKilled(t *testing.T) {
	counting := faultfs.New(nil, faultfs.Fault{})
	template := newLived(t)
	_, e := template.again().open(counting)
	if out, err := e.RenameDestination(t.Context(), "lake", "archive"); err != nil || out.Resources != 2 || len(out.Pipelines) != 2 {
		t.Fatalf("%+v, %v", out, err)
	}
	for _, op := range killedAt(counting.Ops()) {
		l := template.again()
		_, e := l.open(faultfs.New(nil, faultfs.Fault{Op: op, Err: faultfs.ErrKilled, Sticky: true}))
		_, killed := e.RenameDestination(t.Context(), "lake", "archive")
		s, healthy := l.open(nil)
		if _, err := healthy.RenameDestination(t.Context(), "lake", "archive"); err != nil && (killed != nil && !errors.Is(err, os.ErrNotExist)) {
			t.Fatalf("operation %d: finishing it: %v", op, err)
		}
		for name, want := range map[string]int{"nightly": 1, "weekly": 2} {
			p, err := s.Load(t.Context(), name)
			if err != nil || len(p.Destinations) != want || len(p.Destinations["archive"].Queue) != 1 {
				t.Fatalf("operation %d: %+v, %v", op, p, err)
			}
		}
		r, err := s.LoadResources(t.Context())
		if err != nil || r.Moving != nil || r.Items["destination.archive.table.contacts"].Destination != "archive" || len(r.Items) != 3 {
			t.Fatalf("operation %d: %+v, %v", op, r, err)
		}
	}
	var taken *run.TakenError
	_, e = newLived(t).open(nil)
	if _, err := e.RenameDestination(t.Context(), "lake", "warehouse"); !errors.As(err, &taken) {
		t.Errorf("a name that is taken: %v", err)
	}
	if _, err := e.RenameDestination(t.Context(), "pond", "puddle"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("one that is not there: %v", err)
	}
}
