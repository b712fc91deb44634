//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package bigquery

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/duckdb"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/load/parquet"
	"github.com/sluice-etl/sluice/schemas"
)

// otherNames are those of a contract that renames what views reckon with, and
// gives names of old, and names that the SQL of the views uses itself, to other
// fields.
func otherNames() (names map[string]string, odd []schemas.Column) {
	names = map[string]string{
		"name": "nombre", "phone": "telefono", "email": "correo", "platform": "canal", "last_message_at": "last_seen", "chat_status": "status",
		"ai_customer_id": "person", "blocked": "bloqueado", "active_ticket_v2_id": "ticket", "active_ticket_v2_current_stage_id": "stage",
	}
	for _, name := range []string{
		"platform", "last_message_at", "blocked", "ai_customer_id", "active_ticket_v2_current_stage_id", "days", "t", "day", "c", "o", "s", "stage_id",
		"contacts", "active", "created", "percent", "waiting_hours", "silent_days", "new_contacts", "run_id", "now", "platforms", "first_seen_at", "unattended",
	} {
		names[oddPrefix+name] = name
		c := loadtest.Extra(name, schemas.String)
		c.Source = "cf_customer:" + name
		odd = append(odd, c)
	}
	return names, odd
}

// A contract with renames gives the same answers from every view as one
// without, in each dialect.
func TestViewsAnswerTheSameWhateverAContractCallsItsColumns(t *testing.T) {
	t.Parallel()
	now := time.Now()
	zone := time.UTC
	names, odd := otherNames()
	dir := t.TempDir()
	local := func(file string) *duckdb.Loader {
		l, err := duckdb.New(duckdb.Options{Path: filepath.Join(dir, file), Table: "contacts", Timezone: zone, Stages: loadtest.StagesTable})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	lake, err := parquet.New(parquet.Options{Path: dir, Table: "contacts", Timezone: zone, Stages: loadtest.StagesTable})
	if err != nil {
		t.Fatal(err)
	}
	warehouse := viewedWarehouse(t, zone)
	usual, renamed := local("usual.duckdb"), local("renamed.duckdb")
	fill := func(names map[string]string, odd []schemas.Column, into ...load.StageKeeper) {
		first, second := exports(t, now, names, odd...)
		for _, l := range into {
			for _, p := range []load.Package{first, second} {
				if _, err := l.Commit(t.Context(), p); err != nil {
					t.Fatal(err)
				}
			}
			if err := l.ReplaceStages(t.Context(), loadtest.StagesOf("run-002")); err != nil {
				t.Fatal(err)
			}
		}
	}
	fill(nil, nil, usual)
	fill(names, odd, renamed, lake, warehouse)
	for _, l := range []load.Loader{usual, renamed, lake} {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	overFiles := readOnly(t, "")
	sql, err := os.ReadFile(filepath.Join(dir, "contacts", "views.sql"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := overFiles.ExecContext(t.Context(), string(sql)); err != nil {
		t.Fatalf("%v in\n%s", err, sql)
	}
	plain, inFile := readOnly(t, filepath.Join(dir, "usual.duckdb")), readOnly(t, filepath.Join(dir, "renamed.duckdb"))
	for name, q := range viewQueries(now.Add(-36 * time.Hour)) {
		want := askDuckDB(t, plain, q[0])
		if len(want) == 0 {
			t.Errorf("%s compares nothing", name)
		}
		if d := cmp.Diff(want, askDuckDB(t, inFile, renamedIn(name, q[0], names))); d != "" {
			t.Errorf("%s of the database (-usual +renamed):\n%s", name, d)
		}
		if d := cmp.Diff(want, askDuckDB(t, overFiles, renamedIn(name, q[0], names))); d != "" {
			t.Errorf("%s over Parquet (-usual +renamed):\n%s", name, d)
		}
		if d := cmp.Diff(want, askWarehouse(t, warehouse, inWarehouse(warehouse, renamedIn(name, q[1], names)))); d != "" {
			t.Errorf("%s of BigQuery (-usual +renamed):\n%s", name, d)
		}
	}
}

// renamedIn asks a view for the contract's columns by their present names. Reports
// keep theirs, also where they are called as a column was.
func renamedIn(view, q string, names map[string]string) string {
	switch strings.Fields(view)[0] {
	case "_all", "_active", "_as_of", "_active_within":
	default: // what they compute is given another name where a column has it
		return strings.NewReplacer("silent_days", "silent_days__", "waiting_hours", "waiting_hours__").Replace(q)
	}
	return regexp.MustCompile(`[a-z_0-9]+`).ReplaceAllStringFunc(q, func(word string) string {
		if name, ok := names[word]; ok {
			return name
		}
		return word
	})
}
