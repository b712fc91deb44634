package extract_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/extract/extracttest"
)

// windowed is a source and the judge of who reads a window of it: the contacts
// that were in the window when the reading began, in which version, without
// those that have left it since.
type windowed struct {
	*extracttest.Source
	days  int
	must  map[int]int
	moved map[int]bool // of must: changed since
}

func (w *windowed) begin() {
	w.must, w.moved = map[int]int{}, map[int]bool{}
	for id := range w.Len() {
		if content, ok := w.InWindow(id, w.days); ok {
			w.must[id] = content
		}
	}
}

func (w *windowed) Page(ctx context.Context, q extract.Query, decode func([]byte, extract.PageInfo) error) (extract.Response, error) {
	resp, err := w.Source.Page(ctx, q, decode)
	for id, was := range w.must {
		content, ok := w.InWindow(id, w.days)
		if !ok {
			delete(w.must, id)
		} else if content != was {
			w.moved[id] = true
		}
	}
	return resp, err
}

// versions is a sink that keeps the newest version of each contact, and
// forgets what was staged and not kept by the end.
type versions struct {
	page []extract.Row
	got  map[int]int
	at   map[int][]int64 // where each contact was seen
	rows int64
}

func newVersions() *versions { return &versions{got: map[int]int{}, at: map[int][]int64{}} }

func (v *versions) Window(extract.Interval) error { return nil }

func (v *versions) Decode(body []byte, _ extract.PageInfo) (rows []extract.Row, err error) {
	v.page, err = extracttest.Decode(body)
	return v.page, err
}

func (v *versions) Stage(_ context.Context, skip []bool) error {
	for i, r := range v.page {
		if skip == nil || !skip[i] {
			id, _ := extracttest.Identify(r)
			v.got[id] = max(v.got[id], extracttest.Content(r))
			v.rows++
		}
	}
	return nil
}

func (v *versions) Advance(context.Context, extract.Progress) error { return nil }

// verdict is what the judge says of one reading.
type windowVerdict struct {
	lost     int // without excuse
	unproven int // in what is recorded as statistical
	first    int // contact
	err      error
	out      extract.Outcome
}

func (w *windowed) judge(v *versions, out extract.Outcome) (d windowVerdict) {
	d.out = out
	excused := false
	for _, b := range out.Ties {
		excused = excused || b.Statistical
	}
	for id, content := range w.must {
		switch got, ok := v.got[id]; {
		case ok && got >= content:
		case excused:
			d.unproven++
		default:
			d.lost++
			d.first = id
		}
	}
	return d
}

// recentReader reads the window into a sink.
type recentReader func(ctx context.Context, s schedule, src *windowed, sink *versions, seed uint64) (extract.Outcome, error)

func recentBy(without extract.Rule) recentReader {
	return func(ctx context.Context, s schedule, src *windowed, sink *versions, seed uint64) (extract.Outcome, error) {
		w := &extract.Recent{
			Client: src, Days: src.days, StopAt: src.Now(), Lookback: s.lookback, PageSize: s.pageSize, Clock: src, Seed: seed,
		}
		w.Without(without)
		return w.Run(ctx, sink)
	}
}

// newRecentSchedule is a schedule with messages.
func newRecentSchedule(seed uint64) schedule {
	s := newSchedule(seed)
	r := rand.New(rand.NewPCG(seed, 13))
	pick := func(rates ...float64) float64 { return rates[r.IntN(len(rates))] }
	s.pageSize = max(s.pageSize, 3)
	o := &s.source
	o.Days = 1 + r.IntN(3)
	o.Messages, o.Touch = pick(0, 0.3, 1, 4), r.IntN(2) == 0
	if o.Updates > 5 {
		o.Messages = o.Updates
	}
	o.Updates = min(o.Updates, 1)
	o.AgeHidden = false // within the second of a Date that nothing marks as a cache's, it cannot be seen
	if o.Contacts < 12 {
		o.Messages = min(o.Messages, 0.3)
	}
	return s
}

// playRecent lets a reader read a window some times over.
func playRecent(ctx context.Context, s schedule, read recentReader) (worst windowVerdict, all []extract.Outcome) {
	src := &windowed{Source: extracttest.New(s.source), days: s.source.Days}
	r := rand.New(rand.NewPCG(s.seed, 14))
	for range 1 + s.runs/2 {
		src.Budget = requestBudget
		sink := newVersions()
		src.begin()
		out, err := read(ctx, s, src, sink, r.Uint64())
		all = append(all, out)
		order := (*extract.OrderError)(nil)
		switch {
		case errors.As(err, &order): // a page out of order, again and again: nothing was promised
			continue
		case err != nil:
			worst.err = err
			return worst, all
		}
		d := src.judge(sink, out)
		worst.unproven += d.unproven
		if d.lost > 0 {
			worst.lost, worst.first, worst.out = worst.lost+d.lost, d.first, out
		}
		src.Pass(r.IntN(12), time.Duration(1+r.IntN(2000))*time.Millisecond)
	}
	return worst, all
}

func TestSimulatedReadingsOfTheRecentSkipNoContact(t *testing.T) {
	n, _ := envNumber(t, "SLUICE_SIM_SCHEDULES", 300)
	first := uint64(1)
	if seed, ok := envNumber(t, "SLUICE_SIM_SEED", 0); ok {
		first, n = seed, 1
	}
	var runs, requests, statistical, losses int
	why := map[string]int{}
	for seed := first; seed < first+n; seed++ {
		s := newRecentSchedule(seed)
		d, all := playRecent(t.Context(), s, recentBy(0))
		if d.lost > 0 || d.err != nil {
			t.Errorf("seed %d: %d contacts lost, such as %d; %v\nreproduce with SLUICE_SIM_SEED=%d\n%+v\n%+v", seed, d.lost, d.first, d.err, seed, s, d.out)
		}
		losses += d.unproven
		for _, out := range all {
			runs++
			requests += int(out.Requests)
			for _, b := range out.Ties {
				if b.Statistical {
					statistical++
					why[strings.Join(strings.Fields(b.Why)[:3], " ")]++
				}
			}
		}
	}
	t.Logf("%d schedules from seed %d: %d readings, %d requests, %d statistical blocks, %d contacts lost in those", n, first, runs, requests, statistical, losses)
	for w, n := range why {
		t.Logf("%6d %s", n, w)
	}
}
