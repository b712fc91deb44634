package run_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-etl/sluice/internal/gcs/gcstest"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/sandbox"
	"github.com/sluice-etl/sluice/internal/state"
)

// inObjects lists the objects that hold a contact.
func (c *cloud) inObjects(w *world, k sandbox.Contact) []string {
	w.t.Helper()
	const folder = "downloaded"
	if err := os.RemoveAll(filepath.Join(w.dir, folder)); err != nil {
		w.t.Fatal(err)
	}
	for name, data := range c.Objects(w.t, stateBucket, "") {
		path := filepath.Join(w.dir, folder, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, data, 0o600)); err != nil {
			w.t.Fatal(err)
		}
	}
	if len(c.Objects(w.t, stateBucket, "")) == 0 {
		return nil
	}
	return w.whereabouts(k, folder)
}

// kept is a world in which two packages wait in a bucket for a destination that
// takes none, both with a contact, and other contacts are in one alone. What a dead run has left there
// holds the contact as well. dir is this machine's directory.
func kept(t *testing.T) (w *world, c *cloud, job run.Job, second *brokenEraser, k sandbox.Contact, dir string) {
	t.Helper()
	w = newWorld(t, contacts(60))
	c = newCloud(t)
	dir = filepath.Join(w.dir, "machine")
	c.on(w, dir)
	second = &brokenEraser{Eraser: w.eraser("second"), down: true}
	job = w.job(run.Destination{Name: "lake", Loader: w.eraser("lake")}, run.Destination{Name: "second", Loader: second})
	n := 0
	w.source.Each(func(some sandbox.Contact) bool { k = some; n++; return n < 30 })
	for range 2 {
		if _, err := w.run(t.Context(), job); !errors.Is(err, errDown) {
			t.Fatal(err)
		}
		w.source.Mutate(sandbox.Mutation{Creates: 4})
		if err := w.source.Touch(k.ID); err != nil {
			t.Fatal(err)
		}
	}
	if q := w.state().Destination("second").Queue; len(q) != 2 || q[0].Kept == "" || q[1].Kept == "" {
		t.Fatalf("what waits is %+v", q)
	}
	for name, data := range c.Objects(t, stateBucket, "sluice/runs/") {
		parts := strings.Split(name, "/")
		c.Put(stateBucket, "sluice/runs/"+parts[0]+"/dead/"+parts[2], data)
	}
	return w, c, job, second, k, dir
}

