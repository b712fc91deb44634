package extract_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/extract/extracttest"
)

// shelf is a source that stands still and answers at once: one contact for
// each of the times, in order, in whole milliseconds since 1970.
type shelf []int64

// newShelf spreads contacts over the two years before now, a distinct
// millisecond each; shape maps an even share of the contacts to a share of the
// time.
func newShelf(n int, now time.Time, shape func(float64) float64) shelf {
	const span = 2 * 365 * 24 * 3600 * 1000 // ms
	s, last := make(shelf, n), int64(0)
	for i := range s {
		at := now.UnixMilli() - 3600_000 - span + int64(shape(float64(i)/float64(n))*span)
		last = max(at, last+1)
		s[i] = last
	}
	return s
}

// shapes of growth, by name.
var shapes = map[string]func(float64) float64{
	"even":           func(x float64) float64 { return x },
	"growing":        math.Sqrt,
	"growing fast":   func(x float64) float64 { return math.Log1p(x*1000) / math.Log1p(1000) },
	"one busy month": func(x float64) float64 { return 0.4 + 0.04*x },
	"early and late": func(x float64) float64 {
		if x < 0.5 {
			return x * 0.02
		}
		return 0.99 + (x-0.5)*0.02
	},
}

func (s shelf) body(r *http.Request) ([]byte, error) {
	q := r.URL.Query()
	after, err := time.Parse(time.RFC3339, q.Get("created_after"))
	if err != nil {
		return nil, fmt.Errorf("parse created_after: %w", err)
	}
	limit, _ := strconv.Atoi(q.Get("limit"))
	offset, _ := strconv.Atoi(q.Get("offset"))
	i, found := slices.BinarySearch(s, after.UnixMilli())
	if found {
		i++
	}
	i = min(len(s), i+offset)
	var body []byte
	for j, at := range s[i:min(len(s), i+limit)] {
		for _, field := range []uint64{uint64(i+j) + 1, uint64(at * 1000), uint64(at * 1000), 1, 1, 0} {
			body = binary.BigEndian.AppendUint64(body, field)
		}
	}
	return body, nil
}

// RoundTrip implements http.RoundTripper, with a latency of 50 ms.
func (s shelf) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := s.body(r)
	if err != nil {
		return nil, err
	}
	time.Sleep(latency)
	h := http.Header{"Date": {time.Now().UTC().Format(http.TimeFormat)}}
	return &http.Response{StatusCode: http.StatusOK, Header: h, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body))}, nil
}

func (s shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := s.body(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	time.Sleep(latency)
	_, _ = w.Write(body)
}

const latency = 50 * time.Millisecond

// tally is a sink that counts.
type tally struct {
	rows []extract.Row
	kept int
}

func (s *tally) Window(extract.Interval) error { return nil }

func (s *tally) Decode(body []byte, _ extract.PageInfo) (rows []extract.Row, err error) {
	s.rows, err = extracttest.Decode(body)
	return s.rows, err
}

func (s *tally) Stage(_ context.Context, skip []bool) error {
	for i := range s.rows {
		if skip == nil || !skip[i] {
			s.kept++
		}
	}
	return nil
}

func (s *tally) Advance(context.Context, extract.Progress) error { return nil }

// fullRead scans all that a client's source has.
func fullRead(tb testing.TB, c *extract.Client, workers, pageSize, contacts int) (extract.ScanOutcome, []*tally) {
	tb.Helper()
	var sinks []*tally
	s := &extract.Scan{
		Client: c, Key: extract.ByCreated, Remaining: []extract.Interval{{}}, Lookback: time.Minute,
		PageSize: pageSize, Workers: workers,
		Sink: func(int) extract.WindowSink {
			sinks = append(sinks, &tally{})
			return sinks[len(sinks)-1]
		},
	}
	out, err := s.Run(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	kept := 0
	for _, s := range sinks {
		kept += s.kept
	}
	if kept != contacts || out.Rows != int64(contacts) {
		tb.Fatalf("%d rows of %d contacts were staged, %d counted", kept, contacts, out.Rows)
	}
	return out, sinks
}

func TestAFullReadTakesLittleMoreThanTheIdealTime(t *testing.T) {
	const pages, pageSize, inFlight = 1000, 50, 8
	ideal := pages * latency / inFlight
	for name, shape := range shapes {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				src := newShelf(pages*pageSize, time.Now(), shape)
				c, err := extract.NewClient(extract.Source{
					BaseURL: "https://h", Transport: src, RequestsPerSecond: -1, Concurrency: inFlight,
				}, nil)
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				out, sinks := fullRead(t, c, inFlight, pageSize, len(src))
				took := time.Since(began)
				t.Logf("%d requests, %d windows, %s: %.3f of the ideal; %+v", out.Requests, out.Windows, took, float64(took)/float64(ideal), c.Stats().Concurrency)
				if took > ideal*115/100 {
					t.Errorf("a full read of %d pages took %s, ideal is %s", pages, took, ideal)
				}
				if float64(out.Requests) > 1.1*pages {
					t.Errorf("a full read of %d pages took %d requests", pages, out.Requests)
				}
				for i, s := range sinks {
					if s.kept < len(src)/inFlight*3/4 {
						t.Errorf("worker %d had %d of %d contacts", i, s.kept, len(src))
					}
				}
			})
		})
	}
}

func TestNoOtherWorkerAsksOnceOneHasFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, failed, after := newShelf(5000, time.Now(), shapes["even"]), time.Time{}, 0
		var mu sync.Mutex
		c := scripted(t, extract.Source{RequestsPerSecond: -1, Concurrency: 4}, func(n int, r *http.Request) (*http.Response, error) {
			mu.Lock()
			if !failed.IsZero() && time.Now().After(failed) {
				after++
			}
			mu.Unlock()
			resp, err := src.RoundTrip(r)
			if n == 40 {
				mu.Lock()
				defer mu.Unlock()
				failed = time.Now()
				return answer(400, "no more"), nil
			}
			return resp, err
		})
		s := &extract.Scan{
			Client: c, Key: extract.ByCreated, Remaining: []extract.Interval{{}}, PageSize: 20, Workers: 4, SlicePages: 1000,
			Sink: func(int) extract.WindowSink { return &tally{} },
		}
		_, err := s.Run(t.Context())
		if bad := (*extract.BadRequestError)(nil); !errors.As(err, &bad) || after > 0 {
			t.Errorf("%d requests after the failure; %v", after, err)
		}
	})
}

// BenchmarkFullRead reads 1,000 pages from a server that answers after 50 ms,
// 8 at a time, and reports the ratio to pages x latency / 8.
func BenchmarkFullRead(b *testing.B) {
	const pages, pageSize, inFlight = 1000, 1000, 8
	for _, name := range []string{"even", "growing fast"} {
		b.Run(name, func(b *testing.B) {
			src := newShelf(pages*pageSize, time.Now(), shapes[name])
			server := httptest.NewServer(src)
			defer server.Close()
			var requests int64
			for b.Loop() {
				c, err := extract.NewClient(extract.Source{BaseURL: server.URL, RequestsPerSecond: -1, Concurrency: inFlight}, nil)
				if err != nil {
					b.Fatal(err)
				}
				out, _ := fullRead(b, c, inFlight, pageSize, len(src))
				requests = out.Requests
				c.Close()
			}
			b.ReportMetric(b.Elapsed().Seconds()/float64(b.N)/(pages*latency/inFlight).Seconds(), "time/ideal")
			b.ReportMetric(float64(requests)/pages, "requests/page")
		})
	}
}
