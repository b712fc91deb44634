//go:build cgo

package duckdb

import (
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/schemas"
)

// merged is a package that stands in its table, in a transaction that has not
// been committed.
func merged(t *testing.T, verify load.Verify) *merge {
	t.Helper()
	l, err := New(Options{Path: filepath.Join(t.TempDir(), "contacts.duckdb"), Table: "contacts", Wait: -1})
	if err != nil {
		t.Fatal(err)
	}
	extra := []schemas.Column{
		loadtest.Extra("cf_customer_day", schemas.Date), loadtest.Extra("cf_customer_float", schemas.Float64),
		loadtest.Extra("cf_customer_int", schemas.Int64), loadtest.Extra("cf_customer_json", schemas.JSON),
	}
	at := func(n int) time.Time { return loadtest.Epoch.Add(time.Duration(n) * time.Second) }
	row := func(id string, n int, pairs ...any) loadtest.Row {
		return loadtest.Contact(id, loadtest.Epoch.AddDate(0, -n, 0), at(n), pairs...)
	}
	first := loadtest.Build(t, loadtest.Spec{Serial: 1, Extra: extra, Rows: []loadtest.Row{row("stays", 1), row("changes", 1)}})
	if _, err := l.Commit(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	p := loadtest.Build(t, loadtest.Spec{Serial: 2, Extra: extra, PartRows: 3, Verify: verify, Rows: []loadtest.Row{
		row("changes", 2, "name", "1:a\u0000~", "phone", "", "blocked", true, "cf_customer_float", 1.5, "cf_customer_int", -7),
		row("new", 3, "name", "ü", "email", "a", "cf_customer_float", math.Copysign(0, -1), "cf_customer_json", "{}", "cf_customer_day", loadtest.Epoch.AddDate(-100, 0, 0)),
		row("changes", 1, "name", "older"), // to history alone
		row("fourth", 4, "name", "b", "phone", "c", "blocked", false), row("fifth", 5, "name", "c", "phone", "b"),
	}})
	s, err := l.open(t.Context(), false, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.close() })
	if _, err := s.exec(t.Context(), "BEGIN TRANSACTION"); err != nil {
		t.Fatal(err)
	}
	table, columns, _, err := s.admit(t.Context(), l.o, p)
	if err != nil {
		t.Fatal(err)
	}
	m := &merge{session: s, table: table, columns: columns.table, pkg: p}
	r, err := m.run(t.Context())
	if err != nil || r.Versions != 5 || r.New != 3 || r.Changed != 1 {
		t.Fatalf("merge: %+v, %v", r, err)
	}
	return m
}

