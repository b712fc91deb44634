package extract_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/extract/extracttest"
)

// desk is what the workers of a scan share: a source that answers one request
// at a time, and a collector for each of them.
type desk struct {
	*extracttest.Source
	mu    sync.Mutex
	fail  func(q extract.Query) error
	sinks []*windowCollector
}

func (d *desk) Page(ctx context.Context, q extract.Query, decode func([]byte, extract.PageInfo) error) (extract.Response, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil {
		if err := d.fail(q); err != nil {
			return extract.Response{Requests: 1}, err
		}
	}
	if ctx.Err() != nil {
		return extract.Response{}, context.Cause(ctx)
	}
	return d.Source.Page(ctx, q, decode)
}

// Now is asked by the workers as they answer, and before any of them runs.
func (d *desk) Now() time.Time { return d.Source.Now() }

// windowCollector keeps rows by the stretch they were read for.
type windowCollector struct {
	collector
	extract.Stretches
	windows []extract.Interval
	rows    [][]extract.Row // staged in each
}

func (c *windowCollector) Window(iv extract.Interval) error {
	c.cut()
	c.windows = append(c.windows, iv)
	c.Stretches.Window(iv)
	return nil
}

func (c *windowCollector) Advance(ctx context.Context, p extract.Progress) error {
	c.Stretches.Advance(p)
	return c.collector.Advance(ctx, p)
}

func (c *windowCollector) cut() {
	if len(c.windows) > len(c.rows) {
		c.rows = append(c.rows, c.staged)
		c.staged = nil
	}
}

func scanOver(src *extracttest.Source, workers int, change ...func(*extract.Scan)) (*extract.Scan, *desk) {
	d := &desk{Source: src}
	s := &extract.Scan{
		Client: d, Key: extract.ByCreated, Remaining: []extract.Interval{{}}, Clock: src,
		StopAt: src.Now(), Lookback: time.Second, PageSize: 20, Workers: workers,
		Sink: func(worker int) extract.WindowSink {
			if worker != len(d.sinks) {
				panic("sinks are not asked for in order, once each")
			}
			d.sinks = append(d.sinks, &windowCollector{})
			return d.sinks[worker]
		},
	}
	for _, f := range change {
		f(s)
	}
	return s, d
}

