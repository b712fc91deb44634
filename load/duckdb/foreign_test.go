//go:build cgo

package duckdb_test

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/duckdb"
	"github.com/sluice-etl/sluice/load/loadtest"
)

func one(tb testing.TB, serial int64, names ...string) load.Package {
	tb.Helper()
	var rows []loadtest.Row
	for _, n := range names {
		rows = append(rows, loadtest.Contact(n, loadtest.Epoch, loadtest.Epoch.Add(time.Duration(serial)*time.Minute), "name", n))
	}
	return loadtest.Build(tb, loadtest.Spec{Serial: serial, Rows: rows})
}

func TestWhatSluiceDidNotWriteStaysAsItIs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		make func(t *testing.T, path string)
		want string
	}{
		"another file":  {func(t *testing.T, path string) { t.Helper(); write(t, path, "hello") }, "no DuckDB database"},
		"an empty file": {func(t *testing.T, path string) { t.Helper(); write(t, path, "") }, "no DuckDB database"},
		"an SQLite file": {func(t *testing.T, path string) {
			t.Helper()
			write(t, path, "SQLite format 3\x00"+strings.Repeat("\x00", 4096))
		}, "no DuckDB database"},
		"a log alone":      {func(t *testing.T, path string) { t.Helper(); write(t, path+".wal", "log") }, "without its database"},
		"its table's name": {func(t *testing.T, path string) { t.Helper(); run(t, path, "CREATE TABLE Contacts AS SELECT 1 AS id") }, "holds main.Contacts"},
		"a view's name": {func(t *testing.T, path string) {
			t.Helper()
			run(t, path, "CREATE VIEW contacts_all AS SELECT 1 AS id")
		}, "holds main.contacts_all"},
		"a macro's name": {func(t *testing.T, path string) { t.Helper(); run(t, path, "CREATE MACRO contacts_as_of(t) AS t") }, "holds main.contacts_as_of"},
		"the schema's name": {func(t *testing.T, path string) {
			t.Helper()
			run(t, path, "CREATE SCHEMA _sluice; CREATE TABLE _sluice.t AS SELECT 1 AS a")
		}, "holds _sluice.t"},
		"the notes' name": {func(t *testing.T, path string) {
			t.Helper()
			run(t, path, "CREATE SCHEMA _sluice; CREATE TABLE _sluice.tables AS SELECT 1 AS a")
		}, "not laid out as sluice"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "contacts.duckdb")
			c.make(t, path)
			before := snapshot(t, dir)
			l := open(t, path)
			if _, err := l.Check(t.Context(), "lineage-a"); name != "a log alone" && !refusal(err, c.want) {
				t.Errorf("check: %v", err)
			}
			if _, err := l.Commit(t.Context(), one(t, 1, "a")); !refusal(err, c.want) {
				t.Errorf("commit: %v", err)
			}
			if d := cmp.Diff(before, snapshot(t, dir)); d != "" {
				t.Errorf("changed:\n%s", d)
			}
		})
	}
}

// refusal reports whether err is load.ErrForeign, has the words and a hint.
func refusal(err error, words string) bool {
	var hinted interface{ Hint() string }
	return errors.Is(err, load.ErrForeign) && strings.Contains(err.Error(), words) && errors.As(err, &hinted) && hinted.Hint() != ""
}

func write(tb testing.TB, path, text string) {
	tb.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
}

func TestATableOfALaterFormatIsRefused(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "contacts.duckdb")
	commit(t, open(t, path), one(t, 1, "a"))
	run(t, path, "UPDATE _sluice.tables SET format_version = 2")
	_, err := open(t, path).Check(t.Context(), "lineage-a")
	var e *duckdb.Error
	if !errors.As(err, &e) || !strings.Contains(err.Error(), "format 2") || !strings.Contains(e.Hint(), "newer sluice") {
		t.Error(err)
	}
}

func TestAPathThatCannotBeADatabaseIsExplained(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), "x")
	for path, want := range map[string]string{dir: "leads to a folder", filepath.Join(dir, "file", "a.duckdb"): "stands where the database's folder"} {
		if _, err := open(t, path).Check(t.Context(), "lineage-a"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
		if _, err := open(t, path).Commit(t.Context(), one(t, 1, "a")); err == nil {
			t.Errorf("%s took a commit", path)
		}
	}
	if _, err := duckdb.New(duckdb.Options{Path: filepath.Join(dir, "a?b"), Table: "contacts"}); err == nil || !strings.Contains(err.Error(), "?") {
		t.Errorf("a path that the driver misreads: %v", err)
	}
}

