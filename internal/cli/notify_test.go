package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/internal/clock"
)

// hooks is a server that keeps what it is told.
type hooks struct {
	*httptest.Server

	came chan string // the same as got, for who waits

	mu  sync.Mutex
	got []string // PATH and event
	all strings.Builder
}

func newHooks(t *testing.T) *hooks {
	t.Helper()
	h := &hooks{came: make(chan string, 1000)}
	h.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		var n struct{ Event string }
		if len(body) > 0 {
			if err := json.Unmarshal(body, &n); err != nil {
				t.Error(err)
			}
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		what := strings.TrimSpace(r.URL.Path + " " + n.Event)
		h.got = append(h.got, what)
		h.came <- what
		fmt.Fprint(&h.all, r.Header, r.URL.RawQuery)
		h.all.Write(body)
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hooks) heard(t *testing.T, when string, want ...string) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	slices.Sort(h.got)
	if !slices.Equal(h.got, want) {
		t.Errorf("%s: %q, want %q", when, h.got, want)
	}
	h.got = nil
}

// wait returns once the server is told what.
func (h *hooks) wait(t *testing.T, what string) {
	t.Helper()
	limit := time.After(time.Minute)
	for {
		select {
		case came := <-h.came:
			if came == what {
				return
			}
		case <-limit:
			t.Fatalf("nobody tells %q", what)
		}
	}
}

func TestRunTellsWhomTheFileNamesOnlyWhenAskedTo(t *testing.T) {
	t.Parallel()
	h := newHooks(t)
	w := newWorld(t, `version: 1
sources: {crm: {type: contacts_api, url: "sandbox://?contacts=50&seed=1"}}
destinations: {lake: {type: parquet, path: out}}
pipelines: {nightly: {source: crm, destinations: [lake], heartbeat: "${BEAT}"}}
notify: {ops: {type: webhook, url: "${HOOK}"}}
daemon: {url: "https://sluice.example.com"}
`)
	w.clock = clock.System{}
	w.env = map[string]string{"BEAT": h.URL + "/beat-PLANTED", "HOOK": h.URL + "/hook-PLANTED"}
	var printed strings.Builder
	does := func(code int, args ...string) result {
		r := w.sluice(t, append(args, "-v")...).mustBe(t, code)
		printed.WriteString(r.out + r.err)
		return r
	}
	does(0, "run", "--notify")
	h.heard(t, "a good run", "/beat-PLANTED")
	out := filepath.Join(w.dir, "out")
	if err := os.Rename(out, out+".away"); err != nil {
		t.Fatal(err)
	}
	w.write(t, "out", "in the way")
	does(1, "run")
	h.heard(t, "without --notify")
	does(1, "run", "--notify")
	h.heard(t, "a failure", "/hook-PLANTED failure")
	does(1, "run", "--notify")
	h.heard(t, "the next one")
	if err := os.Remove(out); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(out+".away", out); err != nil {
		t.Fatal(err)
	}
	does(0, "run", "--notify")
	h.heard(t, "mended", "/beat-PLANTED", "/hook-PLANTED recovery")
	if r := does(0, "notify", "test", "ops"); r.out != "ops has taken it.\n" {
		t.Errorf("notify test says %q", r.out)
	}
	h.heard(t, "a test", "/hook-PLANTED test")
	if r := does(1, "notify", "test", "opps"); !strings.Contains(r.err, `did you mean "ops"?`) {
		t.Errorf("a name that there is not:\n%s", r.err)
	}
	if link := `"page":"https://sluice.example.com/pipelines/nightly"`; strings.Count(h.all.String(), link) != 2 {
		t.Errorf("a failure and a recovery do not lead to the page:\n%s", h.all.String())
	}
	if text := printed.String() + h.all.String(); strings.Contains(text, "PLANTED") {
		t.Errorf("a key is told:\n%s", text)
	}
}