func TestAContactIsErasedFromPackagesThatWaitInABucket(t *testing.T) {
	slow(t)
	w, c, job, second, k, dir := kept(t)
	before := c.inObjects(w, k)
	if len(before) < 2 {
		t.Fatalf("it stands in %v", before)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	// What a machine has begun to fetch, too.
	fetching := filepath.Join(dir, "fetch", "nightly.x")
	if err := errors.Join(os.MkdirAll(fetching, 0o700), os.WriteFile(filepath.Join(fetching, "journal"), []byte(k.ID), 0o600)); err != nil {
		t.Fatal(err)
	}
	c.on(w, dir)
	queue := w.state().Destination("second").Queue
	dry, err := w.erase(job, k.ID, true, nil)
	if err != nil || dry.Staged != 2 {
		t.Fatalf("a dry run finds %+v, %v", dry, err)
	}
	if after := w.state().Destination("second").Queue; fmt.Sprint(after) != fmt.Sprint(queue) || len(c.inObjects(w, k)) == 0 {
		t.Errorf("a dry run has changed %v to %v", queue, after)
	}
	got, err := w.erase(job, k.ID, false, nil)
	if err != nil || fmt.Sprint(got) != fmt.Sprint(dry) {
		t.Fatalf("it removes %+v, %v; the dry run had %+v", got, err, dry)
	}
	if left := append(c.inObjects(w, k), w.whereabouts(k, "machine")...); len(left) > 0 {
		t.Errorf("it is left in %v", left)
	}
	after := w.state().Destination("second").Queue
	if after[0].Kept == queue[0].Kept || after[1].Kept != after[0].Kept {
		t.Errorf("what waits was kept as %v, now %v", queue, after)
	}
	if runs, err := os.ReadDir(filepath.Join(dir, "runs")); err == nil && len(runs) > 0 {
		t.Errorf("%v is left on the disk", runs)
	}
	if again, err := w.erase(job, k.ID, false, nil); err != nil || again.Any() {
		t.Errorf("again: %+v, %v", again, err)
	}
	// Another one, who is in one of the two packages that one claim keeps.
	var other sandbox.Contact
	w.source.Each(func(some sandbox.Contact) bool { other = some; return false })
	if r, err := w.erase(job, other.ID, false, nil); err != nil || r.Staged != 1 || len(c.inObjects(w, other)) > 0 {
		t.Errorf("of another one it removes %+v, %v, and leaves %v", r, err, c.inObjects(w, other))
	}
	if last := w.state().Destination("second").Queue; last[0].Kept == after[0].Kept || last[1].Kept != after[1].Kept {
		t.Errorf("what waits was kept as %v, now %v", after, last)
	}
	for _, gone := range []string{k.ID, other.ID} {
		if err := w.source.Delete(gone); err != nil {
			t.Fatal(err)
		}
	}
	second.down = false
	w.mustRun(job)
	w.same("lake")
	w.same("second")
	c.clean(w)
	if left := w.whereabouts(k, "."); len(left) > 0 {
		t.Errorf("after the next run it is back in %v", left)
	}
}

// Whichever request fails, before or after its effect, the same call again does
// the rest, and nothing but the contact is lost.
func TestErasingFromABucketIsGoneOnWithAfterAFault(t *testing.T) {
	slow(t)
	w, c, job, second, k, dir := kept(t)
	tables := job.Destinations
	job.Destinations = nil // they have tests of their own
	base := c.Objects(t, stateBucket, "")
	c.SetFault(nil)
	if _, err := w.erase(job, k.ID, false, nil); err != nil {
		t.Fatal(err)
	}
	requests := c.SetFault(nil)
	t.Logf("%d requests", requests)
	if requests < 20 {
		t.Fatalf("it took %d requests", requests)
	}
	for at := 1; at <= requests; at += 4 {
		fault := []gcstest.Fault{gcstest.Refuse, gcstest.RefuseAfter}[at/4%2]
		c.Restore(t, stateBucket, base)
		if at%3 == 0 {
			if err := os.RemoveAll(filepath.Join(dir, "runs")); err != nil {
				t.Fatal(err)
			}
		}
		c.on(w, dir)
		c.SetFault(func(n int, _ *http.Request) gcstest.Fault {
			if n >= at {
				if n > at {
					return gcstest.Refuse
				}
				return fault
			}
			return gcstest.None
		})
		_, err := w.erase(job, k.ID, false, nil)
		c.SetFault(nil)
		if err == nil {
			t.Errorf("stopped at request %d, it succeeds", at)
		}
		c.on(w, dir)
		if _, err := w.erase(job, k.ID, true, nil); err != nil { // as the command does first
			t.Fatalf("stopped at request %d: a dry run: %v", at, err)
		}
		if _, err := w.erase(job, k.ID, false, nil); err != nil {
			t.Fatalf("stopped at request %d: %v", at, err)
		}
		if left := append(c.inObjects(w, k), w.whereabouts(k, "machine")...); len(left) > 0 {
			t.Errorf("stopped at request %d: it is left in %v", at, left)
		}
	}
	job.Destinations = tables
	if _, err := w.erase(job, k.ID, false, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.source.Delete(k.ID); err != nil {
		t.Fatal(err)
	}
	second.down = false
	w.mustRun(job)
	w.same("lake")
	w.same("second")
}

// A run that another machine is in the middle of is not disturbed.
func TestNothingIsErasedBesideARunOfAnotherMachine(t *testing.T) {
	w := newWorld(t, contacts(300))
	c := newCloud(t)
	c.machine(w)
	other, tried := c.another(w), 0
	w.afterPage = func(int64) {
		if tried++; tried > 1 {
			return
		}
		var held *state.HeldError
		if _, err := other.erase(run.Job{Pipeline: "nightly"}, "anybody", true, nil); !errors.As(err, &held) {
			t.Errorf("got %v", err)
		}
	}
	w.mustRun(w.job())
	if tried == 0 {
		t.Fatal("nobody tried")
	}
	w.same("lake")
}
