//go:build cgo && !windows

package duckdb_test

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/schemas"
)

// killChain makes packages that create, change, bury, bring back and widen.
func killChain(t *testing.T, rnd *rand.Rand, rows int) []load.Package {
	t.Helper()
	var out []load.Package
	var extra []schemas.Column
	for serial := int64(1); serial <= 3; serial++ {
		extra = append(extra, loadtest.Extra(fmt.Sprintf("cf_customer_%d", serial), schemas.Int64))
		s := loadtest.Spec{Serial: serial, Extra: extra, PartRows: rows/3 + 1, Coverage: fmt.Appendf(nil, `{"run_id": "run-%03d"}`, serial), Verify: load.VerifySample}
		for range rows {
			id := rnd.IntN(rows)
			at := loadtest.Epoch.Add(time.Duration(rnd.IntN(1000)) * time.Minute)
			r := loadtest.Contact(fmt.Sprintf("contact-%06d", id), loadtest.Epoch.AddDate(0, -id%7, 0), at,
				"name", strings.Repeat(strconv.Itoa(rnd.IntN(1000)), 20), fmt.Sprintf("cf_customer_%d", serial), rnd.IntN(5))
			if rnd.IntN(10) == 0 {
				r[schemas.ColDeletedAt] = at
			}
			s.Rows = append(s.Rows, r)
		}
		out = append(out, loadtest.Build(t, s))
	}
	return out
}

// content is all that a database holds, as text in an order of its own.
func content(tb testing.TB, path string) string {
	tb.Helper()
	return strings.Join(lines(tb, path,
		"FROM _sluice.contacts__current ORDER BY id",
		"FROM _sluice.contacts__history ORDER BY id, _sluice_package, _sluice_row",
		"SELECT name, lineage, position, run_id, columns, views FROM _sluice.tables",
		"SELECT package, run_id, result FROM _sluice.packages ORDER BY ALL",
		"FROM _sluice.runs ORDER BY ALL",
		"SELECT view_name, comment FROM duckdb_views() WHERE NOT internal ORDER BY ALL",
		"SELECT table_name, column_name, data_type, comment FROM duckdb_columns() WHERE schema_name = '_sluice' ORDER BY ALL",
	), "\n")
}

func TestACommitKilledAnywhereIsWholeOrNotThere(t *testing.T) {
	if testing.Short() {
		t.Skip("its processes say nothing to the race detector; the plain tests have it")
	}
	t.Parallel()
	kills, err := strconv.Atoi(cmp.Or(os.Getenv("SLUICE_DUCKDB_KILLS"), "10"))
	if err != nil {
		t.Fatal(err)
	}
	rnd := seeded(t)
	packages := killChain(t, rnd, 500)
	// What every state between two commits looks like, unkilled.
	states := []string{""}
	calm := filepath.Join(t.TempDir(), "calm.duckdb")
	began := time.Now()
	for _, p := range packages {
		commit(t, open(t, calm), p)
		states = append(states, content(t, calm))
	}
	whole := time.Since(began)
	deaths, half := 0, 0
	for round := 0; deaths < kills; round++ {
		if round > 20*kills {
			t.Fatalf("%d rounds, and the child died only %d times", round, deaths)
		}
		path := filepath.Join(t.TempDir(), "killed.duckdb")
		for life := 0; ; life++ {
			patience := time.Duration(rnd.Int64N(int64(whole) / 2))
			if life > 6 {
				patience = time.Minute // enough; let it end
			}
			if !live(t, childJob{Path: path, Packages: packages}, patience) {
				break
			}
			deaths++
			if at := compareState(t, path, states); at > 0 && at < len(packages) {
				half++
			}
		}
		for i, p := range packages { // again, each with the result it had
			a, b := commit(t, open(t, calm), p), commit(t, open(t, path), p)
			if d := gocmp.Diff(a, b); d != "" {
				t.Fatalf("result of package %d (-unkilled +killed):\n%s", i+1, d)
			}
		}
		if at := compareState(t, path, states); at != len(packages) {
			t.Fatalf("in the end the table is at package %d", at)
		}
		mustBeClean(t, path)
	}
	t.Logf("%d kills, %d of them between the first and the last package", deaths, half)
}

// compareState checks that a database holds what an unkilled one does after as
// many packages, and returns their number.
func compareState(t *testing.T, path string, states []string) int {
	t.Helper()
	if !exists(path) {
		return 0 // killed before there was a database
	}
	at, err := open(t, path).Check(t.Context(), "lineage-a")
	if err != nil {
		t.Fatalf("after a kill: %v", err)
	}
	if at == 0 {
		return 0
	}
	if d := gocmp.Diff(states[at], content(t, path)); d != "" {
		t.Fatalf("at package %d (-unkilled +killed):\n%s", at, d)
	}
	return int(at)
}

