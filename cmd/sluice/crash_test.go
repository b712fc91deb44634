//go:build unix

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluice-etl/sluice/internal/crashtest"
)

// relay stands between the program and the sandbox, both of which are other
// processes: it counts requests, and calls page before each one for a page.
type relay struct {
	sandbox, url string
	pages        atomic.Int64
	page         atomic.Pointer[func(n int64)]
}

func newRelay(t *testing.T, sandbox string) *relay {
	t.Helper()
	to, err := url.Parse(sandbox)
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{sandbox: sandbox}
	forward := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(to) },
		// What the sandbox breaks off, and what a killed program leaves, is no news.
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
		ErrorLog:     log.New(io.Discard, "", 0),
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if strings.HasSuffix(req.URL.Path, "/contacts") {
			n := r.pages.Add(1)
			if page := r.page.Load(); page != nil {
				(*page)(n)
			}
		}
		forward.ServeHTTP(w, req)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

// storm changes the source before every further request for a page, until calm.
// The channel is closed before the n-th of them.
func (r *relay) storm(n int64) (reached <-chan struct{}) {
	c := make(chan struct{})
	r.pages.Store(0)
	page := func(at int64) {
		req, err := http.NewRequest(http.MethodPost, r.sandbox+"/_sandbox/mutate", strings.NewReader(`{"updates": 1}`))
		if err == nil {
			req.Header.Set("x-api-key", "sandbox")
			if resp, err := http.DefaultClient.Do(req); err == nil {
				_ = resp.Body.Close()
			}
		}
		if at == n {
			close(c)
		}
	}
	r.page.Store(&page)
	return c
}

func (r *relay) calm() { r.page.Store(nil) }

// mortal is a program that is to be stopped before its end.
type mortal struct {
	*exec.Cmd
	lines  chan string // of standard output; closed at its end
	stderr bytes.Buffer
}

func startMortal(t *testing.T, dir string, args ...string) *mortal {
	t.Helper()
	m := &mortal{Cmd: sluice(t, dir, args...), lines: make(chan string)}
	out, err := m.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	m.Stderr = &m.stderr
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Process.Kill() })
	go func() {
		defer close(m.lines)
		s := bufio.NewScanner(out)
		s.Buffer(nil, 1<<20)
		for s.Scan() {
			select {
			case m.lines <- s.Text():
			case <-t.Context().Done():
				return
			}
		}
	}()
	return m
}

// end waits for the program's end and returns its exit code, -1 if it was killed.
func (m *mortal) end(t *testing.T) int {
	t.Helper()
	for range m.lines { // until it has closed them
	}
	return exitCode(t, m.Cmd)
}

func exitCode(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode()
}

// waitFor reads standard output up to the first line with what in it.
func (m *mortal) waitFor(t *testing.T, what string) {
	t.Helper()
	for line := range m.lines {
		if strings.Contains(line, what) {
			return
		}
	}
	t.Fatalf("the program never said %q: %s", what, m.stderr.Bytes())
}

// killAt kills the program when it has printed so many lines, or when reached
// is closed; it returns where the program ends by itself before.
func (m *mortal) killAt(lines int64, reached <-chan struct{}) {
	for n := int64(1); ; n++ {
		select {
		case <-reached:
			_ = m.Process.Kill()
			return
		case _, more := <-m.lines:
			if !more {
				return
			}
			if n == lines {
				_ = m.Process.Kill()
				return
			}
		}
	}
}

const crashPipelines = `version: 1
sources:
  crm: {type: contacts_api, url: %q, api_key: "${CONTACTS_API_KEY}", requests_per_second: 1000, page_size: %d}
destinations:
  lake: {type: parquet, path: out}
pipelines:
  nightly:
    source: crm
    table: contacts
    lookback: 1s # with an hour, each run would read again what the one before it has lost
    destinations: [lake]
`

func crashDir(t *testing.T, url string, pageSize int) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "pipelines.yaml"), fmt.Appendf(nil, crashPipelines, url, pageSize), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// commands are what is killed, by turns; those of one turn run side by side.
func commands() [][][]string {
	run, backfill := []string{"run", "--json"}, []string{"backfill", "nightly", "--json", "--from", "2023-01-01", "--to", "2026-09-01", "--window", "120d"}
	reconcile := []string{"reconcile", "nightly", "--json", "--max-share", "50%"}
	return [][][]string{{run}, {backfill}, {backfill, run}, {{"run", "--json", "--full"}}, {reconcile}}
}

