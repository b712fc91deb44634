//go:build cgo && !windows

package duckdb_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/internal/duck"
	"github.com/sluice-etl/sluice/load/duckdb"
)

// holding opens the database in another process until release is called.
func holding(t *testing.T, path, mode string) (pid int, release func()) {
	t.Helper()
	cmd := command(t, childJob{Path: path, Hold: mode})
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "begun\n" {
		t.Fatalf("the child says %q, %v, %s", line, err, &errs)
	}
	return cmd.Process.Pid, sync.OnceFunc(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the holder: %v, %s", err, &errs)
		}
	})
}

func TestADatabaseThatAnAnalystHasOpenIsWaitedForAndNamed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "contacts.duckdb")
	first := one(t, 1, "a")
	commit(t, open(t, path), first)
	for _, mode := range []string{"READ_ONLY", "READ_WRITE"} {
		t.Run(mode, func(t *testing.T) {
			pid, release := holding(t, path, mode)
			defer release()
			p := one(t, map[string]int64{"READ_ONLY": 2, "READ_WRITE": 3}[mode], "b")
			began := time.Now()
			_, err := open(t, path, func(o *duckdb.Options) { o.Wait = 300 * time.Millisecond }).Commit(t.Context(), p)
			var used *duck.InUseError
			var hinted interface{ Hint() string }
			if !errors.As(err, &used) || !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "DuckDB shell") {
				t.Fatalf("commit: %v", err)
			}
			if waited := time.Since(began); waited < 300*time.Millisecond || waited > 20*time.Second {
				t.Errorf("waited %s", waited)
			}
			if want := fmt.Sprintf("(process %d)", pid); !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
				t.Errorf("%q does not name %s", err, want)
			}
			// What the table has is told beside readers, without a turn of one's own.
			if _, err := open(t, path).Commit(t.Context(), first); (err == nil) != (mode == "READ_ONLY") {
				t.Errorf("the package before, again: %v", err)
			}
			at, err := open(t, path).Check(t.Context(), "lineage-a")
			if mode == "READ_ONLY" && (err != nil || at != 1) {
				t.Errorf("readers keep out the check: %d, %v", at, err)
			}
			if mode == "READ_WRITE" && !errors.As(err, &used) {
				t.Errorf("check: %v", err)
			}
			// Once it is free, a commit that waits goes on.
			done := make(chan error, 1)
			go func() {
				_, err := open(t, path, func(o *duckdb.Options) { o.Wait = time.Minute }).Commit(t.Context(), p)
				done <- err
			}()
			release()
			if err := <-done; err != nil {
				t.Errorf("after the wait: %v", err)
			}
		})
	}
	if n := len(query(t, path, "FROM contacts")); n != 2 {
		t.Errorf("%d contacts", n)
	}
}

func TestCommitsOfOneProcessToOneFileTakeTurns(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lake", "contacts.duckdb")
	var wg sync.WaitGroup
	for i := range 4 {
		p := one(t, 1, "a", "b")
		p.Lineage, p.RunID = fmt.Sprintf("lineage-%d", i), fmt.Sprintf("run-%d", i)
		l := open(t, path, func(o *duckdb.Options) { o.Table, o.Wait = fmt.Sprintf("table_%d", i), time.Minute })
		wg.Go(func() {
			if r, err := l.Commit(t.Context(), p); err != nil || r.New != 2 {
				t.Errorf("table %d: %+v, %v", i, r, err)
			}
			if at, err := l.Check(t.Context(), p.Lineage); err != nil || at != 1 {
				t.Errorf("table %d: %d, %v", i, at, err)
			}
		})
	}
	wg.Wait()
	for i := range 4 {
		if n := len(query(t, path, fmt.Sprintf("FROM table_%d", i))); n != 2 {
			t.Errorf("table %d has %d rows", i, n)
		}
	}
}
