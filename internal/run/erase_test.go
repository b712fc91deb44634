package run_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/atomicfile/faultfs"
	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/sandbox"
	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

// brokenEraser is a destination that takes no packages, and whose table can be
// erased from all the same.
type brokenEraser struct {
	load.Eraser
	down bool
}

func (b *brokenEraser) Commit(ctx context.Context, p load.Package) (load.Result, error) {
	if b.down {
		return load.Result{}, errDown
	}
	return b.Eraser.Commit(ctx, p)
}

func (w *world) eraser(name string) load.Eraser {
	w.t.Helper()
	e, ok := w.lake(name).(load.Eraser)
	if !ok {
		w.t.Fatal("the loader erases nothing")
	}
	return e
}

// whereabouts lists the files below a folder of the world that hold a contact:
// by its id in Parquet files, by any of its texts in the bytes of others.
func (w *world) whereabouts(c sandbox.Contact, folder string) []string {
	w.t.Helper()
	var out []string
	err := filepath.WalkDir(filepath.Join(w.dir, folder), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		holds := strings.Contains(path, c.ID)
		if strings.HasSuffix(path, ".parquet") {
			read(w.t, path, schemas.ColID, func(id string, _ arrow.Array, _ int) { holds = holds || id == c.ID })
		}
		data, err := os.ReadFile(path)
		for _, text := range []string{c.ID, c.Name} {
			holds = holds || len(text) > 8 && bytes.Contains(data, []byte(text))
		}
		if rel, _ := filepath.Rel(w.dir, path); holds {
			out = append(out, rel)
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// spread is a world in which a contact is everywhere: in a table, in a package
// that waits, in an unfinished run, in quarantine and in messages of state.
func spread(t *testing.T) (w *world, job run.Job, second *brokenEraser, c sandbox.Contact) {
	t.Helper()
	w = newWorld(t, contacts(160))
	second = &brokenEraser{Eraser: w.eraser("second"), down: true}
	job = w.job(run.Destination{Name: "lake", Loader: w.eraser("lake")}, run.Destination{Name: "second", Loader: second})
	if _, err := w.run(t.Context(), job); !errors.Is(err, errDown) {
		t.Fatal(err)
	}
	n := 0
	w.source.Each(func(k sandbox.Contact) bool { c = k; n++; return n < 80 })
	if err := w.source.Touch(c.ID); err != nil {
		t.Fatal(err)
	}
	w.source.Mutate(sandbox.Mutation{Updates: 150})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w.afterPage = func(pages int64) {
		if pages >= 1 {
			cancel()
		}
	}
	var stopped *run.InterruptedError
	if _, err := w.run(ctx, job); !errors.As(err, &stopped) || stopped.Staged == 0 {
		t.Fatalf("the run was not stopped on its way: %v", err)
	}
	w.afterPage = nil
	aside := filepath.Join(w.dir, "state", "quarantine", "nightly")
	if err := os.MkdirAll(aside, 0o700); err != nil {
		t.Fatal(err)
	}
	other := `{"run_id":"r","reason":"no created_at","id":"somebody","raw":"{}"}` + "\n"
	mine := fmt.Sprintf(`{"run_id":"r","reason":"no created_at","id":"%s","raw":"{}"}`+"\n"+`{"run_id":"r","reason":"no id","raw":"{\"contact\":\"%s\"}"}`+"\n", c.ID, strings.ToUpper(c.ID))
	for name, text := range map[string]string{"r-0001.ndjson": mine + other, "r-0002.ndjson": mine} {
		if err := os.WriteFile(filepath.Join(aside, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := w.store.Update(t.Context(), "nightly", func(p *state.Pipeline) error {
		p.Runs[0].Error = "contact " + c.ID + " has no phone"
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return w, job, second, c
}

func (w *world) erase(job run.Job, id string, dry bool, disk atomicfile.Disk) (run.Erased, error) {
	w.t.Helper()
	return (&run.Engine{Store: w.store, Clock: clock.System{}, Disk: disk}).Erase(w.t.Context(), job, id, dry)
}

func TestAnErasedContactIsNowhereAndComesBackFromNothing(t *testing.T) {
	slow(t)
	w, job, second, c := spread(t)
	dry, err := w.erase(job, c.ID, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	before := w.whereabouts(c, ".")
	if dry.Staged < 2 || dry.Aside != 4 || dry.Named != 1 || dry.Tables[0].Current != 1 || dry.Tables[0].History < 1 || len(before) < 6 {
		t.Fatalf("it stands in %v, a dry run finds %+v", before, dry)
	}
	got, err := w.erase(job, c.ID, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got) != fmt.Sprint(dry) {
		t.Errorf("it removes %+v, the dry run had %+v", got, dry)
	}
	if left := w.whereabouts(c, "."); len(left) > 0 {
		t.Errorf("it is left in %v", left)
	}
	if again, err := w.erase(job, c.ID, false, nil); err != nil || again.Any() {
		t.Errorf("again: %+v, %v", again, err)
	}
	if err := w.source.Delete(c.ID); err != nil {
		t.Fatal(err)
	}
	second.down = false
	w.mustRun(job) // goes on with the unfinished run, and commits what waits
	w.same("lake")
	w.same("second")
	w.tidy()
	if left := w.whereabouts(c, "."); len(left) > 0 {
		t.Errorf("after the next run it is back in %v", left)
	}
}

// Stopped anywhere, nothing but the contact is lost, and the same call again
// does the rest.
func TestErasingIsGoneOnWithAfterAFault(t *testing.T) {
	slow(t)
	w, job, second, c := spread(t)
	dir, base := filepath.Join(w.dir, "state"), filepath.Join(t.TempDir(), "base")
	if err := os.CopyFS(base, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	tables := job.Destinations
	job.Destinations = nil // they have tests of their own
	ops := 0
	for op := 1; ; op += 3 {
		for _, err := range []error{os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(base))} {
			if err != nil {
				t.Fatal(err)
			}
		}
		disk := faultfs.New(nil, faultfs.Fault{Op: op, Err: faultfs.ErrKilled, Sticky: true})
		_, err := w.erase(job, c.ID, false, disk)
		if !disk.Failed() {
			break
		}
		if err == nil {
			t.Errorf("operation %d fails unseen", op)
		}
		ops++
		if _, err := w.erase(job, c.ID, false, nil); err != nil {
			t.Fatalf("after a fault at operation %d: %v", op, err)
		}
		if left := w.whereabouts(c, "state"); len(left) > 0 {
			t.Errorf("after a fault at operation %d it is left in %v", op, left)
		}
	}
	t.Logf("%d operations", ops)
	if ops < 15 {
		t.Errorf("only %d operations", ops)
	}
	job.Destinations = tables
	if _, err := w.erase(job, c.ID, false, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.source.Delete(c.ID); err != nil {
		t.Fatal(err)
	}
	second.down = false
	w.mustRun(job)
	w.same("lake")
	w.same("second")
}

func TestNothingIsErasedWhileARunGoesOnOrWhereItCannotBe(t *testing.T) {
	w := newWorld(t, contacts(300))
	job := w.job()
	w.mustRun(job)
	var id string
	w.source.Each(func(k sandbox.Contact) bool { id = k.ID; return false })
	for _, kind := range []string{"sync", "backfill", "reconcile", "commit"} {
		release, err := w.store.LockRun(t.Context(), "nightly", kind)
		if err != nil {
			t.Fatal(err)
		}
		var held *state.HeldError
		if _, err := w.erase(job, id, false, nil); !errors.As(err, &held) {
			t.Errorf("beside a %s: %v", kind, err)
		}
		if err := release(); err != nil {
			t.Fatal(err)
		}
	}
	var cannot *run.CannotEraseError
	with := w.job(job.Destinations[0], run.Destination{Name: "other", Loader: &brokenLoader{Loader: w.lake("other")}})
	if _, err := w.erase(with, id, false, nil); !errors.As(err, &cannot) || cannot.Hint() == "" {
		t.Errorf("a destination that cannot: %v", err)
	}
	if _, err := w.erase(job, "", false, nil); !errors.As(err, &cannot) {
		t.Errorf("no id: %v", err)
	}
	if !slices.Contains(keys(w.stored("lake")), id) {
		t.Error("the contact is gone")
	}
}

func keys(m map[string]int64) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	return out
}