func TestTwoTablesShareADatabase(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "both.duckdb")
	leads := func(o *duckdb.Options) { o.Table = "leads" }
	commit(t, open(t, path), one(t, 1, "a"))
	p := one(t, 1, "b", "c")
	p.Lineage, p.RunID = "lineage-b", "other"
	commit(t, open(t, path, leads), p)
	commit(t, open(t, path), one(t, 2, "d"))
	for table, want := range map[string]int64{"contacts": 2, "leads": 1} {
		lineage := map[string]string{"contacts": "lineage-a", "leads": "lineage-b"}[table]
		at, err := open(t, path, func(o *duckdb.Options) { o.Table = table }).Check(t.Context(), lineage)
		if err != nil || at != want {
			t.Errorf("%s is at %d, %v", table, at, err)
		}
	}
	got := lines(t, path, "SELECT (SELECT count(*) FROM contacts) AS a, (SELECT count(*) FROM leads) AS b, (SELECT count(*) FROM new_and_updated) AS c, (SELECT count(*) FROM leads_new_and_updated) AS d, (SELECT count(*) FROM leads_active(3)) AS e")
	if d := cmp.Diff([]string{"{'a': 2, 'b': 2, 'c': 1, 'd': 1, 'e': 0}"}, got); d != "" {
		t.Error(d)
	}
	// A name that differs in case is the same table to DuckDB, so another's.
	if _, err := open(t, path, func(o *duckdb.Options) { o.Table = "LEADS" }).Check(t.Context(), "lineage-a"); !errors.Is(err, load.ErrForeign) {
		t.Errorf("LEADS of another state: %v", err)
	}
}

func TestWhatUsersMadeInTheDatabaseIsNeverReplaced(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "contacts.duckdb")
	run(t, path, "CREATE TABLE customers AS SELECT 'mine' AS a; CREATE VIEW unattended AS SELECT 'mine' AS a; CREATE VIEW contacts_unattended AS SELECT 'mine' AS a; CREATE MACRO active(x) AS 'mine'")
	commit(t, open(t, path), one(t, 1, "a"))
	const mine = "SELECT (SELECT a FROM customers) AS c, (SELECT a FROM unattended) AS u, (SELECT a FROM contacts_unattended) AS cu, active(1) AS m, (SELECT count(*) FROM contacts_customers) AS n, (SELECT count(*) FROM contacts_active(1)) AS k"
	want := []string{"{'c': mine, 'u': mine, 'cu': mine, 'm': mine, 'n': 0, 'k': 0}"}
	if d := cmp.Diff(want, lines(t, path, mine)); d != "" {
		t.Error(d)
	}
	// Later too: the user's table takes the place of a view of ours.
	run(t, path, "DROP VIEW stage_funnel; CREATE TABLE stage_funnel AS SELECT 'mine' AS a; CREATE VIEW on_top AS SELECT * FROM contacts")
	commit(t, open(t, path), one(t, 2, "a", "b"))
	if d := cmp.Diff(want, lines(t, path, mine)); d != "" {
		t.Error(d)
	}
	got := lines(t, path, "SELECT (SELECT a FROM stage_funnel) AS c, (SELECT count(*) FROM contacts_stage_funnel) AS n, (SELECT count(*) FROM on_top) AS o")
	if d := cmp.Diff([]string{"{'c': mine, 'n': 0, 'o': 2}"}, got); d != "" {
		t.Error(d)
	}
	// The table's own view replaced by a table: refused, as at the beginning.
	run(t, path, "DROP VIEW contacts_history; CREATE TABLE contacts_history AS SELECT 'mine' AS a")
	before := content(t, path)
	if _, err := open(t, path).Commit(t.Context(), one(t, 3, "c")); !refusal(err, "main.contacts_history") {
		t.Errorf("a taken name: %v", err)
	}
	if d := cmp.Diff(before, content(t, path)); d != "" {
		t.Errorf("a refused commit changed\n%s", d)
	}
}

func TestViewsThatWentMissingComeBack(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "contacts.duckdb")
	commit(t, open(t, path), one(t, 1, "a"))
	before := lines(t, path, "SELECT view_name FROM duckdb_views() WHERE NOT internal ORDER BY ALL")
	run(t, path, "DROP VIEW contacts; DROP VIEW customers")
	commit(t, open(t, path), one(t, 2, "a"))
	if d := cmp.Diff(before, lines(t, path, "SELECT view_name FROM duckdb_views() WHERE NOT internal ORDER BY ALL")); d != "" {
		t.Error(d)
	}
}

func TestTheDatabaseMayBeMovedAndAttached(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "contacts.duckdb")
	commit(t, open(t, path), loadtest.Build(t, loadtest.Spec{Serial: 1, Coverage: []byte(`{"run_id": "run-001"}`), Rows: []loadtest.Row{
		loadtest.Contact("a", loadtest.Epoch, loadtest.Epoch, "last_message_at", time.Now().UTC()),
	}}))
	moved := filepath.Join(dir, "sluice.duckdb")
	if err := os.Rename(path, moved); err != nil {
		t.Fatal(err)
	}
	with(t, "", func(db *sql.DB) {
		if _, err := db.Exec("ATTACH '" + moved + "' AS crm (READ_ONLY)"); err != nil {
			t.Fatal(err)
		}
		for _, q := range []string{"FROM crm.contacts", "FROM crm.contacts_history", "FROM crm.runs", "FROM crm.new_and_updated"} {
			if n := len(ask(t, db, q)); n != 1 {
				t.Errorf("%s has %d rows", q, n)
			}
		}
		if _, err := db.Exec("USE crm"); err != nil {
			t.Fatal(err)
		}
		for _, q := range []string{"FROM active(30)", "FROM contacts_as_of(now())", "FROM contacts", "SELECT coverage->>'run_id' FROM runs"} {
			if n := len(ask(t, db, q)); n != 1 {
				t.Errorf("%s has %d rows", q, n)
			}
		}
	})
	commit(t, open(t, moved), one(t, 2, "b"))
	if n := len(query(t, moved, "FROM contacts")); n != 2 {
		t.Errorf("%d contacts after the move", n)
	}
}
