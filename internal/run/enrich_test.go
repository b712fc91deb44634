package run_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/parquetfile"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/sandbox"
	"github.com/sluice-etl/sluice/transform"
)

// infoSource changes what the info endpoint answers, and counts what it is
// asked.
type infoSource struct {
	http.RoundTripper
	answer func(id string, resp *http.Response) // nil: as it is

	asked, now, most atomic.Int64 // in all; at once, most at once, pages included
}

func (s *infoSource) RoundTrip(r *http.Request) (*http.Response, error) {
	for n := s.now.Add(1); ; {
		if most := s.most.Load(); n <= most || s.most.CompareAndSwap(most, n) {
			break
		}
	}
	defer s.now.Add(-1)
	resp, err := s.RoundTripper.RoundTrip(r)
	rest, info := strings.CutPrefix(r.URL.Path, "/api/public/contact/")
	if id, is := strings.CutSuffix(rest, "/info"); info && is {
		s.asked.Add(1)
		if err == nil && s.answer != nil {
			s.answer(id, resp)
		}
	}
	return resp, err
}

// replace gives a response another body.
func replace(resp *http.Response, status int, body string) {
	_ = resp.Body.Close()
	resp.StatusCode, resp.ContentLength, resp.Body = status, int64(len(body)), io.NopCloser(strings.NewReader(body))
	resp.Header.Del("Content-Encoding")
	resp.Header.Del("Content-Length")
}

// enrichedJob is a job with enrich: info, and what it asks.
func (w *world) enrichedJob() (run.Job, *infoSource) {
	s := &infoSource{RoundTripper: http.DefaultTransport}
	job := w.job()
	job.Enrich, job.Source.Transport = true, s
	job.Source.MaxRetries, job.Source.BackoffMin, job.Source.BackoffMax = 8, time.Millisecond, 5*time.Millisecond
	job.Source.RetryBudget = time.Minute
	return job, s
}

// cells are the values of a lake's contacts, as text, by id and column; system
// columns are left out, and so are nulls.
func (w *world) cells(name string) map[string]map[string]string {
	w.t.Helper()
	files, err := filepath.Glob(filepath.Join(w.dir, name, "contacts", "current", "*", "*.parquet"))
	if err != nil {
		w.t.Fatal(err)
	}
	out := map[string]map[string]string{}
	for _, f := range files {
		r, err := parquetfile.Open(f)
		if err != nil {
			w.t.Fatal(err)
		}
		records, err := r.Read(parquetfile.ReadOptions{})
		if err != nil {
			w.t.Fatal(err)
		}
		for {
			rec, err := records.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				w.t.Fatal(err)
			}
			id := rec.Column(rec.Schema().FieldIndices("id")[0])
			for i := range int(rec.NumRows()) {
				row := map[string]string{}
				for k, field := range rec.Schema().Fields() {
					if col := rec.Column(k); !strings.HasPrefix(field.Name, "_sluice") && !col.IsNull(i) {
						row[field.Name] = strings.Clone(col.ValueStr(i))
					}
				}
				out[strings.Clone(id.ValueStr(i))] = row
			}
			rec.Release()
		}
		if err := r.Close(); err != nil {
			w.t.Fatal(err)
		}
	}
	return out
}

// A bare list and the info endpoint bring together what a full list brings, and
// more: the same source serves both.
func TestAnEnrichedContactHasWhatTheListLacks(t *testing.T) {
	at := clock.Fixed(time.Now())
	o := contacts(300)
	churn := sandbox.Mutation{Updates: 6000} // old tickets are closed by it
	full := newWorldAt(t, o, at)
	full.source.Mutate(churn)
	full.mustRun(full.job())
	o.BareList = true
	bare := newWorldAt(t, o, at)
	bare.source.Mutate(churn)
	job, _ := bare.enrichedJob()
	sum := bare.mustRun(job)
	want, got := full.cells("lake"), bare.cells("lake")
	if len(got) != 300 || sum.Enriched == nil || sum.Enriched.Fetched < 300 || sum.Enriched.Missing+sum.Enriched.Unusable > 0 {
		t.Errorf("%d contacts, %+v", len(got), sum.Enriched)
	}
	more := map[string]int{}
	for id, row := range got {
		for column, value := range row {
			if was, ok := want[id][column]; !ok {
				more[column]++
			} else if was != value {
				t.Fatalf("contact %s has %s %q, and by the list alone %q", id, column, value, was)
			}
		}
		for column, value := range want[id] {
			if row[column] != value {
				t.Fatalf("contact %s lacks %s %q", id, column, value)
			}
		}
	}
	if more["last_closed_ticket_id"] == 0 || more["last_message_content"] == 0 || more["last_closed_ticket"] > 0 {
		t.Errorf("there is besides: %v", more)
	}
	bare.tidy()
}

