package main

import (
	"bufio"
	"bytes"
	"context"
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

	"github.com/sluice-etl/sluice/internal/crashtest"
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

// judge compares what was exported with what the source holds.
type judge struct {
	*crashtest.Judge
	dir, url string
}

func newJudge(t *testing.T, dir, url string) *judge {
	t.Helper()
	j, err := crashtest.NewJudge()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return &judge{Judge: j, dir: dir, url: url}
}

// source returns the contacts as the endpoint has them now, by id, and notes
// their versions.
func (j *judge) source(t *testing.T) map[string]map[string]any {
	t.Helper()
	j.look(t)
	return j.Source()
}

// rows reads a table by a bare glob, each contact once.
func (j *judge) rows(t *testing.T, table string) map[string]map[string]any {
	t.Helper()
	rows, faults, err := j.Rows(t.Context(), filepath.Join(j.dir, "out", table))
	if err != nil {
		t.Fatal(err)
	}
	for _, fault := range faults {
		t.Error(fault)
	}
	return rows
}

// compareContact returns the number of cells that differ.
func compareContact(t *testing.T, table schemas.Table, contact, row map[string]any) int {
	t.Helper()
	faults := crashtest.CompareContact(table, contact, row)
	for _, fault := range faults {
		t.Error(fault)
	}
	return len(faults)
}

func (j *judge) table() string { return filepath.Join(j.dir, "out", "contacts") }

// look notes the versions that the endpoint has now.
func (j *judge) look(t *testing.T) {
	t.Helper()
	if err := j.Look(call(t, http.MethodGet, j.url+"/_sandbox/dump", "")); err != nil {
		t.Fatal(err)
	}
}

// check fails the test unless current equals the source cell by cell and
// history holds every version once.
func (j *judge) check(t *testing.T, e crashtest.Expect) {
	t.Helper()
	j.look(t)
	var table schemas.Table
	if err := json.Unmarshal(output(t, sluice(t, j.dir, "schema", "nightly", "--json")), &table); err != nil {
		t.Fatal(err)
	}
	faults, err := j.Check(t.Context(), j.table(), table, e)
	if err != nil {
		t.Fatal(err)
	}
	orphans, err := crashtest.Orphans(j.table())
	if err != nil {
		t.Fatal(err)
	}
	if faults = append(faults, orphans...); len(faults) > 0 {
		t.Fatal(crashtest.Summary(faults))
	}
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
	j.check(t, crashtest.Expect{})

	before := fileTimes(t, dir)
	second := finished(t, output(t, sluice(t, dir, "run", "--json")))
	if second.New != 0 || second.Changed != 0 {
		t.Errorf("with nothing changed, a run found %+v", second)
	}
	if after := fileTimes(t, dir); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("with nothing changed, a run rewrote current:\n%v\n%v", before, after)
	}
	j.check(t, crashtest.Expect{})

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
		j.check(t, crashtest.Expect{})
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
	ids, err := j.IDs(t.Context(), j.table())
	if err != nil {
		t.Fatal(err)
	}
	if len(ids) != 2020 {
		t.Errorf("current holds %d contacts, the source 2020", len(ids))
	}
}
