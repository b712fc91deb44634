package parquet_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/gcs"
	"github.com/sluice-etl/sluice/internal/gcs/gcstest"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/load/parquet"
)

const (
	gsBucket = "lake"
	gsTable  = "exports/crm/contacts/" // the table's prefix
)

// gsClient connects to the server; change may exchange the transport.
func gsClient(t *testing.T, s *gcstest.Server, transport http.RoundTripper) *gcs.Client {
	t.Helper()
	if testing.Short() {
		t.Skip("a bucket server answers slowly under the race detector; the plain tests have it")
	}
	c, err := gcs.New(t.Context(), gcs.Options{Endpoint: s.URL, RetryPause: time.Millisecond, HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// openGS opens a loader, as another machine would: with a working directory of
// its own.
func openGS(t *testing.T, c *gcs.Client, change ...func(*parquet.GSOptions)) *parquet.GSLoader {
	t.Helper()
	o := parquet.GSOptions{
		Options: parquet.Options{Path: "gs://lake/exports/crm", Table: "contacts", Clock: clock.Fixed(loadtest.Epoch), LockWait: -1},
		WorkDir: filepath.Join(t.TempDir(), "work"), Client: c,
	}
	for _, f := range change {
		f(&o)
	}
	l, err := parquet.NewGS(o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// mirror downloads the table, so that it can be read like a local one.
func mirror(t *testing.T, s *gcstest.Server) string {
	t.Helper()
	dir := t.TempDir()
	for rel, data := range s.Objects(t, gsBucket, gsTable) {
		path := filepath.Join(dir, filepath.FromSlash(rel))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestGSLoaderConforms(t *testing.T) {
	loadtest.Run(t, func(t *testing.T) loadtest.Harness {
		t.Helper()
		s := gcstest.Start(t, gsBucket)
		return gsHarness(s, gsClient(t, s, nil))
	})
}

// gsHarness is a destination on a server.
func gsHarness(s *gcstest.Server, c *gcs.Client) loadtest.Harness {
	return loadtest.Harness{
		New: func(t *testing.T) load.Loader {
			t.Helper()
			return openGS(t, c, func(o *parquet.GSOptions) { staged(&o.Options) })
		},
		Read:    func(t *testing.T) []loadtest.Row { t.Helper(); return current(t, mirror(t, s)) },
		History: func(t *testing.T) []loadtest.Row { t.Helper(); return history(t, mirror(t, s)) },
		Spoil:   func(t *testing.T) { t.Helper(); s.Put(gsBucket, gsTable+"part-0.parquet", []byte("PAR1")) },
		HashKey: func(t *testing.T) []string { t.Helper(); return hashKeys(t, mirror(t, s)) },
		Stages: func(t *testing.T) []load.Stage {
			t.Helper()
			path := filepath.Join(t.TempDir(), "stages.parquet")
			if err := os.WriteFile(path, s.Objects(t, gsBucket, "exports/crm/crm_stages/")["stages.parquet"], 0o600); err != nil {
				t.Fatal(err)
			}
			return loadtest.ReadStages(t, duck(t), fmt.Sprintf(askStages, "'"+path+"'"))
		},
		SpoilStages: func(t *testing.T) {
			t.Helper()
			s.Put(gsBucket, "exports/crm/crm_stages/stages.parquet", []byte("PAR1"))
		},
		Fingerprint: func(t *testing.T) string {
			t.Helper()
			return fmt.Sprint(s.Generations(t, gsBucket))
		},
	}
}

// gsState is what the bucket holds, without the names of commits and what they
// replaced, which are never the same twice.
func gsState(t *testing.T, s *gcstest.Server) map[string]string {
	t.Helper()
	out := map[string]string{}
	for name, data := range s.Objects(t, gsBucket, "") {
		if strings.HasSuffix(name, "/head.json") {
			var h map[string]any
			if err := json.Unmarshal(data, &h); err != nil {
				t.Fatal(err)
			}
			delete(h, "commit")
			data, _ = json.Marshal(h) // it came from JSON
		}
		out[name] = string(data)
	}
	return out
}

// differences names the objects in which two states differ.
func differences(want, got map[string]string) string {
	var out []string
	for name, data := range want {
		switch other, ok := got[name]; {
		case !ok:
			out = append(out, "missing "+name)
		case other != data:
			out = append(out, "different "+name)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			out = append(out, "added "+name)
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// undisturbed is the state after the packages were committed one by one, and
// their results.
func undisturbed(t *testing.T, packages ...load.Package) (map[string]string, []load.Result) {
	t.Helper()
	s := gcstest.Start(t, gsBucket)
	l := openGS(t, gsClient(t, s, nil))
	var results []load.Result
	for _, p := range packages {
		r, err := l.Commit(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		results = append(results, r)
	}
	return gsState(t, s), results
}

// transport counts the requests of one client and lets before look at each.
type transport struct {
	n      atomic.Int64
	before func(n int, r *http.Request)
}

func (tr *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	n := int(tr.n.Add(1))
	if tr.before != nil {
		tr.before(n, r)
	}
	return http.DefaultTransport.RoundTrip(r)
}

func TestGSTableIsWhatTheLocalOneIs(t *testing.T) {
	sc := scenarios(t)[1]
	root := t.TempDir()
	s := gcstest.Start(t, gsBucket)
	local, remote := open(t, root, on(unsynced{})), openGS(t, gsClient(t, s, nil))
	for _, p := range append(sc.base, sc.p) {
		want := commit(t, local, p)
		got, err := remote.Commit(t.Context(), p)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("result is %v, %v; want %v", got, err, want)
		}
	}
	a, b := snapshot(t, filepath.Join(root, "contacts")), snapshot(t, mirror(t, s))
	delete(b, filepath.Join("_manifests", "head.json"))
	delete(a, filepath.Join("_manifests", "00000000.json"))
	for _, m := range []map[string]string{a, b} {
		if m["views.sql"] == "" {
			t.Error("there is no views.sql")
		}
		delete(m, "views.sql")
	}
	if d := fmt.Sprint(lines(a)); d != fmt.Sprint(lines(b)) {
		t.Errorf("local %v\nremote %v", lines(a), lines(b))
	}
	sql := string(s.Objects(t, gsBucket, gsTable)["views.sql"])
	for _, want := range []string{
		"read_parquet('gs://lake/exports/crm/contacts/current/**/*.parquet'", "TYPE gcs",
		"read_parquet('gs://lake/exports/crm/contacts/history/**/*.parquet'", "read_json_objects('gs://lake/exports/crm/contacts/_sluice_runs/*.json*'",
	} {
		if !strings.Contains(sql, want) {
			t.Errorf("views.sql lacks %s:\n%s", want, sql)
		}
	}
}

func TestGSViewsAreValidSQL(t *testing.T) {
	sc := scenarios(t)[1]
	s := gcstest.Start(t, gsBucket)
	l := openGS(t, gsClient(t, s, nil))
	for _, p := range append(sc.base, sc.p) {
		if _, err := l.Commit(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	dir := mirror(t, s)
	sql := strings.ReplaceAll(string(s.Objects(t, gsBucket, gsTable)["views.sql"]), l.URL(), dir)
	db := duck(t)
	if _, err := db.Exec(sql); err != nil {
		t.Fatal(err)
	}
	if rows := query(t, db, "SELECT count(*) AS n FROM contacts"); rows[0]["n"] != int64(4) {
		t.Errorf("contacts has %v rows", rows[0]["n"])
	}
	if rows := query(t, db, "SELECT count(*) AS n FROM runs"); rows[0]["n"] != int64(1) {
		t.Errorf("runs has %v rows", rows[0]["n"])
	}
}

func TestGSCommitFetchesOnlyTheMonthsItTouches(t *testing.T) {
	s := gcstest.Start(t, gsBucket)
	l := openGS(t, gsClient(t, s, nil))
	var rows []loadtest.Row
	for m := range 6 {
		rows = append(rows, contact(fmt.Sprint("c", m), 1+m, 1, "name", "x"))
	}
	if _, err := l.Commit(t.Context(), loadtest.Build(t, loadtest.Spec{Serial: 1, Rows: rows})); err != nil {
		t.Fatal(err)
	}
	fetched := atomic.Int64{}
	s.SetFault(func(_ int, r *http.Request) gcstest.Fault {
		if r.Method == http.MethodGet && r.URL.Query().Get("alt") == "media" && strings.Contains(r.URL.Path, "/current/") {
			fetched.Add(1)
		}
		return gcstest.None
	})
	p := loadtest.Build(t, loadtest.Spec{Serial: 2, Rows: []loadtest.Row{contact("c2", 3, 2, "name", "y"), contact("new", 9, 2)}})
	if _, err := l.Commit(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d requests", s.SetFault(nil))
	if n := fetched.Load(); n != 1 {
		t.Errorf("%d files of current were fetched, want 1", n)
	}
}

func TestGSLoaderLeavesNothingOnThisDisk(t *testing.T) {
	s := gcstest.Start(t, gsBucket)
	work := t.TempDir()
	l := openGS(t, gsClient(t, s, nil), func(o *parquet.GSOptions) { o.WorkDir = work })
	p := loadtest.Build(t, loadtest.Spec{Serial: 1, Rows: []loadtest.Row{contact("a", 1, 1)}})
	left := func(when string) {
		t.Helper()
		for path, sum := range snapshot(t, work) {
			if sum != "dir" {
				t.Errorf("%s: %s is left", when, path)
			}
		}
	}
	if _, err := l.Commit(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	left("after a commit")
	s.SetFault(func(n int, _ *http.Request) gcstest.Fault {
		if n > 10 {
			return gcstest.Refuse
		}
		return gcstest.None
	})
	p = loadtest.Build(t, loadtest.Spec{Serial: 2, Rows: []loadtest.Row{contact("a", 1, 2)}})
	if _, err := l.Commit(t.Context(), p); err == nil {
		t.Error("a commit succeeds without a server")
	}
	left("after a failure")
	s.SetFault(nil)
	if err := os.RemoveAll(work); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Commit(t.Context(), p); err != nil {
		t.Errorf("after the working directory vanished: %v", err)
	}
}

func TestGSCoverageRecordsOfOldRunsArePacked(t *testing.T) {
	s := gcstest.Start(t, gsBucket)
	c := gsClient(t, s, nil)
	few := func(o *parquet.GSOptions) { o.ArchiveRuns = 4 }
	const last = 58
	for serial := int64(1); serial <= last; serial++ {
		if serial == last {
			// Of two who pack at once, or of one that dies while it does.
			s.SetFault(func(_ int, r *http.Request) gcstest.Fault {
				if r.Method == http.MethodDelete && strings.Contains(r.URL.Path, "/_sluice_runs/") && !strings.Contains(r.URL.Path, "_staging") {
					return gcstest.Refuse
				}
				return gcstest.None
			})
		}
		if _, err := openGS(t, c, few).Commit(t.Context(), emptyRun(t, serial)); err != nil {
			t.Fatal(err)
		}
	}
	s.SetFault(nil)
	l := openGS(t, c, few)
	dir := mirror(t, s)
	loose, archives := runFiles(t, dir)
	if fmt.Sprint(archives) != "[archive-00000001.jsonl.gz archive-00000002.jsonl.gz]" || len(loose) < 50 || len(loose) > last-4 {
		t.Errorf("there are %d records and %v", len(loose), archives)
	}
	sql := strings.ReplaceAll(string(s.Objects(t, gsBucket, gsTable)["views.sql"]), l.URL(), dir)
	db := duck(t)
	if _, err := db.Exec(sql); err != nil {
		t.Fatal(err)
	}
	wantRuns(t, db, last)
	if _, err := l.Commit(t.Context(), emptyRun(t, last+1)); err != nil {
		t.Fatal(err)
	}
	if loose, _ := runFiles(t, mirror(t, s)); len(loose) != last+1-8 {
		t.Errorf("%d records are left, want %d", len(loose), last+1-8)
	}
}
