package run_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/internal/quarantine"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/sandbox"
	"github.com/sluice-etl/sluice/schemas"
)

// breaker stands before a source and breaks some of its contacts.
type breaker struct {
	next http.Handler

	mu    sync.Mutex
	wrong map[string]func(contact map[string]any) // by id
}

// broken lets the world's source break contacts by way of what it returns.
func (w *world) broken() *breaker {
	w.t.Helper()
	b := &breaker{next: w.source.Handler(), wrong: map[string]func(map[string]any){}}
	server := httptest.NewServer(b)
	w.t.Cleanup(server.Close)
	w.url = server.URL
	return b
}

// harm breaks the contacts, mend mends all.
func (b *breaker) harm(how func(map[string]any), ids ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range ids {
		b.wrong[id] = how
	}
}

func (b *breaker) mend() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.wrong)
}

func (b *breaker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Header.Del("Accept-Encoding")
	got := httptest.NewRecorder()
	b.next.ServeHTTP(got, r)
	body := got.Body.Bytes()
	var page any
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if got.Code == http.StatusOK && d.Decode(&page) == nil {
		b.mu.Lock()
		records, list := page.([]any)
		if !list {
			records = []any{page}
		}
		for _, record := range records {
			if c, ok := record.(map[string]any); ok {
				if id, ok := c["id"].(string); ok && b.wrong[id] != nil {
					b.wrong[id](c)
				}
			}
		}
		b.mu.Unlock()
		body, _ = json.Marshal(page)
	}
	maps.Copy(w.Header(), got.Header())
	w.Header().Del("Content-Length")
	w.WriteHeader(got.Code)
	_, _ = w.Write(body)
}

func undated(c map[string]any) { c["updated_at"] = nil }

// aside returns the records in quarantine.
func (w *world) aside() []quarantine.Record {
	w.t.Helper()
	var out []quarantine.Record
	err := quarantine.In(filepath.Join(w.dir, "state"), "nightly", nil).All(func(_ string, r quarantine.Record) { out = append(out, r) })
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// masked is the built-in contract but for one column, whose values are masked.
func masked(t *testing.T, column string) *schemas.Contract {
	t.Helper()
	return contractWith(t, "  - name: "+column+"\n", "policy: mask")
}

// contractWith is the built-in contract with a line more below a column's name.
func contractWith(t *testing.T, name, line string) *schemas.Contract {
	t.Helper()
	text := strings.Replace(string(schemas.BuiltIn()), name, name+"    "+line+"\n", 1)
	c, err := schemas.ParseContract("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const noUpdate = "updated_at is missing, null or not a timestamp"

func TestARecordSetAsideSaysWhyWhenAndWhereAndIsKeptWholeOnlyWhereAllIs(t *testing.T) {
	for name, c := range map[string]struct {
		contract *schemas.Contract
		store    run.QuarantineStore
		raw      bool
	}{
		"all values are kept":            {schemas.Default(), "", true},
		"all are kept, and the file no":  {schemas.Default(), run.StoreReference, false},
		"some are masked":                {masked(t, "phone"), run.StoreAuto, false},
		"some are masked, the file says": {masked(t, "phone"), run.StoreRaw, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, contacts(300))
			ids := w.ids(3)
			b := w.broken()
			b.harm(undated, ids[0], ids[1])
			b.harm(func(c map[string]any) { c["id"] = map[string]any{"phone": "+56 9 1234"} }, ids[2])
			job := w.job()
			job.Contract, job.Quarantine.Store = c.contract, c.store
			before := time.Now().Add(-time.Second)
			sum := w.mustRun(job)
			want := map[string]int64{noUpdate: 2, "id is missing, null or not a string": 1}
			if sum.Quarantined != 3 || !maps.Equal(sum.QuarantinedBy, want) {
				t.Fatalf("set aside %d: %v", sum.Quarantined, sum.QuarantinedBy)
			}
			rec := w.state().Runs[0]
			var cov struct {
				By map[string]int64 `json:"quarantined_by"`
			}
			if err := json.Unmarshal(rec.Coverage, &cov); err != nil || !maps.Equal(cov.By, want) || !maps.Equal(rec.QuarantinedBy, want) {
				t.Errorf("the record has %v, coverage %v, %v", rec.QuarantinedBy, cov.By, err)
			}
			for _, r := range w.aside() {
				if r.Format != quarantine.Format || r.Ref == "" || r.RunID != rec.RunID || r.At.Before(before) || r.At.After(time.Now()) ||
					r.Reason == "" || !strings.HasPrefix(r.Request, "/api/public/contacts?") || r.Position >= 100 {
					t.Errorf("%+v", r)
				}
				if (r.Raw != "") != c.raw || r.Raw != "" && !json.Valid([]byte(r.Raw)) {
					t.Errorf("%s is kept as %q", r.Ref, r.Raw)
				}
				if known := slices.Contains(ids[:2], r.ID); known != (r.Reason == noUpdate) {
					t.Errorf("%s has the id %q", r.Ref, r.ID)
				}
			}
			if !c.raw && bytes.Contains(w.quarantined(), []byte("1234")) {
				t.Errorf("a value is in\n%s", w.quarantined())
			}
			if bytes.Contains(w.quarantined(), []byte(sandbox.DefaultKey+`"`)) {
				t.Error("the key is in quarantine")
			}
		})
	}
}

// quarantined is what all files of the quarantine hold.
func (w *world) quarantined() []byte {
	w.t.Helper()
	files, err := filepath.Glob(filepath.Join(w.dir, "state", "quarantine", "nightly", "*"))
	if err != nil {
		w.t.Fatal(err)
	}
	var all []byte
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, data...)
	}
	return all
}

