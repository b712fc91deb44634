package parquet_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/gcs/gcstest"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/schemas"
)

// gsTrial is a scenario on a server, undisturbed, to compare with.
type gsTrial struct {
	scenario
	s        *gcstest.Server
	base     map[string][]byte // the bucket before the commit
	before   map[string]string // what readers see then
	after    map[string]string
	result   load.Result
	requests int // of the commit
}

func newGSTrial(t *testing.T, sc scenario) *gsTrial {
	t.Helper()
	tr := &gsTrial{scenario: sc, s: gcstest.Start(t, gsBucket)}
	l := openGS(t, gsClient(t, tr.s, nil))
	for _, p := range sc.base {
		if _, err := l.Commit(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	tr.base, tr.before = tr.s.Objects(t, gsBucket, ""), gsState(t, tr.s)
	tr.s.SetFault(nil)
	var err error
	if tr.result, err = l.Commit(t.Context(), sc.p); err != nil {
		t.Fatal(err)
	}
	tr.requests, tr.after = tr.s.SetFault(nil), gsState(t, tr.s)
	for name := range tr.after {
		if strings.Contains(name, "_staging") {
			t.Errorf("an undisturbed commit leaves %s", name)
		}
	}
	return tr
}

// oldOrNew checks that every file a reader looks at is the one before or the
// one after, that none is missing and no other there.
func (tr *gsTrial) oldOrNew(t *testing.T, what string) {
	t.Helper()
	now := gsState(t, tr.s)
	seen := func(name string) bool {
		return strings.HasPrefix(name, gsTable+"current/") || strings.HasPrefix(name, gsTable+"history/")
	}
	for name, data := range now {
		if seen(name) && data != tr.before[name] && data != tr.after[name] {
			t.Errorf("%s: %s is neither the old file nor the new one", what, name)
		}
	}
	for name := range tr.before {
		if _, ok := now[name]; seen(name) && !ok {
			t.Errorf("%s: %s is gone", what, name)
		}
	}
}

// converges commits again, undisturbed and from another machine, and compares.
func (tr *gsTrial) converges(t *testing.T, what string) {
	t.Helper()
	tr.s.SetFault(nil)
	r, err := openGS(t, gsClient(t, tr.s, nil)).Commit(t.Context(), tr.p)
	if err != nil {
		t.Fatalf("%s: the next commit fails: %v", what, err)
	}
	if d := cmp.Diff(tr.result, r); d != "" {
		t.Errorf("%s: the next commit has another result (-want +got):\n%s", what, d)
	}
	if d := differences(tr.after, gsState(t, tr.s)); d != "" {
		t.Errorf("%s: the next commit ends in another table: %s", what, d)
	}
}

// sampled returns which of a commit's requests to disturb: some of them, others
// each time, and all with SLUICE_SOAK.
func sampled(t *testing.T, requests int) []int {
	t.Helper()
	first, step := 1, 1
	if os.Getenv("SLUICE_SOAK") == "" {
		step = 4
		first = 1 + rand.IntN(step)
	}
	t.Logf("requests %d, %d, ... of %d", first, first+step, requests)
	var out []int
	for n := first; n <= requests; n += step {
		out = append(out, n)
	}
	return out
}

// fewer is sampled of half as many requests, for what takes longer.
func fewer(t *testing.T, requests int) []int {
	t.Helper()
	all := sampled(t, requests)
	if os.Getenv("SLUICE_SOAK") != "" {
		return all
	}
	half := all[:0]
	for i := rand.IntN(2); i < len(all); i += 2 {
		half = append(half, all[i])
	}
	return half
}

// A process that dies at any request: before it, after it with or without its
// effect. Then the next commit ends as if nothing had been.
func TestGSCommitConvergesWhereverItIsStopped(t *testing.T) {
	for _, sc := range scenarios(t)[:3] {
		t.Run(strings.ReplaceAll(sc.name, ",", ""), func(t *testing.T) {
			t.Parallel()
			tr := newGSTrial(t, sc)
			for _, n := range sampled(t, tr.requests) {
				what := fmt.Sprintf("stopped at request %d", n)
				tr.s.Restore(t, gsBucket, tr.base)
				tr.s.SetFault(func(i int, _ *http.Request) gcstest.Fault {
					switch {
					case i < n:
						return gcstest.None
					case i == n:
						return gcstest.RefuseAfter
					default:
						return gcstest.Refuse
					}
				})
				// An error may be one of tidying up, after the commit.
				r, err := openGS(t, gsClient(t, tr.s, nil)).Commit(t.Context(), tr.p)
				if d := cmp.Diff(tr.result, r); err == nil && d != "" {
					t.Errorf("%s: the commit succeeds with another result (-want +got):\n%s", what, d)
				}
				tr.s.SetFault(nil)
				tr.oldOrNew(t, what)
				tr.converges(t, what)
			}
		})
	}
}

// One request that fails: what can be retried is, and a commit that says it
// failed is completed by the next one.
func TestGSCommitConvergesAfterEveryFault(t *testing.T) {
	for _, sc := range scenarios(t)[:2] {
		t.Run(strings.ReplaceAll(sc.name, ",", ""), func(t *testing.T) {
			t.Parallel()
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			rnd := rand.New(rand.NewPCG(seed, 0))
			tr := newGSTrial(t, sc)
			for _, n := range sampled(t, tr.requests) {
				fault := []gcstest.Fault{gcstest.DropAfter, gcstest.RefuseAfter, gcstest.BusyAfter, gcstest.Refuse, gcstest.Drop}[rnd.IntN(5)]
				what := fmt.Sprintf("fault %d at request %d", fault, n)
				tr.s.Restore(t, gsBucket, tr.base)
				var hit atomic.Pointer[http.Request]
				tr.s.SetFault(func(i int, r *http.Request) gcstest.Fault {
					if i != n {
						return gcstest.None
					}
					hit.Store(r)
					return fault
				})
				_, err := openGS(t, gsClient(t, tr.s, nil)).Commit(t.Context(), tr.p)
				if lost := fault == gcstest.DropAfter || fault == gcstest.BusyAfter || fault == gcstest.Drop; lost && err != nil {
					t.Errorf("%s (%s %s): the commit fails: %v", what, hit.Load().Method, hit.Load().URL, err)
				}
				tr.oldOrNew(t, what)
				tr.converges(t, what)
			}
		})
	}
}

// chain is a table's life: five packages of changes in so many months, the last
// two with a new column.
func chain(t *testing.T, months int) []load.Package {
	t.Helper()
	var packages []load.Package
	for n := range 5 {
		s := loadtest.Spec{Serial: int64(n + 1), Verify: load.VerifyOff, Coverage: fmt.Appendf(nil, `{"n":%d}`, n)}
		for i := range 3 * months {
			if n == 0 || (i+n)%3 == 0 {
				s.Rows = append(s.Rows, contact(fmt.Sprint("c", i), 1+i%months, n+1, "name", fmt.Sprint("v", n)))
			}
		}
		if n >= 3 {
			s.Extra = []schemas.Column{loadtest.Extra("cf_ticket_x", schemas.String)}
		}
		packages = append(packages, loadtest.Build(t, s))
	}
	return packages
}

// A commit that sleeps before any one of its requests, while another machine
// completes it and two more, ends with its own result and changes nothing.
func TestGSCommitThatSleptChangesNothing(t *testing.T) {
	packages := chain(t, 1)
	want, results := undisturbed(t, packages...)
	s := gcstest.Start(t, gsBucket)
	awake := openGS(t, gsClient(t, s, nil))
	for _, p := range packages[:2] {
		if _, err := awake.Commit(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	base := s.Objects(t, gsBucket, "")
	for _, n := range sampled(t, 60) {
		s.Restore(t, gsBucket, base)
		asleep, wake := make(chan string), make(chan struct{})
		tr := &transport{before: func(i int, r *http.Request) {
			if i == n {
				asleep <- r.Method + " " + r.URL.Path
				<-wake
			}
		}}
		sleeper := openGS(t, gsClient(t, s, tr))
		done := make(chan error, 1)
		var result load.Result
		go func() {
			var err error
			result, err = sleeper.Commit(context.WithoutCancel(t.Context()), packages[2])
			done <- err
		}()
		var what string
		select {
		case what = <-asleep:
		case err := <-done:
			if err != nil || n <= 20 {
				t.Fatalf("a commit of %d requests: %v", n-1, err)
			}
			return
		}
		for i, p := range packages[2:] {
			r, err := awake.Commit(t.Context(), p)
			if err != nil {
				t.Fatalf("asleep before request %d (%s): package %d: %v", n, what, p.Serial, err)
			}
			if d := cmp.Diff(results[i+2], r); d != "" {
				t.Errorf("asleep before request %d (%s): another result (-want +got):\n%s", n, what, d)
			}
		}
		close(wake)
		if err := <-done; err != nil {
			t.Errorf("asleep before request %d (%s): the sleeper fails: %v", n, what, err)
		} else if d := cmp.Diff(results[2], result); d != "" {
			t.Errorf("asleep before request %d (%s): the sleeper has another result (-want +got):\n%s", n, what, d)
		}
		if d := differences(want, gsState(t, s)); d != "" {
			t.Errorf("asleep before request %d (%s): %s", n, what, d)
		}
	}
}

// isHead tells the request that commits.
func isHead(r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.Query().Get("name") == gsTable+"_manifests/head.json"
}

// What is staged for the next number may be of a commit that is alive.
func TestGSCommitThatIsAliveIsNotSwept(t *testing.T) {
	s, awake := filled(t)
	asleep, wake := make(chan struct{}), make(chan struct{})
	tr := &transport{before: func(_ int, r *http.Request) {
		if isHead(r) {
			close(asleep)
			<-wake
		}
	}}
	done := make(chan error, 1)
	second := gsPackage(t, 2, "two")
	l := openGS(t, gsClient(t, s, tr))
	go func() { _, err := l.Commit(t.Context(), second); done <- err }()
	<-asleep
	if _, err := awake.Commit(t.Context(), gsPackage(t, 1, "one")); err != nil { // which sweeps
		t.Error(err)
	}
	close(wake)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if rows := current(t, mirror(t, s)); len(rows) != 1 || rows[0]["name"] != "two" {
		t.Errorf("it holds %v", rows)
	}
}

// A commit whose record was taken and answered with an error is one.
func TestGSCommitThatIsInDoubtCanBeCompleted(t *testing.T) {
	s, l := filled(t)
	s.SetFault(func(_ int, r *http.Request) gcstest.Fault {
		if isHead(r) {
			return gcstest.RefuseAfter
		}
		return gcstest.None
	})
	if _, err := l.Commit(t.Context(), gsPackage(t, 2, "two")); err == nil {
		t.Error("commit succeeds")
	}
	s.SetFault(nil)
	// A listing completes it, and shows it.
	err := l.List(t.Context(), load.Listing{Lineage: "lineage-a", Columns: []string{"name"}}, func(rec arrow.Record) error {
		if rows := loadtest.Rows(t, rec); len(rows) != 1 || rows[0]["name"] != "two" {
			t.Errorf("it lists %v", rows)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if n, err := l.Check(t.Context(), "lineage-a"); err != nil || n != 2 {
		t.Errorf("position is %d, %v", n, err)
	}
}

// What changes between the look at the table and the files is another commit,
// or damage; here it is another commit.
func TestGSCommitThatIsOvertakenStartsAgain(t *testing.T) {
	packages := chain(t, 2)
	want, _ := undisturbed(t, packages[:3]...)
	for _, where := range []string{"_manifests/latest.json", "current/created_month=2026-01/contacts.parquet", "history/extracted_date=2026-09-01/00000003-0001.parquet"} {
		s := gcstest.Start(t, gsBucket)
		awake := openGS(t, gsClient(t, s, nil))
		for _, p := range packages[:2] {
			if _, err := awake.Commit(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
		var once atomic.Bool
		tr := &transport{before: func(_ int, r *http.Request) {
			if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, where) && once.CompareAndSwap(false, true) {
				if _, err := awake.Commit(context.WithoutCancel(r.Context()), packages[2]); err != nil {
					t.Error(err)
				}
			}
		}}
		if _, err := openGS(t, gsClient(t, s, tr)).Commit(t.Context(), packages[2]); err != nil {
			t.Errorf("overtaken before %s: %v", where, err)
		}
		if d := differences(want, gsState(t, s)); d != "" {
			t.Errorf("overtaken before %s: %s", where, d)
		}
	}
}

// Numbers of manifests come back once they were pruned; generations do not.
func TestGSCommitThatSleptForMoreThanAllManifestsIsRefused(t *testing.T) {
	s := gcstest.Start(t, gsBucket)
	awake := openGS(t, gsClient(t, s, nil))
	pkg := func(serial int64, name string) load.Package {
		return loadtest.Build(t, loadtest.Spec{Serial: serial, Verify: load.VerifyOff, Rows: []loadtest.Row{contact("a", 1, int(serial), "name", name)}})
	}
	if _, err := awake.Commit(t.Context(), pkg(1, "first")); err != nil {
		t.Fatal(err)
	}
	asleep, wake := make(chan struct{}), make(chan struct{})
	tr := &transport{before: func(_ int, r *http.Request) {
		if isHead(r) {
			select {
			case asleep <- struct{}{}:
				<-wake
			case <-wake:
			}
		}
	}}
	done := make(chan error, 1)
	go func() {
		_, err := openGS(t, gsClient(t, s, tr)).Commit(context.WithoutCancel(t.Context()), pkg(2, "of the sleeper"))
		done <- err
	}()
	<-asleep
	const commits = 53
	for n := range int64(commits) {
		if _, err := awake.Commit(t.Context(), pkg(3+n, fmt.Sprint(n))); err != nil {
			t.Fatal(err)
		}
	}
	names := strings.Join(s.Names(t, gsBucket), " ")
	if strings.Contains(names, "00000002.json") || !strings.Contains(names, "00000054.json") {
		t.Fatalf("manifests were not pruned: %s", names)
	}
	before := gsState(t, s)
	close(wake)
	if err := <-done; !errors.Is(err, load.ErrAhead) {
		t.Errorf("a package that comes too late gives %v", err)
	}
	if d := differences(before, gsState(t, s)); d != "" {
		t.Errorf("it changed: %s", d)
	}
}
