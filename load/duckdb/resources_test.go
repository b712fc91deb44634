//go:build cgo

package duckdb_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/duckdb"
	"github.com/sluice-etl/sluice/load/loadtest"
)

// second has the loader keep another table.
func second(o *duckdb.Options) { o.Table = "leads" }

// everything names what a database holds.
const everything = `SELECT * FROM (
  SELECT 'table ' || schema_name || '.' || table_name AS name FROM duckdb_tables() WHERE NOT internal
  UNION ALL SELECT 'view ' || schema_name || '.' || view_name FROM duckdb_views() WHERE NOT internal
  UNION ALL SELECT 'macro ' || schema_name || '.' || function_name FROM duckdb_functions() WHERE NOT internal
  UNION ALL SELECT 'schema ' || schema_name FROM duckdb_schemas() WHERE NOT internal AND schema_name <> 'main') ORDER BY ALL`

// called is a view or macro as a query names it.
func called(view string) string {
	name := `"` + view + `"`
	switch {
	case strings.HasSuffix(view, "_as_of"):
		return name + "(now())"
	case strings.HasSuffix(view, "active") || strings.HasSuffix(view, "reengagement"):
		return name + "(7)"
	}
	return name
}

// isMacro reports whether a view is one.
func isMacro(view string) bool { return strings.HasSuffix(called(view), ")") }

func place(t *testing.T) loadtest.Place {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lake", oddName)
	h := harness(path)
	return loadtest.Place{
		Harness: h,
		Second:  func(t *testing.T) load.Loader { t.Helper(); return open(t, path, withStages, second) },
		Neighbour: func(t *testing.T) func(t *testing.T) {
			t.Helper()
			run(t, path, `CREATE TABLE mine (n INTEGER); INSERT INTO mine VALUES (1); CREATE VIEW my_view AS SELECT n + 1 AS n FROM mine;
CREATE MACRO double(x) AS x * 2; CREATE SCHEMA other; CREATE TABLE other.contacts (id VARCHAR); CREATE TABLE _sluice.mine (n INTEGER)`)
			return func(t *testing.T) {
				t.Helper()
				got := lines(t, path, everything, "FROM mine", "FROM my_view", "SELECT double(21)", "FROM other.contacts")
				for _, want := range []string{"table main.mine", "view main.my_view", "macro main.double", "table other.contacts", "table _sluice.mine", "{'n': 1}", "{'n': 2}"} {
					if !strings.Contains(strings.Join(got, "\n"), want) {
						t.Errorf("there is no %s: %q", want, got)
					}
				}
			}
		},
		Account: func(t *testing.T, table string, u load.Union) load.Loader {
			t.Helper()
			return open(t, path, func(o *duckdb.Options) { o.Table, o.Union = table, u })
		},
		Left: func(t *testing.T) []string { t.Helper(); return lines(t, path, everything) },
		AddColumn: func(t *testing.T, column string) {
			t.Helper()
			run(t, path, "ALTER TABLE _sluice.contacts__current ADD COLUMN "+column+" VARCHAR")
		},
		DropView: func(t *testing.T, view string) {
			t.Helper()
			run(t, path, fmt.Sprintf(map[bool]string{false: "DROP VIEW %q", true: "DROP MACRO TABLE %q"}[isMacro(view)], view))
		},
		ChangeView: func(t *testing.T, view string) {
			t.Helper()
			run(t, path, fmt.Sprintf(map[bool]string{false: "CREATE OR REPLACE VIEW %q AS SELECT 1 AS n", true: "CREATE OR REPLACE MACRO %q(x) AS TABLE SELECT 1 AS n"}[isMacro(view)], view))
		},
		Count: func(t *testing.T, view string) int64 {
			t.Helper()
			n, ok := query(t, path, "SELECT count(*) AS n FROM "+called(view))[0]["n"].(int64)
			if !ok {
				t.Fatal("count(*) is no number")
			}
			return n
		},
	}
}

func TestLoaderConverges(t *testing.T) {
	if testing.Short() {
		t.Skip("DuckDB says nothing to the race detector; the plain tests have it")
	}
	t.Parallel()
	loadtest.RunResources(t, place)
}

