package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/monitor"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/schedule"
	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/schemas"
)

// breakfast is when tests look at the page.
var breakfast = time.Date(2026, 9, 2, 12, 0, 0, 0, time.UTC) // 08:00 in Santiago

// world is a page with the monitor and the actions behind it.
type world struct {
	*Page
	monitor *monitor.Monitor
	docs    map[string]*state.Pipeline
	broken  map[string]error // pipelines whose state cannot be read
	clock   *hands
	actions *recorder
	log     *bytes.Buffer
}

// hands is a clock that a test moves.
type hands struct {
	mu sync.Mutex
	t  time.Time
}

func (h *hands) Now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.t
}

func (h *hands) move(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.t = h.t.Add(d)
}

var _ clock.Clock = (*hands)(nil)

// recorder notes what the page asks for.
type recorder struct {
	mu    sync.Mutex
	asked []string
	err   error
	plan  string
}

func (r *recorder) note(text string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, text)
	return r.err
}

func (r *recorder) RunNow(_ context.Context, pipeline string) error { return r.note("run " + pipeline) }

func (r *recorder) Backfill(_ context.Context, b BackfillRequest) error {
	return r.note(fmt.Sprintf("backfill %+v", b))
}

func (r *recorder) Plan(_ context.Context, count bool) (string, error) {
	return r.plan, r.note(fmt.Sprintf("plan %v", count))
}

func (r *recorder) all() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.asked, "\n")
}

func newWorld(t *testing.T, o Options, list ...monitor.Pipeline) *world {
	t.Helper()
	w := &world{
		docs: map[string]*state.Pipeline{}, broken: map[string]error{}, clock: &hands{t: breakfast},
		actions: &recorder{plan: "  + destination.lake.table.contacts\n\nPlan: 1 to add.\n"}, log: &bytes.Buffer{},
	}
	w.monitor = monitor.New(monitor.Options{
		Clock: w.clock, Pipelines: list, Refresh: time.Nanosecond,
		Load: func(_ context.Context, name string) (*state.Pipeline, error) {
			if err := w.broken[name]; err != nil {
				return nil, err
			}
			if d := w.docs[name]; d != nil {
				return d, nil
			}
			return state.New(name), nil
		},
		Hints: func(error) []string { return []string{"look at the source"} },
	})
	o.Clock, o.Monitor, o.Actions, o.Port, o.Command = w.clock, w.monitor, w.actions, "8420", "sluice"
	o.Log = slog.New(slog.NewTextHandler(w.log, nil))
	var err error
	if w.Page, err = New(o); err != nil {
		t.Fatal(err)
	}
	return w
}

// nightly is a pipeline that runs every night.
func nightly(name string) monitor.Pipeline {
	santiago, err := time.LoadLocation("America/Santiago")
	if err != nil {
		panic(err)
	}
	return monitor.Pipeline{
		Name: name, Source: "crm", Table: "contacts", Sync: "incremental", Schedule: "0 3 * * *", Location: santiago, Freshness: 26 * time.Hour,
		Destinations: []monitor.Destination{{Name: "lake", Type: "parquet", Place: "out/contacts"}, {Name: "warehouse", Type: "bigquery", Place: "my-project.crm.contacts"}},
	}
}

// nights makes the state of a pipeline that has run for so many nights, the last
// one so long ago.
func nights(name string, n int, ago time.Duration) *state.Pipeline {
	st := state.New(name)
	for i := range n {
		start := breakfast.Add(-ago).AddDate(0, 0, i-n+1)
		end := start.Add(time.Duration(3000+i*37%900) * time.Millisecond)
		deleted := int64(i % 3)
		st.RecordRun(state.RunRecord{
			RunID: runID(start), Kind: "sync", Mode: "incremental", Status: "done", StartedAt: start, FinishedAt: &end,
			New: int64(20 + i*13%40), Changed: int64(300 + i*71%250), Unchanged: 40, Deleted: &deleted,
			Requests: int64(8 + i%5), Retries: int64(i % 7 / 5), Pages: 6, Rows: int64(360 + i*71%250), Coverage: covered(start),
			Written: map[string]state.Written{"lake": {Bytes: 3_047_619}},
		})
		st.Cursor, st.NextPackage = &start, int64(i+2)
		st.Destination("lake").Position, st.Destination("warehouse").Position = int64(i+1), int64(i+1)
	}
	return st
}

func runID(start time.Time) string { return start.Format("20060102T150405Z") + "-f3cb5e" }

