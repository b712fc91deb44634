//go:build cgo

package duckdb_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/duckdb"
	"github.com/sluice-etl/sluice/load/loadtest"
)

// jobVar names the job of a child process: this binary, started again, to be
// killed.
const jobVar = "SLUICE_DUCKDB_CHILD"

// childJob is what a child does: it commits the packages that follow its
// table's position, erases, or holds the database open until its input ends.
type childJob struct {
	Path     string
	Packages []load.Package
	Hold     string          // access mode, as DuckDB spells it
	FileSize uint64          // if not 0: bytes that files may grow to
	Erase    string          // id of a contact that it erases instead
	Stages   *load.StageList // that it puts in place of those there are
}

func TestMain(m *testing.M) {
	text := os.Getenv(jobVar)
	if text == "" {
		os.Exit(m.Run())
	}
	if err := child(text); err != nil {
		fmt.Fprintln(os.Stderr, err)
		var hinted interface{ Hint() string }
		if errors.As(err, &hinted) {
			fmt.Fprintln(os.Stderr, "HINT", hinted.Hint())
		}
		os.Exit(1)
	}
}

func child(text string) error {
	data, err := os.ReadFile(text)
	if err != nil {
		return err
	}
	var job childJob
	if err := json.Unmarshal(data, &job); err != nil {
		return err
	}
	if job.Hold != "" {
		return hold(job)
	}
	if job.FileSize > 0 {
		if err := limitFiles(job.FileSize); err != nil {
			return err
		}
	}
	ctx := context.Background()
	l, err := duckdb.New(duckdb.Options{Path: job.Path, Table: "contacts", Wait: -1, Stages: loadtest.StagesTable})
	if err != nil {
		return err
	}
	if job.Erase != "" {
		fmt.Println("begun")
		_, err := l.Erase(ctx, load.Erasure{Lineage: "lineage-a", ID: job.Erase})
		return err
	}
	if job.Stages != nil {
		fmt.Println("begun")
		return l.ReplaceStages(ctx, *job.Stages)
	}
	at, err := l.Check(ctx, job.Packages[0].Lineage)
	if err != nil {
		return err
	}
	fmt.Println("begun") // the parent counts from here
	for _, p := range job.Packages {
		if p.Serial <= at {
			continue
		}
		if _, err := l.Commit(ctx, p); err != nil {
			return err
		}
		fmt.Println("committed", p.Serial)
	}
	return nil
}

// hold is an analyst's session.
func hold(job childJob) error {
	db, err := sql.Open("duckdb", job.Path+"?access_mode="+job.Hold)
	if err != nil {
		return err
	}
	if _, err := db.Exec("SELECT * FROM contacts"); err != nil {
		return err
	}
	fmt.Println("begun")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return db.Close()
}

// command is a child that has not been started.
func command(tb testing.TB, job childJob) *exec.Cmd {
	tb.Helper()
	data, err := json.Marshal(job)
	if err != nil {
		tb.Fatal(err)
	}
	text := filepath.Join(tb.TempDir(), "job.json")
	if err := os.WriteFile(text, data, 0o600); err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), jobVar+"="+text)
	return cmd
}
