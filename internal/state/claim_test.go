package state

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func claim(t *testing.T, s *Store, kind string) *Claim {
	t.Helper()
	c, err := s.Claim(t.Context(), "nightly", kind)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func release(t *testing.T, c *Claim) {
	t.Helper()
	if err := c.Release(t.Context()); err != nil {
		t.Error(err)
	}
}

// dies ends a process without a word: its lock goes with it, as the kernel
// sees to, and its signs of life end.
func dies(t *testing.T, c *Claim) {
	t.Helper()
	c.stop()
	c.beating.Wait()
	if err := c.unlock(); err != nil {
		t.Fatal(err)
	}
}

func TestARunOfAnotherMachineIsKeptOutAndToldByWhomAndUntilWhen(t *testing.T) {
	everywhere(t, func(w *world) {
		t := w.t
		mine := claim(t, w.open(t), "sync")
		_, err := w.elsewhere(t).Claim(t.Context(), "nightly", "sync")
		var held *HeldError
		if !errors.As(err, &held) || held.Holder.PID != os.Getpid() || held.Holder.Command != "sluice run" {
			t.Fatalf("got %v", err)
		}
		if w.shared {
			if held.Seen.IsZero() || !held.Lapses.Equal(held.Seen.Add(claimLapses)) ||
				!strings.Contains(err.Error(), "last seen") || !strings.Contains(hint(t, err), held.Lapses.UTC().Format(time.RFC3339)) {
				t.Errorf("%v; %s", err, hint(t, err))
			}
		}
		// Another kind of run goes on beside it, and this one again after it.
		release(t, claim(t, w.elsewhere(t), "backfill"))
		release(t, mine)
		release(t, claim(t, w.elsewhere(t), "sync"))
		for name, doc := range w.documents(t) {
			if strings.Contains(doc, "claims") {
				t.Errorf("%s still has a claim: %s", name, doc)
			}
		}
	})
}

func TestAKilledRunIsFollowedAtOnceOnItsOwnMachine(t *testing.T) {
	m, dir := newMemory(), t.TempDir()
	dead := claim(t, openShared(t, m, dir), "sync")
	dies(t, dead)
	next := claim(t, openShared(t, m, dir), "sync")
	p := load(t, openShared(t, m, dir), "nightly")
	if err := dead.Check(p); !errors.Is(err, ErrStale) {
		t.Errorf("the dead one may still seal: %v", err)
	}
	if err := next.Check(p); err != nil {
		t.Error(err)
	}
	release(t, next)
	if left := m.names(claimsDir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestAKilledRunIsFollowedElsewhereOnceItsSignsOfLifeAreOld(t *testing.T) {
	m := newMemory()
	dies(t, claim(t, openShared(t, m, t.TempDir()), "sync"))
	elsewhere := openShared(t, m, t.TempDir())
	for _, wait := range []time.Duration{0, claimLapses - 10*time.Second} {
		m.passes(wait)
		if _, err := elsewhere.Claim(t.Context(), "nightly", "sync"); !errors.Is(err, ErrHeld) {
			t.Fatalf("after %s: got %v", wait, err)
		}
	}
	m.passes(10 * time.Second)
	release(t, claim(t, elsewhere, "sync"))
	if left := m.names(claimsDir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestSignsOfLifeKeepAClaimForAsLongAsARunTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		elsewhere := openShared(t, m, t.TempDir())
		ctx, cancel := context.WithCancel(t.Context())
		c, err := openShared(t, m, t.TempDir()).Claim(ctx, "nightly", "sync")
		if err != nil {
			t.Fatal(err)
		}
		cancel() // a Ctrl-C: what is there is still being sealed
		for range 20 {
			time.Sleep(claimLapses - time.Minute) // of the bubble
			if _, err := elsewhere.Claim(t.Context(), "nightly", "sync"); !errors.Is(err, ErrHeld) {
				t.Fatalf("got %v", err)
			}
		}
		release(t, c)
		release(t, claim(t, elsewhere, "sync"))
	})
}

func TestASignOfLifeWhoseAnswerIsLostDoesNotEndTheClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		c := claim(t, openShared(t, m, t.TempDir()), "sync")
		m.failing(once(2, true, func(op, name string) bool { return op == "put" && strings.HasPrefix(name, claimsDir) }))
		time.Sleep(6 * beatEvery)
		if _, err := openShared(t, m, t.TempDir()).Claim(t.Context(), "nightly", "sync"); !errors.Is(err, ErrHeld) {
			t.Errorf("got %v", err)
		}
		release(t, c)
	})
}

func TestARunThatSleptStopsItsSignsOfLifeAndCannotSeal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		sleeper := openShared(t, m, t.TempDir())
		slept := claim(t, sleeper, "sync")
		m.passes(claimLapses) // and no sign of life, as for a suspended process
		elsewhere := openShared(t, m, t.TempDir())
		other := claim(t, elsewhere, "sync")
		m.passes(-claimLapses)
		time.Sleep(2*beatEvery + beatEvery/2) // it wakes up
		if beats := m.names(claimsDir); len(beats) != 1 || !strings.HasSuffix(beats[0], other.self.ID) {
			t.Errorf("signs of life: %v", beats)
		}
		tries := len(m.trace)
		other.stop()
		other.beating.Wait()
		time.Sleep(5 * beatEvery)
		if len(m.trace) > tries {
			t.Errorf("it goes on to try: %v", m.trace[tries:])
		}
		for range 2 {
			_, err := sleeper.UpdateOrRescue(t.Context(), "nightly", func(p *Pipeline) error {
				if err := slept.Check(p); err != nil {
					return err
				}
				return precious(p)
			})
			var over *TakenOverError
			if !errors.As(err, &over) || !errors.Is(err, ErrStale) || hint(t, err) == "" {
				t.Fatalf("got %v", err)
			}
			if p := load(t, sleeper, "nightly"); p.Filters != "" {
				t.Fatal("it was sealed")
			}
			// Also where the one that took over has ended long since.
			if other != nil {
				release(t, other)
				other = nil
			}
		}
		release(t, slept)
	})
}