func envCount(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestTheProgramKilledAtAnyTimeConverges(t *testing.T) {
	if testing.Short() {
		t.Skip("kills the program for ten seconds and more; internal/crashtest has short ones")
	}
	if raceEnabled {
		t.Skip("the same program is killed without the race detector, five times as often in this time")
	}
	kills, seed := int(envCount(t, "SLUICE_CRASH_KILLS", 50)/5), envCount(t, "SLUICE_CRASH_SEED", 1) //nolint:gosec // small
	rng := rand.New(rand.NewPCG(seed, 2))                                                            //nolint:gosec // a test's
	sandbox := startSandbox(t, "--contacts", "300", "--seed", fmt.Sprint(seed), "--updated-ties", "130", "--created-ties", "110",
		"--fault-502", "every:97", "--fault-truncate", "every:89", "--fault-reset", "every:83", "--fault-limit", "4")
	r := newRelay(t, sandbox)
	dir := crashDir(t, r.url, 100)
	j := newJudge(t, dir, sandbox)
	j.look(t)
	finished(t, output(t, sluice(t, dir, "run", "--json")))
	j.check(t, crashtest.Expect{})
	var history []string
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("SLUICE_CRASH_SEED=%d repeats it; after\n%s", seed, strings.Join(history, "\n"))
		}
	})
	done := 0
	for turn := 0; done < kills && turn < 3*kills; turn++ {
		set := commands()[turn%len(commands())]
		changes := `{"updates": 20, "creates": 5, "bulk": 110}`
		if set[0][0] == "reconcile" {
			call(t, http.MethodPost, sandbox+"/_sandbox/mutate", `{"restores": 1}`)
			changes = `{"deletes": 3, "updates": 5}`
		}
		call(t, http.MethodPost, sandbox+"/_sandbox/mutate", changes)
		j.look(t)
		requests, lines := rng.Int64N(50), int64(0) // one of them
		if rng.IntN(2) == 0 {
			requests, lines = 0, 1+rng.Int64N(50)
		}
		reached := r.storm(requests)
		victims := make([]*mortal, len(set))
		for i, args := range set {
			victims[i] = startMortal(t, dir, args...)
		}
		victims[0].killAt(lines, reached)
		for i, v := range victims {
			code := v.end(t)
			if code > 0 {
				t.Fatalf("%v ended with %d: %s", set[i], code, v.stderr.Bytes())
			}
			if code < 0 {
				done++
			}
			history = append(history, fmt.Sprintf("%v, to be killed at request %d or line %d, ended with %d", set[i], requests, lines, code))
		}
		r.calm()
		settle(t, j, set)
	}
	t.Logf("%d kills, from seed %d", done, seed)
}

// settle lets every command come to its end, and compares.
func settle(t *testing.T, j *judge, set [][]string) {
	t.Helper()
	j.look(t)
	for _, args := range set {
		output(t, sluice(t, j.dir, args...))
	}
	finished(t, output(t, sluice(t, j.dir, "run", "--json")))
	j.check(t, crashtest.Expect{Marked: true, Unseen: true, Beside: true})
	tidy(t, j.dir)
}

func tidy(t *testing.T, dir string) {
	t.Helper()
	left, err := crashtest.Leftovers(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Fatal(crashtest.Summary(left))
	}
}

// interrupted starts a first run and stops it with Ctrl-C when it has read a
// few pages. It returns the run's journal.
func interrupted(t *testing.T, dir string) (journal string) {
	t.Helper()
	m := startMortal(t, dir, "run", "--json")
	for range 10 {
		m.waitFor(t, `"progress"`)
	}
	if err := m.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := m.end(t); code != 130 || !strings.Contains(m.stderr.String(), "run the same command again") {
		t.Fatalf("exit %d: %s", code, m.stderr.Bytes())
	}
	found, err := filepath.Glob(filepath.Join(dir, ".sluice", "runs", "*", "journal"))
	if err != nil || len(found) != 1 {
		t.Fatalf("journals %v, %v", found, err)
	}
	return found[0]
}

