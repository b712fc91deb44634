package parquet_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/atomicfile/faultfs"
	"github.com/sluice-etl/sluice/internal/gcs/gcstest"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/load/parquet"
	"github.com/sluice-etl/sluice/schemas"
)

// maker is a loader that makes and removes its table.
type maker interface {
	load.Surveyor
	load.Converger
	load.Destroyer
}

// work is something that is disturbed.
type work struct {
	name string
	do   func(ctx context.Context, l maker) error
}

func destroying() work {
	return work{"destruction", func(ctx context.Context, l maker) error {
		return l.Destroy(ctx, load.Destruction{Lineage: "lineage-a", Stages: true})
	}}
}

func converging(table schemas.Table) work {
	return work{"convergence", func(ctx context.Context, l maker) error {
		return l.Converge(ctx, load.Convergence{Lineage: "lineage-a", Table: table})
	}}
}

// standing commits what there is before the work: rows, stages, views and things
// of others.
func standing(t *testing.T, l interface {
	maker
	load.StageKeeper
},
) {
	t.Helper()
	sc := scenarios(t)[2]
	for _, p := range sc.base {
		if _, err := l.Commit(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.ReplaceStages(t.Context(), loadtest.StagesOf("run-002")); err != nil {
		t.Fatal(err)
	}
}

// wholeOrGone checks that a table is refused, or has all its rows, or is not
// there, and returns which.
func wholeOrGone(t *testing.T, what string, l *parquet.Loader, before []string) string {
	t.Helper()
	at, err := l.Check(t.Context(), "lineage-a")
	switch {
	case err != nil:
		if errors.Is(err, load.ErrForeign) {
			t.Errorf("%s: what is left is taken for somebody else's: %v", what, err)
		}
		var hinted interface{ Hint() string }
		if !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "sluice destroy") {
			t.Errorf("%s: check gives %v, which does not say what to do", what, err)
		}
		if _, err := l.Commit(t.Context(), loadtest.Build(t, loadtest.Spec{Serial: 9})); err == nil {
			t.Errorf("%s: check fails and a commit succeeds", what)
		}
		return "refused"
	case at == 0:
		return "gone"
	}
	var faults []string
	if _, err := l.Verify(t.Context(), "lineage-a", func(f load.Fault) { faults = append(faults, fmt.Sprint(f)) }); err != nil || len(faults) > 0 {
		t.Errorf("%s: check succeeds, and the table has %v, %v", what, faults, err)
	}
	now := slices.DeleteFunc(lines(snapshot(t, l.Dir())), func(line string) bool { return strings.HasPrefix(line, ".tmp-") })
	if d := cmp.Diff(before, now); d != "" {
		t.Errorf("%s: the table is not what it was (-want +got):\n%s", what, d)
	}
	return "whole"
}

func TestDestroyConvergesWhereverItIsStopped(t *testing.T) {
	slow(t)
	t.Parallel()
	scratch := t.TempDir()
	root, base := filepath.Join(scratch, "lake"), filepath.Join(scratch, "base")
	standing(t, open(t, root, on(unsynced{}), staged))
	if err := os.WriteFile(filepath.Join(root, "theirs.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	copyTree(t, root, base)
	before := lines(snapshot(t, filepath.Join(root, "contacts")))
	count := faultfs.New(unsynced{}, faultfs.Fault{})
	if err := destroying().do(t.Context(), open(t, root, on(count), staged)); err != nil {
		t.Fatal(err)
	}
	after := snapshot(t, root)
	if d := cmp.Diff(map[string]string{".": "dir", "theirs.txt": after["theirs.txt"]}, after); d != "" {
		t.Fatalf("undisturbed it leaves (-want +got):\n%s", d)
	}
	seen := map[string]int{}
	for i, op := range count.Trace() {
		for _, sticky := range []bool{true, false} {
			if !sticky && i%5 != 0 {
				continue
			}
			what := fmt.Sprintf("stopped at operation %d (%s)", i+1, op)
			if err := os.RemoveAll(root); err != nil {
				t.Fatal(err)
			}
			copyTree(t, base, root)
			fault := faultfs.New(unsynced{}, faultfs.Fault{Op: i + 1, Err: faultfs.ErrKilled, Sticky: sticky})
			if err := destroying().do(t.Context(), open(t, root, on(fault), staged)); err == nil && fault.Failed() && sticky {
				t.Errorf("%s: it succeeds", what)
			}
			seen[wholeOrGone(t, what, open(t, root, on(unsynced{}), staged), before)]++
			if err := destroying().do(t.Context(), open(t, root, on(unsynced{}), staged)); err != nil {
				t.Fatalf("%s: the next one fails: %v", what, err)
			}
			if d := cmp.Diff(after, snapshot(t, root)); d != "" {
				t.Errorf("%s: the next one leaves (-want +got):\n%s", what, d)
			}
		}
	}
	t.Logf("%d operations, after which the table was %v", len(count.Trace()), seen)
	if seen["whole"] == 0 || seen["refused"] == 0 || seen["gone"] == 0 {
		t.Error("not all that there is to see was seen")
	}
}

func TestConvergenceConvergesWhereverItIsStopped(t *testing.T) {
	slow(t)
	t.Parallel()
	wide := loadtest.Table(loadtest.Extra("cf_ticket_y", schemas.Int64))
	for name, prepare := range map[string]func(t *testing.T, root string){
		"from nothing":        func(*testing.T, string) {},
		"with a new column":   func(t *testing.T, root string) { t.Helper(); standing(t, open(t, root, on(unsynced{}), staged)) },
		"without its views":   func(t *testing.T, root string) { t.Helper(); withoutViews(t, root) },
		"with another format": func(t *testing.T, root string) { t.Helper(); standing(t, open(t, root, on(unsynced{}), staged, plain)) },
	} {
		t.Run(name, func(t *testing.T) {
			scratch := t.TempDir()
			root, base := filepath.Join(scratch, "lake"), filepath.Join(scratch, "base")
			prepare(t, root)
			copyTree(t, root, base)
			count := faultfs.New(unsynced{}, faultfs.Fault{})
			if err := converging(wide).do(t.Context(), open(t, root, on(count), staged)); err != nil {
				t.Fatal(err)
			}
			after := snapshot(t, root)
			for i, op := range count.Trace() {
				// Files are written as by any commit, of which others stop every one.
				if end := len(count.Trace()) - i; os.Getenv("SLUICE_SOAK") == "" && (i+1)%7 != 0 && i > 2 && end > 10 {
					continue
				}
				what := fmt.Sprintf("stopped at operation %d (%s)", i+1, op)
				if err := os.RemoveAll(root); err != nil {
					t.Fatal(err)
				}
				copyTree(t, base, root)
				fault := faultfs.New(unsynced{}, faultfs.Fault{Op: i + 1, Err: faultfs.ErrKilled, Sticky: true})
				_ = converging(wide).do(t.Context(), open(t, root, on(fault), staged)) // it may succeed where tidying fails
				l := open(t, root, on(unsynced{}), staged)
				if _, err := l.Survey(t.Context(), "lineage-a", wide); err != nil {
					t.Errorf("%s: a survey fails: %v", what, err)
				}
				if err := converging(wide).do(t.Context(), l); err != nil {
					t.Fatalf("%s: the next one fails: %v", what, err)
				}
				if d := cmp.Diff(after, snapshot(t, root)); d != "" {
					t.Errorf("%s: the next one ends in another table (-want +got):\n%s", what, d)
				}
			}
		})
	}
}

func plain(o *parquet.Options) { o.Plain = true }

func withoutViews(t *testing.T, root string) {
	t.Helper()
	standing(t, open(t, root, on(unsynced{}), staged))
	if err := os.Remove(filepath.Join(root, "contacts", "views.sql")); err != nil {
		t.Fatal(err)
	}
}

// A process that dies at any request, of both works.
func TestGSConvergenceAndDestroyConvergeWhereverTheyAreStopped(t *testing.T) {
	wide := loadtest.Table(loadtest.Extra("cf_ticket_y", schemas.Int64))
	for _, w := range []work{converging(wide), destroying()} {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			s := gcstest.Start(t, gsBucket)
			withStages := func(o *parquet.GSOptions) { staged(&o.Options) }
			// The server forgets whose the table of stages is when it is restored.
			standing(t, openGS(t, gsClient(t, s, nil), withStages))
			s.Put(gsBucket, "exports/theirs.txt", nil)
			base := s.Objects(t, gsBucket, "")
			delete(base, "exports/crm/crm_stages/stages.parquet")
			s.Restore(t, gsBucket, base)
			s.SetFault(nil)
			if err := w.do(t.Context(), openGS(t, gsClient(t, s, nil), withStages)); err != nil {
				t.Fatal(err)
			}
			requests, after := s.SetFault(nil), gsState(t, s)
			for _, n := range sampled(t, requests) {
				what := fmt.Sprintf("stopped at request %d", n)
				s.Restore(t, gsBucket, base)
				s.SetFault(func(i int, _ *http.Request) gcstest.Fault {
					switch {
					case i < n:
						return gcstest.None
					case i == n:
						return gcstest.RefuseAfter
					default:
						return gcstest.Refuse
					}
				})
				_ = w.do(t.Context(), openGS(t, gsClient(t, s, nil), withStages)) // an error may be one of tidying up
				s.SetFault(nil)
				l := openGS(t, gsClient(t, s, nil), withStages)
				at, err := l.Check(t.Context(), "lineage-a")
				if errors.Is(err, load.ErrForeign) {
					t.Errorf("%s: what is left is taken for somebody else's: %v", what, err)
				}
				if err == nil && at != 0 {
					if _, err := l.Verify(t.Context(), "lineage-a", func(f load.Fault) { t.Errorf("%s: check succeeds, and the table has %v", what, f) }); err != nil {
						t.Errorf("%s: check succeeds, and verify says %v", what, err)
					}
				}
				if err := w.do(t.Context(), openGS(t, gsClient(t, s, nil), withStages)); err != nil {
					t.Fatalf("%s: the next one fails: %v", what, err)
				}
				if d := differences(after, gsState(t, s)); d != "" {
					t.Errorf("%s: the next one ends otherwise: %s", what, d)
				}
			}
		})
	}
}
