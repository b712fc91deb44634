package cli

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/sandbox"
)

const realKey = "a-real-key-0001"

// remote is a pipelines file over an endpoint elsewhere.
func remote(url string) string {
	return `version: 1
state: {path: .sluice}
sources:
  crm: {type: contacts_api, url: "` + url + `", api_key: "${KEY}", retry_for: 1s, requests_per_second: 1000}
destinations:
  lake: {type: parquet, path: out}
pipelines:
  nightly: {source: crm, table: contacts, destinations: [lake]}
`
}

// serve runs a sandbox on loopback, as a server that is not this process's own.
func serve(t *testing.T, o sandbox.Options) string {
	t.Helper()
	s, err := sandbox.New(o, noon)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	return server.URL
}

func respond(t *testing.T, status int, contentType, body string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// port differs from one test run to the next.
var port = regexp.MustCompile(`127\.0\.0\.1:\d{2,5}`)

func tidy(s string) string {
	return attempts.ReplaceAllString(port.ReplaceAllString(s, "127.0.0.1:PORT"), "(N attempts)")
}

// TestBadInputEndsInOneMessageAndChangesNothing is about a first run: there is
// nothing yet, and nothing may come of it.
func TestBadInputEndsInOneMessageAndChangesNothing(t *testing.T) {
	t.Parallel()
	keyed := sandbox.DefaultOptions()
	keyed.Contacts, keyed.APIKey = 10, realKey
	for name, tc := range map[string]struct {
		yaml  string
		key   string
		setUp func(t *testing.T, w *world)
	}{
		"missing_file":     {yaml: ""},
		"broken_yaml":      {yaml: "version: 1\nsources: {crm: [\n"},
		"unknown_key":      {yaml: strings.Replace(small, "requests_per_second", "request_per_second", 1)},
		"missing_variable": {yaml: remote("https://api.example.com")},
		"wrong_key":        {yaml: remote(serve(t, keyed)), key: "a-wrong-key-0002"},
		"key_with_sandbox": {yaml: remote("sandbox://?contacts=10"), key: realKey},
		"unreachable_host": {yaml: remote("http://127.0.0.1:1"), key: realKey},
		"html":             {yaml: remote(respond(t, 200, "text/html", "<!doctype html><title>Sign in</title>")), key: realKey},
		"not_contacts":     {yaml: remote(respond(t, 200, "application/json", `{"message": "hello"}`)), key: realKey},
		"no_contact":       {yaml: remote(respond(t, 200, "application/json", `["hello", "it's\n\tme"]`)), key: realKey},
		"server_error":     {yaml: remote(respond(t, 500, "application/json", `{"message": "down, `+realKey+`"}`)), key: realKey},
		"plain_http":       {yaml: remote("http://api.example.com"), key: realKey},
		"foreign_out": {yaml: small, setUp: func(t *testing.T, w *world) {
			t.Helper()
			w.write(t, "out/contacts/report.xlsx", "somebody's work")
		}},
		"out_is_a_file": {yaml: small, setUp: func(t *testing.T, w *world) {
			t.Helper()
			w.write(t, "out", "not a directory")
		}},
		"state_is_a_file": {yaml: small, setUp: func(t *testing.T, w *world) {
			t.Helper()
			w.write(t, ".sluice", "not a directory")
		}},
		"missing_contract": {yaml: strings.Replace(small, "table: contacts", "table: contacts, schema: crm.yaml", 1)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, tc.yaml)
			if tc.key != "" {
				w.env["KEY"] = tc.key
			}
			if tc.setUp != nil {
				tc.setUp(t, w)
			}
			before := w.tree(t, "out")
			r := w.sluice(t, "run").mustBe(t, 1)
			golden(t, filepath.Join("bad", name+".txt"), tidy(r.err))
			if r.out != "" {
				t.Errorf("stdout: %s", r.out)
			}
			if n := strings.Count(r.err, "error: "); n != 1 {
				t.Errorf("%d messages", n)
			}
			for _, key := range []string{realKey, "a-wrong-key-0002"} {
				if strings.Contains(r.err, key) {
					t.Errorf("the key is printed:\n%s", r.err)
				}
			}
			if diff := cmp.Diff(before, w.tree(t, "out")); diff != "" {
				t.Errorf("the data changed:\n%s", diff)
			}
			if s := w.tree(t, filepath.Join(".sluice", "runs")); len(s) > 0 {
				t.Errorf("the run left %v", s)
			}
		})
	}
}

func TestAnEmptySourceIsAnErrorThatLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, strings.Replace(small, "contacts=40", "contacts=0", 1))
	r := w.sluice(t, "run")
	r.mustBe(t, 1)
	golden(t, filepath.Join("bad", "empty_source.txt"), r.err)
}

// TestBadInputAfterAGoodRunLeavesStateAndDataAsTheyWere: cursor, queues and
// every byte of the table.
func TestBadInputAfterAGoodRunLeavesStateAndDataAsTheyWere(t *testing.T) {
	t.Parallel()
	o := sandbox.DefaultOptions()
	o.Contacts, o.APIKey = 10, realKey
	good := strings.Replace(small, "contacts=40", "contacts=10", 1)
	for name, change := range map[string]func(t *testing.T, w *world){
		"other_host": func(t *testing.T, w *world) {
			t.Helper()
			w.write(t, "pipelines.yaml", remote(serve(t, o)))
		},
		"other_account": func(t *testing.T, w *world) {
			t.Helper()
			// Other contacts are told by their client_id, once there are any.
			w.clock = clock.Fixed(noon.Now().Add(time.Hour))
			w.write(t, "pipelines.yaml", strings.Replace(good, "seed=1", "seed=2&updates_per_request=3&skew=-10m", 1))
		},
		"lost_state": func(t *testing.T, w *world) {
			t.Helper()
			w.write(t, "pipelines.yaml", strings.Replace(good, ".sluice", "elsewhere", 1))
		},
		"source_down": func(t *testing.T, w *world) {
			t.Helper()
			w.write(t, "pipelines.yaml", strings.Replace(strings.Replace(good, "contacts=10", "contacts=10&fault_500=1", 1), "requests_per_second", "retry_for: 1s, requests_per_second", 1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, good)
			w.env["KEY"] = realKey
			w.sluice(t, "run").mustBe(t, 0)
			before := w.tree(t, "out")
			state := cursorOf(t, w)
			change(t, w)
			r := w.sluice(t, "run").mustBe(t, 1)
			golden(t, filepath.Join("bad", name+".txt"), uuids.ReplaceAllString(tidy(r.err), "UUID"))
			if n := strings.Count(r.err, "error: "); n != 1 {
				t.Errorf("%d messages", n)
			}
			if diff := cmp.Diff(before, w.tree(t, "out")); diff != "" {
				t.Errorf("the data changed:\n%s", diff)
			}
			w.write(t, "pipelines.yaml", good)
			if got := cursorOf(t, w); got != state {
				t.Errorf("the cursor was %s and is %s", state, got)
			}
			// Set right again, the pipeline goes on.
			w.sluice(t, "run").mustBe(t, 0)
		})
	}
}

var uuids = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

// generated are names that differ from one run to the next.
var generated = regexp.MustCompile(`\d{8}T\d{6}Z-[0-9a-f]+|\.tmp-[0-9a-f]+`)

// cursorOf is the cursor after the last run that moved it.
func cursorOf(t *testing.T, w *world) string {
	t.Helper()
	for _, r := range events(t, w.sluice(t, "runs", "--json").mustBe(t, 0).out) {
		if c, ok := r["cursor_after"].(string); ok {
			return c
		}
	}
	return ""
}
