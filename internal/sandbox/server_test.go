package sandbox

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-etl/sluice/internal/clock"
)

func start(t *testing.T, o Options) (*Server, *Running) {
	t.Helper()
	s := newServer(t, o)
	run, err := s.Start(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := run.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, run
}

// fetch sends a GET with the key over the network; nothing is decompressed.
func fetch(t *testing.T, target string, header ...string) (*http.Response, []byte, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Api-Key", DefaultKey)
	for k := 0; k < len(header); k += 2 {
		r.Header.Set(header[k], header[k+1])
	}
	client := &http.Client{Transport: &http.Transport{DisableCompression: true, DisableKeepAlives: true}}
	resp, err := client.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return resp, body, err
}

const somePage = "/api/public/contacts?updated_after=2023-01-01&limit=50"

func TestTheKeyIsRequiredEverywhere(t *testing.T) {
	s := newServer(t, Options{Contacts: 5, Seed: 1, APIKey: "other"})
	for _, target := range []string{somePage, "/api/public/pipeline", "/_sandbox/dump", "/_sandbox/stats", "/nowhere", "/api/public/contacts?days=0"} {
		for _, key := range []string{"", DefaultKey, "Other"} {
			r := httptest.NewRequest(http.MethodGet, target, nil)
			if key != "" {
				r.Header.Set("X-Api-Key", key)
			}
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, r)
			if w.Code != http.StatusUnauthorized || !strings.Contains(message(t, w), "x-api-key") {
				t.Errorf("%s with key %q: %d %s", target, key, w.Code, w.Body)
			}
		}
	}
	if s.Stats().Pages != 0 {
		t.Error("a request without the key was answered")
	}
}

func TestUnknownPathsAndMethodsAre404(t *testing.T) {
	s := newServer(t, Options{Contacts: 5, Seed: 1})
	for _, test := range []struct{ method, path string }{
		{http.MethodPost, "/api/public/contacts"},
		{http.MethodGet, "/api/public/contact"},
		{http.MethodGet, "/api/public/customer/upsert/info"},
		{http.MethodDelete, "/"},
	} {
		w := call(t, s, test.method, test.path, "")
		if w.Code != http.StatusNotFound || message(t, w) != "Cannot "+test.method+" "+test.path {
			t.Errorf("%s %s: %d %s", test.method, test.path, w.Code, w.Body)
		}
	}
}

func TestTheServerListensOnLoopbackUnlessAsked(t *testing.T) {
	s := newServer(t, Options{Seed: 1})
	for _, addr := range []string{":0", "0.0.0.0:0", "[::]:0", "192.168.1.5:0", "example.com:0"} {
		if _, err := s.Start(t.Context(), addr); err == nil || !strings.Contains(err.Error(), "not a loopback address") {
			t.Errorf("%s: %v", addr, err)
		}
	}
	if _, err := s.Start(t.Context(), "127.0.0.1"); err == nil || !strings.Contains(err.Error(), "host:port") {
		t.Errorf("no port: %v", err)
	}
	remote := newServer(t, Options{Seed: 1, AllowRemote: true})
	run, err := remote.Start(t.Context(), "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Close(); err != nil {
		t.Error(err)
	}
}

func TestTheServerStopsWithItsContextEvenDuringAStall(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := newServer(t, Options{Contacts: 50, Seed: 1, FaultStall: Rate{Every: 1}})
	run, err := s.Start(ctx, "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	go func() {
		_, _, err := fetch(t, run.URL+somePage)
		failed <- err
	}()
	for s.Stats().Faults["stall"] == 0 { // until the stall has begun
		if _, _, err := fetch(t, run.URL+"/_sandbox/stats"); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := run.Wait(); err != nil {
		t.Error(err)
	}
	if err := <-failed; err == nil {
		t.Error("the stalled request was answered")
	}
	if _, _, err := fetch(t, run.URL+somePage); err == nil {
		t.Error("it still listens")
	}
}

func TestThePageIsCompressedForClientsThatAskForIt(t *testing.T) {
	_, run := start(t, Options{Contacts: 200, Seed: 1})
	plain, want, err := fetch(t, run.URL+somePage)
	if err != nil || plain.Header.Get("Content-Encoding") != "" {
		t.Fatal(plain.Header, err)
	}
	if plain.Header.Get("Content-Type") != "application/json; charset=utf-8" {
		t.Error(plain.Header)
	}
	for _, accept := range []string{"gzip", "br, gzip;q=0.5", "gzip, deflate"} {
		resp, body, err := fetch(t, run.URL+somePage, "Accept-Encoding", accept)
		if err != nil || resp.Header.Get("Content-Encoding") != "gzip" {
			t.Fatal(accept, resp.Header, err)
		}
		r, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: other bytes, %v", accept, err)
		}
	}
	for _, accept := range []string{"gzip;q=0", "br", "identity"} {
		if resp, _, _ := fetch(t, run.URL+somePage, "Accept-Encoding", accept); resp.Header.Get("Content-Encoding") != "" {
			t.Errorf("%s: %v", accept, resp.Header)
		}
	}
	_, off := start(t, Options{Contacts: 200, Seed: 1, NoGzip: true})
	if resp, _, _ := fetch(t, off.URL+somePage, "Accept-Encoding", "gzip"); resp.Header.Get("Content-Encoding") != "" {
		t.Error("compressed although turned off")
	}
}

