package schedule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// play runs entries for so long from midnight, 1 January 2000 in UTC, with no
// luck of the draw unless the scheduler has some, and returns what was told:
// type, name, trigger and attempt, and the seconds since the start.
func play(t *testing.T, s *Scheduler, d time.Duration, entries ...Entry) []string {
	t.Helper()
	start := time.Now()
	var told []string
	s.Observe = func(e Event) {
		line := fmt.Sprintf("%v %s %s", time.Since(start).Seconds(), e.Name, e.Type)
		switch e.Type {
		case Next, Finished:
			return
		case Started:
			line += fmt.Sprintf(" %s %d", e.Trigger, e.Attempt)
		case Missed:
			line += fmt.Sprintf(" %v %d", e.At.Sub(start).Seconds(), e.Times)
		case Skipped:
			line += fmt.Sprintf(" %d", e.Times)
		case Retrying:
			line += fmt.Sprintf(" %v %v", e.At.Sub(start).Seconds(), e.Until.Sub(start).Seconds())
		default:
		}
		told = append(told, line)
	}
	if s.Chance == nil {
		s.Chance = func() float64 { return 0 }
	}
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := s.Run(ctx, entries); err != nil && !errors.Is(err, ErrCutShort) {
		t.Error(err)
	}
	return told
}

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func takes(d time.Duration) func(context.Context, Trigger) error {
	return func(ctx context.Context, _ Trigger) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func fails(context.Context, Trigger) error { return errors.New("down") }

func TestWhatWasMissedIsMadeUpForOnce(t *testing.T) {
	t.Parallel()
	ago := func(h int) time.Time { return time.Now().Add(-time.Duration(h) * time.Hour) }
	for name, c := range map[string]struct {
		change func(*Entry)
		want   []string
	}{
		"three nights missed": {func(e *Entry) { e.LastStart = ago(69) }, []string{"0 a missed -165600 2", "0 a started catch-up 1"}},
		"one night missed":    {func(e *Entry) { e.LastStart = ago(23) }, []string{"0 a missed -79200 1", "0 a started catch-up 1"}},
		"nothing missed":      {func(e *Entry) { e.LastStart = ago(22) }, nil},
		"begun a moment late": {func(e *Entry) { e.LastStart = ago(22).Add(time.Second) }, nil},
		"it has never run":    {func(*Entry) {}, nil},
		"it is not to":        {func(e *Entry) { e.LastStart = ago(69); e.CatchUp = false }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s, _ := scheduler(0)
				e := Entry{Name: "a", Spec: "0 2 * * *", CatchUp: true, Run: takes(time.Second)}
				c.change(&e)
				expect(t, play(t, s, time.Hour, e), c.want...)
			})
		})
	}
}

func TestADaemonThatIsKilledInALoopMakesUpOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		last, runs := time.Now().Add(-30*time.Hour), 0
		for range 5 {
			s, _ := scheduler(0)
			play(t, s, time.Minute, Entry{Name: "a", Spec: "0 2 * * *", CatchUp: true, LastStart: last, Run: func(context.Context, Trigger) error {
				runs++
				last = time.Now()
				return errors.New("killed")
			}})
		}
		if runs != 1 {
			t.Errorf("%d runs", runs)
		}
	})
}

func TestAJobThatAnotherProcessIsAtIsSkippedAndTriedAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		again Repetition
		want  []string
	}{
		"once":  {Repetition{}, []string{"7200 a started schedule 1", "7200 a skipped 1", "7200 a given_up"}},
		"again": {Repetition{For: time.Hour, Backoff: time.Minute}, []string{"7200 a started schedule 1", "7200 a skipped 1", "7200 a retrying 7260 10800", "7260 a started retry 2"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s, log := scheduler(0)
				held := errors.New("held")
				s.Elsewhere = func(err error) bool { return errors.Is(err, held) }
				runs := 0
				e := Entry{Name: "a", Spec: "0 2 * * *", Again: c.again, Run: func(context.Context, Trigger) error {
					if runs++; runs == 1 {
						return held
					}
					return nil
				}}
				expect(t, play(t, s, 4*time.Hour, e), c.want...)
				if text := log.String(); strings.Contains(text, "ERROR") || !strings.Contains(text, `level=WARN msg="skipped: another process is at it" pipeline=a error=held`) {
					t.Errorf("the log says:\n%s", text)
				}
			})
		})
	}
}

func TestCatchingUpIsSpreadByJitterAndBoundedLikeAllRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := scheduler(0)
		s.Parallel = 1
		s.Chance = func() float64 { return 0.5 }
		missed := func(name string) Entry {
			return Entry{Name: name, Spec: "0 2 * * *", CatchUp: true, Jitter: 10 * time.Minute, LastStart: time.Now().Add(-30 * time.Hour), Run: takes(30 * time.Minute)}
		}
		got := play(t, s, 100*time.Minute, missed("a"), missed("b"))
		var begun []string
		for _, line := range got {
			if !strings.Contains(line, "missed") {
				begun = append(begun, strings.NewReplacer(" b ", " x ", " a ", " x ").Replace(line)) // either may be first
			}
		}
		slices.Sort(begun)
		expect(t, begun, "2100 x started catch-up 1", "300 x started catch-up 1", "300 x waiting")
	})
}