func TestTheClaimOfADeadRunOfAnotherKindEnds(t *testing.T) {
	m := newMemory()
	dead := claim(t, openShared(t, m, t.TempDir()), "backfill")
	dies(t, dead)
	m.passes(claimLapses)
	s := openShared(t, m, t.TempDir())
	release(t, claim(t, s, "sync"))
	if p := load(t, s, "nightly"); dead.Check(p) == nil || len(p.Claims) > 0 {
		t.Errorf("claims: %v", p.Claims)
	}
}

func TestARunThatWasTakenOverLeavesTheOthersClaimAlone(t *testing.T) {
	m := newMemory()
	slept := claim(t, openShared(t, m, t.TempDir()), "sync")
	m.passes(claimLapses)
	s := openShared(t, m, t.TempDir())
	other := claim(t, s, "sync")
	release(t, slept)
	if err := other.Check(load(t, s, "nightly")); err != nil {
		t.Errorf("got %v", err)
	}
	release(t, other)
}

// TestOneClaimOfManyWins lets machines claim at once, and each that believes to
// hold the claim seal once; no two may.
func TestOneClaimOfManyWins(t *testing.T) {
	everywhere(t, func(w *world) {
		t := w.t
		const machines = 5
		var wg sync.WaitGroup
		var mu sync.Mutex
		won := 0
		for range machines {
			s := w.elsewhere(t)
			wg.Go(func() {
				c, err := s.Claim(t.Context(), "nightly", "sync")
				if errors.Is(err, ErrHeld) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				won++
				mu.Unlock()
				_, err = s.Update(t.Context(), "nightly", func(p *Pipeline) error {
					return errors.Join(c.Check(p), p.Enqueue(PackageRef{Serial: p.NextPackage}, "lake"))
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if p := load(t, w.open(t), "nightly"); won != 1 || p.NextPackage != 2 {
			t.Errorf("%d claims, next package %d", won, p.NextPackage)
		}
	})
}

// TestNoRaceOfSleepersLosesOrRepeatsAPackage is a simulation: machines claim,
// sleep for any time anywhere, lose answers, die, and seal. Each seal must
// stand in state once, under a claim that nobody had taken over, and cursors
// never move back.
func TestNoRaceOfSleepersLosesOrRepeatsAPackage(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		synctest.Test(t, func(t *testing.T) { sleepers(t, seed) })
	}
}

func sleepers(t *testing.T, seed uint64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 0))
	var mu sync.Mutex
	draw := func(n int) int { mu.Lock(); defer mu.Unlock(); return rng.IntN(n) }
	m := newMemory()
	m.failing(func(op, _ string, _ bool) error {
		switch draw(40) {
		case 0: // the process, or the network, stands still
			time.Sleep(time.Duration(draw(int(2 * claimLapses))))
		case 1:
			if op == "put" || op == "remove" {
				return errCut
			}
		default:
			time.Sleep(time.Duration(draw(100)) * time.Millisecond)
		}
		return nil
	})
	sealed := map[string]bool{} // run ids whose seal was acknowledged
	var wg sync.WaitGroup
	for machine := range 3 {
		dir, rescue := t.TempDir(), t.TempDir()
		wg.Go(func() {
			for i := range 6 {
				s := openShared(t, m, dir, WithRescueDir(rescue))
				c, err := s.Claim(t.Context(), "nightly", "sync")
				if err != nil {
					continue
				}
				runID := fmt.Sprintf("%d-%d", machine, i)
				began, err := s.Load(t.Context(), "nightly")
				if err == nil {
					time.Sleep(time.Duration(draw(int(claimLapses))))
					err = seal(t, s, c, runID, began)
				}
				if err == nil {
					mu.Lock()
					sealed[runID] = true
					mu.Unlock()
				}
				if draw(3) == 0 {
					dies(t, c)
				} else {
					_ = c.Release(t.Context())
				}
			}
		})
	}
	wg.Wait()
	m.failing(nil)
	p := load(t, openShared(t, m, t.TempDir()), "nightly")
	times := map[string]int{}
	for _, ref := range p.Destination("lake").Queue {
		times[ref.RunID]++
	}
	for runID, n := range times {
		if n > 1 {
			t.Errorf("seed %d: run %s was sealed %d times", seed, runID, n)
		}
	}
	for runID := range sealed {
		if times[runID] == 0 {
			t.Errorf("seed %d: the seal of run %s is lost", seed, runID)
		}
	}
}

// seal does what a sync does: it reads on from where state stood when it began.
func seal(t *testing.T, s *Store, c *Claim, runID string, began *Pipeline) error {
	t.Helper()
	_, err := s.UpdateOrRescue(t.Context(), "nightly", func(p *Pipeline) error {
		if err := c.Check(p); err != nil {
			return err
		}
		if len(p.Runs) != len(began.Runs) {
			t.Errorf("run %s began at %d and seals at %d", runID, len(began.Runs), len(p.Runs))
		}
		p.RecordRun(RunRecord{RunID: runID})
		return p.Enqueue(PackageRef{Serial: p.NextPackage, RunID: runID}, "lake")
	})
	return err
}