func TestAnEnrichedRunAsksOnceForEachContactItKeeps(t *testing.T) {
	w := newWorld(t, contacts(400))
	job, s := w.enrichedJob()
	job.Lookback = time.Second
	w.mustRun(job)
	if n := s.asked.Load(); n != 400 {
		t.Errorf("a first run asked %d times for 400 contacts", n)
	}
	w.source.Mutate(sandbox.Mutation{Updates: 9, Creates: 3})
	s.asked.Store(0)
	sum := w.mustRun(job)
	if w.events[0].Mode != "incremental" {
		t.Errorf("the second run is %s", w.events[0].Mode)
	}
	// Contacts may be updated twice, and those within the lookback come again.
	if n := s.asked.Load(); n < 3 || n > 20 || sum.Enriched.Fetched != n || sum.Requests < n {
		t.Errorf("a second run asked %d times, and says %+v, %d requests", n, sum.Enriched, sum.Requests)
	}
	if !strings.Contains(string(sum.Coverage), `"enriched":{"fetched":`) {
		t.Errorf("coverage: %s", sum.Coverage)
	}
	w.same("lake")
	for name, how := range map[string]run.Comparison{"all": {All: true, Values: true}, "sample": {Sample: 100, Seed: 7, Values: true}} {
		if c := w.mustCompare(job, how); c.Same != c.Checked || len(c.Examples) > 0 {
			t.Errorf("verify --source %s: %+v", name, c)
		}
	}
}

func TestEnrichingOrNoLongerIsAnotherSelection(t *testing.T) {
	w := newWorld(t, contacts(50))
	job, _ := w.enrichedJob()
	for _, enrich := range []bool{false, true, true, false} {
		before := w.state()
		job.Enrich = enrich
		w.mustRun(job)
		want := "incremental"
		if before.Cursor == nil || before.Filters != w.state().Filters {
			want = "full"
		}
		if got := w.events[0].Mode; got != want {
			t.Errorf("with enrich %t the run is %s, want %s", enrich, got, want)
		}
	}
}

func TestAnEnrichedRunEndsWellOverASourceThatFails(t *testing.T) {
	o := contacts(300)
	o.BareList = true
	for name, rate := range map[string]*sandbox.Rate{"500": &o.Fault500, "reset": &o.FaultReset, "truncate": &o.FaultTruncate, "cut": &o.FaultCut} {
		*rate = sandbox.Rate{Every: map[string]int{"500": 7, "reset": 11, "truncate": 13, "cut": 17}[name]}
	}
	w := newWorld(t, o)
	job, _ := w.enrichedJob()
	sum := w.mustRun(job)
	w.same("lake")
	if sum.Retries == 0 || sum.Enriched.Fetched < 300 {
		t.Errorf("%d retries, %+v", sum.Retries, sum.Enriched)
	}
	for id, row := range w.cells("lake") {
		if _, ok := row["last_message_content"]; !ok && row["last_message_at"] != "" {
			t.Fatalf("contact %s is not enriched: %v", id, row)
		}
	}
}

func TestAnEnrichedRunThatIsStoppedGoesOnWithoutAskingAgain(t *testing.T) {
	w := newWorld(t, contacts(1500))
	job, s := w.enrichedJob()
	job.PageSize, job.Source.Concurrency = 20, 2
	ctx, cancel := context.WithCancel(t.Context())
	s.answer = func(string, *http.Response) {
		if s.asked.Load() == 900 {
			cancel()
		}
	}
	_, err := w.run(ctx, job)
	var interrupted *run.InterruptedError
	if !errors.As(err, &interrupted) || interrupted.Staged < 700 {
		t.Fatalf("got %v", err)
	}
	first := s.asked.Load()
	sum := w.mustRun(job)
	// What is lost are the pages under way, one for each of two windows.
	if all := s.asked.Load(); all > 1500+2*20+10 || sum.Enriched.Fetched < 1500 {
		t.Errorf("%d requests before the stop and %d in all for 1500 contacts, %+v", first, all, sum.Enriched)
	}
	if got := w.cells("lake"); len(got) != 1500 {
		t.Errorf("%d contacts", len(got))
	}
	w.same("lake")
	w.tidy()
}