func TestVerificationFindsWhatDiffersFromTheParts(t *testing.T) {
	t.Parallel()
	m := merged(t, load.VerifyFull)
	exec := func(t *testing.T, text string) int64 {
		t.Helper()
		n, err := m.exec(t.Context(), text)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	exec(t, "CREATE TEMP TABLE current AS FROM _sluice.contacts__current; CREATE TEMP TABLE history AS FROM _sluice.contacts__history")
	verify := func(t *testing.T, level load.Verify) error {
		t.Helper()
		m.pkg.Verify = level
		return m.verify(t.Context())
	}
	for _, level := range []load.Verify{load.VerifyFull, load.VerifySample, load.VerifyOff, ""} {
		if err := verify(t, level); err != nil {
			t.Errorf("%s: what is right is refused: %v", level, err)
		}
	}
	// A sample is of part 2 mod 2: rows 0 to 2.
	for name, c := range map[string]struct {
		sql    string
		sample bool
	}{
		"a text":              {`UPDATE _sluice.contacts__history SET name = 'b' WHERE "_sluice_row" = 1`, true},
		"a byte after a zero": {`UPDATE _sluice.contacts__history SET name = '1:a' || chr(0) || '!' WHERE "_sluice_row" = 0`, true},
		"a text in current":   {`UPDATE _sluice.contacts__current SET name = 'b' WHERE id = 'new'`, true},
		"null for empty":      {`UPDATE _sluice.contacts__current SET phone = NULL WHERE id = 'changes'`, true},
		"empty for null":      {`UPDATE _sluice.contacts__current SET phone = '' WHERE id = 'new'`, true},
		"a flag":              {`UPDATE _sluice.contacts__current SET blocked = false WHERE id = 'changes'`, true},
		"a sign":              {`UPDATE _sluice.contacts__current SET cf_customer_int = 7 WHERE id = 'changes'`, true},
		"a float's last bit":  {`UPDATE _sluice.contacts__current SET cf_customer_float = 1.5000000000000002 WHERE id = 'changes'`, true},
		"a day":               {`UPDATE _sluice.contacts__current SET cf_customer_day = cf_customer_day + 1 WHERE id = 'new'`, true},
		"a microsecond":       {`UPDATE _sluice.contacts__current SET updated_at = updated_at + INTERVAL 1 MICROSECOND WHERE id = 'new'`, true},
		"what changed":        {`UPDATE _sluice.contacts__current SET "_sluice_change" = 'insert' WHERE id = 'changes'`, true},
		"columns swapped":     {`UPDATE _sluice.contacts__history SET name = phone, phone = name WHERE "_sluice_row" = 3`, false},
		"rows swapped":        {`UPDATE _sluice.contacts__history SET name = CASE name WHEN 'b' THEN 'c' ELSE 'b' END WHERE "_sluice_row" IN (3, 4)`, false},
		"a row gone":          {`DELETE FROM _sluice.contacts__history WHERE "_sluice_row" = 2`, true},
		"a row twice":         {`INSERT INTO _sluice.contacts__current FROM _sluice.contacts__current WHERE id = 'fifth'`, false},
	} {
		t.Run(name, func(t *testing.T) {
			if exec(t, c.sql) == 0 {
				t.Fatal("nothing was changed")
			}
			for _, level := range []load.Verify{load.VerifyFull, load.VerifySample, load.VerifyOff, ""} {
				err := verify(t, level)
				if wanted := level == load.VerifyFull || level == "" || level == load.VerifySample && c.sample; wanted != (err != nil) {
					t.Errorf("%s: %v", level, err)
				} else if wanted && !strings.Contains(err.Error(), "differs from its parts") {
					t.Errorf("%s: %v", level, err)
				}
			}
			exec(t, "DELETE FROM _sluice.contacts__current; INSERT INTO _sluice.contacts__current FROM current; DELETE FROM _sluice.contacts__history; INSERT INTO _sluice.contacts__history FROM history")
		})
	}
}

func TestRowsThatDoNotAddUpAreRefused(t *testing.T) {
	t.Parallel()
	m := merged(t, load.VerifyOff)
	// A row number that two rows have makes the join multiply.
	if _, err := m.exec(t.Context(), "INSERT INTO sluice_fate FROM sluice_fate WHERE wins"); err != nil {
		t.Fatal(err)
	}
	if err := m.write(t.Context()); err == nil || !strings.Contains(err.Error(), "rows instead of") {
		t.Errorf("got %v", err)
	}
}

func TestColumnsAddedAheadOfACommitAreNothingToAReader(t *testing.T) {
	t.Parallel()
	l, err := New(Options{Path: filepath.Join(t.TempDir(), "contacts.duckdb"), Table: "contacts", Wait: -1})
	if err != nil {
		t.Fatal(err)
	}
	row := loadtest.Contact("a", loadtest.Epoch, loadtest.Epoch)
	if _, err := l.Commit(t.Context(), loadtest.Build(t, loadtest.Spec{Serial: 1, Rows: []loadtest.Row{row}})); err != nil {
		t.Fatal(err)
	}
	extra := []schemas.Column{loadtest.Extra("cf_a", schemas.Int64), loadtest.Extra("cf_b", schemas.String), loadtest.Extra("cf_c", schemas.String)}
	s, err := l.open(t.Context(), false, 0)
	if err != nil {
		t.Fatal(err)
	}
	table, err := s.inspect(t.Context(), "contacts")
	if err != nil {
		t.Fatal(err)
	}
	var stood, shown int
	count := func() {
		t.Helper()
		const q = "SELECT count(*) FILTER (table_name LIKE 'contacts\\_\\_%' ESCAPE '\\'), count(*) FILTER (table_name = 'contacts_all') FROM duckdb_columns() WHERE column_name LIKE 'cf%'"
		if err := s.get(t.Context(), []any{&stood, &shown}, q); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.widen(t.Context(), table, extra, 1<<20); err != nil {
		t.Fatal(err)
	}
	if count(); stood != 0 {
		t.Errorf("%d columns were added ahead of a commit that has room for them", stood)
	}
	for range 2 { // as after a kill
		if err := s.widen(t.Context(), table, extra, addedBytes*4); err != nil {
			t.Fatal(err)
		}
	}
	if count(); stood != 6 || shown != 0 {
		t.Errorf("%d columns stand there, %d are shown; want 6 and 0", stood, shown)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	// Another package than the one they were made for, with another type.
	extra = []schemas.Column{loadtest.Extra("cf_a", schemas.String), loadtest.Extra("cf_b", schemas.String)}
	p := loadtest.Build(t, loadtest.Spec{Serial: 2, Extra: extra, Rows: []loadtest.Row{row.With("cf_a", "text", "cf_b", "b")}})
	if r, err := l.Commit(t.Context(), p); err != nil || r.Changed != 1 {
		t.Fatalf("commit: %+v, %v", r, err)
	}
	err = l.reading(t.Context(), func(s *session) error {
		var a, b string
		if err := s.get(t.Context(), []any{&a, &b}, "SELECT cf_a, cf_b FROM contacts"); err != nil || a != "text" || b != "b" {
			t.Errorf("the table holds %q, %q, %v", a, b, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
