package run_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/atomicfile/faultfs"
	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/sandbox"
	"github.com/sluice-etl/sluice/schemas"
)

func (w *world) retry(job run.Job, o run.Retry, disk atomicfile.Disk) (run.Summary, error) {
	w.t.Helper()
	return (&run.Engine{Store: w.store, Clock: clock.System{}, SealRows: 500, Disk: disk}).Retry(w.t.Context(), job, o)
}

func (w *world) mustRetry(job run.Job, o run.Retry) run.Retried {
	w.t.Helper()
	sum, err := w.retry(job, o, nil)
	if err != nil {
		w.t.Fatalf("retry: %v", err)
	}
	return *sum.Retried
}

// without is a lake of which n contacts are in quarantine, and a source that has
// them mended.
func without(t *testing.T, n int, store run.QuarantineStore) (*world, run.Job, []string) {
	t.Helper()
	w := newWorld(t, contacts(300))
	ids := w.ids(n)
	b := w.broken()
	b.harm(undated, ids...)
	job := w.job()
	job.Quarantine.Store = store
	w.mustRun(job)
	if len(w.aside()) != n || len(w.stored("lake")) != 300-n {
		t.Fatalf("%d are set aside", len(w.aside()))
	}
	b.mend()
	return w, job, ids
}

func TestRecordsThatAreMendedAtTheSourceAreFetchedAgainAndLeaveTheQuarantine(t *testing.T) {
	for _, store := range []run.QuarantineStore{run.StoreRaw, run.StoreReference} {
		w, job, _ := without(t, 5, store)
		cursor := *w.state().Cursor
		sum, err := w.retry(job, run.Retry{Run: "another"}, nil)
		if err != nil || sum.Retried.Records != 0 || len(w.aside()) != 5 {
			t.Fatalf("of another run: %+v, %v", sum.Retried, err)
		}
		if got := w.mustRetry(job, run.Retry{Run: w.state().Runs[0].RunID}); fmt.Sprint(got) != fmt.Sprint(run.Retried{Records: 5, Passed: 5, Fetched: 5}) {
			t.Errorf("%s: %+v", store, got)
		}
		w.same("lake")
		w.tidy()
		if files, err := os.ReadDir(filepath.Join(w.dir, "state", "quarantine", "nightly")); err != nil || len(files) > 0 {
			t.Errorf("left are %v, %v", files, err)
		}
		last := w.state().Runs[len(w.state().Runs)-1]
		if last.Kind != "retry" || last.Mode != "retry" || last.Package == 0 || last.New != 5 || !w.state().Cursor.Equal(cursor) {
			t.Errorf("the record is %+v, the cursor %s", last, w.state().Cursor)
		}
	}
}

func TestAStoredRecordIsDecodedAgainUnderTheContractOfToday(t *testing.T) {
	w := newWorld(t, contacts(300))
	ids := w.ids(2)
	w.broken().harm(func(c map[string]any) { c["name"] = nil }, ids...)
	job := w.job()
	job.Contract = contractWith(t, "  - name: name\n", "required: true")
	w.mustRun(job)
	if got := w.mustRetry(job, run.Retry{}); got.Kept != 2 || got.Passed != 0 || got.KeptBy["name is missing, null or not a string"] != 2 {
		t.Errorf("under the same contract: %+v", got)
	}
	if r := w.aside(); len(r) != 2 || r[0].Tried.IsZero() || r[0].Raw == "" {
		t.Errorf("they stay as %+v", r)
	}
	want := map[string]int64{}
	w.source.Each(func(c sandbox.Contact) bool { want[c.ID] = c.UpdatedAt.UnixMilli(); return len(want) < 2 })
	if err := errors.Join(w.source.Delete(ids[0]), w.source.Delete(ids[1])); err != nil {
		t.Fatal(err)
	}
	job.Contract = schemas.Default()
	var unready *run.NotReadyError
	if _, err := w.retry(job, run.Retry{}, nil); !errors.As(err, &unready) {
		t.Errorf("before a run has read everything by the new contract: %v", err)
	}
	w.mustRun(job)
	if got := w.mustRetry(job, run.Retry{}); got.Passed != 2 || got.Fetched != 0 {
		t.Errorf("under the new contract: %+v", got)
	}
	for id, at := range want {
		if got := w.stored("lake")[id]; got/1000 != at {
			t.Errorf("%s is in the lake as of %d, not %d", id, got, at)
		}
	}
}

func TestARetriedRecordLosesToANewerRow(t *testing.T) {
	w := newWorld(t, contacts(300))
	id := w.ids(1)[0]
	b := w.broken()
	b.harm(func(c map[string]any) { c["name"] = nil }, id)
	job := w.job()
	strict := contractWith(t, "  - name: name\n", "required: true")
	job.Contract = strict
	w.mustRun(job)
	b.mend()
	if err := w.source.Touch(id); err != nil {
		t.Fatal(err)
	}
	job.Contract = schemas.Default()
	w.mustRun(job)
	w.same("lake")
	if got := w.mustRetry(job, run.Retry{}); got.Passed != 1 || got.Fetched != 0 {
		t.Errorf("%+v", got)
	}
	w.same("lake")
}

