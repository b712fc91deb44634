package run_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/sandbox"
)

func (w *world) reconcile(ctx context.Context, job run.Job, o run.Reconciliation) (run.Summary, error) {
	w.t.Helper()
	w.events = nil
	e := run.Engine{Store: w.store, Clock: clock.System{}, SealRows: 500, Observe: func(ev run.Event) { w.events = append(w.events, ev) }}
	return e.Reconcile(ctx, job, o)
}

func (w *world) mustReconcile(job run.Job, o run.Reconciliation) run.Reconciled {
	w.t.Helper()
	sum, err := w.reconcile(w.t.Context(), job, o)
	if err != nil {
		w.t.Fatalf("reconcile: %v", err)
	}
	return *sum.Reconciled
}

// remove deletes n contacts at the source and returns their ids.
func (w *world) remove(n int) []string {
	w.t.Helper()
	var ids []string
	w.source.Each(func(c sandbox.Contact) bool {
		ids = append(ids, c.ID)
		return len(ids) < n
	})
	for _, id := range ids {
		if err := w.source.Delete(id); err != nil {
			w.t.Fatal(err)
		}
	}
	return ids
}

func everybody(sandbox.Contact) bool { return true }

func TestDeletedContactsAreFoundConfirmedAndMarked(t *testing.T) {
	w := newWorld(t, contacts(1000))
	w.mustRun(w.job())
	ids := w.remove(8)
	w.mustRun(w.job())
	if n := len(w.alive("lake")); n != 1000 {
		t.Fatalf("%d contacts are alive before", n)
	}
	cursor := *w.state().Cursor
	if got := w.mustReconcile(w.job(), run.Reconciliation{DryRun: true}); got.Gone != 8 || !got.DryRun || len(w.alive("lake")) != 1000 {
		t.Errorf("dry run: %+v, %d alive", got, len(w.alive("lake")))
	}
	w.tidy()
	got := w.mustReconcile(w.job(), run.Reconciliation{})
	if got != (run.Reconciled{Live: 1000, Walked: 992, Missing: 8, Gone: 8, MaxMissing: 10}) {
		t.Errorf("got %+v", got)
	}
	w.holds("lake", everybody)
	if !w.state().Cursor.Equal(cursor) {
		t.Error("the cursor moved")
	}
	if stored := w.stored("lake"); len(stored) != 1000 || !has(stored, ids[0]) {
		t.Errorf("%d rows are stored; a tombstone is a row", len(stored))
	}
	// The rows are those of before in everything else.
	if got := w.mustReconcile(w.job(), run.Reconciliation{}); got.Missing != 0 || got.Live != 992 {
		t.Errorf("a second time: %+v", got)
	}
	w.mustRun(w.job())
	w.holds("lake", everybody)
}

func TestAContactThatComesBackWins(t *testing.T) {
	w := newWorld(t, contacts(500))
	w.mustRun(w.job())
	ids := w.remove(3)
	w.mustReconcile(w.job(), run.Reconciliation{})
	w.holds("lake", everybody)
	// One comes back as it was, which no walk by updated_at sees, another one
	// changed.
	if err := w.source.Restore(ids[0], false); err != nil {
		t.Fatal(err)
	}
	if err := w.source.Restore(ids[1], true); err != nil {
		t.Fatal(err)
	}
	w.mustRun(w.job())
	if alive := w.alive("lake"); !alive[ids[1]] || alive[ids[0]] {
		t.Errorf("after a run: the changed one is back: %t, the other: %t", alive[ids[1]], alive[ids[0]])
	}
	if got := w.mustReconcile(w.job(), run.Reconciliation{}); got.Returned != 1 || got.Gone != 0 {
		t.Errorf("got %+v", got)
	}
	w.holds("lake", everybody)
	w.others("lake", ids[2])
}

