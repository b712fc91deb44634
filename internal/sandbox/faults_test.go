package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestEachFaultIsWhatItSays(t *testing.T) {
	whole := call(t, newServer(t, Options{Contacts: 200, Seed: 1}), http.MethodGet, somePage, "").Body.Bytes()
	every := Rate{Every: 1}
	ask := func(o Options) (*Running, func() (*http.Response, []byte, error)) {
		o.Contacts, o.Seed = 200, 1
		_, run := start(t, o)
		return run, func() (*http.Response, []byte, error) { return fetch(t, run.URL+somePage) }
	}

	_, get := ask(Options{Fault500: every})
	if resp, body, err := get(); err != nil || resp.StatusCode != http.StatusInternalServerError || string(body) != `{"statusCode":500,"message":"Internal server error"}` {
		t.Error("500:", resp, string(body), err)
	}
	_, get = ask(Options{Fault502: every})
	if resp, body, err := get(); err != nil || resp.StatusCode != http.StatusBadGateway || resp.Header.Get("Content-Type") != "text/html" || !bytes.HasPrefix(body, []byte("<html>")) {
		t.Error("502:", resp, string(body), err)
	}
	_, get = ask(Options{FaultReset: every})
	if _, _, err := get(); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.EOF) {
		t.Error("reset:", err)
	}
	_, get = ask(Options{FaultTruncate: every})
	if resp, body, err := get(); err != nil || resp.StatusCode != http.StatusOK || !bytes.HasPrefix(whole, body) || len(body) != len(whole)/2 || json.Valid(body) {
		t.Error("truncate:", resp, len(body), err)
	}
	_, get = ask(Options{FaultCut: every})
	for _, chunked := range []bool{false, true} {
		resp, body, err := get()
		if !errors.Is(err, io.ErrUnexpectedEOF) || (resp.ContentLength < 0) != chunked || len(body) == 0 || len(body) >= len(whole) {
			t.Error("cut:", resp.ContentLength, len(body), err)
		}
	}
	_, get = ask(Options{FaultDisorder: every})
	_, body, err := get()
	if err != nil {
		t.Fatal(err)
	}
	got, want := ids(decodePage(t, body)), ids(decodePage(t, whole))
	want[0], want[len(want)-1] = want[len(want)-1], want[0]
	if !slices.Equal(got, want) {
		t.Error("disorder:", got)
	}
}

