//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package bigquery

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	vendor "cloud.google.com/go/bigquery"
	"google.golang.org/api/option"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/crashtest"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/sandbox"
	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/bigquery/bqtest"
	"github.com/sluice-etl/sluice/load/parquet"
	"github.com/sluice-etl/sluice/schemas"
)

// allMethods are the ways to the table.
func allMethods() []Method { return []Method{Stream, Load, CDC} }

// drawn is one of the methods, for a test of what hardly depends on them: by a
// seed that is logged and that SLUICE_DRAW_SEED repeats. SLUICE_SOAK=1 gives all.
func drawn(t *testing.T, methods ...Method) []Method {
	t.Helper()
	if soak() {
		return methods
	}
	seed := rand.Uint64()
	if text := os.Getenv("SLUICE_DRAW_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("SLUICE_DRAW_SEED=%d", seed)
	i := rand.New(rand.NewPCG(seed, 0)).IntN(len(methods)) //nolint:gosec // no secret
	return methods[i : i+1]
}

// export is a source, a stand-in of BigQuery, and state between them: what a
// pipeline has, with the real engine.
type export struct {
	t      *testing.T
	s      *bqtest.Server
	client *vendor.Client // the judge's
	source *sandbox.Server
	url    string
	method Method
	dir    string
	judge  *crashtest.Judge
	storm  atomic.Bool // each request for a page changes the source
	hurry  time.Duration
}

func newExport(t *testing.T, method Method, contacts int) *export {
	t.Helper()
	x := &export{t: t, s: standIn(t, bqtest.Options{}), method: method, dir: t.TempDir(), hurry: time.Millisecond}
	client, err := vendor.NewClient(context.WithoutCancel(t.Context()), x.s.Project(), option.WithEndpoint(x.s.URL()), option.WithoutAuthentication())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	x.client = client
	o := sandbox.DefaultOptions()
	o.Contacts, o.Seed = contacts, 3
	o.CreatedTies, o.UpdatedTies, o.UpdatedMsTies, o.ShuffleTies = contacts/3, contacts/4, contacts/5, true
	if x.source, err = sandbox.New(o, clock.System{}); err != nil {
		t.Fatal(err)
	}
	served := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if x.storm.Load() && strings.HasSuffix(r.URL.Path, "/contacts") {
			x.source.Mutate(sandbox.Mutation{Updates: 1})
		}
		x.source.Handler().ServeHTTP(w, r)
	}))
	t.Cleanup(served.Close)
	x.url = served.URL
	if x.judge, err = crashtest.NewJudge(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.judge.Close() })
	return x
}

// loader is one that hardly waits, as the next process would open it.
func (x *export) loader() *Loader {
	x.t.Helper()
	l, err := New(x.t.Context(), Options{
		Project: x.s.Project(), Dataset: "crm", Table: "contacts", CreateDataset: true, Method: x.method,
		Endpoint: x.s.URL(), GRPCEndpoint: x.s.Addr(),
	})
	if err != nil {
		x.t.Fatal(err)
	}
	l.first = x.hurry
	return l
}

// with does something with an engine and a job of its own, as a process does.
func (x *export) with(do func(run.Engine, run.Job) (run.Summary, error), more ...run.Destination) (run.Summary, error) {
	x.t.Helper()
	store, err := state.Open(filepath.Join(x.dir, "state"), clock.System{}, state.WithRescueDir(x.dir))
	if err != nil {
		x.t.Fatal(err)
	}
	l := x.loader()
	defer func() { _ = l.Close() }()
	job := run.Job{
		Pipeline: "nightly", Identity: state.SourceIdentity{Scheme: "sandbox"}, Contract: schemas.Default(),
		Source: extract.Source{
			BaseURL: x.url, APIKey: sandbox.DefaultKey, RequestsPerSecond: -1, Concurrency: 3,
			BackoffMin: time.Millisecond, BackoffMax: 10 * time.Millisecond,
		},
		Lookback: time.Second, PageSize: 15, Verify: load.VerifySample,
		Destinations: append([]run.Destination{{Name: "warehouse", Loader: l}}, more...),
	}
	return do(run.Engine{Store: store, Clock: clock.System{}, SealRows: 20}, job)
}

func sync1(full bool) func(run.Engine, run.Job) (run.Summary, error) {
	return func(e run.Engine, job run.Job) (run.Summary, error) {
		job.Full = full
		return e.Run(context.Background(), job)
	}
}

func backfill(e run.Engine, job run.Job) (run.Summary, error) {
	return e.Backfill(context.Background(), job, run.Backfill{
		From: time.Date(2022, 12, 1, 0, 0, 0, 0, time.UTC), To: time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC),
		Key: extract.ByCreated, Window: 180 * 24 * time.Hour, Parallel: 2,
	})
}

