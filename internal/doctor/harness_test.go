package doctor

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/sandbox"
)

// secret is the key of hand-made endpoints: long enough to be searched for.
const secret = "k-0123456789abcdef"

// afterHistory is a moment at which all of the sandbox's history has happened.
var afterHistory = time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)

// bubbleClock runs with the time of a synctest bubble, from afterHistory on.
type bubbleClock struct{ start time.Time }

func (c bubbleClock) Now() time.Time { return afterHistory.Add(time.Since(c.start)).UTC() }

// direct carries requests to a handler without a network, so that a bubble's
// time can pass while they wait, and counts them.
type direct struct {
	handler http.Handler
	sent    atomic.Int64
	keys    atomic.Int64 // requests with a key
}

func (d *direct) RoundTrip(r *http.Request) (resp *http.Response, err error) {
	d.sent.Add(1)
	if r.Header.Get("X-Api-Key") != "" {
		d.keys.Add(1)
	}
	w := httptest.NewRecorder()
	defer func() {
		if recover() != nil { // an aborted answer
			resp, err = nil, errors.New("connection reset by peer")
		}
	}()
	d.handler.ServeHTTP(w, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	resp = w.Result()
	resp.Request = r
	return resp, nil
}

// outcome is a report and what it took.
type outcome struct {
	Report
	t    *testing.T
	sent int
	took time.Duration
}

// examine runs an examination of a handler in a bubble and checks what holds
// for every report.
func examine(t *testing.T, o Options, handler func(clk bubbleClock) http.Handler) outcome {
	t.Helper()
	out := outcome{t: t}
	synctest.Test(t, func(t *testing.T) {
		clk := bubbleClock{time.Now()}
		wire := &direct{handler: handler(clk)}
		o.Clock = clk
		o.Source.BaseURL = "https://crm.test"
		o.Source.Transport = wire
		if o.Source.RequestsPerSecond == 0 {
			o.Source.RequestsPerSecond = -1
		}
		begin := time.Now()
		r, err := Run(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		out.Report, out.sent, out.took = r, int(wire.sent.Load()), time.Since(begin)
		if n := wire.sent.Load() - wire.keys.Load(); o.Source.APIKey != "" && n > 1 {
			t.Errorf("%d requests went without a key, at most one should", n)
		}
	})
	out.mustBeSound(o)
	return out
}

func (o outcome) mustBeSound(opts Options) {
	t := o.t
	t.Helper()
	if o.sent != o.Requests || o.sent > o.Budget {
		t.Errorf("%d requests were sent, the report says %d of %d", o.sent, o.Requests, o.Budget)
	}
	if len(o.Checks) != 30 {
		t.Errorf("%d checks, want 30", len(o.Checks))
	}
	raw, err := json.Marshal(o.Report)
	if err != nil {
		t.Fatal(err)
	}
	if key := opts.Source.APIKey.Reveal(); key != sandbox.DefaultKey && key != "" && bytes.Contains(raw, []byte(key)) {
		t.Errorf("the report holds the key: %s", raw)
	}
	names, sum := map[string]bool{}, 0
	for _, c := range o.Checks {
		if names[c.Name] || c.Name == "" {
			t.Errorf("two checks are called %q", c.Name)
		}
		names[c.Name] = true
		sum += c.Requests
		if !slices.Contains([]Status{OK, Note, Problem, Unknown}, c.Status) || !strings.HasSuffix(c.Found, ".") {
			t.Errorf("%+v", c)
		}
		if c.Means == "" && (c.Status == Note || c.Status == Problem) {
			t.Errorf("%s is a %s and does not say what it means: %s", c.Name, c.Status, c.Found)
		}
		if strings.Contains(c.Found, "%!") || strings.Contains(c.Means, "%!") {
			t.Errorf("a verb went wrong: %+v", c)
		}
	}
	if sum != o.Requests {
		t.Errorf("the checks took %d requests, all of them %d", sum, o.Requests)
	}
	for _, s := range o.Suggestions {
		i := slices.IndexFunc(config.Keys(), func(k config.Key) bool { return k.Path == s.Key })
		if i < 0 || !strings.HasSuffix(s.Key, "."+strings.SplitN(s.Setting, ":", 2)[0]) {
			t.Errorf("no such setting: %+v", s)
		}
	}
}

func (o outcome) check(name string) Check {
	o.t.Helper()
	for _, c := range o.Checks {
		if c.Name == name {
			return c
		}
	}
	o.t.Fatalf("no check is called %q", name)
	return Check{}
}

// says asserts the status of a check, and words that it holds.
func (o outcome) says(name string, status Status, words ...string) {
	o.t.Helper()
	c := o.check(name)
	if c.Status != status {
		o.t.Errorf("%s is %q, want %q: %s > %s", name, c.Status, status, c.Found, c.Means)
		return
	}
	for _, w := range words {
		if !strings.Contains(c.Found+" "+c.Means, w) {
			o.t.Errorf("%s does not say %q: %s > %s", name, w, c.Found, c.Means)
		}
	}
}

// suggests asserts a setting; an empty one that there is none for the key.
func (o outcome) suggests(key, setting string) {
	o.t.Helper()
	got := ""
	for _, s := range o.Suggestions {
		if s.Key == key {
			got = s.Setting
		}
	}
	if got != setting {
		o.t.Errorf("%s: suggested %q, want %q", key, got, setting)
	}
}

// ofSandbox examines a sandbox.
func ofSandbox(t *testing.T, so sandbox.Options, o Options) outcome {
	t.Helper()
	if o.Source.APIKey == "" {
		o.Source.APIKey = sandbox.DefaultKey
	}
	return examine(t, o, func(clk bubbleClock) http.Handler {
		s, err := sandbox.New(so, clk)
		if err != nil {
			t.Fatal(err)
		}
		return s.Handler()
	})
}

func sandboxed(n int, change func(*sandbox.Options)) sandbox.Options {
	o := sandbox.DefaultOptions()
	o.Contacts = n
	if change != nil {
		change(&o)
	}
	return o
}

// ofEndpoint examines a hand-made endpoint.
func ofEndpoint(t *testing.T, o Options, change func(*endpoint)) outcome {
	t.Helper()
	if o.Source.APIKey == "" {
		o.Source.APIKey = extract.Secret(secret)
	}
	return examine(t, o, func(clk bubbleClock) http.Handler {
		e := newEndpoint(clk, 120)
		if change != nil {
			change(e)
		}
		return e
	})
}

// says answers every request alike.
func answers(status int, contentType, body string) func(bubbleClock) http.Handler {
	return func(clk bubbleClock) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.Header().Set("Date", clk.Now().Format(http.TimeFormat))
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		})
	}
}
