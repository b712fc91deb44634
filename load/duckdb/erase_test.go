//go:build cgo

package duckdb_test

import (
	"bytes"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/duck"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/duckdb"
	"github.com/sluice-etl/sluice/load/loadtest"
)

// person is planted in a table and then to be gone.
const person = "5d1c7a3e-1111-4222-8333-444455556666"

var traces = []string{person, "Petronila", "+56955501234", "petronila@example.com"}

var theirs = load.Erasure{Lineage: "lineage-a", ID: person}

// withPerson is a database with the person in several versions, amid others, in
// history and in the notes.
func withPerson(t *testing.T, path string) *duckdb.Loader {
	t.Helper()
	at := func(n int) time.Time { return loadtest.Epoch.Add(time.Duration(n) * time.Hour) }
	planted := func(n int, email string) loadtest.Row {
		return loadtest.Contact(person, loadtest.Epoch, at(n), "name", traces[1], "phone", traces[2], "email", email)
	}
	l := open(t, path)
	commit(t, l, loadtest.Build(t, loadtest.Spec{Serial: 1, Coverage: []byte(`{"run_id": "run-001", "odd": ["` + person + `"]}`), Rows: []loadtest.Row{
		loadtest.Contact("ana", loadtest.Epoch, at(1), "name", "Ana"), planted(1, traces[3]), loadtest.Contact("bo", loadtest.Epoch, at(1), "name", "Bo"),
	}}))
	commit(t, l, loadtest.Build(t, loadtest.Spec{Serial: 2, Extracted: at(3), Rows: []loadtest.Row{planted(2, ""), loadtest.Contact("ana", loadtest.Epoch, at(2), "name", "Anna")}}))
	return l
}