func TestARecordThatCannotBeRetriedStaysAndSaysWhy(t *testing.T) {
	w := newWorld(t, contacts(300))
	ids := w.ids(4)
	b := w.broken()
	b.harm(undated, ids[0], ids[1])
	b.harm(func(c map[string]any) { c["id"] = nil }, ids[2])
	b.harm(func(c map[string]any) { c["created_at"] = "soon" }, ids[3])
	job := w.job()
	job.Quarantine.Store = run.StoreReference
	w.mustRun(job)
	if err := w.source.Delete(ids[0]); err != nil {
		t.Fatal(err)
	}
	got := w.mustRetry(job, run.Retry{})
	if got.Records < 4 || got.Kept != got.Records || got.Unknown < 1 || w.state().NextPackage != 2 {
		t.Errorf("%+v, the next package is %d", got, w.state().NextPackage)
	}
	for reason, n := range map[string]int64{
		"the source has no contact of this id any more (it answers 404)": 1, noUpdate: 1,
		"id is missing, null or not a string": 1, "the source still gives it without a usable created_at": 1,
	} {
		if got.KeptBy[reason] < n {
			t.Errorf("%s: %d of %v", reason, got.KeptBy[reason], got.KeptBy)
		}
	}
	w.tidy()
}

func TestRecordsOfTheFirstFormatAreReadAndRetried(t *testing.T) {
	w, job, ids := without(t, 2, run.StoreReference)
	dir := filepath.Join(w.dir, "state", "quarantine", "nightly")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	var old strings.Builder
	for _, id := range append(ids, "") {
		fmt.Fprintf(&old, `{"run_id":"20250102T030405Z-abcdef","reason":"no updated_at","id":%q,"request":"/r","position":3,"raw":"{\"id\":\"x\"}"}`+"\n", id)
	}
	if err := os.WriteFile(filepath.Join(dir, "20250102T030405Z-abcdef-0001.ndjson"), []byte(old.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := w.aside(); r[2].Ref != "20250102T030405Z-abcdef-0001.3" || r[0].At.Format("2006-01-02 15:04:05") != "2025-01-02 03:04:05" {
		t.Errorf("they are read as %+v", r)
	}
	if got := w.mustRetry(job, run.Retry{}); got.Passed != 2 || got.Kept != 1 {
		t.Errorf("%+v", got)
	}
	w.same("lake")
	if r := w.aside(); len(r) != 1 || r[0].Ref != "20250102T030405Z-abcdef-0001.3" || r[0].Raw != `{"id":"x"}` {
		t.Errorf("left is %+v", r)
	}
}

func TestARecordLeavesOnceTheQueuesHaveItWhateverADestinationDoes(t *testing.T) {
	w, job, _ := without(t, 3, run.StoreReference)
	second := &brokenLoader{Loader: w.lake("second")}
	job.Destinations = append(job.Destinations, run.Destination{Name: "second", Loader: second})
	w.mustRun(job) // fills the second, with all of them
	if got := w.mustRetry(job, run.Retry{}); got.Passed != 3 {
		t.Fatalf("%+v", got)
	}
	w.same("second")
	w, job, _ = without(t, 3, run.StoreReference)
	second = &brokenLoader{Loader: w.lake("lake")}
	job.Destinations[0].Loader = second
	second.down.Store(true)
	var failed *run.DestinationsError
	if _, err := w.retry(job, run.Retry{}, nil); !errors.As(err, &failed) {
		t.Fatalf("got %v", err)
	}
	if len(w.aside()) != 0 || len(w.state().Destination("lake").Queue) != 1 || len(w.stored("lake")) != 297 {
		t.Errorf("%d are set aside, the queue is %+v", len(w.aside()), w.state().Destination("lake").Queue)
	}
	second.down.Store(false)
	w.mustRun(job)
	w.same("lake")
	w.tidy()
}

// Stopped at any operation of its disk, a retry has either left a record in
// quarantine or its row in every queue, and the same call does the rest.
func TestARetryThatIsStoppedAnywhereConverges(t *testing.T) {
	slow(t)
	w, job, _ := without(t, 2, run.StoreReference)
	base := filepath.Join(t.TempDir(), "base")
	if err := os.CopyFS(base, os.DirFS(w.dir)); err != nil {
		t.Fatal(err)
	}
	count := faultfs.New(nil, faultfs.Fault{})
	if _, err := w.retry(job, run.Retry{}, count); err != nil {
		t.Fatal(err)
	}
	ops, sealed := 0, 0
	for op := 1; ; op++ {
		if op%5 > 0 && op < count.Ops()-15 { // of what comes before the package is made, some
			continue
		}
		for _, sub := range []string{"state", "lake"} {
			dir := filepath.Join(w.dir, sub)
			if err := errors.Join(os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(filepath.Join(base, sub)))); err != nil {
				t.Fatal(err)
			}
		}
		job.Destinations[0].Loader = w.lake("lake")
		disk := faultfs.New(nil, faultfs.Fault{Op: op, Err: faultfs.ErrKilled, Sticky: true})
		_, err := w.retry(job, run.Retry{}, disk)
		if !disk.Failed() {
			break
		}
		ops++
		p := w.state()
		if p.NextPackage > 2 {
			sealed++
		} else if len(w.aside()) != 2 {
			t.Fatalf("after operation %d (%v) %d are set aside, and no package has the others", op, err, len(w.aside()))
		}
		if got := w.mustRetry(job, run.Retry{}); got.Kept != 0 {
			t.Fatalf("after operation %d: %+v", op, got)
		}
		if len(w.aside()) != 0 {
			t.Fatalf("after operation %d: %+v", op, w.aside())
		}
		w.same("lake")
		w.tidy()
	}
	t.Logf("%d operations, %d after the package was made", ops, sealed)
	if ops < 15 || sealed < 3 {
		t.Errorf("only %d operations, %d after the package was made", ops, sealed)
	}
}
