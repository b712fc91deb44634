package parquet_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/gcs/gcstest"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/load/parquet"
)

// lift brings a local table into a bucket.
func lift(t *testing.T, l *parquet.Loader) *gcstest.Server {
	t.Helper()
	s := gcstest.Start(t, gsBucket)
	for path, sum := range snapshot(t, l.Dir()) {
		if sum == "dir" {
			continue
		}
		data, err := os.ReadFile(filepath.Join(l.Dir(), path))
		if err != nil {
			t.Fatal(err)
		}
		s.Put(gsBucket, gsTable+filepath.ToSlash(path), data)
	}
	return s
}

func TestGSVerificationFindsWhatTheLocalOneDoes(t *testing.T) {
	const january, february = "current/created_month=2026-01/contacts.parquet", "current/created_month=2026-02/contacts.parquet"
	for name, spoil := range map[string]func(t *testing.T, l *parquet.Loader){
		"nothing": func(*testing.T, *parquet.Loader) {},
		"gone, cut short and flipped, and one that nobody named": func(t *testing.T, l *parquet.Loader) {
			t.Helper()
			data, err := os.ReadFile(filepath.Join(l.Dir(), february))
			history := filepath.Join(l.Dir(), manifest(t, l.Dir()).History[0].Path)
			flipped, err2 := os.ReadFile(history)
			flipped[len(flipped)/3] ^= 4
			if err := orElse(orElse(err, err2), orElse(os.WriteFile(filepath.Join(l.Dir(), february), data[:len(data)-1], 0o600),
				orElse(os.WriteFile(history, flipped, 0o600), os.Remove(filepath.Join(l.Dir(), january))))); err != nil {
				t.Fatal(err)
			}
			plant(t, filepath.Join(l.Dir(), "history", "x.parquet"))
		},
		"a contact twice": func(t *testing.T, l *parquet.Loader) {
			t.Helper()
			var moved loadtest.Row
			rewrite(t, l, january, func(rows []loadtest.Row) []loadtest.Row { moved = rows[0]; return rows })
			rewrite(t, l, february, func(rows []loadtest.Row) []loadtest.Row { return append(rows, moved) })
		},
		"versions that history lacks": func(t *testing.T, l *parquet.Loader) {
			t.Helper()
			rewrite(t, l, manifest(t, l.Dir()).History[0].Path, func(rows []loadtest.Row) []loadtest.Row { return rows[8:] })
		},
		"other ids": func(t *testing.T, l *parquet.Loader) {
			t.Helper()
			data, err := parquet.EncodeIDs(manifest(t, l.Dir()).Current[0].SHA256, "c00", "c04", "c08", "c12", "c16", "c20", "c24", "c28", "c32", "another")
			if err := orElse(err, os.WriteFile(filepath.Join(l.Dir(), "_ids/created_month=2026-01.ids"), data, 0o600)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(strings.ReplaceAll(name, ",", ""), func(t *testing.T) {
			l := checkable(t, parquet.SetSortLimit(9))
			spoil(t, l)
			want, sum := verified(t, l)
			s := lift(t, l)
			work := t.TempDir()
			files := 0
			tr := &transport{before: func(int, *http.Request) {
				there, err := filepath.Glob(filepath.Join(work, "*", "*", "*", "*", "*.parquet"))
				if err != nil {
					t.Error(err)
				}
				files = max(files, len(there))
			}}
			before := s.Generations(t, gsBucket)
			got, gsSum := verified(t, openGS(t, gsClient(t, s, tr), func(o *parquet.GSOptions) { o.WorkDir = work; parquet.SetSortLimit(9)(&o.Options) }))
			// Its path is in it, which is another one now.
			got = slices.DeleteFunc(got, func(f string) bool { return strings.HasPrefix(f, "outdated_views") })
			for i := range got {
				got[i] = strings.NewReplacer(filepath.Join(work), "W").Replace(got[i])
			}
			first := func(found []string) (out []string) {
				for _, f := range found {
					head, _, _ := strings.Cut(f, ": ")
					out = append(out, head)
				}
				return out
			}
			if d := cmp.Diff(first(want), first(got)); d != "" {
				t.Errorf("faults (-want +got):\n%s\n%s", d, strings.Join(got, "\n"))
			}
			if sum != gsSum {
				t.Errorf("it has looked at %+v, the local one at %+v", gsSum, sum)
			}
			if d := cmp.Diff(before, s.Generations(t, gsBucket)); d != "" {
				t.Errorf("verification changes the table:\n%s", d)
			}
			if files > 1 {
				t.Errorf("%d files of the table are on the disk at once", files)
			}
			for path, kind := range snapshot(t, work) {
				if kind != "dir" {
					t.Errorf("%s is left on the disk", path)
				}
			}
		})
	}
}

func TestGSATableThatIsNotThereIsSoundAndHasNobody(t *testing.T) {
	s := gcstest.Start(t, gsBucket)
	l := openGS(t, gsClient(t, s, nil))
	wantSound(t, l)
	if r, err := l.Erase(t.Context(), load.Erasure{Lineage: "lineage-a", ID: person}); err != nil || r.Any() {
		t.Errorf("erasing gives %+v, %v", r, err)
	}
	if names := s.Names(t, gsBucket); len(names) > 0 {
		t.Errorf("it left %v", names)
	}
	s, l = filled(t)
	before := s.Generations(t, gsBucket)
	if _, err := l.Verify(t.Context(), "another", nil); !errors.Is(err, load.ErrForeign) {
		t.Errorf("another state's table: %v", err)
	}
	if _, err := l.Erase(t.Context(), load.Erasure{Lineage: "another", ID: "a"}); !errors.Is(err, load.ErrForeign) {
		t.Errorf("another state's table: %v", err)
	}
	if d := cmp.Diff(before, s.Generations(t, gsBucket)); d != "" {
		t.Errorf("the table changes:\n%s", d)
	}
}

// What another machine commits meanwhile is no fault, wherever it comes.
func TestGSVerificationThatIsOvertakenBeginsAnew(t *testing.T) {
	packages := chain(t, 3)
	for _, n := range []int{2, 3, 5, 7, 9, 11, 13} {
		s := gcstest.Start(t, gsBucket)
		awake := openGS(t, gsClient(t, s, nil))
		if _, err := awake.Commit(t.Context(), packages[0]); err != nil {
			t.Fatal(err)
		}
		tr := &transport{before: func(i int, r *http.Request) {
			if i == n {
				for _, p := range packages[1:3] {
					if _, err := awake.Commit(context.WithoutCancel(r.Context()), p); err != nil {
						t.Error(err)
					}
				}
			}
		}}
		l := openGS(t, gsClient(t, s, tr))
		if found, _ := verified(t, l); len(found) > 0 {
			t.Errorf("overtaken before request %d, it finds\n%s", n, strings.Join(found, "\n"))
		}
	}
}

func TestGSVerificationCompletesWhatWasRecorded(t *testing.T) {
	s, l := filled(t)
	s.SetFault(func(_ int, r *http.Request) gcstest.Fault {
		if strings.Contains(r.URL.Path, "/rewriteTo/") {
			return gcstest.Refuse
		}
		return gcstest.None
	})
	if _, err := l.Commit(t.Context(), gsPackage(t, 2, "two")); err == nil {
		t.Fatal("commit succeeds")
	}
	s.SetFault(nil)
	wantSound(t, l)
	if n, err := l.Check(t.Context(), "lineage-a"); err != nil || n != 2 {
		t.Errorf("position is %d, %v", n, err)
	}
}

// gsWithPerson is a table in a bucket that withPerson fills on a disk: a local
// one, lifted, and gone on with.
func gsWithPerson(t *testing.T) *gcstest.Server {
	t.Helper()
	local, _ := withPerson(t, t.TempDir())
	s := lift(t, local)
	l := gsPlain(t, s, nil)
	if _, err := l.Commit(t.Context(), build(t, 4, contact(person, 1, -6, "name", traces[1], "phone", traces[2]))); err != nil {
		t.Fatal(err)
	}
	return s
}

func gsPlain(t *testing.T, s *gcstest.Server, tr http.RoundTripper) *parquet.GSLoader {
	t.Helper()
	return openGS(t, gsClient(t, s, tr), func(o *parquet.GSOptions) { plainFiles(&o.Options) })
}

// gsFound lists the objects that hold one of the traces.
func gsFound(t *testing.T, s *gcstest.Server) []string {
	t.Helper()
	var out []string
	for name, data := range s.Objects(t, gsBucket, "") {
		if slices.ContainsFunc(traces, func(text string) bool { return bytes.Contains(data, []byte(text)) || strings.Contains(name, text) }) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func TestGSErasingLeavesNothingOfAContactInAnyObject(t *testing.T) {
	s := gsWithPerson(t)
	work := t.TempDir()
	l := openGS(t, gsClient(t, s, nil), func(o *parquet.GSOptions) { plainFiles(&o.Options); o.WorkDir = work })
	if got := gsFound(t, s); len(got) < 7 {
		t.Fatalf("the person is planted in %v only", got)
	}
	e := load.Erasure{Lineage: "lineage-a", ID: person, DryRun: true}
	before := s.Generations(t, gsBucket)
	want := load.Erased{Current: 1, History: 4, Names: 2, Files: 5}
	if r, err := l.Erase(t.Context(), e); err != nil || r != want {
		t.Errorf("a dry run finds %+v, %v, want %+v", r, err, want)
	}
	if d := cmp.Diff(before, s.Generations(t, gsBucket)); d != "" {
		t.Errorf("a dry run changes the table:\n%s", d)
	}
	e.DryRun = false
	if r, err := l.Erase(t.Context(), e); err != nil || r != want {
		t.Errorf("it removes %+v, %v, want %+v", r, err, want)
	}
	if got := append(gsFound(t, s), found(t, work)...); len(got) > 0 {
		t.Errorf("traces are left in %v", got)
	}
	wantSound(t, l)
	dir := mirror(t, s)
	for _, rows := range [][]loadtest.Row{current(t, dir), history(t, dir)} {
		if d := cmp.Diff([]string{"ana", "bo", "cy"}, ids(rows)); d != "" {
			t.Errorf("contacts (-want +got):\n%s", d)
		}
	}
	before = s.Generations(t, gsBucket)
	if r, err := l.Erase(t.Context(), e); err != nil || r.Any() {
		t.Errorf("again: %+v, %v", r, err)
	}
	if d := cmp.Diff(before, s.Generations(t, gsBucket)); d != "" {
		t.Errorf("erasing again changes the table:\n%s", d)
	}
	// The table goes on, and the source may bring the person back.
	r, err := l.Commit(t.Context(), build(t, 5, contact(person, 5, 1), contact("ana", 1, 1, "name", "Anna")))
	if err != nil || r.New != 1 || r.Changed != 1 {
		t.Errorf("result is %+v, %v", r, err)
	}
	wantSound(t, l)
}

// What a commit had staged when its machine died is erased as well.
func TestGSErasingTakesWhatADeadCommitHasStaged(t *testing.T) {
	s, _ := filled(t)
	l := gsPlain(t, s, nil)
	s.SetFault(func(_ int, r *http.Request) gcstest.Fault {
		if isHead(r) || r.Method == http.MethodDelete {
			return gcstest.Refuse
		}
		return gcstest.None
	})
	if _, err := l.Commit(t.Context(), build(t, 2, contact(person, 1, 1, "name", traces[1], "email", traces[3]))); err == nil {
		t.Fatal("commit succeeds")
	}
	s.SetFault(nil)
	if got := gsFound(t, s); len(got) != 2 || !strings.Contains(got[0], "_staging") {
		t.Fatalf("the person is in %v", got)
	}
	e := load.Erasure{Lineage: "lineage-a", ID: person, DryRun: true}
	if r, err := l.Erase(t.Context(), e); err != nil || r != (load.Erased{Names: 2}) {
		t.Errorf("a dry run finds %+v, %v", r, err)
	}
	e.DryRun = false
	if r, err := l.Erase(t.Context(), e); err != nil || r.Names != 2 || len(gsFound(t, s)) > 0 {
		t.Errorf("it removes %+v, %v, and leaves %v", r, err, gsFound(t, s))
	}
	wantSound(t, l)
}

// Stopped at any request, the contact is gone wholly, once the next call has
// completed what was recorded, or not at all.
func TestGSErasingHappensWhollyOrNotAtAll(t *testing.T) {
	s := gsWithPerson(t)
	base := s.Objects(t, gsBucket, "")
	e := load.Erasure{Lineage: "lineage-a", ID: person}
	s.SetFault(nil)
	if _, err := gsPlain(t, s, nil).Erase(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	requests := s.SetFault(nil)
	db := duck(t)
	happened := 0
	for _, n := range fewer(t, requests) {
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
		_, err := gsPlain(t, s, nil).Erase(t.Context(), e)
		s.SetFault(nil)
		l := gsPlain(t, s, nil)
		wantSound(t, l) // completes what was recorded
		dir := mirror(t, s)
		switch rows := len(query(t, db, historyGlob(dir))); {
		case rows == 3 && len(current(t, dir)) == 3:
			happened++
		case err == nil:
			t.Errorf("stopped at request %d: it succeeds, and %v are left", n, gsFound(t, s))
		case rows != 7 || len(current(t, dir)) != 4:
			t.Errorf("stopped at request %d: %d versions and %d contacts are left", n, rows, len(current(t, dir)))
		}
		if _, err := l.Erase(t.Context(), e); err != nil || len(gsFound(t, s)) > 0 {
			t.Errorf("stopped at request %d: afterwards %v are left, %v", n, gsFound(t, s), err)
		}
	}
	if happened == 0 {
		t.Error("it was never stopped after it was recorded")
	}
}

// One that sleeps before any request of an erasure, or of the commit before it,
// neither brings the person back nor takes away what came after.
func TestGSASleeperUndoesNoErasure(t *testing.T) {
	s := gsWithPerson(t)
	base := s.Objects(t, gsBucket, "")
	e := load.Erasure{Lineage: "lineage-a", ID: person}
	planted := build(t, 5, contact(person, 5, -5, "name", traces[1], "phone", traces[2]))
	clean := build(t, 6, contact("dee", 1, -4), contact("eve", 5, -4))
	for _, erases := range []bool{false, true} {
		for _, n := range fewer(t, 80) {
			s.Restore(t, gsBucket, base)
			asleep, wake := make(chan string), make(chan struct{})
			tr := &transport{before: func(i int, r *http.Request) {
				if i == n {
					asleep <- r.Method + " " + r.URL.Path
					<-wake
				}
			}}
			ctx := context.WithoutCancel(t.Context())
			sleeper, awake := gsPlain(t, s, tr), gsPlain(t, s, nil)
			done := make(chan error, 1)
			if erases {
				if _, err := awake.Commit(ctx, planted); err != nil {
					t.Fatal(err)
				}
			}
			go func() {
				var err error
				if erases {
					_, err = sleeper.Erase(ctx, e)
				} else {
					_, err = sleeper.Commit(ctx, planted)
				}
				done <- err
			}()
			var what string
			select {
			case what = <-asleep:
			case err := <-done:
				if err != nil || n < 30 {
					t.Fatalf("%d requests: %v", n-1, err)
				}
				continue
			}
			if !erases {
				if _, err := awake.Commit(ctx, planted); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := awake.Erase(ctx, e); err != nil {
				t.Fatalf("asleep before request %d (%s): %v", n, what, err)
			}
			if _, err := awake.Commit(ctx, clean); err != nil {
				t.Fatalf("asleep before request %d (%s): %v", n, what, err)
			}
			close(wake)
			if err := <-done; err != nil && !errors.Is(err, load.ErrAhead) {
				t.Errorf("asleep before request %d (%s): the sleeper fails: %v", n, what, err)
			}
			if _, err := awake.Commit(ctx, build(t, 7)); err != nil { // which sweeps
				t.Error(err)
			}
			if got := gsFound(t, s); len(got) > 0 {
				t.Errorf("asleep before request %d (%s): traces are left in %v", n, what, got)
			}
			if d := cmp.Diff([]string{"ana", "bo", "cy", "dee", "eve"}, ids(current(t, mirror(t, s)))); d != "" {
				t.Errorf("asleep before request %d (%s): contacts (-want +got):\n%s", n, what, d)
			}
			wantSound(t, awake)
		}
	}
}

// One request that fails: what can be retried is, and the same call again does
// the rest.
func TestGSErasingSurvivesEveryFault(t *testing.T) {
	s := gsWithPerson(t)
	base := s.Objects(t, gsBucket, "")
	e := load.Erasure{Lineage: "lineage-a", ID: person}
	for i, n := range fewer(t, 70) {
		fault := []gcstest.Fault{gcstest.DropAfter, gcstest.BusyAfter, gcstest.Drop}[i%3]
		s.Restore(t, gsBucket, base)
		var hit atomic.Bool
		s.SetFault(func(i int, _ *http.Request) gcstest.Fault {
			if i != n {
				return gcstest.None
			}
			hit.Store(true)
			return fault
		})
		if _, err := gsPlain(t, s, nil).Erase(t.Context(), e); err != nil {
			t.Errorf("fault %d at request %d: %v", fault, n, err)
		}
		s.SetFault(nil)
		if got := gsFound(t, s); len(got) > 0 {
			t.Errorf("fault %d at request %d: traces are left in %v", fault, n, got)
		}
		if !hit.Load() {
			return
		}
	}
}