// others is same, but for contacts that the source has no more.
func (w *world) others(name string, gone ...string) {
	w.t.Helper()
	stored := w.stored(name)
	for _, id := range gone {
		delete(stored, id)
	}
	w.source.Each(func(c sandbox.Contact) bool {
		if stored[c.ID] != c.UpdatedAt.UnixMilli()*1000 {
			w.t.Errorf("%s is stored as of %d, the source says %d", c.ID, stored[c.ID], c.UpdatedAt.UnixMilli()*1000)
		}
		delete(stored, c.ID)
		return true
	})
	if len(stored) > 0 {
		w.t.Errorf("%d contacts too many", len(stored))
	}
}

func TestAContactThatAnotherRunSawAgainMeanwhileStays(t *testing.T) {
	w := newWorld(t, contacts(400))
	w.mustRun(w.job())
	ids := w.remove(2)
	job := w.job()
	var asked atomic.Int64
	job.Source.Transport = transport(func(r *http.Request) (*http.Response, error) {
		resp, err := http.DefaultTransport.RoundTrip(r)
		// After the answer for the last of the two, one comes back as it was, and
		// a full read that ends before the mark is made meets it.
		if strings.HasSuffix(r.URL.Path, "/info") && resp.StatusCode == http.StatusNotFound && asked.Add(1) == 2 {
			if err := w.source.Restore(ids[0], false); err != nil {
				t.Error(err)
			}
			full := w.job()
			full.Full = true
			e := run.Engine{Store: w.store, Clock: clock.System{}}
			if _, err := e.Run(r.Context(), full); err != nil {
				t.Error(err)
			}
		}
		return resp, err
	})
	if got := w.mustReconcile(job, run.Reconciliation{}); got.Gone != 1 || got.Unlisted != 1 {
		t.Errorf("got %+v", got)
	}
	w.holds("lake", everybody)
}

func TestAShareThatIsTooLargeMarksNothing(t *testing.T) {
	w := newWorld(t, contacts(500))
	w.mustRun(w.job())
	w.remove(6)
	before := w.source.Stats().Requests
	sum, err := w.reconcile(t.Context(), w.job(), run.Reconciliation{})
	var share *run.MissingShareError
	if !errors.As(err, &share) || share.Found.Missing != 6 || share.Found.MaxMissing != 5 || !strings.Contains(err.Error(), "1.20%") {
		t.Fatalf("got %v", err)
	}
	if sum.Status != "failed" || sum.Reconciled.Missing != 6 || len(w.alive("lake")) != 500 || w.source.Stats().Requests-before > 40 {
		t.Errorf("got %+v with %d requests", sum, w.source.Stats().Requests-before)
	}
	w.tidy()
	w.mustReconcile(w.job(), run.Reconciliation{MaxShare: 0.012})
	w.holds("lake", everybody)
}

func TestAShareIsExactToTheContact(t *testing.T) {
	w := newWorld(t, contacts(100))
	w.mustRun(w.job())
	w.remove(29)
	// 0.29 is a little less than 29% of 100 as a float64.
	if got := w.mustReconcile(w.job(), run.Reconciliation{MaxShare: 0.29, DryRun: true}); got.Missing != 29 || got.MaxMissing != 29 {
		t.Errorf("got %+v", got)
	}
	var share *run.MissingShareError
	if _, err := w.reconcile(t.Context(), w.job(), run.Reconciliation{MaxShare: 0.289999}); !errors.As(err, &share) || share.Found.MaxMissing != 28 {
		t.Errorf("a share below theirs: %v", err)
	}
	w.remove(71)
	var empty *run.EmptySourceError
	if _, err := w.reconcile(t.Context(), w.job(), run.Reconciliation{MaxShare: 1}); !errors.As(err, &empty) {
		t.Errorf("a source that shows nobody: %v", err)
	}
	if n := len(w.alive("lake")); n != 100 {
		t.Errorf("%d contacts are alive", n)
	}
}