func TestAFilterByAValueIsNoPartOfARequestInQuarantine(t *testing.T) {
	for request, want := range map[string]string{
		"/a?limit=5": "/a?limit=5",
		"/a?custom_field_key=city&custom_field_value=Lima&limit=5":       "/a?custom_field_key=city&custom_field_value=(redacted)&limit=5",
		"/a?custom%5Ffield_value=x&custom_field_value=Lima":              "/a?custom_field_value=(redacted)&custom_field_value=(redacted)",
		"/a?custom_field_value=a%26b%3Dc&custom_field_key=custom_fields": "/a?custom_field_value=(redacted)&custom_field_key=custom_fields",
	} {
		if got := run.Redacted(request); got != want {
			t.Errorf("%s is %s, want %s", request, got, want)
		}
	}
}

func TestARunThatSetsTooManyRecordsAsideFailsAndTheNextOneConverges(t *testing.T) {
	slow(t)
	few := func(n int) *int { return &n }
	for name, c := range map[string]struct {
		limit run.Quarantine
		harm  int
		fails bool
		says  string
	}{
		"a tenth is the default":        {run.Quarantine{}, 40, false, ""},
		"more than a tenth":             {run.Quarantine{}, 41, true, "41 of the 400 records read, 10.2%, more than the 10% that quarantine.max_share allows: " + noUpdate + " (41)"},
		"more than the share that is":   {run.Quarantine{MaxShare: 0.01}, 5, true, "5 of the 400 records read, 1.25%, more than the 1% "},
		"any share":                     {run.Quarantine{MaxShare: 1}, 399, false, ""},
		"more records than are allowed": {run.Quarantine{MaxRecords: few(3)}, 4, true, "more than the 3 that quarantine.max_records allows"},
		"as many as are allowed":        {run.Quarantine{MaxRecords: few(3)}, 3, false, ""},
		"none is allowed":               {run.Quarantine{MaxRecords: few(0)}, 1, true, "1 of the "},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, contacts(400))
			b := w.broken()
			b.harm(undated, w.ids(c.harm)...)
			job := w.job()
			job.Quarantine = c.limit
			_, err := w.run(t.Context(), job)
			var limit *run.QuarantineLimitError
			if errors.As(err, &limit) != c.fails || !c.fails && err != nil {
				t.Fatalf("got %v", err)
			}
			if c.fails {
				if !strings.Contains(err.Error(), c.says) || !strings.Contains(limit.Hint(), "sluice quarantine list nightly") {
					t.Errorf("it says %v; %s", err, limit.Hint())
				}
				if p := w.state(); p.Cursor != nil || p.NextPackage != 1 || len(p.Destination("lake").Queue) > 0 || len(w.stored("lake")) > 0 {
					t.Errorf("something was committed: %+v", p)
				}
				if len(w.aside()) == 0 {
					t.Error("nothing is there to look at")
				}
				w.tidy()
				b.mend()
				w.mustRun(job)
				w.same("lake")
			}
			w.tidy()
		})
	}
}

func TestOfAFewRecordsNoShareIsTooLarge(t *testing.T) {
	w := newWorld(t, contacts(99))
	w.broken().harm(undated, w.ids(30)...)
	if sum := w.mustRun(w.job()); sum.Quarantined != 30 {
		t.Errorf("%d set aside", sum.Quarantined)
	}
}

func TestAResumedRunCountsWhatWasSetAsideBefore(t *testing.T) {
	w := newWorld(t, contacts(3000))
	b := w.broken()
	ids := w.ids(3000)
	slices.Sort(ids) // any of them
	b.harm(undated, ids[:300]...)
	job := w.job()
	job.Source.Concurrency = 1
	job.Quarantine.MaxShare = 0.05
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	w.afterPage = func(pages int64) {
		if pages >= 20 {
			stop()
		}
	}
	var stopped *run.InterruptedError
	if _, err := w.run(ctx, job); !errors.As(err, &stopped) {
		t.Fatal(err)
	}
	before := len(w.aside())
	b.mend() // what comes now is right, what was set aside still counts
	w.afterPage = nil
	_, err := w.run(t.Context(), job)
	var limit *run.QuarantineLimitError
	switch {
	case float64(before) > 0.05*3000:
		if !errors.As(err, &limit) || limit.Aside < int64(before) {
			t.Errorf("%d were set aside before, and then: %v", before, err)
		}
	default:
		t.Fatalf("only %d were set aside before it stopped", before)
	}
	w.mustRun(job)
	w.same("lake")
	w.tidy()
}

func TestErasingFindsRecordsThatAreNotStored(t *testing.T) {
	w := newWorld(t, contacts(200))
	ids := w.ids(2)
	w.broken().harm(undated, ids...)
	job := w.job(run.Destination{Name: "lake", Loader: w.eraser("lake")})
	job.Quarantine.Store = run.StoreReference
	w.mustRun(job)
	got, err := w.erase(job, ids[0], false, nil)
	if err != nil || got.Aside != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	if left := w.aside(); len(left) != 1 || left[0].ID != ids[1] || bytes.Contains(w.quarantined(), []byte(ids[0])) {
		t.Errorf("left are %+v", left)
	}
}
