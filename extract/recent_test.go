package extract_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/extract/extracttest"
)

func recentOver(src *extracttest.Source, change ...func(*extract.Recent)) *extract.Recent {
	w := &extract.Recent{Client: src, Days: 2, Clock: src, Lookback: 10 * time.Second, PageSize: 20}
	for _, f := range change {
		f(w)
	}
	return w
}

func mustRecent(t *testing.T, w *extract.Recent, sink extract.Sink) extract.Outcome {
	t.Helper()
	out, err := w.Run(t.Context(), sink)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// inWindowNow counts the contacts that are to be seen.
func inWindowNow(src *extracttest.Source, days int) map[int]bool {
	ids := map[int]bool{}
	for id := range src.Len() {
		if _, _, ok := src.InWindow(id, days); ok {
			ids[id] = true
		}
	}
	return ids
}

func TestTheRecentAreDeliveredOnceWhileNothingMoves(t *testing.T) {
	for _, o := range []extracttest.Options{
		{Days: 2},
		{Days: 2, Contacts: 1, Seed: 2},
		{Days: 2, Contacts: 12, Seed: 3, Gap: time.Minute},
		{Days: 2, Contacts: 900, Seed: 4},
		{Days: 2, Contacts: 900, Seed: 5, Ties: 300, TieSize: 75},
		{Days: 2, Contacts: 400, Seed: 6, Gap: time.Microsecond},
		{Days: 2, Contacts: 400, Seed: 7, Cap: 9},
		{Days: 2, Contacts: 300, Seed: 8, Future: 50},
		{Days: 2, Contacts: 300, Seed: 9, NoDate: true},
	} {
		src, sink := extracttest.New(o), &collector{}
		want := inWindowNow(src, 2)
		out := mustRecent(t, recentOver(src), sink)
		got := sink.ids()
		for id := range want {
			if got[id] == 0 {
				t.Errorf("%+v: contact %d was not delivered", o, id)
			}
		}
		if len(got) != len(want) || out.EndReason != extract.EndOfRows || out.Pages > 0 == (len(want) == 0) {
			t.Errorf("%+v: %d contacts of %d, outcome %+v", o, len(got), len(want), out)
		}
		for _, b := range out.Ties {
			if b.Statistical && o.Future == 0 {
				t.Errorf("%+v: block %+v", o, b)
			}
		}
		if twice := len(sink.staged) - len(want); twice > 40 { // of ties, which are remembered no longer than needed
			t.Errorf("%+v: %d rows twice", o, twice)
		}
	}
}

func TestReadingTheRecentLeavesNoCursor(t *testing.T) {
	src, sink := extracttest.New(extracttest.Options{Days: 2, Contacts: 300, Messages: 1, Latency: 50 * time.Millisecond}), &collector{}
	out := mustRecent(t, recentOver(src), sink)
	if len(sink.marks) < int(out.Pages) {
		t.Errorf("advanced %d times for %d pages", len(sink.marks), out.Pages)
	}
	for _, p := range append(sink.marks, out.Progress) {
		if p.Mark != 0 || p.Final != 0 || p.ReadSince == 0 {
			t.Fatalf("progress is %+v", p)
		}
	}
	if now := src.Now().UnixMicro(); out.ReadSince > now || out.ReadSince < now-60_000_000 {
		t.Errorf("read since %s, now is %s", extract.FormatTime(out.ReadSince), extract.FormatTime(now))
	}
	if !strings.Contains(strings.Join(out.Assumptions, "\n"), "newest first") || out.FirstDate.IsZero() || out.Rows == 0 || out.Requests < out.Pages {
		t.Errorf("outcome is %+v", out)
	}
}

func TestTheRecentCostAtMostATenthMoreThanPlainOffsets(t *testing.T) {
	const pageSize = 100
	src := extracttest.New(extracttest.Options{Seed: 1, Days: 2, Contacts: 8000, Gap: 10 * time.Second})
	plain := (len(inWindowNow(src, 2)) + pageSize) / pageSize
	out, peak, err := recentOver(src, func(w *extract.Recent) { w.PageSize = pageSize }).RunPeak(t.Context(), &collector{})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("offset paging takes %d requests, this %d; %d rows remembered", plain, out.Requests, peak)
	if float64(out.Requests) > 1.1*float64(plain)+3 {
		t.Errorf("%d requests, offset paging takes %d", out.Requests, plain)
	}
	if peak > 3*pageSize {
		t.Errorf("%d rows were remembered", peak)
	}
}

func TestASmallWindowTakesFewRequests(t *testing.T) {
	for contacts, most := range map[int]int64{0: 2, 1: 3, 12: 3} {
		src := extracttest.New(extracttest.Options{Seed: 3, Days: 2, Contacts: contacts, Gap: time.Minute})
		if out := mustRecent(t, recentOver(src), &collector{}); out.Requests > most {
			t.Errorf("%d contacts took %d requests", contacts, out.Requests)
		}
	}
}

func TestOnlyDaysAndOffsetReachTheSource(t *testing.T) {
	src := extracttest.New(extracttest.Options{Seed: 3, Contacts: 200, Days: 2})
	seen := 0
	w := recentOver(src)
	w.Client = watching{src, func(q extract.Query) {
		seen++
		v := q.Values()
		if v.Get("days") != "2" || v.Get("limit") != "20" || v.Has("created_after") || v.Has("updated_after") {
			t.Errorf("asked %v", v)
		}
	}}
	mustRecent(t, w, &collector{})
	if seen < 5 {
		t.Errorf("%d requests", seen)
	}
}

func TestAListInAnotherOrderIsAnError(t *testing.T) {
	src, sink := extracttest.New(extracttest.Options{Seed: 1, Contacts: 200, Days: 2}), &collector{}
	w := recentOver(src)
	w.Client = disordering{src}
	out, err := w.Run(t.Context(), sink)
	var order *extract.OrderError
	if !errors.As(err, &order) || !strings.Contains(err.Error(), "last_message_at 2026-") || out.EndReason != extract.EndUnreached || len(sink.staged) != 0 {
		t.Errorf("%d staged, %v", len(sink.staged), err)
	}
}

func TestPagesTooShortToOverlapAreAnError(t *testing.T) {
	src := extracttest.New(extracttest.Options{Seed: 1, Contacts: 200, Days: 2, Cap: 2})
	_, err := recentOver(src).Run(t.Context(), &collector{})
	var drift *extract.DriftError
	if !errors.As(err, &drift) || drift.Hint() == "" || drift.Requests < 100 {
		t.Errorf("error is %v", err)
	}
}

// cached is a source of which nothing but a cache's answers come.
type cached struct{ *extracttest.Source }

func (c cached) Page(ctx context.Context, q extract.Query, decode func([]byte, extract.PageInfo) error) (extract.Response, error) {
	resp, err := c.Source.Page(ctx, q, decode)
	resp.Cached = true
	return resp, err
}

// lagging is a source whose every third answer is a minute old, and says so by
// its Date alone.
type lagging struct {
	*extracttest.Source
	n *int
}

func (c lagging) Page(ctx context.Context, q extract.Query, decode func([]byte, extract.PageInfo) error) (extract.Response, error) {
	if *c.n++; *c.n%3 == 2 {
		resp, err := c.Source.Page(ctx, extract.Query{Days: q.Days, Limit: 1}, decode)
		resp.Date = resp.Date.Add(-time.Minute)
		return resp, err
	}
	return c.Source.Page(ctx, q, decode)
}

func TestACachesAnswerOfAWindowIsAskedForAgainAndRecordedIfItStays(t *testing.T) {
	for _, read := range []func(client extract.Pager, src *extracttest.Source) (extract.Outcome, error){
		func(client extract.Pager, src *extracttest.Source) (extract.Outcome, error) {
			return recentOver(src, func(w *extract.Recent) { w.Client = client }).Run(t.Context(), &collector{})
		},
		func(client extract.Pager, src *extracttest.Source) (extract.Outcome, error) {
			return walkOver(src, func(w *extract.Walk) { w.Client, w.Days = client, 2 }).Run(t.Context(), &collector{})
		},
	} {
		src := extracttest.New(extracttest.Options{Seed: 1, Contacts: 100, Days: 2, Latency: 10 * time.Millisecond})
		want := int64(len(inWindowNow(src, 2)))
		out, err := read(cached{src}, src)
		if err != nil || out.Rows < want || out.Discarded < 5*out.Pages {
			t.Errorf("%d rows of %d, %v, %+v", out.Rows, want, err, out)
		}
		if n := len(out.Ties); n == 0 || !out.Ties[n-1].Statistical || !strings.Contains(out.Ties[n-1].Why, "cache") {
			t.Errorf("ties are %+v", out.Ties)
		}
		out, err = read(lagging{src, new(int)}, src)
		if err != nil || out.Rows < want || len(out.Ties) != 0 || out.Discarded == 0 {
			t.Errorf("%d rows of %d, %v, %+v", out.Rows, want, err, out)
		}
	}
}

func TestAFrontThatDoesNotStandStillIsRecorded(t *testing.T) {
	src := extracttest.New(extracttest.Options{Seed: 1, Contacts: 400, Days: 2, Messages: 5, Latency: 50 * time.Millisecond})
	out := mustRecent(t, recentOver(src, func(w *extract.Recent) { w.Lookback = time.Hour }), &collector{})
	if n := len(out.Ties); n == 0 || !out.Ties[n-1].Statistical || out.Ties[n-1].Passes != 10 || !strings.Contains(out.Ties[n-1].Why, "within 1h0m0s") {
		t.Errorf("ties are %+v", out.Ties)
	}
}

func TestAReadingOfTheRecentIsCheckedBeforeItStarts(t *testing.T) {
	src := extracttest.New(extracttest.Options{})
	for name, change := range map[string]func(*extract.Recent){
		"no client":         func(w *extract.Recent) { w.Client = nil },
		"no days":           func(w *extract.Recent) { w.Days = 0 },
		"too many days":     func(w *extract.Recent) { w.Days = 366 },
		"a page too short":  func(w *extract.Recent) { w.PageSize = 2 },
		"a page too large":  func(w *extract.Recent) { w.PageSize = 1001 },
		"a negative page":   func(w *extract.Recent) { w.PageSize = -1 },
		"negative lookback": func(w *extract.Recent) { w.Lookback = -1 },
	} {
		if _, err := recentOver(src, change).Run(t.Context(), &collector{}); err == nil {
			t.Errorf("%s passes", name)
		}
	}
	if _, err := recentOver(src).Run(t.Context(), nil); err == nil {
		t.Error("no sink passes")
	}
}

func TestAReadingOfTheRecentEndsWithItsSinkAndItsContext(t *testing.T) {
	full, stop := errors.New("disk full"), errors.New("stopped by the user")
	src := extracttest.New(extracttest.Options{Contacts: 50, Days: 2})
	if _, err := recentOver(src).Run(t.Context(), &collector{fail: full}); !errors.Is(err, full) {
		t.Errorf("error is %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stop)
	if _, err := recentOver(src).Run(ctx, &collector{}); !errors.Is(err, stop) {
		t.Errorf("error is %v", err)
	}
}

func TestContactsThatLeaveInNumbersCostFewRequests(t *testing.T) {
	src := extracttest.New(extracttest.Options{Seed: 1, Days: 2, Contacts: 4000, Gap: 10 * time.Second, Deletes: 60, Latency: 50 * time.Millisecond})
	sink := &collector{}
	out := mustRecent(t, recentOver(src, func(w *extract.Recent) { w.PageSize = 100 }), sink)
	got := sink.ids()
	for id := range inWindowNow(src, 2) {
		if got[id] == 0 {
			t.Errorf("contact %d was not delivered", id)
		}
	}
	t.Logf("%d requests, %d pages", out.Requests, out.Pages)
	if out.Requests > 4*out.Pages {
		t.Errorf("%d requests for %d pages", out.Requests, out.Pages)
	}
}
