package main

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	_ "github.com/duckdb/duckdb-go/v2" // the judge

	"github.com/sluice-etl/sluice/schemas"
)

// asProgram makes the test binary behave as sluice itself, so that the tests
// drive a real process without a second link.
const asProgram = "SLUICE_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(run())
	}
	os.Exit(m.Run())
}

// sluice prepares a run of the program in dir.
func sluice(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), asProgram+"=1", "CONTACTS_API_KEY=sandbox")
	return cmd
}

// output runs the program to its end and returns its standard output.
func output(t *testing.T, cmd *exec.Cmd) []byte {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s%s", cmd.Args[1:], err, out, stderr.Bytes())
	}
	return out
}

// startSandbox runs `sluice sandbox` in another process until the test ends
// and returns its URL.
func startSandbox(t *testing.T, args ...string) string {
	t.Helper()
	cmd := sluice(t, t.TempDir(), append([]string{"sandbox", "--listen", "127.0.0.1:0"}, args...)...)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed on purpose
	})
	lines := bufio.NewScanner(stdout)
	url := regexp.MustCompile(`http://127\.0\.0\.1:\d+`)
	for lines.Scan() {
		if found := url.FindString(lines.Text()); found != "" {
			go func() { _, _ = io.Copy(io.Discard, stdout) }()
			return found
		}
	}
	t.Fatalf("the sandbox printed no URL: %v", lines.Err())
	return ""
}

// call asks the sandbox's control side.
func call(t *testing.T, method, url, body string) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("x-api-key", "sandbox")
	req.Header.Set("content-type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %s %v %s", method, url, resp.Status, err, data)
	}
	return data
}

const pipelinesFor = `version: 1
sources:
  crm: {type: contacts_api, url: %q, api_key: "${CONTACTS_API_KEY}", requests_per_second: 1000}
destinations:
  lake: {type: parquet, path: out}
pipelines:
  nightly:
    source: crm
    table: contacts
    lookback: 1h
    destinations: [lake]
    schedule: %q
`

func writePipelines(t *testing.T, dir, url, schedule string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "pipelines.yaml"), fmt.Appendf(nil, pipelinesFor, url, schedule), 0o600); err != nil {
		t.Fatal(err)
	}
}

// judge compares what was exported with what the source holds, by DuckDB over
// a bare glob and a flattening of its own.
type judge struct {
	dir, url string
	db       *sql.DB
	seen     map[string]map[string]bool // versions met so far, by id
}