// found lists which files below dir hold one of the traces.
func found(t *testing.T, dir string) []string {
	t.Helper()
	out := []string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if slices.ContainsFunc(traces, func(s string) bool { return bytes.Contains(data, []byte(s)) }) {
			out = append(out, filepath.Base(path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func wantSound(t *testing.T, l *duckdb.Loader) {
	t.Helper()
	if _, err := l.Verify(t.Context(), "lineage-a", func(f load.Fault) { t.Errorf("fault: %+v", f) }); err != nil {
		t.Errorf("verify: %v", err)
	}
}

func TestErasingLeavesNoByteOfAContact(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "o'dd ü.duckdb")
	l := withPerson(t, path)
	// This is why the file is made anew: what DuckDB deletes, it keeps.
	plain := filepath.Join(t.TempDir(), "plain.duckdb")
	withPerson(t, plain)
	run(t, plain, "DELETE FROM _sluice.contacts__current WHERE id = '"+person+"'; DELETE FROM _sluice.contacts__history WHERE id = '"+person+"'; DELETE FROM _sluice.runs; CHECKPOINT; VACUUM; CHECKPOINT")
	if len(found(t, filepath.Dir(plain))) == 0 {
		t.Error("DuckDB leaves nothing of what is deleted and checkpointed: then the file need not be made anew")
	}
	if got := found(t, dir); len(got) != 1 {
		t.Fatalf("the person is planted in %v", got)
	}
	want := load.Erased{Current: 1, History: 2, Names: 1, Files: 1}
	if r, err := l.Erase(t.Context(), theirs); err != nil || r != want {
		t.Errorf("it removes %+v, %v, want %+v", r, err, want)
	}
	if got := found(t, dir); len(got) > 0 {
		t.Errorf("traces are left in %v", got)
	}
	wantSound(t, l)
	mustBeAlone(t, path)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the file's rights: %v, %v", info.Mode(), err)
	}
	if got := lines(t, path, "SELECT coverage FROM runs"); !strings.Contains(strings.Join(got, ""), "(erased)") {
		t.Errorf("the coverage record is %v", got)
	}
}

func TestErasingKeepsWhatUsersMadeInTheDatabase(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sluice_fresh.duckdb") // the name that the copy would have
	l := withPerson(t, path)
	other := one(t, 1, "b", "c")
	other.Lineage, other.RunID = "lineage-b", "other"
	commit(t, open(t, path, func(o *duckdb.Options) { o.Table = "leads" }), other)
	run(t, path, `CREATE TYPE mood AS ENUM ('x', 'y'); CREATE SEQUENCE s START 7; SELECT nextval('s');
CREATE TABLE mine (k INTEGER PRIMARY KEY, "GENERATED ALWAYS AS" mood DEFAULT 'x', n BIGINT DEFAULT nextval('s'), g INTEGER GENERATED ALWAYS AS (k + 1));
INSERT INTO mine (k) VALUES (1), (2); CREATE INDEX ix ON mine (n); COMMENT ON TABLE mine IS 'my table';
CREATE TABLE child (k INTEGER REFERENCES mine (k), positive INTEGER CHECK (positive > 0)); INSERT INTO child VALUES (2, 1);
CREATE SCHEMA "my own"; CREATE TABLE "my own".t AS SELECT [1, NULL] AS list, {'a': 1} AS struct; CREATE TABLE "my own".empty (a INTEGER);
CREATE VIEW on_top AS SELECT count(*) AS n FROM contacts; CREATE MACRO twice(a) AS 2 * a`)
	all := []string{
		"FROM mine ORDER BY k", "FROM child", `FROM "my own".t`, "FROM on_top", "SELECT twice(2) AS n", "FROM _sluice.leads__current ORDER BY id", "FROM _sluice.leads__history ORDER BY id",
		"SELECT name, position, columns, views FROM _sluice.tables ORDER BY 1", "SELECT * FROM _sluice.packages ORDER BY ALL",
		"SELECT schema_name, table_name, sql, comment FROM duckdb_tables() WHERE NOT internal ORDER BY ALL", "SELECT schema_name, view_name, sql, comment FROM duckdb_views() WHERE NOT internal ORDER BY ALL",
		"SELECT table_name, column_name, data_type, column_default, is_nullable, comment FROM duckdb_columns() WHERE NOT internal ORDER BY ALL",
		"SELECT function_name, parameters, macro_definition FROM duckdb_functions() WHERE NOT internal ORDER BY ALL", "SELECT index_name, sql FROM duckdb_indexes()", "SELECT sequence_name, start_value, last_value FROM duckdb_sequences()",
		"SELECT type_name FROM duckdb_types() WHERE NOT internal AND database_name = current_database() ORDER BY 1",
	}
	before := lines(t, path, all...)
	if r, err := l.Erase(t.Context(), theirs); err != nil || r.Current != 1 {
		t.Fatalf("it removes %+v, %v", r, err)
	}
	want := strings.Replace(strings.Join(before, "\n"), "{'n': 3}", "{'n': 2}", 1) // on_top
	if d := cmp.Diff(want, strings.Join(lines(t, path, all...), "\n")); d != "" {
		t.Errorf("the database (-before +after):\n%s", d)
	}
	if got := found(t, filepath.Dir(path)); len(got) > 0 {
		t.Errorf("traces are left in %v", got)
	}
	run(t, path, "INSERT INTO mine (k) VALUES (3)") // the sequence goes on
	wantSound(t, l)
}

func TestErasingGoesThroughALink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	target, link := filepath.Join(dir, "there", "real.duckdb"), filepath.Join(dir, "link.duckdb")
	withPerson(t, target)
	if err := os.Symlink(target, link); err != nil {
		t.Skip(err)
	}
	l := open(t, link)
	if _, err := l.Erase(t.Context(), theirs); err != nil {
		t.Fatal(err)
	}
	if got := found(t, dir); len(got) > 0 {
		t.Errorf("traces are left in %v", got)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link is %v, %v", info, err)
	}
	wantSound(t, l)
	mustBeAlone(t, target)
}

func TestErasingWaitsForADatabaseThatIsInUse(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "contacts.duckdb")
	l := withPerson(t, path)
	with(t, path+"?access_mode=READ_ONLY", func(db *sql.DB) {
		ask(t, db, "SELECT 1 AS n")
		var used *duck.InUseError
		if _, err := l.Erase(t.Context(), theirs); !errors.As(err, &used) {
			t.Errorf("it is in use: %v", err)
		}
	})
	if n := len(query(t, path, "FROM contacts WHERE id = '"+person+"'")); n != 1 {
		t.Errorf("the contact stands there %d times", n)
	}
	if _, err := l.Erase(t.Context(), theirs); err != nil {
		t.Error(err)
	}
}

func TestErasingFromADatabaseWithoutNumbersOfRows(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "contacts.duckdb")
	l := withPerson(t, path)
	run(t, path, "DROP TABLE _sluice.counts") // as an earlier version wrote it
	wantSound(t, l)
	if _, err := l.Erase(t.Context(), theirs); err != nil {
		t.Fatal(err)
	}
	wantSound(t, l)
	commit(t, l, one(t, 3, "d"))
	if got := lines(t, path, "SELECT package, current_rows, history_rows FROM _sluice.counts"); !slices.Equal(got, []string{"{'package': 3, 'current_rows': 3, 'history_rows': 4}"}) {
		t.Errorf("the numbers are %v", got)
	}
	// One that does not count has committed since: they are of no use.
	run(t, path, "UPDATE _sluice.counts SET package = 2, current_rows = 99")
	wantSound(t, l)
	commit(t, l, one(t, 4, "e"))
	wantSound(t, l)
	if got := lines(t, path, "SELECT current_rows FROM _sluice.counts"); !slices.Equal(got, []string{"{'current_rows': 4}"}) {
		t.Errorf("the numbers are %v", got)
	}
}

// mustBeAlone checks that nothing lies beside a database.
func mustBeAlone(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the database lies %v, %v", entries, err)
	}
}
