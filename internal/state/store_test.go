package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/clock"
)

var noon = clock.Fixed(time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC))

func open(t *testing.T, dir string, opts ...Option) *Store {
	t.Helper()
	s, err := Open(dir, noon, append([]Option{WithVersion("test"), WithCommand("sluice run")}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func load(t *testing.T, s *Store, pipeline string) *Pipeline {
	t.Helper()
	p, err := s.Load(t.Context(), pipeline)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func save(t *testing.T, s *Store, p *Pipeline) {
	t.Helper()
	if err := s.Save(t.Context(), p); err != nil {
		t.Fatal(err)
	}
}

// hint returns what an error of this package tells the user to do.
func hint(t *testing.T, err error) string {
	t.Helper()
	var h interface{ Hint() string }
	if !errors.As(err, &h) || h.Hint() == "" {
		t.Fatalf("%v says nothing about what to do", err)
	}
	return h.Hint()
}

func TestAPipelineWithoutStateIsFreshAndLeavesNoTrace(t *testing.T) {
	everywhere(t, func(w *world) {
		t := w.t
		s := w.open(t)
		p := load(t, s, "nightly")
		if p.Serial != 0 || p.Lineage != "" || p.NextPackage != 1 || p.Pipeline != "nightly" || p.Cursor != nil {
			t.Errorf("fresh state is %+v", p)
		}
		if names, err := s.Pipelines(t.Context()); err != nil || names != nil {
			t.Errorf("pipelines %v, %v", names, err)
		}
		if entries, err := os.ReadDir(s.Dir()); len(entries) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("reading left %v, %v", entries, err)
		}
		if docs := w.documents(t); len(docs) > 0 {
			t.Errorf("reading made %v", docs)
		}
	})
}

func TestSaveGivesALineageOnceAndCountsTheSerial(t *testing.T) {
	everywhere(t, func(w *world) {
		t := w.t
		s := w.open(t)
		p := load(t, s, "nightly")
		save(t, s, p)
		lineage := p.Lineage
		if p.Serial != 1 || len(lineage) != 36 {
			t.Fatalf("after the first save: serial %d, lineage %q", p.Serial, lineage)
		}
		save(t, s, p)
		got := load(t, s, "nightly")
		if got.Serial != 2 || got.Lineage != lineage || got.SluiceVersion != "test" || got.FormatVersion != FormatVersion {
			t.Errorf("stored: %+v", got)
		}
		if diff := cmp.Diff(p, got); diff != "" {
			t.Errorf("what was saved differs from what is loaded:\n%s", diff)
		}
	})
}

func TestOnlyTheOwnerCanReadState(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no permission bits")
	}
	s := open(t, filepath.Join(t.TempDir(), ".sluice"))
	p := load(t, s, "nightly")
	save(t, s, p)
	release, err := s.LockRun(t.Context(), "nightly", "sync")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = release() }()
	err = filepath.WalkDir(s.Dir(), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestTheSecondOfTwoSavesIsRefused(t *testing.T) {
	everywhere(t, func(w *world) {
		t := w.t
		s, other := w.open(t), w.elsewhere(t)
		first, second := load(t, s, "nightly"), load(t, other, "nightly")
		save(t, s, first)
		save(t, s, first)
		second.Filters = "lost"
		err := other.Save(t.Context(), second)
		var stale *StaleError
		if !errors.As(err, &stale) || !errors.Is(err, ErrStale) || stale.Loaded != 0 || stale.Stored != 2 {
			t.Fatalf("got %v", err)
		}
		if !strings.Contains(err.Error(), "serial 2") || !strings.Contains(err.Error(), "serial 0") || hint(t, err) == "" {
			t.Errorf("the message lacks a serial: %v", err)
		}
		if got := load(t, s, "nightly"); got.Filters != "" || got.Serial != 2 {
			t.Errorf("the refused save took effect: %+v", got)
		}
		if second.Serial != 0 || second.Lineage != "" {
			t.Errorf("the refused state was altered: %+v", second)
		}
	})
}

func TestAStateOfAnotherHistoryIsNotOverwritten(t *testing.T) {
	one, two := open(t, t.TempDir()), open(t, t.TempDir())
	p, q := load(t, one, "nightly"), load(t, two, "nightly")
	save(t, one, p)
	save(t, two, q)
	var stale *StaleError
	if err := two.Save(t.Context(), p); !errors.As(err, &stale) || !stale.OtherLineage {
		t.Errorf("got %v", err)
	}
}

func TestSaveRefusesWhatItCouldNotReadBack(t *testing.T) {
	everywhere(t, func(w *world) {
		t := w.t
		s := w.open(t)
		for name, spoil := range map[string]func(*Pipeline){
			"a position past the last package": func(p *Pipeline) { p.Destination("lake").Position = 1 },
			"a queue that goes back": func(p *Pipeline) {
				p.NextPackage = 3
				p.Destination("lake").Queue = []PackageRef{{Serial: 2}, {Serial: 1}}
			},
			"a queued package that is committed": func(p *Pipeline) {
				p.NextPackage = 3
				*p.Destination("lake") = Destination{Position: 2, Queue: []PackageRef{{Serial: 2}}}
			},
			"a null destination":         func(p *Pipeline) { p.Destinations["lake"] = nil },
			"no next package":            func(p *Pipeline) { p.NextPackage = 0 },
			"too many runs":              func(p *Pipeline) { p.Runs = make([]RunRecord, MaxRuns+1) },
			"a coverage that is no JSON": func(p *Pipeline) { p.Runs = []RunRecord{{Coverage: json.RawMessage("{")}} },
		} {
			p := New("nightly")
			spoil(p)
			if err := s.Save(t.Context(), p); err == nil {
				t.Errorf("%s was saved", name)
			}
		}
		if docs := w.documents(t); len(docs) > 0 {
			t.Errorf("something was written: %v", docs)
		}
	})
}

func TestUpdateLeavesStateAloneWhenTheChangeFails(t *testing.T) {
	everywhere(t, func(w *world) {
		t := w.t
		s := w.open(t)
		no := errors.New("no")
		if _, err := s.Update(t.Context(), "nightly", func(*Pipeline) error { return no }); !errors.Is(err, no) {
			t.Errorf("got %v", err)
		}
		if p := load(t, s, "nightly"); p.Serial != 0 {
			t.Errorf("serial %d", p.Serial)
		}
	})
}

// count adds n to the pipeline's next package, one by one.
func count(ctx context.Context, s *Store, n int) error {
	for range n {
		_, err := s.Update(ctx, "nightly", func(p *Pipeline) error {
			return p.Enqueue(PackageRef{Serial: p.NextPackage}, "lake")
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func TestConcurrentUpdatesOfSeveralStoresLoseNothing(t *testing.T) {
	everywhere(t, func(w *world) {
		t := w.t
		const stores, workers, each = 2, 3, 8
		var wg sync.WaitGroup
		errs := make(chan error, stores*workers)
		for i := range stores {
			s := w.open(t)
			if i > 0 {
				s = w.elsewhere(t)
			}
			for range workers {
				wg.Go(func() { errs <- count(t.Context(), s, each) })
			}
		}
		wg.Wait()
		close(errs)
		for err := range errs {
			if err != nil {
				t.Error(err)
			}
		}
		const want = stores * workers * each
		p := load(t, w.open(t), "nightly")
		if p.Serial != want || p.NextPackage != want+1 || len(p.Destination("lake").Queue) != want {
			t.Errorf("serial %d, next package %d, queue %d; want %d updates", p.Serial, p.NextPackage, len(p.Destination("lake").Queue), want)
		}
	})
}

func TestAWaitForAnotherSaveEndsWithTheContext(t *testing.T) {
	everywhere(t, func(w *world) {
		t := w.t
		s := w.open(t)
		_, err := s.Update(t.Context(), "nightly", func(*Pipeline) error {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			for _, other := range []*Store{s, w.open(t)} {
				if err := other.Save(ctx, New("nightly")); !errors.Is(err, context.Canceled) {
					return fmt.Errorf("got %w", err)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestPipelinesListsEveryNameThatCanBeSaved(t *testing.T) {
	everywhere(t, func(w *world) {
		t := w.t
		s := w.open(t)
		names := []string{"con", "nightly", "nightly[\"acme\"]", "Ñandú/../x", "UPPER", "upper", "%41"}
		for _, n := range names {
			save(t, s, load(t, s, n))
		}
		for _, stray := range []string{".tmp-0123456789abcdef-pipeline.nightly.json", "resources.json", "pipeline.%zz.json", "pipeline.X.json", "pipeline..json"} {
			w.put(t, stray, []byte("{"))
		}
		got, err := s.Pipelines(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if want := []string{"%41", "UPPER", "con", "nightly", "nightly[\"acme\"]", "upper", "Ñandú/../x"}; !reflect.DeepEqual(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		for _, n := range got {
			if p := load(t, s, n); p.Pipeline != n || p.Serial != 1 {
				t.Errorf("%q loads as %+v", n, p)
			}
			if dir := strings.TrimSuffix(s.Path(n), escape(n)+".json"); dir != strings.TrimSuffix(s.Path("a"), "a.json") {
				t.Errorf("%q is kept in %s", n, dir)
			}
		}
	})
}

func TestSaveRemovesWhatAKilledSaveLeftAndNothingElse(t *testing.T) {
	s := open(t, t.TempDir())
	p := load(t, s, "nightly")
	save(t, s, p)
	mine := filepath.Join(s.Dir(), "state", ".tmp-0123456789abcdef-pipeline.nightly.json")
	other := filepath.Join(s.Dir(), "state", ".tmp-0123456789abcdef-pipeline.weekly.json")
	for _, f := range []string{mine, other} {
		if err := os.WriteFile(f, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	save(t, s, p)
	if _, err := os.Stat(mine); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the leftover is still there")
	}
	if _, err := os.Stat(other); err != nil {
		t.Error("another pipeline's file, perhaps being written, was removed")
	}
}

func TestOpenRefusesAFileInTheDirectorysPlace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "below")} {
		_, err := Open(dir, noon)
		var access *AccessError
		if !errors.As(err, &access) || !strings.Contains(err.Error(), dir) || hint(t, err) == "" {
			t.Errorf("%s: got %v", dir, err)
		}
	}
}

func TestAReadOnlyDirectoryGivesAClearError(t *testing.T) {
	if os.Geteuid() == 0 || runtime.GOOS == "windows" {
		t.Skip("permission bits do not bind this user; the fault sweep covers it")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	s := open(t, filepath.Join(dir, "s"))
	_, err := s.LockRun(t.Context(), "nightly", "sync")
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(hint(t, err), "writable") {
		t.Errorf("got %v", err)
	}
}

func TestRecordRunKeepsTheLastAndReplacesTheSame(t *testing.T) {
	p := New("nightly")
	for i := range MaxRuns + 5 {
		p.RecordRun(RunRecord{RunID: fmt.Sprint(i), Status: "failed"})
	}
	p.RecordRun(RunRecord{RunID: fmt.Sprint(MaxRuns), Status: "done"})
	if len(p.Runs) != MaxRuns || p.Runs[0].RunID != "5" || p.Runs[MaxRuns-5].Status != "done" || p.Runs[MaxRuns-1].RunID != fmt.Sprint(MaxRuns+4) {
		t.Errorf("%d runs, first %s, last %s", len(p.Runs), p.Runs[0].RunID, p.Runs[len(p.Runs)-1].RunID)
	}
}

func TestAPackageIsWantedUntilEveryDestinationHasIt(t *testing.T) {
	p := New("nightly")
	if err := p.Enqueue(PackageRef{Serial: 2}, "lake"); err == nil {
		t.Error("a package out of order was queued")
	}
	for serial := int64(1); serial <= 2; serial++ {
		if err := p.Enqueue(PackageRef{Serial: serial}, "lake", "warehouse"); err != nil {
			t.Fatal(err)
		}
	}
	p.Failed("warehouse", time.Time(noon), errors.New("full"))
	p.Failed("warehouse", time.Time(noon).Add(time.Hour), errors.New("still full"))
	if w := p.Destination("warehouse"); w.Error != "still full" || !w.FailingSince.Equal(time.Time(noon)) {
		t.Errorf("failing since %v with %q", w.FailingSince, w.Error)
	}
	p.Committed("lake", 1)
	if !p.Wanted(1) {
		t.Error("package 1 was given up while warehouse lacks it")
	}
	p.Committed("warehouse", 1)
	if w := p.Destination("warehouse"); p.Wanted(1) || !p.Wanted(2) || w.Error != "" || w.FailingSince != nil || w.Position != 1 {
		t.Errorf("after both have it: %+v", w)
	}
}
