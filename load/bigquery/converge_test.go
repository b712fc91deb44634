//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package bigquery

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/bigquery/bqtest"
	"github.com/sluice-etl/sluice/load/loadtest"
)

// end is how something ends at a call: refused, with its answer lost for good, or
// killed before or after the call took effect.
type end struct {
	name string
	// inject puts it there, and returns the context of what is to end.
	inject func(t *testing.T, s *bqtest.Server) context.Context
}

// ends are the ways in which something ends at each of its calls: all of them in
// a soak, else some.
func ends(calls map[string]int, want, from int) []end {
	var out []end
	add := func(call string, skip int, how string, f bqtest.Fault, kill bool) {
		f.Call, f.Skip = call, skip
		out = append(out, end{fmt.Sprintf("%s at call %d of %s", how, skip+1, call), func(t *testing.T, s *bqtest.Server) context.Context {
			t.Helper()
			ctx, cancel := context.WithCancel(t.Context())
			t.Cleanup(cancel)
			if kill {
				f.OnCall = cancel
			}
			s.Inject(f)
			return ctx
		}})
	}
	for _, call := range slices.Sorted(maps.Keys(calls)) {
		for skip := range calls[call] {
			add(call, skip, "refused", bqtest.Fault{Status: http.StatusForbidden, Reason: "accessDenied", Times: -1}, false)
			add(call, skip, "answers lost", bqtest.Fault{Drop: true, After: true, Times: -1}, false)
			add(call, skip, "killed before", bqtest.Fault{}, true)
			add(call, skip, "killed after", bqtest.Fault{After: true}, true)
		}
	}
	if soak() {
		return soaked(out)
	}
	var some []end
	for i := range min(want, len(out)) {
		some = append(some, out[(i*len(out)/want+from)%len(out)])
	}
	return some
}

// hurried is a loader of a dataset that hardly waits.
func hurried(t *testing.T, s *bqtest.Server, dataset string, o Options) *Loader {
	t.Helper()
	l := &Loader{remoteAt(t, s, o)}
	l.o.Dataset, l.first = dataset, 20*time.Microsecond
	return l
}

func TestAConvergenceThatEndsAtAnyCallIsCompletedByTheNext(t *testing.T) {
	t.Parallel()
	for i, method := range allMethods() {
		t.Run(string(method), func(t *testing.T) {
			t.Parallel()
			if testing.Short() && method != CDC {
				t.Skip("the other methods run without -short")
			}
			s := standIn(t, bqtest.Options{})
			o := Options{Method: method, Stages: "crm_stages"}
			calls := counted(s, func() { converge(t, hurried(t, s, "undisturbed", o), loadtest.Table()) })
			failed, list := 0, ends(calls, 6, i)
			for k, c := range list {
				progress(t, k, len(list), c.name)
				dataset := fmt.Sprintf("crm_%d", k)
				l := hurried(t, s, dataset, o)
				ctx := c.inject(t, s)
				err := l.Converge(ctx, load.Convergence{Lineage: testLineage, Table: loadtest.Table()})
				s.Heal()
				if err != nil {
					failed++
				}
				if k%3 == 2 { // a commit goes on as well
					g := newLedger(t, s, method, dataset)
					if err := g.through(c.name, false, nil); err != nil {
						t.Fatalf("%s: %v", c.name, err)
					}
				}
				l = hurried(t, s, dataset, o)
				converge(t, l, loadtest.Table())
				unlike(t, l, c.name)
			}
			if failed == 0 {
				t.Error("none failed")
			}
		})
	}
}