// mustBeClean checks that nothing lies beside a database but its log, which is
// there until the next commit if the last one was killed while it closed.
func mustBeClean(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	base := filepath.Base(path)
	for _, e := range entries {
		if e.Name() != base && e.Name() != base+".wal" {
			t.Errorf("%s was left", e.Name())
		}
	}
}

// makings are the folders beside a database in which others are made.
func makings(t *testing.T, path string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "."+filepath.Base(path)+".new-") {
			out = append(out, e.Name())
		}
	}
	return out
}

// killMaking starts a child and kills it as soon as it makes a database beside
// the path. It reports whether one was left.
func killMaking(t *testing.T, job childJob) bool {
	t.Helper()
	cmd := command(t, job)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case err := <-ended:
			t.Logf("the child came to its end: %v", err)
			return len(makings(t, job.Path)) > 0
		default:
		}
		if len(makings(t, job.Path)) > 0 {
			_ = cmd.Process.Kill()
			t.Logf("killed: %v", <-ended)
			return len(makings(t, job.Path)) > 0
		}
	}
}

func TestWhatAKillLeftWhileADatabaseWasMadeGoesWithTheNextCommit(t *testing.T) {
	if testing.Short() {
		t.Skip("its processes say nothing to the race detector; the plain tests have it")
	}
	t.Parallel()
	path := filepath.Join(t.TempDir(), "[killed]*.duckdb")
	p := one(t, 1, "a")
	for tries := 0; !killMaking(t, childJob{Path: path, Packages: []load.Package{p}}) || exists(path); tries++ {
		if tries == 50 {
			t.Fatal("no child was killed in time")
		}
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	commit(t, open(t, path), p) // this process cannot tell that the other is dead, until there is a database
	mustBeClean(t, path)
	if n := len(query(t, path, "FROM contacts")); n != 1 {
		t.Errorf("%d contacts", n)
	}
}

func TestAnErasureKilledAnywhereHasHappenedOrNot(t *testing.T) {
	if testing.Short() {
		t.Skip("its processes say nothing to the race detector; the plain tests have it")
	}
	t.Parallel()
	rnd := seeded(t)
	base := filepath.Join(t.TempDir(), "base.duckdb")
	withPerson(t, base)
	whole := fingerprint(t, base)
	job := childJob{Path: filepath.Join(t.TempDir(), "contacts.duckdb"), Erase: person}
	reset := func() {
		if err := os.RemoveAll(filepath.Dir(job.Path)); err != nil {
			t.Fatal(err)
		}
		mkdir(t, filepath.Dir(job.Path))
		copyFile(t, base, job.Path)
	}
	reset()
	began := time.Now()
	if live(t, job, time.Minute) || len(found(t, filepath.Dir(job.Path))) > 0 {
		t.Fatal("undisturbed it fails")
	}
	took := time.Since(began)
	gone := fingerprint(t, job.Path)
	deaths := map[string]int{}
	for round := range 6 {
		reset()
		var died bool
		if round < 2 { // while the new file is made, for sure
			died = killMaking(t, job)
		} else {
			died = live(t, job, time.Duration(rnd.Int64N(int64(took))))
		}
		var got []string
		if got = fingerprint(t, job.Path); !slices.Equal(got, whole) && !slices.Equal(got, gone) {
			t.Fatalf("round %d: the database is neither as before nor as after:\n%s", round, strings.Join(got, "\n"))
		}
		if died {
			deaths[map[bool]string{true: "before", false: "after"}[slices.Equal(got, whole)]]++
		}
		if _, err := open(t, job.Path).Erase(t.Context(), theirs); err != nil {
			t.Fatal(err)
		}
		commit(t, open(t, job.Path), one(t, 3, "late")) // sweeps, where nothing was left to erase
		if left := found(t, filepath.Dir(job.Path)); len(left) > 0 {
			t.Fatalf("round %d: traces are left in %v", round, left)
		}
		mustBeClean(t, job.Path)
		wantSound(t, open(t, job.Path))
	}
	t.Logf("killed %v it had happened", deaths)
}

// live runs a child and kills it after a time, counted from its first commit's
// beginning. It reports whether the child died of it.
func live(t *testing.T, job childJob, patience time.Duration) bool {
	t.Helper()
	cmd := command(t, job)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Logf("the child said nothing: %v", err)
	}
	timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	_, _ = io.Copy(io.Discard, out)
	err = cmd.Wait()
	timer.Stop()
	if err != nil && cmd.ProcessState.ExitCode() != -1 {
		t.Fatalf("the child failed: %v\n%s", err, &errs)
	}
	return err != nil
}
