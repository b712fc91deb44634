//go:build cgo

package duckdb_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/duckdb"
)

// jobVar names the job of a child process: this binary, started again, to be
// killed.
const jobVar = "SLUICE_DUCKDB_CHILD"

// childJob is what a child does: it commits the packages that follow its
// table's position.
type childJob struct {
	Path     string
	Packages []load.Package
}

func TestMain(m *testing.M) {
	text := os.Getenv(jobVar)
	if text == "" {
		os.Exit(m.Run())
	}
	if err := child(text); err != nil {
		fmt.Fprintln(os.Stderr, err)
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
	ctx := context.Background()
	l, err := duckdb.New(duckdb.Options{Path: job.Path, Table: "contacts", Wait: -1})
	if err != nil {
		return err
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
