//go:build unix

package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// startedProcess is a running process whose lines can be waited for.
type startedProcess struct {
	cmd   *exec.Cmd
	lines chan string // of stdout and stderr; closed at the end of both
	mu    sync.Mutex
	said  bytes.Buffer
}

func (w *world) start(t *testing.T, args ...string) *startedProcess {
	t.Helper()
	p := &startedProcess{cmd: w.process(t, args...), lines: make(chan string, 10000)}
	r, pw := io.Pipe()
	p.cmd.Stdout, p.cmd.Stderr = pw, pw
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		s := bufio.NewScanner(r)
		for s.Scan() {
			p.mu.Lock()
			p.said.WriteString(s.Text() + "\n")
			p.mu.Unlock()
			p.lines <- s.Text()
		}
		close(p.lines)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		_ = pw.Close()
	})
	return p
}

func (p *startedProcess) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said.String()
}

// wait returns the first line from here on that contains what.
func (p *startedProcess) wait(t *testing.T, what string) string {
	t.Helper()
	limit := time.After(time.Minute)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				t.Fatalf("the process ended before it said %q:\n%s", what, p.text())
			}
			if strings.Contains(line, what) {
				return line
			}
		case <-limit:
			t.Fatalf("the process does not say %q:\n%s", what, p.text())
		}
	}
}

// signal sends s and returns the exit code.
func (p *startedProcess) signal(t *testing.T, s syscall.Signal) int {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	err := p.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode()
}

func TestASignalInterruptsARunWhichThenGoesOn(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	for name, tc := range map[string]struct {
		signal syscall.Signal
		code   int
	}{"Ctrl-C": {syscall.SIGINT, 130}, "SIGTERM": {syscall.SIGTERM, 143}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			slow := strings.Replace(small, "seed=1", "seed=1&latency=300ms", 1)
			w := newWorld(t, strings.Replace(slow, "requests_per_second", "page_size: 4, requests_per_second", 1))
			w.env["SLUICE_FILE"] = w.file()
			p := w.start(t, "run")
			p.wait(t, "reading everything")
			if code := p.signal(t, tc.signal); code != tc.code {
				t.Errorf("exit %d, want %d:\n%s", code, tc.code, p.text())
			}
			if text := p.text(); !strings.Contains(text, "interrupted") || !strings.Contains(text, "again") {
				t.Errorf("it does not say how to go on:\n%s", text)
			}
			w.write(t, "pipelines.yaml", small)
			w.sluice(t, "run").mustBe(t, 0)
			if got := w.sluice(t, "query", "SELECT count(*) AS n, count(DISTINCT id) AS ids FROM contacts_all").mustBe(t, 0).out; got != "n,ids\n40,40\n" {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestASecondRunNamesTheOneThatHoldsTheLock(t *testing.T) {
	t.Parallel()
	w := newWorld(t, strings.Replace(small, "seed=1", "seed=1&latency=2s", 1))
	w.env["SLUICE_FILE"] = w.file()
	p := w.start(t, "run")
	p.wait(t, "reading everything")
	r := w.sluice(t, "run", "--json").mustBe(t, 1)
	if want := "held by process " + strconv.Itoa(p.cmd.Process.Pid); !strings.Contains(r.err, want) {
		t.Errorf("%q is missing in\n%s", want, r.err)
	}
	if all := events(t, r.out); all[len(all)-1]["type"] != eventFinished || all[len(all)-1]["status"] != "failed" {
		t.Errorf("events:\n%s", r.out)
	}
	if code := p.signal(t, syscall.SIGINT); code != 130 {
		t.Errorf("exit %d:\n%s", code, p.text())
	}
	golden(t, "interrupted.txt", generated.ReplaceAllString(w.relative(p.text()), "ID"))
}

var servesAt = regexp.MustCompile(`http://127\.0\.0\.1:\d+`)

// startSandbox runs a sandbox in a process of its own.
func (w *world) startSandbox(t *testing.T, args ...string) (p *startedProcess, url string) {
	t.Helper()
	p = w.start(t, append([]string{"sandbox", "--listen", "127.0.0.1:0"}, args...)...)
	return p, servesAt.FindString(p.wait(t, "serves"))
}

func ask(t *testing.T, method, url, body string) []byte {
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
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %d %v %s", method, url, resp.StatusCode, err, data)
	}
	return data
}

// person is a contact as far as this test compares it; the engine's own tests
// compare every column.
type person struct {
	ID      string  `json:"id"`
	Updated string  `json:"updated_at"`
	Name    *string `json:"name"`
	Phone   *string `json:"phone"`
	Email   *string `json:"email"`
}

func contactsOf(t *testing.T, lines []byte) []person {
	t.Helper()
	var all []person
	for line := range bytes.Lines(lines) {
		var p person
		if err := json.Unmarshal(line, &p); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		all = append(all, p)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].ID < all[j].ID })
	return all
}

