package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-etl/sluice/internal/atomicfile/faultfs"
)

const runDir = "nightly.20260901T030000Z-1"

// stage writes a run's directory.
func stage(t *testing.T, s *Store, files map[string]string) {
	t.Helper()
	if err := os.MkdirAll(s.RunDir(runDir), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(s.RunDir(runDir), name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// staged reads a run's directory.
func staged(t *testing.T, s *Store) map[string]string {
	t.Helper()
	found := map[string]string{}
	entries, err := os.ReadDir(s.RunDir(runDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(s.RunDir(runDir), e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		found[e.Name()] = string(data)
	}
	return found
}

func aRun() map[string]string {
	return map[string]string{"journal": "start\npart\n", "part-0001.parquet": "rows", "part-0002.parquet": strings.Repeat("more rows ", 10_000)}
}

// queue seals the staged run: keeps it, and names it in state.
func queue(t *testing.T, s *Store, c *Claim) (kept string) {
	t.Helper()
	_, err := s.Update(t.Context(), "nightly", func(p *Pipeline) (err error) {
		if err = c.Check(p); err != nil {
			return err
		}
		if kept, err = c.Keep(t.Context(), runDir); err != nil {
			return err
		}
		return p.Enqueue(PackageRef{Serial: p.NextPackage, RunID: "20260901T030000Z-1", Kept: kept}, "lake")
	})
	if err != nil {
		t.Fatal(err)
	}
	return kept
}

func same(a, b map[string]string) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

func TestASealedRunComesBackWhereTheDiskIsThrownAway(t *testing.T) {
	everywhere(t, func(w *world) {
		t := w.t
		if !w.shared {
			t.Skip("the run's directory is where the state is")
		}
		s := w.open(t)
		c := claim(t, s, "sync")
		stage(t, s, aRun())
		kept := queue(t, s, c)
		release(t, c)
		if err := os.RemoveAll(s.Dir()); err != nil {
			t.Fatal(err)
		}
		for _, next := range []*Store{w.open(t), w.elsewhere(t)} {
			release(t, claim(t, next, "sync"))
			for name, spoil := range map[string]func() error{
				"missing":       func() error { return nil },
				"there":         func() error { return nil },
				"a part gone":   func() error { return os.Remove(filepath.Join(next.RunDir(runDir), "part-0001.parquet")) },
				"a part cut":    func() error { return os.Truncate(filepath.Join(next.RunDir(runDir), "part-0002.parquet"), 3) },
				"without order": func() error { return os.RemoveAll(next.RunDir(runDir)) },
			} {
				if _, err := os.Stat(next.RunDir(runDir)); err != nil && strings.HasPrefix(name, "a part") {
					continue
				}
				if err := spoil(); err != nil {
					t.Fatal(err)
				}
				if err := next.FetchRun(t.Context(), runDir, kept); err != nil {
					t.Fatal(err)
				}
				if got := staged(t, next); !same(got, aRun()) {
					t.Fatalf("%s: fetched %v", name, got)
				}
			}
			if left, err := os.ReadDir(filepath.Join(next.Dir(), fetchDir)); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		}
	})
}

func TestKeepingARunAgainSendsOnlyWhatHasGrown(t *testing.T) {
	m := newMemory()
	s := openShared(t, m, t.TempDir())
	c := claim(t, s, "sync")
	defer release(t, c)
	stage(t, s, aRun())
	if _, err := c.Keep(t.Context(), runDir); err != nil {
		t.Fatal(err)
	}
	for grown, want := range map[string]int{"journal": 2, "": 0} {
		if grown != "" {
			stage(t, s, map[string]string{grown: aRun()[grown] + "sealed\n"})
		}
		m.trace = nil
		kept, err := c.Keep(t.Context(), runDir)
		if err != nil {
			t.Fatal(err)
		}
		if len(m.trace) > 2 || grown != "" && len(m.trace) != want {
			t.Errorf("%q: %v", grown, m.trace)
		}
		other := openShared(t, m, t.TempDir())
		if err := other.FetchRun(t.Context(), runDir, kept); err != nil || !same(staged(t, other), staged(t, s)) {
			t.Errorf("fetched %v, %v", staged(t, other), err)
		}
	}
}

func TestWithoutABucketARunStaysWhereItIs(t *testing.T) {
	s := open(t, t.TempDir())
	c := claim(t, s, "sync")
	stage(t, s, aRun())
	if kept, err := c.Keep(t.Context(), runDir); kept != "" || err != nil {
		t.Errorf("%q, %v", kept, err)
	}
	if err := errors.Join(s.FetchRun(t.Context(), runDir, ""), s.DropRun(t.Context(), runDir), c.Sweep(t.Context())); err != nil {
		t.Error(err)
	}
	if !same(staged(t, s), aRun()) {
		t.Errorf("it is %v", staged(t, s))
	}
	release(t, c)
}

func TestAKeptRunThatWasDamagedIsReportedAndNotUsed(t *testing.T) {
	for name, spoil := range map[string]func(m *memory, base string) error{
		"the manifest is gone": func(m *memory, base string) error { return m.remove(t.Context(), base+manifestName, anyGeneration) },
		"the manifest is cut": func(m *memory, base string) error {
			_, err := m.put(t.Context(), base+manifestName, []byte(`{"format":1,`), m.held[base+manifestName].generation)
			return err
		},
		"a file is gone": func(m *memory, base string) error {
			return m.remove(t.Context(), base+"part-0001.parquet", anyGeneration)
		},
		"a file has changed": func(m *memory, base string) error {
			_, err := m.put(t.Context(), base+"part-0001.parquet", []byte("rowz"), m.held[base+"part-0001.parquet"].generation)
			return err
		},
		"a name leads elsewhere": func(m *memory, base string) error {
			_, err := m.put(t.Context(), base+manifestName, []byte(`{"format":1,"files":[{"name":"../../x"}]}`), m.held[base+manifestName].generation)
			return err
		},
	} {
		m := newMemory()
		s, other := openShared(t, m, t.TempDir()), openShared(t, m, t.TempDir())
		c := claim(t, s, "sync")
		stage(t, s, aRun())
		kept := queue(t, s, c)
		release(t, c)
		if err := spoil(m, keptPrefix(runDir, kept)); err != nil {
			t.Fatal(err)
		}
		err := other.FetchRun(t.Context(), runDir, kept)
		var lost *LostPackageError
		if !errors.As(err, &lost) || !strings.Contains(err.Error(), "gs://memory/sluice/runs/") || hint(t, err) == "" {
			t.Errorf("%s: got %v", name, err)
		}
		if got := staged(t, other); len(got) > 0 {
			t.Errorf("%s: fetched %v", name, got)
		}
	}
}

// A disk that fails at any operation of fetching leaves the run as it was here,
// or whole, and the next one brings it.
func TestARunIsFetchedWholeWhereverTheDiskFails(t *testing.T) {
	m := newMemory()
	s := openShared(t, m, t.TempDir())
	c := claim(t, s, "sync")
	stage(t, s, aRun())
	kept := queue(t, s, c)
	release(t, c)
	ops := 0
	for op := 1; ; op++ {
		dir := t.TempDir()
		disk := faultfs.New(nil, faultfs.Fault{Op: op, Err: faultfs.ErrKilled, Sticky: true})
		err := openShared(t, m, dir, WithFS(disk)).FetchRun(t.Context(), runDir, kept)
		if !disk.Failed() {
			break
		}
		ops++
		next := openShared(t, m, dir)
		if got := staged(t, next); len(got) > 0 && !same(got, aRun()) || err == nil {
			t.Errorf("operation %d: fetched %v, %v", op, got, err)
		}
		if err := next.FetchRun(t.Context(), runDir, kept); err != nil || !same(staged(t, next), aRun()) {
			t.Errorf("after a fault at operation %d: fetched %v, %v", op, staged(t, next), err)
		}
		if err := next.DropFetches("nightly"); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(filepath.Join(dir, fetchDir)); err != nil || len(left) > 0 {
			t.Errorf("after a fault at operation %d: left behind: %v, %v", op, left, err)
		}
	}
	if ops < 15 {
		t.Errorf("only %d operations go through the disk", ops)
	}
}

// TestAFaultAtAnyRequestOfASealIsMadeUpForByTheNextRun fails each request of a
// claim, a seal and the release in turn, before and after its effect, then
// seals with another process, and looks at what the bucket holds.
func TestAFaultAtAnyRequestOfASealIsMadeUpForByTheNextRun(t *testing.T) {
	try := func(t *testing.T, s *Store) error {
		t.Helper()
		c, err := s.Claim(t.Context(), "nightly", "sync")
		if err != nil {
			return err
		}
		if err = c.Sweep(t.Context()); err == nil {
			stage(t, s, aRun())
			_, err = s.UpdateOrRescue(t.Context(), "nightly", func(p *Pipeline) error {
				if slices.ContainsFunc(p.Destination("lake").Queue, func(r PackageRef) bool { return r.RunID == "20260901T030000Z-1" }) {
					return nil // this run was sealed, as the engine knows too
				}
				if err := c.Check(p); err != nil {
					return err
				}
				kept, err := c.Keep(t.Context(), runDir)
				if err != nil {
					return err
				}
				return p.Enqueue(PackageRef{Serial: p.NextPackage, RunID: "20260901T030000Z-1", Kept: kept}, "lake")
			})
		}
		return errors.Join(err, c.Release(t.Context()))
	}
	count := newMemory()
	if err := try(t, openShared(t, count, t.TempDir())); err != nil {
		t.Fatal(err)
	}
	requests := len(count.trace)
	if requests < 12 {
		t.Fatalf("a seal is %v: nothing is swept", count.trace)
	}
	for n := 1; n <= requests; n++ {
		for _, after := range []bool{false, true} {
			m := newMemory()
			s := openShared(t, m, t.TempDir(), WithRescueDir(t.TempDir()))
			m.failing(once(n, after, func(string, string) bool { return true }))
			first := try(t, s)
			m.failing(nil)
			if err := try(t, s); err != nil {
				t.Fatalf("request %d (%v): %v, then %v", n, after, first, err)
			}
			p := load(t, s, "nightly")
			if q := p.Destination("lake").Queue; len(q) != 1 || p.NextPackage != 2 {
				t.Fatalf("request %d (%v): %v: queue %v", n, after, first, q)
			}
			other := openShared(t, m, t.TempDir())
			if err := other.FetchRun(t.Context(), runDir, p.Destination("lake").Queue[0].Kept); err != nil || !same(staged(t, other), aRun()) {
				t.Fatalf("request %d (%v): fetched %v, %v", n, after, staged(t, other), err)
			}
			// A run later, nothing is left of what went wrong.
			m.passes(claimLapses)
			c := claim(t, other, "sync")
			if err := c.Sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
			release(t, c)
			if got := len(m.names("")); got != len(aRun())+2 { // the manifest and the document
				t.Fatalf("request %d (%v): %v", n, after, m.names(""))
			}
			if err := other.DropRun(t.Context(), runDir); err != nil || len(m.names(runsDir)) > 0 {
				t.Fatalf("dropped: %v, %v", m.names(runsDir), err)
			}
		}
	}
}

func TestASweepLeavesWhatARunBesideItIsAboutToSeal(t *testing.T) {
	m := newMemory()
	s, elsewhere := openShared(t, m, t.TempDir()), openShared(t, m, t.TempDir())
	sync := claim(t, s, "sync")
	stage(t, s, aRun())
	if _, err := sync.Keep(t.Context(), runDir); err != nil {
		t.Fatal(err)
	}
	backfill := claim(t, elsewhere, "backfill")
	if err := backfill.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	kept := queue(t, s, sync)
	release(t, sync)
	for range 2 { // sealed: kept though its claim is over
		if err := elsewhere.FetchRun(t.Context(), runDir, kept); err != nil {
			t.Fatal(err)
		}
		if err := backfill.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Update(t.Context(), "nightly", func(p *Pipeline) error { p.Committed("lake", 1); return nil }); err != nil {
		t.Fatal(err)
	}
	if err := backfill.Sweep(t.Context()); err != nil || len(m.names(runsDir)) > 0 {
		t.Errorf("left behind: %v, %v", m.names(runsDir), err)
	}
	release(t, backfill)
}

func TestASweepLeavesWhatIsSealedWhileItLooks(t *testing.T) {
	for at := 1; at <= 3; at++ { // two listings, and the document
		m := newMemory()
		s, elsewhere := openShared(t, m, t.TempDir()), openShared(t, m, t.TempDir())
		backfill := claim(t, elsewhere, "backfill")
		kept, n := "", 0
		m.failing(func(_, _ string, after bool) error {
			if n++; after || kept != "" || (n+1)/2 != at {
				return nil
			}
			kept = "sealing"
			c := claim(t, s, "sync")
			stage(t, s, aRun())
			kept = queue(t, s, c)
			release(t, c)
			return nil
		})
		if err := backfill.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.failing(nil)
		if kept == "" {
			t.Fatalf("nothing was sealed at request %d", at)
		}
		if err := elsewhere.FetchRun(t.Context(), runDir, kept); err != nil {
			t.Errorf("sealed before request %d: %v", at, err)
		}
		release(t, backfill)
	}
}

func TestASweepLeavesOtherPipelinesAlone(t *testing.T) {
	m := newMemory()
	s := openShared(t, m, t.TempDir())
	c := claim(t, s, "sync")
	stage(t, s, aRun())
	if _, err := c.Keep(t.Context(), runDir); err != nil {
		t.Fatal(err)
	}
	dies(t, c)
	m.passes(claimLapses)
	for _, other := range []string{"night", "nightl", "weekly"} {
		o, err := s.Claim(t.Context(), other, "sync")
		if err != nil {
			t.Fatal(err)
		}
		if err := o.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		release(t, o)
	}
	if got := m.names(runsDir); len(got) != len(aRun())+1 {
		t.Errorf("left: %v", got)
	}
	if got := m.names(claimsDir); len(got) != 1 {
		t.Errorf("signs of life: %v", got)
	}
}
