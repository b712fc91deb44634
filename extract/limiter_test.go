package extract_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-etl/sluice/extract"
)

// script is a transport that answers from a function, in virtual time.
type script func(n int, r *http.Request) (*http.Response, error)

type transport struct {
	mu     sync.Mutex
	n      int
	answer script
}

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	t.mu.Lock()
	n := t.n
	t.n++
	t.mu.Unlock()
	return t.answer(n, r)
}

func answer(status int, body string, header ...string) *http.Response {
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body)), ContentLength: -1}
}

func scripted(t *testing.T, s extract.Source, answer script) *extract.Client {
	t.Helper()
	s.BaseURL, s.Transport = "https://h", &transport{answer: answer}
	c, err := extract.NewClient(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func ok([]byte, extract.PageInfo) error { return nil }

func TestRetryAfterIsHonouredInBothForms(t *testing.T) {
	for name, c := range map[string]struct {
		header func(now time.Time) []string
		least  time.Duration
	}{
		"seconds": {func(time.Time) []string { return []string{"Retry-After", "17"} }, 17 * time.Second},
		"a date": {func(now time.Time) []string {
			return []string{"Retry-After", now.Add(20 * time.Second).Format(http.TimeFormat)}
		}, 19 * time.Second},
		"a date, clocks differ": {func(now time.Time) []string {
			return []string{"Date", now.Add(time.Hour).Format(http.TimeFormat), "Retry-After", now.Add(time.Hour + 20*time.Second).Format(http.TimeFormat)}
		}, 20 * time.Second},
		"a date that has passed": {func(now time.Time) []string {
			return []string{"Retry-After", now.Add(-time.Minute).Format(http.TimeFormat)}
		}, 0},
		"nonsense": {func(time.Time) []string { return []string{"Retry-After", "soon"} }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := scripted(t, extract.Source{RequestsPerSecond: -1}, func(n int, _ *http.Request) (*http.Response, error) {
					if n == 0 {
						return answer(429, "", c.header(time.Now().UTC())...), nil
					}
					return answer(200, "[]"), nil
				})
				began := time.Now()
				if _, err := client.Page(t.Context(), extract.Query{Days: 1}, ok); err != nil {
					t.Fatal(err)
				}
				if waited := time.Since(began); waited < c.least || waited > c.least+2*time.Second {
					t.Errorf("waited %s, want about %s", waited, c.least)
				}
			})
		})
	}
}

func TestARetryAfterBeyondTheBudgetIsGivenUpAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := scripted(t, extract.Source{}, func(int, *http.Request) (*http.Response, error) {
			return answer(429, "", "Retry-After", "3600"), nil
		})
		began := time.Now()
		resp, err := client.Page(t.Context(), extract.Query{Days: 1}, ok)
		var status *extract.StatusError
		if !errors.As(err, &status) || status.RetryAfter != time.Hour || resp.Requests != 1 || time.Since(began) > time.Second {
			t.Errorf("after %s and %d requests: %v", time.Since(began), resp.Requests, err)
		}
		if !strings.Contains(status.Hint(), "1h0m0s") {
			t.Errorf("hint is %q", status.Hint())
		}
	})
}

func TestA429PausesEveryWorkerOfTheHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hosts := extract.NewHosts()
		began := time.Now()
		var mu sync.Mutex
		var at []time.Duration
		note := func() {
			mu.Lock()
			defer mu.Unlock()
			at = append(at, time.Since(began))
		}
		limited := scripted(t, extract.Source{RequestsPerSecond: -1, Hosts: hosts}, func(n int, _ *http.Request) (*http.Response, error) {
			note()
			if n == 0 {
				return answer(429, "", "Retry-After", "30"), nil
			}
			return answer(200, "[]"), nil
		})
		other := scripted(t, extract.Source{RequestsPerSecond: -1, Hosts: hosts}, func(int, *http.Request) (*http.Response, error) {
			note()
			return answer(200, "[]"), nil
		})
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = limited.Page(t.Context(), extract.Query{Days: 1}, ok) })
		synctest.Wait()
		for range 3 {
			wg.Go(func() { _, _ = other.Page(t.Context(), extract.Query{Days: 1}, ok) })
		}
		wg.Wait()
		if len(at) != 5 {
			t.Fatalf("%d requests", len(at))
		}
		for _, d := range at[1:] {
			if d < 30*time.Second {
				t.Errorf("a request went out after %s, during the pause", d)
			}
		}
	})
}

func TestOneRateHoldsForAllClientsOfAHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hosts := extract.NewHosts()
		quick := func(int, *http.Request) (*http.Response, error) { return answer(200, "[]"), nil }
		began := time.Now()
		var wg sync.WaitGroup
		for _, rate := range []float64{10, 4} { // the lower one holds
			c := scripted(t, extract.Source{RequestsPerSecond: rate, Hosts: hosts}, quick)
			for range 3 {
				wg.Go(func() {
					for range 5 {
						if _, err := c.Page(t.Context(), extract.Query{Days: 1}, ok); err != nil {
							t.Error(err)
						}
					}
				})
			}
		}
		wg.Wait()
		// 30 requests at 4 a second, the first at once.
		if took := time.Since(began); took < 7*time.Second || took > 7500*time.Millisecond {
			t.Errorf("30 requests took %s", took)
		}
	})
}

func TestNoMoreRequestsAreInFlightThanAllowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var now, most int
		c := scripted(t, extract.Source{RequestsPerSecond: -1, Concurrency: 3}, func(int, *http.Request) (*http.Response, error) {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			now--
			mu.Unlock()
			return answer(200, "[]"), nil
		})
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { _, _ = c.Page(t.Context(), extract.Query{Days: 1}, ok) })
		}
		wg.Wait()
		if most != 3 {
			t.Errorf("%d were in flight", most)
		}
	})
}

func TestBackoffGrowsAndTheBudgetEndsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Time
		c := scripted(t, extract.Source{
			RequestsPerSecond: -1, MaxRetries: 100, RetryBudget: time.Minute,
			BackoffMin: time.Second, BackoffMax: 8 * time.Second,
		}, func(int, *http.Request) (*http.Response, error) {
			at = append(at, time.Now())
			return answer(500, "broken"), nil
		})
		_, err := c.Page(t.Context(), extract.Query{Days: 1}, ok)
		var status *extract.StatusError
		if !errors.As(err, &status) || status.Attempts != len(at) {
			t.Fatalf("error is %v after %d", err, len(at))
		}
		for i := 1; i < len(at); i++ {
			gap, full := at[i].Sub(at[i-1]), min(8*time.Second, time.Second<<(i-1))
			if gap < full/2 || gap > full {
				t.Errorf("wait %d was %s, want %s to %s", i, gap, full/2, full)
			}
		}
		if total := at[len(at)-1].Sub(at[0]); total > time.Minute || total < 30*time.Second {
			t.Errorf("gave up after %s and %d attempts", total, len(at))
		}
	})
}

func TestTheNamedTimeoutsEndARequest(t *testing.T) {
	for name, c := range map[string]struct {
		source extract.Source
		want   time.Duration
	}{
		"no header": {extract.Source{ResponseHeaderTimeout: 9 * time.Second}, 9 * time.Second},
		"no end":    {extract.Source{RequestTimeout: 11 * time.Second}, 11 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c.source.MaxRetries = -1
				client := scripted(t, c.source, func(_ int, r *http.Request) (*http.Response, error) {
					if name == "no header" {
						<-r.Context().Done()
						return nil, r.Context().Err()
					}
					return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: stalled{r.Context()}, ContentLength: -1}, nil
				})
				began := time.Now()
				_, err := client.Page(t.Context(), extract.Query{Days: 1}, ok)
				var transport *extract.TransportError
				if !errors.As(err, &transport) || transport.Cause != extract.CauseTimeout {
					t.Errorf("error is %v", err)
				}
				if took := time.Since(began); took != c.want {
					t.Errorf("it took %s", took)
				}
			})
		})
	}
}

type stalled struct{ ctx context.Context } //nolint:containedctx // a body has no other way to learn of it

func (s stalled) Read([]byte) (int, error) { <-s.ctx.Done(); return 0, s.ctx.Err() }
func (s stalled) Close() error             { return nil }

func TestCancellingEndsEveryWait(t *testing.T) {
	for name, status := range map[string]int{"pause": 429, "backoff": 500} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				c := scripted(t, extract.Source{BackoffMin: time.Minute, BackoffMax: time.Minute}, func(int, *http.Request) (*http.Response, error) {
					return answer(status, ""), nil
				})
				began := time.Now()
				resp, err := c.Page(ctx, extract.Query{Days: 1}, ok)
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 3*time.Second || resp.Requests != 1 {
					t.Errorf("after %s and %d requests: %v", time.Since(began), resp.Requests, err)
				}
			})
		})
	}
}