func TestScheduleFollowsAChangingSourceByItself(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	w := newWorld(t, "")
	_, url := w.startSandbox(t, "--contacts", "300")
	yaml := strings.Replace(small, `url: "sandbox://?contacts=40&seed=1"`, `url: "`+url+`", api_key: "${KEY}"`, 1)
	w.write(t, "pipelines.yaml", strings.Replace(yaml, `"0 3 * * *"`, `"@every 1s"`, 1))
	w.env["KEY"] = "sandbox"
	w.env["SLUICE_FILE"] = w.file()

	p := w.start(t, "schedule")
	p.wait(t, "msg=\"next run\" pipeline=nightly")
	p.wait(t, "msg=summary")
	ask(t, http.MethodPost, url+"/_sandbox/mutate", `{"updates": 40, "creates": 20, "bulk": 30}`)
	// The run that was going on may have passed the changes; the one after
	// the next summary began after them.
	p.wait(t, "msg=summary")
	p.wait(t, "msg=summary")
	if code := p.signal(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit %d after a stop that was asked for:\n%s", code, p.text())
	}

	want := contactsOf(t, ask(t, http.MethodGet, url+"/_sandbox/dump", ""))
	got := contactsOf(t, []byte(w.sluice(t, "query", "--format", "jsonl",
		"SELECT id, strftime(timezone('UTC', updated_at), '%Y-%m-%dT%H:%M:%S.%gZ') AS updated_at, name, phone, email FROM contacts_all").mustBe(t, 0).out))
	if len(want) != 320 {
		t.Errorf("the sandbox has %d contacts", len(want))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the export differs from the source (-want +got):\n%s\n%s", diff, p.text())
	}
}

func TestTheSandboxSaysHowToUseIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	p, url := w.startSandbox(t, "--contacts", "12")
	p.wait(t, "Stop with Ctrl-C.")
	if code := p.signal(t, syscall.SIGINT); code != 0 {
		t.Errorf("exit %d", code)
	}
	golden(t, "sandbox.txt", strings.ReplaceAll(p.text(), url, "URL"))
}

func TestTheSandboxNamesATakenPort(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	_, url := w.startSandbox(t, "--contacts", "1")
	addr := strings.TrimPrefix(url, "http://")
	r := w.sluice(t, "sandbox", "--listen", addr).mustBe(t, 1)
	if !strings.Contains(r.err, "address already in use") || !strings.Contains(r.err, "--listen=127.0.0.1:0") {
		t.Errorf("got %s", r.err)
	}
	r = w.sluice(t, "sandbox", "--listen", "0.0.0.0:0").mustBe(t, 1)
	golden(t, "sandbox_remote.txt", r.err)
}

func TestASignalInterruptsABackfillWhichThenGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small)
	w.env["SLUICE_FILE"] = w.file()
	w.sluice(t, "run").mustBe(t, 0)
	slow := strings.Replace(small, "seed=1", "seed=1&latency=300ms", 1)
	w.write(t, "pipelines.yaml", strings.Replace(slow, "requests_per_second", "page_size: 4, requests_per_second", 1))
	args := []string{"backfill", "nightly", "--from", "2023-01-01", "--to", "2026-08-01", "--parallel", "1"}
	p := w.start(t, args...)
	p.wait(t, "reading again")
	if code := p.signal(t, syscall.SIGINT); code != 130 {
		t.Errorf("exit %d:\n%s", code, p.text())
	}
	if text := p.text(); !strings.Contains(text, "interrupted") || !strings.Contains(text, "run the same command again") {
		t.Errorf("it does not say how to go on:\n%s", text)
	}
	w.write(t, "pipelines.yaml", small)
	if r := w.sluice(t, args...).mustBe(t, 0); !strings.Contains(r.out, "nightly: done") {
		t.Errorf("got\n%s", r.out)
	}
}

func TestASignalInterruptsAReconciliationWhichMarksNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small)
	w.env["SLUICE_FILE"] = w.file()
	w.sluice(t, "run").mustBe(t, 0)
	slow := strings.Replace(small, "seed=1", "seed=1&latency=300ms", 1)
	w.write(t, "pipelines.yaml", strings.Replace(slow, "requests_per_second", "page_size: 4, requests_per_second", 1))
	before := w.tree(t, "out/contacts/current", "out/contacts/history")
	p := w.start(t, "reconcile", "nightly")
	p.wait(t, "looking for deleted contacts")
	if code := p.signal(t, syscall.SIGINT); code != 130 {
		t.Errorf("exit %d:\n%s", code, p.text())
	}
	if text := p.text(); !strings.Contains(text, "interrupted") || !strings.Contains(text, "nothing was marked; the same command begins anew") {
		t.Errorf("it does not say what it leaves:\n%s", text)
	}
	if diff := cmp.Diff(before, w.tree(t, "out/contacts/current", "out/contacts/history")); diff != "" {
		t.Errorf("files changed:\n%s", diff)
	}
}

func TestScheduleReconcilesBesideItsRuns(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	w := newWorld(t, "")
	_, url := w.startSandbox(t, "--contacts", "100")
	yaml := strings.Replace(small, `url: "sandbox://?contacts=40&seed=1"`, `url: "`+url+`", api_key: "${KEY}"`, 1)
	w.write(t, "pipelines.yaml", strings.Replace(yaml, `"0 3 * * *"`, `"@every 1s", reconcile: {schedule: "@every 1s", max_share: 10%}, verify: off`, 1))
	w.env["KEY"] = "sandbox"
	w.env["SLUICE_FILE"] = w.file()
	w.sluice(t, "run").mustBe(t, 0)
	ask(t, http.MethodPost, url+"/_sandbox/mutate", `{"deletes": 9}`)

	p := w.start(t, "schedule")
	if line := p.wait(t, "msg=summary pipeline=nightly kind=reconcile"); !strings.Contains(line, " missing=9 gone=9 ") {
		t.Errorf("the reconciliation ended with %s\n%s", line, p.text())
	}
	p.wait(t, "msg=summary pipeline=nightly status=done")
	if code := p.signal(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit %d after a stop that was asked for:\n%s", code, p.text())
	}
	got := w.sluice(t, "query", "SELECT count(*) AS n FROM contacts_all WHERE _sluice_deleted_at IS NOT NULL").mustBe(t, 0).out
	if got != "n\n9\n" {
		t.Errorf("marked are %q\n%s", got, p.text())
	}
}