func TestAWalkThatFailsMarksNobodyWhateverTheShare(t *testing.T) {
	w := newWorld(t, contacts(600))
	w.mustRun(w.job())
	w.remove(3)
	job := w.job()
	var pages atomic.Int64
	job.Source.Transport = transport(func(r *http.Request) (*http.Response, error) {
		if !strings.HasSuffix(r.URL.Path, "/info") && pages.Add(1) > 4 {
			rec := httptest.NewRecorder()
			http.Error(rec, "the server is ill", http.StatusInternalServerError)
			return rec.Result(), nil
		}
		return http.DefaultTransport.RoundTrip(r)
	})
	var status *extract.StatusError
	if _, err := w.reconcile(t.Context(), job, run.Reconciliation{MaxShare: 1}); !errors.As(err, &status) || !strings.Contains(err.Error(), "walk all contacts") {
		t.Errorf("got %v", err)
	}
	if n := len(w.alive("lake")); n != 600 {
		t.Errorf("%d contacts are alive", n)
	}
	w.tidy()
}

func TestAnInfoEndpointThatFailsMarksNobody(t *testing.T) {
	w := newWorld(t, contacts(400))
	w.mustRun(w.job())
	w.remove(3)
	job := w.job()
	var asked atomic.Int64
	job.Source.Transport = transport(func(r *http.Request) (*http.Response, error) {
		if strings.HasSuffix(r.URL.Path, "/info") && asked.Add(1) == 3 { // the second of the three; the first is of one that exists
			rec := httptest.NewRecorder()
			http.Error(rec, "the server is ill", http.StatusInternalServerError)
			return rec.Result(), nil
		}
		return http.DefaultTransport.RoundTrip(r)
	})
	var status *extract.StatusError
	if _, err := w.reconcile(t.Context(), job, run.Reconciliation{}); !errors.As(err, &status) {
		t.Errorf("got %v", err)
	}
	if n := len(w.alive("lake")); n != 400 {
		t.Errorf("%d contacts are alive", n)
	}
	w.tidy()
}

