//go:build unix && cgo

package main

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const intoDatabase = `version: 1
sources:
  crm: {type: contacts_api, url: "sandbox://?contacts=2500&seed=5", requests_per_second: 1000}
destinations:
  local: {type: duckdb, path: out/crm.duckdb}
pipelines:
  nightly: {source: crm, destinations: [local], verify: off}
`

// Ctrl-C while DuckDB commits ends the transaction, a second one the process at
// once: either way the next run finds the table as it was before.
func TestCtrlCDuringACommitToADatabaseIsSafeOnceAndTwice(t *testing.T) {
	for name, tc := range map[string]struct {
		when  string // the file that has to be there
		times int
	}{
		"once when the package is sealed":    {"", 1},
		"twice when the package is sealed":   {"", 2},
		"twice when the database is there":   {"crm.duckdb", 2},
		"twice when something has been kept": {"crm.duckdb.wal", 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "pipelines.yaml"), []byte(intoDatabase), 0o600); err != nil {
				t.Fatal(err)
			}
			code, stderr := stopped(t, dir, tc.when, tc.times)
			switch {
			case code != 130 && code != 0: // 0: it was done before
				t.Fatalf("exit %d\n%s", code, stderr)
			case code == 130 && tc.times == 1 && !strings.Contains(stderr, "run the same command again"):
				t.Errorf("it does not say how to go on:\n%s", stderr)
			}
			t.Logf("exit %d", code)
			output(t, sluice(t, dir, "run"))
			const ask = "SELECT count(*), count(DISTINCT id), (SELECT count(*) FROM contacts_history) FROM contacts_all"
			if got := string(output(t, sluice(t, dir, "query", ask))); !strings.HasSuffix(got, "\n2500,2500,2500\n") {
				t.Errorf("the next run makes %s", got)
			}
			left, err := os.ReadDir(filepath.Join(dir, "out"))
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range left {
				// One that was being made when the process ended stays for an hour.
				if e.Name() != "crm.duckdb" && !strings.HasPrefix(e.Name(), ".crm.duckdb.new-") {
					t.Errorf("out holds %s", e.Name())
				}
			}
		})
	}
}

// stopped starts a run, gives it Ctrl-C so many times when its package is
// sealed and the file is there, and returns its exit code and what it says.
func stopped(t *testing.T, dir, file string, times int) (int, string) {
	t.Helper()
	cmd := sluice(t, dir, "run", "--json")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() && !strings.Contains(lines.Text(), `"package_sealed"`) {
	}
	ended := make(chan error, 1)
	go func() {
		for lines.Scan() { // to the end, as Wait asks
		}
		ended <- cmd.Wait()
	}()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for there := file == ""; !there; {
		select {
		case err := <-ended:
			ended <- err
			there = true // too late: it is done
		case <-look.C:
			_, err := os.Stat(filepath.Join(dir, "out", file))
			there = err == nil
		}
	}
	for range times {
		_ = cmd.Process.Signal(os.Interrupt) // it may be over
		<-look.C                             // signals of one kind that wait are one
	}
	err = <-ended
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		t.Fatalf("it died of %v", status.Signal())
	}
	return cmd.ProcessState.ExitCode(), stderr.String()
}
