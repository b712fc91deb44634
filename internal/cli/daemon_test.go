//go:build unix

package cli

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/sandbox"
)

// spoiled is a sandbox of which some answers go wrong.
type spoiled struct {
	*httptest.Server

	box *sandbox.Server
	mu  sync.Mutex
	// spoil takes the next pages of contacts, the first of it the next one.
	spoil []http.HandlerFunc
	// extra is a record that stands in front of every page's; empty for none.
	extra string
}

func newSpoiled(t *testing.T, contacts int) *spoiled {
	t.Helper()
	o := sandbox.DefaultOptions()
	o.Contacts = contacts
	box, err := sandbox.New(o, clock.System{})
	if err != nil {
		t.Fatal(err)
	}
	s := &spoiled{box: box}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

// ServeHTTP implements http.Handler.
func (s *spoiled) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !strings.HasSuffix(r.URL.Path, "/contacts") {
		s.box.Handler().ServeHTTP(w, r)
		return
	}
	if len(s.spoil) > 0 {
		next := s.spoil[0]
		s.spoil = s.spoil[1:]
		next(w, r)
		return
	}
	r.Header.Del("Accept-Encoding")
	page := httptest.NewRecorder()
	s.box.Handler().ServeHTTP(page, r)
	body := page.Body.String()
	if s.extra != "" && strings.HasPrefix(body, "[{") {
		body = "[" + s.extra + "," + body[1:]
	}
	w.Header().Set("Date", page.Header().Get("Date"))
	w.WriteHeader(page.Code)
	_, _ = io.WriteString(w, body)
}

// next has answers go wrong with these statuses, from the next one on.
func (s *spoiled) next(extra string, statuses ...int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.extra = extra
	for _, status := range statuses {
		s.spoil = append(s.spoil, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
	}
}

// pageAnswers returns what the daemon's page answers one who shows the token.
func pageAnswers(t *testing.T, method, address string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+pageToken)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s, %v\n%s", method, address, res.Status, err, body)
	}
	return string(body)
}

// scraped returns the metrics of a scrape that count what runs did, without those
// that are zero.
func scraped(t *testing.T, scrape string) map[string]int64 {
	t.Helper()
	all := map[string]int64{}
	for line := range strings.Lines(scrape) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
		name, _, _ := strings.Cut(series, "{")
		switch name {
		case "sluice_runs_total", "sluice_contacts_total", "sluice_source_requests_total", "sluice_source_retries_total", "sluice_quarantined_total", "sluice_destination_written_bytes_total":
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatal(err)
			}
			if n != 0 {
				all[series+"}"] = int64(n)
			}
		}
	}
	return all
}

// recorded returns the same of what `sluice runs --json` says.
func recorded(t *testing.T, lines string) map[string]int64 {
	t.Helper()
	all := map[string]int64{}
	for line := range strings.Lines(lines) {
		var r pastRun
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		add := func(series string, n int64) {
			if n != 0 {
				all[series] += n
			}
		}
		add(`sluice_runs_total{kind="`+r.Kind+`",pipeline="nightly",status="`+r.Status+`",trigger="manual"}`, 1)
		add(`sluice_contacts_total{change="new",pipeline="nightly"}`, r.New)
		add(`sluice_contacts_total{change="changed",pipeline="nightly"}`, r.Changed)
		add(`sluice_contacts_total{change="unchanged",pipeline="nightly"}`, r.Unchanged)
		if r.Deleted != nil {
			add(`sluice_contacts_total{change="deleted",pipeline="nightly"}`, *r.Deleted)
		}
		add(`sluice_source_requests_total{pipeline="nightly"}`, r.Requests)
		add(`sluice_source_retries_total{pipeline="nightly"}`, r.Retries)
		add(`sluice_quarantined_total{pipeline="nightly"}`, r.Quarantined)
		for where, w := range r.Written {
			add(`sluice_destination_written_bytes_total{destination="`+where+`",pipeline="nightly"}`, w.Bytes)
		}
	}
	return all
}