func surveyed(t *testing.T, l *duckdb.Loader) []load.Resource {
	t.Helper()
	list, err := l.Survey(t.Context(), "lineage-a", loadtest.Table())
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func wantUnlike(t *testing.T, l *duckdb.Loader, want ...string) {
	t.Helper()
	if d := cmp.Diff(append([]string{}, want...), loadtest.Unlike(surveyed(t, l))); d != "" {
		t.Errorf("not as wanted (-want +got):\n%s", d)
	}
}

func converge(t *testing.T, l *duckdb.Loader) {
	t.Helper()
	if err := l.Converge(t.Context(), load.Convergence{Lineage: "lineage-a", Table: loadtest.Table()}); err != nil {
		t.Fatal(err)
	}
}

// full is a table with a row, views and stages, and its loader.
func full(t *testing.T) (path string, l *duckdb.Loader) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "crm.duckdb")
	l = open(t, path, withStages)
	commit(t, l, one(t, 1, "ana"))
	if err := l.ReplaceStages(t.Context(), loadtest.StagesOf("run-001")); err != nil {
		t.Fatal(err)
	}
	wantUnlike(t, l)
	return path, l
}

func TestWhatSomebodyChangedInTheDatabaseIsSeenAndMendedWhereItCanBe(t *testing.T) {
	t.Parallel()
	path, l := full(t)
	run(t, path, `ALTER TABLE _sluice.contacts__history DROP COLUMN email; ALTER TABLE _sluice.contacts__history ADD COLUMN note VARCHAR;
ALTER TABLE crm_stages DROP COLUMN pipeline_name; CREATE VIEW old_report AS SELECT 1 AS n;
UPDATE _sluice.tables SET views = replace(views, '"names":[', '"names":["old_report",')`)
	wantUnlike(t, l, "table contacts lacks history.column.email", "table crm_stages lacks column.pipeline_name", "view old_report is not wanted")
	converge(t, l)
	wantUnlike(t, l)
	if got := lines(t, path, "SELECT view_name FROM duckdb_views() WHERE view_name = 'old_report'"); len(got) > 0 {
		t.Error("the view that nothing wants is still there")
	}
	commit(t, l, one(t, 2, "bo"))
	wantUnlike(t, l)
}

func TestATableThatSomebodyDroppedFromTheDatabaseIsMadeAnewWithoutRows(t *testing.T) {
	t.Parallel()
	path, l := full(t)
	run(t, path, "DROP TABLE _sluice.contacts__current")
	err := l.Converge(t.Context(), load.Convergence{Lineage: "lineage-a", Table: loadtest.Table()})
	if err == nil || !hinted(err, "sluice destroy") {
		t.Errorf("half of a table gives %v", err)
	}
	run(t, path, "DROP TABLE _sluice.contacts__history")
	wantUnlike(t, l, "table contacts is missing")
	converge(t, l)
	wantUnlike(t, l)
	if at, err := l.Check(t.Context(), "lineage-a"); err != nil || at != 0 {
		t.Errorf("it is at %d, %v", at, err)
	}
	commit(t, l, one(t, 7, "bo"))
	if n := len(query(t, path, "FROM contacts")); n != 1 {
		t.Errorf("%d contacts", n)
	}
	wantSound(t, l)
}

func TestASurveyKnowsViewsOfAnEarlierVersionAndOfADatabaseThatWasCopied(t *testing.T) {
	t.Parallel()
	path, l := full(t)
	run(t, path, `UPDATE _sluice.tables SET views = json_merge_patch(views::JSON, '{"made": null, "timezone": null}')::VARCHAR`)
	if got := lines(t, path, "SELECT views FROM _sluice.tables"); strings.Contains(got[0], "made") {
		t.Fatalf("the record is still %s", got)
	}
	wantUnlike(t, l)
	converge(t, l)
	// An erasure copies everything to another file.
	commit(t, l, one(t, 2, "bo"))
	if _, err := l.Erase(t.Context(), load.Erasure{Lineage: "lineage-a", ID: "bo"}); err != nil {
		t.Fatal(err)
	}
	wantUnlike(t, l)
}
