package extract_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/extract/extracttest"
)

// collector is a Sink that keeps every staged row.
type collector struct {
	page   []extract.Row
	staged []extract.Row
	marks  []extract.Progress
	fail   error
}

func (c *collector) Decode(body []byte, _ extract.PageInfo) (rows []extract.Row, err error) {
	c.page, err = extracttest.Decode(body)
	return c.page, err
}

func (c *collector) Stage(_ context.Context, skip []bool) error {
	for i, r := range c.page {
		if skip == nil || !skip[i] {
			c.staged = append(c.staged, r)
		}
	}
	return c.fail
}

func (c *collector) Advance(_ context.Context, p extract.Progress) error {
	c.marks = append(c.marks, p)
	return nil
}

// ids counts how often each contact was staged.
func (c *collector) ids() map[int]int {
	n := map[int]int{}
	for _, r := range c.staged {
		id, _ := extracttest.Identify(r)
		n[id]++
	}
	return n
}

func walkOver(src *extracttest.Source, change ...func(*extract.Walk)) *extract.Walk {
	w := &extract.Walk{Client: src, Clock: src, Lookback: time.Minute, PageSize: 20}
	for _, f := range change {
		f(w)
	}
	return w
}

func mustWalk(t *testing.T, w *extract.Walk, sink extract.Sink) extract.Outcome {
	t.Helper()
	out, err := w.Run(t.Context(), sink)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAnEmptySourceEndsWithoutACursor(t *testing.T) {
	sink := &collector{}
	out := mustWalk(t, walkOver(extracttest.New(extracttest.Options{})), sink)
	if out.EndReason != extract.EndOfRows || out.Requests != 2 || out.Final != 0 || out.Mark != 0 || out.Rows != 0 {
		t.Errorf("outcome is %+v", out)
	}
}

func TestOneContactIsDeliveredOnce(t *testing.T) {
	for _, size := range []int{1, 2, 1000} {
		sink := &collector{}
		src := extracttest.New(extracttest.Options{Contacts: 1})
		out := mustWalk(t, walkOver(src, func(w *extract.Walk) { w.PageSize = size }), sink)
		if out.EndReason != extract.EndOfRows || out.Rows != 1 || len(sink.staged) != 1 || len(out.Ties) != 0 {
			t.Errorf("page size %d: outcome is %+v", size, out)
		}
		if want := src.Now().Add(-time.Minute).UnixMicro(); out.Final != want {
			t.Errorf("page size %d: final is %s, want the lookback before the end was seen, %s", size, extract.FormatTime(out.Final), extract.FormatTime(want))
		}
	}
}

func TestPagesOfOneRowAreWalkedToo(t *testing.T) {
	sink := &collector{}
	src := extracttest.New(extracttest.Options{Seed: 5, Contacts: 15, Ties: 6, TieSize: 3})
	out := mustWalk(t, walkOver(src, func(w *extract.Walk) { w.PageSize = 1 }), sink)
	if len(sink.ids()) != 15 || out.EndReason != extract.EndOfRows {
		t.Errorf("%d contacts; outcome is %+v", len(sink.ids()), out)
	}
}

func TestATieLargerThanAPageIsDrainedByAnchorsAndEachRowStagedOnce(t *testing.T) {
	for _, key := range []extract.Key{extract.ByUpdated, extract.ByCreated} {
		sink := &collector{}
		src := extracttest.New(extracttest.Options{Seed: 1, Contacts: 500, Ties: 300, TieSize: 300})
		out := mustWalk(t, walkOver(src, func(w *extract.Walk) { w.Key = key }), sink)
		for id, n := range sink.ids() {
			if n != 1 {
				t.Errorf("contact %d was staged %d times", id, n)
			}
		}
		if len(sink.ids()) != 500 {
			t.Errorf("%d contacts by %s", len(sink.ids()), key)
		}
		if len(out.Ties) == 0 || out.Duplicates == 0 {
			t.Fatalf("outcome is %+v", out)
		}
		for _, b := range out.Ties {
			if b.Statistical || b.Passes != 2 {
				t.Errorf("block %+v is not anchored and confirmed", b)
			}
		}
	}
}

func TestATieInANewOrderEachTimeIsRecordedAsStatistical(t *testing.T) {
	sink := &collector{}
	src := extracttest.New(extracttest.Options{Seed: 1, Contacts: 200, Ties: 100, TieSize: 100, TieOrder: extracttest.Shuffled})
	out := mustWalk(t, walkOver(src), sink)
	if len(sink.ids()) != 200 {
		t.Errorf("%d contacts", len(sink.ids()))
	}
	if len(out.Ties) != 1 || !out.Ties[0].Statistical || out.Ties[0].Why == "" || out.Ties[0].Passes < 11 || out.Ties[0].Size < 100 {
		t.Errorf("ties are %+v", out.Ties)
	}
}

func TestAPageThatStaysOutOfOrderIsAnErrorAndNoMark(t *testing.T) {
	sink := &collector{}
	src := extracttest.New(extracttest.Options{Seed: 1, Contacts: 200})
	w := walkOver(src)
	w.Client = disordering{src}
	out, err := w.Run(t.Context(), sink)
	var order *extract.OrderError
	if !errors.As(err, &order) || order.Attempts != 3 || order.Hint() == "" || !strings.Contains(err.Error(), "updated_at") {
		t.Fatalf("error is %v", err)
	}
	if out.OutOfOrder != 3 || out.Requests != 3 || out.Mark != 0 || out.Final != 0 || len(sink.staged) != 0 || len(sink.marks) != 0 {
		t.Errorf("outcome is %+v, %d staged", out, len(sink.staged))
	}
}

// disordering swaps the ends of every page.
type disordering struct{ *extracttest.Source }

func (d disordering) Page(ctx context.Context, q extract.Query, decode func([]byte, extract.PageInfo) error) (extract.Response, error) {
	return d.Source.Page(ctx, q, func(body []byte, info extract.PageInfo) error {
		row := len(body) / q.Limit
		swapped := append(append(append([]byte{}, body[len(body)-row:]...), body[row:len(body)-row]...), body[:row]...)
		return decode(swapped, info)
	})
}

func TestRowsFromBeforeTheMarkAreAnError(t *testing.T) {
	src := extracttest.New(extracttest.Options{Seed: 1, Contacts: 200})
	w := walkOver(src, func(w *extract.Walk) { w.From = src.Now().UnixMicro() })
	w.Client = deaf{src}
	_, err := w.Run(t.Context(), &collector{})
	var order *extract.OrderError
	if !errors.As(err, &order) {
		t.Errorf("error is %v", err)
	}
}

// deaf ignores the filter.
type deaf struct{ *extracttest.Source }

func (d deaf) Page(ctx context.Context, q extract.Query, decode func([]byte, extract.PageInfo) error) (extract.Response, error) {
	*q.UpdatedAfter = 0
	return d.Source.Page(ctx, q, decode)
}

func TestAnOutcomeSaysHowFarAFailedWalkCame(t *testing.T) {
	src := extracttest.New(extracttest.Options{Seed: 1, Contacts: 200, Gap: time.Minute, FailAfter: 4})
	sink := &collector{}
	out, err := walkOver(src).Run(t.Context(), sink)
	if !errors.Is(err, extracttest.ErrKilled) || out.EndReason != extract.EndUnreached {
		t.Fatalf("%q, %v", out.EndReason, err)
	}
	if out.Pages != 4 || out.Requests != 5 || out.Rows < 70 || out.Progress != sink.marks[len(sink.marks)-1] || out.Final != out.Mark {
		t.Errorf("outcome is %+v", out)
	}
	if out.FirstDate.IsZero() || out.ReadSince == 0 || len(out.Assumptions) < 3 {
		t.Errorf("outcome is %+v", out)
	}
}

func TestThatAnAnswerWithoutDateIsNoCachesIsAnAssumptionOnlyWhereItIsMade(t *testing.T) {
	for _, undated := range []bool{false, true} {
		src := extracttest.New(extracttest.Options{Contacts: 50, NoDate: undated})
		out := mustWalk(t, walkOver(src), &collector{})
		s, _ := scanOver(src, 2)
		for _, got := range [][]string{out.Assumptions, mustScan(t, s).Assumptions} {
			if made := strings.Contains(strings.Join(got, "\n"), "no cache's"); made != undated {
				t.Errorf("undated %v: assumptions are %q", undated, got)
			}
		}
	}
}

func TestASinkThatFailsEndsTheWalk(t *testing.T) {
	full := errors.New("disk full")
	_, err := walkOver(extracttest.New(extracttest.Options{Contacts: 5})).Run(t.Context(), &collector{fail: full})
	if !errors.Is(err, full) {
		t.Errorf("error is %v", err)
	}
}

func TestACancelledWalkSaysWhy(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stopped by the user")
	cancel(stop)
	if _, err := walkOver(extracttest.New(extracttest.Options{Contacts: 5})).Run(ctx, &collector{}); !errors.Is(err, stop) {
		t.Errorf("error is %v", err)
	}
}

func TestAWalkIsCheckedBeforeItStarts(t *testing.T) {
	src := extracttest.New(extracttest.Options{})
	for name, change := range map[string]func(*extract.Walk){
		"no client":         func(w *extract.Walk) { w.Client = nil },
		"a page too large":  func(w *extract.Walk) { w.PageSize = 1001 },
		"a negative page":   func(w *extract.Walk) { w.PageSize = -1 },
		"negative lookback": func(w *extract.Walk) { w.Lookback = -1 },
	} {
		if _, err := walkOver(src, change).Run(t.Context(), &collector{}); err == nil {
			t.Errorf("%s passes", name)
		}
	}
	if _, err := walkOver(src).Run(t.Context(), nil); err == nil {
		t.Error("no sink passes")
	}
}

func TestFiltersAndKeyReachEveryRequest(t *testing.T) {
	src := extracttest.New(extracttest.Options{Seed: 3, Contacts: 100, Ties: 80, TieSize: 80, Days: 7})
	seen := 0
	w := walkOver(src, func(w *extract.Walk) {
		w.Key, w.Days, w.Filters = extract.ByCreated, 7, url.Values{"stage_id": {"abc"}}
	})
	w.Client = watching{src, func(q extract.Query) {
		seen++
		v := q.Values()
		if v.Get("days") != "7" || v.Get("stage_id") != "abc" || v.Get("created_after") == "" || v.Has("updated_after") || v.Get("limit") != "20" {
			t.Errorf("asked %v", v)
		}
	}}
	mustWalk(t, w, &collector{})
	if seen < 5 {
		t.Errorf("%d requests", seen)
	}
}

type watching struct {
	*extracttest.Source
	see func(extract.Query)
}

func (s watching) Page(ctx context.Context, q extract.Query, decode func([]byte, extract.PageInfo) error) (extract.Response, error) {
	s.see(q)
	return s.Source.Page(ctx, q, decode)
}

func TestTimestampsInTheFutureAreDeliveredAndMoveNoCursor(t *testing.T) {
	for i := range 4 {
		undated, updates := i%2 == 1, float64(i/2*30)
		src := extracttest.New(extracttest.Options{Seed: 1, Contacts: 100, Future: 90, NoDate: undated, Updates: updates, Latency: 50 * time.Millisecond})
		sink := &collector{}
		out := mustWalk(t, walkOver(src), sink)
		got := sink.ids()
		for _, c := range src.Contacts() {
			if c.Updated > src.Now().UnixMicro() && got[c.ID] == 0 {
				t.Errorf("undated %v: contact %d of %s was not delivered", undated, c.ID, extract.FormatTime(c.Updated))
			}
		}
		if out.EndReason != extract.EndAtStop || out.Mark > src.Now().Add(time.Minute).UnixMicro() {
			t.Errorf("undated %v: ended by %q with the mark at %s", undated, out.EndReason, extract.FormatTime(out.Mark))
		}
		if latest := src.Now().Add(-time.Minute).UnixMicro(); out.Final > latest {
			t.Errorf("undated %v: the cursor is %s", undated, extract.FormatTime(out.Final))
		}
	}
}

func TestAWalkUnderEndlessUpdatesEndsAtTheStartOfItsRun(t *testing.T) {
	src := extracttest.New(extracttest.Options{Seed: 1, Contacts: 300, Updates: 50, Latency: 200 * time.Millisecond})
	src.Budget = 500
	began := src.Now()
	out := mustWalk(t, walkOver(src), &collector{})
	if out.EndReason != extract.EndAtStop || src.Now().Sub(began) > time.Minute {
		t.Errorf("ended by %q after %s", out.EndReason, src.Now().Sub(began))
	}
}

// spoiling marks rows invalid by turns, as a Sink does that finds no
// usable timestamp in them.
type spoiling struct {
	collector
	every int
}

func (s *spoiling) Decode(body []byte, info extract.PageInfo) ([]extract.Row, error) {
	rows, err := s.collector.Decode(body, info)
	for i := range rows {
		if id := binary.BigEndian.Uint64(rows[i].ID[:]); id%uint64(s.every) == 0 {
			rows[i] = extract.Row{ID: rows[i].ID, Version: rows[i].Version, Invalid: true}
		}
	}
	return rows, err
}

func TestInvalidRowsKeepTheirPlaceAndMoveNoMark(t *testing.T) {
	for _, every := range []int{1, 2, 7} {
		src := extracttest.New(extracttest.Options{Seed: 2, Contacts: 120, Ties: 60, TieSize: 60})
		sink := &spoiling{every: every}
		out := mustWalk(t, walkOver(src), sink)
		if len(sink.ids()) != 120 || out.Invalid == 0 {
			t.Errorf("every %d: %d contacts, outcome %+v", every, len(sink.ids()), out)
		}
		for _, r := range sink.staged {
			if r.Invalid && r.Updated != 0 {
				t.Fatal("the rows are not spoilt")
			}
		}
	}
}

func TestWindowsPartTheTimeAndEachContactFallsIntoOne(t *testing.T) {
	for seed := uint64(1); seed <= 60; seed++ {
		r := rand.New(rand.NewPCG(seed, 9))
		src := extracttest.New(extracttest.Options{
			Seed: seed, Contacts: 200, Ties: 90, TieSize: 1 + r.IntN(45), Gap: time.Millisecond << r.IntN(12),
			Updates: 1, Deletes: 0.2, Silent: 0.5, TieOrder: extracttest.TieOrder(r.IntN(2)), Latency: 100 * time.Millisecond,
		})
		began := src.Now().UnixMicro()
		var borders []int64
		for _, c := range src.Contacts() {
			if r.IntN(30) == 0 && len(borders) < 8 {
				borders = append(borders, c.Created-c.Created%1000) // within a tie, often
			}
		}
		borders = append(borders, 0, began)
		if err := readWindows(t, src, borders); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

// readWindows reads the time between the borders window by window.
func readWindows(t *testing.T, src *extracttest.Source, borders []int64) error {
	t.Helper()
	slices.Sort(borders)
	in := map[int]int64{}
	for i := 1; i < len(borders); i++ {
		from, until := borders[i-1], borders[i]
		if from == until {
			continue
		}
		sink := &collector{}
		out := mustWalk(t, walkOver(src, func(w *extract.Walk) {
			w.Key, w.From, w.Until = extract.ByCreated, from-1000, until
		}), sink)
		if out.Mark != until-1000 {
			return fmt.Errorf("the window up to %s ends at %s by %q", extract.FormatTime(until), extract.FormatTime(out.Mark), out.EndReason)
		}
		for _, row := range sink.staged {
			id, _ := extracttest.Identify(row)
			if row.Created >= until {
				return fmt.Errorf("contact %d lies past its window", id)
			}
			if row.Created >= from { // the millisecond before a window may show again
				if w, ok := in[id]; ok && w != from {
					return fmt.Errorf("contact %d is in two windows", id)
				}
				in[id] = from
			}
		}
	}
	for _, c := range src.Contacts() {
		if _, ok := in[c.ID]; !ok && c.Created < borders[len(borders)-1] {
			return fmt.Errorf("contact %d is in no window", c.ID)
		}
	}
	return nil
}

// emptying answers its first request with no rows.
type emptying struct {
	*extracttest.Source
	first bool
}

func (s *emptying) Page(ctx context.Context, q extract.Query, decode func([]byte, extract.PageInfo) error) (extract.Response, error) {
	if !s.first {
		return s.Source.Page(ctx, q, decode)
	}
	s.first = false
	return s.Source.Page(ctx, q, func(_ []byte, info extract.PageInfo) error { return decode(nil, info) })
}

func TestAnEmptyAnswerIsAskedForOnceMore(t *testing.T) {
	src := extracttest.New(extracttest.Options{Seed: 1, Contacts: 50})
	for _, until := range []int64{0, src.Now().UnixMicro()} {
		sink := &collector{}
		w := walkOver(src, func(w *extract.Walk) { w.Key, w.Until = extract.ByCreated, until })
		w.Client = &emptying{Source: src, first: true}
		if out := mustWalk(t, w, sink); len(sink.ids()) != 50 {
			t.Errorf("until %d: %d contacts of 50 came, and it ended by %q", until, len(sink.ids()), out.EndReason)
		}
	}
}

func TestWithoutADateWhatAClockAheadOfOursStampsComesWithALaterRun(t *testing.T) {
	const ahead = 20 * time.Minute
	src := extracttest.New(extracttest.Options{Seed: 1, Contacts: 100, NoDate: true, DBSkew: ahead})
	src.Updates = 40 // of changes stamped later than our clock shows
	src.Pass(1, 0)
	src.Updates = 0
	sink := &collector{}
	lookback := func(w *extract.Walk) { w.Lookback = time.Hour }
	first := mustWalk(t, walkOver(src, lookback), sink)
	src.Pass(1, ahead+time.Second)
	mustWalk(t, walkOver(src, lookback, func(w *extract.Walk) { w.From = first.Final }), sink)
	newest := map[int]int{}
	for _, r := range sink.staged {
		id, n := extracttest.Identify(r)
		newest[id] = max(newest[id], n)
	}
	for _, c := range src.Contacts() {
		if newest[c.ID] < c.N {
			t.Errorf("contact %d, updated at %s, is delivered as of write %d of %d", c.ID, extract.FormatTime(c.Updated), newest[c.ID], c.N)
		}
	}
	if first.EndReason != extract.EndAtStop {
		t.Errorf("the first run ended by %q: none of this was ahead of it", first.EndReason)
	}
}