func TestAnInterruptedWalkIsNoDeletion(t *testing.T) {
	w := newWorld(t, contacts(2000))
	w.mustRun(w.job())
	w.remove(5)
	for stop := int64(1); stop < 28; stop += 3 {
		ctx, cancel := context.WithCancel(t.Context())
		job := w.job()
		var n atomic.Int64
		job.Source.Transport = transport(func(r *http.Request) (*http.Response, error) {
			if n.Add(1) == stop {
				cancel()
			}
			return http.DefaultTransport.RoundTrip(r)
		})
		_, err := w.reconcile(ctx, job, run.Reconciliation{})
		cancel()
		if err == nil {
			break // it was done before
		}
		if got := len(w.alive("lake")); got != 2000 && got != 1995 {
			t.Fatalf("stopped at request %d: %d contacts are alive", stop, got)
		}
	}
	w.mustReconcile(w.job(), run.Reconciliation{})
	w.holds("lake", everybody)
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// hiding keeps contacts from lists, as a filter at the source would.
func hiding(ids ...string) transport {
	return func(r *http.Request) (*http.Response, error) {
		r = r.Clone(r.Context())
		r.Header.Set("Accept-Encoding", "identity")
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil || strings.HasSuffix(r.URL.Path, "/info") {
			return resp, err
		}
		return cut(resp, ids)
	}
}

// cut takes contacts out of a page.
func cut(resp *http.Response, ids []string) (*http.Response, error) {
	body, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return nil, err
	}
	var rows []json.RawMessage
	if err := json.Unmarshal(body, &rows); err != nil {
		return nil, err
	}
	rows = slices.DeleteFunc(rows, func(row json.RawMessage) bool {
		return slices.ContainsFunc(ids, func(id string) bool { return bytes.Contains(row, []byte(`"id":"`+id+`"`)) })
	})
	if body, err = json.Marshal(rows); err != nil {
		return nil, err
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	resp.Header.Del("Content-Length")
	return resp, nil
}

func TestAContactThatIsOnlyMissingInTheListStays(t *testing.T) {
	w := newWorld(t, contacts(400))
	w.mustRun(w.job())
	ids := w.remove(2)
	var hidden []string
	w.source.Each(func(c sandbox.Contact) bool {
		hidden = append(hidden, c.ID)
		return len(hidden) < 2
	})
	job := w.job()
	job.Source.Transport = hiding(hidden...)
	got := w.mustReconcile(job, run.Reconciliation{})
	if got.Missing != 4 || got.Gone != 2 || got.Unlisted != 2 {
		t.Errorf("got %+v", got)
	}
	alive := w.alive("lake")
	if !alive[hidden[0]] || !alive[hidden[1]] || alive[ids[0]] || alive[ids[1]] {
		t.Errorf("hidden ones alive: %t %t, deleted ones: %t %t", alive[hidden[0]], alive[hidden[1]], alive[ids[0]], alive[ids[1]])
	}
}

func TestAMissingInfoEndpointConfirmsNothing(t *testing.T) {
	w := newWorld(t, contacts(400))
	w.mustRun(w.job())
	w.remove(3)
	job := w.job()
	job.Source.Transport = transport(func(r *http.Request) (*http.Response, error) {
		if strings.HasSuffix(r.URL.Path, "/info") {
			rec := httptest.NewRecorder()
			http.Error(rec, `{"message":"Cannot GET"}`, http.StatusNotFound)
			return rec.Result(), nil
		}
		return http.DefaultTransport.RoundTrip(r)
	})
	var none *run.NoInfoError
	if _, err := w.reconcile(t.Context(), job, run.Reconciliation{}); !errors.As(err, &none) {
		t.Fatalf("got %v", err)
	}
	if n := len(w.alive("lake")); n != 400 {
		t.Errorf("%d contacts are alive", n)
	}
	w.tidy()
}

func TestTheBudgetLeavesTheRestToTheNextRuns(t *testing.T) {
	w := newWorld(t, contacts(1000))
	w.mustRun(w.job())
	w.remove(10)
	marked := int64(0)
	for range 5 {
		got := w.mustReconcile(w.job(), run.Reconciliation{MaxProbes: 4})
		if got.Gone > 4 || got.Gone+got.Unasked != got.Missing {
			t.Fatalf("got %+v", got)
		}
		marked += got.Gone
	}
	if marked != 10 {
		t.Errorf("%d of 10 are marked", marked)
	}
	w.holds("lake", everybody)
}

func TestReconcilingLeavesFilteredAndOldContactsWhereTheyAre(t *testing.T) {
	w := newWorld(t, contacts(600))
	job := w.job()
	job.Filters = map[string][]string{"chat_status": {"UNATTENDED"}}
	w.mustRun(job)
	waiting := func(c sandbox.Contact) bool { return c.ChatStatus == "UNATTENDED" }
	w.holds("lake", waiting)
	var left string
	w.source.Each(func(c sandbox.Contact) bool {
		left = c.ID
		return !waiting(c)
	})
	attended := "ATTENDED"
	if err := w.source.Update(left, sandbox.Change{ChatStatus: &attended}); err != nil {
		t.Fatal(err)
	}
	w.mustRun(job)
	if got := w.mustReconcile(job, run.Reconciliation{}); got.Returned != 0 || got.Missing != 0 {
		t.Errorf("got %+v", got)
	}
	w.holds("lake", waiting)

	snapshot := w.job()
	snapshot.Sync = run.SyncSnapshot
	var refused *run.SnapshotError
	if _, err := w.reconcile(t.Context(), snapshot, run.Reconciliation{}); !errors.As(err, &refused) {
		t.Errorf("a snapshot: %v", err)
	}
	var notReady *run.NotReadyError
	other := w.job()
	if _, err := w.reconcile(t.Context(), other, run.Reconciliation{}); !errors.As(err, &notReady) {
		t.Errorf("other filters: %v", err)
	}
}