func TestTheDateFollowsTheSandboxClock(t *testing.T) {
	for _, test := range []struct {
		o         Options
		date, age string
	}{
		{Options{}, "Wed, 02 Sep 2026 12:00:00 GMT", ""},
		{Options{Skew: -90 * time.Minute}, "Wed, 02 Sep 2026 10:30:00 GMT", ""},
		{Options{Skew: time.Hour}, "Wed, 02 Sep 2026 13:00:00 GMT", ""},
		{Options{Date: "off"}, "", ""},
		{Options{Date: "cached", DateAge: 2 * time.Minute}, "Wed, 02 Sep 2026 11:58:00 GMT", "120"},
		{Options{ClockStep: 10 * time.Second}, "Wed, 02 Sep 2026 12:00:10 GMT", ""},
	} {
		test.o.Contacts = 5
		_, run := start(t, test.o)
		resp, _, err := fetch(t, run.URL+somePage)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Header.Get("Date") != test.date || resp.Header.Get("Age") != test.age || len(resp.Header["Date"]) > 1 {
			t.Errorf("%+v: %v", test.o, resp.Header)
		}
	}
	s := newServer(t, Options{Contacts: 1, Seed: 1, Skew: time.Hour})
	if at := s.BulkTouch(1); !at.Equal(afterHistory.Add(time.Hour)) {
		t.Errorf("a change under skew has %s", at)
	}
}

func TestPagesCappedLengthenedAndWrapped(t *testing.T) {
	size := func(o Options, limit string) int {
		o.Contacts, o.Seed = 300, 1
		return len(list(t, newServer(t, o), params("updated_after", "2023-01-01", "limit", limit)))
	}
	for _, test := range []struct {
		o     Options
		limit string
		want  int
	}{
		{Options{PageCap: 40}, "100", 40},
		{Options{PageCap: 40}, "10", 10},
		{Options{PageExtra: 7}, "100", 107},
		{Options{PageExtra: 7, PageCap: 40}, "100", 47},
		{Options{PageExtra: 7}, "1000", 300},
	} {
		if got := size(test.o, test.limit); got != test.want {
			t.Errorf("%+v limit %s: %d contacts, want %d", test.o, test.limit, got, test.want)
		}
	}
	bare := call(t, newServer(t, Options{Contacts: 30, Seed: 1}), http.MethodGet, somePage, "").Body.String()
	for _, wrap := range []string{"data", "contacts"} {
		w := call(t, newServer(t, Options{Contacts: 30, Seed: 1, Wrap: wrap}), http.MethodGet, somePage, "")
		if got := w.Body.String(); got != `{"`+wrap+`":`+bare+`}` {
			t.Errorf("%s: %.80s", wrap, got)
		}
	}
}

func TestLatencyDelaysEveryAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServerAt(t, Options{Contacts: 5, Seed: 1, Latency: 50 * time.Millisecond, LatencyJitter: 20 * time.Millisecond}, clock.System{})
		different := map[time.Duration]bool{}
		for range 20 {
			before := time.Now()
			call(t, s, http.MethodGet, somePage, "")
			d := time.Since(before)
			if d < 50*time.Millisecond || d >= 70*time.Millisecond {
				t.Errorf("an answer took %s", d)
			}
			different[d] = true
		}
		if len(different) < 10 {
			t.Errorf("jitter gave %d different delays", len(different))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, somePage, nil)
		r.Header.Set("X-Api-Key", DefaultKey)
		s.Handler().ServeHTTP(httptest.NewRecorder(), r)
		if s.Stats().Pages != 20 {
			t.Error("a page was made for a client that had left")
		}
	})
}

func TestTheDumpOverHTTPIsTheTruth(t *testing.T) {
	s, run := start(t, Options{Contacts: 1500, Seed: 1})
	s.Mutate(Mutation{Updates: 100, Creates: 10, Deletes: 10})
	resp, body, err := fetch(t, run.URL+"/_sandbox/dump")
	if err != nil || resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Fatal(resp, err)
	}
	if !bytes.Equal(body, dump(t, s)) {
		t.Error("other bytes than Dump")
	}
	// Line by line it is what the pages say.
	fromPages := map[string]string{}
	for offset := 0; offset < 1500; offset += 1000 {
		w := call(t, s, http.MethodGet, contactsPath+"updated_after=2020-01-01&limit=1000&offset="+strconv.Itoa(offset), "")
		var raw []json.RawMessage
		if err := json.Unmarshal(w.Body.Bytes(), &raw); err != nil {
			t.Fatal(err)
		}
		for n, c := range decodePage(t, w.Body.Bytes()) {
			fromPages[c.str("id")] = string(raw[n])
		}
	}
	lines := bufio.NewScanner(bytes.NewReader(body))
	n := 0
	for lines.Scan() {
		n++
		var c listed
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		if fromPages[c.str("id")] != lines.Text() {
			t.Fatalf("page says %s\ndump says %s", fromPages[c.str("id")], lines.Text())
		}
	}
	if n != 1500 || len(fromPages) != 1500 {
		t.Errorf("%d lines, %d contacts in pages", n, len(fromPages))
	}
}

