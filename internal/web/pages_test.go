package web

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/internal/monitor"
	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/schemas"
)

func TestTheOverviewSaysInALineThatAllIsWell(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{}, nightly("nightly"), nightly("leads"), nightly("archive"))
	for i, name := range []string{"nightly", "leads", "archive"} {
		w.docs[name] = nights(name, 3, time.Duration(3+i)*time.Hour)
		w.next(name, 19*time.Hour)
	}
	page := words(w.browser(t).get("/", 200))
	has(t, page, "All 3 pipelines are fine; the oldest data is 5 h old.", "tomorrow 03:00", "America/Santiago", "(in 19 h)", "5 h old, 26 h allowed", "Duration")
	lacks(t, page, "Failed", "Running")
}

func TestTheOverviewTellsEveryHealth(t *testing.T) {
	t.Parallel()
	page := words(mixed(t, Options{}).browser(t).get("/", 200))
	has(t, page,
		"3 of 6 pipelines need a look.",
		"orders_crm failed at 03:00: read contacts: GET https://api.example.com/api/public/contacts: 503", "it tries again in 12 min",
		"archive : its state cannot be read: read state: format 9 is newer",
		"leads : its data is 31 h old, 26 h are allowed",
		"weekly_full running now", "onboarding has not run yet; the next run is in 19 h.",
		"Never run", "none yet",
		"reading all contacts (full) · 48,210 contacts · 49 pages · for 1 min 35 s · started by the schedule", "49%", "committed to lake",
		"It tries again today 08:12 (in 12 min) , until today 11:00 at most",
		"warehouse waits for 2 packages (2,100 rows, 790.0 kB), the oldest from Mon 31 Aug 06:00 failing since Mon 31 Aug 06:00",
	)
}

func TestPipelinesThatAreNotFineAreShownAlone(t *testing.T) {
	t.Parallel()
	w := mixed(t, Options{})
	b := w.browser(t)
	has(t, b.get("/", 200), `href="/?show=problems"`, "Show only those that are not fine")
	page := b.get("/?show=problems", 200)
	has(t, page, `aria-label="leads"`, `aria-label="orders_crm"`, `aria-label="onboarding"`)
	lacks(t, page, `aria-label="nightly"`, `aria-label="weekly_full"`)
}

func TestAHundredAccountsAreAGroupWithATally(t *testing.T) {
	t.Parallel()
	var list []monitor.Pipeline
	for i := range 100 {
		list = append(list, nightly(fmt.Sprintf("nightly[%q]", fmt.Sprintf("shop-%02d", i))))
	}
	w := newWorld(t, Options{}, append(list, nightly("other"))...)
	for i, p := range list {
		w.docs[p.Name] = nights(p.Name, 2, 5*time.Hour)
		if i == 7 {
			failed(w.docs[p.Name], 4*time.Hour, "no such host")
		}
	}
	w.docs["other"] = nights("other", 2, 5*time.Hour)
	page := w.browser(t).get("/", 200)
	has(t, words(page), "1 of 101 pipelines needs a look.", `nightly["shop-07"] failed`, "nightly 100 accounts: 1 failed, 99 fine")
	has(t, page, `href="/pipelines/nightly%5B%22shop-07%22%5D"`, `class="rows small"`)
	if n := strings.Count(page, "<article"); n != 101 {
		t.Errorf("%d pipelines are shown", n)
	}
	if n := len(page); n > 600_000 {
		t.Errorf("the page has %d bytes", n)
	}
}

func TestAPipelinesPageHasItsRunsQueuesAndColumns(t *testing.T) {
	t.Parallel()
	w := mixed(t, Options{})
	b := w.browser(t)
	page := words(b.get("/pipelines/orders_crm", 200))
	has(t, page, "2 packages, 2,100 rows, 790.0 kB", "open dataset crm: 403 access denied", "since Mon 31 Aug 06:00", "2026-09-02 03:00:00 incremental failed", "503 Service Unavailable", "Schedule 0 3 * * * America/Santiago", "Run now", "Start the backfill")
	has(t, words(b.get("/pipelines/nightly", 200)), "cf_customer_plan", "Cursor today 03:00")
	has(t, words(b.get("/pipelines/onboarding", 200)), "Never run", "None yet.")
	b.get("/pipelines/nobody", 404)
}

func TestARunsPageHasItsNumbersCoverageAndLog(t *testing.T) {
	t.Parallel()
	w := mixed(t, Options{})
	b := w.browser(t)
	runs := w.docs["nightly"].Runs
	page := words(b.get("/pipelines/nightly/runs/"+runs[29].RunID, 200))
	has(t, page, "done sync, incremental", "Changes by updated_at", "It ended because it reached the time at which the run began.",
		"after 2026-09-01 05:00:00 UTC, through 2026-09-02 05:00:00.123456 UTC",
		"2 blocks of contacts that share a timestamp, 1 of them drained statistically", "2026-09-01T23:00:00.001Z 2,300 12 the order changed between two requests",
		"updated_at moves forward on every exported change", "3 rate_limited", "2 cf_customer_age", "cf_customer_plan", "lake 3.0 MB written", "another process did")
	fails := w.docs["orders_crm"].Runs
	page = words(b.get("/pipelines/orders_crm/runs/"+fails[len(fails)-1].RunID, 200))
	has(t, page, "failed", "503 Service Unavailable", "9 id is missing 3 updated_at is not a time", "sluice quarantine list orders_crm", "the stages could not be read")
	page = words(b.get("/pipelines/weekly_full/runs/20260902T105825Z-abcdef", 200))
	has(t, page, "running", "began: full, first run of this pipeline", "reading all contacts: 48,210 contacts, 49 pages", "lake took package 1", "49%")
	b.get("/pipelines/nightly/runs/none", 404)
	b.get("/pipelines/nobody/runs/none", 404)
}

