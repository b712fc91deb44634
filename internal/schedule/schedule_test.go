package schedule

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/robfig/cron/v3"

	"github.com/sluice-etl/sluice/internal/clock"
)

// scheduler returns one that logs into the returned text, without times.
func scheduler(grace time.Duration) (*Scheduler, *strings.Builder) {
	var b strings.Builder
	h := slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	return &Scheduler{Clock: clock.System{}, Log: slog.New(h), Grace: grace}, &b
}

func TestAJobRunsEveryFiveSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, log := scheduler(0)
		ctx, cancel := context.WithTimeout(t.Context(), 17*time.Second)
		defer cancel()
		var at []int
		start := time.Now()
		err := s.Run(ctx, []Entry{{Name: "nightly", Spec: "@every 5s", Run: func(context.Context, Trigger) error {
			at = append(at, int(time.Since(start)/time.Second))
			return nil
		}}})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]int{5, 10, 15}, at); diff != "" {
			t.Errorf("seconds (-want +got):\n%s", diff)
		}
		if want := `level=INFO msg="next run" pipeline=nightly at=2000-01-01T00:00:05.000Z`; !strings.HasPrefix(log.String(), want) {
			t.Errorf("the log does not start with the next run:\n%s", log)
		}
	})
}

func TestTimesAreReadInTheEntrysTimeZone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		santiago, err := time.LoadLocation("America/Santiago")
		if err != nil {
			t.Fatal(err)
		}
		s, log := scheduler(0)
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour) // from midnight UTC, summer in Chile
		defer cancel()
		got := map[string]string{}
		run := func(name string) func(context.Context, Trigger) error {
			return func(context.Context, Trigger) error {
				got[name] = time.Now().UTC().Format(time.TimeOnly)
				return nil
			}
		}
		// One entry after the other in a day: the map needs no lock.
		err = s.Run(ctx, []Entry{
			{Name: "chile", Spec: "0 3 * * *", Location: santiago, Run: run("chile")},
			{Name: "utc", Spec: "0 4 * * *", Run: run("utc")},
		})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]string{"chile": "06:00:00", "utc": "04:00:00"}, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if want := "pipeline=chile at=2000-01-01T03:00:00.000-03:00"; !strings.Contains(log.String(), want) {
			t.Errorf("the log does not tell the time in the entry's zone:\n%s", log)
		}
	})
}

func TestTimesThatPassWhileAJobRunsAreSkipped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, log := scheduler(0)
		ctx, cancel := context.WithTimeout(t.Context(), 33*time.Second)
		defer cancel()
		var running, runs atomic.Int32
		err := s.Run(ctx, []Entry{{Name: "slow", Spec: "@every 5s", Run: func(context.Context, Trigger) error {
			if running.Add(1) > 1 {
				t.Error("two at once")
			}
			defer running.Add(-1)
			runs.Add(1)
			time.Sleep(12 * time.Second)
			return nil
		}}})
		if err != nil {
			t.Fatal(err)
		}
		if got := runs.Load(); got != 2 { // at 5 and at 20; 10 and 15 pass meanwhile
			t.Errorf("%d runs", got)
		}
		if want := `msg="skipped: the run before was still going" pipeline=slow times=2`; !strings.Contains(log.String(), want) {
			t.Errorf("the log does not tell of skipped times:\n%s", log)
		}
	})
}

func TestAFailingJobIsLoggedAndRunsAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, log := scheduler(0)
		ctx, cancel := context.WithTimeout(t.Context(), 11*time.Second)
		defer cancel()
		runs := 0
		err := s.Run(ctx, []Entry{{Name: "bad", Spec: "@every 5s", Run: func(context.Context, Trigger) error {
			runs++
			return errors.New("no such host")
		}}})
		if err != nil || runs != 2 {
			t.Errorf("%d runs, %v", runs, err)
		}
		if want := `level=ERROR msg="run failed" pipeline=bad error="no such host" took=0s`; !strings.Contains(log.String(), want) {
			t.Errorf("log:\n%s", log)
		}
	})
}

func TestStoppingWaitsForARunningJob(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, log := scheduler(time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
		defer cancel()
		done := false
		err := s.Run(ctx, []Entry{{Name: "job", Spec: "@every 5s", Run: func(ctx context.Context, _ Trigger) error {
			select {
			case <-time.After(30 * time.Second):
				done = true
			case <-ctx.Done():
			}
			return ctx.Err()
		}}})
		if err != nil || !done {
			t.Errorf("done %v, %v", done, err)
		}
		if n := strings.Count(log.String(), "next run"); n != 1 {
			t.Errorf("%d runs were announced, 1 could come:\n%s", n, log)
		}
	})
}

func TestAJobIsCancelledAtTheEndOfTheGracePeriod(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := scheduler(10 * time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
		defer cancel()
		start := time.Now()
		err := s.Run(ctx, []Entry{{Name: "job", Spec: "@every 5s", Run: func(ctx context.Context, _ Trigger) error {
			<-ctx.Done()
			return ctx.Err()
		}}})
		if !errors.Is(err, ErrCutShort) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took != 16*time.Second {
			t.Errorf("stopped after %s", took)
		}
	})
}

func TestEntriesOfOneTimeRunSideBySide(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := scheduler(0)
		ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
		defer cancel()
		var running, most atomic.Int32
		run := func(context.Context, Trigger) error {
			if n := running.Add(1); n > most.Load() {
				most.Store(n)
			}
			time.Sleep(2 * time.Second)
			running.Add(-1)
			return nil
		}
		if err := s.Run(ctx, []Entry{{Name: "a", Spec: "@every 5s", Run: run}, {Name: "b", Spec: "@every 5s", Run: run}}); err != nil {
			t.Fatal(err)
		}
		if got := most.Load(); got != 2 {
			t.Errorf("%d at once", got)
		}
	})
}

func TestAMalformedExpressionStopsEverythingBeforeItStarts(t *testing.T) {
	t.Parallel()
	s, _ := scheduler(0)
	ran := false
	run := func(context.Context, Trigger) error { ran = true; return nil }
	err := s.Run(t.Context(), []Entry{{Name: "good", Spec: "@every 1s", Run: run}, {Name: "bad", Spec: "0 25 * * *", Run: run}})
	if err == nil || ran || !strings.Contains(err.Error(), `schedule bad: parse schedule "0 25 * * *"`) {
		t.Errorf("ran %v, %v", ran, err)
	}
}

func TestEntriesOfOneNameAreToldApartAndEachHasItsTimes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, log := scheduler(0)
		ctx, cancel := context.WithTimeout(t.Context(), 25*time.Hour)
		defer cancel()
		var hours []int
		start := time.Now()
		run := func(context.Context, Trigger) error {
			hours = append(hours, int(time.Since(start)/time.Hour))
			return nil
		}
		err := s.Run(ctx, []Entry{
			{Name: "nightly", Spec: "0 3 * * *", Run: run},
			// A day is no unit of Go's: the caller has read it.
			{Name: "nightly", Kind: "reconcile", Spec: "@every 1d", Times: cron.Every(24 * time.Hour), Run: run},
		})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]int{3, 24}, hours); diff != "" {
			t.Errorf("hours (-want +got):\n%s", diff)
		}
		for _, want := range []string{`msg="run started" pipeline=nightly` + "\n", `msg="run started" pipeline=nightly kind=reconcile` + "\n"} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("%s is not in the log:\n%s", want, log)
			}
		}
	})
}
