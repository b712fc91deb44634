package run_test

import (
	"context"
	"errors"
	"testing"

	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/sandbox"
	"github.com/sluice-etl/sluice/load"
)

// noting is a loader that notes what it begins, and fails after it while down.
type noting struct {
	load.Loader
	down  bool
	given []string // the notes it got with a package
}

func (n *noting) Commit(ctx context.Context, p load.Package) (load.Result, error) {
	n.given = append(n.given, string(p.Memo))
	if n.down {
		return load.Result{}, errors.Join(p.Remember(ctx, []byte(`{"streams":["a","b"]}`)), errors.New("the connection is lost"))
	}
	return n.Loader.Commit(ctx, p)
}

func TestALoaderGetsItsNoteOnAPackageBackUntilThePackageIsCommitted(t *testing.T) {
	w := newWorld(t, sandbox.Options{Contacts: 50, Seed: 4})
	n := &noting{Loader: w.lake("lake"), down: true}
	job := w.job(run.Destination{Name: "lake", Loader: n})
	var failed *run.DestinationsError
	if _, err := w.run(t.Context(), job); !errors.As(err, &failed) {
		t.Fatalf("run with a loader that fails: %v", err)
	}
	if q := w.state().Destinations["lake"].Queue; len(q) != 1 || len(q[0].Memo) == 0 {
		t.Fatalf("queue is %+v", q)
	}
	n.down = false
	w.mustRun(job)
	if want := `{"streams":["a","b"]}`; len(n.given) < 2 || n.given[0] != "" || n.given[1] != want {
		t.Errorf("notes given: %q", n.given)
	}
	if q := w.state().Destinations["lake"].Queue; len(q) != 0 {
		t.Errorf("queue is %+v", q)
	}
	w.same("lake")
	for _, note := range n.given[2:] {
		if note != "" {
			t.Errorf("another package came with the note %q", note)
		}
	}
}