func TestAStallLastsUntilTheClientGivesUpOrTheBound(t *testing.T) {
	_, run := start(t, Options{Contacts: 200, Seed: 1, FaultStall: Rate{Every: 1}})
	for _, headers := range []bool{false, true} { // before the headers, then half way through the body
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, run.URL+somePage, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Api-Key", DefaultKey)
		resp, err := http.DefaultClient.Do(r)
		if (err == nil) != headers {
			t.Errorf("headers came: %v, want %v", err == nil, headers)
		}
		if err == nil {
			var body []byte
			body, err = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if len(body) == 0 {
				t.Error("no half of the body came")
			}
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		cancel()
	}
	_, bounded := start(t, Options{Contacts: 200, Seed: 1, FaultStall: Rate{Every: 1}, StallFor: time.Millisecond})
	for range 2 {
		if _, _, err := fetch(t, bounded.URL+somePage); err == nil {
			t.Error("a stall ended with an answer")
		}
	}
}

func TestRetryAfterComesInEachForm(t *testing.T) {
	header := func(o Options) []string {
		o.Contacts, o.Fault429, o.RetryAfterDelay = 5, Rate{Every: 1}, 1500*time.Millisecond
		s := newServer(t, o)
		var got []string
		for range 3 {
			w := call(t, s, http.MethodGet, somePage, "")
			if w.Code != http.StatusTooManyRequests || message(t, w) != "ThrottlerException: Too Many Requests" {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			got = append(got, w.Header().Get("Retry-After"))
		}
		return got
	}
	const date = "Wed, 02 Sep 2026 12:00:02 GMT"
	for mode, want := range map[string][]string{
		"": {"2", "2", "2"}, "seconds": {"2", "2", "2"}, "date": {date, date, date}, "none": {"", "", ""}, "mix": {"2", date, ""},
	} {
		if got := header(Options{RetryAfter: mode}); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", mode, got, want)
		}
	}
}

func TestTheRateLimitRefusesAndRecovers(t *testing.T) {
	clk := &manualClock{t: afterHistory}
	s := newServerAt(t, Options{Contacts: 5, Seed: 1, RateLimit: 2, RateBurst: 3}, clk)
	codes := func(n int) (out []int) {
		for range n {
			out = append(out, call(t, s, http.MethodGet, somePage, "").Code)
		}
		return out
	}
	if got := codes(5); !slices.Equal(got, []int{200, 200, 200, 429, 429}) {
		t.Errorf("at once: %v", got)
	}
	w := call(t, s, http.MethodGet, somePage, "")
	if w.Header().Get("Retry-After") != "1" {
		t.Errorf("Retry-After is %q", w.Header().Get("Retry-After"))
	}
	clk.add(time.Second)
	if got := codes(3); !slices.Equal(got, []int{200, 200, 429}) {
		t.Errorf("a second later: %v", got)
	}
	if w := call(t, s, http.MethodGet, "/_sandbox/stats", ""); w.Code != http.StatusOK {
		t.Error("the rate limit keeps a judge out")
	}
	if c := s.Stats(); c.RateLimited != 4 || c.Requests != 5 {
		t.Errorf("%+v", c)
	}
}

func TestFaultsComeAtTheirRateAndTheSameForTheSameSeed(t *testing.T) {
	run := func(o Options) (codes []int, s *Server) {
		o.Contacts = 5
		s = newServer(t, o)
		for range 1000 {
			codes = append(codes, call(t, s, http.MethodGet, somePage, "").Code)
		}
		return codes, s
	}
	o := Options{Seed: 11, Fault500: Rate{Share: 0.1}, Fault502: Rate{Share: 0.05}}
	a, s := run(o)
	b, _ := run(o)
	if !slices.Equal(a, b) {
		t.Error("two runs differ")
	}
	if c := s.Stats().Faults; c["500"] < 70 || c["500"] > 130 || c["502"] < 25 || c["502"] > 75 {
		t.Errorf("of 1000 requests: %v", c)
	}
	o.Seed = 12
	if c, _ := run(o); slices.Equal(a, c) {
		t.Error("another seed gave the same faults")
	}
	_, s = run(Options{Fault500: Rate{Every: 10}, Fault502: Rate{Every: 10}, Fault429: Rate{Every: 25}, FaultLimit: 60})
	if c := s.Stats().Faults; c["500"]+c["502"]+c["429"] != 60 || c["500"] < 20 || c["502"] < 20 || c["429"] < 8 {
		t.Errorf("by count: %v", c)
	}
}

func TestFaultsSpareWritesAndTheTruth(t *testing.T) {
	s := newServer(t, Options{Contacts: 50, Seed: 1, Fault500: Rate{Every: 1}})
	body := `{"channel":"whatsapp","contact_phone_number":"+56900000000"}`
	if w := call(t, s, http.MethodPost, "/api/public/customer/upsert/info", body); w.Code != http.StatusCreated {
		t.Errorf("upsert: %d %s", w.Code, w.Body)
	}
	if w := call(t, s, http.MethodGet, "/_sandbox/dump", ""); w.Code != http.StatusOK || strings.Count(w.Body.String(), "\n") != 51 {
		t.Errorf("dump: %d", w.Code)
	}
	if w := call(t, s, http.MethodGet, "/api/public/pipeline", ""); w.Code != http.StatusInternalServerError {
		t.Errorf("pipeline: %d", w.Code)
	}
}

func TestAFaultyRequestChangesNothing(t *testing.T) {
	s := newServer(t, Options{Contacts: 50, Seed: 1, Fault500: Rate{Every: 1}, UpdatesPerRequest: 5})
	before := dump(t, s)
	call(t, s, http.MethodGet, somePage, "")
	if !bytes.Equal(before, dump(t, s)) || s.Stats().Pages != 0 {
		t.Error("contacts changed")
	}
}