func TestADamagedJournalIsReportedWithTheWayOutAndATornOneGoneOnWith(t *testing.T) {
	sandbox := startSandbox(t, "--contacts", "600", "--latency", "20ms")
	r := newRelay(t, sandbox)
	dir := crashDir(t, r.url, 10)
	j := newJudge(t, dir, sandbox)
	journal := interrupted(t, dir)
	whole, err := os.ReadFile(journal)
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(whole)
	damaged[len(damaged)/2] ^= 1
	if err := os.WriteFile(journal, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := sluice(t, dir, "run")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	code := exitCode(t, cmd)
	said := strings.Join(strings.Fields(stderr.String()), " ")
	way := regexp.MustCompile(`remove (\S+) and run again`).FindStringSubmatch(said)
	if code != 1 || !strings.Contains(said, "is corrupt") || !strings.Contains(said, journal) || way == nil {
		t.Fatalf("exit %d: %s", code, said)
	}
	if after, err := os.ReadFile(journal); err != nil || !bytes.Equal(after, damaged) {
		t.Fatalf("the journal was changed, %v", err)
	}

	// Half of a record at the end is what a kill leaves: nothing to report.
	if err := os.WriteFile(journal, append(whole, whole[:len(whole)/3]...), 0o600); err != nil {
		t.Fatal(err)
	}
	finished(t, output(t, sluice(t, dir, "run", "--json")))
	j.check(t, crashtest.Expect{})
	tidy(t, dir)

	// The way out leads out.
	dir = crashDir(t, r.url, 10)
	j = newJudge(t, dir, sandbox)
	journal = interrupted(t, dir)
	if err := os.WriteFile(journal, damaged[:len(damaged)*3/4], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Dir(journal)); err != nil {
		t.Fatal(err)
	}
	finished(t, output(t, sluice(t, dir, "run", "--json")))
	j.check(t, crashtest.Expect{})
	tidy(t, dir)
}

func TestOfTwoRunsAtOnceOneWinsAndTheOtherNamesItAndSinceWhen(t *testing.T) {
	sandbox := startSandbox(t, "--contacts", "500", "--latency", "20ms")
	dir := crashDir(t, sandbox, 10)
	j := newJudge(t, dir, sandbox)
	before := time.Now().UTC().Truncate(time.Second)
	first := startMortal(t, dir, "run", "--json")
	first.waitFor(t, `"progress"`)
	second := startMortal(t, dir, "run")
	if code := second.end(t); code != 1 {
		t.Fatalf("exit %d: %s", code, second.stderr.Bytes())
	}
	said := regexp.MustCompile(`held by process (\d+) on \S+ \(.*run.*\) since (\S+)`).FindStringSubmatch(second.stderr.String())
	if said == nil || said[1] != strconv.Itoa(first.Process.Pid) {
		t.Fatalf("the second does not name the first, process %d:\n%s", first.Process.Pid, second.stderr.Bytes())
	}
	if since, err := time.Parse(time.RFC3339, said[2]); err != nil || since.Before(before) || since.After(time.Now()) {
		t.Errorf("it says since %s, which is not when it began (%v)", said[2], err)
	}
	if code := first.end(t); code != 0 {
		t.Fatalf("the first ended with %d: %s", code, first.stderr.Bytes())
	}
	j.check(t, crashtest.Expect{})
	tidy(t, dir)
}

func TestASecondSignalStopsARunThatTheFirstCannot(t *testing.T) {
	sandbox := startSandbox(t, "--contacts", "3000")
	dir := crashDir(t, sandbox, 5)
	cmd := sluice(t, dir, "run", "--json")
	// Nobody reads what it says, so it stands still when the pipe is full.
	unread, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer unread.Close()
	cmd.Stdout = write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = write.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for before, same := 0, 0; same < 30; { // that it stands still is told by time alone
		<-look.C
		n, err := unix.IoctlGetInt(int(unread.Fd()), unix.TIOCINQ) //nolint:gosec // a descriptor
		if err != nil {
			t.Fatal(err)
		}
		if same++; n != before || n < 32<<10 {
			before, same = n, 0
		}
	}
	signals := 0
	for running := true; running; {
		if err := cmd.Process.Signal(syscall.SIGTERM); err == nil {
			signals++
		}
		select {
		case err := <-ended:
			t.Logf("%v after %d signals", err, signals)
			running = false
		case <-time.After(300 * time.Millisecond): // for the first to be taken note of
		}
	}
	if code := cmd.ProcessState.ExitCode(); code != 143 || signals < 2 {
		t.Fatalf("exit %d after %d signals", code, signals)
	}
	finished(t, output(t, sluice(t, dir, "run", "--json")))
	j := newJudge(t, dir, sandbox)
	j.check(t, crashtest.Expect{})
	tidy(t, dir)
}
