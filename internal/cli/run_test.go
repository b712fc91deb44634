package cli

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/duck"
)

func TestARunExportsAndSaysWhatToTryNext(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	w := newWorld(t, small)
	r := w.sluice(t, "run").mustBe(t, 0)
	golden(t, "run_first.txt", r.out)
	golden(t, "run_first_stderr.txt", r.err)

	next := r.out[strings.Index(r.out, `query "`)+len(`query "`):]
	next = next[:strings.Index(next, `"`)]
	golden(t, "query_next.txt", w.onTerminal(t, "query", next).mustBe(t, 0).out)
}

func TestASecondRunChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small)
	w.sluice(t, "run").mustBe(t, 0)
	before := w.tree(t, "out/contacts/current", "out/contacts/history")
	if len(before) == 0 {
		t.Fatal("nothing was exported")
	}
	w.clock = clock.Fixed(noon.Now().Add(time.Hour))
	r := w.sluice(t, "run").mustBe(t, 0)
	if duck.Available { // the summary ends with what this build can do next
		golden(t, "run_second.txt", r.out)
	}
	if diff := cmp.Diff(before, w.tree(t, "out/contacts/current", "out/contacts/history")); diff != "" {
		t.Errorf("files changed:\n%s", diff)
	}
}

func TestAFullRunReadsEverythingAgainAndFindsItUnchanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small)
	w.sluice(t, "run").mustBe(t, 0)
	before := w.tree(t, "out/contacts/current", "out/contacts/history")
	r := w.sluice(t, "run", "--full", "--json").mustBe(t, 0)
	last := events(t, r.out)
	got := last[len(last)-1]
	if got["new"] != 0.0 || got["changed"] != 0.0 || got["unchanged"] != 40.0 {
		t.Errorf("got %v", got)
	}
	if diff := cmp.Diff(before, w.tree(t, "out/contacts/current", "out/contacts/history")); diff != "" {
		t.Errorf("files changed:\n%s", diff)
	}
}

// events parses what --json prints.
func events(t *testing.T, out string) []map[string]any {
	t.Helper()
	var all []map[string]any
	for line := range strings.Lines(out) {
		var e map[string]any
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		all = append(all, e)
	}
	if len(all) == 0 {
		t.Fatal("no events")
	}
	return all
}

func TestJSONPrintsEventsAndEndsWithTheSummary(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small)
	r := w.sluice(t, "run", "--json").mustBe(t, 0)
	if r.err != "" {
		t.Errorf("stderr: %s", r.err)
	}
	all := events(t, r.out)
	if got := all[0]["type"]; got != eventStarted {
		t.Errorf("the first event is %v", got)
	}
	last := all[len(all)-1]
	delete(last, "coverage")
	for _, varies := range []string{"run_id", "requests"} {
		if v, ok := last[varies]; !ok || v == "" || v == 0.0 {
			t.Errorf("%s is %v", varies, v)
		}
		delete(last, varies)
	}
	want := map[string]any{
		"type": eventFinished, "time": "2026-09-01T12:00:00Z", "pipeline": "nightly", "mode": "full", "status": "done",
		"new": 40.0, "changed": 0.0, "unchanged": 0.0, "deleted": 0.0, "retries": 0.0, "quarantined": 0.0,
		"cursor": last["cursor"], "duration_ms": 0.0, "files": last["files"],
	}
	if diff := cmp.Diff(want, last); diff != "" {
		t.Errorf("run_finished (-want +got):\n%s", diff)
	}
	if c, _ := last["cursor"].(string); !strings.HasPrefix(c, "2026-09-01T") {
		t.Errorf("cursor %v", last["cursor"])
	}
}

const two = `version: 1
state: {path: .sluice}
sources:
  crm: {type: contacts_api, url: "sandbox://?contacts=50&seed=1", requests_per_second: 1000}
  down: {type: contacts_api, url: "http://127.0.0.1:1", api_key: "${KEY}", retry_for: 1s}
destinations:
  lake: {type: parquet, path: out}
pipelines:
  first: {source: down, table: leads, destinations: [lake], stages: off}
  second: {source: crm, table: contacts, destinations: [lake]}
`

// attempts varies with the jitter of the waits between them.
var attempts = regexp.MustCompile(`\(\d+ attempts?\)`)

func TestOnePipelineThatFailsDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, two)
	w.env["KEY"] = "a-real-key-0001"
	r := w.sluice(t, "run").mustBe(t, exitPartial)
	golden(t, "run_partial_stderr.txt", attempts.ReplaceAllString(r.err, "(N attempts)"))
	if !strings.Contains(r.out, "second: done") {
		t.Errorf("stdout:\n%s", r.out)
	}
	// All of those asked for failed: that is an error, not a part.
	r = w.sluice(t, "run", "first", "--json").mustBe(t, 1)
	all := events(t, r.out)
	if last := all[len(all)-1]; last["type"] != eventFinished || last["status"] != "failed" || last["error"] == "" {
		t.Errorf("the last event is %v", last)
	}
}