func covered(start time.Time) json.RawMessage {
	return fmt.Appendf(nil, `{"reason":"changes since the cursor","source":"https://api.example.com","cursor_from":%q,"cursor_to":%q,"duplicates":6,
"retries_by":{"rate_limited":3},"quarantined_by":{},"misfits":{"cf_customer_age":2},"discarded":{},
"phases":[{"phase":"changes","outcome":{"key":"updated_at","from":"2026-09-01T05:00:00Z","final":[{"after":"2026-09-01T05:00:00Z","through":"2026-09-02T05:00:00.123456Z"}],
"end_reason":"start_of_run","windows":1,"pages":6,"requests":8,"rows":360,"duplicates":6,
"ties":[{"at":"2026-09-01T23:00:00.001Z","size":2300,"passes":12,"requests":90,"statistical":true,"why":"the order changed between two requests"},{"at":"2026-09-01T23:10:00Z","size":40,"passes":1,"requests":2,"statistical":false}],
"assumptions":["updated_at moves forward on every exported change","created_at and id of a contact never change"]}}]}`,
		start.Add(-24*time.Hour).Format(time.RFC3339Nano), start.Format(time.RFC3339Nano))
}

// failed adds a run that failed.
func failed(st *state.Pipeline, ago time.Duration, text string) *state.Pipeline {
	start := breakfast.Add(-ago)
	end := start.Add(2 * time.Second)
	st.RecordRun(state.RunRecord{
		RunID: runID(start), Kind: "sync", Mode: "incremental", Status: "failed", StartedAt: start, FinishedAt: &end, Error: text, Requests: 5, Retries: 4,
		Quarantined: 12, QuarantinedBy: map[string]int64{"id is missing": 9, "updated_at is not a time": 3}, Coverage: covered(start), Notes: []string{"the stages could not be read"},
	})
	return st
}

// goes has a pipeline run, as far as reading half of what changed.
func (w *world) goes(name, id string) {
	w.monitor.Schedule(schedule.Event{Type: schedule.Started, Name: name, Trigger: schedule.Timed, Attempt: 1, Time: w.clock.Now().Add(-95 * time.Second)})
	w.monitor.Observe("", run.Event{Type: "run_started", RunID: id, Pipeline: name, Mode: "full", Reason: "first run of this pipeline", Time: w.clock.Now().Add(-95 * time.Second)})
	for _, at := range []string{"2026-01-01T00:00:00Z", "2026-05-01T00:00:00Z"} {
		w.monitor.Observe("", run.Event{
			Type: "progress", RunID: id, Pipeline: name, Mode: "full", Phase: "scan", Contacts: 48_210, Pages: 49, Mark: at, Goal: "2026-09-01T00:00:00Z", Time: w.clock.Now(),
		})
	}
	w.monitor.Observe("", run.Event{Type: "committed", RunID: id, Pipeline: name, Destination: "lake", Package: 1, Time: w.clock.Now()})
}

// breaks has a run fail before it has a record.
func (w *world) breaks(name, text string) {
	w.monitor.Schedule(schedule.Event{Type: schedule.Started, Name: name, Trigger: schedule.Timed, Attempt: 1, Time: w.clock.Now().Add(-time.Minute)})
	w.monitor.Schedule(schedule.Event{Type: schedule.Failed, Name: name, Trigger: schedule.Timed, Attempt: 1, Time: w.clock.Now().Add(-time.Minute), Err: errors.New(text)})
}

func (w *world) next(name string, in time.Duration) {
	w.monitor.Schedule(schedule.Event{Type: schedule.Next, Name: name, At: w.clock.Now().Add(in)})
}