func TestATimeThatPassedWhileTheMachineSleptIsRunOnce(t *testing.T) {
	t.Parallel()
	for _, catchUp := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s, _ := scheduler(0)
			c := &jumping{}
			s.Clock = c
			go func() {
				time.Sleep(90*time.Minute + 30*time.Second) // between two looks at the clock
				c.by.Store(int64(72 * time.Hour))
			}()
			got := play(t, s, 3*time.Hour, Entry{Name: "a", Spec: "0 2 * * *", CatchUp: catchUp, Run: takes(time.Second)})
			if catchUp {
				expect(t, got, "5460 a missed 7200 3", "5460 a started catch-up 1", "7200 a started schedule 1")
			} else {
				expect(t, got, "5460 a skipped 3", "7200 a started schedule 1")
			}
		})
	}
}

// jumping is a clock that is put forward.
type jumping struct{ by atomic.Int64 }

func (c *jumping) Now() time.Time { return time.Now().UTC().Add(time.Duration(c.by.Load())) }

func TestAClockThatWasYearsAheadHoldsUpNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := scheduler(0)
		c := &jumping{}
		c.by.Store(int64(10 * 366 * 24 * time.Hour))
		s.Clock = c
		go func() {
			time.Sleep(time.Hour)
			c.by.Store(0)
		}()
		expect(t, play(t, s, 3*time.Hour, Entry{Name: "a", Spec: "0 2 * * *", Run: takes(time.Second)}), "7200 a started schedule 1")
	})
}

func TestJitterIsDrawnAnewAndStaysInTheFirstHalfOfTheInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := scheduler(0)
		draws := []float64{0, 0.5, 0.999999}
		n := 0
		s.Chance = func() float64 { n++; return draws[(n-1)%3] }
		got := play(t, s, 39*time.Minute, Entry{Name: "a", Spec: "*/10 * * * *", Jitter: time.Hour, Run: takes(0)})
		expect(t, got, "600 a started schedule 1", "1350 a started schedule 1", "2099.999 a started schedule 1")
	})
}

func TestAQueuedTimeRunsRightAfterAndOneAtMostWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := scheduler(time.Hour)
		runs := 0
		got := play(t, s, 84*time.Second, Entry{Name: "a", Spec: "@every 10s", Overlap: Queue, Run: func(ctx context.Context, _ Trigger) error {
			if runs++; runs == 1 {
				return takes(35*time.Second)(ctx, Timed)
			}
			return takes(20*time.Second)(ctx, Timed)
		}})
		expect(t, got,
			"10 a started schedule 1", "20 a queued", "45 a skipped 2", "45 a started schedule 1",
			"50 a queued", "65 a skipped 1", "65 a started schedule 1", "70 a queued")
	})
}

func TestAFailedRunIsRepeatedUntilItsTimeIsOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := scheduler(0)
		got := play(t, s, 4*time.Hour, Entry{Name: "a", Spec: "0 2 * * *", Again: Repetition{For: 10 * time.Minute, Backoff: time.Minute, MaxBackoff: 3 * time.Minute}, Run: fails})
		expect(t, got,
			"7200 a started schedule 1", "7200 a failed", "7200 a retrying 7260 7800",
			"7260 a started retry 2", "7260 a failed", "7260 a retrying 7380 7800",
			"7380 a started retry 3", "7380 a failed", "7380 a retrying 7560 7800",
			"7560 a started retry 4", "7560 a failed", "7560 a retrying 7740 7800",
			"7740 a started retry 5", "7740 a failed", "7740 a given_up")
	})
}

func TestNoRepetitionIsBeyondTheNextTimeWhichBeginsAnew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := scheduler(0)
		runs := 0
		got := play(t, s, 21*time.Minute, Entry{Name: "a", Spec: "*/10 * * * *", Again: Repetition{For: time.Hour, Backoff: 6 * time.Minute, MaxBackoff: time.Hour}, Run: func(context.Context, Trigger) error {
			if runs++; runs < 3 {
				return errors.New("down")
			}
			return nil
		}})
		expect(t, got,
			"600 a started schedule 1", "600 a failed", "600 a retrying 960 1200",
			"960 a started retry 2", "960 a failed", "960 a given_up",
			"1200 a started schedule 1")
	})
}

