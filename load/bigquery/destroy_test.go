//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package bigquery

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/bigquery/bqtest"
	"github.com/sluice-etl/sluice/load/loadtest"
)

// namesOf are those of all tables, views and functions of a dataset.
func namesOf(t *testing.T, l *Loader) []string {
	t.Helper()
	var out []string
	tables, err := l.rest.Tables.List(l.o.Project, l.o.Dataset).Context(t.Context()).Do()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range tables.Tables {
		out = append(out, m.TableReference.TableId)
	}
	functions, err := l.rest.Routines.List(l.o.Project, l.o.Dataset).Context(t.Context()).Do()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range functions.Routines {
		if !slices.Contains(out, m.RoutineReference.RoutineId) {
			out = append(out, m.RoutineReference.RoutineId)
		}
	}
	slices.Sort(out)
	return out
}

// furnished is a dataset with a table of one package, stages and views.
func furnished(t *testing.T, s *bqtest.Server, dataset string, o Options) (*ledger, *Loader) {
	t.Helper()
	g := newLedger(t, s, o.Method, dataset)
	if err := g.through("first", false, nil); err != nil {
		t.Fatal(err)
	}
	l := hurried(t, s, dataset, o)
	if err := l.ReplaceStages(t.Context(), loadtest.StagesOf("run-001")); err != nil {
		t.Fatal(err)
	}
	return g, l
}

// whole fails unless the table is as it was, none of it is there, or Check says
// that it is neither.
func whole(t *testing.T, what string, g *ledger, l *Loader) {
	t.Helper()
	at, err := l.Check(t.Context(), testLineage)
	switch {
	case err != nil:
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(e.Message, "was begun and did not end") {
			t.Fatalf("%s: a check gives %v", what, err)
		}
		refusesAll(t, what, l)
	case at == 0:
		for _, name := range namesOf(t, l) {
			if !strings.HasPrefix(name, "crm_stages") {
				t.Fatalf("%s: a check finds nothing, and %s is there", what, name)
			}
		}
	default:
		if err := g.holds(nil); err != nil {
			t.Fatalf("%s: a check finds the table, and %v", what, err)
		}
		for _, name := range []string{"contacts_active", "contacts_runs", "contacts_as_of", "contacts__staging"} {
			if !slices.Contains(namesOf(t, l), name) {
				t.Fatalf("%s: a check finds the table, and %s is gone", what, name)
			}
		}
	}
}

// refusesAll fails unless nothing can be done with a table that is going, but to
// look at what is left.
func refusesAll(t *testing.T, what string, l *Loader) {
	t.Helper()
	ctx, before := t.Context(), namesOf(t, l)
	p := loadtest.Build(t, loadtest.Spec{Serial: 9, Rows: many(1)})
	_, committed := l.Commit(ctx, p)
	_, replaced := l.Replace(ctx, testLineage)
	_, erased := l.Erase(ctx, load.Erasure{Lineage: testLineage, ID: "c0002"})
	for name, err := range map[string]error{
		"commit": committed, "replace": replaced, "erase": erased,
		"converge": l.Converge(ctx, load.Convergence{Lineage: testLineage, Table: loadtest.Table()}),
		"list":     l.List(ctx, load.Listing{Lineage: testLineage}, func(arrow.Record) error { return nil }),
	} {
		if err == nil {
			t.Errorf("%s: %s succeeds", what, name)
		}
	}
	if r := resourceOf(t, l, load.KindTable, "contacts"); len(r.Effects) != 1 || !strings.Contains(r.Effects[0], "Destroy it once more") {
		t.Errorf("%s: a survey has effects %q", what, r.Effects)
	}
	if after := namesOf(t, l); !slices.Equal(before, after) {
		t.Errorf("%s: there were %v, and now are %v", what, before, after)
	}
}

func TestADestructionThatEndsAtAnyCallLeavesNoPartOfATableThatPassesForIt(t *testing.T) {
	t.Parallel()
	for i, method := range allMethods() {
		t.Run(string(method), func(t *testing.T) {
			t.Parallel()
			if testing.Short() && method != CDC {
				t.Skip("the other methods run without -short")
			}
			s := standIn(t, bqtest.Options{})
			o := Options{Method: method, Stages: "crm_stages"}
			d := load.Destruction{Lineage: testLineage, Stages: true}
			_, l := furnished(t, s, "undisturbed", o)
			calls := counted(s, func() {
				if err := l.Destroy(t.Context(), d); err != nil {
					t.Fatal(err)
				}
			})
			failed, list := 0, ends(calls, 4, i)
			for k, c := range list {
				progress(t, k, len(list), c.name)
				g, l := furnished(t, s, fmt.Sprintf("crm_%d", k), o)
				ctx := c.inject(t, s)
				if err := l.Destroy(ctx, d); err != nil {
					failed++
				}
				s.Heal()
				l = hurried(t, s, l.o.Dataset, o)
				whole(t, c.name, g, l)
				if err := l.Destroy(t.Context(), d); err != nil {
					t.Fatalf("%s: the next destruction fails too: %v", c.name, err)
				}
				if left := namesOf(t, l); len(left) > 0 {
					t.Fatalf("%s: left are %v", c.name, left)
				}
			}
			if failed == 0 {
				t.Error("none failed")
			}
		})
	}
}