func TestMetricsCountWhatRunsRecordAndAFailureIsTold(t *testing.T) {
	t.Parallel()
	h, source := newHooks(t), newSpoiled(t, 40)
	w := newWorld(t, `version: 1
sources: {crm: {type: contacts_api, url: "SOURCE", api_key: "${KEY}", requests_per_second: 1000}}
destinations: {lake: {type: parquet, path: out}}
pipelines: {nightly: {source: crm, destinations: [lake], sync: snapshot, heartbeat: "${BEAT}"}}
notify: {ops: {type: webhook, url: "${HOOK}"}}
daemon: {token: "${TOKEN}", url: "https://sluice.example.com"}
`)
	w.write(t, "pipelines.yaml", strings.Replace(string(w.bytes(t, "pipelines.yaml")), "SOURCE", source.URL, 1))
	w.clock = clock.System{}
	w.env = map[string]string{"KEY": "sandbox", "BEAT": h.URL + "/beat", "HOOK": h.URL + "/hook", "TOKEN": pageToken}
	daemon, address := w.pageOf(t)
	for _, night := range []struct {
		name     string
		change   sandbox.Mutation
		extra    string
		statuses []int
		told     string
	}{
		{name: "a night with a request that is repeated", statuses: []int{500}, told: "/beat"},
		{name: "one with a record that is set aside", change: sandbox.Mutation{Updates: 3, Creates: 2}, extra: `{"id":"7f0c1d1e-0000-4000-8000-000000000001","updated_at":"2024-03-01T10:00:00.000Z"}`, told: "/beat"},
		{name: "one that fails", statuses: []int{403}, told: "/hook failure"},
		{name: "one that mends it", change: sandbox.Mutation{Updates: 1, Deletes: 4}, told: "/hook recovery"},
	} {
		source.box.Mutate(night.change)
		source.next(night.extra, night.statuses...)
		pageAnswers(t, http.MethodPost, address+"/pipelines/nightly/run")
		h.wait(t, night.told)
		if diff := cmp.Diff(recorded(t, w.sluice(t, "runs", "--json").mustBe(t, 0).out), scraped(t, pageAnswers(t, http.MethodGet, address+"/metrics"))); diff != "" {
			t.Errorf("%s: the metrics are not what runs record (-runs +metrics):\n%s", night.name, diff)
		}
		for _, probe := range []string{"/healthz", "/readyz"} {
			if got := strings.TrimSpace(pageAnswers(t, http.MethodGet, address+probe)); got != `{"status":"ok"}` {
				t.Errorf("%s: %s answers %s", night.name, probe, got)
			}
		}
	}
	h.heard(t, "in all", "/beat", "/beat", "/beat", "/hook failure", "/hook recovery")
	if link := `"page":"https://sluice.example.com/pipelines/nightly"`; strings.Count(h.all.String(), link) != 2 {
		t.Errorf("notices do not lead to the page:\n%s", h.all.String())
	}
	last := scraped(t, pageAnswers(t, http.MethodGet, address+"/metrics"))
	for series, least := range map[string]int64{
		`sluice_runs_total{kind="sync",pipeline="nightly",status="done",trigger="manual"}`: 3, `sluice_runs_total{kind="sync",pipeline="nightly",status="failed",trigger="manual"}`: 1,
		`sluice_contacts_total{change="new",pipeline="nightly"}`: 42, `sluice_contacts_total{change="changed",pipeline="nightly"}`: 3,
		`sluice_contacts_total{change="deleted",pipeline="nightly"}`: 4, `sluice_source_retries_total{pipeline="nightly"}`: 1, `sluice_quarantined_total{pipeline="nightly"}`: 1,
	} {
		if last[series] < least {
			t.Errorf("%s is %d, at least %d were made", series, last[series], least)
		}
	}
	if code := daemon.signal(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit %d:\n%s", code, daemon.text())
	}
}
