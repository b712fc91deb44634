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