func TestTheControlsMutateOverHTTP(t *testing.T) {
	s := newServer(t, Options{Contacts: 100, Seed: 1})
	w := call(t, s, http.MethodPost, "/_sandbox/mutate", `{"updates":10,"silent":3,"creates":5,"deletes":2,"bulk":20}`)
	var got Stats
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Contacts != 103 || got.Updated != 13 || got.Silent != 3 || got.Touched != 20 || got.Created != 5 || got.Deleted != 2 {
		t.Errorf("%+v", got)
	}
	id := all(s)[0].ID
	if w := call(t, s, http.MethodPost, "/_sandbox/contact/"+id+"/touch", ""); w.Code != http.StatusOK {
		t.Errorf("touch: %d %s", w.Code, w.Body)
	}
	if w := call(t, s, http.MethodDelete, "/_sandbox/contact/"+id, ""); w.Code != http.StatusOK {
		t.Errorf("delete: %d %s", w.Code, w.Body)
	}
	if w := call(t, s, http.MethodDelete, "/_sandbox/contact/"+id, ""); w.Code != http.StatusNotFound {
		t.Errorf("delete again: %d %s", w.Code, w.Body)
	}
	for _, body := range []string{`{"updates":-1}`, `[]`, `x`} {
		if w := call(t, s, http.MethodPost, "/_sandbox/mutate", body); w.Code != http.StatusBadRequest {
			t.Errorf("%s: %d", body, w.Code)
		}
	}
}

func TestConcurrentReadersAndWritersSeeWholeContacts(t *testing.T) {
	s, run := start(t, Options{
		Contacts: 1000, Seed: 1, Updates: 300, Creates: 30, Deletes: 30, UpdatesPerRequest: 20, ShuffleTies: true,
		BulkEvery: 3, BulkSize: 50, LateShare: 0.2, LateDelay: time.Millisecond,
	})
	errs := make(chan error, 4)
	for n := range 4 {
		go func() {
			var failed error
			for k := range 6 {
				_, body, err := fetch(t, run.URL+contactsPath+"updated_after=2026-01-01&limit=200&offset="+strconv.Itoa(k*n), "Accept-Encoding", "gzip")
				if err == nil {
					var r *gzip.Reader
					if r, err = gzip.NewReader(bytes.NewReader(body)); err == nil {
						var page []listed
						err = json.NewDecoder(r).Decode(&page)
					}
				}
				if err != nil {
					failed = err
				}
				s.Mutate(Mutation{Creates: 1})
			}
			errs <- failed
		}()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	live := all(s)
	if !slices.IsSortedFunc(s.store.byUpdated.chunks, func(a, b []entry) int { return compareEntries(a[0], b[0]) }) || s.store.byUpdated.n < len(live)-100 {
		t.Error("the index is out of order")
	}
}

func TestFieldsAreOnTheInfoEndpointAloneWhereTheListIsBare(t *testing.T) {
	s := newServer(t, Options{Contacts: 200, Seed: 1, BareList: true})
	page := call(t, s, http.MethodGet, somePage, "").Body.String()
	if strings.Contains(page, `"custom_field`) || strings.Contains(page, `"metadata"`) {
		t.Error("the list has custom fields")
	}
	found := false
	s.Each(func(c Contact) bool {
		body := call(t, s, http.MethodGet, "/api/public/contact/"+c.ID+"/info", "").Body.String()
		found = strings.Contains(body, `"custom_field`)
		return !found
	})
	if !found {
		t.Error("the info endpoint has none either")
	}
}

func TestAKeyMayNotReadWhatIsForbidden(t *testing.T) {
	for forbid, want := range map[string][2]int{"none": {404, 200}, "info": {403, 200}, "pipeline": {404, 403}, "both": {403, 403}} {
		s := newServer(t, Options{Forbid: forbid})
		info := call(t, s, http.MethodGet, "/api/public/contact/00000000-0000-4000-8000-000000000000/info", "").Code
		pipeline := call(t, s, http.MethodGet, "/api/public/pipeline", "").Code
		if got := [2]int{info, pipeline}; got != want {
			t.Errorf("forbid %s: info and pipeline answer %v, want %v", forbid, got, want)
		}
	}
}