func TestWhatAReplacementHasLeftGoesWithTheTable(t *testing.T) {
	t.Parallel()
	s := standIn(t, bqtest.Options{})
	g := newLedger(t, s, Stream, "crm")
	if err := g.through("first", false, nil); err != nil {
		t.Fatal(err)
	}
	g.method = CDC
	l := g.loader()
	// It ends once the new table is made, and before it has the name.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.Inject(bqtest.Fault{Call: "tables.patch", After: true, OnCall: cancel})
	if _, err := l.Replace(ctx, testLineage); err == nil {
		t.Fatal("the replacement did not end")
	}
	s.Heal()
	if !slices.Contains(namesOf(t, l), "contacts__rebuilt") {
		t.Fatalf("there are %v, which proves nothing", namesOf(t, l))
	}
	if err := l.Destroy(t.Context(), load.Destruction{Lineage: testLineage}); err != nil {
		t.Fatal(err)
	}
	if left := namesOf(t, l); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
}

func TestWhatOthersHaveMadeUnderNamesOfViewsStays(t *testing.T) {
	t.Parallel()
	s := standIn(t, bqtest.Options{})
	l := settled(t, s, Options{})
	do(t, l, "CREATE OR REPLACE VIEW crm.contacts_runs AS SELECT 1 AS theirs")
	do(t, l, "DROP VIEW crm.contacts_unattended")
	do(t, l, "CREATE TABLE crm.contacts_unattended (theirs INT64)")
	do(t, l, "CREATE OR REPLACE TABLE FUNCTION crm.contacts_as_of(n INT64) AS SELECT n AS theirs")
	unlike(t, l, "with names that are taken")
	if err := l.Destroy(t.Context(), load.Destruction{Lineage: testLineage}); err != nil {
		t.Fatal(err)
	}
	if left := namesOf(t, l); !slices.Equal(left, []string{"contacts_as_of", "contacts_runs", "contacts_unattended"}) {
		t.Errorf("left are %v", left)
	}
}

func TestATableOfSomebodyElseAmongOursKeepsAllFromBeingRemoved(t *testing.T) {
	t.Parallel()
	s := standIn(t, bqtest.Options{})
	g := newLedger(t, s, Stream, "crm")
	if err := g.through("first", false, nil); err != nil {
		t.Fatal(err)
	}
	l := g.loader()
	do(t, l, "DROP TABLE crm.contacts_history")
	do(t, l, "CREATE TABLE crm.contacts_history (id STRING)")
	before := namesOf(t, l)
	if err := l.Destroy(t.Context(), load.Destruction{Lineage: testLineage}); !errors.Is(err, load.ErrForeign) || !strings.Contains(err.Error(), "contacts_history") {
		t.Errorf("destroying gives %v", err)
	}
	if after := namesOf(t, l); !slices.Equal(before, after) {
		t.Errorf("there were %v, and now are %v", before, after)
	}
	if _, err := l.Check(t.Context(), testLineage); err != nil {
		t.Errorf("a check gives %v", err)
	}
}

func TestAnotherStateMayNotEndADestruction(t *testing.T) {
	t.Parallel()
	s := standIn(t, bqtest.Options{})
	_, l := furnished(t, s, "crm", Options{Method: Stream, Stages: "crm_stages"})
	s.Inject(bqtest.Fault{Call: "tables.delete", Skip: 11, Times: -1, Status: http.StatusForbidden, Reason: "accessDenied"})
	if err := l.Destroy(t.Context(), load.Destruction{Lineage: testLineage}); err == nil {
		t.Fatal("the destruction did not fail")
	}
	s.Heal()
	before := namesOf(t, l)
	if err := l.Destroy(t.Context(), load.Destruction{Lineage: "lineage-b", Stages: true}); !errors.Is(err, load.ErrForeign) {
		t.Errorf("another state's destruction gives %v", err)
	}
	if after := namesOf(t, l); !slices.Equal(before, after) || len(after) == 0 {
		t.Errorf("there were %v, and now are %v", before, after)
	}
}
