package extract_test

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-etl/sluice/extract"
)

// load is a host whose answers take longer the more requests it has in hand.
type load struct {
	mu      sync.Mutex
	now     int
	latency func(inFlight int) time.Duration
	status  func(inFlight int) int // nil: 200
}

func (l *load) answer(_ int, r *http.Request) (*http.Response, error) {
	l.mu.Lock()
	l.now++
	latency, status := l.latency(l.now), 200
	if l.status != nil {
		status = l.status(l.now)
	}
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		l.now--
		l.mu.Unlock()
	}()
	select {
	case <-time.After(latency):
		return answer(status, "[]"), nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// set changes what the host does.
func (l *load) set(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

func steady(d time.Duration) func(int) time.Duration { return func(int) time.Duration { return d } }

// press keeps so many workers asking for a time.
func press(t *testing.T, c *extract.Client, workers int, d time.Duration) extract.ConcurrencyStats {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for ctx.Err() == nil {
				_, _ = c.Page(ctx, extract.Query{Days: 1}, ok)
			}
		})
	}
	wg.Wait()
	return c.Stats().Concurrency
}

func underLoad(t *testing.T, f func(t *testing.T, l *load, c *extract.Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &load{latency: steady(50 * time.Millisecond)}
		c := scripted(t, extract.Source{
			RequestsPerSecond: -1, Concurrency: 16, BackoffMin: 100 * time.Millisecond, BackoffMax: 100 * time.Millisecond,
		}, l.answer)
		f(t, l, c)
	})
}

func TestRequestsInFlightGrowToTheBoundOnAHealthySource(t *testing.T) {
	underLoad(t, func(t *testing.T, _ *load, c *extract.Client) {
		t.Helper()
		if s := c.Stats().Concurrency; s.Limit != 2 || s.Peak != 0 {
			t.Errorf("starts with %+v", s)
		}
		if s := press(t, c, 40, 350*time.Millisecond); s.Limit < 6 || s.Limit > 10 {
			t.Errorf("after seven answers' time: %+v", s)
		}
		if s := press(t, c, 40, time.Second); s.Limit != 16 || s.Peak != 16 || s.Backoffs != 0 {
			t.Errorf("ends with %+v", s)
		}
	})
}

func TestALimitOnWhichNothingPressesDoesNotGrow(t *testing.T) {
	underLoad(t, func(t *testing.T, _ *load, c *extract.Client) {
		t.Helper()
		if s := press(t, c, 1, time.Minute); s.Limit != 2 || s.Peak != 1 {
			t.Errorf("one worker leads to %+v", s)
		}
	})
}

func TestA429HalvesTheRequestsInFlightOnceAndTheyGrowAgain(t *testing.T) {
	underLoad(t, func(t *testing.T, l *load, c *extract.Client) {
		t.Helper()
		press(t, c, 40, 3*time.Second)
		l.set(func() { l.status = func(int) int { return 429 } })
		if s := press(t, c, 16, 60*time.Millisecond); s.Limit != 8 || s.Backoffs != 1 {
			t.Errorf("sixteen 429 at once lead to %+v", s)
		}
		l.set(func() { l.status = nil })
		if s := press(t, c, 40, 3*time.Second); s.Limit != 16 {
			t.Errorf("well again: %+v", s)
		}
	})
}

func TestRequestsInFlightSettleBelowWhatTheSourceRefuses(t *testing.T) {
	underLoad(t, func(t *testing.T, l *load, c *extract.Client) {
		t.Helper()
		refused, asked := 0, 0
		l.status = func(n int) int {
			asked++
			if n > 6 {
				refused++
				return 429
			}
			return 200
		}
		s := press(t, c, 40, time.Minute)
		if s.Limit > 8 || s.Backoffs < 5 || refused*20 > asked || asked < 60*20*4 {
			t.Errorf("%d of %d requests were refused: %+v", refused, asked, s)
		}
	})
}

func TestRequestsInFlightGiveWayToRisingLatency(t *testing.T) {
	underLoad(t, func(t *testing.T, l *load, c *extract.Client) {
		t.Helper()
		most := 0
		l.latency = func(n int) time.Duration { // three at a time, the rest queue
			most = max(most, n)
			return 50 * time.Millisecond * time.Duration(max(3, n)) / 3
		}
		s := press(t, c, 40, 10*time.Second)
		if s.Limit > 8 || s.Limit < 4 || most > 10 || s.Backoffs == 0 {
			t.Errorf("%d in flight at most: %+v", most, s)
		}
		// It does not creep up with the latency that it causes itself.
		if s = press(t, c, 40, 2*time.Minute); s.Limit > 8 || s.Limit < 4 || most > 10 {
			t.Errorf("%d in flight at most, later: %+v", most, s)
		}
		l.set(func() { l.latency = steady(50 * time.Millisecond) })
		if s = press(t, c, 40, 10*time.Second); s.Limit != 16 {
			t.Errorf("well again: %+v", s)
		}
	})
}

func TestASourceThatIsSlowByItselfIsTakenAsItIs(t *testing.T) {
	underLoad(t, func(t *testing.T, l *load, c *extract.Client) {
		t.Helper()
		press(t, c, 40, 3*time.Second)
		l.set(func() { l.latency = steady(400 * time.Millisecond) })
		if s := press(t, c, 40, 5*time.Second); s.Limit != 2 || s.Backoffs < 2 {
			t.Errorf("slow of a sudden: %+v", s)
		}
		if s := press(t, c, 40, time.Minute); s.Limit != 16 {
			t.Errorf("slow for long: %+v", s)
		}
	})
}

func TestTimeoutsAnd503AreSignsOfLoadAndABrokenBodyIsNot(t *testing.T) {
	for status, backs := range map[int]bool{503: true, 500: false, 408: true} {
		underLoad(t, func(t *testing.T, l *load, c *extract.Client) {
			t.Helper()
			press(t, c, 40, 3*time.Second)
			l.set(func() { l.status = func(int) int { return status } })
			if s := press(t, c, 40, 60*time.Millisecond); (s.Backoffs > 0) != backs {
				t.Errorf("status %d leads to %+v", status, s)
			}
		})
	}
}

func TestPlacesOfThoseWhoGaveUpAreNotLost(t *testing.T) {
	underLoad(t, func(t *testing.T, l *load, c *extract.Client) {
		t.Helper()
		var wg sync.WaitGroup
		for i := range 400 { // many give up at the moment at which a place is free
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%40)*10*time.Millisecond)
				defer cancel()
				_, _ = c.Page(ctx, extract.Query{Days: 1}, ok)
			})
		}
		wg.Wait()
		if l.now != 0 {
			t.Fatalf("%d are still in flight", l.now)
		}
		if s := press(t, c, 40, 3*time.Second); s.Limit != 16 || s.Peak != 16 {
			t.Errorf("afterwards: %+v", s)
		}
	})
}
