//go:build unix

package cli

import (
	"io"
	"net/http"
	"net/http/httptest"
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