func TestQueriesSeeSeveralTablesBySchema(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	w := newWorld(t, strings.Replace(two, `url: "http://127.0.0.1:1", api_key: "${KEY}", retry_for: 1s`, `url: "sandbox://?contacts=30&seed=2", requests_per_second: 1000`, 1))
	golden(t, "query_nothing.txt", w.sluice(t, "query", "SELECT 1").mustBe(t, 1).err)
	w.sluice(t, "run", "second").mustBe(t, 0)
	if r := w.onTerminal(t, "query").mustBe(t, 0); !strings.Contains(r.out, "lake_leads: nothing exported yet (first)") {
		t.Errorf("the list does not tell what is missing:\n%s", r.out)
	}
	w.sluice(t, "run").mustBe(t, 0)
	r := w.sluice(t, "query", "SELECT (SELECT count(*) FROM lake_leads.leads_all) AS leads, (SELECT count(*) FROM contacts_all) AS contacts, (SELECT count(*) FROM leads_all) AS bare").mustBe(t, 0)
	if want := "leads,contacts,bare\n30,50,30\n"; r.out != want {
		t.Errorf("got %q, want %q", r.out, want)
	}
	golden(t, "query_list.txt", w.onTerminal(t, "query").mustBe(t, 0).out)
}

func TestQueryPrintsTablesOnATerminalAndCSVElsewhere(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	w := exported(t)
	const sql = "SELECT * FROM (VALUES (1, 'a', NULL), (22, '', 'NULL'), (3, 'two\nlines', 'b')) AS t(n, s, x)"
	golden(t, "query_table.txt", w.onTerminal(t, "query", sql).mustBe(t, 0).out)
	golden(t, "query_cut.txt", w.onTerminal(t, "query", "FROM contacts ORDER BY created_at LIMIT 5", "--rows", "2").mustBe(t, 0).out)
	for format, want := range map[string]string{
		"":      "n,s,x\n1,a,\n22,\"\",NULL\n3,\"two\nlines\",b\n",
		"csv":   "n,s,x\n1,a,\n22,\"\",NULL\n3,\"two\nlines\",b\n",
		"json":  "[\n\t{\"n\":1,\"s\":\"a\",\"x\":null},\n\t{\"n\":22,\"s\":\"\",\"x\":\"NULL\"},\n\t{\"n\":3,\"s\":\"two\\nlines\",\"x\":\"b\"}\n]\n",
		"jsonl": "{\"n\":1,\"s\":\"a\",\"x\":null}\n{\"n\":22,\"s\":\"\",\"x\":\"NULL\"}\n{\"n\":3,\"s\":\"two\\nlines\",\"x\":\"b\"}\n",
	} {
		if got := w.sluice(t, "query", sql, "--format="+format).mustBe(t, 0).out; got != want {
			t.Errorf("format %q: got %q, want %q", format, got, want)
		}
	}
	// A table that was asked for is not cut where nobody watches.
	table := w.sluice(t, "query", "SELECT repeat('x', 300) AS x", "--format", "table").mustBe(t, 0).out
	if !strings.Contains(table, strings.Repeat("x", 300)) {
		t.Errorf("got %q", table)
	}
	// The SQL from standard input, as cron and scripts give it.
	if got := w.run(t, Streams{In: strings.NewReader("SELECT 1 AS a; -- one\nSELECT 2 AS b;\n")}, "query").mustBe(t, 0).out; got != "b\n2\n" {
		t.Errorf("got %q", got)
	}
	// JSON's readers expect ISO 8601; a time without a timezone has no Z.
	const times = "SET TimeZone = 'Asia/Tokyo'; SELECT TIMESTAMPTZ '2023-11-18 19:07:07.128Z' AS \"a\"\"b\", TIMESTAMPTZ '2023-11-18 19:07:07.000001Z' AS us, TIMESTAMP '2023-11-18 19:07:07' AS naive, NULL::TIMESTAMPTZ AS none, DATE '2023-11-18' AS day"
	if got, want := w.sluice(t, "query", times, "--format", "jsonl").mustBe(t, 0).out, `{"a\"b":"2023-11-18T19:07:07.128Z","us":"2023-11-18T19:07:07.000001Z","naive":"2023-11-18T19:07:07.000","none":null,"day":"2023-11-18"}`+"\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := w.sluice(t, "query", "SELECT now() AS t, now() AS T, TIMESTAMP 'infinity' AS i", "--format", "json").mustBe(t, 0).out; !strings.Contains(got, `"infinity"`) {
		t.Errorf("got %s", got)
	}
	golden(t, "query_errors.txt", w.sluice(t, "query", "SELECT 1;\nSELECT nope\nFROM contacts").mustBe(t, 1).err+
		w.sluice(t, "query", "FROM contakts").mustBe(t, 1).err+
		w.sluice(t, "query", "COPY contacts TO 'x.csv'").mustBe(t, 1).err+
		w.sluice(t, "query", "EXPLAIN SELECT 1", "--format", "csv").mustBe(t, 1).err+
		w.sluice(t, "query", "-- nothing").mustBe(t, 1).err)
}

