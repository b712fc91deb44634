package run_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/sandbox"
	"github.com/sluice-etl/sluice/schemas"
)

func TestADayBeginsWhereTheClocksSayItDoes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ zone, date, want string }{
		{"UTC", "2024-03-31", "2024-03-31T00:00:00Z"},
		{"America/Santiago", "2026-06-01", "2026-06-01T04:00:00Z"},
		{"America/Santiago", "2026-09-06", "2026-09-06T04:00:00Z"}, // clocks skip midnight
		{"America/Santiago", "2026-04-05", "2026-04-05T04:00:00Z"}, // the hour before midnight comes twice
		{"America/Havana", "2024-11-03", "2024-11-03T04:00:00Z"},   // midnight comes twice: the first
		{"Europe/Berlin", "2024-03-31", "2024-03-30T23:00:00Z"},
		{"Pacific/Apia", "2011-12-31", "2011-12-30T10:00:00Z"}, // the day after one that never was
	} {
		loc, err := time.LoadLocation(tc.zone)
		if err != nil {
			t.Fatal(err)
		}
		d := day(tc.date)
		if got := run.StartOfDay(d.Year(), d.Month(), d.Day(), loc).UTC().Format(time.RFC3339); got != tc.want {
			t.Errorf("%s in %s begins at %s, want %s", tc.date, tc.zone, got, tc.want)
		}
	}
}

func TestWindowsOfDaysFollowTheCalendar(t *testing.T) {
	t.Parallel()
	loc, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	from, to := run.StartOfDay(2024, 3, 30, loc), run.StartOfDay(2024, 4, 2, loc)
	var lengths []string
	borders := run.CutTime(from, to.Add(-time.Hour), 24*time.Hour)
	for i, b := range borders[1:] {
		lengths = append(lengths, b.Sub(borders[i]).String())
	}
	if got := fmt.Sprint(lengths); got != "[24h0m0s 23h0m0s 23h0m0s]" {
		t.Errorf("windows of a day are %s", got)
	}
	if n := len(run.CutTime(from, to, 6*time.Hour)); n != 1+12 { // 71 hours
		t.Errorf("%d borders", n)
	}
}

func TestAnEstimateIsNearAndChangesNothing(t *testing.T) {
	w := newWorld(t, contacts(20000))
	b := run.Backfill{From: day("2024-01-15"), To: day("2025-01-15"), Key: extract.ByCreated, Window: 30 * 24 * time.Hour}
	e := run.Engine{Store: w.store, Clock: clock.System{}}
	var notReady *run.NotReadyError
	if _, err := e.Estimate(t.Context(), w.job(), b); !errors.As(err, &notReady) {
		t.Errorf("got %v", err)
	}
	job := w.job()
	job.PageSize = 1000
	w.mustRun(job)
	serial, requests := w.state().Serial, w.source.Stats().Requests
	got, err := e.Estimate(t.Context(), job, b)
	if err != nil {
		t.Fatal(err)
	}
	if used := w.source.Stats().Requests - requests; used > run.EstimateBudget || int64(used) != got.Requests {
		t.Errorf("%d requests were made, it says %d", used, got.Requests)
	}
	if w.state().Serial != serial {
		t.Error("state changed")
	}
	w.tidy()
	count := func(from, to time.Time) (n int64) {
		w.source.Each(func(c sandbox.Contact) bool {
			if !c.CreatedAt.Before(from) && c.CreatedAt.Before(to) {
				n++
			}
			return true
		})
		return n
	}
	all := count(b.From, b.To)
	off := func(a, b int64) int64 { return max(a-b, b-a) }
	if len(got.Windows) != 13 || off(got.Contacts, all) > all/50 {
		t.Errorf("about %d contacts in %d windows; there are %d", got.Contacts, len(got.Windows), all)
	}
	for _, win := range got.Windows {
		if n := count(win.From, win.To); off(win.Contacts, n) > all/50 {
			t.Errorf("about %d contacts from %s on, there are %d", win.Contacts, win.From, n)
		}
	}
	if got.Pages < all/1000 || got.Pages > all/1000+20 {
		t.Errorf("about %d pages for %d contacts", got.Pages, all)
	}
	b.From, b.To = day("2001-01-01"), day("2001-02-01")
	if got, err = e.Estimate(t.Context(), job, b); err != nil || got.Contacts != 0 || got.Requests != 1 {
		t.Errorf("of a range without contacts it says %+v %v", got, err)
	}
}

func TestColumnsOfRunsSideBySideAreJoinedUnlessTheyContradict(t *testing.T) {
	t.Parallel()
	entry := func(key, column string, typ schemas.Type, misfit bool) schemas.RegistryEntry {
		return schemas.RegistryEntry{Scope: schemas.ScopeCFCustomer, Key: key, Column: column, Type: typ, Misfit: misfit, FirstRun: key}
	}
	known := []schemas.RegistryEntry{entry("a", "cf_customer_a", schemas.Int64, false), entry("b", "cf_customer_b", schemas.String, false)}
	got, err := run.JoinEntries(known, []schemas.RegistryEntry{entry("a", "cf_customer_a", schemas.Int64, true), entry("c", "cf_customer_c", schemas.Bool, false)})
	if err != nil || len(got) != 3 || !got[0].Misfit || !got[1].Same(known[1]) || got[2].Key != "c" {
		t.Errorf("got %+v %v", got, err)
	}
	if known[0].Misfit {
		t.Error("what state holds was changed in place")
	}
	for _, other := range []schemas.RegistryEntry{entry("a", "cf_customer_a", schemas.String, false), entry("a", "cf_customer_a_1", schemas.Int64, false)} {
		if _, err := run.JoinEntries(known, []schemas.RegistryEntry{other}); err == nil {
			t.Errorf("%+v was joined with %+v", other, known[0])
		}
	}
}

func TestARangeHoldsItsBeginningAndNotItsEnd(t *testing.T) {
	w := newWorld(t, contacts(300))
	w.mustRun(w.job())
	var printed []time.Time
	w.source.Each(func(c sandbox.Contact) bool {
		printed = append(printed, c.CreatedAt.Truncate(time.Millisecond))
		return true
	})
	slices.SortFunc(printed, time.Time.Compare)
	from, middle, to := printed[100], printed[110], printed[120]
	// The clock behind printed milliseconds is finer, so the millisecond right
	// before a range is read with it.
	for name, tc := range map[string]struct {
		b      run.Backfill
		want   int64
		before int64 // contacts printed in the millisecond before
	}{
		"both on a contact":       {run.Backfill{From: from, To: to}, 20, 0},
		"both just after one":     {run.Backfill{From: from.Add(time.Millisecond), To: to.Add(time.Millisecond)}, 20, 1},
		"one contact":             {run.Backfill{From: from, To: from.Add(time.Millisecond)}, 1, 0},
		"inside a millisecond":    {run.Backfill{From: from.Add(time.Microsecond), To: to.Add(time.Microsecond)}, 20, 1},
		"a window's border on it": {run.Backfill{From: from, To: to, Window: middle.Sub(from)}, 20, 0},
	} {
		tc.b.Key = extract.ByCreated
		sum, err := w.backfill(t.Context(), w.job(), tc.b, 500)
		if err != nil || sum.Unchanged < tc.want || sum.Unchanged > tc.want+tc.before || sum.New+sum.Changed != 0 {
			t.Errorf("%s: %+v %v, want %d contacts", name, sum, err, tc.want)
		}
	}
}