// mixed is a world with a pipeline of each health.
func mixed(t *testing.T, o Options) *world {
	t.Helper()
	names := []string{"nightly", "orders_crm", "leads", "weekly_full", "onboarding", "archive"}
	var list []monitor.Pipeline
	for _, n := range names {
		list = append(list, nightly(n))
	}
	w := newWorld(t, o, list...)
	w.docs["nightly"] = nights("nightly", 30, 5*time.Hour)
	w.docs["nightly"].Registry = []schemas.RegistryEntry{{Key: "plan", Column: "cf_customer_plan", Type: schemas.String, FirstRun: w.docs["nightly"].Runs[29].RunID, FirstSeen: breakfast.Add(-5 * time.Hour)}}
	w.docs["orders_crm"] = failed(nights("orders_crm", 29, 29*time.Hour), 5*time.Hour, `read contacts: GET https://api.example.com/api/public/contacts: 503 Service Unavailable: "upstream connect error" (given up after 5m0s)`)
	q := w.docs["orders_crm"].Destination("warehouse")
	q.Error, q.FailingSince = "open dataset crm: 403 access denied", new(breakfast.Add(-50*time.Hour))
	q.Queue = []state.PackageRef{{Serial: 28, Rows: 1200, Bytes: 480_000, SealedAt: breakfast.Add(-50 * time.Hour)}, {Serial: 29, Rows: 900, Bytes: 310_000, SealedAt: breakfast.Add(-29 * time.Hour)}}
	w.docs["leads"] = nights("leads", 12, 31*time.Hour)
	w.docs["weekly_full"] = nights("weekly_full", 30, 25*time.Hour)
	w.docs["weekly_full"].Runs[8].Status = "failed"
	w.docs["archive"] = nights("archive", 3, 4*time.Hour)
	w.broken["archive"] = errors.New("read state: format 9 is newer than this version of sluice knows (1)")
	for i, n := range names {
		w.next(n, 19*time.Hour+time.Duration(i)*time.Minute)
	}
	w.monitor.Schedule(schedule.Event{Type: schedule.Retrying, Name: "orders_crm", Attempt: 2, At: breakfast.Add(12 * time.Minute), Until: breakfast.Add(3 * time.Hour), Err: errors.New("503")})
	w.goes("weekly_full", "20260902T105825Z-abcdef")
	return w
}

// browser is a client as a browser is one: it keeps cookies and tells where a
// form comes from.
type browser struct {
	t       *testing.T
	h       http.Handler
	host    string
	cookies map[string]*http.Cookie
	headers http.Header
}

func (w *world) browser(t *testing.T) *browser {
	t.Helper()
	return &browser{t: t, h: w, host: "127.0.0.1:8420", cookies: map[string]*http.Cookie{}, headers: http.Header{"Accept": {"text/html"}}}
}

func (b *browser) do(method, path string, form url.Values) *httptest.ResponseRecorder {
	b.t.Helper()
	r := httptest.NewRequestWithContext(b.t.Context(), method, path, strings.NewReader(form.Encode()))
	r.Host = b.host
	for name, v := range b.headers {
		r.Header[name] = v
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if _, told := r.Header["Sec-Fetch-Site"]; !told {
			r.Header.Set("Sec-Fetch-Site", "same-origin")
		}
	}
	for _, c := range b.cookies {
		r.AddCookie(c)
	}
	rec := httptest.NewRecorder()
	b.h.ServeHTTP(rec, r)
	for _, c := range rec.Result().Cookies() {
		if c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		} else {
			b.cookies[c.Name] = c
		}
	}
	return rec
}

func (b *browser) get(path string, code int) string {
	b.t.Helper()
	rec := b.do(http.MethodGet, path, nil)
	if rec.Code != code {
		b.t.Fatalf("GET %s: %d, want %d\n%s", path, rec.Code, code, rec.Body)
	}
	return rec.Body.String()
}

var hidden = regexp.MustCompile(`name="form" value="([^"]+)"`)

// token is that of the forms of a page.
func (b *browser) token(path string) string {
	b.t.Helper()
	m := hidden.FindStringSubmatch(b.do(http.MethodGet, path, nil).Body.String())
	if m == nil {
		b.t.Fatalf("%s has no form", path)
	}
	return m[1]
}

// post sends a form with its token.
func (b *browser) post(page, action string, form url.Values) *httptest.ResponseRecorder {
	b.t.Helper()
	if form == nil {
		form = url.Values{}
	}
	form.Set("form", b.token(page))
	return b.do(http.MethodPost, action, form)
}

// has fails the test where a text lacks one of the others.
func has(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, s := range want {
		if !strings.Contains(text, s) {
			t.Errorf("%q is not in:\n%s", s, text)
		}
	}
}

func lacks(t *testing.T, text string, unwanted ...string) {
	t.Helper()
	for _, s := range unwanted {
		if strings.Contains(text, s) {
			t.Errorf("%q is in:\n%s", s, text)
		}
	}
}

// words is a page's text without its tags.
func words(page string) string {
	text := regexp.MustCompile(`<[^>]*>`).ReplaceAllString(page, " ")
	return strings.Join(strings.Fields(strings.NewReplacer("&#34;", `"`, "&#39;", "'", "&amp;", "&", "&gt;", ">", "&lt;", "<").Replace(text)), " ")
}
