package parquet_test

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/gcs/gcstest"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/load/parquet"
)

// gsOnDay dates commits on the n-th day after Epoch.
func gsOnDay(n int) func(*parquet.GSOptions) {
	return func(o *parquet.GSOptions) { onDay(n)(&o.Options) }
}

// unmerged is a table with three small files of history on each of two days
// that are over, what a commit on a later day merges, and the versions in it.
func unmerged(t *testing.T) (s *gcstest.Server, next load.Package, versions []string) {
	t.Helper()
	s = gcstest.Start(t, gsBucket)
	c := gsClient(t, s, nil)
	for i, p := range often(t, 2, 3) {
		if _, err := openGS(t, c, gsOnDay(i/3), func(o *parquet.GSOptions) { o.CompactRows = -1 }).Commit(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	return s, loadtest.Build(t, loadtest.Spec{Serial: 100, Coverage: []byte(`{"n":1}`)}), historyRows(t, mirror(t, s))
}

func TestGSHistoryOfDaysThatAreOverIsMergedAsOnADisk(t *testing.T) {
	packages := often(t, 3, 4)
	root, s := t.TempDir(), gcstest.Start(t, gsBucket)
	c := gsClient(t, s, nil)
	for i, p := range append(packages, loadtest.Build(t, loadtest.Spec{Serial: 13})) {
		day := i / 4
		if i == len(packages) {
			day = 9
		}
		want := commit(t, open(t, root, on(unsynced{}), onDay(day)), p)
		got, err := openGS(t, c, gsOnDay(day)).Commit(t.Context(), p)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("result is %v, %v; want %v", got, err, want)
		}
	}
	local, dir := filepath.Join(root, "contacts"), mirror(t, s)
	want := []string{"2026-09-01/merged-00000006-0001.parquet", "2026-09-02/merged-00000011-0001.parquet", "2026-09-03/merged-00000016-0001.parquet"}
	if d := cmp.Diff(want, historyFiles(t, dir)); d != "" {
		t.Errorf("files of history (-want +got):\n%s", d)
	}
	if d := cmp.Diff(historyRows(t, local), historyRows(t, dir)); d != "" {
		t.Errorf("history (-want +got):\n%s", d)
	}
	if d := cmp.Diff(manifest(t, local).History, manifest(t, dir).History); d != "" {
		t.Errorf("manifests (-want +got):\n%s", d)
	}
	wantSound(t, openGS(t, c))
	before := s.Generations(t, gsBucket)
	if _, err := openGS(t, c, gsOnDay(9)).Commit(t.Context(), loadtest.Build(t, loadtest.Spec{Serial: 14})); err != nil {
		t.Fatal(err)
	}
	for name, generation := range s.Generations(t, gsBucket) {
		if strings.Contains(name, "_staging") || strings.Contains(name, "/history/") && before[name] != generation {
			t.Errorf("%s is left, or merged again", name)
		}
	}
}

// The disk holds the files of one group and what they become, never all.
func TestGSMergingHoldsOneGroupAtATimeOnTheDisk(t *testing.T) {
	s, next, _ := unmerged(t)
	work := t.TempDir()
	most := 0
	tr := &transport{before: func(int, *http.Request) {
		files, err := filepath.Glob(filepath.Join(work, "*", "contacts", "history", "*", "*.parquet"))
		if err != nil {
			t.Error(err)
		}
		most = max(most, len(files))
	}}
	l := openGS(t, gsClient(t, s, tr), gsOnDay(5), func(o *parquet.GSOptions) { o.WorkDir = work })
	if _, err := l.Commit(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	if n := len(historyFiles(t, mirror(t, s))); n != 2 || most == 0 || most > 3 {
		t.Errorf("history ends in %d files, of up to %d on the disk", n, most)
	}
}

// Stopped at any request, no version is missing for those who list and read,
// and the next commit ends where an undisturbed one does.
func TestGSMergingConvergesWhereverItIsStopped(t *testing.T) {
	s, next, want := unmerged(t)
	base := s.Objects(t, gsBucket, "")
	last := loadtest.Build(t, loadtest.Spec{Serial: 101})
	var first int // request of the merging
	s.SetFault(func(n int, r *http.Request) gcstest.Fault {
		if first == 0 && strings.Contains(r.URL.Path, "/history/") && r.Method == http.MethodGet && r.URL.Query().Get("alt") == "media" {
			first = n
		}
		return gcstest.None
	})
	if _, err := openGS(t, gsClient(t, s, nil), gsOnDay(5)).Commit(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	requests := s.SetFault(nil)
	if n := len(historyFiles(t, mirror(t, s))); n != 2 || first == 0 {
		t.Fatalf("undisturbed, history ends in %d files", n)
	}
	db := duck(t)
	pending := 0
	for _, n := range fewer(t, requests) {
		if n < first { // of the commit of the package, which has tests of its own
			continue
		}
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
		if _, err := openGS(t, gsClient(t, s, nil), gsOnDay(5)).Commit(t.Context(), next); err != nil {
			t.Errorf("%s: the package is committed, and the commit fails: %v", what, err)
		}
		s.SetFault(nil)
		dir := mirror(t, s)
		if got := slices.Compact(historyRowsOf(t, db, dir)); !slices.Equal(got, want) {
			t.Errorf("%s: history lacks or has more:\n%s", what, cmp.Diff(want, got))
		}
		if m := manifest(t, dir); m.Number == 7 && len(s.Objects(t, gsBucket, gsTable+"_manifests/head.json")) == 1 {
			pending++
		}
		for _, p := range []load.Package{next, last} {
			if _, err := openGS(t, gsClient(t, s, nil), gsOnDay(5)).Commit(t.Context(), p); err != nil {
				t.Fatalf("%s: the next commit fails: %v", what, err)
			}
		}
		dir = mirror(t, s)
		if got := historyRowsOf(t, db, dir); !slices.Equal(got, want) || len(historyFiles(t, dir)) != 2 {
			t.Errorf("%s: the next commit ends with %v:\n%s", what, historyFiles(t, dir), cmp.Diff(want, got))
		}
		for _, name := range s.Names(t, gsBucket) {
			if strings.Contains(name, "_staging") {
				t.Errorf("%s: %s is left", what, name)
			}
		}
		wantSound(t, openGS(t, gsClient(t, s, nil)))
	}
	if pending == 0 {
		t.Error("it was never stopped on its way")
	}
}

// A reader that lists history and then downloads what it found sees every
// version before each removal.
func TestGSReadersSeeEveryVersionWhileHistoryIsMerged(t *testing.T) {
	s, next, want := unmerged(t)
	db := duck(t)
	removals := 0
	s.SetFault(func(_ int, r *http.Request) gcstest.Fault {
		if r.Method == http.MethodDelete && strings.Contains(r.URL.Path, "/history/") && !strings.Contains(r.URL.Path, "_staging") {
			removals++
			if got := slices.Compact(historyRowsOf(t, db, mirror(t, s))); !slices.Equal(got, want) {
				t.Errorf("a reader sees\n%s", cmp.Diff(want, got))
			}
		}
		return gcstest.None
	})
	l := openGS(t, gsClient(t, s, nil), gsOnDay(5), func(o *parquet.GSOptions) { o.Transfers = 1 })
	if _, err := l.Commit(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	if removals != 6 {
		t.Errorf("%d files were removed", removals)
	}
}

// Someone who puts a commit in place and sleeps before any one of its requests,
// while others go on and merge, brings nothing back that was removed meanwhile.
func TestGSASleeperBringsNothingBackThatWasMerged(t *testing.T) {
	packages := often(t, 2, 3)
	s := gcstest.Start(t, gsBucket)
	awake := gsClient(t, s, nil)
	for i, p := range packages[:5] {
		if _, err := openGS(t, awake, gsOnDay(i/3), func(o *parquet.GSOptions) { o.CompactRows = -1 }).Commit(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	base := s.Objects(t, gsBucket, "")
	next := loadtest.Build(t, loadtest.Spec{Serial: 100})
	var want []string
	for _, n := range fewer(t, 80) {
		s.Restore(t, gsBucket, base)
		asleep, wake := make(chan string), make(chan struct{})
		tr := &transport{before: func(i int, r *http.Request) {
			if i == n {
				asleep <- r.Method + " " + r.URL.Path
				<-wake
			}
		}}
		done := make(chan error, 1)
		sleeper := openGS(t, gsClient(t, s, tr), gsOnDay(5))
		go func() {
			_, err := sleeper.Commit(context.WithoutCancel(t.Context()), packages[5])
			done <- err
		}()
		var what string
		select {
		case what = <-asleep:
		case err := <-done:
			if err != nil || n < 40 {
				t.Fatalf("a commit of %d requests: %v", n-1, err)
			}
			return
		}
		for _, p := range []load.Package{packages[5], next} {
			if _, err := openGS(t, awake, gsOnDay(5)).Commit(t.Context(), p); err != nil {
				t.Fatalf("asleep before request %d (%s): %v", n, what, err)
			}
		}
		before := gsState(t, s)
		close(wake)
		if err := <-done; err != nil {
			t.Errorf("asleep before request %d (%s): the sleeper fails: %v", n, what, err)
		}
		if d := differences(before, gsState(t, s)); d != "" {
			t.Errorf("asleep before request %d (%s): %s", n, what, d)
		}
		dir := mirror(t, s)
		got := historyRows(t, dir)
		if want == nil {
			want = got
		}
		if !slices.Equal(got, want) || len(historyFiles(t, dir)) != 2 {
			t.Errorf("asleep before request %d (%s): %v\n%s", n, what, historyFiles(t, dir), cmp.Diff(want, got))
		}
		wantSound(t, openGS(t, awake))
	}
}

// Two who commit and merge at once end in one sound table.
func TestGSMergingsAtOnceEndAsOne(t *testing.T) {
	s, next, want := unmerged(t)
	done := make(chan error, 3)
	for range cap(done) {
		l := openGS(t, gsClient(t, s, nil), gsOnDay(5))
		go func() { _, err := l.Commit(context.WithoutCancel(t.Context()), next); done <- err }()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	l := openGS(t, gsClient(t, s, nil), gsOnDay(5))
	if _, err := l.Commit(t.Context(), loadtest.Build(t, loadtest.Spec{Serial: 101})); err != nil {
		t.Fatal(err)
	}
	dir := mirror(t, s)
	if got := historyRows(t, dir); !slices.Equal(got, want) || len(historyFiles(t, dir)) != 2 {
		t.Errorf("it ends with %v:\n%s", historyFiles(t, dir), cmp.Diff(want, got))
	}
	wantSound(t, l)
}
