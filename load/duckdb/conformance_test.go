//go:build cgo

package duckdb_test

import (
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/duckdb"
	"github.com/sluice-etl/sluice/load/loadtest"
)

func TestLoaderConforms(t *testing.T) {
	t.Parallel()
	loadtest.Run(t, func(t *testing.T) loadtest.Harness {
		t.Helper()
		return harness(filepath.Join(t.TempDir(), "lake", oddName))
	})
}

const oddName = "o'dd [base]* ü.duckdb"

// withStages has the loader keep the table of stages.
func withStages(o *duckdb.Options) { o.Stages = loadtest.StagesTable }

// harness is a destination in a folder of its own.
func harness(path string) loadtest.Harness {
	dir := filepath.Dir(path)
	return loadtest.Harness{
		New: func(t *testing.T) load.Loader {
			t.Helper()
			return open(t, path, withStages)
		},
		Read:    func(t *testing.T) []loadtest.Row { t.Helper(); return stored(t, path, "contacts__current") },
		History: func(t *testing.T) []loadtest.Row { t.Helper(); return stored(t, path, "contacts__history") },
		Spoil:   func(t *testing.T) { t.Helper(); mkdir(t, dir); run(t, path, "CREATE TABLE contacts (id VARCHAR)") },
		Stages: func(t *testing.T) (out []load.Stage) {
			t.Helper()
			with(t, path, func(db *sql.DB) {
				out = loadtest.ReadStages(t, db, "SELECT pipeline_id, pipeline_name, stage_id, stage_name, position FROM crm_stages ORDER BY pipeline_id, position")
			})
			return out
		},
		SpoilStages: func(t *testing.T) { t.Helper(); run(t, path, "CREATE TABLE crm_stages (stage_id VARCHAR)") },
		HashKey: func(t *testing.T) (out []string) {
			t.Helper()
			for _, row := range query(t, path, "SELECT comment FROM duckdb_tables() WHERE schema_name = '_sluice' AND table_name IN ('contacts__current', 'contacts__history') ORDER BY table_name") {
				comment, _ := row["comment"].(string)
				out = append(out, comment)
			}
			return out
		},
		Fingerprint: func(t *testing.T) string { t.Helper(); return snapshot(t, dir) },
	}
}