func TestInfoRequestsShareTheLimitsOfPages(t *testing.T) {
	o := contacts(600)
	o.Latency = time.Millisecond
	w := newWorld(t, o)
	job, s := w.enrichedJob()
	job.PageSize, job.Source.Concurrency = 50, 3
	w.mustRun(job)
	if most := s.most.Load(); most > 3 || most < 2 {
		t.Errorf("%d requests were in flight at once, allowed are 3", most)
	}
	w.same("lake")
}

func TestAContactThatInfoDoesNotKnowOrGarblesIsStoredAsTheListHasIt(t *testing.T) {
	w := newWorld(t, contacts(200))
	job, s := w.enrichedJob()
	plain := w.job(run.Destination{Name: "lake", Loader: w.lake("plain")})
	plain.Pipeline = "plain"
	w.mustRun(plain)
	ids := w.ids(4)
	s.answer = func(id string, resp *http.Response) {
		switch id {
		case ids[0]:
			replace(resp, http.StatusNotFound, `{"message":"no such contact"}`)
		case ids[1]:
			replace(resp, http.StatusOK, `{"id":"`+id+`","extra":1,"extra":2}`)
		case ids[2]: // of one shape of fields each key once, too
			replace(resp, http.StatusOK, `{"id":"`+id+`","custom_field_values":[{"key":"k!","value":1},{"key":"k!","value":2}]}`)
		case ids[3]: // merged into another contact
			replace(resp, http.StatusOK, `{"id":"00000000-0000-4000-8000-000000000000"}`)
		}
	}
	sum := w.mustRun(job)
	if e := sum.Enriched; e.Missing < 1 || e.Unusable < 2 || sum.Quarantined > 0 {
		t.Errorf("got %+v, %d set aside", e, sum.Quarantined)
	}
	list, got := w.cells("plain"), w.cells("lake")
	for _, id := range []string{ids[0], ids[1], ids[3]} {
		if d := cmp.Diff(list[id], got[id]); d != "" {
			t.Errorf("contact %s (-list +stored):\n%s", id, d)
		}
	}
	w.same("lake")
}

func TestAKeyThatMayNotReadInfoFailsTheRunWithAHint(t *testing.T) {
	o := contacts(100)
	o.Forbid = "info"
	w := newWorld(t, o)
	job, _ := w.enrichedJob()
	_, err := w.run(t.Context(), job)
	var refused *run.EnrichError
	if !errors.As(err, &refused) || !refused.Refused || !strings.Contains(refused.Hint(), "enrich") {
		t.Fatalf("got %v", err)
	}
	if p := w.state(); p.NextPackage != 1 {
		t.Error("a package was made all the same")
	}
	job.Enrich = false
	w.mustRun(job)
	w.same("lake")
}

func TestContactsOutsideTheFiltersAreNotAskedFor(t *testing.T) {
	w := newWorld(t, contacts(300))
	job, s := w.enrichedJob()
	job.Filters = map[string][]string{"platform": {"whatsapp"}}
	w.mustRun(job)
	inside := len(w.alive("lake"))
	if n := int(s.asked.Load()); inside == 0 || inside > 290 || n != inside {
		t.Errorf("%d requests for %d contacts", n, inside)
	}
}

// A filter by a custom field sees the fields that the info endpoint alone has.
func TestAFilterByACustomFieldSeesWhatInfoBrings(t *testing.T) {
	at := clock.Fixed(time.Now())
	filter := func(o sandbox.Options, enrich bool) map[string]bool {
		w := newWorldAt(t, o, at)
		job, _ := w.enrichedJob()
		job.Enrich, job.Full = enrich, true
		key, value := fieldOf(t, w)
		job.Field = &transform.FieldFilter{Key: key, Value: value}
		w.mustRun(job)
		return w.alive("lake")
	}
	o := contacts(300)
	want := filter(o, false)
	o.BareList = true
	if d := cmp.Diff(want, filter(o, true)); d != "" || len(want) == 0 {
		t.Errorf("%d contacts (-full list +enriched):\n%s", len(want), d)
	}
}

// fieldOf is a custom field that some contacts have.
func fieldOf(t *testing.T, w *world) (key, value string) {
	t.Helper()
	var body bytes.Buffer
	c, err := extract.NewClient(w.job().Source, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, id := range w.ids(300) {
		info, _, err := c.Contact(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if _, rest, ok := strings.Cut(string(info), `"metadata":{"`); ok {
			key, rest, _ = strings.Cut(rest, `":"`)
			value, _, _ = strings.Cut(rest, `"`)
			if key != "" && value != "" && !strings.ContainsAny(key+value, `\:{}`) {
				return key, value
			}
		}
		body.Write(info)
	}
	t.Fatalf("no contact has metadata: %.500s", body.String())
	return "", ""
}
