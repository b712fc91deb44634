package web

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

const secret = "correct horse battery"

func TestAFormIsTakenFromThePageAlone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		spoil func(*browser, url.Values)
		code  int
	}{
		{"as the page sends it", func(*browser, url.Values) {}, 303},
		{"from another site", func(b *browser, _ url.Values) { b.headers.Set("Sec-Fetch-Site", "cross-site") }, 403},
		{"from another port of this host", func(b *browser, _ url.Values) { b.headers.Set("Sec-Fetch-Site", "same-site") }, 403},
		{"from another origin, told by an old browser", func(b *browser, _ url.Values) {
			b.headers["Sec-Fetch-Site"] = []string{""}
			b.headers.Set("Origin", "https://evil.example")
		}, 403},
		{"without its token", func(_ *browser, f url.Values) { f.Del("form") }, 403},
		{"with another token", func(_ *browser, f url.Values) { f.Set("form", "AAAA") }, 403},
		{"by a client without the cookie", func(b *browser, _ url.Values) { clear(b.cookies) }, 403},
		{"with the cookie of another browser", func(b *browser, _ url.Values) { b.cookies["sluice-8420"].Value = "another" }, 403},
	} {
		for _, action := range []string{"/pipelines/nightly/run", "/pipelines/nightly/backfill", "/plan"} {
			w := newWorld(t, Options{}, nightly("nightly"))
			b := w.browser(t)
			form := url.Values{"form": {b.token("/pipelines/nightly")}, "from": {"2026-01-01"}}
			c.spoil(b, form)
			rec := b.do(http.MethodPost, action, form)
			if rec.Code != c.code {
				t.Errorf("%s %s: %d\n%s", action, c.name, rec.Code, words(rec.Body.String()))
			}
			if done := w.actions.all() != ""; done != (c.code == 303) {
				t.Errorf("%s %s: done %v", action, c.name, done)
			}
		}
	}
}

func TestNothingIsDoneByLookingAtAPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{}, nightly("nightly"))
	for _, path := range []string{"/pipelines/nightly/run", "/pipelines/nightly/backfill"} {
		if rec := w.browser(t).do(http.MethodGet, path, nil); rec.Code == 200 || rec.Code == 303 {
			t.Errorf("%s: %d", path, rec.Code)
		}
	}
	if got := w.actions.all(); got != "" {
		t.Errorf("asked for %s", got)
	}
}

func TestOtherNamesOfLoopbackAreRefused(t *testing.T) {
	t.Parallel()
	for host, code := range map[string]int{
		"127.0.0.1:8420": 200, "localhost:8420": 200, "[::1]:8420": 200, "127.8.0.1": 200, "LOCALHOST": 200, "sluice.example.com": 200,
		"evil.example": 421, "127.0.0.1.evil.example:8420": 421, "localhost.evil.example": 421, "10.0.0.1:8420": 421, "": 421, "[": 421,
	} {
		w := newWorld(t, Options{Hosts: []string{"sluice.example.com"}}, nightly("nightly"))
		b := w.browser(t)
		b.host = host
		rec := b.do(http.MethodGet, "/", nil)
		if rec.Code != code {
			t.Errorf("Host %q: %d, want %d", host, rec.Code, code)
		}
		if code != 200 {
			lacks(t, rec.Body.String(), "nightly")
		}
	}
}

func TestWithATokenNothingIsShownBeforeTheLogin(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{
		Token: secret, Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("sluice_up 1")) }),
		Healthz: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("alive")) }),
	}, nightly("nightly"))
	b := w.browser(t)
	for _, path := range []string{"/", "/pipelines/nightly", "/plan"} {
		rec := b.do(http.MethodGet, path, nil)
		if want := "/login?next=" + url.QueryEscape(path); rec.Code != 303 || rec.Header().Get("Location") != want {
			t.Errorf("%s: %d %s", path, rec.Code, rec.Header().Get("Location"))
		}
	}
	b.headers.Set("Accept", "*/*")
	for _, path := range []string{"/live?of=overview", "/metrics", "/pipelines/nightly"} {
		if rec := b.do(http.MethodGet, path, nil); rec.Code != 401 {
			t.Errorf("%s: %d", path, rec.Code)
		}
	}
	if rec := b.do(http.MethodPost, "/pipelines/nightly/run", nil); rec.Code != 401 || w.actions.all() != "" {
		t.Errorf("a run: %d", rec.Code)
	}
	has(t, b.get("/healthz", 200), "alive")
	b.headers.Set("Authorization", "Bearer "+secret)
	has(t, b.get("/metrics", 200), "sluice_up 1")
	has(t, b.get("/", 200), "nightly")
}

func TestTheLoginGivesACookieThatIsNotTheToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{Token: secret}, nightly("nightly"))
	b := w.browser(t)
	b.headers.Set("X-Forwarded-Proto", "https")
	rec := b.post("/login", "/login", url.Values{"token": {secret}, "next": {"/pipelines/nightly"}})
	c := rec.Result().Cookies()[0]
	if rec.Code != 303 || rec.Header().Get("Location") != "/pipelines/nightly" || !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteStrictMode {
		t.Errorf("%d, %+v", rec.Code, c)
	}
	lacks(t, c.Value, secret)
	has(t, b.get("/", 200), "Log out")
	if rec := b.post("/pipelines/nightly", "/pipelines/nightly/run", nil); rec.Code != 303 || w.actions.all() != "run nightly" {
		t.Errorf("a run: %d, %s", rec.Code, w.actions.all())
	}
	b.post("/", "/logout", nil)
	b.get("/", 303)
}