func mustScan(t *testing.T, s *extract.Scan) extract.ScanOutcome {
	t.Helper()
	out, err := s.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// ids counts how often each contact was staged, by all workers.
func (d *desk) ids() map[int]int {
	n := map[int]int{}
	for _, c := range d.sinks {
		c.cut()
		for _, rows := range c.rows {
			for _, r := range rows {
				id, _ := extracttest.Identify(r)
				n[id]++
			}
		}
	}
	return n
}

func TestAScanDeliversEachContactOnceInWhateverNumberOfWindows(t *testing.T) {
	for _, workers := range []int{1, 3, 8, 64} {
		for _, o := range []extracttest.Options{
			{Seed: 1, Contacts: 900},
			{Seed: 2, Contacts: 900, Gap: 20 * time.Millisecond},
			{Seed: 3, Contacts: 500, Gap: time.Microsecond},
			{Seed: 4, Contacts: 900, Ties: 300, TieSize: 15, Gap: 10 * time.Millisecond},
			{Seed: 5, Contacts: 700, Lulls: 5, Gap: 10 * time.Millisecond},
			{Seed: 6, Contacts: 1},
			{Seed: 7},
		} {
			src := extracttest.New(o)
			src.Settle(time.Hour)
			s, d := scanOver(src, workers)
			out := mustScan(t, s)
			got := d.ids()
			// Where a slice ends behind a tie that took several pages, the rows
			// that follow the tie on its last page come twice.
			if twice := out.Rows - int64(len(got)); len(got) != o.Contacts || twice > int64(len(out.Ties)*s.PageSize) {
				t.Errorf("%d workers, %+v: %d contacts in %d rows, %d ties", workers, o, len(got), out.Rows, len(out.Ties))
			}
			if out.Final != out.Mark || o.Contacts > 0 && !slices.Equal(out.Covered, []extract.Interval{{Until: out.Mark}}) {
				t.Errorf("%d workers, %+v: covered %v up to %d, %d", workers, o, out.Covered, out.Final, out.Mark)
			}
			if out.EndReason != extract.EndOfRows || out.Windows < 1 {
				t.Errorf("%d workers, %+v: %d windows end by %q", workers, o, out.Windows, out.EndReason)
			}
			ends := map[int64]bool{} // a window keeps its end, whatever its slices
			for _, c := range d.sinks {
				for i, rows := range c.rows {
					iv := c.windows[i]
					ends[iv.Until] = true
					for _, r := range rows {
						if r.Created <= iv.From || iv.Until != 0 && r.Created > iv.Until {
							t.Fatalf("%d workers, %+v: a row of %s was staged for %v", workers, o, extract.FormatTime(r.Created), iv)
						}
					}
				}
			}
			if len(ends) != out.Windows {
				t.Errorf("%d workers, %+v: %d windows, and the outcome says %d", workers, o, len(ends), out.Windows)
			}
		}
	}
}

func TestAScanReadsOnlyWhatRemains(t *testing.T) {
	src := extracttest.New(extracttest.Options{Seed: 3, Contacts: 600})
	all := src.Contacts()
	at := func(i int) int64 { return all[i].Created - all[i].Created%1000 }
	remaining := []extract.Interval{{From: at(500)}, {From: at(20), Until: at(100)}, {From: at(90), Until: at(130)}, {From: at(300), Until: at(310)}}
	s, d := scanOver(src, 3, func(s *extract.Scan) { s.Remaining = remaining })
	out := mustScan(t, s)
	got := d.ids()
	for _, c := range all {
		printed, want := c.Created-c.Created%1000, false
		for _, iv := range remaining {
			want = want || printed > iv.From && (iv.Until == 0 || printed <= iv.Until)
		}
		begins := printed == at(20) || printed == at(300) || printed == at(500) // a millisecond that may be read again
		if got[c.ID] == 0 && want || got[c.ID] > 0 && !want && !begins {
			t.Errorf("contact %d of %s was staged %d times", c.ID, extract.FormatTime(c.Created), got[c.ID])
		}
	}
	if left := extract.Uncovered(remaining, out.Covered); len(left) != 1 || left[0].From != out.Final || left[0].Until != 0 {
		t.Errorf("covered %v, left %v", out.Covered, left)
	}
	if out, err := (&extract.Scan{Client: src, Sink: s.Sink}).Run(t.Context()); err != nil || out.Requests != 0 {
		t.Errorf("nothing remained, and %d requests were sent, %v", out.Requests, err)
	}
}

// Where a scan goes on, the last millisecond may not have been read to its end:
// a bound of finality lies anywhere within it.
func TestAScanThatGoesOnWithinAMillisecondReadsTheRestOfIt(t *testing.T) {
	src := extracttest.New(extracttest.Options{Seed: 3, Contacts: 100})
	c := src.Contacts()[50]
	s, d := scanOver(src, 2, func(s *extract.Scan) {
		s.Remaining = []extract.Interval{{From: c.Created - 1, Until: c.Created + 5000}}
	})
	mustScan(t, s)
	if d.ids()[c.ID] == 0 {
		t.Errorf("the contact of %s was not read", extract.FormatTime(c.Created))
	}
}

func TestOneFailingWorkerStopsTheOthersAndIsReportedOnce(t *testing.T) {
	broken := errors.New("broken")
	src := extracttest.New(extracttest.Options{Seed: 3, Contacts: 1200})
	all := src.Contacts()
	s, d := scanOver(src, 4)
	d.fail = func(q extract.Query) error {
		if *q.CreatedAfter > all[700].Created {
			return broken
		}
		return nil
	}
	out, err := s.Run(t.Context())
	if !errors.Is(err, broken) || strings.Count(err.Error(), "broken") != 1 {
		t.Fatalf("error is %v", err)
	}
	if out.EndReason != extract.EndUnreached || out.Pages == 0 || out.Mark == 0 || out.Mark > all[700].Created {
		t.Errorf("outcome is %+v", out)
	}
	var sealed []extract.Interval
	for _, c := range d.sinks {
		sealed = append(sealed, c.Seal()...)
	}
	if !slices.Equal(extract.MergeIntervals(sealed), out.Covered) {
		t.Errorf("the sinks hold %v, the outcome says %v", extract.MergeIntervals(sealed), out.Covered)
	}
	// Another scan goes on where this one stopped, and does no more.
	before := d.ids()
	rest, d2 := scanOver(src, 4, func(s *extract.Scan) {
		s.Remaining = extract.Uncovered([]extract.Interval{{}}, out.Covered)
	})
	if end := mustScan(t, rest); end.EndReason != extract.EndOfRows {
		t.Errorf("ended by %q", end.EndReason)
	}
	twice := 0
	for id, n := range d2.ids() {
		if before[id] > 0 {
			twice += n
		}
		before[id] += n
	}
	if len(before) != 1200 || twice > 4*20 {
		t.Errorf("%d contacts, %d of them twice", len(before), twice)
	}
}

func TestASinkThatRefusesAWindowEndsTheScan(t *testing.T) {
	full := errors.New("disk full")
	s, _ := scanOver(extracttest.New(extracttest.Options{Contacts: 5}), 2)
	s.Sink = func(int) extract.WindowSink { return refusing{&windowCollector{}, full} }
	if _, err := s.Run(t.Context()); !errors.Is(err, full) {
		t.Errorf("error is %v", err)
	}
}

type refusing struct {
	*windowCollector
	err error
}

func (r refusing) Window(extract.Interval) error { return r.err }

func TestACancelledScanSaysWhy(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stopped by the user")
	s, d := scanOver(extracttest.New(extracttest.Options{Contacts: 1200}), 4)
	n := 0
	d.fail = func(extract.Query) error {
		if n++; n == 20 {
			cancel(stop)
		}
		return nil
	}
	out, err := s.Run(ctx)
	if !errors.Is(err, stop) || out.Pages < 8 {
		t.Errorf("%d pages, error is %v", out.Pages, err)
	}
}

func TestAScanIsCheckedBeforeItStarts(t *testing.T) {
	for name, change := range map[string]func(*extract.Scan){
		"no client":          func(s *extract.Scan) { s.Client = nil },
		"no sink":            func(s *extract.Scan) { s.Sink = nil },
		"too many workers":   func(s *extract.Scan) { s.Workers = 65 },
		"negative workers":   func(s *extract.Scan) { s.Workers = -1 },
		"negative pages":     func(s *extract.Scan) { s.SlicePages = -1 },
		"a page too large":   func(s *extract.Scan) { s.PageSize = 1001 },
		"a negative walk":    func(s *extract.Scan) { s.Lookback = -1 },
		"a negative page":    func(s *extract.Scan) { s.PageSize = -1 },
		"negative slice":     func(s *extract.Scan) { s.SlicePages = -3 },
		"a sink without end": func(s *extract.Scan) { s.Sink = nil },
	} {
		s, _ := scanOver(extracttest.New(extracttest.Options{}), 2, change)
		if _, err := s.Run(t.Context()); err == nil {
			t.Errorf("%s passes", name)
		}
	}
}

func TestAWalkOfSomePagesEndsThereAndTheNextGoesOn(t *testing.T) {
	src := extracttest.New(extracttest.Options{Seed: 1, Contacts: 500, Ties: 120, TieSize: 40})
	sink, from := &collector{}, int64(0)
	for i := 0; ; i++ {
		out := mustWalk(t, walkOver(src, func(w *extract.Walk) { w.From, w.MaxPages = from, 3 }), sink)
		if out.EndReason != extract.EndOfSlice {
			if out.EndReason != extract.EndOfRows || i < 5 {
				t.Errorf("the walk %d ended by %q", i, out.EndReason)
			}
			break
		}
		if out.Mark <= from || out.Pages < 3 {
			t.Fatalf("walk %d: %d pages from %d to %d", i, out.Pages, from, out.Mark)
		}
		from = out.Mark
	}
	if len(sink.ids()) != 500 {
		t.Errorf("%d contacts", len(sink.ids()))
	}
	if _, err := walkOver(src, func(w *extract.Walk) { w.MaxPages = -1 }).Run(t.Context(), sink); err == nil {
		t.Error("a negative number of pages passes")
	}
}
