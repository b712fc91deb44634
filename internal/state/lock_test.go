package state

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/sluice-etl/sluice/internal/clock"
)

// The test binary plays a second process when this variable names a role.
const roleVar = "SLUICE_STATE_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVar); role != "" {
		if err := play(role, os.Getenv("SLUICE_STATE_TEST_DIR")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// play is the second process. It says "ready" on stdout and then waits for its
// standard input to end.
func play(role, dir string) error {
	s, err := Open(dir, clock.System{}, WithCommand("sluice run nightly"))
	if err != nil {
		return err
	}
	ctx := context.Background() // there is no test in this process
	switch role {
	case "hold":
		if _, err := s.LockRun(ctx, "nightly", "sync"); err != nil {
			return err
		}
		fmt.Println("ready")
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
		return nil // without release: the end of the process is the release
	case "count":
		fmt.Println("ready")
		return count(ctx, s, 10)
	}
	return fmt.Errorf("unknown role %q", role)
}

// child starts this test binary in a role and waits until it is ready.
func child(t *testing.T, role, dir string) (cmd *exec.Cmd, hangUp func()) {
	t.Helper()
	cmd = exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), roleVar+"="+role, "SLUICE_STATE_TEST_DIR="+dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("child says %q, %v", line, err)
	}
	return cmd, func() { _ = in.Close() }
}

func TestALockNamesTheProcessThatHoldsItAndEndsWithIt(t *testing.T) {
	for _, end := range []string{"exit", "kill"} {
		t.Run(end, func(t *testing.T) {
			dir := t.TempDir()
			cmd, hangUp := child(t, "hold", dir)
			s := open(t, dir)
			_, err := s.LockRun(t.Context(), "nightly", "sync")
			var held *HeldError
			if !errors.As(err, &held) || !errors.Is(err, ErrHeld) {
				t.Fatalf("got %v", err)
			}
			host, _ := os.Hostname()
			if h := held.Holder; h.PID != cmd.Process.Pid || h.Host != host || h.Command != "sluice run nightly" || h.Since.IsZero() {
				t.Errorf("holder is %+v", h)
			}
			for _, part := range []string{strconv.Itoa(cmd.Process.Pid), "sluice run nightly", "since 20"} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q lacks %q", err, part)
				}
			}
			if hint(t, err) == "" {
				t.Error("no hint")
			}
			// Other kinds of run, other pipelines and saves are not kept out.
			for _, other := range [][2]string{{"nightly", "backfill"}, {"weekly", "sync"}} {
				release, err := s.LockRun(t.Context(), other[0], other[1])
				if err != nil {
					t.Fatal(err)
				}
				if err := release(); err != nil {
					t.Error(err)
				}
			}
			save(t, s, New("nightly"))

			if end == "kill" {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
			hangUp()
			_ = cmd.Wait()
			release, err := s.LockRun(t.Context(), "nightly", "sync")
			if err != nil {
				t.Fatalf("the lock outlived its process: %v", err)
			}
			if err := release(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestUpdatesOfTwoProcessesLoseNothing(t *testing.T) {
	dir := t.TempDir()
	a, _ := child(t, "count", dir)
	b, _ := child(t, "count", dir)
	if err := count(t.Context(), open(t, dir), 10); err != nil {
		t.Error(err)
	}
	for _, cmd := range []*exec.Cmd{a, b} {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	if p := load(t, open(t, dir), "nightly"); p.Serial != 30 || p.NextPackage != 31 {
		t.Errorf("serial %d, next package %d after 30 updates", p.Serial, p.NextPackage)
	}
}

func TestARunKeepsAnotherOfTheSameProcessOut(t *testing.T) {
	dir := t.TempDir()
	s, other := open(t, dir), open(t, dir)
	for range 3 {
		release, err := s.LockRun(t.Context(), "nightly", "sync")
		if err != nil {
			t.Fatal(err)
		}
		for _, again := range []*Store{s, other} {
			var held *HeldError
			if _, err := again.LockRun(t.Context(), "nightly", "sync"); !errors.As(err, &held) || held.Holder.PID != os.Getpid() {
				t.Errorf("got %v", err)
			}
		}
		if err := release(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAHolderThatLeftNoNameIsStillReported(t *testing.T) {
	s := open(t, t.TempDir())
	release, err := s.LockRun(t.Context(), "nightly", "sync")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = release() }()
	l, err := s.newLock("nightly", "sync")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(holderPath(l.Path()), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.LockRun(t.Context(), "nightly", "sync"); !errors.Is(err, ErrHeld) || !strings.Contains(err.Error(), "another process") {
		t.Errorf("got %v", err)
	}
}

func TestALockNeedsBothNames(t *testing.T) {
	s := open(t, t.TempDir())
	for _, names := range [][2]string{{"", "sync"}, {"nightly", ""}} {
		if _, err := s.LockRun(t.Context(), names[0], names[1]); err == nil {
			t.Errorf("%q was locked", names)
		}
	}
}
