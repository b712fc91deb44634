//go:build unix

package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/schedule"
	"github.com/sluice-etl/sluice/internal/state"
)

// madeDaemon makes a daemon that ends with the test.
func madeDaemon(t *testing.T, a *app, cfg *config.Config) *daemon {
	t.Helper()
	store, err := a.store(cfg)
	if err != nil {
		t.Fatal(err)
	}
	d := a.newDaemon(cfg, store)
	t.Cleanup(func() {
		if err := d.close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// daemonOf makes the daemon of a file without running it.
func daemonOf(t *testing.T, w *world, c clock.Clock) (*daemon, []schedule.Entry) {
	t.Helper()
	a, cfg, _ := wiring(t, w)
	a.Clock = c
	d := madeDaemon(t, a, cfg)
	entries, err := d.entries(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	return d, entries
}

const nights = `version: 1
sources:
  crm: {type: contacts_api, url: "sandbox://?contacts=20&seed=1"}
destinations:
  lake: {type: parquet, path: out}
pipelines:
  nightly:
    source: crm
    destinations: [lake]
    verify: off
    schedule: "0 3 * * *"
    timezone: Europe/Berlin
    full_every: 7d
    reconcile: {schedule: "0 5 * * 0"}
`

// The eighth night begins a little earlier by the clock on the wall than seven
// days after the first, and an hour earlier where clocks have been put forward.
func TestANightlyPipelineReadsEverythingOnTheEighthNight(t *testing.T) {
	t.Parallel()
	c := &hands{}
	c.to(time.Date(2026, 9, 30, 12, 0, 0, 0, time.UTC))
	d, entries := daemonOf(t, newWorld(t, nights), c)
	var modes []string
	d.watch(watcher{run: func(_ string, e run.Event) {
		if e.Type == eventStarted {
			modes = append(modes, e.Mode)
		}
	}})
	at := c.Now()
	for night := range 9 {
		at = entries[0].Times.Next(at)
		c.to(at.Add(time.Duration(9-night) * time.Second)) // less late each night
		if err := entries[0].Run(t.Context(), schedule.Timed); err != nil {
			t.Fatal(err)
		}
	}
	i, f := "incremental", "full"
	if diff := cmp.Diff([]string{f, i, i, i, i, i, i, f, i}, modes); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheDaemonMakesUpForWhatStateSaysIsMissed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nights)
	c := &hands{}
	c.to(time.Date(2026, 9, 30, 12, 0, 0, 0, time.UTC)) // a Wednesday
	started := func() []string {
		d, entries := daemonOf(t, w, c)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		d.scheduler.Grace = time.Hour
		var got []string
		due := 0
		d.watch(watcher{schedule: func(e schedule.Event) {
			switch e.Type {
			case schedule.Missed:
				due++
			case schedule.Started:
				got = append(got, fmt.Sprintf("%s%s %s", e.Name, e.Kind, e.Trigger))
			case schedule.Finished, schedule.Failed:
				if e.Err != nil {
					t.Error(e.Err)
				}
				if due--; due == 0 {
					stop()
				}
			default:
			}
		}})
		if !slices.ContainsFunc(entries, func(e schedule.Entry) bool { return missed(e, c.Now()) }) {
			return nil
		}
		if err := d.scheduler.Run(ctx, entries); err != nil {
			t.Fatal(err)
		}
		slices.Sort(got)
		return got
	}
	if got := started(); got != nil {
		t.Errorf("never run, it makes up %v", got)
	}
	_, entries := daemonOf(t, w, c)
	for _, e := range entries {
		if err := e.Run(t.Context(), schedule.Manual); err != nil {
			t.Fatal(err)
		}
	}
	if got := started(); got != nil {
		t.Errorf("on the same day it makes up %v", got)
	}
	c.to(time.Date(2026, 10, 2, 12, 0, 0, 0, time.UTC)) // two nights
	if diff := cmp.Diff([]string{"nightly catch-up"}, started()); diff != "" {
		t.Errorf("after two nights (-want +got):\n%s", diff)
	}
	if got := started(); got != nil {
		t.Errorf("started again it makes up %v", got)
	}
	c.to(time.Date(2026, 10, 5, 12, 0, 0, 0, time.UTC)) // a Sunday among them
	if diff := cmp.Diff([]string{"nightly catch-up", "nightlyreconcile catch-up"}, started()); diff != "" {
		t.Errorf("after a Sunday (-want +got):\n%s", diff)
	}
}

func missed(e schedule.Entry, now time.Time) bool {
	return e.CatchUp && e.Times != nil && !e.LastStart.IsZero() && !e.Times.Next(e.LastStart).After(now)
}

func TestAStartIsNotedBeforeTheRunWhichMayLeaveNoRecord(t *testing.T) {
	t.Parallel()
	c := clock.Fixed(time.Date(2026, 9, 30, 12, 0, 0, 0, time.UTC))
	d, entries := daemonOf(t, newWorld(t, nights), c)
	killed := errors.New("killed")
	err := d.do(t.Context(), d.cfg.Pipelines[0], "", run.Job{}, func(ctx context.Context, e *run.Engine, _ run.Job) (run.Summary, error) {
		st, err := e.Store.Load(ctx, "nightly")
		if err != nil || !st.LastStart(kindSync).Equal(c.Now()) {
			t.Errorf("noted is %v, %v", st.Started, err)
		}
		return run.Summary{}, killed
	})
	if !errors.Is(err, killed) || len(entries) != 2 {
		t.Errorf("got %v", err)
	}
	again, err := d.store.Load(t.Context(), "nightly")
	if err != nil || len(again.Runs) != 0 || state.New("x").LastStart(kindSync) != (time.Time{}) {
		t.Errorf("runs %v, %v", again.Runs, err)
	}
}

func TestEveryLineOfARunNamesIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, strings.Replace(nights, `"0 3 * * *"`, `"@every 1s"`, 1))
	w.env["SLUICE_FILE"] = w.file()
	p := w.start(t, "schedule")
	for _, of := range []string{"msg=reading", "msg=committed", "msg=summary", `msg="run finished"`} {
		if line := p.wait(t, of); !strings.Contains(line, "pipeline=nightly") || !strings.Contains(line, "run_id=2") {
			t.Errorf("got %s", line)
		}
	}
}