func newJudge(t *testing.T, dir, url string) *judge {
	t.Helper()
	db, err := sql.Open("duckdb", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return &judge{dir: dir, url: url, db: db, seen: map[string]map[string]bool{}}
}

// source returns the contacts as the endpoint has them now, by id, and notes
// their versions.
func (j *judge) source(t *testing.T) map[string]map[string]any {
	t.Helper()
	contacts := map[string]map[string]any{}
	for line := range bytes.Lines(call(t, http.MethodGet, j.url+"/_sandbox/dump", "")) {
		d := json.NewDecoder(bytes.NewReader(line))
		d.UseNumber()
		var c map[string]any
		if err := d.Decode(&c); err != nil {
			t.Fatal(err)
		}
		id := c["id"].(string)
		if contacts[id] != nil {
			t.Fatalf("the source holds %s twice", id)
		}
		contacts[id] = c
		if j.seen[id] == nil {
			j.seen[id] = map[string]bool{}
		}
		j.seen[id][string(bytes.TrimSpace(line))] = true
	}
	return contacts
}

// check fails the test unless current equals the source cell by cell and
// history holds every version once.
func (j *judge) check(t *testing.T) {
	t.Helper()
	source := j.source(t)
	var table schemas.Table
	if err := json.Unmarshal(output(t, sluice(t, j.dir, "schema", "nightly", "--json")), &table); err != nil {
		t.Fatal(err)
	}
	rows := j.current(t)
	if len(rows) != len(source) {
		t.Errorf("current holds %d contacts, the source %d", len(rows), len(source))
	}
	faults := 0
	for id, contact := range source {
		row := rows[id]
		if row == nil {
			t.Errorf("contact %s is missing", id)
			faults++
		} else {
			faults += compareContact(t, table, contact, row)
		}
		if faults > 10 {
			t.Fatal("and more")
		}
	}
	j.checkHistory(t)
}

// current reads the table contacts by a bare glob, each contact once.
func (j *judge) current(t *testing.T) map[string]map[string]any {
	t.Helper()
	return j.rows(t, "contacts")
}

// rows reads a table by a bare glob, each contact once.
func (j *judge) rows(t *testing.T, table string) map[string]map[string]any {
	t.Helper()
	glob := filepath.Join(j.dir, "out", table, "current", "**", "*.parquet")
	rows, err := j.db.QueryContext(t.Context(), "SELECT * FROM read_parquet('"+glob+"', hive_partitioning=false)")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]map[string]any{}
	for rows.Next() {
		values, pointers := make([]any, len(names)), make([]any, len(names))
		for i := range values {
			pointers[i] = &values[i]
		}
		if err := rows.Scan(pointers...); err != nil {
			t.Fatal(err)
		}
		row := make(map[string]any, len(names))
		for i, name := range names {
			row[name] = values[i]
		}
		id := row["id"].(string)
		if found[id] != nil {
			t.Errorf("current holds %s twice", id)
		}
		found[id] = row
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return found
}

func (j *judge) checkHistory(t *testing.T) {
	t.Helper()
	glob := filepath.Join(j.dir, "out", "contacts", "history", "**", "*.parquet")
	rows, err := j.db.QueryContext(t.Context(), "SELECT id, count(*), count(DISTINCT _sluice_hash) FROM read_parquet('"+glob+"', union_by_name=true) GROUP BY id")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	ids := 0
	for rows.Next() {
		var id string
		var n, versions int
		if err := rows.Scan(&id, &n, &versions); err != nil {
			t.Fatal(err)
		}
		ids++
		if want := len(j.seen[id]); n != want || versions != want {
			t.Errorf("history of %s: %d rows, %d versions; the source had %d", id, n, versions, want)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if ids != len(j.seen) {
		t.Errorf("history holds %d contacts, the source had %d", ids, len(j.seen))
	}
}

// compareContact returns the number of cells that differ.
func compareContact(t *testing.T, table schemas.Table, contact, row map[string]any) int {
	t.Helper()
	fields, faults := flatten(contact), 0
	misfit := map[string]string{}
	for _, c := range table.Columns {
		if c.Origin != schemas.FromContract && c.Origin != schemas.Discovered {
			continue
		}
		want, fits := typed(c.Type, fields[c.Source])
		if !fits {
			misfit[c.Name+"__text"] = text(fields[c.Source])
		}
		delete(fields, c.Source)
		if got := plain(row[c.Name]); !same(c.Type, got, want) {
			t.Errorf("contact %v, column %s: found %v, the source has %v", contact["id"], c.Name, got, want)
			faults++
		}
	}
	for _, c := range table.Columns {
		if c.Origin != schemas.MisfitText {
			continue
		}
		want, has := misfit[c.Name]
		got, isText := row[c.Name].(string)
		if has != isText || got != want {
			t.Errorf("contact %v, column %s: found %v, the source has %q", contact["id"], c.Name, row[c.Name], want)
			faults++
		}
		delete(misfit, c.Name)
	}
	for column := range misfit {
		t.Errorf("contact %v: no column %s", contact["id"], column)
		faults++
	}
	for source, v := range fields {
		if v != nil {
			t.Errorf("contact %v: no column for %s = %v", contact["id"], source, v)
			faults++
		}
	}
	return faults
}

// flatten is the flattening of the design, written once more and plainly.
func flatten(contact map[string]any) map[string]any {
	out := map[string]any{}
	flattenObject(out, "contact", "cf_customer", contact)
	if ticket, ok := contact["active_ticket_v2"].(map[string]any); ok {
		delete(out, "contact:active_ticket_v2")
		flattenObject(out, "ticket", "cf_ticket", ticket)
	}
	return out
}

func flattenObject(out map[string]any, scope, entity string, object map[string]any) {
	for key, v := range object {
		out[scope+":"+key] = v
	}
	for _, place := range []string{"custom_fields", "custom_field_values", "metadata"} {
		custom := map[string]any{}
		switch v := object[place].(type) {
		case map[string]any:
			custom = v
		case []any:
			for _, pair := range v {
				custom[pair.(map[string]any)["key"].(string)] = pair.(map[string]any)["value"]
			}
		}
		delete(out, scope+":"+place)
		for key, v := range custom {
			if out[entity+":"+key] == nil {
				out[entity+":"+key] = v
			}
		}
	}
}

// text is a value as it stands in the source.
func text(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// typed returns v as a column of type typ has it, and whether it fits.
func typed(typ schemas.Type, v any) (any, bool) {
	if v == nil {
		return nil, true
	}
	switch typ {
	case schemas.JSON:
		return text(v), true
	case schemas.Timestamp:
		s, _ := v.(string)
		at, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			return nil, false
		}
		return at.UnixMicro(), true
	case schemas.Bool:
		b, ok := v.(bool)
		return v, ok && (b || !b)
	case schemas.Int64:
		n, ok := v.(json.Number)
		i, err := n.Int64()
		if !ok || err != nil {
			return nil, false
		}
		return i, true
	case schemas.Float64:
		n, ok := v.(json.Number)
		f, err := n.Float64()
		if !ok || err != nil {
			return nil, false
		}
		return f, true
	default:
		switch v.(type) {
		case map[string]any, []any:
			return nil, false
		}
		return text(v), true
	}
}

// plain gives a value from DuckDB the form that typed gives.
func plain(v any) any {
	if at, ok := v.(time.Time); ok {
		return at.UnixMicro()
	}
	return v
}

func same(typ schemas.Type, got, want any) bool {
	if typ != schemas.JSON || got == nil || want == nil {
		if b, ok := want.(bool); ok && typ != schemas.Bool {
			want = fmt.Sprint(b)
		}
		return got == want
	}
	a, okA := got.(string)
	b, okB := want.(string)
	if !okA || !okB {
		return false
	}
	if a == b {
		return true
	}
	// A string that became JSON text is quoted there.
	var x, y any
	if json.Unmarshal([]byte(a), &x) != nil {
		return false
	}
	if json.Unmarshal([]byte(b), &y) != nil {
		y = b
	}
	return fmt.Sprint(x) == fmt.Sprint(y)
}

// finished returns the last event of `sluice run --json`.
func finished(t *testing.T, out []byte) (ev struct {
	Type, Status, Cursor    string
	New, Changed, Unchanged int64
	Requests                int64
},
) {
	t.Helper()
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	if err := json.Unmarshal(lines[len(lines)-1], &ev); err != nil {
		t.Fatalf("%v in %s", err, lines[len(lines)-1])
	}
	if ev.Type != "run_finished" || ev.Status != "done" {
		t.Fatalf("the run ended with %s", lines[len(lines)-1])
	}
	return ev
}

func TestCurrentEqualsASourceThatChangesBetweenRuns(t *testing.T) {
	contacts := 100_000
	if testing.Short() || raceEnabled {
		contacts = 10_000
	}
	url := startSandbox(t, "--contacts", fmt.Sprint(contacts), "--seed", "7",
		"--updated-ties", "2500", "--created-ties", "1500", "--shuffle-ties", "--fault-502", "every:40", "--fault-truncate", "every:31", "--fault-limit", "4")
	dir := t.TempDir()
	writePipelines(t, dir, url, "0 3 * * *")
	j := newJudge(t, dir, url)

	first := finished(t, output(t, sluice(t, dir, "run", "--json")))
	if first.New != int64(contacts) {
		t.Errorf("the first run found %d new contacts of %d", first.New, contacts)
	}
	j.check(t)

	before := fileTimes(t, dir)
	second := finished(t, output(t, sluice(t, dir, "run", "--json")))
	if second.New != 0 || second.Changed != 0 {
		t.Errorf("with nothing changed, a run found %+v", second)
	}
	if after := fileTimes(t, dir); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("with nothing changed, a run rewrote current:\n%v\n%v", before, after)
	}
	j.check(t)

	for _, m := range []string{
		`{"updates": 700, "creates": 300}`,
		`{"bulk": 3000}`,
		`{"updates": 5, "creates": 1, "bulk": 40}`,
	} {
		call(t, http.MethodPost, url+"/_sandbox/mutate", m)
		got := finished(t, output(t, sluice(t, dir, "run", "--json")))
		if got.New+got.Changed == 0 {
			t.Errorf("after %s a run found nothing: %+v", m, got)
		}
		j.check(t)
	}
}

// fileTimes returns when each current file was written.
func fileTimes(t *testing.T, dir string) map[string]time.Time {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "out", "contacts", "current", "*", "*.parquet"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no current files: %v", err)
	}
	times := map[string]time.Time{}
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		times[f] = info.ModTime()
	}
	return times
}

func TestTheScheduleExportsByItself(t *testing.T) {
	url := startSandbox(t, "--contacts", "2000")
	dir := t.TempDir()
	writePipelines(t, dir, url, "@every 1s")
	j := newJudge(t, dir, url)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	cmd := sluice(t, dir, "--log-format", "json", "schedule")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	finishedRuns := make(chan struct{})
	go func() {
		defer close(finishedRuns)
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			if strings.Contains(lines.Text(), "run finished") {
				select {
				case finishedRuns <- struct{}{}:
				case <-ctx.Done():
				}
			}
		}
	}()
	if _, ok := <-finishedRuns; !ok {
		t.Fatal("the schedule ended without a run")
	}
	call(t, http.MethodPost, url+"/_sandbox/mutate", `{"updates": 50, "creates": 20}`)
	// The run under way may have read its pages before the change; the one
	// after it has not.
	<-finishedRuns
	<-finishedRuns
	stop()
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil && cmd.ProcessState.ExitCode() != 130 {
		t.Fatalf("the schedule did not stop when asked: %v", err)
	}
	j.source(t)
	rows := j.current(t)
	if len(rows) != 2020 {
		t.Errorf("current holds %d contacts, the source 2020", len(rows))
	}
}
