package run_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/gcs"
	"github.com/sluice-etl/sluice/internal/gcs/gcstest"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/sandbox"
	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/load"
)

const stateBucket = "acme-state"

// cloud is a bucket that the machines of a test share.
type cloud struct {
	*gcstest.Server
	client *gcs.Client
}

func newCloud(t *testing.T) *cloud {
	t.Helper()
	if testing.Short() {
		t.Skip("a bucket server answers slowly under the race detector; the plain tests have it")
	}
	server := gcstest.Start(t, stateBucket)
	client, err := gcs.New(t.Context(), gcs.Options{Endpoint: server.URL, RetryPause: time.Millisecond, CallTimeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return &cloud{server, client}
}

// machine lets w work with the shared state from a machine with a disk of its
// own, whose directory it returns.
func (c *cloud) machine(w *world) (dir string) {
	w.t.Helper()
	dir = w.t.TempDir()
	c.on(w, dir)
	return dir
}

func (c *cloud) on(w *world, dir string) {
	w.t.Helper()
	store, err := state.OpenGCS(c.client, "gs://"+stateBucket+"/sluice", dir, clock.System{}, state.WithRescueDir(w.t.TempDir()))
	if err != nil {
		w.t.Fatal(err)
	}
	w.store = store
}

// another is a machine beside that of w: the same source, lakes and state.
func (c *cloud) another(w *world) *world {
	w.t.Helper()
	other := &world{t: w.t, dir: w.dir, source: w.source, url: w.url}
	c.machine(other)
	return other
}

// clean fails if the bucket holds more than documents.
func (c *cloud) clean(w *world) {
	w.t.Helper()
	for _, name := range c.Names(w.t, stateBucket) {
		if !strings.HasPrefix(name, "sluice/state/") {
			w.t.Errorf("%s is left in the bucket", name)
		}
	}
}

// broken is a destination that takes no package until it is mended.
type broken struct {
	load.Loader
	mended bool
}

func (b *broken) Commit(ctx context.Context, p load.Package) (load.Result, error) {
	if !b.mended {
		return load.Result{}, errors.New("disk full")
	}
	return b.Loader.Commit(ctx, p)
}

func TestASealedPackageOutlivesTheDiskOfTheMachineThatSealedIt(t *testing.T) {
	w := newWorld(t, sandbox.Options{Contacts: 2000, Seed: 1})
	c := newCloud(t)
	dir := c.machine(w)
	lake := &broken{Loader: w.lake("lake")}
	job := w.job(run.Destination{Name: "lake", Loader: lake})
	if _, err := w.run(t.Context(), job); err == nil {
		t.Fatal("the broken lake took a package")
	}
	sealed := w.state()
	if q := sealed.Destination("lake").Queue; len(q) != 1 || q[0].Kept == "" || sealed.Cursor == nil {
		t.Fatalf("nothing is sealed: %+v", q)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	lake.mended = true
	c.machine(w)
	requests := w.source.Stats().Requests
	w.mustRun(job)
	w.same("lake")
	if n := w.source.Stats().Requests - requests; n > 5 {
		t.Errorf("%d requests: it was read again", n)
	}
	if d := w.state().Destination("lake"); len(d.Queue) > 0 || d.Position < sealed.Destination("lake").Queue[0].Serial {
		t.Errorf("lake stands at %+v", d)
	}
	c.clean(w)
	entries, err := os.ReadDir(filepath.Dir(w.store.RunDir("x")))
	if err != nil || len(entries) > 0 {
		t.Errorf("left on the disk: %v, %v", entries, err)
	}
}

func TestARunOfAnotherMachineIsNamedAndLeftAlone(t *testing.T) {
	w := newWorld(t, sandbox.Options{Contacts: 1000, Seed: 2})
	c := newCloud(t)
	c.machine(w)
	other, tried := c.another(w), 0
	w.afterPage = func(int64) {
		if tried++; tried > 1 {
			return
		}
		_, err := other.run(t.Context(), other.job())
		var held *state.HeldError
		if !errors.As(err, &held) || held.Holder.PID != os.Getpid() || held.Lapses.IsZero() {
			t.Errorf("got %v", err)
		}
	}
	w.mustRun(w.job())
	if tried == 0 {
		t.Fatal("nobody tried")
	}
	other.mustRun(other.job())
	w.same("lake")
	c.clean(w)
}

// TestARunThatWasTakenOverSealsNothing lets a second machine take a first one
// for dead while it reads, run, and read on, before the first comes to its end.
func TestARunThatWasTakenOverSealsNothing(t *testing.T) {
	w := newWorld(t, sandbox.Options{Contacts: 1500, Seed: 3})
	c := newCloud(t)
	dir := c.machine(w)
	w.mustRun(w.job())
	w.source.Mutate(sandbox.Mutation{Updates: 300})
	other, once := c.another(w), false
	w.afterPage = func(int64) {
		if once {
			return
		}
		once = true
		for _, name := range c.Names(t, stateBucket) {
			if strings.HasPrefix(name, "sluice/claims/") { // no sign of life for too long
				if err := c.client.Delete(t.Context(), stateBucket, name, gcs.Any); err != nil {
					t.Error(err)
				}
			}
		}
		other.mustRun(other.job())
		w.source.Mutate(sandbox.Mutation{Updates: 100})
		other.mustRun(other.job())
	}
	_, err := w.run(t.Context(), w.job())
	var over *state.TakenOverError
	if !errors.As(err, &over) {
		t.Fatalf("got %v", err)
	}
	after := other.state()
	if len(after.Destination("lake").Queue) > 0 || after.NextPackage != 4 {
		t.Errorf("next package %d, queue %v", after.NextPackage, after.Destination("lake").Queue)
	}
	w.same("lake")
	w.afterPage = nil
	c.on(w, dir) // with what the run that was taken over has left there
	w.source.Mutate(sandbox.Mutation{Updates: 50})
	w.mustRun(w.job())
	w.same("lake")
	if now := w.state(); now.Cursor.Before(*after.Cursor) {
		t.Errorf("the cursor moved from %s to %s", after.Cursor, now.Cursor)
	}
	c.clean(w)
}

// meanwhile is a destination before whose first commit something happens.
type meanwhile struct {
	load.Loader
	happens func()
}

func (m *meanwhile) Commit(ctx context.Context, p load.Package) (load.Result, error) {
	if happens := m.happens; happens != nil {
		m.happens = nil
		happens()
	}
	return m.Loader.Commit(ctx, p)
}

func TestAPackageThatAnotherMachineCommitsMeanwhileIsNoError(t *testing.T) {
	w := newWorld(t, sandbox.Options{Contacts: 500, Seed: 4})
	c := newCloud(t)
	c.machine(w)
	w.mustRun(w.job())
	w.source.Mutate(sandbox.Mutation{Updates: 50})
	if _, err := w.run(t.Context(), w.job(run.Destination{Name: "lake", Loader: &broken{Loader: w.lake("lake")}})); err == nil {
		t.Fatal("the broken lake took a package")
	}
	other := c.another(w)
	lake := &meanwhile{Loader: w.lake("lake"), happens: func() { // a backfill of the other machine commits what is queued
		from := time.Now().Add(-24 * time.Hour)
		e := run.Engine{Store: other.store, Clock: clock.System{}}
		if _, err := e.Backfill(t.Context(), other.job(), run.Backfill{From: from, To: from.Add(time.Hour)}); err != nil {
			t.Error(err)
		}
	}}
	w.source.Mutate(sandbox.Mutation{Updates: 50})
	w.mustRun(w.job(run.Destination{Name: "lake", Loader: lake}))
	w.same("lake")
	if d := w.state().Destination("lake"); len(d.Queue) > 0 || d.Error != "" || d.Position != w.state().NextPackage-1 || d.Position != 4 {
		t.Errorf("lake stands at %+v", d)
	}
	c.clean(w)
}

// TestARequestToTheBucketThatFailsIsMadeUpForByTheNextRun fails requests all
// over a run, before and after their effect, and now and then throws the disk
// away. That each one may fail is shown by the store's own tests.
func TestARequestToTheBucketThatFailsIsMadeUpForByTheNextRun(t *testing.T) {
	w := newWorld(t, sandbox.Options{Contacts: 60, Seed: 5})
	c := newCloud(t)
	c.machine(w)
	w.mustRun(w.job())
	c.SetFault(nil)
	w.source.Mutate(sandbox.Mutation{Updates: 5})
	w.mustRun(w.job())
	requests := c.SetFault(nil)
	if requests < 15 {
		t.Fatalf("a run is %d requests: nothing is swept", requests)
	}
	for at := 1; at <= requests; at += 5 {
		fault := gcstest.Refuse
		if at%2 == 0 {
			fault = gcstest.RefuseAfter
		}
		w.source.Mutate(sandbox.Mutation{Updates: 5})
		dir := c.machine(w)
		c.SetFault(func(n int, _ *http.Request) gcstest.Fault {
			if n == at {
				return fault
			}
			return gcstest.None
		})
		_, err := w.run(t.Context(), w.job())
		c.SetFault(nil)
		if at%4 < 2 {
			c.machine(w) // the disk is gone, and nobody gives up the claim
			for _, name := range c.Names(t, stateBucket) {
				if strings.HasPrefix(name, "sluice/claims/") {
					_ = c.client.Delete(t.Context(), stateBucket, name, gcs.Any)
				}
			}
		} else {
			c.on(w, dir)
		}
		w.mustRun(w.job())
		w.same("lake")
		if t.Failed() {
			t.Fatalf("request %d (%d): %v", at, fault, err)
		}
	}
}