func reconcile(e run.Engine, job run.Job) (run.Summary, error) {
	return e.Reconcile(context.Background(), job, run.Reconciliation{MaxShare: 0.9})
}

func (x *export) must(do func(run.Engine, run.Job) (run.Summary, error)) run.Summary {
	x.t.Helper()
	sum, err := x.with(do)
	if err != nil {
		x.t.Fatal(err)
	}
	return sum
}

// look notes the versions that the source has now.
func (x *export) look() {
	x.t.Helper()
	var dump bytes.Buffer
	if err := errors.Join(x.source.Dump(&dump), x.judge.Look(dump.Bytes())); err != nil {
		x.t.Fatal(err)
	}
}

// change changes the source.
func (x *export) change(m sandbox.Mutation) {
	x.t.Helper()
	x.source.Mutate(m)
	x.look()
}

// same fails unless the table equals the source and history has each version
// once, as the vendor's client reads them.
func (x *export) same(e crashtest.Expect) {
	x.t.Helper()
	x.look()
	faults, err := x.judge.CheckWarehouse(x.t.Context(), x.client, "crm", "contacts", x.table(), e)
	if err != nil {
		x.t.Fatal(err)
	}
	if len(faults) > 0 {
		x.t.Fatalf("the table is not the source:\n%s", crashtest.Summary(faults))
	}
}

// table is the columns as the last package left them.
func (x *export) table() schemas.Table {
	x.t.Helper()
	l := x.loader()
	defer func() { _ = l.Close() }()
	last, err := l.last(x.t.Context())
	if err != nil {
		x.t.Fatal(err)
	}
	if last.status != statusDone {
		x.t.Fatalf("the last package is %q", last.status)
	}
	table, err := l.columnsAfter(x.t.Context(), last)
	if err != nil {
		x.t.Fatal(err)
	}
	return table
}

// draw are n contacts of the source.
func (x *export) draw(n int) []sandbox.Contact {
	var all []sandbox.Contact
	x.source.Each(func(c sandbox.Contact) bool {
		all = append(all, c)
		return len(all) < n
	})
	return all
}

// newFields brings fields that were never there, and values of the one before
// that do not fit it.
func (x *export) newFields(round int) {
	x.t.Helper()
	values := []string{`7`, `"seven"`, `true`, `7.5`, `{"seven": 7}`}
	field := func(of, round int) sandbox.Field {
		return sandbox.Field{Key: fmt.Sprintf("field %d", round), Value: json.RawMessage(values[(round+of)%len(values)])}
	}
	for i, c := range x.draw(3) {
		change := sandbox.Change{Customer: []sandbox.Field{field(0, round)}}
		if round > 0 {
			change.Ticket = []sandbox.Field{field(i, round-1)}
			change.Customer = append(change.Customer, field(i, round-1))
		}
		if err := x.source.Update(c.ID, change); err != nil {
			x.t.Fatal(err)
		}
	}
	x.look()
}

func TestEachMethodsTableEqualsASourceThatChanges(t *testing.T) {
	t.Parallel()
	for _, method := range allMethods() {
		t.Run(string(method), func(t *testing.T) {
			t.Parallel()
			if testing.Short() && method != CDC {
				t.Skip("the other methods run without -short")
			}
			x := newExport(t, method, 60)
			x.look()
			if sum := x.must(sync1(false)); sum.New != 60 {
				t.Errorf("a first run found %d new contacts of 60", sum.New)
			}
			x.same(crashtest.Expect{})
			for round := range rounds() {
				x.change(sandbox.Mutation{Updates: 9, Creates: 3, Bulk: 30})
				x.newFields(round)
				x.must(sync1(false))
				x.same(crashtest.Expect{})
			}
			x.change(sandbox.Mutation{Updates: 5, Silent: 4})
			x.must(sync1(true))
			x.same(crashtest.Expect{})

			x.change(sandbox.Mutation{Updates: 9, Creates: 3})
			x.storm.Store(true)
			beside(t, func() { x.must(backfill) }, func() { x.must(sync1(false)) })
			x.storm.Store(false)
			x.must(sync1(false))
			x.same(crashtest.Expect{Unseen: true, Beside: true})

			for range rounds() - 1 {
				x.change(sandbox.Mutation{Restores: 1, Returns: 1})
				for _, c := range x.draw(6) {
					if time.Since(c.CreatedAt) > time.Hour { // whom the table may miss
						if err := x.source.Delete(c.ID); err != nil {
							t.Fatal(err)
						}
					}
				}
				x.change(sandbox.Mutation{Updates: 3})
				x.must(reconcile)
				x.must(sync1(false))
				x.same(crashtest.Expect{Unseen: true, Beside: true, Marked: true})
			}
			sound(t, x)
		})
	}
}