func TestAQueryWithoutSQLIsAListOnATerminalAndAnErrorElsewhere(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	w := exported(t)
	var first string
	for _, line := range []string{"query", "query -", "query --format csv"} {
		r := w.run(t, Streams{In: strings.NewReader(" \n")}, strings.Fields(line)...).mustBe(t, 1)
		if r.out != "" || !strings.Contains(r.err, "there is no SQL") {
			t.Errorf("%s: stdout %q, stderr %q", line, r.out, r.err)
		}
		first = r.err
	}
	golden(t, "query_empty.txt", first)
	for _, args := range [][]string{{"query", "-o", "x.csv"}, {"query", "--format", "json"}, {"query", ""}} {
		if r := w.onTerminal(t, args...).mustBe(t, 1); r.out != "" {
			t.Errorf("%q: %s", args, r.out)
		}
	}
}

func TestQueryWritesAFileWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	w := exported(t)
	results := newWorld(t, "")
	out := filepath.Join(results.dir, "r.parquet")
	r := w.sluice(t, "query", "FROM contacts_all", "-o", out).mustBe(t, 0)
	if r.out != "" || r.err != "wrote 40 rows to "+out+"\n" {
		t.Errorf("stdout %q, stderr %q", r.out, r.err)
	}
	if got := w.sluice(t, "query", "SELECT count(*) AS n FROM '"+out+"'").mustBe(t, 0).out; got != "n\n40\n" {
		t.Errorf("got %q", got)
	}
	before := []map[string]string{w.tree(t, "."), results.tree(t, ".")}
	for _, args := range [][]string{
		{"query", "SELECT (id || 'x')::INT FROM contacts", "-o", out},
		{"query", "SELECT 1", "-o", filepath.Join(w.dir, "out", "contacts", "r.csv")},
		{"query", "SELECT 1", "-o", filepath.Join(results.dir, "nowhere", "r.csv")},
	} {
		r := w.sluice(t, args...).mustBe(t, 1)
		if !strings.HasPrefix(r.err, "error: ") || strings.Count(r.err, "error: ") != 1 {
			t.Errorf("%v: %s", args, r.err)
		}
	}
	if diff := cmp.Diff(before, []map[string]string{w.tree(t, "."), results.tree(t, ".")}); diff != "" {
		t.Errorf("a query that failed left something:\n%s", diff)
	}
}

func TestAQueryThatFailsHalfWaySpeaksOfTheQueryAlone(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	r := exported(t).sluice(t, "query", "SELECT (id || 'x')::INT FROM contacts").mustBe(t, 1)
	if r.out != "" || !strings.Contains(r.err, "Conversion Error") || strings.Contains(r.err, "sluice-query") {
		t.Errorf("stdout %q, stderr %q", r.out, r.err)
	}
}

// A first commit that met a full disk has left its first manifest and no rows.
func TestATableWhoseFirstCommitHasNotEndedIsNotExportedYet(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	done, w := exported(t), newWorld(t, small)
	first, err := os.ReadFile(filepath.Join(done.dir, "out", "contacts", "_manifests", "00000000.json"))
	if err != nil {
		t.Fatal(err)
	}
	manifests := filepath.Join(w.dir, "out", "contacts", "_manifests")
	if err := os.MkdirAll(manifests, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"00000000.json", "latest.json"} {
		if err := os.WriteFile(filepath.Join(manifests, name), first, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := w.sluice(t, "query", "FROM contacts").mustBe(t, 1)
	if !strings.HasPrefix(r.err, "error: nothing is exported yet\n") {
		t.Errorf("stderr %q", r.err)
	}
}

func TestPreviewTouchesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small)
	golden(t, "preview.txt", w.onTerminal(t, "preview", "nightly", "--rows", "2").mustBe(t, 0).out)
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Errorf("preview left %v", entries)
	}
	if r := exported(t).sluice(t, "preview", "nightly").mustBe(t, 0); strings.Contains(r.out, "new") {
		t.Errorf("columns are new although they were exported:\n%s", r.out)
	}
}