func TestARunWhoseCoverageCannotBeReadIsShownAllTheSame(t *testing.T) {
	t.Parallel()
	for _, record := range []string{`7`, `{"phases":"many"}`, `{"cursor_to":"yesterday"}`} {
		w := newWorld(t, Options{}, nightly("nightly"))
		w.docs["nightly"] = nights("nightly", 1, time.Hour)
		w.docs["nightly"].Runs[0].Coverage = []byte(record)
		has(t, words(w.browser(t).get("/pipelines/nightly/runs/"+w.docs["nightly"].Runs[0].RunID, 200)), "The record cannot be shown", "rows read")
	}
}

func TestAFailureWithoutARecordIsToldWithWhatToDo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{}, nightly("nightly"))
	w.docs["nightly"] = nights("nightly", 3, 5*time.Hour)
	w.breaks("nightly", "read contacts: no such host")
	b := w.browser(t)
	has(t, words(b.get("/", 200)), "nightly needs a look.", "nightly failed at 07:59: read contacts: no such host", "look at the source", "Failed")
	has(t, words(b.get("/pipelines/nightly", 200)), "What failed last", "look at the source")
}

func TestNamesErrorsAndFieldsCannotBecomeMarkup(t *testing.T) {
	t.Parallel()
	const nasty = `"><script>alert(1)</script><img src=x onerror=alert(2)>'`
	name := `nightly["` + nasty + `"]`
	p := nightly(name)
	p.Source, p.Table, p.Schedule, p.Destinations[0].Place, p.Destinations[0].Name = nasty, nasty, nasty, nasty, nasty
	w := newWorld(t, Options{}, p)
	w.docs[name] = failed(nights(name, 2, 30*time.Hour), 5*time.Hour, nasty)
	st := w.docs[name]
	last := &st.Runs[len(st.Runs)-1]
	last.QuarantinedBy, last.Notes, last.Mode, last.Status = map[string]int64{nasty: 3}, []string{nasty}, nasty, "failed"
	last.Coverage = []byte(strings.ReplaceAll(string(last.Coverage), "updated_at moves", `\"><script>alert(3)</script>`))
	st.Registry = []schemas.RegistryEntry{{Column: nasty, Key: nasty, Type: "string", FirstRun: last.RunID}}
	st.Destination(nasty).Error = nasty
	w.breaks(name, nasty)
	w.goes(name, nasty)
	w.actions.plan = nasty
	b := w.browser(t)
	for _, path := range []string{"/", pipelineURL(name), runURL(name, last.RunID), runURL(name, nasty), "/plan", "/login?next=" + url.QueryEscape(nasty)} {
		rec := b.do(http.MethodGet, path, nil)
		if rec.Code != 200 && path[:6] != "/login" {
			t.Errorf("%s: %d", path, rec.Code)
		}
		lacks(t, rec.Body.String(), "<script>alert", "<img src=x", `"><`+"script")
		if n := strings.Count(rec.Body.String(), "<script"); n > 1 {
			t.Errorf("%s: %d scripts", path, n)
		}
	}
	rec := b.post(pipelineURL(name), pipelineURL(name)+"/backfill", url.Values{"from": {nasty}, "to": {nasty}, "window": {nasty}})
	lacks(t, rec.Body.String(), "<script>alert", "<img src=x")
	if got := w.actions.all(); !strings.Contains(got, nasty) {
		t.Errorf("the name did not arrive as it is: %s", got)
	}
}

func TestThePlanIsLookedAtOnceAMinuteAndCountedOnRequest(t *testing.T) {
	t.Parallel()
	w := mixed(t, Options{})
	b := w.browser(t)
	page := b.get("/plan", 200)
	has(t, page, `class="add"`, "destination.lake.table.contacts", "Plan: 1 to add.")
	b.get("/plan", 200)
	if got := w.actions.all(); got != "plan false" {
		t.Errorf("asked for %q", got)
	}
	w.clock.move(61 * time.Second)
	b.get("/plan", 200)
	rec := b.post("/plan", "/plan", nil)
	if rec.Code != http.StatusSeeOther || rec.Header().Get("Location") != "/plan?counted=1" {
		t.Errorf("%d %s", rec.Code, rec.Header().Get("Location"))
	}
	has(t, b.get("/plan?counted=1", 200), "Count again")
	if got := w.actions.all(); got != "plan false\nplan false\nplan true" {
		t.Errorf("asked for %q", got)
	}
}

func TestAPlanThatFailsSaysWhy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{Hints: func(error) []string { return []string{"log in first"} }}, nightly("nightly"))
	w.actions.err = fmt.Errorf("plan pipeline nightly: no credentials")
	has(t, w.browser(t).get("/plan", 503), "Plan pipeline nightly: no credentials", "log in first")
}

func TestKeysAreTakenOutOfPages(t *testing.T) {
	t.Parallel()
	clean := func(b []byte) []byte { return []byte(strings.ReplaceAll(string(b), "s3cret-key", "(redacted)")) }
	w := newWorld(t, Options{Clean: clean}, nightly("nightly"))
	w.docs["nightly"] = failed(state.New("nightly"), time.Hour, "401 for s3cret-key")
	for _, path := range []string{"/", "/pipelines/nightly", "/pipelines/nightly/runs/" + w.docs["nightly"].Runs[0].RunID} {
		page := w.browser(t).get(path, 200)
		has(t, page, "401 for (redacted)")
		lacks(t, page, "s3cret")
	}
}
