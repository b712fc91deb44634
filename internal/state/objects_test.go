package state

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
)

func ofState(op, name string) bool { return op == "put" && strings.HasPrefix(name, stateDir) }

// enqueue adds a package, which must not happen twice.
func enqueue(p *Pipeline) error { return p.Enqueue(PackageRef{Serial: p.NextPackage}, "lake") }

func TestASaveWhoseAnswerIsLostTookEffectOnce(t *testing.T) {
	for name, lost := range map[string]error{"no answer": errCut, "a retry met itself": errMoved} {
		for _, gone := range []int{0, 1, MaxSaves - 1} { // saves that others make before this one looks
			t.Run(fmt.Sprintf("%s, %d saves later", name, gone), func(t *testing.T) {
				m := newMemory()
				s, elsewhere := openShared(t, m, t.TempDir()), openShared(t, m, t.TempDir())
				save(t, s, load(t, s, "nightly"))
				m.failing(func(op, name string, after bool) error {
					if !after || !ofState(op, name) {
						return nil
					}
					m.failing(nil)
					for range gone {
						if _, err := elsewhere.Update(t.Context(), "nightly", enqueue); err != nil {
							t.Error(err)
						}
					}
					return lost
				})
				if _, err := s.UpdateOrRescue(t.Context(), "nightly", enqueue); err != nil {
					t.Fatal(err)
				}
				if p := load(t, s, "nightly"); p.NextPackage != int64(gone)+2 || p.Serial != int64(gone)+2 || len(p.Saves) > MaxSaves {
					t.Errorf("next package %d, serial %d, %d saves", p.NextPackage, p.Serial, len(p.Saves))
				}
			})
		}
	}
}

func TestAnUpdateStartsOverWhereAnotherMachineSavedInBetween(t *testing.T) {
	m := newMemory()
	s, elsewhere := openShared(t, m, t.TempDir()), openShared(t, m, t.TempDir())
	m.failing(func(op, name string, after bool) error {
		if after || !ofState(op, name) {
			return nil
		}
		m.failing(nil)
		_, err := elsewhere.Update(t.Context(), "nightly", enqueue)
		return err
	})
	calls := 0
	p, err := s.Update(t.Context(), "nightly", func(p *Pipeline) error { calls++; return enqueue(p) })
	if err != nil || calls != 2 || p.NextPackage != 3 || p.Serial != 2 {
		t.Errorf("%d calls, %+v, %v", calls, p, err)
	}
}

func TestAnUpdateThatNeverGetsItsTurnIsStaleAndNotRescued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, rescue := newMemory(), t.TempDir()
		s, elsewhere := openShared(t, m, t.TempDir(), WithRescueDir(rescue)), openShared(t, m, t.TempDir())
		busy := false
		m.failing(func(op, name string, after bool) error {
			if after || busy || !ofState(op, name) {
				return nil
			}
			busy = true
			defer func() { busy = false }()
			_, err := elsewhere.Update(t.Context(), "nightly", func(*Pipeline) error { return nil })
			return err
		})
		_, err := s.UpdateOrRescue(t.Context(), "nightly", precious)
		if !errors.Is(err, ErrStale) || hint(t, err) == "" {
			t.Errorf("got %v", err)
		}
		if entries, err := os.ReadDir(rescue); err != nil || len(entries) != 0 {
			t.Errorf("rescued %v, %v", entries, err)
		}
	})
}

func TestAStateThatNoBucketTakesIsRescuedForTheGenerationItWasMadeFrom(t *testing.T) {
	m := newMemory()
	s := openShared(t, m, t.TempDir(), WithRescueDir(t.TempDir()))
	save(t, s, load(t, s, "nightly"))
	generation := m.generation
	m.failing(func(op, name string, _ bool) error {
		if ofState(op, name) {
			return errCut
		}
		return nil
	})
	_, err := s.UpdateOrRescue(t.Context(), "nightly", precious)
	e := rescued(t, err)
	want := fmt.Sprintf("gcloud storage cp --if-generation-match=%d %s gs://memory/sluice/state/pipeline.nightly.json", generation, e.Rescue)
	if e.Command() != want || e.Path != s.Path("nightly") {
		t.Errorf("%s, want %s", e.Command(), want)
	}
	// What the command does, and that it comes too late after another save.
	data, err := os.ReadFile(e.Rescue)
	if err != nil {
		t.Fatal(err)
	}
	m.failing(nil)
	if _, err := m.put(t.Context(), "state/pipeline.nightly.json", data, e.Generation); err != nil {
		t.Fatal(err)
	}
	if p := load(t, s, "nightly"); p.Filters != "precious" || p.Serial != 2 {
		t.Errorf("recovered: %+v", p)
	}
	if _, err := m.put(t.Context(), "state/pipeline.nightly.json", data, e.Generation); !errors.Is(err, errMoved) {
		t.Errorf("recovered twice: %v", err)
	}
}

func TestABucketThatFailsGivesAClearError(t *testing.T) {
	m := newMemory()
	s := openShared(t, m, t.TempDir())
	m.failing(func(string, string, bool) error { return errCut })
	_, loadErr := s.Load(t.Context(), "nightly")
	_, listErr := s.Pipelines(t.Context())
	_, claimErr := s.Claim(t.Context(), "nightly", "sync")
	for _, err := range []error{loadErr, listErr, claimErr, s.Save(t.Context(), New("nightly")), s.DropRun(t.Context(), "nightly.1")} {
		var access *AccessError
		if !errors.As(err, &access) || !errors.Is(err, errCut) || !strings.Contains(err.Error(), "gs://memory/sluice/") || !strings.Contains(hint(t, err), "roles/storage.objectUser") {
			t.Errorf("got %v", err)
		}
	}
	m.failing(nil)
	release(t, claim(t, s, "sync")) // the lock of the one that failed went with it
}