func TestSchemaListsWhatTheTableHas(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small)
	golden(t, "schema_before.txt", w.onTerminal(t, "schema", "nightly").mustBe(t, 0).out)
	w = exported(t)
	golden(t, "schema.txt", w.sluice(t, "schema", "nightly").mustBe(t, 0).out)
	var table struct {
		Columns []struct{ Name, Type, Origin string }
	}
	if err := json.Unmarshal([]byte(w.sluice(t, "schema", "nightly", "--json").mustBe(t, 0).out), &table); err != nil {
		t.Fatal(err)
	}
	if len(table.Columns) < 20 || table.Columns[0].Name != "id" || table.Columns[0].Origin != "contract" {
		t.Errorf("got %+v", table.Columns)
	}
}

func TestRunsListsThePast(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small)
	if got := w.sluice(t, "runs").mustBe(t, 0).out; got != "No runs yet: `sluice run` makes the first.\n" {
		t.Errorf("got %q", got)
	}
	w.sluice(t, "run").mustBe(t, 0)
	w.clock = clock.Fixed(noon.Now().Add(25 * time.Hour))
	w.sluice(t, "run").mustBe(t, 0)
	r := w.sluice(t, "runs", "--limit", "1").mustBe(t, 0)
	if !strings.Contains(r.out, "2026-09-02 13:00:00  nightly   done    incremental") || !strings.Contains(r.out, "(the last 1 of 2 runs; --limit 0 shows all)") {
		t.Errorf("got\n%s", r.out)
	}
	all := events(t, w.sluice(t, "runs", "nightly", "--json").mustBe(t, 0).out)
	if len(all) != 2 || all[0]["mode"] != "incremental" || all[1]["mode"] != "full" || all[1]["pipeline"] != "nightly" {
		t.Errorf("got %v", all)
	}
}

func TestOnATerminalTheLiveLineIsGoneAtTheEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, strings.Replace(small, "seed=1", "seed=1&latency=150ms", 1))
	r := w.onTerminal(t, "run").mustBe(t, 0)
	term := &terminal{}
	if _, err := term.Write([]byte(r.err)); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(r.err, "\rnightly  ") {
		t.Errorf("no live line was drawn: %q", r.err)
	}
	if got := term.text(); got != "" {
		t.Errorf("left on the screen: %q", got)
	}
}

func TestRecordsSetAsideAreCountedWithTheirPlace(t *testing.T) {
	t.Parallel()
	page := `[{"id":"a","created_at":"2026-01-01T00:00:00.000Z","updated_at":"2026-01-01T00:00:00.000Z"},{"id":null,"name":"nobody"}]`
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if o := q.Get("offset"); q.Get("created_after")+q.Get("updated_after") < "2026-01-01T00:00:00.000Z" && (o == "" || o == "0") {
			_, _ = io.WriteString(rw, page)
			return
		}
		_, _ = io.WriteString(rw, "[]")
	}))
	t.Cleanup(s.Close)
	w := newWorld(t, strings.Replace(small, `"sandbox://?contacts=40&seed=1"`, `"`+s.URL+`", api_key: "${KEY}"`, 1))
	w.env["KEY"] = "k-123456789"
	preview := w.sluice(t, "preview", "nightly").mustBe(t, 0).out
	if !strings.HasSuffix(preview, "set aside: record 2 of the page: id is missing, null or not a string\n") {
		t.Errorf("preview ends %q", preview[max(0, len(preview)-200):])
	}
	run := w.sluice(t, "run").mustBe(t, 0).out
	place := filepath.Join(".sluice", "quarantine", "nightly")
	// A walk that meets the record on several pages counts it on each.
	counted := regexp.MustCompile(`(?m)^  set aside   \d+ records? without a usable id, time or other required value, in DIR/\.sluice/quarantine/nightly$`)
	if !counted.MatchString(run) {
		t.Errorf("the summary is\n%s", run)
	}
	if files, err := os.ReadDir(filepath.Join(w.dir, place)); err != nil || len(files) == 0 {
		t.Errorf("there: %v, %v", files, err)
	}
}

func TestQueryWritesWhereALinkLeadsAndNeverInThePlaceOfADevice(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	w, results := exported(t), newWorld(t, "")
	results.write(t, "real.csv", "before\n")
	link := filepath.Join(results.dir, "link.csv")
	if err := os.Symlink("real.csv", link); err != nil {
		t.Skipf("no links here: %v", err)
	}
	w.sluice(t, "query", "-o", link, "SELECT 1 AS one").mustBe(t, 0)
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v %v", info, err)
	}
	if got, err := os.ReadFile(filepath.Join(results.dir, "real.csv")); err != nil || string(got) != "one\n1\n" {
		t.Errorf("the file behind the link holds %q, %v", got, err)
	}
	// A directory stands for whatever is no regular file: a test that is wrong
	// about a device would put a file in its place.
	r := w.sluice(t, "query", "-o", results.dir, "--format", "csv", "SELECT 1")
	if r.mustBe(t, 1); !strings.Contains(r.err, "not a regular file") {
		t.Errorf("got %s", r.err)
	}
}