func TestAConvergenceOfATableWithRowsThatEndsAtAnyCallIsCompletedByTheNext(t *testing.T) {
	t.Parallel()
	for i, method := range allMethods() {
		t.Run(string(method), func(t *testing.T) {
			t.Parallel()
			if testing.Short() && method != CDC {
				t.Skip("the other methods run without -short")
			}
			s := standIn(t, bqtest.Options{})
			g := newLedger(t, s, method, "crm")
			if err := g.through("first", false, nil); err != nil {
				t.Fatal(err)
			}
			changed := func(n int) *Loader { // labels of tables, and with them all views
				return hurried(t, s, "crm", Options{Method: method, Labels: map[string]string{"n": fmt.Sprint(n)}})
			}
			calls := counted(s, func() { converge(t, changed(0), loadtest.Table()) })
			failed, list := 0, ends(calls, 4, i)
			for k, c := range list {
				progress(t, k, len(list), c.name)
				ctx := c.inject(t, s)
				if err := changed(k+1).Converge(ctx, load.Convergence{Lineage: testLineage, Table: loadtest.Table()}); err != nil {
					failed++
				}
				s.Heal()
				l := changed(k + 1)
				converge(t, l, loadtest.Table())
				unlike(t, l, c.name)
				if err := g.holds(nil); err != nil {
					t.Fatalf("%s: %v", c.name, err)
				}
			}
			if failed == 0 {
				t.Error("none failed")
			}
			if err := g.through("last", false, nil); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestConvergedViewsAreNotLookedAtByTheCommitsAfter(t *testing.T) {
	t.Parallel()
	s := standIn(t, bqtest.Options{})
	l := settled(t, s, Options{})
	etag := resource(t, l.remote, "contacts_all").Etag
	commit(t, l, loadtest.Spec{Serial: 1, Rows: many(3)})
	if resource(t, l.remote, "contacts_all").Etag != etag {
		t.Error("the commit made the views again")
	}
	if c := resource(t, l.remote, "contacts__commits"); c.Description != "Every package that was committed to contacts, of lineage "+testLineage+". Written by sluice" {
		t.Errorf("the record is described as %q", c.Description)
	}
}

func TestAViewThatWasLeftAsItWasIsMadeByTheNextCommit(t *testing.T) {
	t.Parallel()
	s := standIn(t, bqtest.Options{})
	l := &Loader{remoteAt(t, s, Options{})}
	only := []load.ResourceName{{Kind: load.KindDataset}, {Kind: load.KindTable, Name: "contacts"}, {Kind: load.KindView, Name: "contacts_all"}}
	if err := l.Converge(t.Context(), load.Convergence{Lineage: testLineage, Table: loadtest.Table(), Only: only}); err != nil {
		t.Fatal(err)
	}
	if m, err := l.table(t.Context(), "contacts_active"); m != nil || err != nil {
		t.Fatalf("a view that was not asked for is %v, %v", m, err)
	}
	commit(t, l, loadtest.Spec{Serial: 1, Rows: many(3)})
	unlike(t, l, "after a commit")
}

func TestViewsFollowWhileTheirTableWaitsForAReplacement(t *testing.T) {
	t.Parallel()
	s := standIn(t, bqtest.Options{})
	g := newLedger(t, s, Stream, "crm")
	if err := g.through("first", false, nil); err != nil {
		t.Fatal(err)
	}
	g.method = CDC
	l := g.loader()
	do(t, l, "DROP VIEW crm.contacts_runs")
	only := []load.ResourceName{{Kind: load.KindView, Name: "contacts_runs"}}
	if err := l.Converge(t.Context(), load.Convergence{Lineage: testLineage, Table: loadtest.Table(), Only: only}); err != nil {
		t.Fatal(err)
	}
	resource(t, l.remote, "contacts_runs")
}

func TestNothingIsMadeWithoutALineageOrWithoutItsDataset(t *testing.T) {
	t.Parallel()
	s := standIn(t, bqtest.Options{})
	l := &Loader{remoteAt(t, s, Options{})}
	only := []load.ResourceName{{Kind: load.KindTable, Name: "contacts"}}
	for _, c := range []load.Convergence{{Table: loadtest.Table()}, {Lineage: testLineage, Table: loadtest.Table(), Only: only}} {
		if err := l.Converge(t.Context(), c); err == nil {
			t.Errorf("%+v succeeds", c)
		}
	}
	if d, err := l.dataset(t.Context()); d != nil || err != nil {
		t.Errorf("dataset %v, %v", d, err)
	}
}

func TestAPermissionThatIsMissingIsNamed(t *testing.T) {
	t.Parallel()
	s := standIn(t, bqtest.Options{})
	l := settled(t, s, Options{})
	for call, f := range map[string]func() error{
		"tabledata.list": func() error {
			_, err := l.Survey(t.Context(), testLineage, loadtest.Table())
			return err
		},
		"routines.get": func() error {
			_, err := l.Survey(t.Context(), testLineage, loadtest.Table())
			return err
		},
		"tables.delete":   func() error { return l.Destroy(t.Context(), load.Destruction{Lineage: testLineage}) },
		"routines.delete": func() error { return l.Destroy(t.Context(), load.Destruction{Lineage: testLineage}) },
	} {
		s.Inject(bqtest.Fault{Call: call, Times: -1, Status: http.StatusForbidden, Reason: "accessDenied"})
		var e *Error
		if err := f(); !errors.As(err, &e) || e.Hint() == "" {
			t.Errorf("%s: %v", call, err)
		}
		s.Heal()
	}
}
