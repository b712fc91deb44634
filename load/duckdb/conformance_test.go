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
		dir := filepath.Join(t.TempDir(), "lake")
		path := filepath.Join(dir, "o'dd [base]* ü.duckdb")
		return loadtest.Harness{
			New: func(t *testing.T) load.Loader {
				t.Helper()
				return open(t, path, func(o *duckdb.Options) { o.Stages = loadtest.StagesTable })
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
			Fingerprint: func(t *testing.T) string { t.Helper(); return snapshot(t, dir) },
		}
	})
}
