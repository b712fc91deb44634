package parquet_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/schemas"
)

// A reader that globs current while it is being replaced sees every contact
// exactly once, whenever its read succeeds; one that met a file just renamed
// away repeats it.
func TestReadersSeeEveryContactOnceWhileCommitsRun(t *testing.T) {
	const contacts, commits = 300, 12
	l := open(t, t.TempDir(), on(unsynced{}))
	var packages []load.Package
	for n := range commits {
		var rows []loadtest.Row
		for i := range contacts {
			if n == 0 || (i+n)%2 == 0 {
				rows = append(rows, contact(fmt.Sprintf("c%03d", i), 1+i%4, n+1, "name", fmt.Sprint(n)))
			}
		}
		s := loadtest.Spec{Serial: int64(n + 1), Rows: rows, Verify: load.VerifyOff}
		if n > commits/2 { // half way, all of current is rewritten with a new column
			s.Extra = []schemas.Column{loadtest.Extra("cf_ticket_x", schemas.String)}
		}
		packages = append(packages, loadtest.Build(t, s))
	}
	commit(t, l, packages[0])
	done := make(chan error, 1)
	go func() {
		for _, p := range packages[1:] {
			if _, err := l.Commit(context.WithoutCancel(t.Context()), p); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	db := duck(t)
	reads, repeated := 0, 0
	for {
		rows, err := tryQuery(db, "SELECT count(*) AS n, count(DISTINCT id) AS ids, count(name) AS named FROM ("+bareGlob(l.Dir())+")")
		switch {
		case err != nil:
			repeated++
		case rows[0]["n"] != int64(contacts) || rows[0]["ids"] != int64(contacts) || rows[0]["named"] != int64(contacts):
			t.Errorf("a reader sees %v, want %d", rows[0], contacts)
		default:
			reads++
		}
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			if reads == 0 {
				t.Error("no read succeeded")
			}
			t.Logf("%d reads, %d repeated", reads, repeated)
			return
		default:
		}
	}
}