func TestWhatNoRepetitionMendsIsNotRepeated(t *testing.T) {
	t.Parallel()
	for name, run := range map[string]func(context.Context, Trigger) error{
		"a permanent error": func(context.Context, Trigger) error { return errors.New("permanent") },
		"a panic":           func(context.Context, Trigger) error { panic("nil map") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s, log := scheduler(0)
				s.Permanent = func(err error) bool { return err.Error() == "permanent" }
				got := play(t, s, 25*time.Second, Entry{Name: "a", Spec: "@every 10s", Again: Repetition{For: time.Hour, Backoff: time.Second, MaxBackoff: time.Second}, Run: run})
				expect(t, got, "10 a started schedule 1", "10 a failed", "10 a given_up", "20 a started schedule 1", "20 a failed", "20 a given_up")
				if name == "a panic" && (!strings.Contains(log.String(), `panic="nil map"`) || !strings.Contains(log.String(), "keeper_test.go")) {
					t.Errorf("the log has no stack:\n%s", log)
				}
			})
		})
	}
}

func TestWhatAStopInterruptsIsNotRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := scheduler(5 * time.Second)
		got := play(t, s, 15*time.Second, Entry{Name: "a", Spec: "@every 10s", Again: Repetition{For: time.Hour, Backoff: time.Second, MaxBackoff: time.Second}, Run: takes(time.Hour)})
		expect(t, got, "10 a started schedule 1", "20 a failed")
	})
}

func TestNoMoreThanTheLimitRunAtOnceAndTheFirstComeBeginFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := scheduler(time.Hour)
		s.Parallel = 2
		var running, most atomic.Int32
		var entries []Entry
		for i := range 6 {
			name := string(rune('a' + i))
			entries = append(entries, Entry{Name: name, Spec: fmt.Sprintf("%d 0 * * *", i+1), Run: func(ctx context.Context, why Trigger) error {
				most.Store(max(most.Load(), running.Add(1)))
				defer running.Add(-1)
				return takes(25*time.Minute)(ctx, why)
			}})
		}
		got := play(t, s, 65*time.Minute, entries...)
		if n := most.Load(); n != 2 {
			t.Errorf("%d at once", n)
		}
		order := ""
		for _, line := range got {
			if at, ok := strings.CutSuffix(line, " started schedule 1"); ok {
				order += at[len(at)-1:]
			}
		}
		if order != "abcdef" {
			t.Errorf("they began in the order %s", order)
		}
		expect(t, slices.DeleteFunc(got, func(l string) bool { return !strings.Contains(l, "waiting") }), "180 c waiting", "240 d waiting", "300 e waiting", "360 f waiting")
	})
}

func TestWhatWaitsWhenToldToStopNeverBegins(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := scheduler(time.Hour)
		s.Parallel = 1
		got := play(t, s, 3*time.Minute, Entry{Name: "a", Spec: "1 0 * * *", Run: takes(10 * time.Minute)}, Entry{Name: "b", Spec: "2 0 * * *", Run: takes(time.Second)})
		expect(t, got, "60 a started schedule 1", "120 b waiting")
	})
}

func TestWhoAsksGetsARunAndIsToldWhyNot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := scheduler(0)
		if err := s.Trigger("a", ""); !errors.Is(err, ErrStopping) {
			t.Errorf("before it has begun: %v", err)
		}
		go func() {
			time.Sleep(time.Second)
			once := Once{Name: "a", Kind: "backfill", Run: func(ctx context.Context) error { return takes(5*time.Second)(ctx, Manual) }}
			for i, c := range []struct{ got, want error }{
				{s.Trigger("a", ""), nil},
				{s.Trigger("a", ""), ErrBusy},
				{s.Trigger("a", "backfill"), ErrUnknown},
				{s.Submit(once), nil},
				{s.Submit(once), ErrBusy},
				{s.Submit(Once{Name: "a"}), ErrBusy},
			} {
				if !errors.Is(c.got, c.want) {
					t.Errorf("%d: got %v, want %v", i, c.got, c.want)
				}
			}
			time.Sleep(4 * time.Second)
			if err := s.Trigger("a", ""); err != nil {
				t.Errorf("once it has ended: %v", err)
			}
		}()
		got := play(t, s, 10*time.Second, Entry{Name: "a", Run: fails, Again: Repetition{For: time.Hour, Backoff: time.Second, MaxBackoff: time.Second}})
		slices.Sort(got)
		expect(t, got, "1 a failed", "1 a given_up", "1 a started manual 1", "1 a started manual 1", "5 a failed", "5 a given_up", "5 a started manual 1")
		for _, err := range []error{s.Trigger("a", ""), s.Submit(Once{Name: "a", Kind: "backfill"})} {
			if !errors.Is(err, ErrStopping) {
				t.Errorf("after the stop: %v", err)
			}
		}
	})
}

func TestTheLineOfARunsEndHasWhatTheJobNotes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, log := scheduler(0)
		play(t, s, 6*time.Second, Entry{Name: "a", Spec: "@every 5s", Run: func(ctx context.Context, _ Trigger) error {
			Note(ctx, slogID("r1"))
			return nil
		}})
		if want := `msg="run finished" pipeline=a took=0s run_id=r1`; !strings.Contains(log.String(), want) {
			t.Errorf("got\n%s", log)
		}
	})
}

func slogID(id string) slog.Attr { return slog.String("run_id", id) }