func TestALoginEndsAfterTwelveHours(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{Token: secret}, nightly("nightly"))
	b := w.browser(t)
	b.post("/login", "/login", url.Values{"token": {secret}})
	w.clock.move(12*time.Hour - time.Second)
	b.get("/", 200)
	w.clock.move(2 * time.Second)
	b.get("/", 303)
}

func TestTheCookieOfBeforeTheLoginLetsNobodyIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{Token: secret}, nightly("nightly"))
	b := w.browser(t)
	b.token("/login")
	before := *b.cookies["sluice-8420"]
	b.post("/login", "/login", url.Values{"token": {secret}})
	b.cookies["sluice-8420"] = &before
	b.get("/", 303)
}

func TestWrongTokensAreSlowedDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{Token: secret}, nightly("nightly"))
	b := w.browser(t)
	try := func(token string) int {
		return b.post("/login", "/login", url.Values{"token": {token}}).Code
	}
	for i := range freeTries {
		if code := try("wrong"); code != 401 {
			t.Fatalf("try %d: %d", i, code)
		}
	}
	if code := try(secret); code != 429 { // or guessing would cost nothing
		t.Errorf("the sixth: %d", code)
	}
	w.clock.move(2 * time.Second)
	if code := try("wrong"); code != 401 {
		t.Errorf("after the wait: %d", code)
	}
	w.clock.move(time.Second)
	if code := try(secret); code != 429 {
		t.Errorf("the wait did not grow: %d", code)
	}
	b.headers.Set("Authorization", "Bearer "+secret)
	if rec := b.do(http.MethodGet, "/", nil); rec.Code != 429 || rec.Header().Get("Retry-After") == "" {
		t.Errorf("by a header: %d", rec.Code)
	}
	b.headers.Del("Authorization")
	w.clock.move(longestWait)
	if code := try(secret); code != 303 {
		t.Errorf("a minute later: %d", code)
	}
	lacks(t, w.log.String(), secret)
}

func TestTheLoginLeadsNowhereElse(t *testing.T) {
	t.Parallel()
	for _, next := range []string{"https://evil.example/", "//evil.example", `/\evil.example`, "javascript:alert(1)", "/\n/evil.example", "http:evil"} {
		if got := ownPath(next); got != "/" {
			t.Errorf("%q leads to %s", next, got)
		}
	}
	if got := ownPath("/pipelines/nightly%5B%22acme%22%5D?x=1"); got != "/pipelines/nightly%5B%22acme%22%5D?x=1" {
		t.Error(got)
	}
}

func TestEveryAnswerForbidsWhatThePageDoesNotNeed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{}, nightly("nightly"))
	for _, path := range []string{"/", "/pipelines/nightly", "/nowhere", "/static/page.css", "/static/nothing", "/pipelines/nobody"} {
		rec := w.browser(t).do(http.MethodGet, path, nil)
		csp := rec.Header().Get("Content-Security-Policy")
		if !strings.HasPrefix(csp, "default-src 'none';") || strings.Contains(csp, "unsafe") || rec.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", path, rec.Header())
		}
		lacks(t, rec.Body.String(), " style=", "<style", "onclick=", "http://www.w3.org/1999")
	}
}

func TestWhatWasTypedIsKeptBesideWhatIsWrongWithIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{}, nightly("nightly"))
	w.actions.err = &FieldError{Field: "to", Message: "is before From"}
	b := w.browser(t)
	rec := b.post("/pipelines/nightly", "/pipelines/nightly/backfill", url.Values{"from": {"2024-03-01"}, "to": {"soon"}, "window": {"7d"}, "by": {"updated_at"}, "parallel": {"3"}})
	page := rec.Body.String()
	if rec.Code != 422 {
		t.Errorf("%d", rec.Code)
	}
	has(t, page, `value="2024-03-01"`, `value="soon"`, `value="7d"`, `<option value="updated_at" selected>`, `value="3"`, `id="to-error">is before From<`, `aria-describedby="to-error"`, `<details class="backfill" open>`)
}

func TestARunThatCannotBeginSaysWhy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{Hints: func(error) []string { return []string{"wait for it"} }}, nightly(`nightly["acme"]`))
	w.actions.err = busyError{}
	page := pipelineURL(`nightly["acme"]`)
	rec := w.browser(t).post(page, page+"/run", nil)
	if rec.Code != 409 || w.actions.all() != `run nightly["acme"]` {
		t.Errorf("%d %s", rec.Code, w.actions.all())
	}
	has(t, words(rec.Body.String()), "It is running already wait for it")
}

type busyError struct{}

func (busyError) Error() string { return "it is running already" }

func TestATokenCanBeGuessedAtNoDoorWithoutAWait(t *testing.T) {
	t.Parallel()
	for name, door := range map[string]func(*browser){
		"a strange host":   func(b *browser) { b.host = "evil.example"; b.do(http.MethodGet, "/", nil) },
		"the login's form": func(b *browser) { b.do(http.MethodPost, "/login", url.Values{}) },
	} {
		w := newWorld(t, Options{Token: secret}, nightly("nightly"))
		b := w.browser(t)
		b.headers.Set("Authorization", "Bearer a-guess")
		for range freeTries + 1 {
			door(b)
		}
		b.host = "127.0.0.1:8420"
		b.headers.Set("Authorization", "Bearer "+secret)
		if rec := b.do(http.MethodGet, "/", nil); rec.Code != http.StatusTooManyRequests {
			t.Errorf("%s: %d after so many guesses", name, rec.Code)
		}
	}
}