// rounds is how often the same is done again.
func rounds() int {
	if soak() {
		return 4
	}
	return 2
}

// beside does things at once.
func beside(t *testing.T, all ...func()) {
	t.Helper()
	var wg sync.WaitGroup
	for _, f := range all {
		wg.Go(f)
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// sound fails where the loader's own verification finds a fault.
func sound(t *testing.T, x *export) {
	t.Helper()
	store, err := state.Open(filepath.Join(x.dir, "state"), clock.System{})
	if err != nil {
		t.Fatal(err)
	}
	doc, err := store.Load(t.Context(), "nightly")
	if err != nil {
		t.Fatal(err)
	}
	l := x.loader()
	defer func() { _ = l.Close() }()
	if _, err := l.Verify(t.Context(), doc.Lineage, func(f load.Fault) { t.Errorf("found %+v", f) }); err != nil {
		t.Fatal(err)
	}
}

// lake is a second destination.
func (x *export) lake() run.Destination {
	x.t.Helper()
	l, err := parquet.New(parquet.Options{Path: filepath.Join(x.dir, "lake"), Table: "contacts"})
	if err != nil {
		x.t.Fatal(err)
	}
	return run.Destination{Name: "lake", Loader: l}
}

func (x *export) sameLake() {
	x.t.Helper()
	dir := filepath.Join(x.dir, "lake", "contacts")
	m, err := parquet.OpenManifest(dir)
	if err != nil {
		x.t.Fatal(err)
	}
	faults, err := x.judge.Check(x.t.Context(), dir, m.Schema, crashtest.Expect{})
	if err != nil || len(faults) > 0 {
		x.t.Fatalf("the lake is not the source: %v\n%s", err, crashtest.Summary(faults))
	}
}

var errDown = errors.New("the destination is down")

// ailing is a loader whose commits the service refuses.
type ailing struct {
	load.Loader
	s *bqtest.Server
}

func (a ailing) Commit(ctx context.Context, p load.Package) (load.Result, error) {
	a.s.Inject(bqtest.Fault{Call: "jobs.insert", Skip: int(p.Serial % 3), Times: -1, Status: http.StatusForbidden, Reason: "accessDenied", Message: "not for you"})
	defer a.s.Heal()
	return a.Loader.Commit(ctx, p)
}

// broken fails its commits.
type broken struct{ load.Loader }

func (broken) Commit(context.Context, load.Package) (load.Result, error) {
	return load.Result{}, errDown
}

func TestOfTwoDestinationsOneFailsForSomePackagesAndCatchesUp(t *testing.T) {
	t.Parallel()
	for _, method := range allMethods() {
		t.Run(string(method), func(t *testing.T) {
			t.Parallel()
			if !soak() && method != Stream {
				t.Skip("the other methods run with SLUICE_SOAK=1")
			}
			x := newExport(t, method, 30)
			both := func(e run.Engine, job run.Job) (run.Summary, error) {
				job.Destinations = slices.Concat(job.Destinations, []run.Destination{x.lake()})
				return e.Run(t.Context(), job)
			}
			x.look()
			x.must(both)
			// The warehouse is away for some packages, each of which the lake has.
			for round := range rounds() {
				x.change(sandbox.Mutation{Updates: 7, Creates: 2})
				x.newFields(round)
				_, err := x.with(func(e run.Engine, job run.Job) (run.Summary, error) {
					job.Destinations[0].Loader = ailing{job.Destinations[0].Loader, x.s}
					return both(e, job)
				})
				if err == nil || !strings.Contains(err.Error(), "not for you") {
					t.Fatalf("got %v", err)
				}
				x.sameLake()
			}
			x.must(both)
			x.same(crashtest.Expect{})
			x.sameLake()
			// Then the lake.
			for range rounds() {
				x.change(sandbox.Mutation{Updates: 7, Creates: 2})
				_, err := x.with(func(e run.Engine, job run.Job) (run.Summary, error) {
					lake := x.lake()
					lake.Loader = broken{lake.Loader}
					job.Destinations = append(job.Destinations, lake)
					return e.Run(t.Context(), job)
				})
				if !errors.Is(err, errDown) {
					t.Fatalf("got %v", err)
				}
				x.same(crashtest.Expect{})
			}
			x.must(both)
			x.same(crashtest.Expect{})
			x.sameLake()
		})
	}
}
